//! The machine on which the guest of a job is made: this one, or a host over SSH.
//!
//! What differs between them is how Incus is reached, and how the runner and the snapshot get there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jericho_host::{CancelToken, Environment, Host, LocalHost, SystemIds};
use pika_cloud::ops::{Incus, InstanceRef, OpsError, Patience};

use super::intent::GuestPlace;
use super::member::Member;
use super::snapshot::{self, Hold, MountSource};
use super::spec::Image;
use super::{errors, kit};
use crate::config::IncusConfig;
use crate::doctor::facts::{Asked, Facts};
use crate::doctor::mend::{Mend, quoted};
use crate::executor::failure::Failure;
use crate::executor::{JobContext, JobLog, Tools};
use crate::limit::Limited;
use crate::model::job::JobRuntimeKind;
use crate::remote::{BuildHost, Hosts, Ready, RemoteError};

/// How long a host may say nothing. ssh(1) calls it gone after 60 s, and then the connection is made anew.
const SILENCE: Duration = Duration::from_secs(75);

/// How long a machine may take to say what it lacks.
const FACTS: Duration = Duration::from_secs(5);

/// The machine of a guest.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) config: IncusConfig,
    pub(super) incus: Incus,
    /// Where the sources of guests lie there.
    dir: PathBuf,
    machine: Machine,
}

#[derive(Debug, Clone)]
enum Machine {
    This,
    Host(Arc<BuildHost>),
}

/// What of a machine a guest is given beside the source.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The directory of the runner on that machine; absent where the image has to have one.
    pub(super) runner_dir: Option<PathBuf>,
    /// A host that is ready.
    pub(super) ready: Option<Ready>,
}

impl Place {
    /// Of this host, or this machine. Nothing is connected yet.
    pub(super) fn of(host: Option<&str>, tools: &Tools, cancel: &CancelToken) -> Result<Self, Failure> {
        let settings = &tools.config;
        let mut patience = Patience { reconnect: settings.hosts.reconnect, ..Patience::default() };
        let (config, incus, dir, machine) = match host {
            None => {
                let config = settings.incus.clone();
                let incus = Incus::new(Arc::new(LocalHost::new()), &config.socket, cancel);
                (config, incus, settings.state_root.clone(), Machine::This)
            }
            Some(host) => {
                let host = tools.hosts.get(host).map_err(|error| Failure::of_host(cancel, error))?;
                patience.request = SILENCE;
                host.permit(JobRuntimeKind::Incus).map_err(|error| Failure::of_host(cancel, error))?;
                let config = host.config();
                (config.incus.clone(), host.incus(cancel), config.work_dir.clone(), Machine::Host(host))
            }
        };
        let incus = incus.with_patience(patience).with_clock(Arc::clone(&tools.clock), Arc::new(SystemIds));
        Ok(Self { config, incus, dir, machine })
    }

    /// The machine of guests that were made before, also where today's settings name another place there.
    pub(super) fn of_guests(
        place: &GuestPlace,
        hosts: &Hosts,
        cancel: &CancelToken,
    ) -> Result<Self, RemoteError> {
        let settings = hosts.config();
        let (mut config, incus, dir, machine) = match &place.host {
            None => {
                let incus = Incus::new(Arc::new(LocalHost::new()), &place.socket, cancel);
                (settings.incus.clone(), incus, settings.state_root.clone(), Machine::This)
            }
            Some(name) => {
                let host = hosts.get(name)?;
                let config = host.config();
                (config.incus.clone(), host.incus(cancel), config.work_dir.clone(), Machine::Host(host))
            }
        };
        config.socket.clone_from(&place.socket);
        config.project.clone_from(&place.project);
        Ok(Self { config, incus, dir, machine })
    }

    /// Makes sure that the machine can be asked.
    pub(super) fn connect(&self, log: &mut dyn FnMut(&str), cancel: &CancelToken) -> Result<(), Failure> {
        let Machine::Host(host) = &self.machine else { return Ok(()) };
        host.ready(log, cancel).map(drop).map_err(|error| Failure::of_host(cancel, error))
    }

    /// Nothing is needed of the machine for the moment.
    pub(super) fn reap_now(&self) {
        if let Machine::Host(host) = &self.machine {
            host.reap_now();
        }
    }

    /// For messages.
    pub(super) fn name(&self) -> &str {
        match &self.machine {
            Machine::This => "local",
            Machine::Host(host) => host.name(),
        }
    }

    /// As it is written down.
    pub(super) fn record(&self) -> GuestPlace {
        let host = match &self.machine {
            Machine::This => None,
            Machine::Host(host) => Some(host.name().to_owned()),
        };
        GuestPlace::new(host, self.config.socket.clone(), self.config.project.clone())
    }

