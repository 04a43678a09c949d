//! What is true of hosts over ssh alone: connections, what they are mistaken for, and their end.

mod common;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use common::{TAG, When, env, runs, sh, ssh_config, tagged, tempdir, token, unique};
use jericho_host::{
    CancelReason, Clock, Command, EndedBy, Exit, Host, HostError, OutputSink, SshConfig, SshError, SshHost,
    Supervision, SystemClock,
};
use jericho_testkit::ssh::Rig;

/// The rig of a test that is named after its thread.
fn rig(options: &[&str]) -> Option<Rig> {
    Rig::start_with(std::thread::current().name().unwrap_or("a test over ssh"), options)
}

fn host(rig: &Rig) -> SshHost {
    SshHost::new(ssh_config(rig, "rig")).unwrap()
}

fn ssh_error(error: HostError) -> SshError {
    match error {
        HostError::Ssh(error) => error,
        other => panic!("{other:?}"),
    }
}

fn supervision(tag: &str) -> Supervision {
    Supervision::new(TAG, tag)
}

/// Waits for the end of a process that is not our child.
fn wait_for_end(pid: u32) {
    let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()) else { return };
    let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&limit)), Ok(1), "{pid:?} does not end");
}

/// Waits for the end of everything that has the tag.
fn wait_for_tagged(tag: &str) {
    loop {
        let found = tagged(tag);
        if found.is_empty() {
            return;
        }
        found.into_iter().for_each(wait_for_end);
    }
}

fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn what_keeps_a_host_from_being_reached_is_told_apart() {
    let Some(rig) = rig(&[]) else { return };
    let connect = |destination: &str| {
        let host = SshHost::new(ssh_config(&rig, destination)).unwrap();
        let error = ssh_error(host.run(&sh("true"), &token()).unwrap_err());
        assert!(!host.is_connected());
        error
    };
    for (destination, said) in [("rig-refused", "Connection refused"), ("rig-nowhere", "resolve")] {
        let error = connect(destination);
        assert!(error.is_transient(), "{error:?}");
        let SshError::Connect { host, reason } = error else { panic!("{error:?}") };
        assert!(host == destination && reason.contains(said), "{reason}");
    }
    let error = connect("rig-wrong-key");
    assert!(
        matches!(&error, SshError::Authentication { reason, .. } if reason.contains("publickey")),
        "{error:?}"
    );
    for destination in ["rig-unknown", "rig-changed"] {
        let error = connect(destination);
        assert!(matches!(&error, SshError::HostKey { .. }) && !error.is_transient(), "{error:?}");
    }
    for destination in ["", "-oProxyCommand=touch /tmp/owned"] {
        assert!(matches!(connect(destination), SshError::Settings { .. }));
    }
    let config = SshConfig { program: "no-such-ssh".into(), ..ssh_config(&rig, "rig") };
    let error = SshHost::new(config).unwrap().connect(&token()).unwrap_err();
    assert!(matches!(&error, HostError::NotFound { program } if program == "no-such-ssh"), "{error:?}");
    assert_eq!(fs::read_dir(rig.control_dir()).unwrap().count(), 0);
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_after_the_limit_or_on_cancel() {
    let Some(rig) = rig(&[]) else { return };
    // Connections are taken by the kernel; nobody says a word.
    kill(rig.listener(), rustix::process::Signal::STOP);
    let config = SshConfig { connect_limit: Duration::from_millis(300), ..ssh_config(&rig, "rig") };
    let error = ssh_error(SshHost::new(config).unwrap().connect(&token()).unwrap_err());
    assert!(matches!(&error, SshError::Connect { reason, .. } if reason.contains("0.3 s")), "{error:?}");
    let cancel = token();
    let also = cancel.clone();
    let started = SystemClock.monotonic();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| host(&rig).connect(&cancel));
        also.cancel(CancelReason::Signal);
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, HostError::Cancelled(CancelReason::Signal)), "{error:?}");
    });
    assert!(SystemClock.monotonic() - started < Duration::from_secs(4));
    kill(rig.listener(), rustix::process::Signal::CONT);
}

