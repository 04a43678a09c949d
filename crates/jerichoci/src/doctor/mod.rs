//! What a machine lacks to run jobs, and the command that mends it.
//!
//! Nothing is changed and nothing is left behind: a doctor looks. Over SSH everything goes the way that jobs go.
//!
//! | file | subject |
//! |---|---|
//! | `connection.rs` | ssh, and its master |
//! | `facts.rs` | what one script on the machine tells |
//! | `machine.rs` | work directory, disk, clock, programs |
//! | `guests.rs` | Incus: access, project, profile, storage, image |
//! | `mend.rs` | the commands that mend what guests lack |

mod connection;
pub(crate) mod facts;
mod guests;
mod machine;
pub(crate) mod mend;

use std::path::PathBuf;
use std::sync::Arc;

use jericho_host::{CancelToken, Host, HostError};
use pika_cloud::ops::{SocketHost, SshSockets};
use serde::Serialize;

use crate::config::{HostConfig, IncusConfig};
use crate::engine::{Engine, EngineError};
use crate::model::job::JobRuntimeKind;
use facts::{Asked, Facts};
use mend::{Mend, quoted};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// As it should be.
    Ok,
    /// Jobs run, or those that do not need it do; it could be better.
    Note,
    /// Jobs do not run.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at: `ssh`, `work_dir`, `incus_project`; always the same word for the same thing.
    pub check: &'static str,
    /// How it went.
    pub standing: Standing,
    /// What was found, in one line.
    pub found: String,
    /// A command, or a few of them, to be typed on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// Everything that was looked at on one machine. What could not be looked at, because something
/// before it failed, is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Name of the host; `local` for this machine.
    pub host: String,
    /// In the order in which things were looked at.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Whether jobs can run.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.checks.iter().all(|check| check.standing != Standing::Problem)
    }
}

impl Engine {
    /// Looks at this machine (`None`), or at a host by the name that jobs use. `tell` hears of each check as it is
    /// made.
    ///
    /// # Errors
    /// [`EngineError::Host`] when it was cancelled, or this machine refuses what every process may ask
    /// for. What is wrong with the host is in the diagnosis.
    pub fn doctor(
        &self,
        host: Option<&str>,
        cancel: &CancelToken,
        tell: &mut dyn FnMut(&Check),
    ) -> Result<Diagnosis, EngineError> {
        let mut visit = Visit::new(self, host, cancel, tell);
        match host {
            None => self.look_at_this_machine(&mut visit)?,
            Some(name) => self.look_at_host(name, &mut visit)?,
        }
        // A host that was given up since nobody waits for it any more is not what was asked about.
        visit.go_on()?;
        Ok(Diagnosis { host: host.unwrap_or("local").to_owned(), checks: visit.checks })
    }

    fn look_at_this_machine(&self, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        let config = &self.config;
        let place = Place {
            dir: config.state_root.clone(),
            dir_is: "state root",
            incus: config.incus.clone(),
            nix: config.nix_program.to_string_lossy().into_owned(),
            takes_guests: true,
            min_free: crate::config::MIN_FREE,
        };
        let facts =
            Facts::gather(self.host.as_ref(), &config.caller_environment, &place.asked(), visit.cancel)?;
        machine::check(visit, &place, &facts, &self.config.hosts.runner_dirs);
        guests::check(visit, &place, &facts, Arc::new(jericho_host::LocalHost::new()))
    }

    fn look_at_host(&self, name: &str, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        let settings = self.config.hosts.get(name);
        let Some(ssh) = connection::check(visit, &self.config, &settings)? else { return Ok(()) };
        let place = Place::of(&settings);
        let none = jericho_host::Environment::empty();
        let facts = match Facts::gather(ssh.as_ref() as &dyn Host, &none, &place.asked(), visit.cancel) {
            Ok(facts) => facts,
            Err(HostError::Cancelled(reason)) => return Err(HostError::Cancelled(reason).into()),
            Err(error) => {
                let mend = visit.ssh("sh -c 'id; df -Pk /'");
                visit.problem("account", format!("its shell does not do what it is told: {error}"), mend);
                return Ok(());
            }
        };
        machine::check(visit, &place, &facts, &self.config.hosts.runner_dirs);
        let sockets: Arc<dyn SocketHost> = Arc::new(SshSockets::new(ssh));
        guests::check(visit, &place, &facts, sockets)
    }
}

/// The settings of a machine, as far as they are looked at.
struct Place {
    /// Work directory, or state root.
    dir: PathBuf,
    /// Which of the two.
    dir_is: &'static str,
    incus: IncusConfig,
    nix: String,
    takes_guests: bool,
    /// With less room no run begins: the same as what a run looks at.
    min_free: u64,
}

impl Place {
    fn of(host: &HostConfig) -> Self {
        Self {
            dir: host.work_dir.clone(),
            dir_is: "work directory",
            incus: host.incus.clone(),
            nix: host.nix_program.clone(),
            takes_guests: host.allow.contains(&JobRuntimeKind::Incus),
            min_free: host.min_free,
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked { dir: &self.dir, socket: &self.incus.socket, nix: &self.nix }
    }

    fn mend(&self, visit: &Visit<'_>) -> Mend<'_> {
        Mend { destination: visit.destination.clone(), incus: &self.incus, dir: &self.dir }
    }
}

/// One look at one machine: what was found so far, and how commands reach it.
struct Visit<'v> {
    /// What ssh(1) takes; `None` for this machine.
    destination: Option<String>,
    cancel: &'v CancelToken,
    tell: &'v mut dyn FnMut(&Check),
    checks: Vec<Check>,
}

impl<'v> Visit<'v> {
    fn new(
        engine: &Engine,
        host: Option<&str>,
        cancel: &'v CancelToken,
        tell: &'v mut dyn FnMut(&Check),
    ) -> Self {
        let destination = host.map(|name| engine.config.hosts.get(name).ssh);
        Self { destination, cancel, tell, checks: Vec::new() }
    }

    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(Check { check, standing: Standing::Ok, found: found.into(), mend: None });
    }

    fn note(&mut self, check: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        let mend = Some(mend.into());
        self.add(Check { check, standing: Standing::Note, found: found.into(), mend });
    }

    fn problem(&mut self, check: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        let mend = Some(mend.into());
        self.add(Check { check, standing: Standing::Problem, found: found.into(), mend });
    }

    /// Whether somebody still waits for it.
    fn go_on(&self) -> Result<(), EngineError> {
        self.cancel.reason().map_or(Ok(()), |reason| Err(HostError::Cancelled(reason).into()))
    }

    fn add(&mut self, check: Check) {
        if self.cancel.is_cancelled() {
            return;
        }
        (self.tell)(&check);
        self.checks.push(check);
    }

    /// Whether this is another machine.
    const fn is_remote(&self) -> bool {
        self.destination.is_some()
    }

    /// A command of that machine, as it is typed on this one.
    fn ssh(&self, command: &str) -> String {
        mend::on(self.destination.as_deref(), command)
    }

    /// The same for what only root may do there.
    fn as_root(&self, facts: &Facts, command: &str) -> String {
        mend::as_root(self.destination.as_deref(), facts, command)
    }
}
