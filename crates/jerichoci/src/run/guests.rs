//! Guests that nobody owns any more: found by their labels, collected from, and ended.
//!
//! A guest is somebody's while its run is worked on, or until the time that a person wanted it kept for. What other
//! state roots have made is left alone, but for guests whose lease is over, and only when that is asked for.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jericho_host::{CancelToken, Clock, Host, LocalHost, SystemIds};
use pika_cloud::ops::{Ended, Incus, InstanceRef, Listed, OpsError, Patience};
use pika_cloud::{
    OutputCollectionPolicy, RuntimeIdentity, RuntimeIncus, RuntimePaths, RuntimePolicies, RuntimeSpec,
};

use super::layout::{Layout, RunLayout};
use super::logs::append_engine_line;
use super::owner::is_alive;
use super::prepare::roots::{self, Rooted};
use crate::beneath;
use crate::causes::with_causes;
use crate::executor::incus::{self, Buried, GuestIntent, GuestPlace, Undertaker, labels};
use crate::model::id::{RunId, check_name};
use crate::model::job::JobPlacement;
use crate::model::record::KeptInstanceRecord;
use crate::remote::Hosts;
use crate::shell;

/// How long Incus is waited for: nobody waits for a reaper.
const PATIENCE: Patience = Patience {
    first_contact: Duration::from_secs(2),
    reconnect: Duration::from_secs(10),
    request: Duration::from_secs(30),
    operation: Duration::from_secs(120),
    full: Duration::ZERO,
};

/// Held while a guest is ended.
static ENDING: Mutex<()> = Mutex::new(());

/// Where the lifecycle files of a guest lie, also when it is stopped.
const STATE_DIR: &str = "/var/lib/pika-cloud";

/// What became of guests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReapedGuests {
    /// Those that were ended, as `instance <name> in project <project> on <host>`.
    pub(crate) ended: Vec<String>,
    /// Those that a person wants to look at.
    pub(crate) kept: Vec<KeptInstanceRecord>,
    /// Those of other state roots whose lease is over, and that were left alone.
    pub(crate) outlived: Vec<String>,
    /// Places that could not be looked at, one line each.
    pub(crate) unreachable: Vec<String>,
    /// Guests that could not be collected from or ended, one line each.
    pub(crate) problems: Vec<String>,
}

/// Looks for guests.
#[derive(Debug, Clone)]
pub(crate) struct Reaper {
    pub(crate) layout: Layout,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) others: Others,
    /// Only tells what would be ended.
    pub(crate) dry_run: bool,
}

/// What becomes of guests of other state roots, once their lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// They are not looked at.
    Ignored,
    /// They are named.
    Named,
    Ended,
}

impl Reaper {
    /// The places where guests of this state root were ever made.
    pub(crate) fn places(&self) -> io::Result<Vec<GuestPlace>> {
        incus::places(&incus::guests_dir(self.layout.root()))
    }

    /// Ends what nobody owns at these places.
    pub(crate) fn reap(&self, places: &[GuestPlace], cancel: &CancelToken) -> ReapedGuests {
        let mut reaped = ReapedGuests::default();
        for place in places {
            if let Err(error) = self.reap_place(place, cancel, &mut reaped) {
                if self.may_matter(place, cancel) {
                    reaped.unreachable.push(self.told(place, &error, cancel));
                } else if place.host.is_some() && !self.dry_run {
                    self.forget(place);
                }
            }
        }
        each_once(&mut reaped.kept);
        reaped
    }

    /// The guests that are kept at these places.
    pub(crate) fn kept(&self, places: &[GuestPlace], cancel: &CancelToken) -> ReapedGuests {
        let mut found = ReapedGuests::default();
        for place in places {
            let listed = self.incus(place, cancel).and_then(|incus| Ok(listed(&incus, place, &self.own())?));
            match listed {
                Ok(listed) => {
                    found.kept.extend(listed.iter().flatten().filter_map(|one| kept(place, one)));
                }
                Err(error) if self.may_matter(place, cancel) => {
                    found.unreachable.push(self.told(place, &error, cancel));
                }
                Err(_) => {}
            }
        }
        each_once(&mut found.kept);
        found
    }

    /// Whether something may be at a place that cannot be looked at, by what this machine knows: somebody has
    /// settings for it, or a guest of it is written down.
    fn may_matter(&self, place: &GuestPlace, cancel: &CancelToken) -> bool {
        let is_there = match &place.host {
            None => place.socket.exists(),
            Some(name) => self.hosts.config().hosts.named.contains_key(name),
        };
        is_there || cancel.is_cancelled() || self.has_guest(place)
    }

