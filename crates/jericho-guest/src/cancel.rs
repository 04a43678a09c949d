//! Ends the runner of a request, or, where it was killed, does what it could not do any more.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use jericho_host::lock::FileLock;
use jericho_host::{Host, LocalHost};
use pika_cloud::{IncusGuestRunRequest, RuntimePaths};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::BOOTSTRAP_ERROR;
use crate::environment::SecretFiles;
use crate::plan::{Plan, TAG};
use crate::runner::complain;
use crate::state::{RUNNER, Runner, State, lock_path};
use crate::verdict::{Verdict, one_line};

/// Beyond its grace, how long a runner may take to write its result.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns 0 once nothing of the request runs any more.
pub(crate) fn cancel(request: &Path, force: bool) -> u8 {
    match try_cancel(request, force) {
        Ok(()) => 0,
        Err(message) => {
            complain(&message);
            BOOTSTRAP_ERROR
        }
    }
}

fn try_cancel(request: &Path, force: bool) -> Result<(), String> {
    let request = IncusGuestRunRequest::load(request).map_err(|error| one_line(&error))?;
    let paths = Plan::paths(&request);
    let dir = Path::new(&paths.state_dir);
    if !dir.exists() {
        return Ok(());
    }
    let runner = read_runner(dir);
    let lock = FileLock::try_exclusive(&lock_path(dir)).map_err(|error| one_line(&error))?;
    let Some(lock) = lock else {
        let runner = runner.ok_or_else(|| {
            format!("a runner is at work in {} that has not said who it is yet", dir.display())
        })?;
        end_runner(&runner, force)?;
        // It may have been killed by that, or by somebody else meanwhile.
        return clean_up(&request, &paths, Some(&runner));
    };
    drop(lock);
    clean_up(&request, &paths, runner.as_ref())
}

fn read_runner(dir: &Path) -> Option<Runner> {
    serde_json::from_slice(&fs::read(dir.join(RUNNER)).ok()?).ok()
}

/// TERM and a wait for its result; after that, or by force, KILL.
fn end_runner(runner: &Runner, force: bool) -> Result<(), String> {
    let Some(pid) = i32::try_from(runner.process.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let Ok(held) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    // After it is held, so that this is not about another process with its number.
    if !jericho_host::sys::is_alive(&runner.process).map_err(|error| error.to_string())? {
        return Ok(());
    }
    let signal =
        |signal| rustix::process::pidfd_send_signal(&held, signal).map_err(|error| error.to_string());
    signal(Signal::TERM)?;
    if force {
        // The second one tells it to spare the grace.
        signal(Signal::INT)?;
    }
    let grace = if force { 0 } else { runner.grace_secs };
    if !ends_within(held.as_fd(), PATIENCE.saturating_add(Duration::from_secs(grace))) {
        signal(Signal::KILL)?;
        if !ends_within(held.as_fd(), PATIENCE) {
            return Err(format!("the runner {} does not end", runner.process.pid));
        }
    }
    Ok(())
}

fn ends_within(held: std::os::fd::BorrowedFd<'_>, longest: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(longest.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: longest.subsec_nanos().into(),
    };
    let mut fds = [PollFd::from_borrowed_fd(held, PollFlags::IN)];
    matches!(rustix::event::poll(&mut fds, Some(&timeout)), Ok(1))
}

/// What a runner that was killed has left: processes, and a result that is owed.
fn clean_up(
    request: &IncusGuestRunRequest,
    paths: &RuntimePaths,
    runner: Option<&Runner>,
) -> Result<(), String> {
    if let Some(runner) = runner {
        let grace = Duration::from_secs(runner.grace_secs);
        LocalHost::new().end_tagged(TAG, &runner.job, grace).map_err(|error| one_line(&error))?;
        if let Some(env_file) = &request.options().env_file {
            SecretFiles::forget(Path::new(env_file), runner.process.pid);
        }
    }
    if Path::new(&paths.result_path).exists() {
        return Ok(());
    }
    let state = State::open(paths, request.options().runtime).map_err(|error| error.to_string())?;
    let verdict = Verdict::interrupted();
    state.end(&verdict, Some(verdict.details().into()))
}
