//! The data of the page: what of a run it shows.

use std::fs::File;

use jerichoci::model::attempt::{ArtifactRecord, AttemptRecord};
use jerichoci::model::outcome::Verdict;
use jerichoci::model::record::{BaseRecord, JobRecord, SettingRecord};
use jerichoci::run::logs::LogFile;
use serde::Serialize;

use crate::render::document::word;
use crate::render::text;
use crate::report::excerpt::Excerpt;
use crate::report::plan::{command, limit, place};
use crate::report::recorded::Recorded;
use crate::report::spans::{Lane, spans, word_of};

/// Bytes of all logs together.
const ALL_LOGS: u64 = 32 << 20;
/// Bytes of one log at most, a quarter of them of its beginning.
const ONE_LOG: u64 = 4 << 20;

/// Everything.
#[derive(Serialize)]
pub(super) struct Data<'a> {
    run: Run<'a>,
    lanes: Vec<Lane>,
    jobs: Vec<Job<'a>>,
    changed_files: &'a [String],
    filters: &'a [String],
    settings: &'a [SettingRecord],
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Run<'a> {
    run_id: &'a str,
    name: &'a str,
    description: Option<&'a str>,
    /// The word for people.
    verdict: &'static str,
    message: Option<&'a str>,
    created_at: String,
    duration_ms: Option<u64>,
    rerun_of: Option<&'a str>,
    source_root: &'a str,
    git_head: Option<&'a str>,
    git_dirty: Option<bool>,
    base: Option<&'a BaseRecord>,
    snapshot_hash: Option<&'a str>,
    engine_version: Option<&'a str>,
}

#[derive(Serialize)]
struct Job<'a> {
    id: &'a str,
    description: &'a str,
    /// The word for people; `flaky` for what passed after a failure.
    word: &'static str,
    message: Option<&'a str>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    started_at: Option<String>,
    duration_ms: Option<u64>,
    place: String,
    command: Option<String>,
    limit: String,
    needs: &'a [String],
    groups: &'a [String],
    matrix: Vec<String>,
    image: Option<String>,
    environment: &'a [String],
    leaked: &'a [String],
    left_behind: &'a [String],
    warnings: &'a [String],
    phases: Vec<Phase>,
    attempts: Vec<Attempt<'a>>,
    artifacts: &'a [ArtifactRecord],
    logs: Vec<Log>,
}

#[derive(Serialize)]
struct Phase {
    name: String,
    duration_ms: u64,
}

#[derive(Serialize)]
struct Attempt<'a> {
    attempt: u32,
    word: &'static str,
    duration_ms: Option<u64>,
    exit_code: Option<i32>,
    message: Option<&'a str>,
}

#[derive(Serialize)]
struct Log {
    name: String,
    /// Of the whole log.
    bytes: u64,
    head: String,
    left_out: u64,
    tail: String,
    /// The command for all of it.
    typed: String,
}

pub(super) fn of<'a>(recorded: &'a Recorded, typed: &dyn Fn(&[&str]) -> String) -> Data<'a> {
    let run = &recorded.run;
    let cap = cap(recorded);
    Data {
        run: Run {
            run_id: &run.run_id,
            name: recorded.name(),
            description: run.target_description.as_deref(),
            verdict: run.verdict.word(),
            message: run.message.as_deref(),
            created_at: run.created_at.to_rfc3339(),
            duration_ms: run.duration_ms,
            rerun_of: run.rerun_of.as_deref(),
            source_root: &run.source_root,
            git_head: run.git_head.as_deref(),
            git_dirty: run.git_dirty,
            base: run.base.as_ref(),
            snapshot_hash: run.snapshot_hash.as_deref(),
            engine_version: run.engine_version.as_deref(),
        },
        lanes: spans(recorded),
        jobs: run.jobs.iter().map(|job| job_of(recorded, job, cap, typed)).collect(),
        changed_files: &run.changed_files,
        filters: &run.filters,
        settings: &run.settings,
        warnings: &run.warnings,
    }
}

/// Bytes that each log may have, so that a page with many of them still opens.
fn cap(recorded: &Recorded) -> u64 {
    let logs: usize = recorded.run.jobs.iter().map(|job| 1 + job.attempts.len()).sum();
    (ALL_LOGS / (logs as u64).max(1)).min(ONE_LOG)
}

