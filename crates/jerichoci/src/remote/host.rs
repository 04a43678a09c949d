//! One host: its connection, and what makes it ready for jobs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jericho_host::slots::{Slot, Slots};
use jericho_host::{
    CancelReason, CancelToken, Clock, Command, Host, HostError, IdSource, SshConfig, SshHost,
};
use pika_cloud::ops::{Incus, SocketHost, SshSockets};

use super::background::Background;
use super::collect::{self, Garbage};
use super::error::{RemoteError, WorkDirProblem};
use super::reap::{Leftovers, ReapedJobs, Runs};
use super::runner_binary::{NAME, Runners};
use super::sync::{GRACE, Line, greeting};
use super::work_dir::{self, Facts, Look, Stayed};
use crate::causes::with_causes;
use crate::config::{EngineConfig, HostConfig};
use crate::model::job::JobRuntimeKind;

/// The program for the shell of a host that starts the relay before a socket.
const RELAY: &str = include_str!("relay.sh");

/// How long it takes until a host that has become ready is looked through for what dead engines have left: the jobs
/// that it was made ready for have started by then.
const REAP_AFTER: Duration = Duration::from_secs(1);

/// How long the error of an attempt that was made ahead counts for those who ask.
const AHEAD: Duration = Duration::from_secs(2);

/// How long the end of a run waits for what goes on beside it.
const SETTLE: Duration = Duration::from_secs(2);

/// A host that jobs can be given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The work directory, absolute and without links. Mode 0700, of the account of the connection.
    pub work_dir: PathBuf,
    /// The runner there: `<work dir>/bin/<sha256>/jerichoci-incus-run`.
    pub runner: PathBuf,
    /// Hash of the runner, 64 hexadecimal digits.
    pub runner_sha256: String,
    /// `uname -m` of the host.
    pub arch: String,
    /// User of the connection.
    pub uid: u32,
    /// Group of the connection.
    pub gid: u32,
    /// Whether jobs see mounts of their own: the account is root, and not of a container that forbids it.
    pub mounts: bool,
    /// Of the kernel of the host: another one means that it was started anew.
    pub boot_id: Option<String>,
}

/// One host over SSH. All jobs of a run share it, and its one connection.
#[derive(Debug)]
pub struct BuildHost {
    name: String,
    config: HostConfig,
    reconnect: Duration,
    ssh: Arc<SshHost>,
    sockets: Arc<SshSockets>,
    runners: Arc<Runners>,
    line: Line,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    engine_id: String,
    /// Which jobs of the engine are worked on, where the others are looked for.
    reaps: Option<Runs>,
    reaper: Mutex<Option<Background<ReapedJobs>>>,
    /// Incus is asked for ahead of the guests that are to be made there.
    incus_ahead: Mutex<Option<Background<()>>>,
    followers: Slots,
    turn: Arc<Turn>,
}

/// Who makes the host ready. Shared with the tokens of those who wait for that.
#[derive(Debug, Default)]
struct Turn {
    state: Mutex<State>,
    changed: Condvar,
}

impl Turn {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the reason is found once the token is cancelled, which wakes those who wait. The token cannot be
    /// asked instead: whoever cancels it holds it while it calls, and then wants the state.
    fn hear(self: &Arc<Self>, cancel: &CancelToken) -> Arc<OnceLock<CancelReason>> {
        let cancelled = Arc::new(OnceLock::new());
        let (turn, told) = (Arc::clone(self), Arc::clone(&cancelled));
        cancel.on_cancel(move |reason| {
            // A stronger reason comes too late to matter: who waits goes at the first.
            let _ = told.set(reason);
            // Whoever has looked and does not wait yet has the state: without it the wake would be lost.
            let _state = turn.state();
            turn.changed.notify_all();
        });
        cancelled
    }
}

