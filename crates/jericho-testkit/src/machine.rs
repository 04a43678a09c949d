//! A machine that nobody has made a build host yet: a real sshd, and an Incus as Debian's package leaves it.
//!
//! Its `/var/lib/incus` and `/var/tmp` are its own, and so is the network that its Incus makes bridges in; whoever
//! logs in by its sshd sees them. So a script may set it up with all its defaults, and nothing of this machine changes.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::incus::{Rig, is_possible, own_directory};
use crate::{crate_dir, need, ssh};

/// What `scripts/setup-build-host` would otherwise install, beside the daemons.
const PROGRAMS: [&str; 5] = ["incus", "dnsmasq", "sudo", "nsenter", "unshare"];

/// The machine; it goes with the value, and with the process that has it.
pub struct Machine {
    // In the order of their end.
    sshd: ssh::Rig,
    incus: Rig,
    _life: Life,
}

/// What ends the daemon when nothing can be read from its parent any more.
struct Life(Child);

impl Machine {
    /// A new one for the test called `test`. Nothing, and a record of the refusal, where it cannot be: without
    /// root, or without its programs.
    ///
    /// # Panics
    ///
    /// When it should come up and does not; and as [`need::needs`].
    #[must_use]
    pub fn bare(test: &str) -> Option<Self> {
        if !is_possible(test) || !PROGRAMS.iter().all(|program| need::needs_program(test, program)) {
            return None;
        }
        let (life, incus) =
            Self::bring_up(&own_directory()).unwrap_or_else(|error| panic!("no machine: {error:#}"));
        let sshd = ssh::Rig::start_among_mounts_of(test, life.0.id())?;
        Some(Self { sshd, incus, _life: life })
    }

    fn bring_up(dir: &Path) -> Result<(Life, Rig)> {
        let mut child = script()
            .arg("machine")
            .env("JERICHO_RIG_DIR", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A test that is ended for its slowness is ended with its group: this one is to clean up then.
            .process_group(0)
            .spawn()
            .context("scripts/rig")?;
        let output = child.stdout.take().context("its output")?;
        let life = Life(child);
        let mut described = String::new();
        BufReader::new(output).read_line(&mut described)?;
        let incus = Rig::join(dir)?.with_context(|| format!("scripts/rig machine: {described}"))?;
        Ok((life, incus))
    }

    /// Its sshd; the host `rig` of its configuration.
    #[must_use]
    pub fn sshd(&self) -> &ssh::Rig {
        &self.sshd
    }

    /// Its Incus, to be asked.
    #[must_use]
    pub fn incus(&self) -> &Rig {
        &self.incus
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the rig must not depend on the code under test")]
fn script() -> Command {
    Command::new(crate_dir!().join("../../scripts/rig"))
}
