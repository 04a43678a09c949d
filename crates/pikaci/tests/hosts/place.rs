//! A host to run jobs on: sshd and Incus of the rigs, and the user's file that names it.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jericho_testkit::incus::{Project, Rig};
use jericho_testkit::ssh;

use crate::common::{Ended, Tree};

/// A tree, and a host that its jobs can run on.
pub(crate) struct Place<'r> {
    pub(crate) tree: Tree,
    pub(crate) rig: &'r Rig,
    pub(crate) project: Project<'r>,
    programs: PathBuf,
}

impl<'r> Place<'r> {
    /// With a work directory that guests may see, and a file in place of the program to run jobs with.
    pub(crate) fn new(rig: &'r Rig, sshd: &'r ssh::Rig, targets: &str) -> Self {
        let tree = Tree::with_targets(targets);
        let programs = tree.outside().join("programs");
        let of_arch = programs.join(std::env::consts::ARCH);
        std::fs::create_dir_all(&of_arch).unwrap();
        std::fs::write(of_arch.join("jerichoci-incus-run"), "").unwrap();
        Self::with(rig, sshd, tree, programs)
    }

    /// One that jobs run on; nothing where there is no program to run them with.
    pub(crate) fn real(test: &str, rig: &'r Rig, sshd: &'r ssh::Rig, targets: &str) -> Option<Self> {
        let programs = jericho_testkit::program::guest_programs(test)?;
        Some(Self::with(rig, sshd, Tree::with_targets(targets), programs))
    }

    fn with(rig: &'r Rig, sshd: &'r ssh::Rig, tree: Tree, programs: PathBuf) -> Self {
        let place = Self { tree, rig, project: rig.project(4).unwrap(), programs };
        std::fs::DirBuilder::new().mode(0o700).create(place.work_dir()).unwrap();
        let ssh = format!("#!/bin/sh\nexec ssh -F {} \"$@\"\n", sshd.config().display());
        let program = place.tree.outside().join("ssh");
        std::fs::write(&program, ssh).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        place.say("rig", "");
        place
    }

    pub(crate) fn work_dir(&self) -> PathBuf {
        self.project.dir().join("work")
    }

    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }

    /// The state root, below what guests of this machine may see.
    pub(crate) fn state_root(&self) -> PathBuf {
        self.project.dir().join("state")
    }

    /// Has the user's file say that the host `box` is this destination, and what else.
    pub(crate) fn say(&self, destination: &str, more: &str) {
        self.write_user_file(destination, self.project.name(), self.rig.image_alias(), more);
    }

    pub(crate) fn write_user_file(&self, destination: &str, project: &str, image: &str, more: &str) {
        let (socket, work_dir) = (self.rig.socket().display(), self.work_dir());
        let work_dir = work_dir.display();
        let text = format!(
            "[hosts.box]\nssh = \"{destination}\"\nwork_dir = \"{work_dir}\"\n\
             [incus]\nproject = \"{project}\"\nprofile = \"default\"\nimage = \"{image}\"\nsocket = \"{socket}\"\n\
             [hosts.box.incus]\nproject = \"{project}\"\nprofile = \"default\"\nimage = \"{image}\"\nsocket = \"{socket}\"\n{more}"
        );
        std::fs::write(self.tree.outside().join("config.toml"), text).unwrap();
    }

    /// `pikaci` with these arguments and the user's file, to its end.
    pub(crate) fn pikaci(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args).output().unwrap())
    }

    pub(crate) fn command(&self, args: &[&str]) -> std::process::Command {
        let mut pikaci = self.tree.pikaci(args);
        pikaci
            .env("JERICHOCI_CONFIG", self.tree.outside().join("config.toml"))
            .env("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY", self.tree.outside().join("ssh"))
            .env("JERICHOCI_GUEST_RUNNER_DIR", self.programs())
            .env("JERICHOCI_STATE_ROOT", self.state_root());
        pikaci
    }
}
