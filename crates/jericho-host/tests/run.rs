//! Short commands, and what is left of earlier ones, on every host.

mod common;

use std::fs;
use std::time::Duration;

use common::{Place, TAG, hosts, runs, sh, tempdir, token, unique};
use jericho_host::{CancelReason, Command, Environment, Exit, HostError, LocalHost};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

#[test]
fn both_streams_are_kept_apart_with_the_exit_code() {
    for Place { host, .. } in &hosts() {
        let output = host.run(&sh("echo out; echo err >&2; exit 3"), &token()).unwrap();
        assert_eq!(
            (output.exit, &*output.stdout, &*output.stderr),
            (Exit::Code(3), &b"out\n"[..], &b"err\n"[..])
        );
    }
}

#[test]
fn input_larger_than_a_pipe_arrives_while_output_is_large_too() {
    for Place { host, .. } in &hosts() {
        let input: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        let output = host.run(&sh("cat; cat /proc/self/status >&2").stdin(input.clone()), &token()).unwrap();
        assert!(output.stdout == input);
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_program_is_found_in_the_path_of_its_own_environment() {
    for Place { host, .. } in &hosts() {
        let (_keep, dir) = tempdir();
        let tool = |place: &str, text: &str, mode: u32| {
            fs::create_dir_all(dir.join(place)).unwrap();
            fs::write(dir.join(place).join("tool"), text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(dir.join(place).join("tool"), mode).unwrap();
        };
        tool("not-executable", "", 0o644);
        tool("real", "#!/bin/sh\necho $0 $1\n", 0o755);
        let path = format!("{0}/none:{0}/not-executable:{0}/real", dir.display());
        let env: Environment = [("PATH", path)].into_iter().collect();
        let output = host.run(&Command::new("tool").arg("a b").env(env.clone()), &token()).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}/real/tool a b\n", dir.display()));
        // Not in ours.
        let error = host.run(&Command::new("sleep").arg("0").env(env), &token()).unwrap_err();
        assert!(matches!(error, HostError::NotFound { .. }), "{error:?}");
        // A relative path is relative to the directory of the command.
        let output = host.run(&Command::new("./tool").cwd(dir.join("real")), &token()).unwrap();
        assert_eq!(output.exit, Exit::Code(0));
    }
}

#[test]
fn output_beyond_the_limit_is_an_error_and_ends_the_command() {
    for Place { host, .. } in &hosts() {
        let error = host.run(&sh("cat /dev/zero"), &token()).unwrap_err();
        assert!(matches!(&error, HostError::OutputTooLarge { program, .. } if program == "sh"), "{error:?}");
        let error = host.run(&sh("cat /dev/zero >&2"), &token()).unwrap_err();
        assert!(matches!(&error, HostError::OutputTooLarge { .. }), "{error:?}");
    }
}

#[test]
fn a_streamed_command_has_no_limit_and_can_be_cancelled_by_its_reader() {
    for Place { host, .. } in &hosts() {
        let mut total = 0;
        let output = host.stream(&sh("head -c 100000000 /dev/zero; echo e >&2"), &token(), &mut |bytes| {
            total += bytes.len();
        });
        assert_eq!((total, output.unwrap().stderr), (100_000_000, b"e\n".to_vec()));
        let cancel = token();
        let error = host
            .stream(&sh("trap '' TERM; while :; do echo x; done"), &cancel, &mut |_| {
                cancel.cancel(CancelReason::Requested);
            })
            .unwrap_err();
        assert!(matches!(error, HostError::Cancelled(CancelReason::Requested)), "{error:?}");
    }
}

#[test]
fn what_outlives_its_grace_is_ended_with_what_it_has_put_into_other_groups() {
    let (cancel, mut said) = (token(), Vec::new());
    // As nix does with its builders; the first of them ends only with the signal that nobody can refuse.
    let command = sh("trap '' TERM; setsid sleep 300 & echo $!; while :; do wait; done");
    let error = LocalHost::new()
        .stream(&command.grace(Duration::from_millis(50)), &cancel, &mut |bytes| {
            said.extend_from_slice(bytes);
            cancel.cancel(CancelReason::Requested);
        })
        .unwrap_err();
    assert!(matches!(error, HostError::Cancelled(CancelReason::Requested)), "{error:?}");
    let pid: i32 = String::from_utf8(said).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    if let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        assert_eq!(
            poll(&mut fds, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).unwrap(),
            1,
            "it is still there"
        );
    }
}

#[test]
fn a_background_process_that_holds_the_output_does_not_hold_the_caller() {
    for Place { host, .. } in &hosts() {
        let output = host.run(&sh("sleep 300 & echo $!"), &token()).unwrap();
        let pid: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        // It was asked for, for example as an ssh master, so it lives on.
        assert!(runs(pid));
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "nobody may supervise what is to be found")]
fn tagged_processes_of_an_earlier_engine_are_found_and_ended_and_no_others() {
    for Place { host, .. } in &hosts() {
        let run = unique("run");
        let start = |value: &str, script: &str| {
            let mut command = std::process::Command::new("sh");
            command.arg("-c").arg(script).env(TAG, value).stdout(std::process::Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut line = [0];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
            child
        };
        let mut gentle = start(&format!("{run}/a/1"), "echo; exec sleep 300");
        let mut stubborn = start(&format!("{run}/b/2"), "trap '' TERM; echo; while :; do sleep 300; done");
        let mut other = start(&format!("x{run}/a/1"), "echo; exec sleep 300");
        let found = host.end_tagged(TAG, &format!("{run}/"), Duration::from_millis(100)).unwrap();
        for child in [&gentle, &stubborn] {
            assert!(found.iter().any(|leaked| leaked.pid == child.id()), "{found:?}");
            assert!(!runs(child.id()));
        }
        assert!(found.iter().any(|leaked| leaked.command == "sleep 300"), "{found:?}");
        assert!(runs(other.id()) && !found.iter().any(|leaked| leaked.pid == other.id()));
        assert!(host.end_tagged(TAG, &format!("{run}/"), Duration::ZERO).unwrap().is_empty());
        other.kill().unwrap();
        for child in [&mut gentle, &mut stubborn, &mut other] {
            child.wait().unwrap();
        }
    }
}
