//! A guest: the command of a job in a fresh Incus instance.
//!
//! Written once for all machines: what differs between them is how Incus is reached, how a snapshot and the
//! kit get there, and nothing else.

mod artifacts;
mod caches;
mod errors;
mod export;
mod intent;
mod judge;
mod kit;
pub(crate) mod labels;
mod member;
mod place;
mod remove;
mod snapshot;
mod spec;
mod told;
mod volumes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken};
use pika_cloud::ops::{
    CollectLimits, Ended, FileOwner, Incus, InstanceRef, Launch, Limits, OpsError, Patience, Progress,
    Started, Watchdog,
};
use pika_cloud::{IncusRuntimePlan, LifecycleState, instance_name};

pub(crate) use caches::{Buried, Undertaker};
pub(crate) use errors::explain_at;
pub(crate) use intent::places;
pub use intent::{GuestIntent, GuestPlace};
use place::{Place, Prepared};
use remove::{KEPT_FOR, Leftover, still_there};
pub(crate) use remove::{is_kept, keep_for_a_person, note_kept};
use snapshot::MountSource;
pub(crate) use spec::{WORKSPACE, shell_environment};
use told::Told;
pub(crate) use volumes::collect_volumes;

use super::after::Cleanup;
use super::command::Compiled;
use super::failure::Failure;
use super::process::note;
use super::{Executor, JobContext, JobReport, Phases, Tools};
use crate::causes::with_causes;
use crate::model::attempt::ArtifactRecord;
use crate::model::demands::WorkspaceGit;
use crate::model::job::{JobRuntimeConfig, JobSpec};
use crate::model::outcome::JobOutcome;
use crate::model::record::{
    PhaseRecord, RemoteLinuxVmBackend, RemoteLinuxVmExecutionRecord, RemoteLinuxVmImageRecord,
    RemoteLinuxVmPhase, RemoteLinuxVmPhaseRecord,
};

/// How long a guest may take to say that the command is about to start: it may be booting, and a workspace
/// may have to be copied.
const START_WITHIN: Duration = Duration::from_secs(600);

/// How long a runner that an image has may take to appear: under a system that boots it does so late.
const APPEAR_WITHIN: Duration = Duration::from_secs(20);

/// Runs in a guest before the runner.
const PREPARE: &str = include_str!("prepare.sh");

/// By how much the limit of this side is longer than that of the guest, so that logs and result come back.
const LONGER: Duration = Duration::from_secs(120);

/// How much longer than its job somebody may need a guest.
const LEASE: Duration = Duration::from_secs(3600);

/// A lease that is older than this is begun anew before the command starts.
const STALE_LEASE: Duration = Duration::from_secs(60);

/// How long is waited for the last words of a guest that was cancelled.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs jobs in instances.
#[derive(Debug)]
pub struct IncusGuest {
    tools: Tools,
}

/// What has come of a job so far, also when it goes no further.
#[derive(Default)]
struct Made {
    environment: Vec<String>,
    artifacts: Vec<ArtifactRecord>,
    image: Option<RemoteLinuxVmImageRecord>,
    instance: Option<String>,
    cleanup: Option<Cleanup>,
    warnings: Vec<String>,
    left_behind: Vec<String>,
}

impl IncusGuest {
    /// With these tools.
    #[must_use]
    pub fn new(tools: Tools) -> Self {
        Self { tools }
    }
}

impl Executor for IncusGuest {
    fn execute(&self, mut job: JobContext<'_>) -> JobReport {
        let clock = Arc::clone(&self.tools.clock);
        let mut phases = Phases::new(&*clock);
        let mut made = Made::default();
        let ran = self.run(&mut job, &mut phases, &mut made);
        let mut outcome = ran.unwrap_or_else(Failure::into_outcome);
        outcome.warnings.append(&mut made.warnings);
        outcome.left_behind.append(&mut made.left_behind);
        if let Err(error) = self.tools.host.remove(job.scratch) {
            outcome.warnings.push(with_causes(&error));
        }
        note(job.log, &mut outcome);
        let phases = phases.into_records();
        let guest = RemoteLinuxVmExecutionRecord {
            backend: RemoteLinuxVmBackend::Incus,
            incus_image: made.image,
            phases: phases.iter().filter_map(vm_phase).collect(),
            instance: made.instance,
            kept: None,
        };
        JobReport {
            outcome,
            phases,
            environment: made.environment,
            artifacts: made.artifacts,
            guest: Some(guest),
            cleanup: made.cleanup,
        }
    }
}

