//! `pika-cloud-lifecycle`: writes one status, event or result, for guests whose work is a script.

use std::collections::BTreeMap;
use std::path::Path;

use pika_cloud::{
    EventLog, LifecycleState, NewEvent, RuntimeResultStatus, RuntimeStatusSnapshot, RuntimeTerminalResult,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::state::now;
use crate::verdict::one_line;

/// What is printed for `--help`.
pub const HELP: &str = "\
Writes the lifecycle files of a guest.

Usage: pika-cloud-lifecycle status --status-path PATH --state STATE --message TEXT
                                   [--details-json JSON]
       pika-cloud-lifecycle event --events-path PATH [--seq-path PATH] --kind STATE
                                  --message TEXT [--details-json JSON]
       pika-cloud-lifecycle result --result-path PATH --status completed|failed
                                   --exit-code CODE --message TEXT [--details-json JSON]

  STATE       requested, provisioning, booted, unreachable, stopped, destroyed, starting,
              ready, failed or completed
  --seq-path  the counter of the events; PATH.seq unless it is given

Exit: 0 written, 1 not written, 2 wrong usage.
";

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
    /// The file could not be written.
    #[error("{0}")]
    Write(String),
}

/// Does what the arguments say, without the name of the program.
///
/// # Errors
/// [`LifecycleError`].
pub fn act(args: &[String]) -> Result<(), LifecycleError> {
    let (command, args) = args.split_first().ok_or_else(|| usage("status, event or result is missing"))?;
    let own: &[&str] = match command.as_str() {
        "status" => &["status-path", "state"],
        "event" => &["events-path", "seq-path", "kind"],
        "result" => &["result-path", "status", "exit-code"],
        other => return Err(usage(&format!("`{other}` is none of status, event and result"))),
    };
    let options = Options::parse(args, &[own, &["message", "details-json"]].concat())?;
    let message = options.required("message")?;
    let details = options.details()?;
    match command.as_str() {
        "status" => {
            let mut status = RuntimeStatusSnapshot::new(options.word("state")?, now(), message);
            status.details = details;
            status.write(Path::new(options.required("status-path")?)).map_err(|error| failed(&error))
        }
        "event" => {
            let mut event = NewEvent::new(options.word::<LifecycleState>("kind")?, now(), message);
            event.details = details;
            let mut log = EventLog::new(options.required("events-path")?);
            if let Some(counter) = options.get("seq-path") {
                log = log.with_counter(counter);
            }
            log.append(event).map(drop).map_err(|error| failed(&error))
        }
        _ => {
            let code = options.required("exit-code")?;
            let code: i32 = code.parse().map_err(|_| usage(&format!("--exit-code {code} is no number")))?;
            let status: RuntimeResultStatus = options.word("status")?;
            let mut result = RuntimeTerminalResult::from_exit_code(code, now(), message);
            if status == RuntimeResultStatus::Completed && result.status != status {
                return Err(usage(&format!("--status completed goes with --exit-code 0, not {code}")));
            }
            result.status = status;
            result.details = details;
            result.write(Path::new(options.required("result-path")?)).map_err(|error| failed(&error))
        }
    }
}

fn usage(message: &str) -> LifecycleError {
    LifecycleError::Usage(message.to_owned())
}

fn failed(error: &dyn std::error::Error) -> LifecycleError {
    LifecycleError::Write(one_line(error))
}

struct Options<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Options<'a> {
    /// `--name value` and `--name=value`; the last one counts.
    fn parse(args: &'a [String], known: &[&str]) -> Result<Self, LifecycleError> {
        let mut options = BTreeMap::new();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").ok_or_else(|| usage(&format!("`{arg}` is no option")))?;
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (name, None),
            };
            if !known.contains(&name) {
                return Err(usage(&format!("unknown option --{name}")));
            }
            let value = value.or_else(|| args.next().map(String::as_str));
            options.insert(name, value.ok_or_else(|| usage(&format!("--{name} has no value")))?);
        }
        Ok(Self(options))
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied()
    }

    fn required(&self, name: &str) -> Result<&'a str, LifecycleError> {
        self.get(name).ok_or_else(|| usage(&format!("--{name} is missing")))
    }

    /// A word of an enumeration of the contract.
    fn word<T: DeserializeOwned>(&self, name: &str) -> Result<T, LifecycleError> {
        let word = self.required(name)?;
        serde_json::from_value(Value::from(word)).map_err(|_| usage(&format!("--{name} `{word}` is unknown")))
    }

    /// `null` is as good as nothing.
    fn details(&self) -> Result<Option<Value>, LifecycleError> {
        let Some(text) = self.get("details-json") else { return Ok(None) };
        let details: Value = serde_json::from_str(text)
            .map_err(|error| usage(&format!("--details-json is no JSON: {error}")))?;
        Ok(Some(details).filter(|details| !details.is_null()))
    }
}
