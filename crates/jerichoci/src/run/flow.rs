//! A run from request to record: the order of the stages, each of which is somewhere else.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;

use jericho_host::sys::processors;
use jericho_host::{CancelReason, CancelToken};

use super::control;
use super::dispatch::{Dispatcher, Message, Surroundings, report_on_thread};
use super::layout::Layout;
use super::outputs::Mode;
use super::outputs::choose::{Chosen, choose};
use super::plan::{PlanInputs, RunPlan, plan_run};
use super::prepare::{Preparer, Sites};
use super::report::Reporter;
use super::request::{RequestError, RunRequest};
use super::schedule::Limits;
use super::snapshots::{Snapshots, SourceOf, source_spec};
use super::store::{RunSpecRecord, RunStore, prepare_state_root};
use crate::causes::with_causes;
use crate::engine::{Engine, EngineError};
use crate::executor::workspace::RunSource;
use crate::executor::{Phases, process};
use crate::model::id::RunId;
use crate::model::job::JobSpec;
use crate::model::outcome::{FailureKind, Verdict};
use crate::model::record::RunRecord;
use crate::model::version;
use crate::snapshot::EarlyListing;
use jericho_host::secrets::{self, Length, Masker};

/// What of an earlier run is repeated.
#[derive(Debug, Clone)]
pub(crate) struct Repeat {
    pub(crate) run_id: RunId,
    /// Content hash of its snapshot; absent when the current tree takes its place.
    pub(crate) source: Option<String>,
    /// How its outputs were handed over, or why nobody knows; nothing when today's settings count.
    pub(crate) outputs: Result<Option<Mode>, String>,
    pub(crate) git_head: Option<String>,
    pub(crate) git_dirty: Option<bool>,
    pub(crate) message: String,
}

impl Repeat {
    /// Its snapshot, when it is the one that is used again.
    fn snapshot(&self) -> Option<&str> {
        self.source.as_deref()
    }
}

/// Runs a request to its end.
pub(crate) fn run(
    engine: &Engine,
    request: &RunRequest,
    repeat: Option<&Repeat>,
    reporter: &mut dyn Reporter,
    cancel: &CancelToken,
) -> Result<RunRecord, EngineError> {
    request.check()?;
    let planned = plan_run(&request.jobs, &request.options)?;
    let masker = masker_of(engine, request)?;
    let started = engine.clock.monotonic();
    let layout = Layout::new(&engine.config.state_root);
    let of = match repeat.and_then(Repeat::snapshot) {
        Some(hash) => SourceOf::Recorded(hash),
        None => {
            let source = source_spec(engine, &layout, &request.jobs);
            // Git looks through the tree while the run is recorded.
            let early = request.skip.is_none().then(|| EarlyListing::begin(&source, cancel)).flatten();
            SourceOf::Tree(source, early)
        }
    };
    let identity = prepare_state_root(&layout, &engine.ids.fresh())?;
    let reaped = super::reap::reap(engine)?;
    let created_at = engine.clock.now();
    let run_id = RunId::new(created_at, &engine.ids.fresh());
    let spec = RunSpecRecord {
        schema_version: version::RUN_SPEC,
        jobs: request.jobs.clone(),
        metadata: request.metadata.clone(),
        options: request.options.clone(),
    };
    let process = jericho_host::sys::own_identity().map_err(|source| EngineError::File {
        action: "read",
        path: PathBuf::from("/proc/self"),
        source,
    })?;
    let store = RunStore::create(&layout, &run_id, &spec, process)?;
    let mut record = first_record(engine, request, repeat, &run_id, created_at);
    if let Some(masker) = &masker {
        let texts = record.settings.iter_mut().map(|setting| &mut setting.value);
        for text in texts.chain(&mut record.message).chain(&mut record.target_description) {
            *text = masker.text(text);
        }
    }

    let hosts = engine.hosts(identity.engine_id);
    let tools = engine.tools(hosts.reaping(super::known::runs_of(&layout)));
    let fresh_id = || engine.ids.fresh();
    let around = Surroundings { tools: &tools, cancel, fresh_id: &fresh_id, masker, watch: reporter.watch() };
    let (sender, messages) = channel();
    let wake = sender.clone();
    cancel.on_cancel(move |_reason| {
        // A run that is over has no ear any more.
        let _ = wake.send(Message::Cancelled);
    });
    let done = CancelToken::new().map_err(|source| EngineError::File {
        action: "make",
        path: PathBuf::from("eventfd"),
        source,
    })?;
    std::thread::scope(|scope| {
        // Also when something here panics: the listener must not be waited for for ever.
        let _done = CancelOnDrop(done.clone());
        let told = report_on_thread(scope, reporter, sender.clone());
        let mut dispatcher = Dispatcher::new(&around, store, record, told, started);
        let control = dispatcher.layout().control();
        if let Err(error) = control::listen(scope, &control, cancel.clone(), done.clone()) {
            dispatcher.warn(format!("this run cannot be cancelled by its id: {error}"));
        }
        for line in reaped.lines() {
            dispatcher.warn(line);
        }
        Ok(stages(engine, request, repeat, of, &planned, &layout, &run_id, dispatcher, &(sender, messages)))
    })
}