/// A phase in the words of the older records.
fn vm_phase(phase: &PhaseRecord) -> Option<RemoteLinuxVmPhaseRecord> {
    let word = serde_json::Value::from(phase.phase.as_str());
    let name: RemoteLinuxVmPhase = serde_json::from_value(word).ok()?;
    let PhaseRecord { started_at, finished_at, duration_ms, .. } = *phase;
    Some(RemoteLinuxVmPhaseRecord { phase: name, started_at, finished_at, duration_ms })
}

impl IncusGuest {
    fn run(
        &self,
        job: &mut JobContext<'_>,
        phases: &mut Phases<'_>,
        made: &mut Made,
    ) -> Result<JobOutcome, Failure> {
        let (config, cancel) = (&self.tools.config, job.cancel);
        let JobRuntimeConfig::Incus(runtime) = &job.spec.runtime else {
            return Err(Failure::Errored("the job is not one for Incus".to_owned()));
        };
        if job.spec.git != WorkspaceGit::None {
            return Err(Failure::Errored(
                "a guest has no repository: take `git` away from the job, or run it as a host process"
                    .to_owned(),
            ));
        }
        let compiled = job.compile().map_err(Failure::Errored)?;
        let request = spec::request(job.spec, &compiled, config)
            .map_err(|error| Failure::Errored(with_causes(&error)))?;
        let environment = spec::environment(job.spec, &job.tag, config).map_err(Failure::Errored)?;
        made.environment = environment.variables.keys().cloned().collect();
        let environment = environment.to_json().map_err(|error| Failure::Errored(with_causes(&error)))?;
        let request =
            serde_json::to_string(&request).map_err(|error| Failure::Errored(with_causes(&error)))?;
        let place = Place::of(job.spec.placement.host(), &self.tools, job.cancel)?;
        self.tell_start(job, &place, &compiled)?;

        let (prepared, caches) = phases.time("prepare_directories", || self.prepare(job, &place))?;
        let instance = InstanceRef {
            project: place.config.project.clone(),
            name: instance_name(job.run_id, &job.spec.id),
        };
        let image = spec::image(runtime, &place.config);
        made.image = Some(RemoteLinuxVmImageRecord {
            guest_role: image.role,
            project: place.config.project.clone(),
            alias: image.alias.clone(),
            fingerprint: None,
        });
        let MountSource { source, hold, on } = phases.time("stage_workspace_snapshot", || {
            let target = place.config.target_for(runtime.target.as_deref());
            let member = place.incus.member(target, &instance.name);
            let member = member.map_err(|error| self.failed(&place, made, &image, cancel, error))?;
            place.stage(job, &prepared, &self.tools, &instance, member)
        })?;
        let (mut around_config, mut runner_dir) = (place.config.clone(), prepared.runner_dir.clone());
        if let Some(on) = on {
            around_config.target = Some(on.member);
            runner_dir = on.runner.map(PathBuf::from);
        }
        made.instance = Some(instance.name.clone());
        let intent = GuestIntent { place: place.record(), instance: instance.name.clone(), kept_until: None };
        let (volumes, cache_labels) = (caches.volumes().clone(), caches.labels());
        let mut leftover = Leftover {
            incus: place.incus.clone(),
            instance: instance.clone(),
            intent: intent.clone(),
            run_id: job.run_id.to_owned(),
            job_id: job.spec.id.clone(),
            job_dir: job.dir.to_path_buf(),
            clock: Arc::clone(&self.tools.clock),
            hold,
            caches,
        };
        let limit = self.limit(job);
        let lease = limit.saturating_add(LEASE);
        let asked = self.tools.clock.monotonic();
        let mut told = Told::new(job.log, job.guest_log, place.name());
        let made_ready = phases.time("prepare_runtime", || {
            let guests = guests_dir(&config.state_root);
            intent.store(&guests, job.dir).map_err(|error| {
                Failure::Errored(format!("what is about to be made cannot be written down: {error}"))
            })?;
            let now = place.now(&self.tools);
            let engine = self.tools.hosts.engine_id();
            let mut labels = labels::of_job(engine, job.run_id, &job.spec.id, now, lease);
            labels.extend(cache_labels);
            if job.for_a_person {
                // From its first moment: nobody works on a run of its name, so it looks left behind.
                labels.extend(labels::looked_at(labels::later(now, KEPT_FOR)));
            }
            let around = spec::Surroundings {
                run_id: job.run_id,
                config: &around_config,
                image: &image,
                snapshot: source,
                runner_dir: runner_dir.as_deref(),
                outputs: &job.prepared.mounts,
                volumes: &volumes,
                labels,
            };
            let plan = spec::runtime_spec(job.spec, runtime, around)?
                .plan()
                .map_err(|error| Failure::Errored(with_causes(&error)))?;
            let ensured = place.incus.ensure(&plan, &mut told);
            let ensured = ensured.map_err(|error| self.failed(&place, made, &image, cancel, error))?;
            Ok((plan, ensured))
        });
        made.warnings.append(&mut told.warnings);
        let (plan, ensured) = match made_ready {
            Ok(made_ready) => made_ready,
            Err(failure) => {
                leftover.was_not_made(made.left_behind.is_empty());
                return Err(failure);
            }
        };
        leftover.caches.note_use(&place, &self.tools, around_config.target.as_deref());
        let held = leftover.hold.by_instance(&instance, job.cancel);
        made.cleanup = Some(leftover.into_cleanup());
        held.map_err(|error| Failure::of(job.cancel, &error))?;
        if let Some(record) = &mut made.image {
            record.fingerprint = Some(ensured.image.fingerprint.clone());
        }

        let started = phases.time("launch_guest", || {
            if self.tools.clock.monotonic().saturating_sub(asked) > STALE_LEASE {
                let labels = labels::lease(place.now(&self.tools), lease);
                place.incus.set_labels(&instance, &labels)?;
            }
            place.incus.push_file(
                &instance,
                spec::ENV_FILE,
                &environment,
                FileOwner { uid: 0, gid: 0, mode: 0o400 },
            )?;
            let launch = Launch {
                request: Some(request),
                prepare: Some(PREPARE.to_owned()),
                environment: spec::preparation(job.spec, &job.source.manifest().hash()),
                appear_within: Some(APPEAR_WITHIN),
                ..Launch::default()
            };
            place.incus.start_detached(&plan, &launch)
        });
        let started = started.map_err(|error| self.failed(&place, made, &image, cancel, error))?;

        let mut progress = Progress::default();
        let ended = phases.time("wait_for_completion", || {
            let limits = Limits {
                watchdog: Some(Watchdog { state: LifecycleState::Starting, within: START_WITHIN }),
                time_limit: Some(limit.saturating_add(START_WITHIN)),
            };
            place.incus.follow(&started, &plan.paths, &limits, &mut progress, &mut told)
        });
        made.warnings.append(&mut told.warnings);
        let ended = match ended {
            Ok(ended) => ended,
            Err(OpsError::Cancelled(reason)) => {
                if reason != CancelReason::Forced {
                    last_words(&place.incus, &started, &plan, &mut progress, &mut told);
                }
                told.finish();
                return Err(Failure::Cancelled(reason));
            }
            Err(error) => {
                told.finish();
                return Err(self.failed(&place, made, &image, cancel, error));
            }
        };
        told.finish();
        let (problem, complaint) = (told.problem.take(), told.last_complaint.take());
        let limits = (job.spec.timeout_secs, runtime.memory_mib);
        let mut outcome = judge::outcome(&ended, &instance.name, limits, complaint.as_deref());
        if let Some(error) = problem {
            return Err(Failure::Errored(format!("the host log could not be written: {error}")));
        }
        if job.cancel.reason() != Some(CancelReason::Forced) {
            phases.time("collect_artifacts", || {
                self.collect(job, &place.incus, &plan, (&ended, &mut outcome), made);
            });
        }
        place.reap_now();
        Ok(outcome)
    }

