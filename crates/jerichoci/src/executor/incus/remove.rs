//! The end of a guest: it goes, with all that only it needed, or it is kept to be looked at.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, Utc};
use jericho_host::{CancelToken, Clock};
use pika_cloud::ops::{Incus, InstanceRef, OpsError, Patience};

use super::caches::Caches;
use super::intent::{GuestIntent, GuestPlace};
use super::labels;
use super::snapshot::Hold;
use crate::causes::with_causes;
use crate::executor::after::{Cleaned, Cleanup, Fate};
use crate::model::record::KeptInstanceRecord;

/// How long a guest is kept to be looked at.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(2 * 3600);

/// How long the removal of a guest may take.
const PATIENCE: Patience = Patience {
    first_contact: Duration::from_secs(5),
    reconnect: Duration::from_secs(30),
    request: Duration::from_secs(30),
    operation: Duration::from_secs(120),
    full: Duration::ZERO,
};

/// Labels a guest as one that somebody looks at, so that no reaper ends it for as long as it is usually kept. `here`
/// is the time on this machine, where the guest's host does not say it.
pub(crate) fn keep_for_a_person(
    incus: &Incus,
    instance: &InstanceRef,
    here: DateTime<Utc>,
) -> Result<(), OpsError> {
    let now = incus.time()?.unwrap_or(here);
    incus.set_labels(instance, &labels::kept(labels::later(now, KEPT_FOR)))
}

/// What to tell of a guest that could not be removed.
pub(super) fn still_there(place: &GuestPlace, instance: &str, why: &str) -> String {
    format!(
        "instance {instance} in the Incus project {} on {} is still there ({why}); the next run that uses that Incus, \
         or `pikaci reap`, ends it",
        place.project,
        place.host_name()
    )
}

/// Writes down in the directory of the job that its guest is kept from now on, so that its run is not collected. `here`
/// is the time on this machine.
pub(crate) fn note_kept(job_dir: &Path, here: DateTime<Utc>) -> io::Result<()> {
    GuestIntent::keep(job_dir, labels::later(here, KEPT_FOR))
}

/// Whether a guest is labelled so.
pub(crate) fn is_kept(incus: &Incus, instance: &InstanceRef) -> Result<bool, OpsError> {
    let listed = incus.list(&instance.project, &labels::Labels::new())?;
    let found = listed.iter().find(|one| one.instance == *instance);
    Ok(found.is_some_and(|one| labels::keep_until(one).is_some()))
}

/// A guest whose job has ended, with what it stands on.
pub(super) struct Leftover {
    pub(super) incus: Incus,
    pub(super) instance: InstanceRef,
    pub(super) intent: GuestIntent,
    pub(super) run_id: String,
    pub(super) job_id: String,
    pub(super) job_dir: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) hold: Hold,
    pub(super) caches: Caches,
}

impl Leftover {
    /// It was never made, or is gone already; else what is written down stays for the reaper.
    pub(super) fn was_not_made(self, is_gone: bool) {
        if is_gone && let Ok(token) = CancelToken::new() {
            GuestIntent::forget(&self.job_dir);
            // What cannot be removed goes with the run, and a lease with the connection.
            let _ = self.hold.release(&token);
        }
    }

    /// What is left to do.
    pub(super) fn into_cleanup(self) -> Cleanup {
        Cleanup::new(move |fate, cancel| match fate {
            Fate::Remove => self.remove(cancel),
            Fate::Keep => self.keep(cancel),
        })
    }

    fn remove(self, cancel: &CancelToken) -> Cleaned {
        let mut cleaned = Cleaned::default();
        match self.incus.with_cancel(cancel).with_patience(PATIENCE).destroy(&self.instance) {
            Ok(()) => {
                GuestIntent::forget(&self.job_dir);
                cleaned.warnings.extend(self.hold.release(cancel).err());
            }
            Err(error) => {
                let name = &self.instance.name;
                let left = still_there(&self.intent.place, name, "it could not be removed");
                cleaned.left_behind.push(left);
                cleaned.warnings.push(format!("instance {name} was not removed: {}", with_causes(&error)));
            }
        }
        // Until here: a guest that is still there may still write to them.
        drop(self.caches);
        cleaned
    }

    fn keep(self, cancel: &CancelToken) -> Cleaned {
        let incus = self.incus.with_cancel(cancel).with_patience(PATIENCE);
        // To the second, as its label has it.
        let until = labels::later(self.now(&incus), KEPT_FOR).trunc_subsecs(0);
        if let Err(error) = incus.set_labels(&self.instance, &labels::kept(until)) {
            let why = match &error {
                OpsError::NotFound { .. } => "it is gone".to_owned(),
                other => with_causes(other),
            };
            let mut cleaned = self.remove(cancel);
            cleaned.warnings.push(format!("the guest is not kept: {why}"));
            return cleaned;
        }
        let noted = note_kept(&self.job_dir, self.clock.now());
        let not_noted = |error| format!("a collection may take the run of the guest that is kept: {error}");
        let warnings = noted.err().map(not_noted).into_iter().collect();
        let InstanceRef { project, name } = self.instance;
        let (run_id, job_id, place) = (self.run_id, self.job_id, self.intent.place);
        let line = format!(
            "kept until {}: instance {name} in the Incus project {project} on {}; look at it with \
             `pikaci shell {run_id} {job_id}`",
            until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            place.host_name(),
        );
        let kept = KeptInstanceRecord {
            run_id,
            job_id,
            host: place.host,
            project,
            instance: name,
            keep_until: until,
        };
        Cleaned { kept: Some(kept), lines: vec![line], warnings, ..Cleaned::default() }
    }

    /// By the clock of the guest's host, as far as it is known.
    fn now(&self, incus: &Incus) -> DateTime<Utc> {
        let here = self.intent.place.host.is_none();
        let there = if here { None } else { incus.time().ok().flatten() };
        there.unwrap_or_else(|| self.clock.now())
    }
}
