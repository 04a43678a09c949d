//! A guest: the command of a job in a fresh Incus instance.
//!
//! Written once for all machines: what differs between them is how Incus is reached, how a snapshot and the
//! kit get there, and nothing else.

mod artifacts;
mod caches;
mod errors;
mod intent;
mod judge;
mod kit;
mod labels;
mod remove;
mod snapshot;
mod spec;
mod told;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken, LocalHost, SystemIds};
use pika_cloud::ops::{
    CollectLimits, Ended, FileOwner, Incus, InstanceRef, Launch, Limits, OpsError, Patience, Progress,
    Started, Watchdog,
};
use pika_cloud::{IncusRuntimePlan, LifecycleState};

pub use intent::{GuestIntent, GuestPlace};
use remove::Leftover;
use told::Told;

use super::after::Cleanup;
use super::command::{Compiled, compile_with};
use super::process::{cancelled, note};
use super::{Executor, JobContext, JobReport, Phases, Tools};
use crate::causes::with_causes;
use crate::config::IncusConfig;
use crate::model::attempt::ArtifactRecord;
use crate::model::demands::WorkspaceGit;
use crate::model::job::{IncusRuntimeConfig, JobRuntimeConfig};
use crate::model::outcome::JobOutcome;
use crate::model::record::{
    PhaseRecord, RemoteLinuxVmBackend, RemoteLinuxVmExecutionRecord, RemoteLinuxVmImageRecord,
    RemoteLinuxVmPhase, RemoteLinuxVmPhaseRecord,
};

/// How long a guest may take to say that the command is about to start: it may be booting, and a workspace
/// may have to be copied.
const START_WITHIN: Duration = Duration::from_secs(600);

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

/// The machine on which the guest of a job is made.
struct Place<'a> {
    /// By the name that the job uses; absent for this machine.
    host: Option<String>,
    config: &'a IncusConfig,
    incus: Incus,
    /// How long a lost connection is tried again.
    reconnect: Duration,
}

impl Place<'_> {
    fn host_name(&self) -> &str {
        self.host.as_deref().unwrap_or("local")
    }
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
    leaked: Vec<String>,
}

/// Why there is no verdict of the command.
enum Failure {
    Cancelled(CancelReason),
    Errored(String),
}

impl Failure {
    fn into_outcome(self) -> JobOutcome {
        match self {
            Self::Cancelled(reason) => cancelled(reason),
            Self::Errored(message) => JobOutcome::errored(message),
        }
    }

