//! Hosts over SSH, as the jobs of one run share them.
//!
//! [`Hosts`] is the pool: one [`BuildHost`] per name, one connection per host, for the length of a
//! run. A host is made ready once ([`BuildHost::ready`]), however many jobs ask: connected, its work
//! directory checked, the runner there. Nothing here knows what a job is.

mod background;
mod collect;
mod error;
mod host;
pub(crate) mod reap;
mod runner_binary;
pub mod sync;
mod work_dir;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jericho_host::{CancelToken, Clock, IdSource, SshHost};

use crate::config::EngineConfig;
use crate::limit::Limited;
use crate::model::job::JobRuntimeKind;

use background::Background;
pub(crate) use collect::Garbage;
pub use error::{RemoteError, WorkDirProblem};
pub use host::{BuildHost, Ready};
pub use reap::ReapedJobs;

/// How long a host may say nothing once the run was cancelled.
const SILENCE: Duration = Duration::from_secs(3);

/// How long somebody who asked for it waits for the jobs that a dead engine has left on a host.
const LONGEST_REAPING: Duration = Duration::from_secs(120);

/// Connections, for as long as somebody has them.
type Known = Arc<Mutex<Vec<Weak<SshHost>>>>;

/// The hosts of one run: made when they are first asked for, disconnected when this is dropped and
/// nobody else holds them.
#[derive(Debug)]
pub struct Hosts {
    config: Arc<EngineConfig>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    engine_id: String,
    runners: Arc<runner_binary::Runners>,
    runs: Option<reap::Runs>,
    however_full: bool,
    made: Mutex<BTreeMap<String, Arc<BuildHost>>>,
    /// The connections of all of them.
    known: Known,
    /// Those that are reached by another SSH program than the configured one, by name and program.
    other: Mutex<BTreeMap<(String, String), Arc<BuildHost>>>,
    /// Those that are made ready before anybody asks. Ended when this is dropped.
    beside: Mutex<Vec<Background<()>>>,
}

/// Gives a host up that says nothing for a moment. That is found out beside everything else, and by nobody who could be
/// ended before: whoever holds the host may be waiting just for this when all the others have gone.
fn give_up_if_silent(ssh: &Arc<SshHost>) {
    let ssh = Arc::clone(ssh);
    // Without a thread ssh(1) finds it out, later.
    let _ = std::thread::Builder::new().name("host-silence".to_owned()).spawn(move || {
        let Ok(limited) = Limited::of(SILENCE) else { return };
        if ssh.is_silent(limited.token()) {
            ssh.give_up(SILENCE);
        }
    });
}

/// Gives up those of these hosts that are connected and say nothing, once a token is cancelled.
fn heed(known: Known, cancel: &CancelToken) {
    cancel.on_cancel(move |_reason| {
        let known = Arc::clone(&known);
        // The token is locked, and the last who holds a host ends what may ask it.
        let _ = std::thread::Builder::new().name("host-silence".to_owned()).spawn(move || {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let connected = known.iter().filter_map(Weak::upgrade).filter(|ssh| ssh.is_connected());
            connected.for_each(|ssh| give_up_if_silent(&ssh));
        });
    });
}

/// The same as [`Hosts::heed`] for a host of one's own.
pub(crate) fn heed_silence(ssh: &Arc<SshHost>, cancel: &CancelToken) {
    heed(Arc::new(Mutex::new(vec![Arc::downgrade(ssh)])), cancel);
}

impl Hosts {
    /// Of an engine, with the id of its state root. Nothing is connected.
    #[must_use]
    pub fn new(
        config: Arc<EngineConfig>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        engine_id: String,
    ) -> Self {
        let runners = Arc::new(runner_binary::Runners::new(config.hosts.runner_dirs.clone()));
        Self {
            config,
            clock,
            ids,
            engine_id,
            runners,
            runs: None,
            however_full: false,
            made: Mutex::default(),
            known: Known::default(),
            other: Mutex::default(),
            beside: Mutex::default(),
        }
    }

