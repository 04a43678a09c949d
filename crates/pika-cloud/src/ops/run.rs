//! The whole life of a guest by its policies: ensure, start, follow, again, collect, keep or destroy.

use std::path::PathBuf;
use std::time::Duration;

use jericho_host::CancelToken;

use super::collect::Collected;
use super::ended::Ended;
use super::ensure::InstanceRef;
use super::error::OpsError;
use super::facts::Image;
use super::follow::{Limits, Progress};
use super::incus::Incus;
use super::launch::Launch;
use super::observer::{Note, Observer};
use super::patience::{Backoff, Patience};
use crate::lifecycle::LifecycleState;
use crate::plan::IncusRuntimePlan;
use crate::spec::RetentionPolicy;

/// How long the cleaning up after a cancellation may try to reach Incus.
const CLEANUP: Duration = Duration::from_secs(3);

/// How a guest is run.
#[derive(Debug, Clone, Default)]
pub struct Course {
    /// How its entry program is started, at each attempt.
    pub launch: Launch,
    /// What limits each attempt.
    pub limits: Limits,
    /// Where output goes that the policy collects; none is collected without it.
    pub output: Option<PathBuf>,
    /// Attempts at most, whatever the restart policy says; no limit when absent.
    pub attempts: Option<u32>,
}

/// How the life of a guest went.
#[derive(Debug)]
pub struct Outcome {
    /// How the last attempt ended.
    pub ended: Ended,
    /// What it was made from.
    pub image: Image,
    /// How often the entry program was started.
    pub attempts: u32,
    /// What was brought back.
    pub collected: Collected,
    /// Whether the guest is still there, because the policy says so.
    pub kept: bool,
    /// What went wrong afterwards and does not change the outcome: collecting, removing.
    pub warnings: Vec<String>,
}

impl Incus {
    /// Runs a guest from its creation to its end, as its policies say.
    ///
    /// Attempts that the restart policy asks for follow after pauses of 1 s, 2 s, … 60 s; a guest
    /// that was stopped is started again, one that was deleted is not made again. A cancelled
    /// guest is removed, but one with `debug_keep` is only stopped.
    ///
    /// # Errors
    ///
    /// As [`ensure`](Self::ensure), [`start_detached`](Self::start_detached) and
    /// [`follow`](Self::follow); nothing is left behind then, unless it is [`OpsError::LeftBehind`].
    pub fn run(
        &self,
        plan: &IncusRuntimePlan,
        course: &Course,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, OpsError> {
        let ensured = self.ensure(plan, observer)?;
        let lived = self.live(plan, course, observer);
        let (ended, attempts) = match lived {
            Ok(lived) => lived,
            Err(error) => return Err(self.abandon(plan, error)),
        };
        let mut warnings = Vec::new();
        let mut warn = |observer: &mut dyn Observer, error: OpsError| {
            observer.note(Note::Warning(error.to_string()));
            warnings.push(error.to_string());
        };
        let mut collected = Collected::default();
        if let Some(into) = &course.output {
            match self.collect(plan, &ended, into) {
                Ok(files) => collected = files,
                Err(error) => warn(observer, error),
            }
        }
        let mut kept = plan.policies.retention_policy.keeps_after(&ended);
        if !kept {
            match self.cleaner(false).destroy(&ensured.instance) {
                Ok(()) => observer.host_saw(LifecycleState::Destroyed),
                Err(error) => {
                    kept = true;
                    warn(observer, error);
                }
            }
        }
        Ok(Outcome { ended, image: ensured.image, attempts, collected, kept, warnings })
    }

    /// All attempts of a guest that is there.
    fn live(
        &self,
        plan: &IncusRuntimePlan,
        course: &Course,
        observer: &mut dyn Observer,
    ) -> Result<(Ended, u32), OpsError> {
        let instance = InstanceRef::of(plan);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut progress = Progress::default();
        let mut attempt = 1;
        loop {
            let started = self.start_detached(plan, &course.launch)?;
            // The journal goes on; the output is a new one.
            progress = Progress { stdout: 0, stderr: 0, ..progress };
            let ended = self.follow(&started, &plan.paths, &course.limits, &mut progress, observer)?;
            if matches!(ended, Ended::Stopped | Ended::Deleted) {
                observer.host_saw(if ended.has_guest() {
                    LifecycleState::Stopped
                } else {
                    LifecycleState::Destroyed
                });
            }
            let is_last = course.attempts.is_some_and(|most| attempt >= most);
            if is_last || !plan.policies.restart_policy.restarts_after(&ended) {
                return Ok((ended, attempt));
            }
            attempt += 1;
            let after = backoff.next();
            observer.note(Note::Restarting { attempt, after });
            self.client.pause(after).map_err(OpsError::Cancelled)?;
            if !ended.runs_on() {
                // It may still be ending itself, and a start would then be told that it runs.
                self.stop(&instance)?;
                self.start(&instance)?;
                observer.host_saw(LifecycleState::Booted);
            }
        }
    }

    /// Removes the guest of a life that failed or was cancelled; returns what to tell.
    fn abandon(&self, plan: &IncusRuntimePlan, error: OpsError) -> OpsError {
        let instance = InstanceRef::of(plan);
        let cleaner = self.cleaner(error.is_connection());
        let cleaned = if plan.policies.retention_policy == RetentionPolicy::DebugKeep {
            cleaner.stop(&instance)
        } else {
            cleaner.destroy(&instance)
        };
        match cleaned {
            Ok(()) | Err(OpsError::NotFound { .. }) => error,
            Err(cleanup) => OpsError::LeftBehind {
                instance: instance.name,
                cleanup: Box::new(cleanup),
                error: Box::new(error),
            },
        }
    }

    /// A client for cleaning up: when this one is cancelled, one that nobody cancels; then, and
    /// when the connection has just been waited for in vain, one that does not wait long.
    pub(crate) fn cleaner(&self, in_vain: bool) -> Self {
        match CancelToken::new() {
            Ok(token) if in_vain || self.client.cancel.is_cancelled() => {
                let patience = self.patience();
                self.with_cancel(&token).with_patience(Patience {
                    reconnect: patience.reconnect.min(CLEANUP),
                    first_contact: patience.first_contact.min(CLEANUP),
                    request: patience.request.min(CLEANUP),
                    operation: patience.operation.min(CLEANUP),
                    ..patience
                })
            }
            _ => self.clone(),
        }
    }
}