    /// Whether a guest of a place is written down.
    fn has_guest(&self, place: &GuestPlace) -> bool {
        self.written_down().any(|guest| guest.place == *place)
    }

    /// What to tell of those guests on members of a cluster that are away that were made here, by what is written down.
    fn told_away(&self, place: &GuestPlace, away: &[Listed]) -> Vec<String> {
        let is_own = |one: &&Listed| {
            self.written_down().any(|guest| guest.place == *place && guest.instance == one.instance.name)
        };
        let tell = |one: &Listed| {
            format!(
                "{} is on the cluster member {}, which is away: it is looked at once that is back",
                told(place, &one.instance),
                one.location
            )
        };
        away.iter().filter(is_own).map(tell).collect()
    }

    /// The guests of all runs that were written down.
    fn written_down(&self) -> impl Iterator<Item = GuestIntent> {
        let runs = fs::read_dir(self.layout.runs()).into_iter().flatten().flatten();
        let ids = runs.filter_map(|run| run.file_name().to_str()?.parse::<RunId>().ok());
        ids.flat_map(|id| roots::guests(&self.layout.run(&id))).map(|(_, guest)| guest)
    }

    /// Nobody looks there any more, unless somebody makes a guest there at this moment.
    fn forget(&self, place: &GuestPlace) {
        let guests = incus::guests_dir(self.layout.root());
        // What cannot be forgotten is only tried once more.
        let _ = place.file(&guests).and_then(fs::remove_file);
        if self.has_guest(place) {
            let _ = place.store(&guests);
        }
    }

    /// What to tell of a place that cannot be looked at.
    fn told(&self, place: &GuestPlace, error: &Problem, cancel: &CancelToken) -> String {
        let why = self.explain(place, error, cancel);
        let told = format!("guests in the Incus project {} on {}: {why}", place.project, place.host_name());
        let is_given_up =
            place.host.as_ref().is_some_and(|name| !self.hosts.config().hosts.named.contains_key(name));
        let file = place.file(&incus::guests_dir(self.layout.root())).ok().filter(|_| is_given_up);
        match file {
            Some(file) => format!(
                "{told}; a guest was left there. Where the host is given up for good: rm {}",
                file.display()
            ),
            None => told,
        }
    }

    /// Why a place could not be looked at, with what a doctor says of it.
    pub(crate) fn explain(&self, place: &GuestPlace, problem: &Problem, cancel: &CancelToken) -> String {
        match problem {
            Problem::Told(why) => why.clone(),
            Problem::Incus(error) => incus::explain_at(place, &self.hosts, error, cancel),
        }
    }

    fn own(&self) -> pika_cloud::ops::Labels {
        [(labels::ENGINE.to_owned(), self.hosts.engine_id().to_owned())].into()
    }

    /// Whether this engine has made it.
    fn is_own(&self, one: &Listed) -> bool {
        one.label(labels::ENGINE) == Some(self.hosts.engine_id())
    }

    /// Where guests of a placement are made by the settings.
    pub(crate) fn place_of(&self, placement: &JobPlacement) -> GuestPlace {
        let config = self.hosts.config();
        let host = placement.host().map(str::to_owned);
        let incus = host.as_deref().map_or_else(|| config.incus.clone(), |host| config.hosts.get(host).incus);
        GuestPlace::new(host, incus.socket, incus.project)
    }

    /// Incus of a place.
    pub(crate) fn incus(&self, place: &GuestPlace, cancel: &CancelToken) -> Result<Incus, Problem> {
        let incus = match &place.host {
            None => Incus::new(Arc::new(LocalHost::new()), &place.socket, cancel),
            Some(name) => {
                let host = self.hosts.get(name).map_err(|error| error.told())?;
                host.ready_silently(cancel).map_err(|error| error.told())?;
                host.incus(cancel)
            }
        };
        Ok(incus.with_patience(PATIENCE).with_clock(Arc::clone(&self.clock), Arc::new(SystemIds)))
    }

    fn reap_place(
        &self,
        place: &GuestPlace,
        cancel: &CancelToken,
        reaped: &mut ReapedGuests,
    ) -> Result<(), Problem> {
        let incus = self.incus(place, cancel)?;
        // Before the guests are listed: a run that nobody works on makes none any more.
        let rooted = self.rooted(place, cancel)?;
        // All of them in one answer: of two, one on a member of a cluster that comes back in between is in neither.
        let listed = listed(&incus, place, &pika_cloud::ops::Labels::new())?;
        if listed.is_none() && !self.dry_run {
            self.forget(place);
        }
        let listed = listed.unwrap_or_default();
        let there: Vec<String> = listed
            .iter()
            .filter(|one| self.is_own(one) || one.is_away())
            .map(|one| one.instance.name.clone())
            .collect();
        self.end_unowned(place, &incus, listed, reaped)?;
        if self.dry_run {
            return Ok(());
        }
        for rooted in rooted {
            rooted.forget_all_but(&there, place);
            if let Err(problem) = rooted.let_go(place.host.as_deref()) {
                reaped.problems.push(format!("prepared outputs are not let go of: {problem}"));
            }
        }
        Ok(())
    }

