//! What version 3 of a run request adds, and its rules.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize};

use crate::glob::GlobSet;
use crate::spec::{RuntimePaths, check_canonical, check_path, check_paths};
use crate::validation::Problems;

/// The keys of version 3, in the order they are written.
pub(super) const KEYS: [&str; 9] =
    ["env_file", "cwd", "uid", "gid", "artifact_globs", "grace_secs", "log_cap_bytes", "runtime", "paths"];

/// Where the runner of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestRuntime {
    /// Inside a guest, which it has for itself.
    #[default]
    Incus,
    /// On a host that others use too.
    HostProcess,
}

impl GuestRuntime {
    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incus => "incus",
            Self::HostProcess => "host_process",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        [Self::Incus, Self::HostProcess].into_iter().find(|runtime| runtime.as_str() == word)
    }
}

/// What version 3 of a run request may say; all of it may be left out.
///
/// In a guest (`runtime` is [`Incus`](GuestRuntime::Incus)) the lifecycle files lie at their canonical
/// paths. A host process says `runtime`, `paths` and `cwd`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuestRunOptions {
    /// The environment of the command, a [`GuestEnvironment`](crate::GuestEnvironment), mode 0400; it is
    /// removed as soon as it was read.
    pub env_file: Option<String>,
    /// Working directory; `/workspace/snapshot` in a guest.
    pub cwd: Option<String>,
    /// User that runs the command; below 2^32 - 1, since that number is nobody's.
    pub uid: Option<u32>,
    /// Its group, likewise.
    pub gid: Option<u32>,
    /// Files below `cwd` that become artifacts, see [`crate::glob`].
    pub artifact_globs: Vec<String>,
    /// Between TERM and KILL, in seconds; 5 unless it is said.
    pub grace_secs: Option<u64>,
    /// Most bytes of the log; 1 GiB unless it is said.
    pub log_cap_bytes: Option<u64>,
    /// Where the runner is.
    pub runtime: GuestRuntime,
    /// Where the lifecycle files lie; the canonical paths unless it is said.
    pub paths: Option<RuntimePaths>,
}

impl GuestRunOptions {
    /// Reports every broken rule.
    pub(super) fn check(&self, problems: &mut Problems, run_as_root: bool) {
        if let Some(path) = &self.env_file {
            check_path(problems, "env_file", path);
        }
        if let Some(path) = &self.cwd {
            check_path(problems, "cwd", path);
        }
        self.check_user(problems, run_as_root);
        if let Err(refused) = GlobSet::new(&self.artifact_globs) {
            for (index, error) in refused {
                let glob = self.artifact_globs[index].as_str();
                let allowed = "a glob of files below the working directory";
                problems.add(format!("artifact_globs[{index}]"), glob, error.to_string(), allowed);
            }
        }
        if self.log_cap_bytes == Some(0) {
            problems.add("log_cap_bytes", 0, "is no size", BYTES);
        }
        self.check_places(problems);
    }

    fn check_user(&self, problems: &mut Problems, run_as_root: bool) {
        for (field, id) in [("uid", self.uid), ("gid", self.gid)] {
            if id == Some(u32::MAX) {
                problems.add(field, u32::MAX, "is the number of nobody at all", ID);
            }
        }
        match (run_as_root, self.uid) {
            (true, Some(uid @ 1..)) => {
                problems.add("uid", uid, "is not root, and run_as_root is true", "0, or no uid");
            }
            (false, Some(0)) => {
                problems.add("uid", 0, "is root, and run_as_root is false", "another user, or no uid");
            }
            _ => {}
        }
    }

    fn check_places(&self, problems: &mut Problems) {
        let host = self.runtime == GuestRuntime::HostProcess;
        match &self.paths {
            Some(paths) => {
                check_paths(problems, paths);
                if !host {
                    check_canonical(problems, paths);
                }
            }
            None if host => problems.missing("paths", "the paths of a host process"),
            None => {}
        }
        if host && self.cwd.is_none() {
            problems.missing("cwd", "the working directory of a host process");
        }
    }

    pub(super) fn serialize_into<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let Self { env_file, cwd, uid, gid, artifact_globs, grace_secs, log_cap_bytes, runtime, paths } =
            self;
        entry(map, "env_file", env_file.as_ref())?;
        entry(map, "cwd", cwd.as_ref())?;
        entry(map, "uid", *uid)?;
        entry(map, "gid", *gid)?;
        entry(map, "artifact_globs", (!artifact_globs.is_empty()).then_some(artifact_globs))?;
        entry(map, "grace_secs", *grace_secs)?;
        entry(map, "log_cap_bytes", *log_cap_bytes)?;
        entry(map, "runtime", (*runtime != GuestRuntime::Incus).then_some(runtime))?;
        entry(map, "paths", paths.as_ref())
    }
}

pub(super) const BYTES: &str = "a whole number of bytes above 0";
pub(super) const ID: &str = "a whole number from 0 to 4294967294";

fn entry<M: SerializeMap, T: Serialize>(map: &mut M, key: &str, value: Option<T>) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(key, &value),
        None => Ok(()),
    }
}