    /// How long the guest may work altogether, as this side sees it.
    fn limit(&self, job: &JobContext<'_>) -> Duration {
        Duration::from_secs(job.spec.timeout_secs)
            .saturating_add(self.tools.config.grace)
            .saturating_add(LONGER)
    }

    fn tell_start(
        &self,
        job: &mut JobContext<'_>,
        place: &Place,
        compiled: &Compiled,
    ) -> Result<(), Failure> {
        let line = format!(
            "guest job: backend incus, direct_guest_command, host {}, {}, command: {}",
            place.name(),
            self.tools.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Millis, false),
            compiled.line
        );
        job.log
            .engine_line(&line)
            .map_err(|error| Failure::Errored(format!("the host log could not be written: {error}")))
    }

    /// Everything that a guest is given beside the source.
    fn prepare(
        &self,
        job: &mut JobContext<'_>,
        place: &Place,
    ) -> Result<(Prepared, caches::Caches), Failure> {
        std::fs::create_dir_all(job.scratch).map_err(|error| {
            Failure::Errored(format!("the scratch directory of the job cannot be made: {error}"))
        })?;
        let prepared = place.prepare(job, &self.tools)?;
        let caches = caches::take(&self.tools, job)?;
        caches.take_from_the_dead(place, &self.tools, job)?;
        Ok((prepared, caches))
    }

    fn collect(
        &self,
        job: &JobContext<'_>,
        incus: &Incus,
        plan: &IncusRuntimePlan,
        (ended, outcome): (&Ended, &mut JobOutcome),
        made: &mut Made,
    ) {
        let limits = self.tools.config.artifact_limits;
        let collection = artifacts::Collection {
            scratch: job.scratch,
            artifacts: job.artifacts,
            limits: CollectLimits { files: limits.files, bytes: limits.bytes },
        };
        match artifacts::collect(incus, plan, job.spec, (ended, outcome.verdict), &collection) {
            Ok(collected) => {
                made.artifacts = collected.files;
                outcome.warnings.extend(collected.warnings);
            }
            Err(error) => outcome.warnings.push(format!("artifacts: {}", with_causes(&error))),
        }
    }

    /// What to tell of an operation that failed.
    fn failed(
        &self,
        place: &Place,
        made: &mut Made,
        image: &spec::Image,
        cancel: &CancelToken,
        error: OpsError,
    ) -> Failure {
        let (error, left) = errors::left_behind(error);
        if let Some((instance, why)) = left {
            made.left_behind.push(still_there(&place.record(), &instance, &why));
        }
        match error {
            OpsError::Cancelled(reason) => Failure::Cancelled(reason),
            error => Failure::Errored(errors::explain(&error, place, Some(image), cancel)),
        }
    }
}

