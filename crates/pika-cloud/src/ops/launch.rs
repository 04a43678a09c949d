//! Starts the entry program of a guest, detached: it survives the loss of whoever started it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Answer, Request, Trouble};
use super::ensure::InstanceRef;
use super::error::OpsError;
use super::files::OutputTrouble;
use super::incus::{Ending, Incus};
use super::patience::Backoff;
use super::state::is_busy;
use crate::plan::IncusRuntimePlan;

/// Runs in the guest's shell before the program.
const LAUNCH: &str = include_str!("launch.sh");

/// Finds the program again by its environment.
const FIND: &str = include_str!("find-process.sh");

/// The variable by which the program is found again.
const NONCE: &str = "PIKA_CLOUD_LAUNCH";

/// Exit code of a launch when another one of the same nonce has gone on.
const LOSER: i32 = 75;

/// How often a start is asked for whose answer does not come, or of a guest that is busy.
const STARTS: u32 = 12;

/// Largest request: it is one argument of a program, which Linux limits to 128 KiB.
const REQUEST_LIMIT: usize = 96 * 1024;

/// How the entry program is started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    /// The document the program is given: written to `guest_request_path`, whose name is the
    /// program's one argument. At most 96 KiB; no secrets, the host's process list shows it.
    /// Without one the program gets no argument.
    pub request: Option<String>,
    /// A script for the guest's `/bin/sh` that makes the guest ready, as the user of the program and in
    /// its environment: what it exports is the program's. It may be run twice. A status other than 0 ends the
    /// launch with code 74. No secrets, the host's process list shows it.
    pub prepare: Option<String>,
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

/// The first line of a launch that has gone on: it tells which of two operations is the one.
fn launch_line(nonce: &str) -> String {
    format!("pika-cloud-launch {nonce}\n")
}

impl Started {
    /// Bytes of standard output that come before those of the program.
    pub(crate) fn head(&self) -> u64 {
        launch_line(&self.nonce).len() as u64
    }

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
    /// [`OpsError::NotFound`] when the guest is not there, or Incus does not answer; the program may
    /// have been started then.
    pub fn start_detached(&self, plan: &IncusRuntimePlan, launch: &Launch) -> Result<Started, OpsError> {
        let instance = InstanceRef::of(plan);
        let action = format!("start the entry program of instance {}", instance.name);
        let failed = |message: &str| OpsError::Failed { action: action.clone(), message: message.to_owned() };
        let program = plan.entry_command.as_deref().ok_or_else(|| failed("the plan has no entry command"))?;
        let request = launch.request.as_deref().unwrap_or_default();
        if request.len() > REQUEST_LIMIT {
            let message = format!(
                "its request has {} bytes, and at most {REQUEST_LIMIT} can be handed over",
                request.len()
            );
            return Err(failed(&message));
        }
        if request.contains('\0') {
            return Err(failed("its request has a NUL character"));
        }
        if launch.prepare.as_ref().is_some_and(|script| script.contains('\0')) {
            return Err(failed("the script that makes the guest ready has a NUL character"));
        }
        let wait = launch.appear_within.unwrap_or(Duration::from_secs(60)).as_secs().to_string();
        let paths = &plan.paths;
        let nonce = self.ids.fresh();
        let command = [
            "/bin/sh",
            "-c",
            LAUNCH,
            "pika-cloud-launch",
            &nonce,
            &wait,
            &paths.state_dir,
            &paths.logs_dir,
            &paths.result_path,
            &paths.status_path,
            &paths.guest_request_path,
            request,
            program,
            launch.prepare.as_deref().unwrap_or_default(),
        ];
        let mut environment = launch.environment.clone();
        environment.insert(NONCE.to_owned(), nonce.clone());
        let mut body = exec_body(&command, &environment);
        if let Some((uid, gid)) = launch.user {
            body["user"] = uid.into();
            // Without it the program would run in root's group.
            body["group"] = gid.into();
        }
        let (operation, is_certain) = self.exec(&action, &instance, &body)?;
        let operation = if is_certain { operation } else { self.find_launch(&instance, &operation, &nonce)? };
        Ok(Started { instance, operation, nonce })
    }

    /// Starts a command whose output is recorded. Returns its operation, and whether it is certain
    /// that there is no other one of the same command.
    fn exec(&self, action: &str, instance: &InstanceRef, body: &Value) -> Result<(String, bool), OpsError> {
        let request = Request::new(Method::POST, instance.path("/exec")).json(body);
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut is_certain = true;
        for _ in 0..STARTS {
            match self.ask_once(action, &request) {
                Ok(Answer::Begun(operation)) => return Ok((operation, is_certain)),
                Ok(Answer::Done(_)) => {
                    return Err(self.garbled(action, "a document in place of an operation"));
                }
                // Started or not, once more: the launch script lets one of them go on.
                Err(Trouble::Broken(_) | Trouble::Silent) => is_certain = false,
                Err(trouble) if trouble.is_missing() => {
                    return Err(OpsError::NotFound { what: "instance", name: instance.name.clone() });
                }
                // A guest that has just been created is still busy with its own start.
                Err(Trouble::Api { message, .. }) if is_busy(&message) => {}
                Err(trouble) => return Err(self.explain(action, trouble)),
            }
            self.client.pause(backoff.next()).map_err(OpsError::Cancelled)?;
        }
        let message = "it is busy, or the answer never comes".to_owned();
        Err(OpsError::Failed { action: action.to_owned(), message })
    }