#[test]
fn one_connection_serves_all_commands_and_ends_with_its_host() {
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
    assert!(!host.is_connected());
    host.connect(&token()).unwrap();
    let master = host.master_pid().unwrap();
    let (_keep, dir) = tempdir();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (host, dir) = (&host, &dir);
            scope.spawn(move || {
                for turn in 0..3 {
                    let path = dir.join(format!("{thread}.{turn}"));
                    host.write_atomic(&path, b"x", false).unwrap();
                    assert_eq!(host.read(&path).unwrap(), b"x");
                }
            });
        }
    });
    assert_eq!(host.master_pid(), Some(master));
    assert_eq!(rig.log().matches("Accepted publickey").count(), 1);
    let serving = rig.everything();
    assert!(!serving.is_empty());
    drop(host);
    assert!(!runs(master));
    assert_eq!(fs::read_dir(rig.control_dir()).unwrap().count(), 0);
    serving.into_iter().for_each(wait_for_end);
}

#[test]
fn a_stale_socket_is_no_hindrance_and_those_of_the_dead_are_swept() {
    let Some(rig) = rig(&[]) else { return };
    let dir = rig.control_dir();
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    // As an earlier process with our number would leave them: nobody listens.
    for count in 0..3 {
        drop(UnixListener::bind(dir.join(format!("{}-{count}", std::process::id()))).unwrap());
    }
    drop(UnixListener::bind(dir.join(format!("{}-7", u32::MAX / 2))).unwrap());
    let host = host(&rig);
    for _ in 0..2 {
        assert_eq!(host.run(&sh("exit 5"), &token()).unwrap().exit, Exit::Code(5));
    }
    // Multiplexed, and not each by a connection of its own.
    assert_eq!(rig.log().matches("Accepted publickey").count(), 1);
    let own: BTreeSet<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        own.iter().all(|name| name.to_str().unwrap().starts_with(&std::process::id().to_string())),
        "{own:?}"
    );
}

#[test]
fn a_control_directory_that_others_may_use_or_that_is_too_long_is_refused() {
    let Some(rig) = rig(&[]) else { return };
    let (_keep, dir) = tempdir();
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let connect = |control_dir: &Path| {
        let config = SshConfig { control_dir: control_dir.to_path_buf(), ..ssh_config(&rig, "rig") };
        SshHost::new(config).unwrap().connect(&token()).unwrap_err()
    };
    assert!(matches!(connect(&dir), HostError::File { action: "use", .. }));
    std::os::unix::fs::symlink(rig.control_dir(), dir.join("link")).unwrap();
    assert!(matches!(connect(&dir.join("link")), HostError::File { action: "use", .. }));
    let long = dir.join("x".repeat(90));
    assert!(matches!(ssh_error(connect(&long)), SshError::Settings { .. }));
}

#[test]
fn a_lost_connection_is_no_result_and_ends_the_command() {
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
    for way in ["session", "master", "client"] {
        host.connect(&token()).unwrap();
        let master = host.master_pid().unwrap();
        let tag = unique(way);
        let mut supervision = supervision(&tag);
        supervision.grace = Duration::from_millis(300);
        let mut sink = When::new("ready", || {
            match way {
                "session" => rig.kill_sessions(),
                "master" => kill(master, rustix::process::Signal::KILL),
                // Of ours, the other ssh.
                _ => children_of_this_process().into_iter().filter(|pid| *pid != master).for_each(|pid| {
                    kill(pid, rustix::process::Signal::KILL);
                }),
            }
            Ok(())
        });
        let script = "trap '' TERM; setsid sleep 300 & echo ready; while :; do sleep 300; done";
        let error = host.supervise(&sh(script), &supervision, &mut sink, &token()).unwrap_err();
        let error = ssh_error(error);
        assert!(
            matches!(&error, SshError::Lost { begun: true, .. }) && error.is_transient(),
            "{way} {error:?}"
        );
        wait_for_tagged(&tag);
        // The next command makes a new connection, where there is none.
        assert_eq!(host.run(&sh("exit 7"), &token()).unwrap().exit, Exit::Code(7));
        assert_eq!(host.master_pid() == Some(master), way == "client", "{way}");
    }
}

fn children_of_this_process() -> Vec<u32> {
    let mut all = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let children = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        all.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    all
}

#[test]
fn a_dead_master_is_noticed_and_replaced() {
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
    host.connect(&token()).unwrap();
    let first = host.master_pid().unwrap();
    kill(first, rustix::process::Signal::KILL);
    // Whether it is a zombie yet, or just being ended.
    assert_eq!(host.run(&sh("exit 255"), &token()).unwrap().exit, Exit::Code(255));
    assert_ne!(host.master_pid().unwrap(), first);
    // Its socket without it: a file that is in the way of nobody.
    assert_eq!(fs::read_dir(rig.control_dir()).unwrap().count(), 1);
}