    /// Runs that nobody works on and that have outputs in the store of the machine.
    fn rooted(&self, place: &GuestPlace, cancel: &CancelToken) -> Result<Vec<Rooted>, Problem> {
        let Some(name) = &place.host else { return Ok(roots::rooted_here(&self.layout)) };
        let host = self.hosts.get(name).map_err(|error| error.told())?;
        let ready = host.ready_silently(cancel).map_err(|error| error.told())?;
        let ssh = Arc::clone(host.ssh()) as Arc<dyn Host>;
        Ok(roots::rooted_on(&ssh, &ready.work_dir.join("runs"), self.hosts.engine_id(), &self.layout))
    }

    fn end_unowned(
        &self,
        place: &GuestPlace,
        incus: &Incus,
        listed: Vec<Listed>,
        reaped: &mut ReapedGuests,
    ) -> Result<(), Problem> {
        let (away, mut listed): (Vec<_>, Vec<_>) = listed.into_iter().partition(Listed::is_away);
        match self.others {
            Others::Ignored => listed.retain(|one| self.is_own(one)),
            Others::Named | Others::Ended => reaped.problems.extend(self.told_away(place, &away)),
        }
        if listed.is_empty() {
            return Ok(());
        }
        let now = incus.time()?.unwrap_or_else(|| self.clock.now());
        for one in listed {
            let is_own = self.is_own(&one);
            let run = one.label(labels::RUN).and_then(|run| run.parse::<RunId>().ok());
            let is_wanted = run.as_ref().is_none_or(|id| self.may_be_looked_at(id));
            if is_own && is_wanted && labels::keep_until(&one).is_some_and(|until| until > now) {
                reaped.kept.extend(kept(place, &one));
                continue;
            }
            let run = run.map(|id| self.layout.run(&id));
            let is_over = match is_own {
                true => !run.as_ref().is_some_and(is_alive),
                false => labels::is_expired(&one, now),
            };
            if is_over && !is_own && self.others == Others::Named {
                reaped.outlived.push(told(place, &one.instance));
            } else if is_over {
                self.end(place, incus, &one, run.filter(|_| is_own).as_ref(), reaped);
            }
        }
        Ok(())
    }

    /// Whether somebody may want a guest that is kept: the run is there to look at, or the shell is open that it was
    /// made for.
    fn may_be_looked_at(&self, id: &RunId) -> bool {
        // What cannot be looked at may be there.
        self.layout.run(id).dir().try_exists().unwrap_or(true) || shell::is_open(&self.layout, id)
    }

    /// Ends one, after what it has to say was brought to the directory of its job.
    fn end(
        &self,
        place: &GuestPlace,
        incus: &Incus,
        listed: &Listed,
        run: Option<&RunLayout>,
        reaped: &mut ReapedGuests,
    ) {
        let job = listed.label(labels::JOB).filter(|job| check_name(job).is_ok());
        let what = told(place, &listed.instance);
        if self.dry_run {
            reaped.ended.push(what);
            return;
        }
        // The reaper of a run and a job that wants the cache of a guest may come for it at once.
        let _turn = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
        if incus.is_gone(&listed.instance).unwrap_or(false) {
            return;
        }
        if let (Some(run), Some(job)) = (run, job)
            && let Err(error) = last_words(incus, &listed.instance, run, job)
        {
            reaped.problems.push(format!("{what}: what it had to say was not collected: {error}"));
        }
        match incus.destroy(&listed.instance) {
            Ok(()) => {
                if let (Some(run), Some(job)) = (run, job) {
                    GuestIntent::forget(run.job(job).dir());
                }
                reaped.ended.push(what);
            }
            Err(error) => reaped.problems.push(format!("{what} was not ended: {}", with_causes(&error))),
        }
    }
}