    /// What was cut short by the token did not fail by itself.
    fn of(cancel: &CancelToken, error: &(dyn std::error::Error + 'static)) -> Self {
        match cancel.reason() {
            Some(reason) => Self::Cancelled(reason),
            None => Self::Errored(with_causes(error)),
        }
    }
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
        outcome.leaked.append(&mut made.leaked);
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
        let config = &self.tools.config;
        let JobRuntimeConfig::Incus(runtime) = &job.spec.runtime else {
            return Err(Failure::Errored("the job is not one for Incus".to_owned()));
        };
        if job.spec.git != WorkspaceGit::None {
            return Err(Failure::Errored(
                "a guest has no repository: take `git` away from the job, or run it as a host process"
                    .to_owned(),
            ));
        }
        let compiled = compile_with(&job.spec.command, job.args)
            .map_err(|error| Failure::Errored(with_causes(&error)))?;
        let request = spec::request(job.spec, &compiled, config)
            .map_err(|error| Failure::Errored(with_causes(&error)))?;
        let environment = spec::environment(job.spec, &job.tag, config).map_err(Failure::Errored)?;
        made.environment = environment.variables.keys().cloned().collect();
        let environment = environment.to_json().map_err(|error| Failure::Errored(with_causes(&error)))?;
        let request =
            serde_json::to_string(&request).map_err(|error| Failure::Errored(with_causes(&error)))?;
        let place = self.place(job)?;
        self.tell_start(job, &place, &compiled)?;

        let (kit, caches) = phases.time("prepare_directories", || self.prepare(job, runtime))?;
        let snapshot = phases.time("stage_workspace_snapshot", || {
            snapshot::on_this_machine(job.source, job.dir, job.may_be_kept, job.cancel)
                .map_err(|error| Failure::of(job.cancel, &error))
        })?;

        let image = spec::image(runtime, place.config);
        made.image = Some(RemoteLinuxVmImageRecord {
            guest_role: image.role,
            project: place.config.project.clone(),
            alias: image.alias.clone(),
            fingerprint: None,
        });
        let limit = self.limit(job);
        let lease = limit.saturating_add(LEASE);
        let asked = self.tools.clock.monotonic();
        let around = spec::Surroundings {
            run_id: job.run_id,
            config: place.config,
            image: &image,
            snapshot: snapshot.source.clone(),
            kit: Some(kit.to_string_lossy().into_owned()),
            volumes: caches.volumes(),
            labels: labels::of_job(
                self.tools.hosts.engine_id(),
                job.run_id,
                &job.spec.id,
                self.tools.clock.now(),
                lease,
            ),
        };
        let plan = spec::runtime_spec(job.spec, runtime, around)
            .plan()
            .map_err(|error| Failure::Errored(with_causes(&error)))?;
        let instance = InstanceRef::of(&plan);
        made.instance = Some(instance.name.clone());
        let intent = GuestIntent {
            place: GuestPlace::new(
                place.host.clone(),
                place.config.socket.clone(),
                place.config.project.clone(),
            ),
            instance: instance.name.clone(),
        };
        let leftover = Leftover {
            incus: place.incus.clone(),
            instance: instance.clone(),
            intent: intent.clone(),
            run_id: job.run_id.to_owned(),
            job_id: job.spec.id.clone(),
            job_dir: job.dir.to_path_buf(),
            clock: Arc::clone(&self.tools.clock),
            hold: snapshot.hold,
            caches,
        };

        let mut told = Told::new(job.log, job.guest_log, place.host_name());
        let ensured = phases.time("prepare_runtime", || {
            let guests = config.state_root.join("guests");
            intent.store(&guests, job.dir).map_err(|error| {
                Failure::Errored(format!("what is about to be made cannot be written down: {error}"))
            })?;
            place.incus.ensure(&plan, &mut told).map_err(|error| self.failed(&place, made, &image, error))
        });
        let ensured = match ensured {
            Ok(ensured) => ensured,
            Err(failure) => {
                leftover.was_not_made(made.leaked.is_empty());
                return Err(failure);
            }
        };
        made.cleanup = Some(leftover.into_cleanup());
        if let Some(record) = &mut made.image {
            record.fingerprint = Some(ensured.image.fingerprint.clone());
        }

        let started = phases.time("launch_guest", || {
            if self.tools.clock.monotonic().saturating_sub(asked) > STALE_LEASE {
                let labels = labels::lease(self.tools.clock.now(), lease);
                place.incus.set_labels(&instance, &labels)?;
            }
            place.incus.push_file(
                &instance,
                spec::ENV_FILE,
                &environment,
                FileOwner { uid: 0, gid: 0, mode: 0o400 },
            )?;
            let mut launch = Launch { request: Some(request), ..Launch::default() };
            if job.spec.writable_workspace {
                launch.environment.insert("JERICHO_WORKSPACE".to_owned(), "copy".to_owned());
            }
            place.incus.start_detached(&plan, &launch)
        });
        let started = started.map_err(|error| self.failed(&place, made, &image, error))?;

        let mut progress = Progress::default();
        let ended = phases.time("wait_for_completion", || {
            let limits = Limits {
                watchdog: Some(Watchdog { state: LifecycleState::Starting, within: START_WITHIN }),
                time_limit: Some(limit.saturating_add(START_WITHIN)),
            };
            place.incus.follow(&started, &plan.paths, &limits, &mut progress, &mut told)
        });
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
                return Err(self.failed(&place, made, &image, error));
            }
        };
        told.finish();
        let (problem, complaint) = (told.problem.take(), told.last_complaint.take());
        let mut outcome = judge::outcome(&ended, &instance.name, job.spec.timeout_secs, complaint.as_deref());
        if let Some(error) = problem {
            return Err(Failure::Errored(format!("the host log could not be written: {error}")));
        }
        if job.cancel.reason() != Some(CancelReason::Forced) {
            phases.time("collect_artifacts", || {
                self.collect(job, &place.incus, &plan, (&ended, &mut outcome), made);
            });
        }
        Ok(outcome)
    }

    /// The machine of the job.
    fn place(&self, job: &JobContext<'_>) -> Result<Place<'_>, Failure> {
        let config = &self.tools.config;
        let reconnect = config.hosts.reconnect;
        let patience = Patience { reconnect, ..Patience::default() };
        let incus = Incus::new(Arc::new(LocalHost::new()), &config.incus.socket, job.cancel)
            .with_patience(patience)
            .with_clock(Arc::clone(&self.tools.clock), Arc::new(SystemIds));
        Ok(Place { host: None, config: &config.incus, incus, reconnect })
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
        place: &Place<'_>,
        compiled: &Compiled,
    ) -> Result<(), Failure> {
        let line = format!(
            "guest job: backend incus, direct_guest_command, host {}, {}, command: {}",
            place.host_name(),
            self.tools.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Millis, false),
            compiled.line
        );
        job.log
            .engine_line(&line)
            .map_err(|error| Failure::Errored(format!("the host log could not be written: {error}")))
    }

    /// Everything on this machine that a guest is given beside the source.
    fn prepare(
        &self,
        job: &mut JobContext<'_>,
        _runtime: &IncusRuntimeConfig,
    ) -> Result<(PathBuf, caches::Caches), Failure> {
        let config = &self.tools.config;
        let failed = |what: &str, error: std::io::Error| Failure::Errored(format!("{what}: {error}"));
        std::fs::create_dir_all(job.scratch)
            .map_err(|error| failed("the scratch directory of the job cannot be made", error))?;
        let runner = kit::find_runner(&config.hosts.runner_dirs, std::env::consts::ARCH);
        let kits = config.state_root.join("cache").join("guest-kit");
        let kit = kit::deliver(&kits, runner.as_deref())
            .map_err(|error| failed("the runner cannot be brought to where guests see it", error))?;
        let locks = config.state_root.join("cache").join("guest-caches");
        let caches = caches::take(&locks, self.tools.hosts.engine_id(), job)?;
        Ok((kit, caches))
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
    fn failed(&self, place: &Place<'_>, made: &mut Made, image: &spec::Image, error: OpsError) -> Failure {
        let (error, left) = errors::left_behind(error);
        if let Some(left) = left {
            made.leaked.push(format!("{left} on {}; the next command there ends it", place.host_name()));
        }
        match error {
            OpsError::Cancelled(reason) => Failure::Cancelled(reason),
            error => Failure::Errored(errors::explain(&error, place.config, image)),
        }
    }
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
