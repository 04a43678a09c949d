//! What a table of a file may say: names, shapes and meanings of its keys, as data.
//!
//! The reader refuses what is not here, and the schema for editors and the tables of the
//! documentation are made of it, so that none of them can say something else.

use toml::de::DeTable;

use super::reader::{Key, Reader, Value, in_order};
use crate::targets::error::quoted;

/// A table with keys that are known.
#[derive(Debug)]
pub(crate) struct TableSpec {
    pub(crate) keys: &'static [KeySpec],
    /// Keys that must be there.
    pub(crate) required: &'static [&'static str],
    /// A matrix can fill in its texts.
    pub(crate) filled: bool,
    /// What people who know other tools write, and what it is here.
    pub(crate) elsewhere: &'static [(&'static str, &'static str)],
}

/// One key.
#[derive(Debug)]
pub(crate) struct KeySpec {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// What it says, in Markdown without line breaks.
    pub(crate) about: &'static str,
    /// What holds without it, in the same way.
    pub(crate) absent: &'static str,
}

/// What a value looks like.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A string.
    Text,
    /// One of these strings.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// A whole number from the first to the last.
    Integer(i64, i64),
    /// An array.
    List(&'static Shape),
    /// A table with these keys.
    Table(&'static TableSpec),
    /// A table whose keys are names that the file gives.
    Named(&'static Shape),
    /// A table whose keys are any words.
    Words(&'static Shape),
    /// One of several.
    Any(&'static [Shape]),
}

pub(crate) const fn key(
    name: &'static str,
    shape: Shape,
    about: &'static str,
    absent: &'static str,
) -> KeySpec {
    KeySpec { name, shape, about, absent }
}

/// The values that a table has for keys that are known.
#[derive(Debug)]
pub(crate) struct Fields<'d, 'i> {
    spec: &'static TableSpec,
    found: Vec<(Key<'d>, Value<'d, 'i>)>,
    /// Every key was known.
    pub(crate) understood: bool,
}

impl<'d, 'i> Fields<'d, 'i> {
    /// Sorts the entries of a table and reports keys that are not known. `place` ends the
    /// sentence that tells it, for example "in job `a`".
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        table: &'d DeTable<'i>,
        spec: &'static TableSpec,
        place: &str,
    ) -> Self {
        let mut fields = Self { spec, found: Vec::new(), understood: true };
        for (key, value) in in_order(table) {
            if spec.keys.iter().any(|known| known.name == key.name) {
                fields.found.push((key, value));
                continue;
            }
            fields.understood = false;
            match spec.elsewhere.iter().find(|(word, _)| *word == key.name) {
                Some((word, here)) => {
                    let message = format!("unknown key `{word}` {place}");
                    reader.problem(key.at, message, format!("did you mean `{here}`?"));
                }
                None => {
                    let known: Vec<&str> = spec.keys.iter().map(|key| key.name).collect();
                    reader.unknown_key(key, place, &known);
                }
            }
        }
        fields
    }

    /// The entry of a key.
    pub(crate) fn entry(&self, name: &str) -> Option<(Key<'d>, Value<'d, 'i>)> {
        debug_assert!(self.spec.keys.iter().any(|key| key.name == name), "{name} is not in the table");
        self.found.iter().copied().find(|(key, _)| key.name == name)
    }

    /// The value of a key.
    pub(crate) fn get(&self, name: &str) -> Option<Value<'d, 'i>> {
        self.entry(name).map(|(_, value)| value)
    }

    /// Reports the required keys that are missing, at the name of their table. Where a key was
    /// not understood, it may be the one.
    pub(crate) fn required(&self, reader: &mut Reader<'_>, at: Key<'_>, noun: &str) {
        for name in self.spec.required {
            if self.understood && self.entry(name).is_none() {
                reader.problem(at.at, format!("{noun} {} has no `{name}`", quoted(at.name)), "");
            }
        }
    }
}

/// The whole of `jericho.toml`.
pub(crate) const FILE: TableSpec = TableSpec {
    keys: &[
        key("version", Shape::Integer(1, 1), "version of the format", "`1`"),
        key("targets", Shape::Named(&Shape::Table(&TARGET)), "the targets, by name", "none"),
        key(
            "groups",
            Shape::Named(&Shape::Integer(1, i64::MAX)),
            "how many jobs may hold a place in the group at once, 1 or more",
            "`1`",
        ),
        key(
            "settings",
            Shape::Table(&SETTINGS),
            "settings of this repository, see [configuration.md](configuration.md)",
            "none",
        ),
    ],
    required: &[],
    filled: false,
    elsewhere: &[],
};

/// Settings that a file may have, of the repository or of the user.
pub(crate) const SETTINGS: TableSpec = TableSpec {
    keys: &[
        key(
            "max_concurrent_executes",
            Shape::Integer(1, i64::MAX),
            "jobs at once; flag `-j`",
            "the number of processors",
        ),
        key(
            "base_ref",
            Shape::Text,
            "revision that changes are counted from; flag `--base`",
            "the upstream's default branch",
        ),
        key(
            "host_local_nix_shell",
            Shape::Text,
            "dev shell of the flake for host jobs that name none",
            "none",
        ),
    ],
    required: &[],
    filled: false,
    elsewhere: &[
        ("jobs", "max_concurrent_executes"),
        ("base", "base_ref"),
        ("nix_shell", "host_local_nix_shell"),
    ],
};

pub(crate) const TRIGGERS: [&str; 3] = ["none", "branch", "nightly"];

pub(crate) const TARGET: TableSpec = TableSpec {
    keys: &[
        key("description", Shape::Text, "one line of text", "none"),
        key("paths", Shape::List(&Shape::Text), "array of patterns; see below", "always runs"),
        key("trigger", Shape::Word(&TRIGGERS), "when a forge runs it by itself", "`\"none\"`"),
        key(
            "default",
            Shape::Boolean,
            "`true`: `pikaci run` without a name runs it; one target at most",
            "`false`",
        ),
        key("jobs", Shape::Named(&Shape::Table(&JOB)), "the jobs, by name; at least one", "must be there"),
    ],
    required: &["jobs"],
    filled: false,
    elsewhere: &[],
};

pub(crate) const RUNTIMES: [&str; 3] = ["host_process", "incus", "tart"];
pub(crate) const ARTIFACTS_WHEN: [&str; 3] = ["always", "failure", "never"];
pub(crate) const GIT: [&str; 3] = ["none", "shallow", "full"];
pub(crate) const SHARING: [&str; 2] = ["locked", "shared"];
pub(crate) const DELIVERIES: [&str; 2] = ["env", "file"];
pub(crate) const PROFILES: [&str; 2] = ["rust", "followup"];
pub(crate) const ROLES: [&str; 2] = ["jericho-runner", "managed-openclaw"];

/// Attempts after the first, at most.
pub(crate) const MOST_RETRIES: i64 = 100;

pub(crate) const JOB: TableSpec = TableSpec {
    keys: &[
        key(
            "command",
            Shape::Any(&[Shape::Text, Shape::List(&Shape::Text)]),
            "string: a script for `bash -euo pipefail -c`; array: program and arguments, without a shell. With `staged`: a program in `bin/` of `build`",
            "must be there",
        ),
        key("description", Shape::Text, "one line of text", "the name of the job"),
        key(
            "needs",
            Shape::List(&Shape::Text),
            "array of names of jobs of the same target that must have passed; a job with a `matrix` stands for all of its jobs",
            "`[]`",
        ),
        key(
            "matrix",
            Shape::Named(&Shape::List(&Shape::Text)),
            "one job for each combination of these values; see below",
            "one job",
        ),
        key(
            "timeout",
            Shape::Text,
            "whole hours, minutes, seconds, in this order: `\"90s\"`, `\"5m\"`, `\"1h30m\"`; up to a year",
            "`\"1h\"`",
        ),
        key(
            "retries",
            Shape::Integer(0, MOST_RETRIES),
            "attempts after one that failed, at most 100; a pass after a failure is reported as flaky",
            "`0`",
        ),
        key("env", Shape::Words(&Shape::Text), "table of variables, each a string", "`{}`"),
        key(
            "secrets",
            Shape::List(&Shape::Any(&[Shape::Text, Shape::Table(&SECRET)])),
            "variables of the caller that nothing may show: names, or tables `{ name, delivery }`; see below",
            "`[]`",
        ),
        key(
            "caches",
            Shape::Named(&Shape::Any(&[Shape::Text, Shape::Table(&CACHE)])),
            "directories that are kept from run to run, by name: a path, or a table `{ path, sharing }`; see below",
            "`{}`",
        ),
        key(
            "artifacts",
            Shape::List(&Shape::Text),
            "array of patterns of files in the workspace that are kept with the run, beside what lies in `$ARTIFACTS`",
            "`[]`",
        ),
        key(
            "artifacts_when",
            Shape::Word(&ARTIFACTS_WHEN),
            "when they are kept; `failure`: when the job did not pass",
            "`\"always\"`",
        ),
        key("group", Shape::Text, "name of a resource group in which the job takes one place", "none"),
        key(
            "git",
            Shape::Word(&GIT),
            "what the job finds as `.git` in its workspace: nothing, the commit alone, or its whole history",
            "`\"none\"`",
        ),
        key("runtime", Shape::Word(&RUNTIMES), "in what isolation it runs", "`\"host_process\"`"),
        key(
            "on",
            Shape::Text,
            "`\"local\"`, or a host of the [user's file](configuration.md)",
            "`\"local\"`",
        ),
        key("nix_shell", Shape::Text, "name of a dev shell of the flake; for `host_process`", "no dev shell"),
        key(
            "image",
            Shape::Text,
            "alias of the image, for `incus`; virtual machine that is cloned, for `tart`",
            "that of `role`",
        ),
        key(
            "role",
            Shape::Word(&ROLES),
            "role of the guest, which says its image; for `incus`",
            "`\"jericho-runner\"`",
        ),
        key(
            "target",
            Shape::Text,
            "member of the cluster that the guest goes to, or group of members as `@GROUP`; for `incus`",
            "as the host says",
        ),
        key(
            "writable",
            Shape::Boolean,
            "whether a guest may write its workspace; a host process always may, in a private copy",
            "`false` in guests",
        ),
        key(
            "network",
            Shape::Boolean,
            "whether it has a network; only `incus` can be without",
            "`false` for `incus`",
        ),
        key("cpus", Shape::Integer(1, 255), "virtual processors of the guest", "as the host says"),
        key(
            "memory",
            Shape::Text,
            "memory of the guest, `\"512MiB\"`, `\"4GiB\"`, at least `\"16MiB\"`",
            "as the host says",
        ),
        key("disk", Shape::Text, "root disk of the guest, `\"20GiB\"`", "as the host says"),
        key("root", Shape::Boolean, "whether it runs as root of the guest; for `incus`", "`false`"),
        key("staged", Shape::Table(&STAGED), "prepared outputs that it runs from; see below", "none"),
    ],
    required: &["command"],
    filled: true,
    elsewhere: &[
        ("cache", "caches"),
        ("cmd", "command"),
        ("container", "image"),
        ("depends", "needs"),
        ("depends_on", "needs"),
        ("deps", "needs"),
        ("environment", "env"),
        ("exec", "command"),
        ("groups", "group"),
        ("host", "on"),
        ("retry", "retries"),
        ("run", "command"),
        ("runs-on", "on"),
        ("script", "command"),
        ("shell", "nix_shell"),
        ("steps", "command"),
        ("strategy", "matrix"),
    ],
};

pub(crate) const CACHE: TableSpec = TableSpec {
    keys: &[
        key(
            "path",
            Shape::Text,
            "where the job sees it: below the workspace for a host process, absolute in a guest",
            "must be there",
        ),
        key(
            "sharing",
            Shape::Word(&SHARING),
            "`locked`: one job at a time, the others wait; `shared`: any number at once",
            "`\"locked\"`",
        ),
    ],
    required: &["path"],
    filled: true,
    elsewhere: &[],
};

pub(crate) const SECRET: TableSpec = TableSpec {
    keys: &[
        key("name", Shape::Text, "name of the variable in the caller's environment", "must be there"),
        key(
            "delivery",
            Shape::Word(&DELIVERIES),
            "`env`: as the variable `NAME`; `file`: as a file whose path is in `NAME_FILE`",
            "`\"env\"`",
        ),
    ],
    required: &["name"],
    filled: true,
    elsewhere: &[],
};

pub(crate) const STAGED: TableSpec = TableSpec {
    keys: &[
        key("deps", Shape::Text, "flake attribute of the compiled dependencies", "must be there"),
        key(
            "build",
            Shape::Text,
            "flake attribute of the compiled tests and their wrappers",
            "must be there",
        ),
        key("prefix", Shape::Text, "name under which jobs share the two", "must be there"),
        key(
            "profile",
            Shape::Word(&PROFILES),
            "what of the source tree is left out: `rust`: `ios` and `android`; `followup`: `ios`",
            "`\"rust\"`",
        ),
    ],
    required: &["deps", "build", "prefix"],
    filled: true,
    elsewhere: &[],
};
