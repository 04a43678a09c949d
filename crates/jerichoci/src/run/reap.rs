//! Puts in order what an engine that died has left: processes, logs, records.
//!
//! Runs at the start of every run and of every collection. It looks only at the runs that have
//! no terminal record, so it costs nothing however many runs there are.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelToken, Leaked, LocalHost};

use super::guests::{Others, ReapedGuests, Reaper};
use super::journal::read_journal;
use super::known;
use super::layout::{Layout, RunLayout};
use super::logs;
use super::owner::{Ownership, is_alive};
use super::prepare::roots::may_have_guest;
use super::recover::interrupted;
use super::store::{RunStore, file_error, prepare_state_root, read_json, refuse_links};
use crate::beneath;
use crate::engine::{Engine, EngineError};
use crate::executor::after::{Cleaned, Cleanup};
use crate::executor::incus::GuestPlace;
use crate::executor::process::JOB_TAG;
use crate::model::event::{JournalEntry, RunLifecycleEvent};
use crate::model::id::{RunId, check_name};
use crate::model::job::{JobPlacement, JobRuntimeKind, JobSpec};
use crate::model::outcome::Verdict;
use crate::model::record::{KeptInstanceRecord, RunRecord};
use crate::remote::Hosts;
use crate::shell;

/// What was put in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReapReport {
    /// Runs that are marked as interrupted now.
    pub runs: Vec<String>,
    /// Processes that were ended, as `<command> (pid <pid>)`.
    pub processes: Vec<String>,
    /// Processes of hosts that were ended, or had ended and left something, as `<run>/<job> on <host>`.
    pub jobs: Vec<String>,
    /// Guests that were ended, as `instance <name> in project <project> on <host>`. A run sees to them in its
    /// background.
    pub instances: Vec<String>,
    /// Guests that a person wants to look at.
    pub kept: Vec<KeptInstanceRecord>,
    /// Guests of other state roots whose lease is over, and that were left alone since nobody asked for
    /// [`ReapOptions::expired`].
    pub outlived: Vec<String>,
    /// What could not be put in order, one line each.
    pub problems: Vec<String>,
}

/// What is put in order, beside the runs of a state root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReapOptions {
    /// Guests on these hosts too, by the names that jobs use; where this state root has made guests is
    /// looked in any case, unless `only` is said.
    pub hosts: Vec<String>,
    /// On no other hosts. This machine is looked at in any case.
    pub only: bool,
    /// Guests whose lease is over, whoever has made them.
    pub expired: bool,
    /// Say what would be ended, and end nothing.
    pub dry_run: bool,
}

impl ReapReport {
    fn add(&mut self, guests: ReapedGuests) {
        self.instances.extend(guests.ended);
        self.kept.extend(guests.kept);
        self.outlived.extend(guests.outlived);
        self.problems.extend(guests.unreachable);
        self.problems.extend(guests.problems);
    }

    /// What a person should know of it, one line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let runs = self.runs.iter().map(|run| format!("run {run} was interrupted: its engine died"));
        let processes =
            self.processes.iter().map(|process| format!("left by a dead engine and ended: {process}"));
        let instances =
            self.instances.iter().map(|guest| format!("left by a dead engine and ended: {guest}"));
        let processes = processes.chain(instances);
        let problems = self.problems.iter().map(|problem| format!("not put in order: {problem}"));
        runs.chain(processes).chain(problems).collect()
    }
}

/// How long the processes of a dead engine get between TERM and KILL: somebody waits.
const GRACE: Duration = Duration::from_secs(1);

/// Puts in order what was left under the engine's state root. What shells have left is removed behind the caller's back.
pub(crate) fn reap(engine: &Engine) -> Result<ReapReport, EngineError> {
    let report = reap_runs(engine)?;
    shell::sweep_behind(&Layout::new(&engine.config.state_root));
    Ok(report)
}

/// The same for who waits for all of it, until the token is cancelled.
fn reap_wholly(engine: &Engine, cancel: &CancelToken) -> Result<ReapReport, EngineError> {
    let report = reap_runs(engine)?;
    shell::sweep(&Layout::new(&engine.config.state_root), cancel);
    Ok(report)
}

fn reap_runs(engine: &Engine) -> Result<ReapReport, EngineError> {
    each_active(engine, |layout, id, report| reap_run(engine, layout, id, report))
}

/// What [`reap`] would put in order. Nothing is written.
fn left(engine: &Engine) -> Result<ReapReport, EngineError> {
    each_active(engine, would_reap_run)
}

