//! Errors of the engine: the exit code of each, and what to type next.

use std::io::ErrorKind;
use std::path::Path;

use jericho_host::HostError;
use jericho_host::lock::LockError;
use jerichoci::EngineError;
use jerichoci::model::id::RunId;
use jerichoci::snapshot::SnapshotError;

use super::session::Session;
use crate::config::{existing, look_at};
use crate::exit::Exit;
use crate::render::text::typed;

/// How an error is told.
pub(super) struct Told {
    pub(super) exit: Exit,
    /// In place of the error's own words, which are then the cause.
    pub(super) message: Option<String>,
    pub(super) hint: String,
}

/// For every error there is something to type.
pub(super) fn of(session: &Session, error: &EngineError) -> Told {
    let command = |args: &[&str]| session.typed(args.iter().copied());
    let usage = |hint: String| Told { exit: Exit::Usage, message: None, hint };
    let not_found = |hint: String| Told { exit: Exit::NotFound, message: None, hint };
    let machine = |hint: String| Told { exit: Exit::Infrastructure, message: None, hint };
    match error {
        EngineError::Request(_) => usage("mend the target in jericho.toml, and run again".to_owned()),
        EngineError::Id(_) | EngineError::NotRepeatable { .. } => usage(command(&["list"])),
        EngineError::RunNotFound { .. } => not_found(command(&["list"])),
        EngineError::JobNotFound { run_id, .. }
        | EngineError::NoJobs { run_id }
        | EngineError::NoPreparedOutputs { run_id } => not_found(command(&["status", run_id])),
        EngineError::LogNotFound { run_id, .. } => not_found(command(&["logs", run_id, "--metadata-json"])),
        EngineError::WhichJob { run_id, .. } => usage(command(&["shell", run_id, "JOB"])),
        EngineError::Shell { .. } => machine(command(&["list", "--kept"])),
        EngineError::Corrupt { path, .. } => {
            let (message, hint) = damaged(session, path);
            Told { exit: Exit::Infrastructure, message, hint }
        }
        EngineError::Busy(_) => machine(command(&["list"])),
        EngineError::File { path, source, .. } => machine(file(path, source.kind())),
        EngineError::Lock(error) => machine(lock(error)),
        EngineError::Snapshot(SnapshotError::Cancelled(_)) | EngineError::Host(HostError::Cancelled(_)) => {
            Told { exit: Exit::Cancelled, message: None, hint: "nothing was started; run again".to_owned() }
        }
        EngineError::Snapshot(error) => machine(snapshot(error, &command)),
        EngineError::Host(error) => machine(host(error)),
        _ => machine(command(&["list"])),
    }
}

/// A document that cannot be understood. That of a run is named by its run.
fn damaged(session: &Session, path: &Path) -> (Option<String>, String) {
    let directory = path.parent().unwrap_or(path);
    let name = directory.file_name().and_then(|name| name.to_str());
    let Some(run_id) = name.and_then(|name| name.parse::<RunId>().ok()) else {
        // Of the state root as a whole.
        return (None, "pikaci --state-root DIR, with a name that is free or an empty directory".to_owned());
    };
    let message = (path.file_name().is_some_and(|name| name == "run.json"))
        .then(|| format!("the record of run {run_id} is damaged"));
    let journal = directory.join("events.jsonl");
    let hint = match journal.is_file() {
        true => format!("cat {}, for what is known of the run", typed(&journal)),
        false => format!("{}, for the other runs; gc removes this one in its turn", session.typed(["list"])),
    };
    (message, hint)
}

fn file(path: &Path, kind: ErrorKind) -> String {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("df -h {}, and make room; pikaci gc removes old runs", typed(existing(path)))
        }
        ErrorKind::ReadOnlyFilesystem => {
            "pikaci --state-root DIR, with a directory that can be written".to_owned()
        }
        _ => look_at(path),
    }
}

fn lock(error: &LockError) -> String {
    match error {
        LockError::Io { path, source } => file(path, source.kind()),
        _ => "pikaci --state-root DIR, on a file system with locks, such as the local disk".to_owned(),
    }
}

fn snapshot(error: &SnapshotError, command: &dyn Fn(&[&str]) -> String) -> String {
    match error {
        SnapshotError::Io { path, source, .. } | SnapshotError::BadRoot { path, source } => {
            file(path, source.kind())
        }
        SnapshotError::Lock(error) => lock(error),
        SnapshotError::StateRootIsSource { .. } => {
            "pikaci --state-root DIR, with a directory of its own".to_owned()
        }
        SnapshotError::Unreadable { .. } | SnapshotError::Unsteady { .. } | SnapshotError::TooLarge => {
            "name what no check needs in .jerichociignore".to_owned()
        }
        SnapshotError::Git { dir, .. } => format!("git -C {} status", typed(dir)),
        SnapshotError::GitStart { source, .. } => host(source),
        SnapshotError::BadIgnoreFile { path, .. } => format!("mend {}", typed(path)),
        _ => format!("{}, for a run whose snapshot is whole; or run again", command(&["list"])),
    }
}

fn host(error: &HostError) -> String {
    match error {
        HostError::NotFound { program } | HostError::Start { program, .. } => {
            format!("command -v {}", typed(Path::new(program)))
        }
        HostError::File { path, source, .. } => file(path, source.kind()),
        HostError::Sink(_) => "df -h, and make room".to_owned(),
        HostError::Mount { .. } | HostError::System(..) => {
            "ulimit -a; the machine refused what every process may ask for".to_owned()
        }
        _ => "run again".to_owned(),
    }
}
