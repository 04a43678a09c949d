//! What makes a host ready, and what is said of one that cannot be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use jericho_host::{CancelReason, SshError};
use jericho_testkit::need::needs_root;
use jerichoci::RunRequest;
use jerichoci::model::job::{IncusRuntimeConfig, JobRuntimeConfig, JobRuntimeKind};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::remote::{BuildHost, Ready, RemoteError, WorkDirProblem};

use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{Rig, job, sh, token};

fn ready(host: &BuildHost) -> (Result<Ready, RemoteError>, Vec<String>) {
    let mut lines = Vec::new();
    let made = host.ready(&mut |line| lines.push(line.to_owned()), &token());
    (made, lines)
}

fn host(rig: &Rig) -> Arc<BuildHost> {
    rig.hosts().get("box").unwrap()
}

fn problem(rig: &Rig) -> (WorkDirProblem, String) {
    let error = ready(&host(rig)).0.unwrap_err();
    let told = error.told();
    match error {
        RemoteError::WorkDir { problem, .. } => (problem, told),
        other => panic!("{other:?}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_host_gets_a_private_work_directory_and_the_runner_once() {
    let Some(rig) = Rig::start("a_host_gets_a_private_work_directory_and_the_runner_once") else { return };
    let first = host(&rig);
    let (made, lines) = ready(&first);
    let made = made.unwrap();
    assert_eq!(made.work_dir, rig.work_dir());
    assert_eq!(mode(&rig.work_dir()), 0o700);
    assert_eq!(made.runner, rig.work_dir().join("bin").join(&made.runner_sha256).join("jerichoci-incus-run"));
    let own = rig.config.hosts.runner_dirs[0].join(&made.arch).join("jerichoci-incus-run");
    assert_eq!(fs::read(&made.runner).unwrap(), fs::read(own).unwrap());
    assert_eq!(mode(&made.runner), 0o755);
    assert_eq!(
        (made.uid, made.gid),
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    );
    assert!(made.boot_id.as_deref().is_some_and(|id| !id.is_empty()));
    assert!(lines.iter().any(|line| line.starts_with("delivering the runner to box")), "{lines:?}");
    // It was asked once, and answers from memory.
    let pid = first.ssh().master_pid();
    rig.sshd.kill_sessions();
    let (again, lines) = ready(&first);
    assert_eq!((again.unwrap(), lines), (made.clone(), Vec::new()));
    assert!(pid.is_some());
    // Another run finds the same file, which nobody has touched.
    let before = fs::metadata(&made.runner).unwrap().modified().unwrap();
    let (again, lines) = ready(&host(&rig));
    assert_eq!(again.unwrap(), made);
    assert_eq!(lines, ["connecting to box"]);
    assert_eq!(fs::metadata(&made.runner).unwrap().modified().unwrap(), before);
}

#[test]
fn a_runner_that_is_not_what_its_name_says_is_replaced_and_never_written_to() {
    let name = "a_runner_that_is_not_what_its_name_says_is_replaced_and_never_written_to";
    let Some(rig) = Rig::start(name) else { return };
    let made = ready(&host(&rig)).0.unwrap();
    let content = fs::read(&made.runner).unwrap();
    fs::remove_file(&made.runner).unwrap();
    fs::write(&made.runner, "damaged").unwrap();
    fs::set_permissions(&made.runner, fs::Permissions::from_mode(0o755)).unwrap();
    let old = rig.outside().join("old");
    fs::hard_link(&made.runner, &old).unwrap();
    ready(&host(&rig)).0.unwrap();
    assert_eq!(fs::read(&made.runner).unwrap(), content);
    assert_eq!(fs::read(&old).unwrap(), b"damaged");
    let left: Vec<PathBuf> =
        fs::read_dir(rig.work_dir().join("bin")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [made.runner.parent().unwrap()]);
}

#[test]
fn many_jobs_make_a_host_ready_once() {
    let Some(rig) = Rig::start("many_jobs_make_a_host_ready_once") else { return };
    let host = host(&rig);
    let lines: Vec<String> = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..8).map(|_| scope.spawn(|| ready(&host))).collect();
        jobs.into_iter()
            .flat_map(|job| {
                let (made, lines) = job.join().unwrap();
                made.unwrap();
                lines
            })
            .collect()
    });
    assert_eq!(lines.iter().filter(|line| line.starts_with("connecting")).count(), 1, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("delivering")).count(), 1, "{lines:?}");
    assert_eq!(rig.sshd.log().matches("Accepted publickey").count(), 1);
}

