//! `run --only JOB` and `run -- ARGS`: which jobs of a target are meant.

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::text::shorten;
use crate::targets::{TargetSpec, nearest};

/// Ids of the jobs that were asked for by name. The name of a matrix means all its jobs.
pub(super) fn jobs(
    session: &Session,
    target: &TargetSpec,
    asked: &[String],
    args: &[String],
) -> Result<Vec<String>, CliError> {
    let mut ids: Vec<String> = Vec::new();
    for name in asked {
        let of_matrix = |id: &str| id.rsplit_once('.').is_some_and(|(matrix, _)| matrix == name);
        let meant = target
            .jobs
            .iter()
            .filter(|job| job.id == *name || (!job.matrix.is_empty() && of_matrix(&job.id)));
        let meant: Vec<&str> = meant.map(|job| job.id.as_str()).collect();
        if meant.is_empty() {
            return Err(unknown(session, target, name));
        }
        for id in meant {
            if !ids.iter().any(|known| known == id) {
                ids.push(id.to_owned());
            }
        }
    }
    if !args.is_empty() && asked.is_empty() && target.jobs.len() > 1 {
        let count = target.jobs.len();
        let message =
            format!("arguments after -- are for one job, and the target `{}` has {count}", target.id);
        let first = target.jobs.first().map_or("JOB", |job| job.id.as_str());
        let hint = session.typed(["run", &target.id, "--only", first, "--"]);
        let args = args.iter().map(|arg| crate::render::text::typed(arg.as_ref())).collect::<Vec<_>>();
        return Err(CliError::usage(message).hint(format!("{hint} {}", args.join(" "))));
    }
    Ok(ids)
}

fn unknown(session: &Session, target: &TargetSpec, name: &str) -> CliError {
    let ids = || target.jobs.iter().map(|job| job.id.as_str());
    let hint = match nearest(name, ids()) {
        Some(nearest) => {
            format!("did you mean `{}`?", session.typed(["run", &target.id, "--only", nearest]))
        }
        None => {
            const SHOWN: usize = 20;
            let mut known: Vec<String> = ids().take(SHOWN).map(str::to_owned).collect();
            if target.jobs.len() > SHOWN {
                known.push(format!("… and {} more", target.jobs.len() - SHOWN));
            }
            format!("its jobs are: {}", known.join(", "))
        }
    };
    let message = format!("the target `{}` has no job `{}`", target.id, shorten(name));
    CliError::new(Exit::NotFound, message).hint(hint)
}
