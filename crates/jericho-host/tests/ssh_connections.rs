//! Connections of hosts over ssh: what they are mistaken for, how they are lost, and their end.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use common::{
    When, env, kill, runs, sh, ssh_config, ssh_error, ssh_host, ssh_rig, ssh_supervision, tagged, tempdir,
    token, unique, wait_for_end, wait_for_tagged,
};
use jericho_host::{
    CancelReason, Clock, Command, EndedBy, Exit, Host, HostError, SshConfig, SshError, SshHost, SystemClock,
};
use jericho_testkit::ssh::Rig;

#[test]
fn what_keeps_a_host_from_being_reached_is_told_apart() {
    let Some(rig) = ssh_rig(&[]) else { return };
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
    let error = connect("rig-unknown");
    assert!(!error.is_transient() && error.to_string().contains("No ED25519 host key is known"), "{error}");
    let error = connect("rig-changed");
    assert!(!error.is_transient(), "{error:?}");
    let SshError::HostKey { reason, forget: Some(forget), .. } = &error else { panic!("{error:?}") };
    assert!(
        reason.starts_with("Offending ED25519 key in ") && reason.contains("/changed_hosts:1"),
        "{reason}"
    );
    assert!(error.to_string().starts_with("the key of rig-changed has changed: "), "{error}");
    assert!(forget.starts_with("ssh-keygen -f ") && forget.contains("changed_hosts"), "{forget}");
    for destination in ["", "-oProxyCommand=touch /tmp/owned"] {
        assert!(matches!(connect(destination), SshError::Settings { .. }));
    }
    let config = SshConfig { program: "no-such-ssh".into(), ..ssh_config(&rig, "rig") };
    let error = SshHost::new(config).unwrap().connect(&token()).unwrap_err();
    assert!(matches!(&error, HostError::NotFound { program } if program == "no-such-ssh"), "{error:?}");
    assert_eq!(fs::read_dir(rig.control_dir()).unwrap().count(), 0);
}

#[test]
fn a_host_that_lets_nobody_try_so_many_keys_says_so() {
    let Some(rig) = ssh_rig(&["MaxAuthTries 1"]) else { return };
    let host = SshHost::new(ssh_config(&rig, "rig-wrong-key")).unwrap();
    let error = ssh_error(host.run(&sh("true"), &token()).unwrap_err());
    let SshError::Authentication { reason, too_many: true, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains("Too many authentication failures"), "{reason}");
}

#[test]
fn what_fails_on_the_way_to_a_host_is_not_told_of_the_host() {
    let Some(rig) = ssh_rig(&[]) else { return };
    for (jump, said) in [
        ("rig-wrong-key", "Permission denied"),
        ("rig-unknown", "No ED25519 host key is known"),
        ("rig-refused", "Connection refused"),
    ] {
        let mut config = ssh_config(&rig, "rig");
        let ssh = rig.config();
        config
            .options
            .push(format!("ProxyCommand=ssh -F {} -o BatchMode=yes -W %h:%p {jump}", ssh.display()));
        let error = ssh_error(SshHost::new(config).unwrap().connect(&token()).unwrap_err());
        let SshError::Connect { host, reason } = &error else { panic!("{error:?}") };
        assert_eq!(host, "rig");
        assert!(reason.starts_with("on the way there: ") && reason.contains(said), "{reason}");
    }
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_after_the_limit_or_on_cancel() {
    let Some(rig) = ssh_rig(&[]) else { return };
    // Connections are taken by the kernel; nobody says a word.
    kill(rig.listener(), rustix::process::Signal::STOP);
    let config = SshConfig { connect_limit: Duration::from_millis(300), ..ssh_config(&rig, "rig") };
    let error = ssh_error(SshHost::new(config).unwrap().connect(&token()).unwrap_err());
    assert!(matches!(&error, SshError::Connect { reason, .. } if reason.contains("0.3 s")), "{error:?}");
    let cancel = token();
    let also = cancel.clone();
    let started = SystemClock.monotonic();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ssh_host(&rig).connect(&cancel));
        also.cancel(CancelReason::Signal);
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, HostError::Cancelled(CancelReason::Signal)), "{error:?}");
    });
    assert!(SystemClock.monotonic() - started < Duration::from_secs(4));
    kill(rig.listener(), rustix::process::Signal::CONT);
}

