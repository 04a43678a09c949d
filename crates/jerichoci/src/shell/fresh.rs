//! A shell in a fresh guest: it is made as for the job, with a command that does nothing, and goes with the
//! shell.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jericho_host::{CancelToken, HostError, OutputSink};
use pika_cloud::ops::{Console, InstanceRef};

use super::keep::{Keeping, RENEWED};
use super::place::{Dir, source};
use super::{Opened, Shell, Tell, guest};
use crate::engine::EngineError;
use crate::executor::after::{Cleanup, Fate};
use crate::executor::workspace::RunSource;
use crate::executor::{JobContext, JobLog, Prepared, Tools, for_job};
use crate::limit::Limited;
use crate::model::id::RunId;
use crate::model::job::{GuestCommand, JobPlacement, JobSpec};
use crate::model::outcome::Verdict;
use crate::model::record::RemoteLinuxVmExecutionRecord;
use crate::run::guests::Problem;
use crate::run::prepare::look::{Look, Outputs};
use crate::run::reap::{ReapOptions, reaper};
use crate::run::store::prepare_state_root;

/// How long a guest may take to go once the shell was cancelled.
const AFTER_CANCEL: Duration = Duration::from_secs(2);

/// The job itself is what somebody at the terminal may start.
const NOTHING: &str = ":";

pub(super) fn open(shell: &Shell<'_>, console: &mut dyn Console, tell: &mut Tell<'_>) -> Opened {
    let (engine, layout) = (shell.engine, shell.layout());
    let identity = prepare_state_root(&layout, &engine.ids.fresh())?;
    let hosts = engine.hosts(identity.engine_id);
    let tools = engine.tools(hosts);
    tools.hosts.heed(shell.cancel);
    let (_pinned, source) = source(shell)?;
    let id = RunId::new(engine.clock.now(), &engine.ids.fresh());
    let dir = Dir::make(&layout, &id)?;
    let place = match &shell.job.placement {
        JobPlacement::Local => "this machine".to_owned(),
        JobPlacement::RemoteSsh { host } => host.clone(),
    };
    tell(&format!("making a guest on {place} with the snapshot and the image of the job"));
    let mut log = Told { tell };
    let held = outputs(shell, &tools, &source, (&id, &dir.path), &mut log)?;
    let mounts = held.as_ref().map(|outputs| outputs.mounts.clone()).unwrap_or_default();
    let prepared = Prepared { mounts, ..Prepared::default() };
    let job = like(shell.job);
    let report = for_job(&job, &tools).execute(JobContext {
        spec: &job,
        args: &[],
        prepared: &prepared,
        run_id: id.as_str(),
        tag: format!("{id}/{}/{}", job.id, engine.ids.fresh()),
        cache_dir: &dir.path.join("cache"),
        scratch: &dir.path.join("scratch"),
        artifacts: &dir.path,
        dir: &dir.path,
        may_be_kept: false,
        for_a_person: true,
        log: &mut log,
        guest_log: &mut Silent,
        masker: None,
        source: &source,
        cancel: shell.cancel,
    });
    let guest = Guest { cleanup: report.cleanup, cancel: shell.cancel.clone() };
    report.outcome.left_behind.iter().for_each(|line| (log.tell)(line));
    let opened = match report.outcome.verdict {
        Verdict::Passed => enter(shell, &job, report.guest, console),
        _ => Err(shell.cancelled().unwrap_or_else(|| shell.error(report.outcome.message))),
    };
    guest.end().iter().for_each(|line| (log.tell)(line));
    drop(held);
    opened
}

/// Opens the shell itself.
fn enter(
    shell: &Shell<'_>,
    job: &JobSpec,
    guest: Option<RemoteLinuxVmExecutionRecord>,
    console: &mut dyn Console,
) -> Opened {
    let engine = shell.engine;
    let record = guest.and_then(|guest| Some((guest.incus_image?.project, guest.instance?)));
    let (Some((project, name)), Some((reaper, _))) =
        (record, reaper(engine, &ReapOptions::default(), shell.cancel)?)
    else {
        return Err(shell.error("the guest is gone".to_owned()));
    };
    let instance = InstanceRef { project, name };
    let place = reaper.place_of(&job.placement);
    let refused = |problem: Problem| shell.refused(&reaper, &place, problem);
    let incus = reaper.incus(&place, shell.cancel).map_err(refused)?;
    let keeping = Keeping::begin(&incus, &instance, None, &engine.clock, RENEWED);
    let keeping = keeping.map_err(|error| refused(error.into()))?;
    let opened = guest::attach(shell, &incus, &instance, (console, &refused));
    drop(keeping);
    opened
}

/// The prepared outputs of a staged job. Somebody may want to look just because they cannot be had.
fn outputs(
    shell: &Shell<'_>,
    tools: &Tools,
    source: &RunSource,
    (id, dir): (&RunId, &Path),
    log: &mut Told<'_, '_>,
) -> Result<Option<Outputs>, EngineError> {
    let Some(staged) = &shell.job.staged else { return Ok(None) };
    (log.tell)("realising the prepared outputs of the job, where they are gone");
    let (job, cancel) = (shell.job, shell.cancel);
    let outputs = Look { job, tools, source, id: id.as_str(), dir, cancel }.outputs(staged, log);
    match (outputs, shell.cancel.reason()) {
        (_, Some(reason)) => Err(HostError::Cancelled(reason).into()),
        (Ok(outputs), None) => Ok(Some(outputs)),
        (Err(why), None) => {
            (log.tell)(&format!("the guest has no prepared outputs, nothing below /staged: {why}"));
            Ok(None)
        }
    }
}

/// The job as far as its guest goes.
fn like(job: &JobSpec) -> JobSpec {
    let command = match &job.command {
        GuestCommand::ShellCommandAsRoot { .. } => {
            GuestCommand::ShellCommandAsRoot { command: NOTHING.to_owned() }
        }
        _ => GuestCommand::ShellCommand { command: NOTHING.to_owned() },
    };
    let mut job = JobSpec { command, ..job.clone() };
    job.secrets.clear();
    job.artifacts.clear();
    job.staged = None;
    job
}

/// A guest that goes when this does.
struct Guest {
    cleanup: Option<Cleanup>,
    cancel: CancelToken,
}

impl Guest {
    /// Ends it; what of it is left, one line each.
    fn end(mut self) -> Vec<String> {
        self.remove()
    }

    fn remove(&mut self) -> Vec<String> {
        // Whoever was cancelled still tidies up, and not for long.
        let (Some(cleanup), Ok(limited)) = (self.cleanup.take(), Limited::of(Duration::MAX)) else {
            return Vec::new();
        };
        let hurry = Mutex::new(Some(limited.renewal(AFTER_CANCEL)));
        self.cancel.on_cancel(move |_reason| {
            if let Some(hurry) = hurry.lock().unwrap_or_else(PoisonError::into_inner).take() {
                hurry();
            }
        });
        limited.hears_force(&self.cancel);
        cleanup.carry_out(Fate::Remove, limited.token()).left_behind
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // What could not be removed is found by the next reaping.
        let _ = self.remove();
    }
}

/// Lines of the engine for somebody who waits; what the command prints is nothing.
struct Told<'t, 'f> {
    tell: &'t mut Tell<'f>,
}

impl OutputSink for Told<'_, '_> {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl JobLog for Told<'_, '_> {
    fn engine_line(&mut self, line: &str) -> io::Result<()> {
        (self.tell)(line);
        Ok(())
    }
}

struct Silent;

impl OutputSink for Silent {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