#[test]
fn a_restarted_daemon_is_found_again_after_as_many_attempts_as_it_takes() {
    let Some(mut rig) = rig(&[]) else { return };
    let host = host(&rig);
    host.connect(&token()).unwrap();
    let first = host.master_pid().unwrap();
    rig.stop();
    wait_for_end(first);
    let error =
        host.reconnect(Duration::ZERO, &token(), &mut |_| panic!("there is no second attempt")).unwrap_err();
    assert!(matches!(ssh_error(error), SshError::Connect { .. }));
    let mut attempts = Vec::new();
    host.reconnect(Duration::from_secs(60), &token(), &mut |failed| {
        attempts.push((failed.number, failed.pause));
        if failed.number == 2 {
            rig.restart();
        }
    })
    .unwrap();
    let ms = Duration::from_millis;
    assert_eq!(attempts, [(1, ms(250)), (2, ms(500))]);
    assert_eq!(host.run(&sh("exit 3"), &token()).unwrap().exit, Exit::Code(3));
    // What no waiting mends is not waited for; and the token ends a pause.
    let wrong = SshHost::new(ssh_config(&rig, "rig-wrong-key")).unwrap();
    wrong.reconnect(Duration::from_secs(60), &token(), &mut |_| panic!("it stays wrong")).unwrap_err();
    let cancel = token();
    let refused = SshHost::new(ssh_config(&rig, "rig-refused")).unwrap();
    let error = refused.reconnect(Duration::from_secs(60), &cancel, &mut |_| {
        cancel.cancel(CancelReason::Signal);
    });
    assert!(matches!(error, Err(HostError::Cancelled(CancelReason::Signal))));
}

#[test]
fn a_connection_that_hangs_holds_nobody_who_wants_to_end() {
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
    let cancel = token();
    let tag = unique("hang");
    let mut sink = When::new("ready", || {
        rig.stop_sessions();
        cancel.cancel(CancelReason::Signal);
        cancel.cancel(CancelReason::Forced);
        Ok(())
    });
    let started = SystemClock.monotonic();
    let script = "echo ready; exec sleep 300";
    let error = host.supervise(&sh(script), &supervision(&tag), &mut sink, &cancel).unwrap_err();
    assert!(matches!(ssh_error(error), SshError::Unconfirmed { .. }));
    assert!(SystemClock.monotonic() - started < Duration::from_secs(10));
    assert!(!tagged(&tag).is_empty());
    // As soon as somebody is there again to hear it, the command ends.
    rig.continue_sessions();
    wait_for_tagged(&tag);
}

#[test]
#[ignore = "takes a minute and a half"]
fn a_connection_that_hangs_for_longer_is_lost_and_a_new_one_is_made() {
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
    let tag = unique("long");
    let mut sink = When::new("ready", || {
        rig.stop_sessions();
        Ok(())
    });
    let started = SystemClock.monotonic();
    let error = host.supervise(&sh("echo ready; exec sleep 300"), &supervision(&tag), &mut sink, &token());
    let error = ssh_error(error.unwrap_err());
    let took = SystemClock.monotonic() - started;
    assert!(
        matches!(&error, SshError::Lost { begun: true, reason, .. } if reason.contains("not responding")),
        "{error:?}"
    );
    assert!((60..90).contains(&took.as_secs()), "{took:?}");
    let hung = rig.sessions();
    assert_eq!(host.run(&sh("exit 4"), &token()).unwrap().exit, Exit::Code(4));
    assert!(rig.sessions().len() > hung.len());
    rig.continue_sessions();
    wait_for_tagged(&tag);
}

#[test]
fn a_connection_that_hangs_for_a_moment_is_not_noticed() {
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
    host.connect(&token()).unwrap();
    let master = host.master_pid().unwrap();
    let mut sink = When::new("ready", || {
        rig.stop_sessions();
        // Nobody sends: this is the time of the hang.
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(Duration::from_millis(700));
        rig.continue_sessions();
        Ok(())
    });
    let script = "echo ready; sleep 0.2; echo more; sleep 1; echo end; exit 9";
    let finished = host.supervise(&sh(script), &supervision(&unique("moment")), &mut sink, &token()).unwrap();
    assert_eq!((finished.exit, finished.ended_by), (Exit::Code(9), EndedBy::Itself));
    assert_eq!(sink.seen, b"ready\nmore\nend\n");
    assert_eq!(host.master_pid(), Some(master));
}