#[test]
fn one_connection_serves_all_commands_and_ends_with_its_host() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
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
    let Some(rig) = ssh_rig(&[]) else { return };
    let dir = rig.control_dir();
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    // As an earlier process with our number would leave them: nobody listens.
    for count in 0..3 {
        drop(UnixListener::bind(dir.join(format!("{}-{count}", std::process::id()))).unwrap());
    }
    drop(UnixListener::bind(dir.join(format!("{}-7", u32::MAX / 2))).unwrap());
    let host = ssh_host(&rig);
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
    let Some(rig) = ssh_rig(&[]) else { return };
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
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
    for way in ["session", "master", "client"] {
        host.connect(&token()).unwrap();
        let master = host.master_pid().unwrap();
        let tag = unique(way);
        let mut supervision = ssh_supervision(&tag);
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
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
    host.connect(&token()).unwrap();
    let first = host.master_pid().unwrap();
    kill(first, rustix::process::Signal::KILL);
    // A command that meets it while it is being ended is told so, and not repeated: what came of it
    // over there nobody knows. The next one has a new master, whether the old is a zombie yet or not.
    let ran = host.run(&sh("exit 255"), &token()).or_else(|error| match ssh_error(error) {
        SshError::Lost { begun: false, .. } => host.run(&sh("exit 255"), &token()),
        other => panic!("{other}"),
    });
    assert_eq!(ran.unwrap().exit, Exit::Code(255));
    assert_ne!(host.master_pid().unwrap(), first);
    // Its socket without it: a file that is in the way of nobody.
    assert_eq!(fs::read_dir(rig.control_dir()).unwrap().count(), 1);
}

#[test]
fn a_restarted_daemon_is_found_again_after_as_many_attempts_as_it_takes() {
    let Some(mut rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
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
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
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
    let error = host.supervise(&sh(script), &ssh_supervision(&tag), &mut sink, &cancel).unwrap_err();
    assert!(matches!(ssh_error(error), SshError::Unconfirmed { .. }));
    assert!(SystemClock.monotonic() - started < Duration::from_secs(10));
    assert!(!tagged(&tag).is_empty());
    // As soon as somebody is there again to hear it, the command ends.
    rig.continue_sessions();
    wait_for_tagged(&tag);
}

#[test]
fn a_host_that_says_nothing_is_found_out_and_given_up_for_good() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
    host.connect(&token()).unwrap();
    let limit = |limit: Duration| {
        let token = token();
        let theirs = token.clone();
        std::thread::spawn(move || {
            let (_never, nothing) = std::sync::mpsc::channel::<()>();
            let _ = nothing.recv_timeout(limit);
            theirs.cancel(CancelReason::Requested);
        });
        token
    };
    assert!(!host.is_silent(&limit(Duration::from_secs(20))));
    let cancel = token();
    let (tell, told) = std::sync::mpsc::channel();
    let mut sink = When::new("ready", || {
        rig.stop_sessions();
        tell.send(()).unwrap();
        Ok(())
    });
    let supervision = ssh_supervision(&unique("silent"));
    let started = SystemClock.monotonic();
    let script = sh("echo ready; exec sleep 300");
    std::thread::scope(|scope| {
        let command = scope.spawn(|| host.supervise(&script, &supervision, &mut sink, &cancel));
        told.recv().unwrap();
        assert!(host.is_silent(&limit(Duration::from_millis(300))));
        host.give_up(Duration::from_secs(3));
        // What goes over the connection ends with it, and nothing makes another one.
        assert!(matches!(
            ssh_error(command.join().unwrap().unwrap_err()),
            SshError::Lost { begun: true, .. }
        ));
    });
    let error = ssh_error(host.run(&sh("true"), &token()).unwrap_err());
    assert!(matches!(error, SshError::GivenUp { .. }) && !error.is_transient(), "{error}");
    assert!(SystemClock.monotonic() - started < Duration::from_secs(20));
    rig.continue_sessions();
}

#[test]
#[ignore = "takes a minute and a half"]
fn a_connection_that_hangs_for_longer_is_lost_and_a_new_one_is_made() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
    let tag = unique("long");
    let mut sink = When::new("ready", || {
        rig.stop_sessions();
        Ok(())
    });
    let started = SystemClock.monotonic();
    let error =
        host.supervise(&sh("echo ready; exec sleep 300"), &ssh_supervision(&tag), &mut sink, &token());
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
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
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
    let finished =
        host.supervise(&sh(script), &ssh_supervision(&unique("moment")), &mut sink, &token()).unwrap();
    assert_eq!((finished.exit, finished.ended_by), (Exit::Code(9), EndedBy::Itself));
    assert_eq!(sink.seen, b"ready\nmore\nend\n");
    assert_eq!(host.master_pid(), Some(master));
}

