//! Reads a run request and tells everything that is wrong with it.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::options::{BYTES, GuestRunOptions, GuestRuntime, ID, KEYS as OPTIONS};
use super::{DOCUMENT, IncusGuestRunRequest};
use crate::spec::RuntimePaths;
use crate::validation::{Problems, ValidationErrors};

const KEYS: [&str; 4] = ["schema_version", "command", "timeout_secs", "run_as_root"];
const COMMAND: &str = "a shell command";
const TIMEOUT: &str = "a whole number of seconds above 0";
const RUN_AS_ROOT: &str = "true or false";
const PATH: &str = "an absolute path without `..`";

/// The object's entries as they stand, so that repeated keys and wrong types are seen together.
pub(super) struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a {DOCUMENT} (an object)")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

impl Entries {
    pub(super) fn check(self) -> Result<IncusGuestRunRequest, ValidationErrors> {
        let mut problems = Problems::of(DOCUMENT);
        // Without a version to go by, what any version knows is let by.
        let version = self.version();
        if version.is_none() && self.find("schema_version").is_some_and(Value::is_u64) {
            // Of another version nobody here knows what belongs into it.
            let mut alone = Problems::of(DOCUMENT);
            self.check_version(&mut alone, version);
            alone.finish()?;
        }
        self.check_keys(&mut problems, version.unwrap_or(IncusGuestRunRequest::SCHEMA_VERSION));
        self.check_version(&mut problems, version);

        let command = self.get(&mut problems, "command", COMMAND, |value| value.as_str().map(str::to_owned));
        if let Some(command) = &command {
            check_command(&mut problems, command);
        }
        let timeout_secs = self.get(&mut problems, "timeout_secs", TIMEOUT, Value::as_u64);
        if let Some(timeout_secs) = timeout_secs {
            check_timeout(&mut problems, timeout_secs);
        }
        let run_as_root = self.get(&mut problems, "run_as_root", RUN_AS_ROOT, Value::as_bool);
        let options = if version == Some(IncusGuestRunRequest::SCHEMA_VERSION) {
            let options = self.options(&mut problems);
            options.check(&mut problems, run_as_root.unwrap_or(options.uid == Some(0)));
            options
        } else {
            GuestRunOptions::default()
        };

        problems.finish()?;
        Ok(IncusGuestRunRequest {
            // All four are there: what is not has been reported.
            schema_version: version.unwrap_or_default(),
            command: command.unwrap_or_default(),
            timeout_secs: timeout_secs.unwrap_or_default(),
            run_as_root: run_as_root.unwrap_or_default(),
            options,
        })
    }

    /// The version, when it is one that this build reads.
    fn version(&self) -> Option<u32> {
        let found = self.find("schema_version")?.as_u64()?;
        let known = [IncusGuestRunRequest::SCHEMA_VERSION_PLAIN, IncusGuestRunRequest::SCHEMA_VERSION];
        known.into_iter().find(|known| u64::from(*known) == found)
    }

    fn check_keys(&self, problems: &mut Problems, version: u32) {
        let options: &[&str] =
            if version == IncusGuestRunRequest::SCHEMA_VERSION_PLAIN { &[] } else { &OPTIONS };
        let allowed = [KEYS.as_slice(), options].concat();
        for (index, (key, value)) in self.0.iter().enumerate() {
            if !allowed.contains(&key.as_str()) {
                let known = OPTIONS.contains(&key.as_str());
                let problem = if known { "is of a key of version 3" } else { "is of an unknown key" };
                problems.add(key, value.clone(), problem, allowed.join(", "));
            } else if self.0.iter().take(index).any(|(earlier, _)| earlier == key) {
                problems.add(key, value.clone(), "is of a repeated key", "each key once");
            }
        }
    }

    fn check_version(&self, problems: &mut Problems, version: Option<u32>) {
        const ALLOWED: &str = "2 or 3";
        let found = self.get(problems, "schema_version", ALLOWED, Value::as_u64);
        if let (Some(found), None) = (found, version) {
            problems.add("schema_version", found, "is not supported", ALLOWED);
        }
    }

    fn options(&self, problems: &mut Problems) -> GuestRunOptions {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        GuestRunOptions {
            env_file: self.optional(problems, "env_file", PATH, text),
            cwd: self.optional(problems, "cwd", PATH, text),
            uid: self.optional(problems, "uid", ID, id),
            gid: self.optional(problems, "gid", ID, id),
            artifact_globs: self
                .optional(problems, "artifact_globs", "a list of globs", |value| {
                    value.as_array()?.iter().map(text).collect()
                })
                .unwrap_or_default(),
            grace_secs: self.optional(problems, "grace_secs", "a whole number of seconds", Value::as_u64),
            log_cap_bytes: self.optional(problems, "log_cap_bytes", BYTES, Value::as_u64),
            runtime: self
                .optional(problems, "runtime", "incus or host_process", |value| {
                    GuestRuntime::from_word(value.as_str()?)
                })
                .unwrap_or_default(),
            paths: self.paths(problems),
        }
    }

    fn paths(&self, problems: &mut Problems) -> Option<RuntimePaths> {
        const ALLOWED: &str = "an object of the eight paths";
        let names = RuntimePaths::default().fields().map(|(name, _)| name);
        if let Some(Value::Object(found)) = self.find("paths") {
            for (key, value) in found.iter().filter(|(key, _)| !names.contains(&key.as_str())) {
                problems.add(format!("paths.{key}"), value.clone(), "is of an unknown key", names.join(", "));
            }
        }
        self.optional(problems, "paths", ALLOWED, |value| {
            // A list would be read as its fields.
            value.as_object().and_then(|_| serde_json::from_value(value.clone()).ok())
        })
    }

    fn find(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }

    /// The value of a key that may be left out; `null` is as good as left out.
    fn optional<T>(
        &self,
        problems: &mut Problems,
        key: &str,
        allowed: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        match self.find(key) {
            None | Some(Value::Null) => None,
            Some(_) => self.get(problems, key, allowed, read),
        }
    }

    /// The value of a key; reports one that is missing or that `read` cannot read.
    fn get<T>(
        &self,
        problems: &mut Problems,
        key: &str,
        allowed: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let Some(value) = self.find(key) else {
            problems.missing(key, allowed);
            return None;
        };
        let read = read(value);
        if read.is_none() {
            problems.add(key, value.clone(), "is of the wrong type", allowed);
        }
        read
    }
}

pub(super) fn check_command(problems: &mut Problems, command: &str) {
    if command.trim().is_empty() {
        problems.add("command", command, "is blank", COMMAND);
    } else if command.contains('\0') {
        problems.add("command", command, "has a NUL character", COMMAND);
    }
}

pub(super) fn check_timeout(problems: &mut Problems, timeout_secs: u64) {
    if timeout_secs == 0 {
        problems.add("timeout_secs", timeout_secs, "is no time", TIMEOUT);
    }
}
