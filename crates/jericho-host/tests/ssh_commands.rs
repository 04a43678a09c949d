//! What goes over a connection of ssh: commands byte by byte, conversations, forwards.

mod common;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use common::{
    TAG, env, kill, sh, ssh_error, ssh_host, ssh_rig, ssh_supervision, tagged, tempdir, token, unique,
    wait_for_tagged,
};
use jericho_host::{CancelReason, Command, Exit, Host, HostError, OutputSink, SshError};

#[test]
fn arguments_environment_and_input_arrive_byte_by_byte() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
    let every: Vec<u8> = (1..=255).collect();
    let mut odd: Vec<&OsStr> = vec![OsStr::from_bytes(&every)];
    odd.extend(
        [
            "",
            "-n",
            "--",
            "a b",
            "'",
            "\"",
            "\\",
            "\\0101\\n",
            "\n",
            "x\n\n",
            "$(id)",
            "`id`",
            "!!",
            "*",
            "~",
            "%s",
            "if",
        ]
        .map(OsStr::new),
    );
    let mut env = env();
    env.set("EVERY", OsStr::from_bytes(&every));
    // What shells have ideas of their own about.
    let special = [
        "a.b", "1", "UID", "PPID", "IFS", "OPTIND", "SHLVL", "RANDOM", "PWD", "_", "j_mark", "LC_ALL", "ENV",
    ];
    for name in special {
        env.set(name, " x:'\n");
    }
    // `env` and not a shell: what the program itself gets.
    let command = Command::new("env").args(["-0", "printf", r"%s\0"]).args(&odd).env(env.clone());
    let output = host.run(&command, &token()).unwrap();
    let expected: Vec<u8> = odd.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
    // GNU env prints either its variables or what it starts: the arguments here.
    let output = if output.exit.success() {
        output
    } else {
        host.run(&Command::new("printf").arg(r"%s\0").args(&odd).env(env.clone()), &token()).unwrap()
    };
    assert!(output.stdout == expected, "{:?}", String::from_utf8_lossy(&output.stdout));
    let output = host.run(&Command::new("env").arg("-0").env(env.clone()), &token()).unwrap();
    let got: BTreeSet<&[u8]> = output.stdout.split(|b| *b == 0).filter(|entry| !entry.is_empty()).collect();
    let wanted: Vec<Vec<u8>> =
        env.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect();
    assert_eq!(got, wanted.iter().map(Vec::as_slice).collect());
    // The mark of a stream is no text: input may hold its first byte.
    let input: Vec<u8> = (0..300_000u32).map(|i| (i % 256) as u8).collect();
    let output = host.run(&Command::new("cat").env(common::env()).stdin(input.clone()), &token()).unwrap();
    assert!(output.stdout == input);
}

#[test]
fn input_stands_in_a_file_without_a_name() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let output = ssh_host(&rig)
        .run(&sh("readlink /proc/self/fd/0; wc -c").stdin(vec![b'x'; 100_000]), &token())
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let (place, count) = printed.split_once('\n').unwrap();
    assert!(!Path::new(place.strip_suffix(" (deleted)").unwrap()).exists());
    assert_eq!(count.trim(), "100000");
}

#[test]
fn no_process_list_shows_what_a_command_is_given() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
    let secret = unique("secret");
    let mut env = env();
    env.set("TOKEN", &secret);
    let mut seen = false;
    // The command itself stands in every list, so that its argument is another one.
    let script = "echo ready; read line; test \"$line\" = \"$TOKEN\" && sleep 0.3";
    let command = Command::new("sh").args(["-c", script]).env(env).stdin(format!("{secret}\n"));
    let output = host
        .stream(&command, &token(), &mut |_| {
            for process in fs::read_dir("/proc").unwrap().flatten() {
                let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                assert!(!line.windows(secret.len()).any(|part| part == secret.as_bytes()));
                seen |= line.windows(script.len()).any(|part| part == script.as_bytes());
            }
        })
        .unwrap();
    assert_eq!(output.exit, Exit::Code(0));
    assert!(seen, "the command was not running when the list was read");
}

#[test]
fn large_output_does_not_pile_up_in_memory() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
    struct Count(u64);
    impl OutputSink for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
            self.0 += bytes.len() as u64;
            Ok(())
        }
    }
    let run = |bytes: u64| {
        let mut count = Count(0);
        let script = format!("head -c {bytes} /dev/urandom");
        host.supervise(&sh(&script), &ssh_supervision(&unique("large")), &mut count, &token()).unwrap();
        assert_eq!(count.0, bytes);
        peak_memory()
    };
    let small = run(1_000_000);
    let large = run(100_000_000);
    assert!(large < small + 4096, "{small} KiB became {large} KiB");
}

/// The most this process has ever had in memory, in KiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_login_shell_that_talks_is_not_taken_for_the_command() {
    let talk = "ForceCommand echo welcome; echo motd >&2; printf '\\036'; eval \"$SSH_ORIGINAL_COMMAND\"";
    let Some(rig) = ssh_rig(&[talk]) else { return };
    let host = ssh_host(&rig);
    let output = host.run(&sh("echo out; echo err >&2; exit 255"), &token()).unwrap();
    assert_eq!(
        (output.exit, &*output.stdout, &*output.stderr),
        (Exit::Code(255), &b"out\n"[..], &b"err\n"[..])
    );
}

