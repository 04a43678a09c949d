//! Supervised commands, gentle and awkward: every rule on every host under every isolation.

mod common;

use std::io;
use std::time::Duration;

use common::{
    Place, When, isolations, places, runs, sh, supervision, tagged, tempdir, token, unique, working_in,
};
use jericho_host::{
    CancelReason, Clock, Command, EndedBy, Exit, Finished, Host as _, HostError, LocalHost, OutputSink,
    SystemClock,
};
use jericho_testkit::children::{ENDLESS, LEAVERS};

const SOON: Duration = Duration::from_secs(20);

/// Runs `work` and checks that it took less time than any child here would by itself.
fn soon<T>(work: impl FnOnce() -> T) -> T {
    let started = SystemClock.monotonic();
    let result = work();
    let took = SystemClock.monotonic() - started;
    assert!(took < SOON, "took {took:?}");
    result
}

#[test]
fn output_keeps_the_order_in_which_it_was_written_to_both_streams() {
    for place @ Place { host, isolation, .. } in &places() {
        let mut sink = Vec::new();
        let script = "i=0; while [ $i -lt 2000 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done";
        let tag = unique("order");
        let finished =
            host.supervise(&sh(script), &supervision(&tag, isolation), &mut sink, &token()).unwrap();
        let expected: String = (0..2000).map(|i| format!("o{i}\ne{i}\n")).collect();
        assert!(sink == expected.as_bytes(), "{place}");
        assert_eq!(finished.output_bytes, expected.len() as u64);
        assert_eq!((finished.exit, finished.ended_by), (Exit::Code(0), EndedBy::Itself));
        assert_eq!(finished.leaked, []);
    }
}

#[test]
fn the_exit_of_the_command_is_told_as_it_was() {
    for place @ Place { host, isolation, .. } in &places() {
        for (script, exit) in [
            ("exit 0", Exit::Code(0)),
            ("exit 255", Exit::Code(255)),
            ("kill -KILL $$", Exit::Signal(9)),
            ("kill -TERM $$", Exit::Signal(15)),
            ("kill -PIPE $$", Exit::Signal(13)),
        ] {
            let supervision = supervision(&unique("exit"), isolation);
            let finished = host.supervise(&sh(script), &supervision, &mut Vec::new(), &token()).unwrap();
            assert_eq!(finished.exit, exit, "{script} {place}");
            assert_eq!(finished.ended_by, EndedBy::Itself);
        }
    }
}

struct Count(u64, u8);

impl OutputSink for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0 += bytes.len() as u64;
        self.1 |= bytes.iter().fold(0, |all, byte| all | byte);
        Ok(())
    }
}

#[test]
fn large_output_and_bytes_that_are_no_text_arrive_whole() {
    for Place { host, isolation, .. } in &places() {
        let mut count = Count(0, 0);
        let supervision = supervision(&unique("large"), isolation);
        host.supervise(&sh("head -c 100000000 /dev/zero"), &supervision, &mut count, &token()).unwrap();
        assert_eq!((count.0, count.1), (100_000_000, 0));
        let mut sink = Vec::new();
        host.supervise(&sh(r"printf '\377\200a\000\303'"), &supervision, &mut sink, &token()).unwrap();
        assert_eq!(sink, b"\xff\x80a\0\xc3");
    }
}

#[test]
fn the_last_output_is_not_lost_behind_a_slow_sink() {
    struct Slow(u64, std::sync::mpsc::Receiver<()>);
    impl OutputSink for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0 += bytes.len() as u64;
            // Nobody sends: this is a delay of the disk.
            let _ = self.1.recv_timeout(Duration::from_millis(60));
            Ok(())
        }
    }
    for place @ Place { host, isolation, .. } in &places() {
        let (_keep, receiver) = std::sync::mpsc::channel();
        let mut sink = Slow(0, receiver);
        let mut supervision = supervision(&unique("slow"), isolation);
        supervision.drain = Duration::from_millis(1);
        host.supervise(&sh("head -c 1000000 /dev/zero"), &supervision, &mut sink, &token()).unwrap();
        assert_eq!(sink.0, 1_000_000, "{place}");
    }
}

