//! What only a namespace gives: mounts of its own, and an end with the engine.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use common::{TAG, namespaces, runs, sh, supervision, tagged, tempdir, token, unique};
use jericho_host::{Exit, Host, HostError, Isolation, LocalHost, Mount};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

fn run(host: &LocalHost, script: &str, cwd: &Path, mounts: Vec<Mount>) -> Result<(Exit, String), HostError> {
    let mut sink = Vec::new();
    let supervision = supervision(&unique("namespace"), &Isolation::Namespaces(mounts));
    let finished = host.supervise(&sh(script).cwd(cwd), &supervision, &mut sink, &token())?;
    assert_eq!(finished.leaked, []);
    Ok((finished.exit, String::from_utf8(sink).unwrap()))
}

fn overlay(dir: &Path) -> Mount {
    let [lower, upper, work, target] = ["lower", "upper", "work", "target"].map(|name| dir.join(name));
    for dir in [&lower, &upper, &work, &target] {
        fs::create_dir_all(dir).unwrap();
    }
    Mount::Overlay { lower, upper, work, target }
}

#[test]
fn an_overlay_takes_writes_and_leaves_the_lower_tree_alone() {
    let host = LocalHost::new();
    if !namespaces(&host) {
        return;
    }
    let (_keep, dir) = tempdir();
    // What the mount options give a meaning to, and then some.
    for name in ["plain", "a,b", "a:b", r"a\b", "a b'c\"d", "é\n"] {
        let dir = dir.join(name);
        let mount = overlay(&dir);
        fs::create_dir(dir.join("lower/sub")).unwrap();
        fs::write(dir.join("lower/sub/old"), "old").unwrap();
        fs::write(dir.join("lower/tool"), "#!/bin/sh\necho tool\n").unwrap();
        fs::set_permissions(dir.join("lower/tool"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let script = "./tool; echo new > sub/old; mv sub moved; cat moved/old; rm tool; ls";
        let (exit, output) = run(&host, script, &dir.join("target"), vec![mount]).unwrap();
        assert_eq!((exit, output.as_str()), (Exit::Code(0), "tool\nnew\nmoved\n"), "{name}");
        assert_eq!(fs::read_to_string(dir.join("lower/sub/old")).unwrap(), "old");
        assert!(dir.join("lower/tool").exists());
        assert_eq!(fs::read_dir(dir.join("target")).unwrap().count(), 0, "the mount is seen outside");
    }
}

#[test]
fn a_directory_of_the_lower_tree_can_be_renamed() {
    let host = LocalHost::new();
    if !namespaces(&host) {
        return;
    }
    let (_keep, dir) = tempdir();
    let mount = overlay(&dir);
    fs::create_dir(dir.join("lower/sub")).unwrap();
    // mv(1) would copy where rename(2) fails; `mv --no-copy` is too new, so look at the inode.
    let script = "a=$(stat -c %i sub); mv sub moved; b=$(stat -c %i moved); [ $a = $b ]";
    let (exit, _) = run(&host, script, &dir.join("target"), vec![mount]).unwrap();
    assert_eq!(exit, Exit::Code(0));
}

#[test]
fn a_bind_mount_shows_its_source_and_a_read_only_one_refuses_writes() {
    let host = LocalHost::new();
    if !namespaces(&host) {
        return;
    }
    let (_keep, dir) = tempdir();
    for name in ["source", "rw", "ro"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    let bind = |target: &str, read_only| Mount::Bind {
        source: dir.join("source"),
        target: dir.join(target),
        read_only,
    };
    let script = "echo x > rw/file && cat ro/file && ! echo y > ro/other";
    let (exit, output) = run(&host, script, &dir, vec![bind("rw", false), bind("ro", true)]).unwrap();
    assert_eq!(exit, Exit::Code(0), "{output}");
    assert!(output.starts_with("x\n") && output.contains("Read-only"), "{output}");
    assert!(dir.join("source/file").exists() && !dir.join("source/other").exists());
}

#[test]
fn a_mount_that_fails_is_named_and_nothing_is_started() {
    let host = LocalHost::new();
    if !namespaces(&host) {
        return;
    }
    let (_keep, dir) = tempdir();
    let good = Mount::Bind { source: dir.clone(), target: dir.clone(), read_only: false };
    let bad = Mount::Bind { source: dir.join("missing"), target: dir.clone(), read_only: false };
    let error = run(&host, "touch started", &dir, vec![good, bad]).unwrap_err();
    let HostError::Mount { what, source } = &error else { panic!("{error:?}") };
    assert!(what.contains("missing"), "{what}");
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    assert!(!dir.join("started").exists());
}

#[test]
fn a_command_sees_its_own_process_table_and_the_rest_of_the_machine_as_before() {
    let host = LocalHost::new();
    if !namespaces(&host) {
        return;
    }
    let script = "test $(readlink /proc/self) != $$ && test -d /proc/$$ && echo $$ && \
        : > /dev/null && test -d /sys/kernel && head -c 1 /dev/urandom | wc -c && readlink /proc/self/ns/net";
    let (exit, output) = run(&host, script, Path::new("/"), Vec::new()).unwrap();
    let network = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!((exit, output), (Exit::Code(0), format!("2\n1\n{}\n", network.display())));
}

#[test]
fn nothing_in_a_namespace_is_ever_in_the_process_group_of_the_engine() {
    let host = LocalHost::new();
    if !namespaces(&host) {
        return;
    }
    // The init is there before the command is. A group or session outside is shown as 0.
    let script = "read -r pid name state parent group session rest < /proc/1/stat; echo $group $session";
    let (exit, output) = run(&host, script, Path::new("/"), Vec::new()).unwrap();
    assert_eq!((exit, output.as_str()), (Exit::Code(0), "1 1\n"));
}

#[test]
fn an_overlay_is_probed_where_it_is_to_be_used_and_leaves_nothing() {
    let host = LocalHost::new();
    assert!(!host.supports_overlay(Path::new("/no/such/directory")));
    if !namespaces(&host) {
        return;
    }
    let (_keep, dir) = tempdir();
    assert!(host.supports_overlay(&dir));
    assert!(!host.supports_overlay(Path::new("/proc")));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

/// Not a test: the engine of the next one, which starts this very program.
#[test]
#[ignore = "run by another test"]
#[expect(clippy::disallowed_methods, reason = "its parent tells it what to do")]
fn stand_in_engine() {
    let Some(tag) = std::env::var_os("STAND_IN_TAG") else { return };
    let script = std::env::var("STAND_IN_SCRIPT").unwrap();
    let supervision = supervision(tag.to_str().unwrap(), &Isolation::Namespaces(Vec::new()));
    let host = LocalHost::new();
    host.supervise(&sh(&script), &supervision, &mut Vec::new(), &token()).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the engine that is killed has to be another process")]
fn an_engine_that_is_killed_takes_everything_in_the_namespace_with_it() {
    let host = LocalHost::new();
    if !namespaces(&host) {
        return;
    }
    let (_keep, dir) = tempdir();
    let fifo = dir.join("ready");
    jericho_host::sys::make_fifo(&fifo).unwrap();
    let tag = unique("killed");
    let script = format!(
        "trap '' TERM HUP; (setsid sleep 300 >/dev/null 2>&1 &); sleep 300 & echo x > '{}'; wait",
        fifo.display()
    );
    let mut engine = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "stand_in_engine"])
        .env("STAND_IN_TAG", &tag)
        .env("STAND_IN_SCRIPT", script)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Blocks until the command has started.
    assert_eq!(fs::read_to_string(&fifo).unwrap(), "x\n");
    // A process that is just being replaced by its program shows no environment for a moment.
    let seen = (0..1000).map(|_| tagged(&tag)).find(|pids| pids.len() >= 3);
    let pids = seen.unwrap_or_else(|| panic!("{:?}", tagged(&tag)));
    let open = |pid: &u32| {
        let pid = Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap()
    };
    let watched: Vec<_> = pids.iter().map(open).collect();
    engine.kill().unwrap();
    assert_eq!(engine.wait().unwrap().signal(), Some(9));
    for fd in &watched {
        let ended = rustix::event::poll(
            &mut [PollFd::new(fd, PollFlags::IN)],
            Some(&Timespec { tv_sec: 20, tv_nsec: 0 }),
        );
        assert_eq!(ended, Ok(1), "{pids:?}");
    }
    assert!(!pids.iter().any(|pid| runs(*pid)));
    assert_eq!(tagged(&tag), [0; 0], "{TAG}");
}
