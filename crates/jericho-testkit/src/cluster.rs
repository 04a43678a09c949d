//! The cluster of the tests: three daemons of Incus on this machine, for tests of where guests go.
//!
//! `scripts/rig cluster-up` brings it up in some ten seconds; the first test that needs it does so too, and it
//! stays for the others. Tests that have it have it for themselves: they kill members, and count guests.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::incus::{Project, Rig, is_possible, script_with};

/// Where the cluster lies unless `JERICHO_CLUSTER_DIR` says otherwise.
const DEFAULT_DIR: &str = "/dev/shm/jericho-cluster";

/// A cluster of three members, which share nothing but this machine's kernel.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    rig: Rig,
    group: String,
}

impl Cluster {
    /// The names of the members. The first is the one that is asked.
    pub const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];

    /// The cluster for the test called `test`, with all its members up; waits until no other test has it.
    /// Nothing, and a record of the refusal, where it cannot be: without root, or without its programs.
    ///
    /// # Panics
    ///
    /// When it should come up and does not; and as [`need::needs`](crate::need::needs).
    #[must_use]
    pub fn up(test: &str) -> Option<Self> {
        if !is_possible(test) {
            return None;
        }
        match Self::bring_up(&directory()) {
            Ok(cluster) => Some(cluster),
            Err(error) => panic!("the cluster of the tests does not come up: {error:#}"),
        }
    }

    fn bring_up(dir: &Path) -> Result<Self> {
        for _ in 0..4 {
            // Also what a test before this one has killed.
            script_with("JERICHO_CLUSTER_DIR", dir, &["cluster-up"])?;
            let path = dir.join("users");
            let Ok(users) = File::open(&path) else { continue };
            users.lock().context("lock of the cluster")?;
            let is_same = fs::metadata(&path)
                .is_ok_and(|now| users.metadata().is_ok_and(|held| held.ino() == now.ino()));
            let Ok(description) = fs::read(dir.join("cluster.json")) else { continue };
            if !is_same {
                continue;
            }
            let description: Value = serde_json::from_slice(&description).context("cluster.json")?;
            let group = description["group"].as_str().context("group")?.to_owned();
            let rig = Rig::of_cluster(dir, socket(dir, Self::MEMBERS[0]), &description, users)?;
            let cluster = Self { dir: dir.to_owned(), rig, group };
            // The one that had it may have left a member dead.
            cluster.start_members()?;
            return Ok(cluster);
        }
        bail!("{} goes away as soon as it is there", dir.display())
    }

    /// The daemon of the first member, as tests use a daemon.
    #[must_use]
    pub fn rig(&self) -> &Rig {
        &self.rig
    }

    /// The group that the second and the third member are in, without `@`.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// A project of its own, as [`Rig::project`], in which guests may be sent to members.
    ///
    /// # Errors
    ///
    /// When Incus does not make it.
    pub fn project(&self, limit: u32) -> Result<Project<'_>> {
        self.rig.project_with(limit, json!({ "restricted.cluster.target": "allow" }))
    }

    /// The member that an instance is on.
    ///
    /// # Errors
    ///
    /// When there is no such instance.
    pub fn location(&self, project: &Project<'_>, instance: &str) -> Result<String> {
        let found =
            self.rig.ask("GET", &format!("/1.0/instances/{instance}?project={}", project.name()), None)?;
        Ok(found["location"].as_str().context("location")?.to_owned())
    }

    /// Process id of a member's daemon now.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn daemon(&self, member: &str) -> Result<u32> {
        let text = fs::read_to_string(self.dir.join(format!("{member}.pid")))?;
        Ok(text.trim().parse()?)
    }

    /// Ends the daemon of a member with SIGKILL, as a crash of it would. Its guests go on.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn kill_member(&self, member: &str) -> Result<()> {
        ensure!(member != Self::MEMBERS[0], "the first member is the one that is asked");
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.daemon(member)?)?).context("pid")?;
        let waiter = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        let mut fds = [rustix::event::PollFd::new(&waiter, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None)?;
        Ok(())
    }

    /// Starts what was killed; returns when every member answers and is online.
    ///
    /// # Errors
    ///
    /// When one does not come up.
    pub fn start_members(&self) -> Result<()> {
        script_with("JERICHO_CLUSTER_DIR", &self.dir, &["cluster-up"]).map(drop)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The next one would do it too; but what a killed member has left is removed only while it runs.
        let _ = self.start_members();
    }
}

fn socket(dir: &Path, member: &str) -> PathBuf {
    dir.join(member).join("unix.socket")
}

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where the cluster is")]
fn directory() -> PathBuf {
    std::env::var_os("JERICHO_CLUSTER_DIR").map_or_else(|| DEFAULT_DIR.into(), PathBuf::from)
}