/// Cancels a token when it goes out of scope, however that happens.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel(CancelReason::Requested);
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "called once, to keep the stages apart from their surroundings"
)]
fn stages(
    engine: &Engine,
    request: &RunRequest,
    repeat: Option<&Repeat>,
    of: SourceOf<'_>,
    planned: &RunPlan,
    layout: &Layout,
    run_id: &RunId,
    mut dispatcher: Dispatcher<'_>,
    channel: &(std::sync::mpsc::Sender<Message>, std::sync::mpsc::Receiver<Message>),
) -> RunRecord {
    if let Some(why) = &request.skip {
        return dispatcher.finish(Some(Verdict::Skipped), Some(why.clone()));
    }
    let infrastructure = Some(Verdict::Failed(FailureKind::Infrastructure));
    let cancel = dispatcher.cancel();
    // Connections are made while the snapshot is taken.
    let first = request.jobs.iter().filter(|job| job.needs.is_empty());
    let asked = first.filter_map(|job| Some((job.placement.host()?, job.runtime.kind())));
    dispatcher.hosts().make_ready_ahead(asked, cancel);
    let mut phases = Phases::new(&*engine.clock);
    let snapshots = match Snapshots::open(engine, layout) {
        Ok(snapshots) => snapshots,
        Err(error) => return dispatcher.finish(infrastructure, Some(with_causes(&error))),
    };
    // The first record is put on the disk while the snapshot is taken: both wait for the disk.
    let taken = std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| phases.time("snapshot", || snapshots.get(of, cancel)));
        dispatcher.save_first();
        snapshot.join().unwrap_or_else(|_| Err("the snapshot panicked".to_owned()))
    });
    let mut snapshot = match taken {
        Ok(snapshot) => snapshot,
        Err(problem) => {
            dispatcher.phases(phases.into_records());
            let verdict = match cancel.is_cancelled() {
                true => Verdict::Failed(FailureKind::Cancelled),
                false => Verdict::Failed(FailureKind::Infrastructure),
            };
            return dispatcher.finish(Some(verdict), Some(problem));
        }
    };
    for warning in &snapshot.warnings {
        dispatcher.warn(warning.clone());
    }
    if let Some(repeat) = repeat.filter(|repeat| repeat.source.is_some()) {
        // What git said of the tree was said when the snapshot was taken.
        snapshot.git_head.clone_from(&repeat.git_head);
        snapshot.git_dirty = repeat.git_dirty;
    }
    let run = dispatcher.layout().clone();
    if let Err(error) = snapshots.link(&run, &snapshot) {
        return dispatcher.finish(infrastructure, Some(with_causes(&error)));
    }
    dispatcher.update(|record| {
        record.snapshot_dir = run.snapshot().to_string_lossy().into_owned();
        record.snapshot_hash = Some(snapshot.hash.clone());
        record.git_head.clone_from(&snapshot.git_head);
        record.git_dirty = snapshot.git_dirty;
    });
    let bound = planned.bind(&PlanInputs {
        run_id,
        created_at: engine.clock.now(),
        target_id: request.metadata.target_id.as_deref(),
        target_description: request.metadata.target_description.as_deref(),
        layout: &run,
        snapshot_dir: &run.snapshot(),
    });
    dispatcher.store_plan(bound.clone());
    dispatcher.update(|record| record.plan_path = Some(run.plan().to_string_lossy().into_owned()));
    dispatcher.phases(phases.into_records());

    // A collection that has it now is through in a moment.
    let cargo_home = crate::lock::shared(&layout.cargo_home_lock(), cancel);
    match &cargo_home {
        // Only when it is collected depends on it.
        Ok(lock) => drop(crate::lock::touch(lock)),
        Err(error) => dispatcher.warn(format!("{}: {error}", layout.cargo_home_lock().display())),
    }
    if let Err(error) = process::prepare_cargo_home(&layout.cargo_home(), &engine.config.caller_environment) {
        dispatcher.warn(format!("{}: {error}", layout.cargo_home().display()));
    }
    let source = RunSource::new(
        snapshots.store(),
        Arc::clone(&snapshot.manifest),
        snapshot.hash.clone(),
        layout.trees(),
        layout.cargo_home(),
        engine.config.source_root.to_string_lossy().into_owned(),
        Arc::clone(&engine.host),
    )
    .on_commit(snapshot.git_head.clone(), snapshot.git_branch.clone());
    let scope = match &request.metadata.target_id {
        Some(id) => format!("target-{id}"),
        None => "adhoc".to_owned(),
    };
    let cache_dirs = |job: &JobSpec| layout.host_local_job(&scope, &job.id);
    let limits = Limits {
        max_concurrent: engine.config.max_concurrent_executes.map_or_else(processors, usize::from),
        groups: engine.config.group_widths.clone(),
        keep_going: request.options.keep_going,
    };
    let chosen = match choose_mode(engine, request, repeat) {
        Ok(chosen) => chosen,
        Err(problem) => return dispatcher.finish(infrastructure, Some(problem)),
    };
    if request.jobs.iter().any(|job| job.staged.is_some()) {
        dispatcher.begin_outputs(&chosen);
    }
    let around = dispatcher.around();
    let preparer = Preparer {
        tools: around.tools,
        run: &run,
        run_id: run_id.as_str(),
        plan: planned,
        bound: &bound,
        source: &source,
        mode: &chosen.mode,
        fresh_id: around.fresh_id,
        masker: around.masker.clone(),
        cancel,
        jobs: &request.jobs,
        sites: Sites::default(),
    };
    let (sender, messages) = channel;
    let reaping = super::reap::in_background(engine, layout, dispatcher.hosts(), &request.jobs);
    dispatcher.carry_out(
        (&request.jobs, &request.options),
        &preparer,
        &limits,
        &source,
        &cache_dirs,
        reaping,
        (sender, messages),
    );
    if let Err(problem) = preparer.release() {
        dispatcher.warn(format!("prepared outputs are not let go of: {problem}"));
    }
    drop(cargo_home);
    for line in dispatcher.hosts().settle() {
        dispatcher.warn(line);
    }
    dispatcher.finish(None, None)
}

