//! The few fields of `run.json` that a list needs, without reading the rest where that is safe.
//!
//! A record is written whole, with two spaces of indentation, so one that begins with `{` on a
//! line of its own and ends with `}` on a line of its own was not cut short: there, reading stops
//! as soon as all is known. Any other document is read to its end.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use crate::model::outcome::{FailureKind, RunStatus, Verdict};

pub(super) struct Head {
    pub(super) verdict: Verdict,
    pub(super) target_id: Option<String>,
    pub(super) first_job_id: Option<String>,
    pub(super) created_at: DateTime<Utc>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Head, serde_json::Error> {
    let text = bytes.trim_ascii_end();
    let whole = text.starts_with(b"{\n") && text.ends_with(b"\n}");
    let mut found = Found::default();
    if whole {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        // Stopping early makes the rest of the document look like an error.
        let outcome = Fields { found: &mut found, may_stop: true }.deserialize(&mut deserializer);
        if outcome.is_ok() || found.is_enough() {
            return found.head();
        }
        found = Found::default();
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Fields { found: &mut found, may_stop: false }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    found.head()
}

#[derive(Default)]
struct Found {
    status: Option<RunStatus>,
    failure_kind: Option<FailureKind>,
    target_id: Option<String>,
    created_at: Option<DateTime<Utc>>,
    /// Set once the jobs were seen.
    first_job_id: Option<Option<String>>,
}

impl Found {
    /// Whether nothing that may follow could change the head.
    fn is_enough(&self) -> bool {
        let verdict = match self.status {
            // Records of the earlier system have no kind: it may come, or not.
            Some(RunStatus::Failed) => self.failure_kind.is_some(),
            Some(_) => true,
            None => false,
        };
        verdict && self.created_at.is_some() && (self.target_id.is_some() || self.first_job_id.is_some())
    }

    fn head(self) -> Result<Head, serde_json::Error> {
        let missing = <serde_json::Error as de::Error>::missing_field;
        let verdict = match self.status.ok_or_else(|| missing("status"))? {
            RunStatus::Running => Verdict::Running,
            RunStatus::Passed => Verdict::Passed,
            RunStatus::Skipped => Verdict::Skipped,
            RunStatus::Failed => Verdict::Failed(self.failure_kind.unwrap_or(FailureKind::Unrecorded)),
        };
        let created_at = self.created_at.ok_or_else(|| missing("created_at"))?;
        let first_job_id = match (&self.target_id, self.first_job_id) {
            (Some(_), _) => None,
            (None, Some(first)) => first,
            (None, None) => return Err(missing("jobs")),
        };
        Ok(Head { verdict, target_id: self.target_id, first_job_id, created_at })
    }
}

struct Fields<'a> {
    found: &'a mut Found,
    may_stop: bool,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the record of a run")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { found, may_stop } = self;
        while !(may_stop && found.is_enough()) {
            let Some(key) = map.next_key::<Key<'de>>()? else { break };
            match key.0.as_ref() {
                "status" => found.status = Some(map.next_value()?),
                "failure_kind" => found.failure_kind = map.next_value()?,
                "target_id" => found.target_id = map.next_value()?,
                "created_at" => found.created_at = Some(map.next_value()?),
                "jobs" => map.next_value_seed(FirstJob { found, may_stop })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct FirstJob<'a> {
    found: &'a mut Found,
    may_stop: bool,
}

impl<'de> DeserializeSeed<'de> for FirstJob<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for FirstJob<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of jobs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut jobs: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        struct Job {
            id: String,
        }
        self.found.first_job_id = Some(jobs.next_element::<Job>()?.map(|job| job.id));
        while !(self.may_stop && self.found.is_enough()) && jobs.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