/// Looks at each run that has no terminal record.
fn each_active(
    engine: &Engine,
    mut look: impl FnMut(&Layout, &RunId, &mut ReapReport) -> Result<(), EngineError>,
) -> Result<ReapReport, EngineError> {
    let layout = Layout::new(&engine.config.state_root);
    let mut report = ReapReport::default();
    refuse_links(&layout)?;
    let active = layout.active();
    let entries = match fs::read_dir(&active) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(report),
        other => other.map_err(file_error("read", &active))?,
    };
    for entry in entries {
        let entry = entry.map_err(file_error("read", &active))?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<RunId>().ok()) else {
            continue;
        };
        if let Err(error) = look(&layout, &id, &mut report) {
            report.problems.push(format!("run {id}: {}", crate::causes::with_causes(&error)));
        }
    }
    Ok(report)
}

/// What would be put in order of one run.
fn would_reap_run(layout: &Layout, id: &RunId, report: &mut ReapReport) -> Result<(), EngineError> {
    let run = layout.run(id);
    // One without an owner may have begun this moment.
    if run.dir().is_symlink() || !run.owner().exists() || is_alive(&run) {
        return Ok(());
    }
    let left = LocalHost::new().tagged(JOB_TAG, &format!("{id}/"))?;
    report.processes.extend(left.iter().map(told));
    if run.record().exists() && read_json::<RunRecord>(&run.record())?.verdict == Verdict::Running {
        report.runs.push(id.to_string());
    }
    Ok(())
}

fn told(process: &Leaked) -> String {
    format!("{} (pid {})", process.command, process.pid)
}

/// Puts in order what was left under the engine's state root, and guests of this machine.
pub(crate) fn reap_here(engine: &Engine, cancel: &CancelToken) -> Result<ReapReport, EngineError> {
    let mut report = reap_wholly(engine, cancel)?;
    if let Some((reaper, mut places)) = reaper(engine, &ReapOptions::default(), cancel)? {
        places.retain(|place| place.host.is_none());
        let reaper = Reaper { others: Others::Ignored, ..reaper };
        // An Incus that is gone has nothing of ours.
        report.add(ReapedGuests { unreachable: Vec::new(), ..reaper.reap(&places, cancel) });
    }
    Ok(report)
}

/// Puts in order what was left under the engine's state root, and guests, here and elsewhere.
pub(crate) fn reap_all(
    engine: &Engine,
    options: &ReapOptions,
    cancel: &CancelToken,
) -> Result<ReapReport, EngineError> {
    let mut report = if options.dry_run { left(engine)? } else { reap_wholly(engine, cancel)? };
    let Some((reaper, places)) = reaper(engine, options, cancel)? else { return Ok(report) };
    let runs = known::runs_of(&reaper.layout);
    let mut unreachable = Vec::new();
    for name in &options.hosts {
        if cancel.is_cancelled() {
            break;
        }
        let reaped = match options.dry_run {
            true => reaper.hosts.left(name, &runs, cancel),
            false => reaper.hosts.reap(name, cancel),
        };
        match reaped {
            Ok(reaped) => {
                report.jobs.extend(reaped.jobs);
                report.problems.extend(reaped.problems);
            }
            Err(error) => {
                report.problems.push(error.told());
                unreachable.push(Some(name.clone()));
            }
        }
    }
    // What was told once is not tried, and told, once more.
    let places: Vec<_> = places.into_iter().filter(|place| !unreachable.contains(&place.host)).collect();
    report.add(reaper.reap(&places, cancel));
    Ok(report)
}

/// The reaping of guests that a run of these jobs sees to while it works: on this machine, when guests were ever
/// made here, and on the hosts that it connects to anyway.
pub(crate) fn in_background(
    engine: &Engine,
    layout: &Layout,
    hosts: Arc<Hosts>,
    jobs: &[JobSpec],
) -> Vec<Cleanup> {
    let reaper = Reaper {
        layout: layout.clone(),
        hosts,
        clock: Arc::clone(&engine.clock),
        others: Others::Ignored,
        dry_run: false,
    };
    let is_used = |host: &Option<String>| match host {
        None => true,
        Some(name) => {
            jobs.iter().any(|job| matches!(&job.placement, JobPlacement::RemoteSsh { host } if host == name))
        }
    };
    // What cannot be read is told by whoever asks for it.
    let places = reaper.places().unwrap_or_default().into_iter().filter(|place| is_used(&place.host));
    places
        .map(|place| {
            let reaper = reaper.clone();
            Cleanup::new(move |_fate, cancel| {
                let reaped = reaper.reap(&[place], cancel);
                // A host that cannot be reached is told by the jobs that need it, and an Incus that is gone by
                // nobody.
                let reaped = ReapedGuests { unreachable: Vec::new(), ..reaped };
                let mut report = ReapReport::default();
                report.add(reaped);
                Cleaned { lines: report.lines(), ..Cleaned::default() }
            })
        })
        .collect()
}