impl Undertaker for Reaper {
    fn end_users(&self, place: &GuestPlace, incus: &Incus, volumes: &[String]) -> Result<Buried, OpsError> {
        let mut reaped = ReapedGuests::default();
        for one in listed(incus, place, &self.own())?.unwrap_or_default() {
            if labels::has_cache(&one, volumes) && labels::keep_until(&one).is_none() {
                let run = one.label(labels::RUN).and_then(|run| run.parse::<RunId>().ok());
                let run = run.map(|id| self.layout.run(&id));
                self.end(place, incus, &one, run.as_ref(), &mut reaped);
            }
        }
        Ok(Buried { ended: reaped.ended, problems: reaped.problems })
    }
}

fn told(place: &GuestPlace, InstanceRef { name, project, .. }: &InstanceRef) -> String {
    format!("instance {name} in project {project} on {}", place.host_name())
}

/// The guests of a place with these labels; nothing where there is no such project. Nobody can have left one there,
/// and whoever makes a guest says with more words that it is missing.
fn listed(
    incus: &Incus,
    place: &GuestPlace,
    labels: &pika_cloud::ops::Labels,
) -> Result<Option<Vec<Listed>>, OpsError> {
    match incus.list(&place.project, labels) {
        Err(OpsError::ProjectMissing { .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// An Incus that has several names has its guests once.
fn each_once(kept: &mut Vec<KeptInstanceRecord>) {
    let mut seen = BTreeSet::new();
    kept.retain(|guest| seen.insert((guest.project.clone(), guest.instance.clone())));
}

/// Stops a guest and brings its log, result, status and events to its job, where they are not yet.
fn last_words(incus: &Incus, instance: &InstanceRef, run: &RunLayout, job: &str) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    // A state root may have come with a tree: nothing is written through a link.
    let place = Path::new("jobs").join(job);
    if beneath::walk(run.dir(), &place.join("artifacts"), false).is_err() {
        return Ok(());
    }
    let files = run.job(job);
    if files.result().exists() {
        // It was collected, and only its removal was missed.
        return Ok(());
    }
    incus.stop(instance).map_err(|error| with_causes(&error))?;
    let mut spec = RuntimeSpec::new(
        RuntimeIdentity::named(&instance.name),
        // Only the project matters to who collects.
        RuntimeIncus::new(&instance.project, "default", "none"),
    );
    spec.paths = RuntimePaths::in_dir(STATE_DIR);
    spec.policies = RuntimePolicies {
        output_collection: OutputCollectionPolicy {
            artifact_globs: Vec::new(),
            ..OutputCollectionPolicy::default()
        },
        ..RuntimePolicies::default()
    };
    let plan = spec.plan().map_err(|error| text(&error))?;
    let staged = files.dir().join(".reaped");
    let collected = incus.collect(&plan, &Ended::Stopped, &staged).map_err(|error| with_causes(&error));
    let put = collected.and_then(|collected| {
        let mut had = Vec::new();
        for (from, _) in collected.files {
            let name = match from.to_str() {
                Some("logs/guest.log") => "guest.log",
                Some("result.json") => "result.json",
                Some("status.json") => "status.json",
                Some("events.jsonl") => "events.jsonl",
                _ => continue,
            };
            replace(&staged.join(&from), &files.artifacts(), name).map_err(|error| text(&error))?;
            had.push(name);
        }
        Ok(had)
    });
    let removed = jericho_host::fs::remove_tree(&staged).map_err(|error| text(&error));
    let had = put?;
    if !had.is_empty() && beneath::open_file(run.dir(), &place.join("host.log")).is_ok() {
        let line = format!("collected from the guest after the engine had died: {}", had.join(", "));
        append_engine_line(&files.host_log(), &line).map_err(|error| text(&error))?;
    }
    removed
}

fn replace(from: &Path, artifacts: &Path, name: &str) -> io::Result<()> {
    let dir = beneath::walk(artifacts, Path::new(""), false)?;
    Ok(rustix::fs::renameat(rustix::fs::CWD, from, &dir, name)?)
}

fn kept(place: &GuestPlace, listed: &Listed) -> Option<KeptInstanceRecord> {
    Some(KeptInstanceRecord {
        run_id: listed.label(labels::RUN)?.to_owned(),
        job_id: listed.label(labels::JOB)?.to_owned(),
        host: place.host.clone(),
        project: listed.instance.project.clone(),
        instance: listed.instance.name.clone(),
        keep_until: labels::keep_until(listed)?,
    })
}

/// Why a place could not be looked at.
#[derive(Debug)]
pub(crate) enum Problem {
    /// In words.
    Told(String),
    /// Its Incus.
    Incus(OpsError),
}

impl From<OpsError> for Problem {
    fn from(error: OpsError) -> Self {
        Self::Incus(error)
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self::Told(text)
    }
}
