//! Volumes: what outlives instances, and may be used by several at once.

use std::time::Duration;

use serde_json::json;
use ureq::http::Method;

use super::client::{Answer, Request, Trouble, quoted};
use super::error::OpsError;
use super::incus::{Ending, Incus};
use super::patience::Backoff;

/// The user of a guest, who owns what is made for it.
const GUEST_UID: &str = "1000";

impl Incus {
    /// Makes a volume when it is not there: writable by the guest's user, with owners that are
    /// the same in every instance, so that it can be attached to several, also at once.
    pub(crate) fn ensure_volume(&self, project: &str, pool: &str, name: &str) -> Result<(), OpsError> {
        let action = format!("create volume {name}");
        let body = json!({
            "name": name,
            "type": "custom",
            "content_type": "filesystem",
            "config": {
                "security.shifted": "true",
                "initial.uid": GUEST_UID,
                "initial.gid": GUEST_UID,
                "initial.mode": "0755",
            },
        });
        let request = Request::new(Method::POST, volumes_path(project, pool, "")).json(&body);
        match self.repeat(&action, Trouble::is_transient, || self.client.ask(&request)) {
            Ok(Answer::Done(_)) => Ok(()),
            // It is in the books before it is on the disk: somebody may be making it at this moment.
            Err(Trouble::Api { code: 409, .. }) => self.await_volume(&action, project, pool, name),
            Ok(Answer::Begun(id)) => match self.wait(&action, &id, self.patience().operation)? {
                Ending::Failure(message) => Err(OpsError::Failed { action, message }),
                _ => Ok(()),
            },
            Err(Trouble::Api { message, .. }) if message.contains("UNIQUE constraint failed") => {
                self.await_volume(&action, project, pool, name)
            }
            Err(trouble) => Err(self.explain(&action, trouble)),
        }
    }

    /// Waits until a volume that somebody makes is there.
    fn await_volume(&self, action: &str, project: &str, pool: &str, name: &str) -> Result<(), OpsError> {
        let path = volumes_path(project, pool, &format!("/{}/state", quoted(name)));
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let deadline = self.clock.monotonic().saturating_add(self.patience().request);
        loop {
            match self.find::<serde_json::Value>(action, &Request::get(&path)) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) | Err(OpsError::Failed { .. }) if self.clock.monotonic() < deadline => {}
                Ok(None) => return Err(OpsError::NotFound { what: "volume", name: name.to_owned() }),
                Err(error) => return Err(error),
            }
            self.client.pause(backoff.next()).map_err(OpsError::Cancelled)?;
        }
    }

    /// Names of the custom volumes of a project in a pool, sorted.
    ///
    /// # Errors
    ///
    /// [`OpsError::NotFound`] when there is no such pool, or Incus does not answer.
    pub fn volumes(&self, project: &str, pool: &str) -> Result<Vec<String>, OpsError> {
        #[derive(serde::Deserialize)]
        struct Volume {
            name: String,
        }
        self.project(project)?;
        let request = Request::get(format!("{}&recursion=1", volumes_path(project, pool, "")));
        let found: Option<Vec<Volume>> = self.find(&format!("list the volumes of pool {pool}"), &request)?;
        let found =
            found.ok_or_else(|| OpsError::NotFound { what: "storage pool", name: pool.to_owned() })?;
        let mut names: Vec<String> = found.into_iter().map(|volume| volume.name).collect();
        names.sort();
        Ok(names)
    }

    /// Removes a volume with all that is in it. One that is gone is success.
    ///
    /// # Errors
    ///
    /// [`OpsError::Failed`] while an instance uses it, or Incus does not answer.
    pub fn delete_volume(&self, project: &str, pool: &str, name: &str) -> Result<(), OpsError> {
        let action = format!("delete volume {name}");
        let request =
            Request::new(Method::DELETE, volumes_path(project, pool, &format!("/{}", quoted(name))));
        match self.ask(&action, &request) {
            Ok(Answer::Done(_)) => Ok(()),
            Ok(Answer::Begun(id)) => match self.wait(&action, &id, self.patience().operation)? {
                Ending::Failure(message) => Err(OpsError::Failed { action, message }),
                _ => Ok(()),
            },
            Err(error) => match self.volumes(project, pool) {
                Ok(names) if !names.iter().any(|known| known == name) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

fn volumes_path(project: &str, pool: &str, sub: &str) -> String {
    format!("/1.0/storage-pools/{}/volumes/custom{sub}?project={}", quoted(pool), quoted(project))
}