/// The guests that are kept, see [`ReapReport::kept`]; what could not be looked at is among the problems.
pub(crate) fn kept(
    engine: &Engine,
    options: &ReapOptions,
    cancel: &CancelToken,
) -> Result<ReapReport, EngineError> {
    let mut report = ReapReport::default();
    if let Some((reaper, places)) = reaper(engine, options, cancel)? {
        report.add(reaper.kept(&places, cancel));
    }
    Ok(report)
}

/// Who looks for guests, and where; nobody where there is no state root, unless hosts are asked for. A host that says
/// nothing once the token is cancelled is given up.
pub(crate) fn reaper(
    engine: &Engine,
    options: &ReapOptions,
    cancel: &CancelToken,
) -> Result<Option<(Reaper, Vec<GuestPlace>)>, EngineError> {
    let layout = Layout::new(&engine.config.state_root);
    let engine_id = match layout.engine().exists() {
        true => prepare_state_root(&layout, &engine.ids.fresh())?.engine_id,
        // Nothing is of an engine that has never run, and nothing is made for one that only looks for others.
        false if options.hosts.is_empty() && !options.expired => return Ok(None),
        false => engine.ids.fresh(),
    };
    let hosts = engine.hosts(engine_id).however_full();
    // Who only looks begins nothing in the background.
    let hosts = if options.dry_run { hosts } else { hosts.reaping(known::runs_of(&layout)) };
    let hosts = Arc::new(hosts);
    hosts.heed(cancel);
    let reaper = Reaper {
        layout: layout.clone(),
        hosts,
        clock: Arc::clone(&engine.clock),
        others: if options.expired { Others::Ended } else { Others::Named },
        dry_run: options.dry_run,
    };
    let mut places = reaper.places().map_err(file_error("read", layout.root()))?;
    let is_asked = |place: &GuestPlace| place.host.as_ref().is_none_or(|host| options.hosts.contains(host));
    places.retain(|place| !options.only || is_asked(place));
    let takes_guests = |name: &&String| engine.config.hosts.get(name).allow.contains(&JobRuntimeKind::Incus);
    let asked = options.hosts.iter().filter(takes_guests);
    let asked = asked.map(|name| (Some(name.clone()), engine.config.hosts.get(name).incus));
    let here = options.expired.then(|| (None, engine.config.incus.clone()));
    for (host, incus) in asked.chain(here) {
        let place = GuestPlace::new(host, incus.socket, incus.project);
        // This machine may have no Incus at all.
        if !places.contains(&place) && (place.host.is_some() || place.socket.exists()) {
            places.push(place);
        }
    }
    Ok(Some((reaper, places)))
}

