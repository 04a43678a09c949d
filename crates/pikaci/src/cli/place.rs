//! Where the jobs of a run go: as their target says, or as somebody says for this run.

use jerichoci::model::job::{JobPlacement, JobRuntimeConfig, JobRuntimeKind, JobSpec};
use jerichoci::run::outputs::staged_linux_remote_defaults;

use crate::config::{HEADING, Places, Settings, word};
use crate::error::CliError;
use crate::operator::words_of;
use crate::render::text::shorten;
use crate::targets::file::LOCAL;

/// The option `--on`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct OnFlag {
    /// Run the jobs on this host, whatever they say: `local`, a host of the user's file, or anything
    /// that ssh takes as a destination
    #[arg(long, value_name = "HOST", value_parser = word, help_heading = HEADING)]
    pub(super) on: Option<String>,
}

/// The jobs where they are to run, with the images that the settings have for them.
///
/// # Errors
/// When the host that was asked for does not take one of them.
pub(super) fn placed(jobs: &[JobSpec], on: &OnFlag, settings: &Settings) -> Result<Vec<JobSpec>, CliError> {
    let places = &settings.places;
    let mut jobs = jobs.to_vec();
    for job in &mut jobs {
        match &on.on {
            Some(host) if host == LOCAL => job.placement = JobPlacement::Local,
            Some(host) => {
                check_allowed(host, job, places)?;
                job.placement = JobPlacement::RemoteSsh { host: host.clone() };
            }
            None => on_build_host(job, places),
        }
        image(job, places);
    }
    Ok(jobs)
}

/// The name of the build host that is built in stands for the one that the settings name.
fn on_build_host(job: &mut JobSpec, places: &Places) {
    if let (JobPlacement::RemoteSsh { host }, Some(name)) = (&mut job.placement, places.build_host())
        && host == staged_linux_remote_defaults().ssh_host
    {
        name.clone_into(host);
    }
}

/// The image of the user's file, for a job that leaves it open.
fn image(job: &mut JobSpec, places: &Places) {
    let host = match &job.placement {
        JobPlacement::Local => None,
        JobPlacement::RemoteSsh { host } => Some(host.as_str()),
    };
    if let JobRuntimeConfig::Incus(incus) = &mut job.runtime
        && incus.guest_role.is_none()
        && incus.image_alias.is_none()
    {
        incus.image_alias = places.image(host).map(str::to_owned);
    }
}

/// A host takes what its operator lists; one that is nowhere listed takes guests.
fn check_allowed(host: &str, job: &JobSpec, places: &Places) -> Result<(), CliError> {
    let runtime = job.runtime.kind();
    let allowed = places.allowed(host);
    if allowed.contains(&runtime) {
        return Ok(());
    }
    let word = words_of(&[runtime]).join("");
    let message = format!(
        "job `{}` has the runtime `{word}`, and host `{}` takes {}",
        job.id,
        shorten(host),
        match words_of(&allowed) {
            none if none.is_empty() => "no jobs".to_owned(),
            words => format!("only {}", words.join(" and ")),
        }
    );
    let hint = match runtime {
        JobRuntimeKind::HostProcess => {
            format!("allow = [\"incus\", \"{word}\"] in [hosts.NAME] of the user's file; or --only JOB")
        }
        _ => format!("add \"{word}\" to `allow` of the host in the user's file; or --only JOB"),
    };
    Err(CliError::usage(message).hint(hint))
}