#[test]
fn arguments_environment_and_input_arrive_byte_by_byte() {
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
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
    let Some(rig) = rig(&[]) else { return };
    let output =
        host(&rig).run(&sh("readlink /proc/self/fd/0; wc -c").stdin(vec![b'x'; 100_000]), &token()).unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let (place, count) = printed.split_once('\n').unwrap();
    assert!(!Path::new(place.strip_suffix(" (deleted)").unwrap()).exists());
    assert_eq!(count.trim(), "100000");
}

#[test]
fn no_process_list_shows_what_a_command_is_given() {
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
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
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
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
        host.supervise(&sh(&script), &supervision(&unique("large")), &mut count, &token()).unwrap();
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
    let Some(rig) = rig(&[talk]) else { return };
    let host = host(&rig);
    let output = host.run(&sh("echo out; echo err >&2; exit 255"), &token()).unwrap();
    assert_eq!(
        (output.exit, &*output.stdout, &*output.stderr),
        (Exit::Code(255), &b"out\n"[..], &b"err\n"[..])
    );
}

#[test]
fn an_account_without_a_usable_shell_is_told_apart() {
    for said in ["echo This account is not available.; exit 1", "exit 0"] {
        let Some(rig) = rig(&[&format!("ForceCommand {said}")]) else { return };
        let error = ssh_error(host(&rig).run(&sh("true"), &token()).unwrap_err());
        assert!(matches!(&error, SshError::Shell { .. }) && !error.is_transient(), "{error:?}");
    }
}

#[test]
fn more_commands_than_sessions_wait_whoever_sets_the_limit() {
    let Some(rig) = rig(&["MaxSessions 3"]) else { return };
    // Ours, or the server's: of its three one is the master's own.
    for max_sessions in [2, 6] {
        let host = SshHost::new(SshConfig { max_sessions, ..ssh_config(&rig, "rig") }).unwrap();
        host.connect(&token()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..6 {
                let host = &host;
                scope.spawn(move || {
                    let output = host.run(&sh("sleep 0.3; echo x"), &token()).unwrap();
                    assert_eq!(output.stdout, b"x\n");
                });
            }
        });
    }
}

#[test]
fn a_server_that_opens_no_session_beside_the_masters_is_told() {
    let Some(rig) = rig(&["MaxSessions 1"]) else { return };
    let error = ssh_error(host(&rig).run(&sh("true"), &token()).unwrap_err());
    assert!(matches!(error, SshError::Sessions { used: 2, .. }), "{error:?}");
}

#[test]
fn who_waits_for_the_connection_of_another_still_hears_its_own_token() {
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
    kill(rig.listener(), rustix::process::Signal::STOP);
    let (first, second) = (token(), token());
    let started = SystemClock.monotonic();
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| host.connect(&first));
        let waiting = scope.spawn(|| host.connect(&second));
        second.cancel(CancelReason::Signal);
        assert!(matches!(waiting.join().unwrap(), Err(HostError::Cancelled(CancelReason::Signal))));
        assert!(!host.is_connected());
        assert!(SystemClock.monotonic() - started < Duration::from_secs(4));
        kill(rig.listener(), rustix::process::Signal::CONT);
        connecting.join().unwrap().unwrap();
    });
}

#[test]
fn the_configuration_of_the_user_is_respected_and_cannot_break_the_connection() {
    let Some(rig) = rig(&["AcceptEnv LANG"]) else { return };
    let mine = rig.config().with_file_name("mine");
    let text = fs::read_to_string(rig.config()).unwrap();
    let alias = text.replacen("Host rig\n", "Host somewhere-else\n", 1);
    let own = "Host *\n  LogLevel QUIET\n  ControlMaster auto\n  ControlPath /no/such/place/%C\n  ControlPersist 1h\n  \
               ForwardAgent yes\n  RequestTTY force\n  RemoteCommand exit 9\n  PermitLocalCommand yes\n  \
               LocalCommand echo local\n  LocalForward 1 127.0.0.1:1\n  SendEnv *\n";
    fs::write(&mine, format!("{alias}{own}")).unwrap();
    let config = SshConfig { config_file: Some(mine), ..ssh_config(&rig, "somewhere-else") };
    let host = SshHost::new(config).unwrap();
    let output = host.run(&sh("cat; tty; exit 4").stdin("in\n"), &token()).unwrap();
    assert_eq!((output.exit, &*output.stdout), (Exit::Code(4), &b"in\nnot a tty\n"[..]));
    let master = host.master_pid().unwrap();
    drop(host);
    assert!(!runs(master));
}

