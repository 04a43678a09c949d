//! Jobs on a host whose engine died: ended, and what they left there removed.
//!
//! Each job has its directory below `<work dir>/runs/`, with the id of its engine in `owner.json`. Those of
//! other engines are never touched, and neither are those whose run somebody works on. After them goes what shells have
//! left there that were killed, or that went down with the host: it is nobody's, whoever had opened them.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::{CancelToken, Command, Exit, Host, HostError, Output, SshHost};
use rustix::fs::{AtFlags, Mode, OFlags};
use serde::Deserialize;

use super::host::Ready;
use crate::beneath;
use crate::causes::with_causes;
use crate::model::id::check_name;

const LIST: &str = include_str!("jobs.sh");
const SWEEP: &str = include_str!("shells.sh");
/// Ends a job and removes what it has left.
pub(crate) const REMOVE: &str = include_str!("remove.sh");

/// Prints a file, or says that there is none.
const CAT: &str = r#"if [ -e "$1" ]; then exec cat "$1"; fi; echo "there is no $1" >&2; exit 44"#;
/// What [`CAT`] ends with where there is no file.
const MISSING: i32 = 44;

/// What a reaper knows of the runs of its engine.
#[derive(Clone)]
pub(crate) struct Runs(Arc<dyn KnowsRuns>);

/// See [`Runs`].
pub(crate) trait KnowsRuns: Send + Sync {
    /// Whether somebody works on the run with this id.
    fn is_alive(&self, run_id: &str) -> bool;

    /// The directory for the last words of a job whose engine died before it had told how the job has ended.
    fn home(&self, run_id: &str, job_id: &str) -> Option<PathBuf>;

    /// Notes in the log of the job what has come home.
    fn note(&self, run_id: &str, job_id: &str, line: &str);

    /// Lets go of what runs of an engine that nobody works on have there for prepared outputs: roots in the store, and
    /// requests. Says what did not go.
    fn let_go(&self, place: &Leftovers<'_>, cancel: &CancelToken) -> Vec<String>;
}

/// Where runs have left something for prepared outputs.
pub(crate) struct Leftovers<'a> {
    pub(crate) host: &'a Arc<dyn Host>,
    /// Its name.
    pub(crate) name: &'a str,
    /// The directory of runs there.
    pub(crate) runs: &'a Path,
    /// Whose runs.
    pub(crate) engine_id: &'a str,
}

impl Runs {
    pub(super) fn let_go(&self, place: &Leftovers<'_>, cancel: &CancelToken) -> Vec<String> {
        self.0.let_go(place, cancel)
    }

    pub(crate) fn new(runs: impl KnowsRuns + 'static) -> Self {
        Self(Arc::new(runs))
    }
}

impl fmt::Debug for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runs")
    }
}

/// What was found on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReapedJobs {
    /// Jobs that were ended, or had ended, and were removed: `<run>/<job>` each.
    pub jobs: Vec<String>,
    /// What could not be looked at, ended or removed, one line each.
    pub problems: Vec<String>,
}

/// `owner.json` of a job.
#[derive(Debug, Deserialize)]
struct Owner {
    engine: String,
    run_id: String,
    job_id: String,
}

/// Ends and removes the jobs of `engine` that nobody works on, or only names them.
pub(super) fn reap(
    ssh: &SshHost,
    ready: &Ready,
    engine: &str,
    runs: &Runs,
    dry_run: bool,
    cancel: &CancelToken,
) -> ReapedJobs {
    let mut reaped = ReapedJobs::default();
    let found = match find(ssh, ready, engine, runs, cancel) {
        Ok(found) => found,
        Err(error) => {
            reaped.problems.push(format!(
                "jobs on {} were not looked for: {}",
                ssh.label(),
                with_causes(&error)
            ));
            return reaped;
        }
    };
    for owner in found {
        let name = format!("{}/{}", owner.run_id, owner.job_id);
        if dry_run {
            reaped.jobs.push(name);
            continue;
        }
        let dir = ready.work_dir.join("runs").join(&owner.run_id).join("jobs").join(&owner.job_id);
        let problem =
            |what: &str, why: String| format!("job {name} on {} was not {what}: {why}", ssh.label());
        if let Err(why) = last_words(ssh, ready, &owner, &dir, runs, cancel) {
            reaped.problems.push(problem("collected from", why));
        }
        match said(ssh.run(&remove(ready, &dir), cancel)) {
            Ok(()) => reaped.jobs.push(name),
            Err(why) => reaped.problems.push(problem("ended", why)),
        }
    }
    reaped
}

