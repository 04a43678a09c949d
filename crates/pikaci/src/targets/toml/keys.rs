//! The keys of `jericho.toml`: those that work, and those that a later version will read.

/// Keys of one kind of table.
pub(super) struct Keys {
    /// Keys that work.
    pub(super) known: &'static [&'static str],
    /// Keys that mean something, but not to this version: never ignored.
    pub(super) later: &'static [&'static str],
}

/// The top of the file.
pub(super) const TOP: Keys = Keys { known: &["version", "targets", "groups"], later: &[] };

/// A target.
pub(super) const TARGET: Keys =
    Keys { known: &["description", "paths", "default", "trigger", "jobs"], later: &[] };

/// A job.
pub(super) const JOB: Keys = Keys {
    known: &["command", "description", "needs", "timeout", "env", "runtime", "nix_shell", "group"],
    later: &[
        "matrix",
        "retries",
        "on",
        "image",
        "role",
        "writable",
        "network",
        "cpus",
        "memory",
        "disk",
        "root",
        "caches",
        "secrets",
        "artifacts",
        "artifacts_when",
        "git",
        "staged",
    ],
};