/// Looks whether the image of a job is to be had where its instance will be made, before others work
/// for it.
///
/// # Errors
/// What there is to say of the job.
pub(crate) fn check_image(
    job: &JobSpec,
    tools: &Tools,
    log: &mut dyn FnMut(&str),
    cancel: &CancelToken,
) -> Result<(), JobOutcome> {
    let JobRuntimeConfig::Incus(runtime) = &job.runtime else { return Ok(()) };
    let mut check = || {
        let place = Place::of(job.placement.host(), tools, cancel)?;
        place.connect(log, cancel)?;
        let image = spec::image(runtime, &place.config);
        let found = place.incus.image(&place.config.project, &image.alias);
        found.map(drop).map_err(|error| place.failed(&error, Some(&image), cancel))
    };
    check().map_err(Failure::into_outcome)
}

/// Ends a guest that was cancelled, and brings what it has printed until then.
fn last_words(
    incus: &Incus,
    started: &Started,
    plan: &IncusRuntimePlan,
    progress: &mut Progress,
    told: &mut Told<'_>,
) {
    let Ok(token) = CancelToken::new() else { return };
    let brief = incus.with_cancel(&token).with_patience(Patience {
        first_contact: LAST_WORDS,
        reconnect: LAST_WORDS,
        request: LAST_WORDS,
        operation: LAST_WORDS,
        ..incus.patience()
    });
    let limits = Limits { watchdog: None, time_limit: Some(LAST_WORDS) };
    // It is as good as gone: what does not come is only missed.
    if brief.stop(&started.instance).is_ok() {
        let _ = brief.follow(started, &plan.paths, &limits, progress, told);
    }
}

/// Where the places are written down at which guests were made.
pub(crate) fn guests_dir(state_root: &Path) -> PathBuf {
    state_root.join("guests")
}
