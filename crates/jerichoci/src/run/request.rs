//! What a run is asked to do.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::model::demands::CacheSpec;
use crate::model::id::{IdError, RunId, check_name};
use crate::model::is_false;
use crate::model::job::{GuestCommand, JobRuntimeKind, JobSpec};
use crate::model::record::BaseRecord;

/// What is known about a run beside its jobs; recorded as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunMetadata {
    /// Target that was asked for.
    #[serde(default)]
    pub target_id: Option<String>,
    /// One line about it.
    #[serde(default)]
    pub target_description: Option<String>,
    /// Files that differ from the base, relative to the source root.
    #[serde(default)]
    pub changed_files: Vec<String>,
    /// What they were counted against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseRecord>,
    /// Path filters of the target.
    #[serde(default)]
    pub filters: Vec<String>,
    /// One line for people.
    #[serde(default)]
    pub message: Option<String>,
}

/// How a run goes about it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunOptions {
    /// After a failure, go on with what does not depend on it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keep_going: bool,
    /// Only these jobs, and what they need; all when empty. The other jobs are not in the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Appended to the commands of the jobs in `only`, or of all jobs: arguments of a program,
    /// positional parameters (`"$@"`) of a script.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// A guest whose job did not pass is kept for two hours, stopped or not, to be looked at.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keep_on_failure: bool,
    /// Needs of the jobs that count as passed although they are not in the run: a rerun of what
    /// is outstanding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub satisfied: Vec<String>,
}

impl RunOptions {
    /// What is appended to the command of a job.
    #[must_use]
    pub fn args_of(&self, job_id: &str) -> &[String] {
        let takes = self.only.is_empty() || self.only.iter().any(|id| id == job_id);
        if takes { &self.args } else { &[] }
    }
}

/// A request for one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunRequest {
    /// The jobs.
    pub jobs: Vec<JobSpec>,
    /// What is recorded beside them.
    pub metadata: RunMetadata,
    /// How it goes about it.
    pub options: RunOptions,
    /// Record a skipped run, and why, in place of running: no filter matched.
    pub skip: Option<String>,
}

/// A request to repeat a run.
///
/// Without options it is the recorded snapshot, byte for byte, and the recorded definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RerunRequest {
    /// The run.
    pub run_id: RunId,
    /// Only the outstanding jobs: those that did not pass, and all that need them. Needs that
    /// passed count as such. When nothing is outstanding, a skipped run is recorded.
    pub failed_only: bool,
    /// Today's tree, with these jobs, in place of what was recorded.
    pub current: Option<Vec<JobSpec>>,
    /// Guests whose jobs do not pass are kept, also when the run did not ask for it.
    pub keep_on_failure: bool,
}

impl RerunRequest {
    /// All of it, as it was.
    #[must_use]
    pub const fn new(run_id: RunId) -> Self {
        Self { run_id, failed_only: false, current: None, keep_on_failure: false }
    }

    /// Only the outstanding jobs.
    #[must_use]
    pub fn failed_only(mut self, failed_only: bool) -> Self {
        self.failed_only = failed_only;
        self
    }

    /// Today's tree and these jobs.
    #[must_use]
    pub fn current(mut self, jobs: Vec<JobSpec>) -> Self {
        self.current = Some(jobs);
        self
    }
}

impl RunRequest {
    /// A request for these jobs.
    #[must_use]
    pub fn new(jobs: Vec<JobSpec>) -> Self {
        Self { jobs, ..Self::default() }
    }

    /// Names the target.
    #[must_use]
    pub fn target(mut self, id: impl Into<String>, description: Option<String>) -> Self {
        self.metadata.target_id = Some(id.into());
        self.metadata.target_description = description;
        self
    }

    /// Goes on after a failure.
    #[must_use]
    pub fn keep_going(mut self, keep_going: bool) -> Self {
        self.options.keep_going = keep_going;
        self
    }

    /// Records a skipped run with this message.
    #[must_use]
    pub fn skip(mut self, why: impl Into<String>) -> Self {
        self.skip = Some(why.into());
        self
    }

    /// Checks what can be checked without effects.
    ///
    /// # Errors
    /// The first [`RequestError`].
    pub fn check(&self) -> Result<(), RequestError> {
        let mut ids = BTreeSet::new();
        for job in &self.jobs {
            check_name(&job.id)?;
            if !ids.insert(job.id.as_str()) {
                return Err(RequestError::DuplicateJob(job.id.clone()));
            }
            if job.timeout_secs == 0 {
                return Err(RequestError::ZeroTimeout(job.id.clone()));
            }
            if matches!(&job.command, GuestCommand::Argv { argv } if argv.is_empty()) {
                return Err(RequestError::EmptyCommand(job.id.clone()));
            }
            check_demands(job)?;
            if let Some(name) = job.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
                return Err(RequestError::BadVariable { job: job.id.clone(), name: name.clone() });
            }
        }
        if let Some(id) = &self.metadata.target_id {
            check_name(id)?;
        }
        Ok(())
    }
}