#[derive(Debug, Default)]
struct State {
    ready: Option<Ready>,
    /// Somebody makes it ready now.
    at_work: bool,
    /// Attempts that have ended.
    attempts: u64,
    /// What the last of them ended with.
    error: Option<RemoteError>,
    /// What an attempt that nobody had asked for yet ended with, and when.
    ahead: Option<(RemoteError, Duration)>,
    /// What it had to tell.
    lines: Vec<String>,
}

impl BuildHost {
    pub(super) fn new(
        name: &str,
        engine: &EngineConfig,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        runners: Arc<Runners>,
        (engine_id, reaps): (String, Option<Runs>),
        however_full: bool,
    ) -> Result<Self, RemoteError> {
        let mut config = engine.hosts.get(name);
        if however_full {
            config.min_free = 0;
        }
        let ssh = SshConfig {
            program: engine.hosts.ssh_program.clone(),
            // It is the user's own program with the user's own configuration, which may name others.
            env: engine.caller_environment.clone(),
            connect_limit: engine.hosts.connect,
            ..SshConfig::new(config.ssh.clone())
        };
        let failed = |source| RemoteError::Ssh {
            host: name.to_owned(),
            destination: config.ssh.clone(),
            source: Arc::new(source),
        };
        let no_semaphore = |error| failed(HostError::System("cannot make a semaphore", error));
        let ssh = Arc::new(SshHost::with_parts(ssh, Arc::clone(&clock), Arc::clone(&ids)).map_err(failed)?);
        let line = Line::new().map_err(no_semaphore)?;
        let followers = Slots::new(followers(&ssh)).map_err(no_semaphore)?;
        Ok(Self {
            name: name.to_owned(),
            reconnect: engine.hosts.reconnect,
            sockets: Arc::new(sockets(&ssh, &config.work_dir, &runners)),
            config,
            ssh,
            runners,
            line,
            followers,
            clock,
            ids,
            reaps,
            engine_id,
            reaper: Mutex::default(),
            incus_ahead: Mutex::default(),
            turn: Arc::default(),
        })
    }

    /// The name that jobs use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    /// Its connection.
    #[must_use]
    pub fn ssh(&self) -> &Arc<SshHost> {
        &self.ssh
    }

    /// The conversation with its receiver of snapshots, which all jobs of a run share.
    #[must_use]
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Whether its operator lets jobs have a runtime. Nothing is connected for this.
    ///
    /// # Errors
    /// [`RemoteError::NotAllowed`].
    pub fn permit(&self, runtime: JobRuntimeKind) -> Result<(), RemoteError> {
        if self.config.allow.contains(&runtime) {
            return Ok(());
        }
        let (host, allowed) = (self.name.clone(), self.config.allow.clone());
        Err(RemoteError::NotAllowed { host, runtime, allowed })
    }

    /// Incus there, over sockets that the connection forwards. Nothing is connected yet.
    #[must_use]
    pub fn incus(&self, cancel: &CancelToken) -> Incus {
        let sockets: Arc<dyn SocketHost> = Arc::clone(&self.sockets) as _;
        Incus::new(sockets, self.config.incus.socket.clone(), cancel)
    }

    /// Connects, checks the work directory and delivers the runner: once, however many jobs ask, and in
    /// one or two round trips. `log` hears what takes long.
    ///
    /// Those who ask while somebody is at it get what comes of that, also when it is an error;
    /// whoever asks later tries again. A cancelled one waits for nobody. Once it is ready it stays so: a connection that is lost later
    /// is the affair of [`BuildHost::reconnect`].
    ///
    /// # Errors
    /// [`RemoteError`], at once when the host cannot be reached.
    pub fn ready(&self, log: &mut dyn FnMut(&str), cancel: &CancelToken) -> Result<Ready, RemoteError> {
        let ready = self.ready_or_error(false, log, cancel);
        // Whoever asks first hears of what was done ahead.
        let lines = std::mem::take(&mut self.turn.state().lines);
        lines.iter().for_each(|line| log(line));
        ready
    }

