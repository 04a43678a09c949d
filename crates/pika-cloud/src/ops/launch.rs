//! Starts the entry program of a guest, detached: it survives the loss of whoever started it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Answer, Request, Trouble, quoted};
use super::ensure::InstanceRef;
use super::error::OpsError;
use super::incus::Incus;
use super::patience::Backoff;
use crate::plan::IncusRuntimePlan;

/// Runs in the guest's shell before the program.
const LAUNCH: &str = include_str!("launch.sh");

/// Finds the program again by its environment.
const FIND: &str = include_str!("find-process.sh");

/// The variable by which the program is found again.
const NONCE: &str = "PIKA_CLOUD_LAUNCH";

/// Largest request: it is one argument of a program, which Linux limits to 128 KiB.
const REQUEST_LIMIT: usize = 96 * 1024;

/// How the entry program is started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    /// The document the program is given: written to `guest_request_path`, whose name is the
    /// program's one argument. At most 96 KiB; no secrets, the host's process list shows it.
    /// Without one the program gets no argument.
    pub request: Option<String>,
    /// Environment beside that of Incus. No secrets.
    pub environment: BTreeMap<String, String>,
    /// User and group; root when absent. The directories of the guest must be theirs then.
    pub user: Option<(u32, u32)>,
    /// How long the program and the state directory may take to appear; 60 s when absent.
    pub appear_within: Option<Duration>,
}

/// An entry program that was started, as it can be written down and found again by a process
/// that knows nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its guest.
    pub instance: InstanceRef,
    /// The operation of Incus that runs it.
    pub operation: String,
    /// By which it is found in the guest when the operation is no longer known.
    pub nonce: String,
}

impl Started {
    pub(crate) fn output_file(&self, name: &str) -> String {
        format!("exec_{}.{name}", self.operation)
    }
}

impl Incus {
    /// Starts the plan's entry program in its guest and returns at once.
    ///
    /// The result of an earlier attempt is removed before. The program goes on when this process,
    /// its connection or the daemon of Incus ends.
    ///
    /// # Errors
    ///
    /// [`OpsError::Failed`] for a plan without an entry command or a request that is too large,
    /// [`OpsError::NotFound`] when the guest is not there, or Incus does not answer. After
    /// [`OpsError::Lost`] the program may have been started.
    pub fn start_detached(&self, plan: &IncusRuntimePlan, launch: &Launch) -> Result<Started, OpsError> {
        let instance = InstanceRef::of(plan);
        let action = format!("start the entry program of instance {}", instance.name);
        let failed = |message: &str| OpsError::Failed { action: action.clone(), message: message.to_owned() };
        let program = plan.entry_command.as_deref().ok_or_else(|| failed("the plan has no entry command"))?;
        let request = launch.request.as_deref().unwrap_or_default();
        if request.len() > REQUEST_LIMIT || request.contains('\0') {
            return Err(failed("the request is larger than 96 KiB, or has a NUL character"));
        }
        let wait = launch.appear_within.unwrap_or(Duration::from_secs(60)).as_secs().to_string();
        let paths = &plan.paths;
        let command = [
            "/bin/sh",
            "-c",
            LAUNCH,
            "pika-cloud-launch",
            &wait,
            &paths.state_dir,
            &paths.logs_dir,
            &paths.result_path,
            &paths.status_path,
            &paths.guest_request_path,
            request,
            program,
        ];
        let nonce = self.ids.fresh();
        let mut environment = launch.environment.clone();
        environment.insert(NONCE.to_owned(), nonce.clone());
        let mut body = exec_body(&command, &environment);
        if let Some((uid, gid)) = launch.user {
            body["user"] = uid.into();
            // Without it the program would run in root's group.
            body["group"] = gid.into();
        }
        let operation = self.exec(&action, &instance, &body, Some(&nonce))?;
        Ok(Started { instance, operation, nonce })
    }

    /// Starts a command whose output is recorded; returns its operation.
    fn exec(
        &self,
        action: &str,
        instance: &InstanceRef,
        body: &Value,
        nonce: Option<&str>,
    ) -> Result<String, OpsError> {
        let request = Request::new(Method::POST, instance.path("/exec")).json(body);
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        for _ in 0..12 {
            match self.ask_once(action, &request) {
                Ok(Answer::Begun(operation)) => return Ok(operation),
                Ok(Answer::Done(_)) => {
                    return Err(self.garbled(action, "a document in place of an operation"));
                }
                Err(trouble @ (Trouble::Broken(_) | Trouble::Silent)) => {
                    // Perhaps it was started: then there is an operation that carries the nonce.
                    let Some(nonce) = nonce else { continue };
                    match self.find_operation(instance, nonce)? {
                        Some(operation) => return Ok(operation),
                        None if self.is_launched(instance, nonce)? => {
                            return Err(self.explain(action, trouble));
                        }
                        None => {}
                    }
                }
                Err(trouble) if trouble.is_missing() => {
                    return Err(OpsError::NotFound { what: "instance", name: instance.name.clone() });
                }
                // A guest that has just been created is still busy with its own start.
                Err(Trouble::Api { message, .. }) if message.contains("busy running") => {
                    self.client.pause(backoff.next()).map_err(OpsError::Cancelled)?;
                }
                Err(trouble) => return Err(self.explain(action, trouble)),
            }
        }
        Err(OpsError::Failed { action: action.to_owned(), message: "the instance stays busy".to_owned() })
    }

    /// The operation that runs the program with that nonce, while it is known.
    fn find_operation(&self, instance: &InstanceRef, nonce: &str) -> Result<Option<String>, OpsError> {
        let action = format!("list the operations of project {}", instance.project);
        let path = format!("/1.0/operations?project={}&recursion=1", quoted(&instance.project));
        let by_status: Option<Value> = self.find(&action, &Request::get(path))?;
        let operations =
            by_status.as_ref().and_then(Value::as_object).into_iter().flat_map(|map| map.values());
        Ok(operations
            .filter_map(Value::as_array)
            .flatten()
            .find(|operation| operation["metadata"]["environment"][NONCE] == nonce)
            .and_then(|operation| operation["id"].as_str())
            .map(str::to_owned))
    }

    fn is_launched(&self, instance: &InstanceRef, nonce: &str) -> Result<bool, OpsError> {
        let watch = self.watch_process(instance, nonce)?;
        // It answers at once when there is none.
        Ok(matches!(
            self.wait("look for the entry program", &watch.operation, Duration::from_secs(2))?,
            super::incus::Ending::Pending
        ))
    }

    /// Starts a command in the guest that ends when the program with that nonce does.
    pub(crate) fn watch_process(&self, instance: &InstanceRef, nonce: &str) -> Result<Started, OpsError> {
        let action = format!("look for the entry program of instance {}", instance.name);
        let command = ["/bin/sh", "-c", FIND, "pika-cloud-find", NONCE, nonce];
        let operation = self.exec(&action, instance, &exec_body(&command, &BTreeMap::new()), None)?;
        Ok(Started { instance: instance.clone(), operation, nonce: nonce.to_owned() })
    }
}

fn exec_body(command: &[&str], environment: &BTreeMap<String, String>) -> Value {
    json!({
        "command": command,
        "environment": environment,
        "record-output": true,
        "interactive": false,
        "wait-for-websocket": false,
    })
}