#[test]
fn more_commands_than_sessions_wait_whoever_sets_the_limit() {
    let Some(rig) = ssh_rig(&["MaxSessions 3"]) else { return };
    // Ours, or the server's: of its three one is the master's own.
    for max_sessions in [2, 6] {
        let host = SshHost::new(SshConfig { max_sessions, ..ssh_config(&rig, "rig") }).unwrap();
        host.connect(&token()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let host = &host;
                scope.spawn(move || {
                    let command = sh("sleep 0.3; echo x");
                    let output = if thread % 2 == 0 {
                        host.run(&command, &token()).unwrap()
                    } else {
                        host.converse(&command, &token()).unwrap().finish().unwrap()
                    };
                    assert_eq!(output.stdout, b"x\n");
                });
            }
        });
    }
}

#[test]
fn a_server_that_opens_no_session_beside_the_masters_is_told() {
    let Some(rig) = ssh_rig(&["MaxSessions 1"]) else { return };
    let error = ssh_error(ssh_host(&rig).run(&sh("true"), &token()).unwrap_err());
    assert!(matches!(error, SshError::Sessions { used: 2, .. }), "{error:?}");
}

#[test]
fn who_waits_for_the_connection_of_another_still_hears_its_own_token() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let host = ssh_host(&rig);
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
    let Some(rig) = ssh_rig(&["AcceptEnv LANG"]) else { return };
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
fn what_the_configuration_of_the_user_says_for_sessions_at_a_keyboard_breaks_no_connection() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let mine = rig.config().with_file_name("mine");
    let text = fs::read_to_string(rig.config()).unwrap();
    for word in [
        "StdinNull yes",
        "SessionType none",
        "ForkAfterAuthentication yes",
        // What a configuration that is shared with another system has, and it counts as it stands.
        "IgnoreUnknown UseKeychain\n  UseKeychain yes",
    ] {
        fs::write(&mine, format!("Host *\n  {word}\n{text}")).unwrap();
        let config = SshConfig { config_file: Some(mine.clone()), ..ssh_config(&rig, "rig") };
        let host = SshHost::new(config).unwrap();
        let output = host.run(&sh("cat; exit 4").stdin("in\n"), &token());
        let output = output.unwrap_or_else(|error| panic!("{word}: {error}"));
        assert_eq!((output.exit, &*output.stdout), (Exit::Code(4), &b"in\n"[..]), "{word}");
        let said = host.foreground("exit 5", &[], &token());
        assert_eq!(said.unwrap(), Exit::Code(5), "{word}");
        let master = host.master_pid().unwrap();
        drop(host);
        assert!(!runs(master), "{word}");
    }
}

#[test]
fn an_ssh_that_is_too_old_for_the_newer_words_connects_without_them() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let old = rig.config().with_file_name("old-ssh");
    let script = "#!/bin/sh\nfor arg; do\n  case $arg in StdinNull=* | SessionType=* | ForkAfterAuthentication=*)\n    \
                  echo \"command-line: line 0: Bad configuration option: ${arg%=*}\" >&2\n    exit 255 ;;\n  esac\n\
                  done\nexec ssh \"$@\"\n";
    fs::write(&old, script).unwrap();
    fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let host = SshHost::new(SshConfig { program: old.into(), ..ssh_config(&rig, "rig") }).unwrap();
    let output = host.run(&sh("cat; exit 4").stdin("in\n"), &token()).unwrap();
    assert_eq!((output.exit, &*output.stdout), (Exit::Code(4), &b"in\n"[..]));
}

#[test]
fn nothing_is_left_of_this_process_whatever_happened() {
    let Some(rig) = ssh_rig(&[]) else { return };
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let rounds = || {
        let host = ssh_host(&rig);
        host.run(&sh("exit 1"), &token()).unwrap();
        host.run(&Command::new("no-such-program"), &token()).unwrap_err();
        let mut failing = When::new("x", || Err(std::io::ErrorKind::StorageFull.into()));
        let mut supervision = ssh_supervision(&unique("left"));
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
    let _ = host.supervise(&sh(script), &ssh_supervision(&tag), &mut sink, &token());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a host that supervises would end what is to be killed")]
fn a_master_and_its_commands_do_not_outlive_an_engine_that_is_killed() {
    for hangs in [false, true] {
        let Some(rig) = ssh_rig(&[]) else { return };
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