#[test]
fn a_socket_of_the_host_answers_here_until_its_forward_is_dropped() {
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
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
fn nothing_is_left_of_this_process_whatever_happened() {
    let Some(rig) = rig(&[]) else { return };
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let rounds = || {
        let host = host(&rig);
        host.run(&sh("exit 1"), &token()).unwrap();
        host.run(&Command::new("no-such-program"), &token()).unwrap_err();
        let mut failing = When::new("x", || Err(std::io::ErrorKind::StorageFull.into()));
        let mut supervision = supervision(&unique("left"));
        supervision.grace = Duration::from_millis(100);
        host.supervise(&sh("echo x; sleep 300"), &supervision, &mut failing, &token()).unwrap_err();
        let _forward = host.forward(Path::new("/nowhere"), &token()).unwrap();
        rig.kill_sessions();
        let _ = host.run(&sh("true"), &token());
        SshHost::new(ssh_config(&rig, "rig-wrong-key")).unwrap().connect(&token()).unwrap_err();
    };
    rounds();
    rounds();
    assert_eq!(descriptors(), before);
    assert_eq!(children_of_this_process(), [rig.listener()]);
    assert_eq!(fs::read_dir(rig.control_dir()).unwrap().count(), 0);
}

#[test]
fn a_program_is_talked_to_and_ends_with_its_input() {
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
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
    let Some(rig) = rig(&[]) else { return };
    let host = host(&rig);
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

/// The engine of the next test; started by it alone.
#[test]
#[ignore = "a helper process of another test"]
#[expect(clippy::disallowed_methods, reason = "the test that starts it says what to do")]
fn an_engine_to_be_killed() {
    let Some(config) = std::env::var_os("JERICHO_TEST_SSH_CONFIG") else { return };
    let tag = std::env::var("JERICHO_TEST_SSH_TAG").unwrap();
    let config = Path::new(&config);
    let host = SshHost::new(SshConfig {
        config_file: Some(config.to_path_buf()),
        control_dir: config.with_file_name("c"),
        env: env(),
        ..SshConfig::new("rig")
    })
    .unwrap();
    host.connect(&token()).unwrap();
    let master = host.master_pid().unwrap();
    let mut sink = When::new("ready", || {
        let line = format!("\nmaster={master}\n");
        std::io::stdout().write_all(line.as_bytes())?;
        std::io::stdout().flush()
    });
    let script = "setsid sleep 300 & echo ready; wait";
    let _ = host.supervise(&sh(script), &supervision(&tag), &mut sink, &token());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a host that supervises would end what is to be killed")]
fn a_master_and_its_commands_do_not_outlive_an_engine_that_is_killed() {
    for hangs in [false, true] {
        let Some(rig) = rig(&[]) else { return };
        let tag = unique("engine");
        let mut engine = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_engine_to_be_killed", "--ignored", "--nocapture"])
            .env("JERICHO_TEST_SSH_CONFIG", rig.config())
            .env("JERICHO_TEST_SSH_TAG", &tag)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(engine.stdout.take().unwrap()));
        let master: u32 =
            lines.map(Result::unwrap).find_map(|line| line.strip_prefix("master=")?.parse().ok()).unwrap();
        assert!(runs(master) && !tagged(&tag).is_empty());
        if hangs {
            // Nothing that the other end does can help then.
            rig.stop_sessions();
        }
        engine.kill().unwrap();
        engine.wait().unwrap();
        wait_for_end(master);
        rig.continue_sessions();
        wait_for_tagged(&tag);
        end_of_engine(&rig);
    }
}

/// Nothing of an engine that was killed is left here.
fn end_of_engine(rig: &Rig) {
    // Its clients too, which name the directory of the control sockets.
    let dir = rig.control_dir();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        if line.windows(dir.as_os_str().len()).any(|part| part == dir.as_os_str().as_bytes()) {
            wait_for_end(process.file_name().to_str().unwrap().parse().unwrap());
        }
    }
    let left: Vec<_> =
        fs::read_dir(rig.control_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}
