//! What a row of the tables can say.

use jerichoci::model::demands::WorkspaceGit;

use super::staged::{PikaStagedLinuxLane, PikaStagedLinuxTarget};
use crate::targets::Trigger;

/// A target.
#[derive(Debug)]
pub(super) struct TargetRow {
    /// What a user types.
    pub(super) id: &'static str,
    /// What a forge shows.
    pub(super) title: &'static str,
    /// One line for people.
    pub(super) description: &'static str,
    /// What a forge does with it.
    pub(super) trigger: Trigger,
    /// What a forge must not run beside it.
    pub(super) group: Group,
    /// In the order in which they are listed.
    pub(super) jobs: &'static [&'static JobRow],
}

/// Lanes of one group never run at once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Group {
    /// Beside anything.
    None,
    /// By name.
    Named(&'static str),
    /// A group of its own, named after the staged target that it is.
    StagedLinux(PikaStagedLinuxTarget),
}

impl Group {
    /// Its name.
    pub(super) fn name(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Named(name) => Some(name.to_owned()),
            Self::StagedLinux(target) => Some(format!("staged-linux:{}", target.id())),
        }
    }
}

/// A job. What it sees of its surroundings is stated, never assumed.
#[derive(Debug)]
pub(super) struct JobRow {
    /// Unique in the catalog.
    pub(super) id: &'static str,
    /// One line for people.
    pub(super) description: &'static str,
    /// Limit in seconds.
    pub(super) timeout_secs: u64,
    /// Where it runs, with what is needed there.
    pub(super) place: Place,
    /// Whether it asks to write its workspace. A host process always may.
    pub(super) writable_workspace: bool,
    /// What it runs; a staged job runs the wrapper of its lane.
    pub(super) command: Command,
    /// Variables with their values.
    pub(super) env: &'static [(&'static str, &'static str)],
    /// Variables that it takes from its caller.
    pub(super) pass_env: &'static [&'static str],
    /// What of the repository it finds in its workspace.
    pub(super) git: WorkspaceGit,
}

/// Where a job runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// A process of this machine, in this dev shell when one is named.
    Host {
        /// Dev shell of the tree's flake.
        nix_shell: Option<&'static str>,
    },
    /// A guest on the build host that runs the wrapper of a lane.
    StagedIncus(PikaStagedLinuxLane),
    /// A guest on the build host, with a network.
    Incus,
    /// A macOS VM on this machine.
    Tart {
        /// Whether it sees the Rust toolchain of the host.
        mount_host_rust_toolchain: bool,
    },
}

/// What a job runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    /// A command line or script for a login shell of the host.
    Host(&'static str),
    /// A command line or script for a login shell of the guest.
    Guest(&'static str),
    /// The same as root of the guest.
    GuestAsRoot(&'static str),
    /// Library unit tests of a package.
    PackageUnitTests(&'static str),
    /// All tests of a package.
    PackageTests(&'static str),
    /// Tests of a package by a part of their names.
    FilteredCargoTests(&'static str, &'static str),
    /// One test of a package by its whole name.
    ExactCargoTest(&'static str, &'static str),
}
