//! Starts, stops, removes and looks at instances. What is so already is success.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use ureq::http::Method;

use super::client::Request;
use super::ensure::InstanceRef;
use super::error::OpsError;
use super::facts::Instance;
use super::incus::Incus;
use super::patience::Backoff;
use crate::lifecycle::{LifecycleState, RuntimeStatusSnapshot, RuntimeTerminalResult};
use crate::spec::RuntimePaths;

/// How often the removal of an instance is tried that is there again, or still.
const REMOVALS: u32 = 8;

/// What an instance uses, as Incus measures it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) memory: Memory,
    pub(crate) disk: BTreeMap<String, Disk>,
    pub(crate) pid: i64,
    pub(crate) started_at: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    pub(crate) total: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Disk {
    pub(crate) total: i64,
}

/// What is known of a guest, from both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// What the host sees: provisioning, booted, unreachable, stopped or destroyed.
    pub infrastructure: LifecycleState,
    /// What the guest said last; absent when it has not said anything, or nothing that can be read.
    pub workload: Option<RuntimeStatusSnapshot>,
    /// How its work ended; absent before that.
    pub result: Option<RuntimeTerminalResult>,
    /// Fingerprint of its image.
    pub image: Option<String>,
    /// Its labels, as configuration keys: `user.…`.
    pub labels: BTreeMap<String, String>,
    /// When it was created, as Incus writes it.
    pub created_at: Option<String>,
    /// When it was started last, as Incus writes it.
    pub started_at: Option<String>,
    /// Its first process, as the host numbers it; 0 when it does not run.
    pub pid: i64,
}

impl Incus {
    /// Looks at a guest from both sides. One that is not there is `destroyed`, which is no error.
    ///
    /// # Errors
    ///
    /// When Incus does not answer, or the guest's files are damaged ([`OpsError::Document`]).
    pub fn inspect(&self, instance: &InstanceRef, paths: &RuntimePaths) -> Result<Inspection, OpsError> {
        let Some(found) = self.instance(&instance.project, &instance.name)? else {
            self.project(&instance.project)?;
            return Ok(Inspection {
                infrastructure: LifecycleState::Destroyed,
                workload: None,
                result: None,
                image: None,
                labels: BTreeMap::new(),
                created_at: None,
                started_at: None,
                pid: 0,
            });
        };
        let state = self.state(instance)?.unwrap_or_default();
        let document = |source, path: &str| OpsError::Document {
            instance: instance.name.clone(),
            path: path.to_owned(),
            source,
        };
        let status = self.read_file(instance, &paths.status_path)?;
        let workload = status
            .map(|bytes| RuntimeStatusSnapshot::parse(&bytes))
            .transpose()
            .map_err(|source| document(source, &paths.status_path))?;
        Ok(Inspection {
            infrastructure: infrastructure(&found),
            workload,
            result: self.result(instance, paths)?,
            image: found.image().map(str::to_owned),
            labels: labels_of(&found),
            created_at: Some(found.created_at.clone()),
            started_at: state.started_at,
            pid: state.pid,
        })
    }

    /// How the guest's work ended; nothing before that, and nothing when the guest is gone.
    ///
    /// # Errors
    ///
    /// [`OpsError::Document`] for a damaged result, or when Incus does not answer.
    pub fn result(
        &self,
        instance: &InstanceRef,
        paths: &RuntimePaths,
    ) -> Result<Option<RuntimeTerminalResult>, OpsError> {
        let bytes = self.read_file(instance, &paths.result_path)?;
        bytes.map(|bytes| RuntimeTerminalResult::parse(&bytes)).transpose().map_err(|source| {
            OpsError::Document { instance: instance.name.clone(), path: paths.result_path.clone(), source }
        })
    }

    pub(crate) fn state(&self, instance: &InstanceRef) -> Result<Option<State>, OpsError> {
        let action = format!("look at instance {}", instance.name);
        self.find(&action, &Request::get(instance.path("/state")))
    }