#[test]
fn a_cancelled_job_does_not_wait_for_another_one_that_makes_the_host_ready() {
    let name = "a_cancelled_job_does_not_wait_for_another_one_that_makes_the_host_ready";
    let Some(rig) = Rig::start(name) else { return };
    // Connections are taken by the kernel; nobody says a word.
    let listener = Pid::from_raw(rig.sshd.listener().cast_signed()).unwrap();
    kill_process(listener, Signal::STOP).unwrap();
    let host = host(&rig);
    let (first, second) = (token(), token());
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        let host = &host;
        let (connecting, began) = channel();
        let first_of_them = first.clone();
        let making = scope.spawn(move || {
            host.ready(&mut |line| drop(connecting.send(line.to_owned())), &first_of_them).unwrap_err()
        });
        assert_eq!(began.recv().unwrap(), "connecting to box");
        let other = second.clone();
        scope.spawn(move || tell.send(host.ready(&mut |_| {}, &other).unwrap_err()).unwrap());
        second.cancel(CancelReason::Signal);
        // Far below the time after which the one that connects gives up.
        let waited = told.recv_timeout(Duration::from_secs(5));
        assert!(matches!(waited, Ok(RemoteError::Cancelled(CancelReason::Signal))), "{waited:?}");
        assert!(!making.is_finished());
        first.cancel(CancelReason::Requested);
        let error = making.join().unwrap();
        assert!(matches!(error, RemoteError::Cancelled(CancelReason::Requested)), "{error:?}");
    });
}

#[test]
fn a_host_that_cannot_be_reached_is_told_apart_and_at_once() {
    let Some(mut rig) = Rig::start("a_host_that_cannot_be_reached_is_told_apart_and_at_once") else { return };
    let mut error = |destination: &str| {
        destination.clone_into(&mut rig.host().ssh);
        ready(&host(&rig)).0.unwrap_err()
    };
    let sort = |error: &RemoteError| match error {
        RemoteError::Ssh { source, .. } => match &**source {
            jericho_host::HostError::Ssh(SshError::Connect { .. }) => "connect",
            jericho_host::HostError::Ssh(SshError::Authentication { .. }) => "authentication",
            jericho_host::HostError::Ssh(SshError::HostKey { .. }) => "host key",
            _ => "another",
        },
        _ => "no ssh",
    };
    for (destination, kind, hint) in [
        ("rig-refused", "connect", "ssh_config(5)"),
        ("rig-nowhere", "connect", "`[hosts.box]`"),
        ("rig-wrong-key", "authentication", "authorized_keys"),
        ("rig-unknown", "host key", "`ssh rig-unknown true`"),
        ("rig-changed", "host key", "changed_hosts\" -R \"[127.0.0.1]:"),
        ("rig-changed", "host key", "accept it once with `ssh rig-changed true`"),
    ] {
        let error = error(destination);
        assert_eq!(sort(&error), kind, "{error:?}");
        let told = error.told();
        assert!(told.starts_with("host box: ") && told.contains(hint), "{told}");
    }
}

