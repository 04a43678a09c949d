//! When everything of a run happened, by lane: for the trace and for the timeline of the page.

use chrono::{DateTime, Utc};
use jerichoci::model::outcome::Verdict;
use jerichoci::model::record::JobRecord;
use serde::Serialize;

use super::recorded::Recorded;

/// What happens one after the other.
#[derive(Debug, Serialize)]
pub(crate) struct Lane {
    /// `engine`, `prepare`, or the id of a job.
    pub(crate) name: String,
    /// Whether it is a job.
    pub(crate) job: bool,
    pub(crate) spans: Vec<Span>,
}

/// Something that took time.
#[derive(Debug, Serialize)]
pub(crate) struct Span {
    pub(crate) name: String,
    /// `phase`, `prepare`, `job` or `attempt`.
    pub(crate) kind: &'static str,
    /// From the start of the run.
    pub(crate) start_us: u64,
    pub(crate) duration_us: u64,
    /// The word for people; absent for what has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<&'static str>,
    /// What it was made of, inside its own bounds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Span>,
}

/// All lanes: the engine, what was prepared, then the jobs in their order.
pub(crate) fn spans(recorded: &Recorded) -> Vec<Lane> {
    let run = &recorded.run;
    let zero = run.created_at;
    let end = last_moment(recorded);
    let phases = run
        .phases
        .iter()
        .map(|phase| span(zero, &phase.phase, "phase", phase.started_at, micros(phase.duration_ms)));
    let prepares = run.prepare_timings.iter().map(|prepare| {
        span(zero, &prepare.node_id, "prepare", prepare.started_at, micros(prepare.duration_ms))
    });
    let lane = |name: &str, job, spans: Vec<Span>| Lane { name: name.to_owned(), job, spans };
    let mut lanes = vec![lane("engine", false, phases.collect()), lane("prepare", false, prepares.collect())];
    lanes.retain(|lane| !lane.spans.is_empty());
    lanes
        .extend(run.jobs.iter().map(|job| lane(&job.id, true, of_job(zero, end, job).into_iter().collect())));
    lanes
}

/// Nothing for a job that did not start.
fn of_job(zero: DateTime<Utc>, end: DateTime<Utc>, job: &JobRecord) -> Option<Span> {
    if job.verdict == Verdict::Skipped {
        return None;
    }
    let so_far = || between(job.started_at, job.finished_at.unwrap_or(end));
    let mut whole = span(zero, &job.id, "job", job.started_at, job.duration_ms.map_or_else(so_far, micros));
    whole.verdict = Some(word_of(job));
    let of_guest = job.remote_linux_vm_execution.iter().flat_map(|guest| &guest.phases);
    let guest = of_guest.map(|phase| {
        let name = crate::render::document::word(&phase.phase);
        span(zero, &name, "phase", phase.started_at, micros(phase.duration_ms))
    });
    let own = job
        .phases
        .iter()
        .map(|phase| span(zero, &phase.phase, "phase", phase.started_at, micros(phase.duration_ms)));
    let attempts = job.attempts.iter().map(|attempt| {
        let took = attempt
            .duration_ms
            .map_or_else(|| between(attempt.started_at, attempt.finished_at.unwrap_or(end)), micros);
        let name = format!("attempt {}", attempt.attempt);
        let mut part = span(zero, &name, "attempt", attempt.started_at, took);
        part.verdict = Some(attempt.verdict.word());
        part
    });
    // One kind of parts: others would overlap them.
    whole.parts = match (job.attempts.is_empty(), job.phases.is_empty()) {
        (false, _) => attempts.collect(),
        (true, false) => own.collect(),
        (true, true) => guest.collect(),
    };
    keep_inside(&mut whole);
    Some(whole)
}

/// The word for people; `flaky` for what passed after a failure.
pub(crate) const fn word_of(job: &JobRecord) -> &'static str {
    if job.flaky { "flaky" } else { job.verdict.word() }
}

/// Wall clocks are set, and durations come from another clock: a part is brought into the bounds
/// of its whole, and behind the part before it.
fn keep_inside(whole: &mut Span) {
    let end = whole.start_us.saturating_add(whole.duration_us);
    let mut from = whole.start_us;
    for part in &mut whole.parts {
        part.start_us = part.start_us.clamp(from, end);
        part.duration_us = part.duration_us.min(end - part.start_us);
        from = part.start_us + part.duration_us;
    }
}

fn span(zero: DateTime<Utc>, name: &str, kind: &'static str, start: DateTime<Utc>, took: u64) -> Span {
    let start_us = between(zero, start);
    Span { name: name.to_owned(), kind, start_us, duration_us: took, verdict: None, parts: Vec::new() }
}

/// The latest time that the record knows: where something that goes on is drawn to.
fn last_moment(recorded: &Recorded) -> DateTime<Utc> {
    let run = &recorded.run;
    let jobs = run.jobs.iter().map(|job| job.finished_at.unwrap_or(job.started_at));
    let known = run.finished_at.into_iter().chain(jobs);
    known.max().unwrap_or(run.created_at).max(run.created_at)
}

fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
    to.signed_duration_since(from).num_microseconds().and_then(|us| u64::try_from(us).ok()).unwrap_or(0)
}

const fn micros(millis: u64) -> u64 {
    millis.saturating_mul(1000)
}