    /// [`BuildHost::ready`] for somebody without a log: what there was to tell is kept for the first job.
    ///
    /// # Errors
    /// As [`BuildHost::ready`].
    pub(crate) fn ready_silently(&self, cancel: &CancelToken) -> Result<Ready, RemoteError> {
        self.ready_or_error(false, &mut |_line| (), cancel)
    }

    /// Makes it ready before anybody asks, also for guests. Those who ask soon get what came of it.
    pub(super) fn make_ready_ahead(&self, for_guests: bool, cancel: &CancelToken) {
        // At once: whoever waits for the host has it before this returns.
        let mut keep = |line: &str| self.turn.state().lines.push(line.to_owned());
        let made = self.ready_or_error(for_guests, &mut keep, cancel);
        let mut state = self.turn.state();
        if let Err(error) = made
            && !matches!(error, RemoteError::Cancelled(_))
        {
            state.ahead = Some((error, self.clock.monotonic()));
        }
    }

    /// Asks for the socket of Incus there, beside everything else, so that nobody waits for it later.
    fn reach_incus(&self) {
        let (sockets, socket) = (Arc::clone(&self.sockets), self.config.incus.socket.clone());
        // What is wrong with it is told to who uses it.
        let begun = Background::start("incus-ahead", move |cancel| drop(sockets.connect(&socket, cancel)));
        *self.incus_ahead.lock().unwrap_or_else(PoisonError::into_inner) = begun.ok();
    }

