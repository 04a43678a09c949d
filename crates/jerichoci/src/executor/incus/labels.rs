//! The labels of guests: whose they are, and how long they may stay. Times are by the clock of their host.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use pika_cloud::ops::Listed;

/// Identity of the state root that a guest was made for.
pub(crate) const ENGINE: &str = "jerichoci.engine";
/// Its run.
pub(crate) const RUN: &str = "jerichoci.run_id";
/// Its job.
pub(crate) const JOB: &str = "jerichoci.job_id";
/// When it was asked for.
const CREATED_AT: &str = "jerichoci.created_at";
/// Until when somebody may need it, whoever made it: after that anybody may end it.
const LEASE_UNTIL: &str = "jerichoci.lease_until";
/// Until when a person wants to look at it.
pub(crate) const KEEP_UNTIL: &str = "jerichoci.keep_until";

/// What a volume was brought for.
pub(crate) const BROUGHT: &str = "jerichoci.brought";
/// When a job was last given a volume.
pub(crate) const USED_AT: &str = "jerichoci.used_at";

/// The volumes that a guest has as locked caches, with a comma after each.
const CACHES: &str = "jerichoci.caches";

/// Labels by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// Those of a guest that is made now.
pub(crate) fn of_job(
    engine: &str,
    run: &str,
    job: &str,
    now: DateTime<Utc>,
    lease: std::time::Duration,
) -> Labels {
    let lease_until = later(now, lease);
    [
        (ENGINE, engine.to_owned()),
        (RUN, run.to_owned()),
        (JOB, job.to_owned()),
        (CREATED_AT, text(now)),
        (LEASE_UNTIL, text(lease_until)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The lease, begun anew.
pub(crate) fn lease(now: DateTime<Utc>, lease: std::time::Duration) -> Labels {
    [(LEASE_UNTIL.to_owned(), text(later(now, lease)))].into()
}

/// Kept until then, and not a burden of anybody's afterwards.
pub(crate) fn kept(until: DateTime<Utc>) -> Labels {
    [KEEP_UNTIL, LEASE_UNTIL].map(|name| (name.to_owned(), text(until))).into()
}

/// A person wants to look at it until then.
pub(crate) fn looked_at(until: DateTime<Utc>) -> Labels {
    [(KEEP_UNTIL.to_owned(), text(until))].into()
}

/// The configuration key of a label.
pub(crate) fn key(label: &str) -> String {
    format!("user.{label}")
}

/// A guest has these volumes as locked caches.
pub(super) fn caches(volumes: &[String]) -> Labels {
    let all: String = volumes.iter().map(|volume| format!("{volume},")).collect();
    [(CACHES.to_owned(), all)].into()
}

/// Whether a guest has one of these volumes as a locked cache.
pub(crate) fn has_cache(listed: &Listed, volumes: &[String]) -> bool {
    let has = listed.label(CACHES).unwrap_or_default();
    has.split(',').any(|has| volumes.iter().any(|volume| volume == has))
}

/// Those of a volume that was brought to a member of a cluster: `snapshot`, `runner`.
pub(crate) fn brought(kind: &str) -> Labels {
    [(BROUGHT.to_owned(), kind.to_owned())].into()
}

/// A job is given that volume now.
pub(crate) fn used(now: DateTime<Utc>) -> Labels {
    [(USED_AT.to_owned(), text(now))].into()
}

/// Until when a person wants to look at it, when anybody does.
pub(crate) fn keep_until(listed: &Listed) -> Option<DateTime<Utc>> {
    time(listed, KEEP_UNTIL)
}

/// Whether nobody can need it any more, whoever made it. One without a lease is none of ours.
pub(crate) fn is_expired(listed: &Listed, now: DateTime<Utc>) -> bool {
    time(listed, LEASE_UNTIL).is_some_and(|until| until < now)
        && time(listed, KEEP_UNTIL).is_none_or(|until| until < now)
}

fn time(listed: &Listed, label: &str) -> Option<DateTime<Utc>> {
    let text = listed.label(label)?;
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc))
}

/// A time after another one.
pub(crate) fn later(time: DateTime<Utc>, by: std::time::Duration) -> DateTime<Utc> {
    let by = chrono::Duration::from_std(by).unwrap_or(chrono::Duration::MAX);
    time.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