/// How prepared outputs of a run are handed over.
fn choose_mode(engine: &Engine, request: &RunRequest, repeat: Option<&Repeat>) -> Result<Chosen, String> {
    let recorded = match repeat {
        Some(repeat) => repeat.outputs.as_ref().map_err(Clone::clone)?.as_ref().map(|mode| (repeat, mode)),
        None => None,
    };
    let recorded = recorded.map(|(repeat, mode)| (repeat.run_id.as_str(), mode));
    let is_staged = request.jobs.iter().any(|job| job.staged.is_some());
    // What is left of a run may need nothing of what is set today, and a record without staged jobs has no mode.
    let recorded = match repeat {
        Some(repeat) if !is_staged => recorded.or(Some((repeat.run_id.as_str(), &Mode::HostLocalSymlinks))),
        _ => recorded,
    };
    choose(&request.jobs, recorded, &engine.config.outputs).map_err(|error| with_causes(&error))
}

/// Masks the secrets that jobs of this run name. All of them must be there, and be maskable,
/// before anything is made.
fn masker_of(engine: &Engine, request: &RunRequest) -> Result<Option<Arc<Masker>>, EngineError> {
    if request.skip.is_some() {
        return Ok(None);
    }
    let mut values = Vec::new();
    for job in &request.jobs {
        for secret in &job.secrets {
            let name = || secret.name.clone();
            let missing = || RequestError::MissingSecret { job: job.id.clone(), name: name() };
            let value = engine.config.secrets.get(&secret.name).ok_or_else(missing)?.as_bytes();
            match secrets::check(value) {
                Ok(()) => values.push(value),
                Err(Length::Short) => {
                    return Err(
                        RequestError::ShortSecret { name: name(), least: secrets::LEAST_BYTES }.into()
                    );
                }
                Err(Length::Long) => {
                    return Err(RequestError::LongSecret { name: name(), most: secrets::MOST_BYTES }.into());
                }
            }
        }
    }
    Masker::new(values).map_err(|error| RequestError::TooManySecrets(error.to_string()).into())
}