/// Removes what shells have left there. Of many gigabytes that takes a while, so it comes after all that somebody waits
/// for; what it does not get to is removed by the next.
pub(super) fn sweep(ssh: &SshHost, ready: &Ready, cancel: &CancelToken) {
    let _ = ssh.run(&Command::new("sh").args(["-c", SWEEP, "sh"]).arg(&ready.work_dir), cancel);
}

/// What went wrong with a command, by its own words.
fn said(output: Result<Output, HostError>) -> Result<(), String> {
    match output {
        Ok(output) if output.exit.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")),
        Err(error) => Err(with_causes(&error)),
    }
}

/// Ends a job and brings its log and its result home, where nobody has told how it has ended.
fn last_words(
    ssh: &SshHost,
    ready: &Ready,
    owner: &Owner,
    dir: &Path,
    runs: &Runs,
    cancel: &CancelToken,
) -> Result<(), String> {
    let Some(home) = runs.0.home(&owner.run_id, &owner.job_id) else { return Ok(()) };
    let end = Command::new(&ready.runner).args(["cancel", "--force"]).arg(dir.join("request.json"));
    said(ssh.run(&end, cancel))?;
    let mut had = Vec::new();
    // The verdict first. One that was ended before its command has no log.
    let wanted = [("state/result.json", "result.json", false), ("state/logs/guest.log", "guest.log", true)];
    for (from, name, may_miss) in wanted {
        // By its own name only when it is whole.
        let open = |name: &str| {
            let at = beneath::walk(&home, Path::new(""), false)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&at, name, flags, Mode::from_raw_mode(0o644))?;
            Ok::<_, io::Error>((File::from(file), at))
        };
        let partial = format!("{name}.part");
        let (mut file, at) = open(&partial).map_err(|error| error.to_string())?;
        let mut written = Ok(());
        let cat = Command::new("sh").args(["-c", CAT, "sh"]).arg(dir.join(from));
        let output = ssh.stream(&cat, cancel, &mut |piece| {
            if written.is_ok() {
                written = file.write_all(piece);
            }
        });
        if may_miss && output.as_ref().is_ok_and(|output| output.exit == Exit::Code(MISSING)) {
            let _ = rustix::fs::unlinkat(&at, &partial, AtFlags::empty());
            continue;
        }
        let whole = said(output).and_then(|()| written.map_err(|error| error.to_string()));
        let renamed = match whole {
            Ok(()) => rustix::fs::renameat(&at, &partial, &at, name).map_err(|error| error.to_string()),
            Err(why) => {
                let _ = rustix::fs::unlinkat(&at, &partial, AtFlags::empty());
                Err(why)
            }
        };
        renamed?;
        had.push(name);
    }
    let line = format!("collected from {} after the engine had died: {}", ssh.label(), had.join(", "));
    runs.0.note(&owner.run_id, &owner.job_id, &line);
    Ok(())
}

/// The command that ends a job and removes its directory.
pub(crate) fn remove(ready: &Ready, dir: &Path) -> Command {
    Command::new("sh").args(["-c", REMOVE, "sh"]).arg(&ready.runner).arg(dir)
}

fn find(
    ssh: &SshHost,
    ready: &Ready,
    engine: &str,
    runs: &Runs,
    cancel: &CancelToken,
) -> Result<Vec<Owner>, HostError> {
    let list = Command::new("sh").args(["-c", LIST, "sh"]).arg(&ready.work_dir);
    let output = ssh.run(&list, cancel)?;
    let owners = output.stdout.split(|byte| *byte == b'\n');
    let ours = owners.filter_map(|line| serde_json::from_slice::<Owner>(line).ok()).filter(|owner| {
        let names = [&owner.run_id, &owner.job_id];
        owner.engine == engine
            && names.iter().all(|name| check_name(name).is_ok())
            && !runs.0.is_alive(&owner.run_id)
    });
    Ok(ours.collect())
}