    /// Begins to make hosts ready that will be asked for in a moment, each for the runtimes that are wanted there.
    /// What goes wrong is told to those who ask.
    pub(crate) fn make_ready_ahead<'a>(
        &self,
        asked: impl Iterator<Item = (&'a str, JobRuntimeKind)>,
        cancel: &CancelToken,
    ) {
        let mut wanted = BTreeMap::<&str, bool>::new();
        for (host, runtime) in asked {
            if self.config.hosts.get(host).allow.contains(&runtime) {
                *wanted.entry(host).or_default() |= runtime == JobRuntimeKind::Incus;
            }
        }
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, has_guests) in wanted {
            // What cannot be begun here is done by the first job.
            let Ok(host) = self.get(name) else { continue };
            let begun =
                Background::start("host-ahead", move |cancel| host.make_ready_ahead(has_guests, cancel));
            if let Ok(begun) = begun {
                begun.heed(cancel);
                beside.push(begun);
            }
        }
    }

    /// The run was cancelled: a host that says nothing from now on is given up in a moment, and nobody waits for it any
    /// more, whatever they are at.
    pub(crate) fn give_up_the_silent(&self) {
        let mut hosts: Vec<_> =
            self.made.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        hosts.extend(self.other.lock().unwrap_or_else(PoisonError::into_inner).values().cloned());
        hosts.retain(|host| host.was_reached());
        hosts.iter().for_each(|host| give_up_if_silent(host.ssh()));
    }

    /// The same as soon as a token is cancelled, for who has no loop of its own to hear it; also while all of this is
    /// being dropped, which waits for what still goes on.
    pub(crate) fn heed(&self, cancel: &CancelToken) {
        heed(Arc::clone(&self.known), cancel);
    }

    /// Each host that becomes ready is rid of the jobs of this engine that nobody works on, while other
    /// things go on.
    #[must_use]
    pub(crate) fn reaping(mut self, runs: reap::Runs) -> Self {
        self.runs = Some(runs);
        self
    }

    /// A full disk keeps nobody away from a host: who comes makes room.
    #[must_use]
    pub(crate) fn however_full(mut self) -> Self {
        self.however_full = true;
        self
    }

    /// Removes all that nobody needs on a host, or says what would go: snapshots beyond its disk budget, what jobs
    /// have left that nobody works on, and what was not used for a while.
    ///
    /// # Errors
    /// [`RemoteError`] when the host cannot be made ready.
    pub(crate) fn collect(
        &self,
        name: &str,
        runs: &reap::Runs,
        unused: Duration,
        dry_run: bool,
        cancel: &CancelToken,
    ) -> Result<Garbage, RemoteError> {
        self.get(name)?.collect(&collect::Wanted { runs, unused, dry_run }, cancel)
    }

    /// The jobs on a host that nobody works on, as `<run>/<job> on <host>`. Nothing is ended.
    ///
    /// # Errors
    /// [`RemoteError`] when the host cannot be made ready.
    pub(crate) fn left(
        &self,
        name: &str,
        runs: &reap::Runs,
        cancel: &CancelToken,
    ) -> Result<ReapedJobs, RemoteError> {
        let mut left = self.get(name)?.left(runs, cancel)?;
        for job in &mut left.jobs {
            *job = format!("{job} on {name}");
        }
        Ok(left)
    }

    /// Waits, for a moment only, for what goes on in the background, and says what came of it: one line
    /// for each thing a person should know.
    pub(crate) fn settle(&self) -> Vec<String> {
        let hosts: Vec<_> =
            self.made.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let told = hosts.iter().map(|host| (host, host.settle()));
        told.flat_map(|(host, reaped)| {
            let ended = reaped.jobs.into_iter();
            let ended =
                ended.map(|job| format!("left on {} by a dead engine and ended: job {job}", host.name()));
            ended.chain(reaped.problems).collect::<Vec<_>>()
        })
        .collect()
    }

    /// Makes a host ready, waits until its leftover jobs are ended and what shells have left is gone, and says which they were, as
    /// `<run>/<job> on <host>`.
    ///
    /// # Errors
    /// [`RemoteError`] when the host cannot be made ready.
    pub(crate) fn reap(&self, name: &str, cancel: &CancelToken) -> Result<ReapedJobs, RemoteError> {
        let host = self.get(name)?;
        host.ready_silently(cancel)?;
        let mut reaped = host.settle_within(LONGEST_REAPING, Some(cancel));
        // What was ended is told also where this does not come to its end.
        let _ = host.sweep(LONGEST_REAPING, cancel);
        for job in &mut reaped.jobs {
            *job = format!("{job} on {name}");
        }
        Ok(reaped)
    }

    /// The settings of the engine.
    pub(crate) fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Id of the engine: what it leaves on a host carries it.
    #[must_use]
    pub fn engine_id(&self) -> &str {
        &self.engine_id
    }

    /// The host of this name: that of the operator's configuration, else what ssh(1) makes of it.
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// [`RemoteError::Ssh`] when this process has no file descriptors left.
    pub fn get(&self, name: &str) -> Result<Arc<BuildHost>, RemoteError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = made.get(name) {
            return Ok(Arc::clone(host));
        }
        let host = self.make(name, &self.config)?;
        made.insert(name.to_owned(), Arc::clone(&host));
        Ok(host)
    }

    /// The same, reached by this SSH program: a run that is repeated may have had another one than today's.
    ///
    /// # Errors
    /// As [`Hosts::get`].
    pub(crate) fn get_by(&self, name: &str, program: Option<&str>) -> Result<Arc<BuildHost>, RemoteError> {
        let own = &self.config.hosts.ssh_program;
        let Some(program) = program.filter(|program| own != program) else { return self.get(name) };
        let mut other = self.other.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), program.to_owned());
        if let Some(host) = other.get(&key) {
            return Ok(Arc::clone(host));
        }
        let mut config = EngineConfig::clone(&self.config);
        config.hosts.ssh_program = program.into();
        let host = self.make(name, &config)?;
        other.insert(key, Arc::clone(&host));
        Ok(host)
    }

    fn make(&self, name: &str, config: &EngineConfig) -> Result<Arc<BuildHost>, RemoteError> {
        let host = BuildHost::new(
            name,
            config,
            Arc::clone(&self.clock),
            Arc::clone(&self.ids),
            Arc::clone(&self.runners),
            (self.engine_id.clone(), self.runs.clone()),
            self.however_full,
        )?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(host.ssh()));
        Ok(Arc::new(host))
    }
}