    /// What mends it.
    pub(super) fn mend(&self) -> Mend<'_> {
        let destination = match &self.machine {
            Machine::This => None,
            Machine::Host(host) => Some(host.config().ssh.clone()),
        };
        Mend { destination, incus: &self.config, dir: &self.dir }
    }

    /// Who knows more.
    pub(super) fn doctor(&self) -> String {
        match &self.machine {
            Machine::This => "`pikaci doctor` says more".to_owned(),
            Machine::Host(host) => format!("`pikaci doctor {}` says more", quoted(host.name())),
        }
    }

    /// What the machine says of itself, when it says it soon.
    pub(super) fn facts(&self, cancel: &CancelToken) -> Option<Facts> {
        let limited = Limited::within(FACTS, cancel).ok()?;
        let asked = Asked { dir: &self.dir, socket: &self.config.socket, nix: "nix" };
        let ask = |host: &dyn Host| Facts::gather(host, &Environment::empty(), &asked, limited.token()).ok();
        match &self.machine {
            Machine::This => ask(&LocalHost::new()),
            Machine::Host(host) => ask(host.ssh().as_ref()),
        }
    }

    /// What to tell of an operation on its Incus that failed.
    pub(super) fn failed(&self, error: &OpsError, image: Option<&Image>, cancel: &CancelToken) -> Failure {
        match (error, cancel.reason()) {
            (OpsError::Cancelled(reason), _) => Failure::Cancelled(*reason),
            (_, Some(reason)) => Failure::Cancelled(reason),
            _ => Failure::Errored(errors::explain(error, self, image, cancel)),
        }
    }

    /// What time it is there.
    pub(super) fn now(&self, tools: &Tools) -> DateTime<Utc> {
        let there = match &self.machine {
            Machine::This => None,
            // One that does not say it will not answer the next question either.
            Machine::Host(_) => self.incus.time().ok().flatten(),
        };
        there.unwrap_or_else(|| tools.clock.now())
    }

    /// Makes ready what a guest is given there.
    pub(super) fn prepare(&self, job: &mut JobContext<'_>, tools: &Tools) -> Result<Prepared, Failure> {
        match &self.machine {
            Machine::This => {
                let config = &tools.config;
                let runner = kit::find_runner(&config.hosts.runner_dirs, std::env::consts::ARCH);
                let kits = config.state_root.join("cache").join("guest-runner");
                let runner_dir = runner.map(|runner| kit::deliver(&kits, &runner)).transpose();
                let runner_dir = runner_dir.map_err(|error| {
                    Failure::Errored(format!("the runner cannot be brought to where guests see it: {error}"))
                })?;
                Ok(Prepared { runner_dir, ready: None })
            }
            Machine::Host(host) => {
                let ready = host
                    .ready(&mut |line| quietly(job.log, line), job.cancel)
                    .map_err(|error| Failure::of_host(job.cancel, error))?;
                let runner_dir = ready.runner.parent().map(Path::to_path_buf);
                Ok(Prepared { runner_dir, ready: Some(ready) })
            }
        }
    }

    /// Brings the source to where a guest can be given it.
    pub(super) fn stage(
        &self,
        job: &mut JobContext<'_>,
        prepared: &Prepared,
        tools: &Tools,
        instance: &InstanceRef,
        member: Option<String>,
    ) -> Result<MountSource, Failure> {
        if let Some(member) = member {
            return self.stage_on(member, job, prepared, tools);
        }
        match (&self.machine, &prepared.ready) {
            (Machine::Host(host), Some(ready)) => snapshot::on_host(host, ready, job, tools, instance),
            _ => snapshot::on_this_machine(job.source, job.dir, job.may_be_kept, job.cancel),
        }
    }
}

impl Place {
    /// Brings source and runner to a member of the cluster that the machine is of.
    fn stage_on(
        &self,
        name: String,
        job: &mut JobContext<'_>,
        prepared: &Prepared,
        tools: &Tools,
    ) -> Result<MountSource, Failure> {
        let here = self.incus.server().map_err(|error| self.failed(&error, None, job.cancel))?;
        if !job.prepared.mounts.is_empty() && here.environment.server_name != name {
            let here = here.environment.server_name;
            return Err(Failure::Errored(format!(
                "the prepared outputs of the job are on the member {here} of the cluster, and it was to run on {name}; \
                 name that member: --incus-target {here}"
            )));
        }
        let arch = prepared.ready.as_ref().map_or(std::env::consts::ARCH, |ready| ready.arch.as_str());
        let runner = kit::find_runner(&tools.config.hosts.runner_dirs, arch);
        let member = Member { place: self, name, now: self.now(tools) };
        let on = member.bring(job.source, runner.as_deref(), job.cancel)?;
        let files = job.source.manifest().len();
        let how = if on.is_new { "sent" } else { "is there" };
        quietly(
            job.log,
            &format!(
                "snapshot on the cluster member {}: {how}, volume {}, {files} files",
                on.member, on.snapshot
            ),
        );
        Ok(MountSource { source: on.snapshot.clone(), hold: Hold::Volume, on: Some(on) })
    }
}

/// A line that nobody waits for: a log that cannot be written shows with the next one that matters.
pub(super) fn quietly(log: &mut dyn JobLog, line: &str) {
    let _ = log.engine_line(line);
}