#[test]
fn a_time_limit_ends_the_whole_tree() {
    let (_keep, dir) = tempdir();
    for place @ Place { host, isolation, .. } in &places() {
        for child in ENDLESS {
            let tag = unique("limit");
            let mut supervision = supervision(&tag, isolation);
            supervision.time_limit = Some(Duration::from_millis(300));
            supervision.grace = Duration::from_millis(200);
            let mut sink = Vec::new();
            let finished = soon(|| {
                host.supervise(&sh(child.script).cwd(&dir), &supervision, &mut sink, &token()).unwrap()
            });
            let case = format!("{} {place} {finished:?}", child.name);
            assert_eq!(finished.ended_by, EndedBy::TimeLimit, "{case}");
            assert!(matches!(finished.exit, Exit::Signal(9 | 15) | Exit::Code(143 | 137)), "{case}");
            assert_eq!(tagged(&tag), [0; 0], "{case}");
            assert_eq!(working_in(&dir), [0; 0], "{case}");
            assert_eq!(sink, b"ready\n", "{case}");
            assert_eq!(finished.leaked, [], "{case}");
        }
    }
}

#[test]
fn the_second_signal_ends_everything_without_grace() {
    let (_keep, dir) = tempdir();
    for place @ Place { host, isolation, .. } in &places() {
        for child in ENDLESS {
            let tag = unique("forced");
            let cancel = token();
            let mut supervision = supervision(&tag, isolation);
            supervision.grace = Duration::from_secs(200);
            let also = cancel.clone();
            let mut sink = When::new("ready", move || {
                also.cancel(CancelReason::Signal);
                also.cancel(CancelReason::Forced);
                Ok(())
            });
            let finished = soon(|| {
                host.supervise(&sh(child.script).cwd(&dir), &supervision, &mut sink, &cancel).unwrap()
            });
            let case = format!("{} {place} {finished:?}", child.name);
            assert_eq!(finished.ended_by, EndedBy::Cancelled(CancelReason::Forced), "{case}");
            assert_eq!(tagged(&tag), [0; 0], "{case}");
            assert_eq!(working_in(&dir), [0; 0], "{case}");
        }
    }
}

#[test]
fn a_force_that_comes_during_the_grace_cuts_it_short() {
    for Place { host, isolation, .. } in &places() {
        let cancel = token();
        let also = cancel.clone();
        let mut supervision = supervision(&unique("cut"), isolation);
        supervision.grace = Duration::from_secs(200);
        let mut first = When::new("ready", || Ok(()));
        // The child itself says when it has got TERM.
        let script = "trap 'echo termed' TERM; echo ready; while :; do sleep 300 & wait; done";
        struct Both<'a>(&'a mut dyn OutputSink, &'a jericho_host::CancelToken);
        impl OutputSink for Both<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
                self.0.write(bytes)?;
                let has = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
                if has(b"ready") {
                    self.1.cancel(CancelReason::Requested);
                }
                if has(b"termed") {
                    self.1.cancel(CancelReason::Forced);
                }
                Ok(())
            }
        }
        let mut sink = Both(&mut first, &also);
        let finished = soon(|| host.supervise(&sh(script), &supervision, &mut sink, &cancel).unwrap());
        assert_eq!(finished.ended_by, EndedBy::Cancelled(CancelReason::Forced));
        assert!(first.seen.ends_with(b"termed\n"), "{:?}", String::from_utf8_lossy(&first.seen));
    }
}

#[test]
fn a_cancelled_command_gets_its_grace() {
    for place @ Place { host, isolation, .. } in &places() {
        let cancel = token();
        let also = cancel.clone();
        let mut supervision = supervision(&unique("grace"), isolation);
        supervision.grace = Duration::from_secs(200);
        let mut sink = When::new("ready", move || {
            also.cancel(CancelReason::SiblingFailed);
            Ok(())
        });
        // Not the shell itself says that it is ready: a TERM between its fork and the exec of the
        // child would be swallowed there.
        let script = "trap 'echo cleaned up; exit 7' TERM; sh -c 'echo ready; exec sleep 300' & wait";
        let finished = soon(|| host.supervise(&sh(script), &supervision, &mut sink, &cancel).unwrap());
        assert_eq!(finished.exit, Exit::Code(7), "{place}");
        assert_eq!(finished.ended_by, EndedBy::Cancelled(CancelReason::SiblingFailed));
        assert_eq!(sink.seen, b"ready\ncleaned up\n");
    }
}