/// What a job asks of its surroundings, as far as it can be judged without them.
fn check_demands(job: &JobSpec) -> Result<(), RequestError> {
    let is_variable = |name: &str| {
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        first && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if let Some(secret) = job.secrets.iter().find(|secret| !is_variable(&secret.name)) {
        return Err(RequestError::BadVariable { job: job.id.clone(), name: secret.name.clone() });
    }
    let bad_cache =
        |name: &str, why: String| RequestError::BadCache { job: job.id.clone(), name: name.to_owned(), why };
    let in_workspace = job.runtime.kind() == JobRuntimeKind::HostProcess;
    for (name, cache) in &job.caches {
        check_name(name)?;
        let path = Path::new(&cache.path);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        if in_workspace && !(plain && path.components().next().is_some()) {
            return Err(bad_cache(name, format!("`{}` is not a plain path in the workspace", cache.path)));
        }
        let in_guest = job.runtime.kind() == JobRuntimeKind::Incus;
        if in_guest && let Some(why) = CacheSpec::problem_in_guest(&cache.path) {
            return Err(bad_cache(name, format!("it cannot be at {}: {why}", cache.path)));
        }
        let overlaps = job.caches.iter().find(|(other, spec)| {
            *other != name && (path.starts_with(&spec.path) || Path::new(&spec.path).starts_with(path))
        });
        if let Some((other, _)) = overlaps {
            return Err(bad_cache(name, format!("its path overlaps with that of `{other}`")));
        }
    }
    for pattern in &job.artifacts {
        crate::executor::process::check_pattern(pattern).map_err(|why| RequestError::BadArtifact {
            job: job.id.clone(),
            pattern: pattern.clone(),
            why,
        })?;
    }
    Ok(())
}

/// Why a request cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// An id is not usable as one.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Two jobs have one id.
    #[error("two jobs are called `{0}`")]
    DuplicateJob(String),
    /// A job has no time at all.
    #[error("job `{0}` has a time limit of 0")]
    ZeroTimeout(String),
    /// A job has no program.
    #[error("job `{0}` has an empty command")]
    EmptyCommand(String),
    /// A command with a NUL byte, which no program can be given.
    #[error("the command of job `{0}` has a NUL byte")]
    NulInCommand(String),
    /// Root is only to be had in a guest.
    #[error("job `{0}` wants to be root, which only a guest offers; it runs as a host process")]
    RootOnHost(String),
    /// Two jobs share a prefix of prepared outputs and mean different ones.
    #[error("jobs `{first}` and `{second}` share the prepared outputs `{prefix}`, but name different ones")]
    StagedConflict {
        /// The shared prefix.
        prefix: String,
        /// The first job.
        first: String,
        /// The one that differs.
        second: String,
    },
    /// A name that cannot be a variable's.
    #[error("job `{job}` sets a variable called `{name}`, which no variable can be called")]
    BadVariable {
        /// The job.
        job: String,
        /// The name.
        name: String,
    },
    /// A job that was asked for by its name, and that there is not.
    #[error("there is no job `{job}`; the jobs are: {known}")]
    UnknownJob {
        /// The name.
        job: String,
        /// What there is, comma separated.
        known: String,
    },
    /// A job names a secret whose value the caller has not given.
    #[error("job `{job}` needs the secret {name}, which is not set")]
    MissingSecret {
        /// The job.
        job: String,
        /// Name of the variable.
        name: String,
    },
    /// A secret that would be found in every second line of a log.
    #[error("the secret {name} has fewer than {least} bytes, so its value cannot be masked in logs")]
    ShortSecret {
        /// Name of the variable.
        name: String,
        /// How many it must have.
        least: usize,
    },
    /// A secret that is no secret but a file.
    #[error("the secret {name} has more than {most} bytes; give a job the path of a file in place of it")]
    LongSecret {
        /// Name of the variable.
        name: String,
        /// How many it may have.
        most: usize,
    },
    /// The secrets are too large altogether to be masked.
    #[error("the secrets of this run cannot be masked: {0}")]
    TooManySecrets(String),
    /// A cache that cannot be where it is asked for.
    #[error("the cache `{name}` of job `{job}` cannot be: {why}")]
    BadCache {
        /// The job.
        job: String,
        /// Name of the cache.
        name: String,
        /// Why.
        why: String,
    },
    /// A pattern of artifacts that cannot match.
    #[error("the artifacts `{pattern}` of job `{job}` cannot be: {why}")]
    BadArtifact {
        /// The job.
        job: String,
        /// The pattern.
        pattern: String,
        /// Why.
        why: String,
    },
    /// A need that no job has.
    #[error("job `{job}` needs `{need}`, which is not a job of this run")]
    UnknownNeed {
        /// The job.
        job: String,
        /// What it needs.
        need: String,
    },
    /// Jobs that wait for each other.
    #[error("jobs need each other in a circle: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
}