    /// See [`BuildHost::ready`]. Who makes it ready for guests asks for Incus as soon as it is.
    fn ready_or_error(
        &self,
        for_guests: bool,
        log: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<Ready, RemoteError> {
        let mut state = self.turn.state();
        if let Some((error, at)) = &state.ahead
            && self.clock.monotonic().saturating_sub(*at) < AHEAD
        {
            return Err(error.clone());
        }
        let before = state.attempts;
        let mut cancelled = None;
        loop {
            if let Some(ready) = &state.ready {
                return Ok(ready.clone());
            }
            match &state.error {
                // Who is cancelled speaks for no other job.
                Some(error) if state.attempts > before && !matches!(error, RemoteError::Cancelled(_)) => {
                    return Err(error.clone());
                }
                _ => {}
            }
            if !state.at_work {
                break;
            }
            let Some(cancelled) = &cancelled else {
                // A token that is cancelled already calls at once, and the call takes the state.
                drop(state);
                cancelled = Some(self.turn.hear(cancel));
                state = self.turn.state();
                continue;
            };
            if let Some(reason) = cancelled.get() {
                return Err(RemoteError::Cancelled(*reason));
            }
            state = self.turn.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.at_work = true;
        state.error = None;
        drop(state);
        let at_work = AtWork(self);
        let made = self.make_ready(for_guests, log, cancel);
        let mut state = self.turn.state();
        match &made {
            Ok(ready) => {
                state.ready = Some(ready.clone());
                self.reap(ready);
            }
            Err(error) => state.error = Some(error.clone()),
        }
        drop(state);
        drop(at_work);
        made
    }

    /// Makes and checks a directory there as if it were the work directory, and says where it is without links.
    /// Nothing else is made ready.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub(crate) fn check_dir(&self, dir: &Path, cancel: &CancelToken) -> Result<PathBuf, RemoteError> {
        let bad = |problem| RemoteError::WorkDir {
            host: self.name.clone(),
            destination: self.config.ssh.clone(),
            path: dir.to_path_buf(),
            problem,
        };
        if !work_dir::is_plain(dir) {
            return Err(bad(WorkDirProblem::Path));
        }
        match work_dir::look(&*self.ssh, dir, &[], cancel).map_err(|error| self.error(error))? {
            Look::Facts(facts) => Ok(facts.work_dir),
            Look::Problem(problem) => Err(bad(problem)),
            Look::Unreadable(said) => Err(RemoteError::Answer { host: self.name.clone(), said }),
        }
    }

    /// Whether it is connected, or was.
    pub(super) fn was_reached(&self) -> bool {
        self.ssh.is_connected() || self.turn.state().ready.is_some()
    }

    /// Connects again, for as long as the settings say. `log` hears of each attempt.
    ///
    /// # Errors
    /// [`RemoteError::Ssh`] of the last attempt; [`RemoteError::Cancelled`].
    pub fn reconnect(&self, log: &mut dyn FnMut(&str), cancel: &CancelToken) -> Result<(), RemoteError> {
        self.ssh
            .reconnect(self.reconnect, cancel, &mut |failed| {
                log(&format!(
                    "attempt {} to connect to {} again failed: {}; next in {} ms",
                    failed.number,
                    self.name,
                    with_causes(failed.error),
                    failed.pause.as_millis()
                ));
            })
            .map_err(|error| self.error(error))
    }

    /// A place for a job that is followed over the connection for as long as it runs. There are fewer than
    /// sessions, so that a job that ends, or is cancelled, does not wait for those that run.
    ///
    /// # Errors
    /// [`RemoteError::Cancelled`].
    pub(crate) fn follower(&self, cancel: &CancelToken) -> Result<Slot, RemoteError> {
        self.followers.take(cancel).map_err(|error| self.error(error))
    }

    /// Whether [`BuildHost::follower`] would wait, as it looks now.
    pub(crate) fn is_full(&self) -> bool {
        self.followers.used() >= followers(&self.ssh)
    }

    /// What an error of the connection means for a job.
    #[must_use]
    pub fn error(&self, error: HostError) -> RemoteError {
        match error {
            HostError::Cancelled(reason) => RemoteError::Cancelled(reason),
            source => RemoteError::Ssh {
                host: self.name.clone(),
                destination: self.config.ssh.clone(),
                source: Arc::new(source),
            },
        }
    }

    /// Looks for jobs that nobody works on, and then for snapshots that nobody needs, beside everything else.
    fn reap(&self, ready: &Ready) {
        let Some(runs) = self.reaps.clone() else { return };
        let name = self.name.clone();
        let place = self.collected(ready);
        let (ssh, at) = (Arc::clone(&self.ssh), ready.clone());
        let sweep = move |cancel: &CancelToken| super::reap::sweep(&ssh, &at, cancel);
        let work = move |cancel: &CancelToken| {
            let mut reaped =
                super::reap::reap(&place.ssh, &place.ready, &place.engine_id, &runs, false, cancel);
            // After the jobs, which may use them.
            let host = Arc::clone(&place.ssh) as Arc<dyn Host>;
            let at = place.ready.work_dir.join("runs");
            let left = Leftovers { host: &host, name: &name, runs: &at, engine_id: &place.engine_id };
            reaped.problems.extend(runs.let_go(&left, cancel));
            reaped.problems.extend(collect::snapshots(&place, cancel));
            reaped
        };
        // Without a thread the next run does it.
        let started = Background::start_after(REAP_AFTER, "reaper", work, sweep);
        *self.reaper.lock().unwrap_or_else(PoisonError::into_inner) = started.ok();
    }

    /// Begins with what a host is looked through for, if that has not begun yet: its jobs have what they need.
    pub(crate) fn reap_now(&self) {
        let reaper = self.reaper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reaper) = &*reaper {
            reaper.hurry();
        }
    }

    fn collected(&self, ready: &Ready) -> collect::Place {
        collect::Place {
            ssh: Arc::clone(&self.ssh),
            sockets: Arc::clone(&self.sockets),
            config: self.config.clone(),
            ready: ready.clone(),
            engine_id: self.engine_id.clone(),
        }
    }

    /// Removes all that nobody needs there, or says what would go.
    ///
    /// # Errors
    /// [`RemoteError`] when the host cannot be made ready.
    pub(super) fn collect(
        &self,
        wanted: &collect::Wanted<'_>,
        cancel: &CancelToken,
    ) -> Result<Garbage, RemoteError> {
        let ready = self.ready_silently(cancel)?;
        Ok(collect::all(&self.collected(&ready), wanted, cancel))
    }

