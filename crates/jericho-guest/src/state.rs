//! The directory of a request's lifecycle files, while one runner owns it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::Local;
use jericho_host::lock::FileLock;
use jericho_host::sys::ProcessIdentity;
use jericho_host::{Clock, SystemClock};
use pika_cloud::{
    EventLog, GuestRuntime, LifecycleState, NewEvent, RuntimePaths, RuntimeResultStatus,
    RuntimeStatusSnapshot, RuntimeTerminalResult, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::verdict::{Verdict, one_line};

/// Where a guest keeps its state: a stopped one must still show it, and `/run` may not survive that.
const KEPT: &str = "/var/lib/pika-cloud";
/// Kept free for the last event, status and result, should the disk be full by then.
const RESERVE: usize = 256 << 10;
/// The file of a [`Runner`].
pub(crate) const RUNNER: &str = "runner.json";

/// Who runs a request, for those who did not hear it from its standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Runner {
    /// The runner's process.
    #[serde(flatten)]
    pub(crate) process: ProcessIdentity,
    /// Value of `JERICHOCI_JOB` in the environment of the command.
    pub(crate) job: String,
    /// Between TERM and KILL, in seconds.
    pub(crate) grace_secs: u64,
}

/// Why there is no state to report to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// Another runner is at work there; nothing of its files was touched.
    #[error("another runner is at work in {}", .0.display())]
    Busy(PathBuf),
    /// The directory cannot be used.
    #[error("cannot use {}: {}", .0.display(), .1)]
    Unusable(PathBuf, String),
}

/// The lifecycle files of one request. Nobody else writes them while this is there.
pub(crate) struct State {
    paths: RuntimePaths,
    boot_id: Option<String>,
    reserve: PathBuf,
    _lock: FileLock,
}

impl State {
    /// Takes possession of the directory, and forgets the result of an earlier request.
    pub(crate) fn open(paths: &RuntimePaths, runtime: GuestRuntime) -> Result<Self, StateError> {
        let dir = PathBuf::from(&paths.state_dir);
        let unusable = |error: &dyn std::error::Error| StateError::Unusable(dir.clone(), one_line(error));
        if runtime == GuestRuntime::Incus && paths.state_dir == RuntimePaths::STATE_DIR {
            link_state_dir(&dir, Path::new(KEPT)).map_err(|error| unusable(&error))?;
        }
        let files = [&paths.events_path, &paths.status_path, &paths.result_path, &paths.guest_log_path];
        let parents = files.into_iter().filter_map(|path| Path::new(path).parent());
        let dirs = [&paths.state_dir, &paths.logs_dir, &paths.artifacts_dir].map(Path::new);
        for dir in dirs.into_iter().chain(parents) {
            fs::create_dir_all(dir).map_err(|error| unusable(&error))?;
        }
        let lock = FileLock::try_exclusive(&lock_path(&dir)).map_err(|error| unusable(&error))?;
        let lock = lock.ok_or_else(|| StateError::Busy(dir.clone()))?;
        let boot_id = jericho_host::sys::own_identity().ok().map(|identity| identity.boot_id);
        let state = Self { paths: paths.clone(), boot_id, reserve: dir.join(".reserve"), _lock: lock };
        // What is left of a runner that was killed, and what another request has ended with.
        let result = PathBuf::from(&paths.result_path);
        for old in [dir.join(".start"), dir.join(RUNNER), state.reserve.clone(), result] {
            match fs::remove_file(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(&error)),
                _ => {}
            }
        }
        Ok(state)
    }

    pub(crate) fn paths(&self) -> &RuntimePaths {
        &self.paths
    }

    /// Says who runs the request, and makes sure that its end can be told on a disk that is full by then.
    pub(crate) fn prepare(&self, runner: &Runner) -> Result<(), StateError> {
        let dir = Path::new(&self.paths.state_dir);
        let unusable = |error: io::Error| StateError::Unusable(dir.to_path_buf(), error.to_string());
        let text = serde_json::to_vec(runner).map_err(|error| unusable(error.into()))?;
        jericho_host::fs::write_atomic(&dir.join(RUNNER), &text, false).map_err(unusable)?;
        let mut reserve = fs::File::create(&self.reserve).map_err(unusable)?;
        // Written, since not every file system can reserve.
        reserve.write_all(&vec![b'\n'; RESERVE]).map_err(unusable)
    }

    /// Gives back the room for the last words.
    pub(crate) fn release_reserve(&self) {
        // When this fails, so will what needs the room, and that is told.
        let _ = fs::remove_file(&self.reserve);
    }

    /// Writes a state as status and event. The disk is not waited for: a job is short, and what is lost
    /// with the power is lost with the command.
    pub(crate) fn report(
        &self,
        state: LifecycleState,
        message: &str,
        details: Option<Value>,
    ) -> Result<(), String> {
        self.tell(state, message, details, false)
    }

    fn tell(
        &self,
        state: LifecycleState,
        message: &str,
        details: Option<Value>,
        durable: bool,
    ) -> Result<(), String> {
        let now = now();
        let mut status = RuntimeStatusSnapshot::new(state, now, message);
        let mut event = NewEvent::new(state, now, message);
        status.boot_id.clone_from(&self.boot_id);
        event.boot_id.clone_from(&self.boot_id);
        status.details.clone_from(&details);
        event.details = details;
        let (path, log) = (Path::new(&self.paths.status_path), EventLog::new(&self.paths.events_path));
        // Independent of each other: who watches one of them is told.
        let (written, appended) = if durable {
            (status.write(path), log.append(event))
        } else {
            (status.write_unsynced(path), log.unsynced().append(event))
        };
        written.map_err(|error| one_line(&error))?;
        appended.map_err(|error| one_line(&error)).map(drop)
    }

    /// Writes the end: status, event, and last of all the result.
    pub(crate) fn end(&self, verdict: &Verdict, details: Option<Value>) -> Result<(), String> {
        self.release_reserve();
        let status = match verdict.failure {
            None => RuntimeResultStatus::Completed,
            Some(_) => RuntimeResultStatus::Failed,
        };
        let reported = self.tell(status.into(), &verdict.message, Some(verdict.brief()), true);
        let mut result = RuntimeTerminalResult::failed(now(), verdict.message.as_str());
        result.status = status;
        result.exit_code = verdict.exit_code;
        result.details = details;
        // The truth is told even when the news is not.
        result.write(Path::new(&self.paths.result_path)).map_err(|error| one_line(&error))?;
        reported
    }
}