fn first_record(
    engine: &Engine,
    request: &RunRequest,
    repeat: Option<&Repeat>,
    run_id: &RunId,
    created_at: chrono::DateTime<chrono::Utc>,
) -> RunRecord {
    let metadata = &request.metadata;
    let message = match repeat {
        Some(repeat) => Some(repeat.message.clone()),
        None => metadata.message.clone(),
    };
    // With the current tree, what git said then is about another one.
    let recorded = repeat.filter(|repeat| repeat.source.is_some());
    RunRecord {
        run_id: run_id.to_string(),
        verdict: Verdict::Running,
        rerun_of: repeat.map(|repeat| repeat.run_id.to_string()),
        target_id: metadata.target_id.clone(),
        target_description: metadata.target_description.clone(),
        source_root: engine.config.source_root.to_string_lossy().into_owned(),
        snapshot_dir: String::new(),
        git_head: recorded.and_then(|repeat| repeat.git_head.clone()),
        git_dirty: recorded.and_then(|repeat| repeat.git_dirty),
        created_at,
        finished_at: None,
        plan_path: None,
        prepared_outputs_path: None,
        prepared_output_consumer: None,
        prepared_output_mode: None,
        prepared_output_invocation_mode: None,
        prepared_output_invocation_wrapper_program: None,
        prepared_output_launcher_transport_mode: None,
        prepared_output_launcher_transport_program: None,
        prepared_output_launcher_transport_host: None,
        prepared_output_launcher_transport_remote_launcher_program: None,
        prepared_output_launcher_transport_remote_helper_program: None,
        prepared_output_launcher_transport_remote_work_dir: None,
        changed_files: metadata.changed_files.clone(),
        filters: metadata.filters.clone(),
        message,
        prepare_timings: Vec::new(),
        jobs: Vec::new(),
        base: metadata.base.clone(),
        snapshot_hash: recorded.and_then(|repeat| repeat.source.clone()).filter(|hash| !hash.is_empty()),
        duration_ms: None,
        engine_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        inherit_env: engine.config.inherit_env,
        settings: engine.config.settings.clone(),
        phases: Vec::new(),
        warnings: Vec::new(),
        prepares: Vec::new(),
    }
}