    /// The jobs of the engine that nobody works on; nothing is ended.
    ///
    /// # Errors
    /// [`RemoteError`] when the host cannot be made ready.
    pub(super) fn left(&self, runs: &Runs, cancel: &CancelToken) -> Result<ReapedJobs, RemoteError> {
        let ready = self.ready_silently(cancel)?;
        Ok(super::reap::reap(&self.ssh, &ready, &self.engine_id, runs, true, cancel))
    }

    /// Removes what shells have left there that are over, for so long.
    ///
    /// # Errors
    /// [`RemoteError`] when the host cannot be made ready.
    pub(super) fn sweep(&self, within: Duration, cancel: &CancelToken) -> Result<(), RemoteError> {
        let (ssh, ready) = (Arc::clone(&self.ssh), self.ready_silently(cancel)?);
        let sweep = Background::start("sweeper", move |cancel| super::reap::sweep(&ssh, &ready, cancel));
        // Without a thread the next one does it.
        if let Ok(sweep) = sweep {
            sweep.heed(cancel);
            sweep.finish(within);
        }
        Ok(())
    }

    /// What came of looking for jobs, unless it takes too long.
    pub(super) fn settle(&self) -> ReapedJobs {
        self.settle_within(SETTLE, None)
    }

    /// The same for somebody who waits longer, unless a token is cancelled.
    pub(super) fn settle_within(&self, within: Duration, cancel: Option<&CancelToken>) -> ReapedJobs {
        let reaper = self.reaper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(reaper), Some(cancel)) = (&reaper, cancel) {
            reaper.heed(cancel);
        }
        reaper.and_then(|reaper| reaper.finish(within)).unwrap_or_default()
    }

    fn make_ready(
        &self,
        for_guests: bool,
        log: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<Ready, RemoteError> {
        let dir = &self.config.work_dir;
        if !work_dir::is_plain(dir) {
            return Err(self.bad_work_dir(WorkDirProblem::Path));
        }
        if !self.ssh.is_connected() {
            log(&format!("connecting to {}", self.name));
            self.ssh.connect(cancel).map_err(|error| self.error(error))?;
        }
        let (looked, stayed) = self.look(for_guests, cancel).map_err(|error| self.error(error))?;
        if let Some(stayed) = stayed {
            let life = Arc::default();
            if let Look::Facts(Facts { relay: Some(relay), .. }) = &looked {
                self.sockets.relay_listens(&self.config.incus.socket, relay, Arc::downgrade(&life));
            }
            self.line.keep(stayed.conversation, stayed.heard, life);
        }
        let facts = match looked {
            Look::Facts(facts) => facts,
            Look::Problem(problem) => return Err(self.bad_work_dir(problem)),
            Look::Unreadable(said) => return Err(RemoteError::Answer { host: self.name.clone(), said }),
        };
        if facts.free_bytes < self.config.min_free {
            return Err(RemoteError::Disk {
                host: self.name.clone(),
                path: facts.work_dir,
                free_bytes: facts.free_bytes,
                floor_bytes: self.config.min_free,
            });
        }
        let ready = self.with_runner(facts, log, cancel)?;
        if for_guests {
            self.reach_incus();
        }
        Ok(ready)
    }

    /// Looks at the work directory, and keeps the receiver of snapshots where there is room for a session more; for
    /// guests, with a relay before Incus.
    fn look(&self, for_guests: bool, cancel: &CancelToken) -> Result<(Look, Option<Stayed>), HostError> {
        let (dir, runners) = (&self.config.work_dir, self.runners.all());
        let socket = for_guests.then_some(self.config.incus.socket.as_path());
        match greeting(&self.engine_id) {
            Ok(hello) if self.ssh.max_sessions() > 1 => {
                work_dir::look_and_stay(&self.ssh, dir, runners, (hello, GRACE, socket), cancel)
            }
            _ => work_dir::look(&*self.ssh, dir, runners, cancel).map(|look| (look, None)),
        }
    }

    fn with_runner(
        &self,
        facts: Facts,
        log: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<Ready, RemoteError> {
        let is_linux = facts.system == "Linux";
        let runner = self.runners.all().iter().find(|runner| is_linux && runner.arch == facts.arch);
        let Some(runner) = runner else { return Err(self.no_runner(&facts)) };
        let failed = |reason: String| RemoteError::Runner { host: self.name.clone(), reason };
        if facts.runner.as_deref() != Some(runner.sha256.as_str()) {
            let read = runner.read();
            let content =
                read.map_err(|error| failed(format!("cannot read {}: {error}", runner.path.display())))?;
            log(&format!("delivering the runner to {} ({} KiB)", self.name, content.len() / 1024));
            work_dir::deliver(
                &*self.ssh,
                &facts.work_dir,
                &runner.sha256,
                content,
                &self.ids.fresh(),
                cancel,
            )
            .map_err(|error| self.error(error))?
            .map_err(failed)?;
        }
        Ok(Ready {
            runner: runner_path(&facts.work_dir, &runner.sha256),
            runner_sha256: runner.sha256.clone(),
            work_dir: facts.work_dir,
            arch: facts.arch,
            uid: facts.uid,
            gid: facts.gid,
            mounts: facts.uid == 0 && facts.mounts,
            boot_id: facts.boot_id,
        })
    }

    fn no_runner(&self, facts: &Facts) -> RemoteError {
        let host = self.name.clone();
        if let (Some(problem), "Linux") = (self.runners.problems().first(), facts.system.as_str()) {
            return RemoteError::Runner { host, reason: problem.clone() };
        }
        let arch = match facts.system.as_str() {
            "Linux" => facts.arch.clone(),
            other => format!("{other} {}", facts.arch),
        };
        RemoteError::NoRunner { host, arch, searched: self.runners.dirs().to_vec() }
    }

    fn bad_work_dir(&self, problem: WorkDirProblem) -> RemoteError {
        RemoteError::WorkDir {
            host: self.name.clone(),
            destination: self.config.ssh.clone(),
            path: self.config.work_dir.clone(),
            problem,
        }
    }
}

/// Sessions that no job is followed over: one for the receiver of snapshots, and two for what is short. The relay before
/// Incus, which only guests need, takes one of the latter.
const SPARE_SESSIONS: usize = 3;

/// How many jobs are followed at once.
fn followers(ssh: &SshHost) -> usize {
    ssh.max_sessions().saturating_sub(SPARE_SESSIONS).max(1)
}

/// The sockets of a host, behind a relay where there are sessions to spare and a runner of ours is there.
fn sockets(ssh: &Arc<SshHost>, work_dir: &Path, runners: &Arc<Runners>) -> SshSockets {
    let sockets = SshSockets::new(Arc::clone(ssh));
    if ssh.max_sessions() <= SPARE_SESSIONS {
        return sockets;
    }
    let (work_dir, runners) = (work_dir.to_owned(), Arc::clone(runners));
    sockets.with_relay(move |socket| {
        let command = Command::new("sh").args(["-c", RELAY, "sh"]).arg(&work_dir).arg(NAME).arg(socket);
        runners.all().iter().fold(command, |command, runner| command.arg(&runner.arch).arg(&runner.sha256))
    })
}

/// Where a runner lies.
fn runner_path(work_dir: &Path, sha256: &str) -> PathBuf {
    work_dir.join("bin").join(sha256).join(NAME)
}

/// Whoever waits goes on when this goes, also after a panic.
struct AtWork<'a>(&'a BuildHost);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut state = self.0.turn.state();
        state.at_work = false;
        state.attempts += 1;
        drop(state);
        self.0.turn.changed.notify_all();
    }
}