#[test]
fn what_is_wrong_with_a_host_is_told_with_the_way_out_to_jobs_of_every_runtime() {
    let test = "what_is_wrong_with_a_host_is_told_with_the_way_out_to_jobs_of_every_runtime";
    let Some(mut rig) = Rig::start(test) else { return };
    let link = rig.outside().join("link");
    symlink(rig.outside(), &link).unwrap();
    let both = vec![JobRuntimeKind::Incus, JobRuntimeKind::HostProcess];
    let work = rig.work_dir();
    for (destination, dir, allow, hint) in [
        ("rig-refused", &work, &both, "try `ssh rig-refused true`"),
        ("rig-nowhere", &work, &both, "under `[hosts.box]`"),
        ("rig-wrong-key", &work, &both, "authorized_keys"),
        ("rig-unknown", &work, &both, "accept it once with `ssh rig-unknown true`"),
        ("rig", &PathBuf::from("/proc/nowhere"), &both, "another one is named with `work_dir = "),
        ("rig", &link, &both, "another one is named with `work_dir = "),
        ("rig", &work, &Vec::new(), "lets them with `allow = ["),
    ] {
        let host = rig.host();
        destination.clone_into(&mut host.ssh);
        host.work_dir.clone_from(dir);
        host.allow.clone_from(allow);
        let mut guest = sh("guest", "true");
        guest.runtime = JobRuntimeConfig::Incus(IncusRuntimeConfig::default());
        // The one may end before the other begins.
        let request = RunRequest::new(vec![sh("process", "true"), guest]).keep_going(true);
        let run = rig.run_until(&request, &token());
        for id in ["process", "guest"] {
            let record = job(&run, id);
            assert_eq!(record.verdict, Verdict::Failed(FailureKind::Infrastructure), "{record:#?}");
            let message = record.message.as_deref().unwrap();
            assert!(message.contains(hint), "{id}: no {hint} in: {message}");
        }
    }
}