fn reap_run(
    engine: &Engine,
    layout: &Layout,
    id: &RunId,
    report: &mut ReapReport,
) -> Result<(), EngineError> {
    let run = layout.run(id);
    let marker = layout.active().join(id.as_str());
    if run.dir().is_symlink() {
        return Err(EngineError::Corrupt {
            path: run.dir().to_path_buf(),
            problem: "it is a symbolic link, and no run's directory is".to_owned(),
        });
    }
    if !run.owner().exists() {
        // Either its engine is between two of its first steps, or it died there. A run that was
        // just begun is left alone; the marker's age is its own clock's.
        return reap_stillborn(engine, &run, &marker);
    }
    let ownership = match Ownership::try_take(&run) {
        Ok(Some(ownership)) => ownership,
        Ok(None) => return Ok(()),
        // It ended, and somebody collected it.
        Err(_) if !run.dir().exists() => return Ok(()),
        Err(error) => return Err(error),
    };
    if !marker.exists() {
        // It ended since it was listed.
        return Ok(());
    }
    // What its jobs left running ends before anything is said about them.
    let left = engine.host.end_tagged(JOB_TAG, &format!("{id}/"), engine.config.grace.min(GRACE))?;
    report.processes.extend(left.iter().map(told));
    // Also when its records cannot be read: what jobs were handed lies there, secrets too.
    remove_scratch(&run)?;
    // Outputs that its jobs needed may be collected now; where a guest is left, when that is ended.
    if !may_have_guest(&run, None) {
        jericho_host::fs::remove_tree(&run.roots()).map_err(file_error("remove", &run.roots()))?;
    }
    if !run.record().exists() {
        // It died before its first record: there is nothing to tell, and no reader knows it.
        jericho_host::fs::remove_tree(run.dir()).map_err(file_error("remove", run.dir()))?;
        return fs::remove_file(&marker).map_err(file_error("remove", &marker));
    }
    let record: RunRecord = read_json(&run.record())?;
    cut_torn_line(&run)?;
    let events = run.events();
    let journal = read_journal(&events).map_err(file_error("read", &events))?;
    let last_seq = journal.entries.last().map_or(0, |entry| entry.seq);
    let mut store = RunStore::adopt(layout, id, ownership)?;
    if record.verdict == Verdict::Running {
        let record = interrupted(&run, record, journal);
        for job in &record.jobs {
            let files = run.job(&job.id);
            // A state root may have come with a tree: nothing is written through a link.
            let real = beneath::walk(run.dir(), &Path::new("jobs").join(&job.id), false);
            if check_name(&job.id).is_ok() && real.is_ok() {
                let tried = 2..=u32::try_from(job.attempts.len()).unwrap_or_default() + 1;
                for log in tried.map(|attempt| files.attempt(attempt).host_log()).chain([files.host_log()]) {
                    recover_log(&run, &log)?;
                }
                store.write_job(&files, job)?;
            }
        }
        store.write_record(&record, true)?;
        store.append(&JournalEntry {
            seq: last_seq + 1,
            time: engine.clock.now(),
            event: RunLifecycleEvent::RunFinished { run: Box::new(record.clone()) },
        })?;
        report.runs.push(id.to_string());
    }
    store.close()
}

/// Removes what jobs had while they ran. Nothing is removed through a link.
fn remove_scratch(run: &RunLayout) -> Result<(), EngineError> {
    let Ok(_real) = beneath::walk(run.dir(), Path::new("jobs"), false) else { return Ok(()) };
    let jobs = run.jobs();
    for entry in fs::read_dir(&jobs).map_err(file_error("read", &jobs))? {
        let entry = entry.map_err(file_error("read", &jobs))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let scratch = entry.path().join("scratch");
            jericho_host::fs::remove_tree(&scratch).map_err(file_error("remove", &scratch))?;
        }
    }
    Ok(())
}

/// Completes a log. Nothing is written through a link, or into what is no file.
fn recover_log(run: &RunLayout, log: &Path) -> Result<(), EngineError> {
    let relative = log.strip_prefix(run.dir()).unwrap_or(log);
    let real = relative.parent().is_some_and(|dir| beneath::walk(run.dir(), dir, false).is_ok());
    if !real || !fs::symlink_metadata(log).is_ok_and(|log| log.is_file()) {
        return Ok(());
    }
    logs::tail::recover(log).map(drop).map_err(|source| EngineError::File {
        action: "recover",
        path: log.to_path_buf(),
        source,
    })
}

/// A marker without a run. One that is older than a minute has no engine any more.
fn reap_stillborn(engine: &Engine, run: &RunLayout, marker: &std::path::Path) -> Result<(), EngineError> {
    let Ok(made) = fs::metadata(marker).and_then(|meta| meta.modified()) else { return Ok(()) };
    let age = engine.clock.now().signed_duration_since(chrono::DateTime::<chrono::Utc>::from(made));
    if age < chrono::Duration::minutes(1) {
        return Ok(());
    }
    let making = run.in_the_making();
    jericho_host::fs::remove_tree(making.dir()).map_err(file_error("remove", making.dir()))?;
    jericho_host::fs::remove_tree(run.dir()).map_err(file_error("remove", run.dir()))?;
    fs::remove_file(marker).map_err(file_error("remove", marker))
}

/// A writer that was killed may have left half a line: the next one must not be glued to it.
fn cut_torn_line(run: &RunLayout) -> Result<(), EngineError> {
    let path = run.events();
    let Ok(text) = fs::read(&path) else { return Ok(()) };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |position| position + 1);
    if whole < text.len() {
        let file = fs::OpenOptions::new().write(true).open(&path).map_err(file_error("open", &path))?;
        file.set_len(whole as u64).map_err(file_error("cut", &path))?;
    }
    Ok(())
}