    /// Starts an instance.
    ///
    /// # Errors
    ///
    /// [`OpsError::NotFound`] when there is none, [`OpsError::Failed`] when it does not start.
    pub fn start(&self, instance: &InstanceRef) -> Result<(), OpsError> {
        self.change(instance, "start", &["already running"], &json!({ "action": "start", "timeout": 30 }))
    }

    /// Stops an instance at once. It keeps its root disk, and with it the guest's files.
    ///
    /// # Errors
    ///
    /// [`OpsError::NotFound`] when there is none, [`OpsError::Failed`] when it does not stop.
    pub fn stop(&self, instance: &InstanceRef) -> Result<(), OpsError> {
        let body = json!({ "action": "stop", "force": true, "timeout": 20 });
        self.change(instance, "stop", &["already stopped", "not running"], &body)
    }

    fn change(
        &self,
        instance: &InstanceRef,
        verb: &str,
        fine: &[&str],
        body: &serde_json::Value,
    ) -> Result<(), OpsError> {
        let action = format!("{verb} instance {}", instance.name);
        let request = Request::new(Method::PUT, instance.path("/state")).json(body);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let deadline = self.clock.monotonic().saturating_add(self.patience().operation);
        while self.clock.monotonic() < deadline {
            let Err(message) = self.carry_out(&action, &request)? else { return Ok(()) };
            let Some(found) = self.instance(&instance.project, &instance.name)? else {
                return Err(OpsError::NotFound { what: "instance", name: instance.name.clone() });
            };
            if found.is_running() == (verb == "start") {
                return Ok(());
            }
            // "Already so" while it is not: it is about to be the other.
            if !is_busy(&message) && !fine.iter().any(|fine| message.contains(fine)) {
                return Err(OpsError::Failed { action, message });
            }
            self.client.pause(backoff.next()).map_err(OpsError::Cancelled)?;
        }
        Err(OpsError::Failed { action, message: "it is busy with something else".to_owned() })
    }

    /// Stops and removes an instance. Volumes are kept. One that is gone is success.
    ///
    /// # Errors
    ///
    /// When Incus does not answer or cannot do it.
    pub fn destroy(&self, instance: &InstanceRef) -> Result<(), OpsError> {
        let action = format!("delete instance {}", instance.name);
        let request = Request::new(Method::DELETE, instance.path(""));
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut last = String::new();
        let deadline = self.clock.monotonic().saturating_add(self.patience().operation);
        let mut removals = 0;
        while removals < REMOVALS {
            match self.stop(instance) {
                Err(OpsError::NotFound { .. }) => return Ok(()),
                // Perhaps it can be removed all the same: a guest that failed to start.
                Ok(()) | Err(OpsError::Failed { .. }) => {}
                Err(error) => return Err(error),
            }
            let deleted = self.carry_out(&action, &request)?;
            if self.instance(&instance.project, &instance.name)?.is_none() {
                return Ok(());
            }
            // It may have been started meanwhile, or something else is being done with it.
            last = deleted.err().unwrap_or_else(|| "it is still there".to_owned());
            // What somebody has begun who is gone by now may take as long as any operation.
            if !is_busy(&last) || self.clock.monotonic() >= deadline {
                removals += 1;
            }
            self.client.pause(backoff.next()).map_err(OpsError::Cancelled)?;
        }
        Err(OpsError::Failed { action, message: last })
    }
}

/// Whether something else is being done with the instance.
pub(crate) fn is_busy(message: &str) -> bool {
    message.contains("busy running") || message.contains("operation in progress")
}

/// The infrastructure state that a status of Incus is.
pub(crate) fn infrastructure(instance: &Instance) -> LifecycleState {
    match instance.status.as_str() {
        "Running" | "Ready" | "Frozen" | "Freezing" | "Thawed" => LifecycleState::Booted,
        "Starting" => LifecycleState::Provisioning,
        "Stopped" | "Stopping" | "Aborting" => LifecycleState::Stopped,
        _ => LifecycleState::Unreachable,
    }
}

pub(crate) fn labels_of(instance: &Instance) -> BTreeMap<String, String> {
    let labels = instance.config.iter().filter(|(key, _)| key.starts_with("user."));
    labels.map(|(key, value)| (key.clone(), value.clone())).collect()
}