/// A service manager, or a terminal, signals every process there is: a command may be gone before
/// the engine has even heard of it.
#[test]
fn a_command_that_a_signal_to_everybody_has_ended_was_cancelled_and_failed_nothing() {
    let local = LocalHost::new();
    for isolation in &isolations(&local) {
        for (end, cancelled) in [
            ("kill -INT $$", true),
            ("kill -TERM $$", true),
            ("kill -HUP $$", true),
            ("kill -SEGV $$", false),
            ("exit 1", false),
        ] {
            let cancel = token();
            let also = cancel.clone();
            // Said when the command has ended, by one that still holds the output.
            let mut sink = When::new("ended", move || {
                also.cancel(CancelReason::Signal);
                Ok(())
            });
            let script = format!(
                "(while grep -q '^State:.[^Z]' /proc/$$/status 2>/dev/null; do :; done; echo ended) & {end}"
            );
            let mut supervision = supervision(&unique("everybody"), isolation);
            supervision.drain = SOON;
            let finished = soon(|| local.supervise(&sh(&script), &supervision, &mut sink, &cancel).unwrap());
            let expected = match cancelled {
                true => EndedBy::Cancelled(CancelReason::Signal),
                false => EndedBy::Itself,
            };
            assert_eq!(finished.ended_by, expected, "{end} {isolation:?}");
        }
    }
}

#[test]
fn what_a_command_leaves_behind_is_named_and_ended() {
    for place @ Place { host, isolation, .. } in &places() {
        for child in LEAVERS {
            let tag = unique("leaver");
            let mut supervision = supervision(&tag, isolation);
            // Time for what is left to get from fork to exec on a busy machine.
            supervision.drain = Duration::from_millis(400);
            let finished: Finished =
                soon(|| host.supervise(&sh(child.script), &supervision, &mut Vec::new(), &token()).unwrap());
            let case = format!("{} {place} {finished:?}", child.name);
            assert_eq!((finished.exit, finished.ended_by), (Exit::Code(3), EndedBy::Itself), "{case}");
            assert_eq!(finished.leaked.len(), 1, "{case}");
            let leaked = &finished.leaked[0];
            assert!(leaked.command.ends_with("sleep 300"), "{case}");
            assert_eq!(leaked.held_output, child.holds_output, "{case}");
            assert!(!runs(leaked.pid), "{case}");
            assert_eq!(tagged(&tag), [0; 0], "{case}");
        }
    }
}

#[test]
fn a_background_child_that_ends_within_the_drain_is_no_leak_and_its_output_is_kept() {
    for Place { host, isolation, .. } in &places() {
        let mut supervision = supervision(&unique("drain"), isolation);
        supervision.drain = Duration::from_secs(200);
        let mut sink = Vec::new();
        let script = "(sleep 0.1; echo late) & (setsid sleep 0.2 >/dev/null 2>&1 &) ; exit 0";
        let finished = soon(|| host.supervise(&sh(script), &supervision, &mut sink, &token()).unwrap());
        assert_eq!(finished.leaked, []);
        assert_eq!(sink, b"late\n");
    }
}

#[test]
fn a_sink_that_fails_ends_the_tree() {
    let (_keep, dir) = tempdir();
    for place @ Place { host, isolation, .. } in &places() {
        for child in ENDLESS {
            let tag = unique("sink");
            let mut supervision = supervision(&tag, isolation);
            supervision.grace = Duration::from_millis(200);
            let mut sink = When::new("ready", || Err(io::ErrorKind::StorageFull.into()));
            let error = soon(|| {
                host.supervise(&sh(child.script).cwd(&dir), &supervision, &mut sink, &token()).unwrap_err()
            });
            assert!(matches!(error, HostError::Sink(_)) && error.is_no_space(), "{error:?}");
            assert_eq!(tagged(&tag), [0; 0], "{} {place}", child.name);
            assert_eq!(working_in(&dir), [0; 0], "{} {place}", child.name);
        }
    }
}

#[test]
fn a_sink_that_panics_ends_the_tree() {
    for place @ Place { host, isolation, .. } in &places() {
        let tag = unique("panic");
        let supervision = supervision(&tag, isolation);
        let panicked = soon(|| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut sink = When::new("ready", || panic!("on purpose"));
                host.supervise(&sh("setsid sleep 300 & echo ready; wait"), &supervision, &mut sink, &token())
            }))
        });
        assert!(panicked.is_err());
        assert_eq!(tagged(&tag), [0; 0], "{place}");
    }
}

#[test]
fn a_command_is_not_started_under_a_cancelled_token() {
    let (_keep, dir) = tempdir();
    for Place { host, isolation, .. } in &places() {
        let cancel = token();
        cancel.cancel(CancelReason::SiblingFailed);
        let command = sh("touch started").cwd(&dir);
        let error = host
            .supervise(&command, &supervision(&unique("never"), isolation), &mut Vec::new(), &cancel)
            .unwrap_err();
        assert!(matches!(error, HostError::Cancelled(CancelReason::SiblingFailed)));
        assert!(!dir.join("started").exists());
    }
}