#[test]
fn an_account_without_a_usable_shell_is_told_apart() {
    for said in ["echo This account is not available.; exit 1", "exit 0"] {
        let Some(rig) = ssh_rig(&[&format!("ForceCommand {said}")]) else { return };
        let error = ssh_error(ssh_host(&rig).run(&sh("true"), &token()).unwrap_err());
        assert!(matches!(&error, SshError::Shell { .. }) && !error.is_transient(), "{error:?}");
    }
}

#[test]
fn a_socket_of_the_host_answers_here_until_its_forward_is_dropped() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
    let (_keep, dir) = tempdir();
    let remote = dir.join("remote.sock");
    let listener = UnixListener::bind(&remote).unwrap();
    let forward = host.forward(&remote, &token()).unwrap();
    let path = forward.path().to_path_buf();
    assert!(forward.is_alive() && path.starts_with(rig.control_dir()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 5];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&[asked.as_slice(), b"back"].concat()).unwrap();
        });
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"there").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "thereback");
    });
    // Another one for the same socket, at the same time.
    let second = host.forward(&remote, &token()).unwrap();
    assert_ne!(second.path(), path);
    drop(forward);
    UnixStream::connect(&path).unwrap_err();
    assert!(!path.exists());
    UnixStream::connect(second.path()).unwrap();
    drop(second);
    // Nobody listens: found out when it is used.
    let nobody = host.forward(&dir.join("nobody.sock"), &token()).unwrap();
    let mut answer = Vec::new();
    let _ = UnixStream::connect(nobody.path()).unwrap().read_to_end(&mut answer);
    assert_eq!(answer, b"");
    for path in ["relative", "/with:colon", &format!("/{}", "x".repeat(200))] {
        let error = ssh_error(host.forward(Path::new(path), &token()).unwrap_err());
        assert!(matches!(error, SshError::Forward { .. }), "{error:?}");
    }
    // With its master gone a forward is dead, and its drop harmless.
    kill(host.master_pid().unwrap(), rustix::process::Signal::KILL);
    drop(nobody);
    drop(host);
    assert_eq!(fs::read_dir(rig.control_dir()).unwrap().count(), 0);
}

#[test]
fn a_program_is_talked_to_and_ends_with_its_input() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
    let mut talk = host
        .converse(&sh("while read -r x; do echo \"<$x>\"; done; echo err >&2; exit 6"), &token())
        .unwrap();
    for turn in 0..50 {
        talk.send(format!("{turn}\n").as_bytes()).unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            assert_eq!(talk.receive(&mut byte).unwrap(), 1);
            line.push(byte[0]);
        }
        assert_eq!(line, format!("<{turn}>\n").as_bytes());
    }
    talk.send(b"last\n").unwrap();
    let output = talk.finish().unwrap();
    assert_eq!(
        (output.exit, &*output.stdout, &*output.stderr),
        (Exit::Code(6), &b"<last>\n"[..], &b"err\n"[..])
    );
    // More than any buffer, both ways at once, and bytes that are no text.
    let mut talk = host.converse(&Command::new("cat").env(env()), &token()).unwrap();
    let piece: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    for _ in 0..5 {
        talk.send(&piece).unwrap();
    }
    talk.end_input().unwrap();
    let (mut all, mut buffer) = (Vec::new(), vec![0; 70_000]);
    loop {
        match talk.receive(&mut buffer).unwrap() {
            0 => break,
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
    assert!(all == piece.repeat(5));
    assert_eq!(talk.finish().unwrap().exit, Exit::Code(0));
    // One that ends early takes nothing more.
    let mut talk = host.converse(&sh("exit 255"), &token()).unwrap();
    let _ = talk.send(&piece.repeat(3));
    assert_eq!(talk.finish().unwrap().exit, Exit::Code(255));
    let talk = host.converse(&Command::new("no-such-program").env(env()), &token()).unwrap();
    assert!(matches!(talk.finish(), Err(HostError::NotFound { .. })));
}

#[test]
fn a_conversation_ends_with_its_connection_its_token_or_its_drop() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
    for way in ["session", "token", "drop"] {
        let tag = unique(way);
        let mut env = env();
        env.set(TAG, &tag);
        // Deaf for its input and for TERM.
        let script = "trap '' TERM; echo ready; while :; do sleep 300; done";
        let command = sh(script).env(env).grace(Duration::from_millis(200));
        let cancel = token();
        let mut talk = host.converse(&command, &cancel).unwrap();
        let mut ready = [0; 6];
        assert_eq!(talk.receive(&mut ready).unwrap(), 6);
        match way {
            "session" => {
                rig.kill_sessions();
                let error = ssh_error(talk.receive(&mut ready).unwrap_err());
                assert!(matches!(error, SshError::Lost { begun: true, .. }), "{error:?}");
            }
            "token" => {
                cancel.cancel(CancelReason::Signal);
                assert!(matches!(talk.receive(&mut ready), Err(HostError::Cancelled(_))));
            }
            _ => {}
        }
        assert!(!tagged(&tag).is_empty(), "{way}");
        drop(talk);
        wait_for_tagged(&tag);
    }
}