#[test]
fn a_work_directory_that_others_have_a_hand_in_is_refused() {
    let Some(mut rig) = Rig::start("a_work_directory_that_others_have_a_hand_in_is_refused") else { return };
    let dir = rig.work_dir();
    let other = rig.outside().join("other");
    fs::create_dir(&other).unwrap();
    symlink(&other, &dir).unwrap();
    assert_eq!(problem(&rig).0, WorkDirProblem::Link);
    fs::remove_file(&dir).unwrap();
    fs::write(&dir, "").unwrap();
    assert_eq!(problem(&rig).0, WorkDirProblem::NoDirectory);
    fs::remove_file(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let (open, told) = problem(&rig);
    assert_eq!(open, WorkDirProblem::Open);
    assert!(told.contains(&format!("`ssh rig 'chmod 0700 {}'`", dir.display())), "{told}");
    // Readable by others is mended.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    ready(&host(&rig)).0.unwrap();
    assert_eq!(mode(&dir), 0o700);
    rig.host().work_dir = dir.join("../work");
    assert_eq!(problem(&rig).0, WorkDirProblem::Path);
    rig.host().work_dir = "work".into();
    assert_eq!(problem(&rig).0, WorkDirProblem::Path);
    rig.host().work_dir = "/proc/nothing/here".into();
    assert!(matches!(problem(&rig).0, WorkDirProblem::Missing(_)));
}

#[test]
fn a_work_directory_of_somebody_else_is_refused_with_the_command_that_mends_it() {
    let name = "a_work_directory_of_somebody_else_is_refused_with_the_command_that_mends_it";
    if !needs_root(name) {
        return;
    }
    let Some(rig) = Rig::start(name) else { return };
    fs::create_dir(rig.work_dir()).unwrap();
    chown(rig.work_dir(), Some(65534), None).unwrap();
    let (problem, told) = problem(&rig);
    let expected = WorkDirProblem::Owner { owner: "nobody".into(), account: "root".into() };
    assert_eq!(problem, expected);
    assert!(told.contains(&format!("sudo chown root {}", rig.work_dir().display())), "{told}");
}

#[test]
fn a_work_directory_that_cannot_be_written_is_refused() {
    let name = "a_work_directory_that_cannot_be_written_is_refused";
    let Some(mut rig) = Rig::start(name) else { return };
    // Nobody can make a directory there, not even root.
    rig.host().work_dir = PathBuf::from("/proc/closed/work");
    assert!(matches!(problem(&rig).0, WorkDirProblem::Missing(_)));
}

/// A small file system, gone with this.
struct Small(PathBuf);

impl Small {
    fn mount(dir: &Path) -> Self {
        Self::mount_with(dir, "rw")
    }

    fn mount_with(dir: &Path, option: &str) -> Self {
        fs::create_dir(dir).unwrap();
        let options = format!("size=64m,mode=0700,{option}");
        mount(&["mount", "-t", "tmpfs", "-o", &options, "none", dir.to_str().unwrap()]);
        Self(dir.to_path_buf())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        mount(&["umount", self.0.to_str().unwrap()]);
    }
}

fn mount(words: &[&str]) {
    use jericho_host::{Command, Host, LocalHost};
    let command = Command::new(words[0]).args(&words[1..]);
    assert!(LocalHost::new().run(&command, &token()).unwrap().exit.success(), "{words:?}");
}

#[test]
fn a_host_without_room_is_refused() {
    if !needs_root("a_host_without_room_is_refused") {
        return;
    }
    let Some(mut rig) = Rig::start("a_host_without_room_is_refused") else { return };
    rig.host().min_free = 5 << 30;
    let _small = Small::mount(&rig.work_dir());
    let error = ready(&host(&rig)).0.unwrap_err();
    let told = error.told();
    assert!(matches!(error, RemoteError::Disk { free_bytes: 1..67_108_865, .. }), "{error:?}");
    assert!(told.contains("0.0 GiB free, and a run begins with 5.0 GiB at least; make room there"), "{told}");
}

#[test]
fn a_work_directory_in_which_no_program_runs_is_told_with_the_way_out() {
    let name = "a_work_directory_in_which_no_program_runs_is_told_with_the_way_out";
    if !needs_root(name) {
        return;
    }
    let Some(rig) = Rig::start(name) else { return };
    let _small = Small::mount_with(&rig.work_dir(), "noexec");
    let run = rig.run(vec![sh("process", "true")]);
    let record = job(&run, "process");
    assert_eq!(record.verdict, Verdict::Failed(FailureKind::Infrastructure), "{record:#?}");
    let told = record.message.clone().unwrap();
    assert!(told.contains("is mounted noexec") && told.contains("under `[hosts.box]`"), "{told}");
}

#[test]
fn without_a_runner_for_its_processors_a_host_is_refused_with_the_command_that_builds_one() {
    let name = "without_a_runner_for_its_processors_a_host_is_refused_with_the_command_that_builds_one";
    let Some(mut rig) = Rig::start(name) else { return };
    let empty = rig.outside().join("none");
    fs::create_dir_all(empty.join("sparc")).unwrap();
    fs::write(empty.join("sparc/jerichoci-incus-run"), "").unwrap();
    rig.config.hosts.runner_dirs = vec![empty.clone()];
    let error = ready(&host(&rig)).0.unwrap_err();
    let told = error.told();
    assert!(matches!(error, RemoteError::NoRunner { .. }), "{told}");
    let arch = std::env::consts::ARCH;
    assert!(told.contains(&format!("scripts/build-guest --arch {arch}")), "{told}");
    assert!(told.contains(&empty.display().to_string()), "{told}");
}

#[test]
fn a_runtime_that_the_operator_does_not_allow_is_refused_without_connecting() {
    let name = "a_runtime_that_the_operator_does_not_allow_is_refused_without_connecting";
    let Some(mut rig) = Rig::start(name) else { return };
    rig.host().allow = vec![JobRuntimeKind::Incus];
    let host = host(&rig);
    host.permit(JobRuntimeKind::Incus).unwrap();
    let told = host.permit(JobRuntimeKind::HostProcess).unwrap_err().told();
    assert_eq!(
        told,
        "host box does not allow jobs with the runtime host_process; who answers for the host lets them \
         with `allow = [\"incus\", \"host_process\"]` under `[hosts.box]`"
    );
    assert!(!host.ssh().is_connected());
}