    /// Which of several operations has gone on with the launch of that nonce: the one whose output
    /// begins with it. When none has, `last`.
    fn find_launch(&self, instance: &InstanceRef, last: &str, nonce: &str) -> Result<String, OpsError> {
        let action = format!("find the entry program of instance {}", instance.name);
        let head = launch_line(nonce);
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let deadline = self.clock.monotonic().saturating_add(self.patience().request);
        loop {
            let is_over = match self.wait(&action, last, Duration::ZERO)? {
                Ending::Pending => false,
                // Another one has gone on, and is about to say so.
                Ending::Success(done) if done["metadata"]["return"] == LOSER => {
                    self.clock.monotonic() > deadline
                }
                Ending::Success(_) | Ending::Failure(_) | Ending::Vanished => true,
            };
            let request = Request::get(instance.path("/logs/exec-output"));
            let files: Vec<String> = self.find(&action, &request)?.unwrap_or_default();
            for file in &files {
                let name = file.rsplit('/').next().unwrap_or_default();
                let name = name.split('?').next().unwrap_or_default();
                let Some(operation) =
                    name.strip_prefix("exec_").and_then(|name| name.strip_suffix(".stdout"))
                else {
                    continue;
                };
                if self.begins_with(&action, instance, name, head.as_bytes())? {
                    return Ok(operation.to_owned());
                }
            }
            // Looked at after its end: neither it nor another one has gone on.
            if is_over {
                return Ok(last.to_owned());
            }
            self.client.pause(backoff.next()).map_err(OpsError::Cancelled)?;
        }
    }

    fn begins_with(
        &self,
        action: &str,
        instance: &InstanceRef,
        file: &str,
        head: &[u8],
    ) -> Result<bool, OpsError> {
        let mut read = Vec::new();
        let done = self.repeat(action, Trouble::is_transient, || {
            read.clear();
            let mut take = |bytes: &[u8]| {
                read.extend_from_slice(bytes);
                // The rest does not matter: end the reading.
                if read.len() < head.len() { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
            };
            match self.read_output(instance, file, 0, &mut take) {
                Ok(_) | Err(OutputTrouble::Sink(_)) => Ok(()),
                Err(OutputTrouble::Source(trouble, _)) => Err(trouble),
            }
        });
        match done {
            Ok(()) => Ok(read.starts_with(head)),
            Err(trouble) => Err(self.explain(action, trouble)),
        }
    }

    /// Runs a short command in a guest, as root, and hands on what it has printed on standard output once it has
    /// ended. Returns its exit code; nothing when that is not known. It may be run twice.
    ///
    /// # Errors
    ///
    /// [`OpsError::NotFound`] without the guest, [`OpsError::TimedOut`], [`OpsError::File`] when `take` cannot
    /// take it, or Incus does not answer.
    pub fn output(
        &self,
        instance: &InstanceRef,
        command: &[&str],
        limit: Duration,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Option<i32>, OpsError> {
        let action = format!("run {} in instance {}", command.first().unwrap_or(&""), instance.name);
        let (operation, _) = self.exec(&action, instance, &exec_body(command, &BTreeMap::new()))?;
        let code = match self.wait(&action, &operation, limit)? {
            Ending::Success(done) => {
                done["metadata"]["return"].as_i64().and_then(|code| i32::try_from(code).ok())
            }
            Ending::Failure(_) | Ending::Vanished => None,
            Ending::Pending => return Err(OpsError::TimedOut { action, after: limit }),
        };
        let file = format!("exec_{operation}.stdout");
        let (mut offset, mut sink_error) = (0, None);
        let read = self.repeat(&action, Trouble::is_transient, || {
            match self.read_output(instance, &file, offset, take) {
                Ok(_) => Ok(()),
                Err(OutputTrouble::Source(trouble, count)) => {
                    offset += count;
                    Err(trouble)
                }
                Err(OutputTrouble::Sink(error)) => {
                    sink_error = Some(error);
                    Ok(())
                }
            }
        });
        if let Some(source) = sink_error {
            return Err(OpsError::File { action: "write the output to", path: file.into(), source });
        }
        read.map(|()| code).map_err(|trouble| self.explain(&action, trouble))
    }

    /// Starts a command in the guest that ends when the program with that nonce does.
    pub(crate) fn watch_process(&self, instance: &InstanceRef, nonce: &str) -> Result<Started, OpsError> {
        let action = format!("look for the entry program of instance {}", instance.name);
        let command = ["/bin/sh", "-c", FIND, "pika-cloud-find", NONCE, nonce];
        // Two of them do no harm.
        let (operation, _) = self.exec(&action, instance, &exec_body(&command, &BTreeMap::new()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_says_that_it_has_gone_on_before_it_makes_the_guest_ready() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let [state, logs, result] = ["state", "logs", "result.json"].map(path);
        let [status, request] = ["status.json", "request.json"].map(path);
        std::fs::create_dir(&state).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the script is what is tested")]
        let done = std::process::Command::new("/bin/sh")
            .args(["-c", LAUNCH, "pika-cloud-launch", "n1", "1", &state, &logs, &result, &status, &request])
            .args(["", "/bin/true", "echo said; exit 5"])
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(5));
        assert_eq!(String::from_utf8_lossy(&done.stdout), launch_line("n1"));
        assert_eq!(String::from_utf8_lossy(&done.stderr), "said\n");
    }
}
