//! Volumes: what outlives instances, and may be used by several at once.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Answer, Request, Trouble};
use super::error::OpsError;
use super::filled::VolumeRef;
use super::incus::{Ending, Incus};
use super::list::Labels;
use super::patience::Backoff;

/// The user of a guest, who owns what is made for it.
const GUEST_UID: &str = "1000";

/// Configuration of a volume whose owners are the same in every instance, and whose root is the guest's user's.
pub(crate) fn shared_config() -> Value {
    json!({
        "security.shifted": "true",
        "initial.uid": GUEST_UID,
        "initial.gid": GUEST_UID,
        "initial.mode": "0755",
    })
}

impl Incus {
    /// Makes a volume when it is not there: writable by the guest's user, with owners that are
    /// the same in every instance, so that it can be attached to several, also at once.
    pub(crate) fn ensure_volume(&self, volume: &VolumeRef) -> Result<(), OpsError> {
        let action = format!("create volume {}", volume.name);
        let body = json!({
            "name": volume.name,
            "type": "custom",
            "content_type": "filesystem",
            "config": shared_config(),
        });
        let request = Request::new(Method::POST, volume.all_path()).json(&body);
        match self.repeat(&action, Trouble::is_transient, || self.client.ask(&request)) {
            Ok(Answer::Done(_)) => Ok(()),
            // It is in the books before it is on the disk: somebody may be making it at this moment.
            Err(Trouble::Api { code: 409, .. }) => self.await_volume(&action, volume),
            Ok(Answer::Begun(id)) => match self.wait(&action, &id, self.patience().operation)? {
                Ending::Failure(message) => Err(OpsError::Failed { action, message }),
                _ => Ok(()),
            },
            Err(Trouble::Api { message, .. }) if message.contains("UNIQUE constraint failed") => {
                self.await_volume(&action, volume)
            }
            Err(trouble) => Err(self.explain(&action, trouble)),
        }
    }

    /// Waits until a volume that somebody makes is there.
    fn await_volume(&self, action: &str, volume: &VolumeRef) -> Result<(), OpsError> {
        // A cluster does not look on the member for the state; there it must do that it is in the books.
        let path = if volume.member.is_some() { volume.path() } else { volume.sub_path("/state") };
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let deadline = self.clock.monotonic().saturating_add(self.patience().request);
        loop {
            match self.find::<Value>(action, &Request::get(&path)) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) | Err(OpsError::Failed { .. }) if self.clock.monotonic() < deadline => {}
                Ok(None) => return Err(OpsError::NotFound { what: "volume", name: volume.name.clone() }),
                Err(error) => return Err(error),
            }
            self.client.pause(backoff.next()).map_err(OpsError::Cancelled)?;
        }
    }

    /// Names of the custom volumes of a project in a pool, sorted. On a cluster a name may be there for
    /// several members: see [`list_volumes`](Self::list_volumes).
    ///
    /// # Errors
    ///
    /// As [`list_volumes`](Self::list_volumes).
    pub fn volumes(&self, project: &str, pool: &str) -> Result<Vec<String>, OpsError> {
        let listed = self.list_volumes(project, pool, &Labels::new())?;
        Ok(listed.into_iter().map(|listed| listed.volume.name).collect())
    }

    /// Removes a volume with all that is in it, where there is no cluster. One that is gone is success.
    ///
    /// # Errors
    ///
    /// As [`delete_volume_at`](Self::delete_volume_at).
    pub fn delete_volume(&self, project: &str, pool: &str, name: &str) -> Result<(), OpsError> {
        let (project, pool, name) = (project.to_owned(), pool.to_owned(), name.to_owned());
        self.delete_volume_at(&VolumeRef { project, pool, member: None, name })
    }
}