/// The file that the runner of a state directory has locked.
pub(crate) fn lock_path(state_dir: &Path) -> PathBuf {
    state_dir.join(".runner.lock")
}

/// Now, by the clock of this machine and in its offset.
pub(crate) fn now() -> Timestamp {
    SystemClock.now().with_timezone(&Local).fixed_offset()
}

/// Makes the state directory of a guest a link to a directory that outlives a stop, unless there is
/// something already.
fn link_state_dir(dir: &Path, kept: &Path) -> io::Result<()> {
    match fs::symlink_metadata(dir) {
        Ok(_) => {
            // A link whose directory was cleaned away.
            return if dir.exists() { Ok(()) } else { fs::create_dir_all(fs::read_link(dir)?) };
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir_all(kept)?;
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    match std::os::unix::fs::symlink(kept, dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_becomes_a_link_where_there_is_none() {
        let root = tempfile::tempdir().unwrap();
        let (dir, kept) = (root.path().join("run/pika-cloud"), root.path().join("var/lib/pika-cloud"));
        link_state_dir(&dir, &kept).unwrap();
        assert_eq!(fs::read_link(&dir).unwrap(), kept);
        fs::remove_dir(&kept).unwrap();
        link_state_dir(&dir, &kept).unwrap();
        assert!(kept.is_dir());
        fs::remove_file(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        link_state_dir(&dir, &kept).unwrap();
        assert!(fs::symlink_metadata(&dir).unwrap().is_dir(), "what is there stays");
    }

    #[test]
    fn one_runner_at_a_time_owns_a_state() {
        let root = tempfile::tempdir().unwrap();
        let paths = RuntimePaths::in_dir(root.path().join("s").to_str().unwrap());
        let state = State::open(&paths, GuestRuntime::HostProcess).unwrap();
        fs::write(&paths.result_path, "of the first").unwrap();
        let second = State::open(&paths, GuestRuntime::HostProcess);
        assert!(matches!(second, Err(StateError::Busy(_))));
        assert!(Path::new(&paths.result_path).exists(), "what is another's is not touched");
        drop(state);
        State::open(&paths, GuestRuntime::HostProcess).unwrap();
        assert!(!Path::new(&paths.result_path).exists());
    }
}
