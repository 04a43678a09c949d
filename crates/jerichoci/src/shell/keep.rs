//! A guest that somebody looks at stays for as long as they do.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken, Clock};
use pika_cloud::ops::{Incus, InstanceRef, OpsError};

use crate::executor::incus::{is_kept, keep_for_a_person, note_kept};

/// How often its label is renewed: some of that may fail before its time is up.
pub(super) const RENEWED: Duration = Duration::from_secs(30 * 60);

/// While this is there, no reaper ends a guest that is kept, or that comes to be kept meanwhile. One whose job is
/// at work goes with that, and its lease is that of the job.
pub(super) struct Keeping {
    end: Option<Sender<()>>,
    cancel: Option<CancelToken>,
    thread: Option<JoinHandle<()>>,
}

impl Keeping {
    /// Renews the label now, and again and again; also what is written in the directory of the job that it is of.
    pub(super) fn begin(
        incus: &Incus,
        instance: &InstanceRef,
        job_dir: Option<&Path>,
        clock: &Arc<dyn Clock>,
        renewed: Duration,
    ) -> Result<Self, OpsError> {
        renew(incus, instance, job_dir, &**clock)?;
        // Without a token or a thread of its own it is kept as long as one label lasts.
        let Ok(cancel) = CancelToken::new() else {
            return Ok(Self { end: None, cancel: None, thread: None });
        };
        let (end, ended) = channel();
        let (incus, instance, clock) = (incus.with_cancel(&cancel), instance.clone(), Arc::clone(clock));
        let job_dir = job_dir.map(Path::to_path_buf);
        let thread = std::thread::Builder::new().name("keeping".to_owned()).spawn(move || {
            while ended.recv_timeout(renewed) == Err(RecvTimeoutError::Timeout) {
                // One that fails is made up for by the next.
                let _ = renew(&incus, &instance, job_dir.as_deref(), &*clock);
            }
        });
        Ok(Self { end: Some(end), cancel: Some(cancel), thread: thread.ok() })
    }
}

fn renew(
    incus: &Incus,
    instance: &InstanceRef,
    job_dir: Option<&Path>,
    clock: &dyn Clock,
) -> Result<(), OpsError> {
    if !is_kept(incus, instance)? {
        return Ok(());
    }
    keep_for_a_person(incus, instance, clock.now())?;
    // Whoever looks at the guest needs its run no more: without this it is only collected sooner.
    let _ = job_dir.map(|dir| note_kept(dir, clock.now()));
    Ok(())
}

impl Drop for Keeping {
    fn drop(&mut self) {
        drop(self.end.take());
        // It may be in the middle of a request, to somebody who does not answer.
        if let Some(cancel) = &self.cancel {
            cancel.cancel(CancelReason::Requested);
        }
        if let Some(thread) = self.thread.take() {
            // A panic there is not one here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use jericho_host::{LocalHost, SystemClock};
    use jericho_testkit::incus::Rig;
    use serde_json::json;

    use super::*;
    use crate::executor::incus::GuestIntent;

    #[test]
    fn a_guest_is_kept_for_as_long_as_somebody_looks_at_it() {
        let Some(rig) = Rig::up("a_guest_is_kept_for_as_long_as_somebody_looks_at_it") else { return };
        let project = rig.project(2).unwrap();
        let source = json!({ "type": "none" });
        let body = json!({ "name": "looked-at", "type": "container", "source": source });
        rig.ask("POST", &format!("/1.0/instances?project={}", project.name()), Some(&body)).unwrap();
        let path = format!("/1.0/instances/looked-at?project={}", project.name());
        let incus = Incus::new(Arc::new(LocalHost::new()), rig.socket(), &CancelToken::new().unwrap());
        let instance = InstanceRef { project: project.name().to_owned(), name: "looked-at".to_owned() };
        let until = || {
            let found = rig.ask("GET", &path, None).unwrap();
            found["config"]["user.jerichoci.keep_until"].as_str().unwrap_or_default().to_owned()
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let job_dir = tempfile::tempdir().unwrap();
        let written = json!({ "schema_version": 1, "socket": "/s", "project": "p", "instance": "looked-at" });
        std::fs::write(job_dir.path().join("instance.json"), written.to_string()).unwrap();
        let noted = || GuestIntent::load(job_dir.path()).unwrap().kept_until;
        let often = Duration::from_millis(50);
        // One of a job that is at work stays what it is.
        drop(Keeping::begin(&incus, &instance, Some(job_dir.path()), &clock, often).unwrap());
        assert_eq!((until().as_str(), noted()), ("", None));
        // As if its time were up.
        let expire = || {
            let past = json!({ "config": { "user.jerichoci.keep_until": "1970-01-01T00:00:00Z" } });
            rig.ask("PATCH", &path, Some(&past)).unwrap();
        };
        expire();
        let now = clock.now().to_rfc3339();
        let keeping = Keeping::begin(&incus, &instance, Some(job_dir.path()), &clock, often).unwrap();
        assert!(until() > now, "{}", until());
        // So is the time for which its run is not collected.
        assert!(noted() > Some(clock.now()), "{:?}", noted());
        expire();
        let started = clock.monotonic();
        while until() < now {
            assert!(clock.monotonic() - started < Duration::from_secs(20), "it is not renewed");
        }
        drop(keeping);
        expire();
        assert!(until() < now, "nobody looks at it any more");
        incus.destroy(&instance).unwrap();
    }
}
