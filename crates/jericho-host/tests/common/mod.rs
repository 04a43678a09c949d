//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::io;
use std::path::PathBuf;

use jericho_host::{
    CancelToken, Command, Environment, Host, HostError, Isolation, LocalHost, OutputSink, SshConfig,
    SshError, SshHost, Supervision,
};
use jericho_testkit::ssh::Rig;

pub(crate) const TAG: &str = "JERICHO_TEST_CHILD";

pub(crate) fn env() -> Environment {
    [("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")].into_iter().collect()
}

pub(crate) fn sh(script: &str) -> Command {
    Command::new("sh").arg("-c").arg(script).env(env())
}

pub(crate) fn token() -> CancelToken {
    CancelToken::new().unwrap()
}

/// A tag that no other test has.
pub(crate) fn unique(name: &str) -> String {
    format!("{}/{}/{name}", std::process::id(), jericho_host::IdSource::fresh(&jericho_host::SystemIds))
}

pub(crate) fn supervision(tag: &str, isolation: &Isolation) -> Supervision {
    Supervision { isolation: isolation.clone(), ..Supervision::new(TAG, tag) }
}

/// Whether a test that needs namespaces may go on; records it by name when not.
pub(crate) fn namespaces(host: &LocalHost) -> bool {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test of namespaces");
    jericho_testkit::need::needs(test, "needs root and namespaces", host.supports_namespaces())
}

/// Every isolation that works here. An ordinary user has no namespaces, and is not asked to.
pub(crate) fn isolations(host: &LocalHost) -> Vec<Isolation> {
    let mut all = vec![Isolation::Session];
    if rustix::process::geteuid().is_root() && namespaces(host) {
        all.push(Isolation::Namespaces(Vec::new()));
    }
    all
}

/// A host with an isolation that it offers. The rules of this crate hold in every one.
pub(crate) struct Place {
    // Dropped in this order.
    pub(crate) host: Box<dyn Host>,
    pub(crate) isolation: Isolation,
    _rig: Option<Rig>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "on {} with {:?}", self.host.label(), self.isolation)
    }
}

/// This machine, with every isolation that works here, and this machine over ssh.
pub(crate) fn places() -> Vec<Place> {
    let local = LocalHost::new();
    let mut all: Vec<_> = isolations(&local)
        .into_iter()
        .map(|isolation| Place { host: Box::new(LocalHost::new()), isolation, _rig: None })
        .collect();
    all.extend(over_ssh());
    all
}

/// The same without regard to isolations.
pub(crate) fn hosts() -> Vec<Place> {
    let local = Place { host: Box::new(LocalHost::new()), isolation: Isolation::Session, _rig: None };
    std::iter::once(local).chain(over_ssh()).collect()
}

fn over_ssh() -> Option<Place> {
    let thread = std::thread::current();
    let rig = Rig::start(thread.name().unwrap_or("a test over ssh"))?;
    let host = Box::new(SshHost::new(ssh_config(&rig, "rig")).unwrap());
    Some(Place { host, isolation: Isolation::Session, _rig: Some(rig) })
}

/// How to reach one of the hosts of a rig.
pub(crate) fn ssh_config(rig: &Rig, destination: &str) -> SshConfig {
    SshConfig {
        config_file: Some(rig.config()),
        control_dir: rig.control_dir(),
        env: env(),
        ..SshConfig::new(destination)
    }
}

/// Process ids, without zombies, whose environment has the tag.
pub(crate) fn tagged(tag: &str) -> Vec<u32> {
    let entry = format!("{TAG}={tag}");
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap() {
        let path = process.unwrap().path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        if environment.split(|&b| b == 0).any(|variable| variable == entry.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// Whether a process runs (is there and no zombie).
pub(crate) fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with(['Z', 'X']))
}

/// A sink that does something once when it has seen a word.
pub(crate) struct When<F> {
    pub(crate) seen: Vec<u8>,
    pub(crate) word: &'static str,
    pub(crate) then: Option<F>,
}

impl<F: FnOnce() -> io::Result<()>> When<F> {
    pub(crate) fn new(word: &'static str, then: F) -> Self {
        Self { seen: Vec::new(), word, then: Some(then) }
    }
}

impl<F: FnOnce() -> io::Result<()> + Send> OutputSink for When<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.seen.extend_from_slice(bytes);
        let word = self.word.as_bytes();
        if self.seen.windows(word.len()).any(|part| part == word)
            && let Some(then) = self.then.take()
        {
            return then();
        }
        Ok(())
    }
}

pub(crate) fn tempdir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    (dir, path)
}

/// The rig of a test that is named after its thread.
pub(crate) fn ssh_rig(options: &[&str]) -> Option<Rig> {
    Rig::start_with(std::thread::current().name().unwrap_or("a test over ssh"), options)
}

pub(crate) fn ssh_host(rig: &Rig) -> SshHost {
    SshHost::new(ssh_config(rig, "rig")).unwrap()
}

pub(crate) fn ssh_error(error: HostError) -> SshError {
    match error {
        HostError::Ssh(error) => error,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn ssh_supervision(tag: &str) -> Supervision {
    Supervision::new(TAG, tag)
}

/// Waits for the end of a process that is not our child.
pub(crate) fn wait_for_end(pid: u32) {
    let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()) else { return };
    let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&limit)), Ok(1), "{pid:?} does not end");
}

/// Waits for the end of everything that has the tag.
pub(crate) fn wait_for_tagged(tag: &str) {
    loop {
        let found = tagged(tag);
        if found.is_empty() {
            return;
        }
        found.into_iter().for_each(wait_for_end);
    }
}

pub(crate) fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
