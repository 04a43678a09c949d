//! One request, from its file to its result.

use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::{
    CancelToken, Command, Finished, Host, HostError, Isolation, Leaked, LocalHost, Supervision,
};
use pika_cloud::{GuestRuntime, IncusGuestRunRequest, LifecycleState, RuntimePaths};
use serde_json::{Value, json};

use crate::artifacts::{self, Collected, InPlace};
use crate::enter::Entry;
use crate::log::{JobLog, LogSummary};
use crate::plan::{Plan, TAG};
use crate::start::{StartPipe, Told};
use crate::state::{Runner, State, StateError};
use crate::verdict::{Verdict, one_line};
use crate::view::{View, ViewSpec};
use crate::{
    BOOTSTRAP_ERROR, args, cancel, detach, enter, environment, export, follow, orphans, relay, signals, store,
};

/// How many processes that were ended are named in a result.
const MOST_LEAKED: usize = 100;
/// Bytes of the command line of each.
const LONGEST_COMMAND: usize = 4096;

/// Does what the arguments say. Returns the exit code of the process.
pub fn act(action: args::Action) -> u8 {
    match action {
        args::Action::Run(request) => run(&request, None, false),
        args::Action::Detached(asked) => {
            detach::leave_session();
            run(&asked.request, asked.view.as_deref(), true)
        }
        args::Action::Detach(asked) => detach::start(&asked),
        args::Action::Follow { request, offset, seq } => follow::follow(&request, offset, seq),
        args::Action::Export { dir, limits } => export::export(&dir, limits),
        args::Action::Cancel { request, force } => cancel::cancel(&request, force),
        args::Action::Store(work_dir) => store::serve(&work_dir),
        args::Action::Relay { work_dir, to } => relay::serve(&work_dir, &to),
        args::Action::Enter(args) => enter::enter(args),
        args::Action::Help => print(args::HELP),
        args::Action::Version => print(concat!("jerichoci-incus-run ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

fn print(text: &str) -> u8 {
    // Nobody may be reading.
    let _ = io::stdout().write_all(text.as_bytes());
    0
}

/// Says something on standard error.
pub(crate) fn complain(message: &str) {
    // Nobody may be reading.
    let _ = writeln!(io::stderr(), "jerichoci-incus-run: {message}");
}

fn run(path: &Path, view: Option<&Path>, background: bool) -> u8 {
    // Whoever starts it has one of his own, which is no part of the request.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let request = match read(path) {
        Ok(request) => request,
        Err(Unsound { message, paths }) => {
            complain(&message);
            match paths {
                Some(paths) => tell_bootstrap_error(&paths, GuestRuntime::HostProcess, &message),
                // In the background nobody but its starter needs to know.
                None if background => {}
                None => tell_bootstrap_error(&RuntimePaths::default(), GuestRuntime::Incus, &message),
            }
            return BOOTSTRAP_ERROR;
        }
    };
    let state = match State::open(&Plan::paths(&request), request.options().runtime) {
        Ok(state) => Arc::new(state),
        Err(error) => {
            complain(&error.to_string());
            return BOOTSTRAP_ERROR;
        }
    };
    match Job::prepare(&request, view, &state, background) {
        Ok(job) => {
            // What was started ends with the panic; that it did must be told too.
            std::panic::catch_unwind(AssertUnwindSafe(|| job.run())).unwrap_or_else(|_| {
                end(
                    &state,
                    &Verdict::infrastructure("the runner has a fault; its standard error tells more"),
                    None,
                )
            })
        }
        Err(message) => {
            complain(&message);
            end(&state, &Verdict::infrastructure(message), None)
        }
    }
}

/// A request that cannot be used.
struct Unsound {
    message: String,
    /// Of a host process, where it says that much.
    paths: Option<Box<RuntimePaths>>,
}

fn read(path: &Path) -> Result<IncusGuestRunRequest, Unsound> {
    let bytes = std::fs::read(path).map_err(|error| Unsound {
        message: format!("cannot read the request {}: {error}", path.display()),
        paths: None,
    })?;
    IncusGuestRunRequest::parse(&bytes).map_err(|error| Unsound {
        message: format!("cannot use the request {}: {}", path.display(), one_line(&error)),
        paths: host_paths(&bytes).map(Box::new),
    })
}

/// Where the lifecycle files of a host process lie whose request is not sound otherwise.
fn host_paths(bytes: &[u8]) -> Option<RuntimePaths> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    if value.get("runtime")?.as_str()? != GuestRuntime::HostProcess.as_str() {
        return None;
    }
    let paths: RuntimePaths = serde_json::from_value(value.get("paths")?.clone()).ok()?;
    paths.validate().is_ok().then_some(paths)
}

fn tell_bootstrap_error(paths: &RuntimePaths, runtime: GuestRuntime, message: &str) {
    match State::open(paths, runtime) {
        Ok(state) => {
            end(&state, &Verdict::infrastructure(message), None);
        }
        // A person who tries it at a prompt has no guest's directories, and has been told already.
        Err(StateError::Unusable(..) | StateError::Busy(_)) => {}
    }
}

/// Writes the end, and returns what the runner ends with.
fn end(state: &State, verdict: &Verdict, details: Option<Value>) -> u8 {
    let details = details.or_else(|| {
        let details = verdict.details();
        (!details.is_empty()).then(|| details.into())
    });
    match state.end(verdict, details) {
        Ok(()) => verdict.process_exit(),
        Err(error) => {
            complain(&format!("cannot write the result: {error}"));
            BOOTSTRAP_ERROR
        }
    }
}

struct Job {
    plan: Plan,
    state: Arc<State>,
    host: LocalHost,
    token: CancelToken,
    /// Whether the request knows the state `ready`.
    ready: bool,
    background: bool,
    _view: Option<View>,
}

/// Makes the directory of the view, which the command is to find.
fn make_place(request: &IncusGuestRunRequest) -> Result<(), String> {
    let cwd = request.options().cwd.as_deref().ok_or("a view needs a working directory")?;
    std::fs::create_dir_all(cwd).map_err(|error| format!("cannot make {cwd}: {error}"))
}

fn open_view(
    view: &Path,
    request: &IncusGuestRunRequest,
    state: &State,
    host: &LocalHost,
) -> Result<View, String> {
    let cwd = request.options().cwd.as_deref().ok_or("a view needs a working directory")?;
    let scratch = Path::new(&state.paths().state_dir).join("view");
    ViewSpec::load(view)?.open(Path::new(cwd), &scratch, host)
}

/// What became of the command, apart from its verdict.
#[derive(Default)]
struct Traces {
    log: LogSummary,
    leaked: Vec<Leaked>,
    warnings: Vec<String>,
}

impl Job {
    /// Everything up to the command. What is wrong so far is nobody's fault but the request's or the
    /// machine's.
    fn prepare(
        request: &IncusGuestRunRequest,
        view: Option<&Path>,
        state: &Arc<State>,
        background: bool,
    ) -> Result<Self, String> {
        let token = CancelToken::new().map_err(|error| format!("cannot make a token: {error}"))?;
        signals::listen(&token, background).map_err(|error| format!("cannot listen for signals: {error}"))?;
        let process = jericho_host::sys::own_identity()
            .map_err(|error| format!("cannot find out who I am: {error}"))?;
        let tell =
            |told: Result<(), String>| told.map_err(|error| format!("cannot write the state: {error}"));
        tell(state.report(LifecycleState::Booted, "the runner is up", None))?;
        let host = LocalHost::new();
        let place = view.map_or(Ok(()), |_| make_place(request));
        // Also without a place: the environment file goes once it was looked at.
        let plan = Plan::new(request, &environment::own());
        place?;
        let plan = plan?;
        let runner = Runner { process, job: plan.tag.clone(), grace_secs: Plan::grace_secs(request) };
        state.prepare(&runner).map_err(|error| error.to_string())?;
        // A view may take long to make: by now, whoever asks again knows that somebody is at work.
        let mut view = view.map(|view| open_view(view, request, state, &host)).transpose()?;
        if background {
            let log = PathBuf::from(&state.paths().logs_dir).join("runner.log");
            detach::announce(&runner, &log)
                .map_err(|error| format!("cannot go into the background: {error}"))?;
        }
        if let Some(view) = &mut view {
            view.show_caches(&token, &mut |cache, line| {
                let details = json!({ "waiting_for_cache": cache });
                tell(state.report(LifecycleState::Booted, line, Some(details)))
            })?;
        }
        let details =
            json!({ "command": plan.masked(request.command()), "run_as_root": request.run_as_root() });
        tell(state.report(LifecycleState::Starting, "the command is about to start", Some(details)))?;
        let ready = request.schema_version() > IncusGuestRunRequest::SCHEMA_VERSION_PLAIN;
        Ok(Self { plan, state: Arc::clone(state), host, token, ready, background, _view: view })
    }

    /// Runs the command and writes its end. Returns what the runner ends with.
    fn run(self) -> u8 {
        let log_path = PathBuf::from(&self.state.paths().guest_log_path);
        let masker = self.plan.masker.clone();
        let mut log = match JobLog::create(&log_path, self.plan.log_cap, masker, !self.background) {
            Ok(log) => log,
            Err(error) => {
                let message = format!("cannot write {}: {error}", log_path.display());
                return end(&self.state, &Verdict::infrastructure(message), None);
            }
        };
        let mut traces = Traces { warnings: self.plan.warnings.clone(), ..Traces::default() };
        let artifacts = Path::new(&self.state.paths().artifacts_dir);
        let in_place = InPlace::at_start(artifacts);
        let mut verdict = self.follow(&mut log, &mut traces);
        let mut artifacts = artifacts::collect(&self.plan.cwd, &self.plan.globs, artifacts, in_place);
        for name in artifacts.own.iter_mut().chain(&mut artifacts.warnings) {
            *name = self.plan.masked(name);
        }
        self.state.release_reserve();
        let (finished, tee) = log.finish();
        match finished {
            Ok(summary) => traces.log = summary,
            // One who has failed already has the better reason.
            Err(error) if verdict.failure.is_none() => {
                verdict = Verdict::infrastructure(format!("the output could not be kept: {error}"));
            }
            Err(error) => traces.warnings.push(format!("the end of the output could not be kept: {error}")),
        }
        verdict.message = self.plan.masked(&verdict.message);
        let details = self.details(&verdict, &traces, &artifacts);
        let code = end(&self.state, &verdict, Some(details));
        if let Some(tee) = tee {
            tee.finish();
        }
        code
    }

    /// Follows the command until nothing of it is left.
    fn follow(&self, log: &mut JobLog, traces: &mut Traces) -> Verdict {
        let state = Arc::clone(&self.state);
        let ready = self.ready;
        let started = move || {
            if ready {
                // News only: a disk that is full will be told with the end.
                let _ = state.report(LifecycleState::Ready, "the command runs", None);
            }
        };
        let place = Path::new(&self.state.paths().state_dir).join(".start");
        let start = match StartPipe::open(place, started) {
            Ok(start) => start,
            Err(error) => return Verdict::infrastructure(format!("cannot make a named pipe: {error}")),
        };
        let isolated = self.host.supports_namespaces() && !has_overlaid_proc();
        if !isolated && let Err(error) = orphans::adopt(start.pid()) {
            return Verdict::infrastructure(format!("cannot adopt orphans: {error}"));
        }
        let finished = self.supervise(&start, isolated, log);
        let told = start.close();
        if !isolated {
            match orphans::end(self.plan.grace) {
                Ok(leaked) => traces.leaked.extend(leaked),
                Err(error) => return Verdict::infrastructure(format!("something does not end: {error}")),
            }
        }
        if let Ok(finished) = &finished {
            traces.leaked.extend(finished.leaked.iter().cloned());
        }
        match told {
            Told { error: Some(error), .. } => Verdict::infrastructure(error),
            _ => Verdict::of(&finished, self.plan.limit),
        }
    }

    fn supervise(&self, start: &StartPipe, isolated: bool, log: &mut JobLog) -> Result<Finished, HostError> {
        let plan = &self.plan;
        let entry = Entry::new(start.path(), &plan.cwd, &plan.account, plan.argv.clone());
        let mut command = Command::new("/proc/self/exe").args(entry.args());
        command.env = plan.env.clone();
        let mut supervision = Supervision::new(TAG, &plan.tag);
        supervision.time_limit = Some(plan.limit);
        supervision.grace = plan.grace;
        if isolated {
            supervision.isolation = Isolation::Namespaces(Vec::new());
        }
        self.host.supervise(&command, &supervision, log, &self.token)
    }

    fn details(&self, verdict: &Verdict, traces: &Traces, artifacts: &Collected) -> Value {
        let mut details = verdict.details();
        let mut put = |name: &str, value: Value| details.insert(name.to_owned(), value);
        put("log", json!({ "bytes": traces.log.bytes, "left_out": traces.log.left_out }));
        if !self.plan.globs.is_empty() {
            put("artifacts", json!(artifacts));
        }
        if !traces.leaked.is_empty() {
            put("leaked", told_leaked(&traces.leaked, |text| self.plan.masked(text)));
            if traces.leaked.len() > MOST_LEAKED {
                put("leaked_left_out", json!(traces.leaked.len() - MOST_LEAKED));
            }
        }
        if !traces.warnings.is_empty() {
            put("warnings", json!(traces.warnings));
        }
        details.into()
    }
}

/// The first of what was ended, with the beginnings of the command lines: a result that is too long to be read
/// would take the verdict with it.
fn told_leaked(leaked: &[Leaked], masked: impl Fn(&str) -> String) -> Value {
    let tell = |leaked: &Leaked| {
        // Whole before it is cut, since half a secret is not known as one.
        let command = masked(&leaked.command).replace(char::is_control, " ");
        let end = command.floor_char_boundary(LONGEST_COMMAND);
        json!({ "pid": leaked.pid, "command": &command[..end] })
    };
    leaked.iter().take(MOST_LEAKED).map(tell).collect()
}

/// Whether files of `/proc` are those of lxcfs, which tell a container its own limits: a process namespace
/// would need a fresh `/proc`, without them.
fn has_overlaid_proc() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| {
        line.contains(" - fuse.lxcfs ")
            && line.split(' ').nth(4).is_some_and(|place| place.starts_with("/proc/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_stays_short_whatever_was_left_running() {
        // Of two bytes each, which do not end where the limit is.
        let command = format!("x{}", "\u{e9}\"\u{1}".repeat(100_000));
        let leaked: Vec<_> =
            (0..1000).map(|pid| Leaked { pid, command: command.clone(), held_output: false }).collect();
        let told = told_leaked(&leaked, str::to_owned);
        assert_eq!(told.as_array().unwrap().len(), MOST_LEAKED);
        assert!(told[0]["command"].as_str().unwrap().starts_with("x\u{e9}\" "));
        // What reads it takes a MiB.
        assert!(told.to_string().len() < 900 << 10, "{}", told.to_string().len());
    }
}