#[test]
fn what_cannot_be_started_is_told_apart() {
    let (_keep, dir) = tempdir();
    std::fs::write(dir.join("plain"), "").unwrap();
    for Place { host, isolation, .. } in &places() {
        let supervision = supervision(&unique("start"), isolation);
        let attempt =
            |command: &Command| host.supervise(command, &supervision, &mut Vec::new(), &token()).unwrap_err();
        for program in ["no-such-program", "/no/such/program", "./plain/x", ""] {
            let error = attempt(&Command::new(program).env(common::env()).cwd(&dir));
            assert!(
                matches!(&error, HostError::NotFound { program: p } if p == program),
                "{program} {error:?}"
            );
        }
        let error = attempt(&Command::new("./plain").cwd(&dir));
        assert!(matches!(&error, HostError::Start { .. }), "{error:?}");
        let error = attempt(&sh("true").cwd(dir.join("missing")));
        assert!(
            matches!(&error, HostError::File { action: "enter", path, .. } if *path == dir.join("missing")),
            "{error:?}"
        );
        let error = attempt(&sh("true").arg("nul\0byte"));
        assert!(matches!(&error, HostError::Start { .. }), "{error:?}");
    }
}

#[test]
fn a_command_gets_its_input_environment_directory_and_nothing_else() {
    let (_keep, dir) = tempdir();
    for Place { host, isolation, .. } in &places() {
        let tag = unique("view");
        let script = "cat; pwd; env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD= | sort";
        let command = sh(script).cwd(&dir).stdin("input\n");
        let mut sink = Vec::new();
        host.supervise(&command, &supervision(&tag, isolation), &mut sink, &token()).unwrap();
        let path = common::env().get("PATH").unwrap().to_str().unwrap().to_owned();
        let lines = String::from_utf8(sink).unwrap();
        let expected = format!("input\n{}\n{}={tag}\nPATH={path}\n", dir.display(), common::TAG);
        assert_eq!(lines, expected);
    }
}

#[test]
fn a_child_inherits_no_descriptor_and_no_ignored_signal() {
    // A descriptor as a careless parent leaves it: not closed at exec.
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    let inode = rustix::fs::fstat(&writer).unwrap().st_ino;
    for place @ Place { host, isolation, .. } in &places() {
        let mut sink = Vec::new();
        // Rust ignores SIGPIPE in every program; a child must not.
        let script = "ls -l /proc/self/fd; grep SigIgn /proc/self/status; grep SigBlk /proc/self/status";
        host.supervise(&sh(script), &supervision(&unique("fds"), isolation), &mut sink, &token()).unwrap();
        let lines = String::from_utf8(sink).unwrap();
        assert!(!lines.contains(&format!("pipe:[{inode}]")), "{place}\n{lines}");
        let ignored = lines.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        // 32 and 33 belong to the C library, which ignores them in what it spawns.
        let ignored = u64::from_str_radix(ignored, 16).unwrap() & !(3 << 31);
        assert_eq!(ignored, 0, "{place}\n{lines}");
        assert!(lines.contains("SigBlk:\t0000000000000000"), "{place}\n{lines}");
    }
}

#[test]
fn an_unlimited_time_limit_is_no_overflow() {
    for Place { host, isolation, .. } in &places() {
        let mut supervision = supervision(&unique("max"), isolation);
        supervision.time_limit = Some(Duration::MAX);
        supervision.grace = Duration::MAX;
        supervision.drain = Duration::MAX;
        let finished = host.supervise(&sh("exit 0"), &supervision, &mut Vec::new(), &token()).unwrap();
        assert_eq!(finished.exit, Exit::Code(0));
    }
}

#[test]
fn many_commands_at_once_do_not_mix() {
    for Place { host, isolation, .. } in &places() {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    for turn in 0..20 {
                        let mut sink = Vec::new();
                        let supervision = supervision(&unique("many"), isolation);
                        let command = sh(&format!("echo {thread}.{turn}; exit {turn}"));
                        let finished = host.supervise(&command, &supervision, &mut sink, &token()).unwrap();
                        assert_eq!(sink, format!("{thread}.{turn}\n").as_bytes());
                        assert_eq!(finished.exit, Exit::Code(turn));
                        assert_eq!(finished.leaked, []);
                    }
                });
            }
        });
    }
}
