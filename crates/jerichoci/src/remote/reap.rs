//! Jobs on a host whose engine died: ended, and what they left there removed.
//!
//! Each job has its directory below `<work dir>/runs/`, with the id of its engine in `owner.json`. Those of
//! other engines are never touched, and neither are those whose run somebody works on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::{CancelToken, Command, Host as _, HostError, SshHost};
use serde::Deserialize;

use super::host::Ready;
use crate::causes::with_causes;
use crate::model::id::check_name;

const LIST: &str = include_str!("jobs.sh");
/// Ends a job and removes what it has left.
pub(crate) const REMOVE: &str = include_str!("remove.sh");

/// Says whether somebody works on the run with this id.
#[derive(Clone)]
pub(crate) struct Alive(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl Alive {
    pub(crate) fn new(is_alive: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_alive))
    }
}

impl fmt::Debug for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alive")
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

/// Ends and removes the jobs of `engine` that nobody works on.
pub(super) fn reap(
    ssh: &SshHost,
    ready: &Ready,
    engine: &str,
    alive: &Alive,
    cancel: &CancelToken,
) -> ReapedJobs {
    let mut reaped = ReapedJobs::default();
    let found = match find(ssh, ready, engine, alive, cancel) {
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
    for (name, dir) in found {
        let command = remove(ready, &dir);
        match ssh.run(&command, cancel) {
            Ok(output) if output.exit.success() => reaped.jobs.push(name),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
                reaped.problems.push(format!("job {name} on {} was not ended: {said}", ssh.label()));
            }
            Err(error) => {
                let why = with_causes(&error);
                reaped.problems.push(format!("job {name} on {} was not ended: {why}", ssh.label()));
            }
        }
    }
    reaped
}

/// The command that ends a job and removes its directory.
pub(crate) fn remove(ready: &Ready, dir: &Path) -> Command {
    Command::new("sh").args(["-c", REMOVE, "sh"]).arg(&ready.runner).arg(dir)
}

fn find(
    ssh: &SshHost,
    ready: &Ready,
    engine: &str,
    alive: &Alive,
    cancel: &CancelToken,
) -> Result<Vec<(String, PathBuf)>, HostError> {
    let output = ssh.run(&Command::new("sh").args(["-c", LIST, "sh"]).arg(&ready.work_dir), cancel)?;
    let owners = output.stdout.split(|byte| *byte == b'\n');
    let ours = owners.filter_map(|line| serde_json::from_slice::<Owner>(line).ok()).filter(|owner| {
        let names = [&owner.run_id, &owner.job_id];
        owner.engine == engine
            && names.iter().all(|name| check_name(name).is_ok())
            && !(alive.0)(&owner.run_id)
    });
    let place = |owner: Owner| {
        let dir = ready.work_dir.join("runs").join(&owner.run_id).join("jobs").join(&owner.job_id);
        (format!("{}/{}", owner.run_id, owner.job_id), dir)
    };
    Ok(ours.map(place).collect())
}