fn job_of<'a>(
    recorded: &'a Recorded,
    job: &'a JobRecord,
    cap: u64,
    typed: &dyn Fn(&[&str]) -> String,
) -> Job<'a> {
    let spec = recorded.definition(job);
    let started = job.verdict != Verdict::Skipped;
    let pair = || {
        let words = [job.placement.as_ref().map(word), job.runtime.as_ref().map(word)];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    let image = job.remote_linux_vm_execution.as_ref().and_then(|guest| guest.incus_image.as_ref());
    Job {
        id: &job.id,
        description: &job.description,
        word: word_of(job),
        message: job.message.as_deref(),
        exit_code: job.exit_code,
        signal: job.signal,
        started_at: started.then(|| job.started_at.to_rfc3339()),
        duration_ms: job.duration_ms,
        place: spec.map_or_else(pair, place),
        command: spec.map(command),
        limit: limit(job.timeout_secs),
        needs: spec.map(|spec| spec.needs.as_slice()).unwrap_or_default(),
        groups: spec.map(|spec| spec.groups.as_slice()).unwrap_or_default(),
        matrix: spec
            .iter()
            .flat_map(|spec| &spec.matrix)
            .map(|(name, value)| format!("{name} = {value}"))
            .collect(),
        image: image.map(|image| match &image.fingerprint {
            Some(fingerprint) => format!("{} ({fingerprint})", image.alias),
            None => image.alias.clone(),
        }),
        environment: &job.environment,
        leaked: &job.leaked,
        left_behind: &job.left_behind,
        warnings: &job.warnings,
        phases: phases(job),
        attempts: job.attempts.iter().map(attempt_of).collect(),
        artifacts: &job.artifacts,
        logs: logs_of(recorded, job, cap, typed),
    }
}

fn phases(job: &JobRecord) -> Vec<Phase> {
    let own =
        job.phases.iter().map(|phase| Phase { name: phase.phase.clone(), duration_ms: phase.duration_ms });
    let guest = job.remote_linux_vm_execution.iter().flat_map(|guest| &guest.phases);
    own.chain(guest.map(|phase| Phase { name: word(&phase.phase), duration_ms: phase.duration_ms })).collect()
}

fn attempt_of(attempt: &AttemptRecord) -> Attempt<'_> {
    Attempt {
        attempt: attempt.attempt,
        word: attempt.verdict.word(),
        duration_ms: attempt.duration_ms,
        exit_code: attempt.exit_code,
        message: attempt.message.as_deref(),
    }
}

fn logs_of(recorded: &Recorded, job: &JobRecord, cap: u64, typed: &dyn Fn(&[&str]) -> String) -> Vec<Log> {
    let run_id = recorded.run.run_id.as_str();
    let earlier = job.attempts.len().saturating_sub(1);
    let attempts = job.attempts.iter().take(earlier).filter_map(|attempt| {
        let path = recorded.run_directory().join(&attempt.host_log_path);
        let whole = format!("cat {}", text::typed(&path));
        log_of(format!("log of attempt {}", attempt.attempt), recorded.attempt_log(attempt)?, cap, whole)
    });
    let last =
        [(LogFile::Host, "log"), (LogFile::Guest, "guest log")].into_iter().filter_map(|(log, name)| {
            let mut words = vec!["logs", run_id, "--job", &job.id];
            if log == LogFile::Guest {
                words.extend(["--kind", log.as_str()]);
            }
            log_of(name.to_owned(), recorded.log(job, log)?, cap, typed(&words))
        });
    attempts.chain(last).collect()
}

fn log_of(name: String, mut file: File, cap: u64, typed: String) -> Option<Log> {
    let excerpt = Excerpt::of(&mut file, cap / 4, cap - cap / 4).ok()?;
    let shown = (excerpt.head.len() + excerpt.tail.len()) as u64;
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Log {
        name,
        bytes: shown + excerpt.left_out,
        head: lossy(&excerpt.head),
        left_out: excerpt.left_out,
        tail: lossy(&excerpt.tail),
        typed,
    })
}
