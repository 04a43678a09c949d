//! A host process: the command of a job as a supervised child of this machine.

mod artifacts;
pub(super) mod caches;
mod dev_shell;
mod environment;
mod merged;
mod secrets;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jericho_host::{
    CancelReason, Command, EndedBy, Environment, Exit, Finished, HostError, Isolation, Mount, Supervision,
};
use pika_cloud::lifecycle::RuntimeTerminalResult;

pub use artifacts::ArtifactLimits;
pub(super) use artifacts::ENGINES;
pub(crate) use artifacts::check_pattern;
use caches::{CacheError, Caches};
use dev_shell::{DevShellError, Entered};
use merged::Roots;

use super::failure::Failure;
use super::workspace::JobView;
use super::{Executor, JobContext, JobLog, JobReport, Phases, PreparedMount, Tools};
use crate::causes::with_causes;
use crate::config::EngineConfig;
use crate::model::attempt::ArtifactRecord;
use crate::model::demands::{ArtifactsWhen, WorkspaceGit};
use crate::model::job::JobRuntimeConfig;
use crate::model::job::JobSpec;
use crate::model::outcome::{FailureKind, JobOutcome, Verdict};
use crate::snapshot::history::Given;

/// Name of the variable that marks every process of a job.
pub const JOB_TAG: &str = "JERICHOCI_JOB";

/// Runs jobs as processes of this machine.
#[derive(Debug)]
pub struct HostProcess {
    tools: Tools,
}

/// What somebody sees who looks at where a job ran: as the job, without its secrets and its place.
pub(crate) fn shell_environment(job: &JobSpec, config: &EngineConfig) -> Environment {
    let mut env = environment::base(&config.caller_environment, config.inherit_env, &job.pass_env);
    for (name, value) in &job.env {
        env.set(name, value);
    }
    env
}

impl HostProcess {
    /// With these tools.
    #[must_use]
    pub fn new(tools: Tools) -> Self {
        Self { tools }
    }
}

impl Executor for HostProcess {
    fn execute(&self, mut job: JobContext<'_>) -> JobReport {
        let clock = std::sync::Arc::clone(&self.tools.clock);
        let mut phases = Phases::new(&*clock);
        let mut environment = Vec::new();
        let mut artifacts = Vec::new();
        let ran = self.run(&mut job, &mut phases, &mut environment, &mut artifacts);
        let mut outcome = ran.unwrap_or_else(Failure::into_outcome);
        phases.time("clean_up", || {
            if let Err(error) = self.tools.host.remove(job.scratch) {
                outcome.warnings.push(with_causes(&error));
            }
        });
        note(job.log, &mut outcome);
        if let Err(error) = write_result(&self.tools, &job, &outcome) {
            outcome.warnings.push(error);
        }
        JobReport { outcome, phases: phases.into_records(), environment, artifacts, ..JobReport::default() }
    }
}

impl HostProcess {
    /// Everything from the caches to the artifacts.
    fn run(
        &self,
        job: &mut JobContext<'_>,
        phases: &mut Phases<'_>,
        names: &mut Vec<String>,
        kept: &mut Vec<ArtifactRecord>,
    ) -> Result<JobOutcome, Failure> {
        let caches = self.caches(job, phases)?;
        let met = caches
            .met(job.source.content_hash())
            .map_err(|error| Failure::Errored(format!("the caches cannot be told their source: {error}")))?;
        let mut view = phases
            .time("workspace", || job.source.view(job.cache_dir, job.scratch, met, job.cancel))
            .map_err(|error| Failure::of(job.cancel, &error))?;
        if job.spec.git != WorkspaceGit::None {
            phases.time("git", || self.git(job, &mut view))?;
        }
        let mut env = self.environment(job, &view);
        caches.show(&mut view, job.source.manifest(), &mut env).map_err(Failure::Errored)?;
        secrets::deliver(&job.spec.secrets, &self.tools.config.secrets, job.scratch, &mut env)
            .map_err(Failure::Errored)?;
        *names = env.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        let mut outcome = self.command(job, &view, env, phases).unwrap_or_else(Failure::into_outcome);
        let wanted = match job.spec.artifacts_when {
            ArtifactsWhen::Always => true,
            ArtifactsWhen::Failure => outcome.verdict != Verdict::Passed,
            ArtifactsWhen::Never => false,
        };
        // Who asked twice does not wait for copies.
        if wanted && !job.spec.artifacts.is_empty() && job.cancel.reason() != Some(CancelReason::Forced) {
            let collected = phases.time("artifacts", || self.collect(job, &view, &caches));
            outcome.warnings.extend(collected.warnings);
            *kept = collected.files;
        }
        Ok(outcome)
    }

    /// Takes the caches of the job. Waiting for one is told, and is no part of the time limit.
    fn caches<'a>(&self, job: &mut JobContext<'a>, phases: &mut Phases<'_>) -> Result<Caches<'a>, Failure> {
        let named = self.tools.config.state_root.join("cache").join("named");
        let mut log_problem = None;
        let spec = job.spec;
        let (own, limit) = (caches::holder(job), self.tools.config.cache_wait);
        let taken = phases.time_if("wait_for_cache", |waited| {
            caches::take(&named, &spec.caches, (&own, limit), job.cancel, |line| {
                *waited = true;
                log_problem = job.log.engine_line(line).err();
            })
        });
        if let Some(error) = log_problem {
            return Err(Failure::errored(&error));
        }
        taken.map_err(|error| match error {
            CacheError::Cancelled(reason) => Failure::Cancelled(reason),
            CacheError::Errored(message) => Failure::Errored(message),
        })
    }

    /// Makes the `.git` that the job asks for.
    fn git(&self, job: &JobContext<'_>, view: &mut JobView) -> Result<(), Failure> {
        let config = &self.tools.config;
        let Some((head, branch)) = job.source.commit() else {
            let source = config.source_root.display();
            return Err(Failure::Errored(format!(
                "the job asks for git in its workspace, but the source tree has no commit: {source}"
            )));
        };
        let given = Given {
            source: &config.source_root,
            env: &config.caller_environment,
            head,
            branch,
            full: job.spec.git == WorkspaceGit::Full,
            manifest: job.source.manifest(),
        };
        let borrowed =
            given.make(&view.writable, job.cancel).map_err(|error| Failure::of(job.cancel, &error))?;
        if let Isolation::Namespaces(mounts) = &mut view.isolation {
            mounts.push(Mount::Bind { source: borrowed.clone(), target: borrowed, read_only: true });
        }
        Ok(())
    }

    fn collect(&self, job: &JobContext<'_>, view: &JobView, caches: &Caches<'_>) -> artifacts::Collected {
        let overlaid = view.writable != view.source_tree;
        let roots = Roots { upper: overlaid.then_some(&*view.writable), lower: &view.source_tree };
        let mut elsewhere: Vec<(PathBuf, PathBuf)> =
            caches.places().map(|(path, dir)| (path.into(), dir.to_path_buf())).collect();
        // What cargo writes is where people look for it, when nothing else is there.
        let names_target = job.spec.artifacts.iter().any(|pattern| pattern.starts_with("target/"));
        let has_own = [&view.writable, &view.source_tree].iter().any(|dir| dir.join("target").exists())
            || elsewhere.iter().any(|(place, _)| place.starts_with("target"));
        if names_target && !has_own {
            elsewhere.push(("target".into(), view.own_cargo_target.clone()));
        }
        artifacts::collect(
            &job.spec.artifacts,
            &roots,
            &elsewhere,
            job.artifacts,
            self.tools.config.artifact_limits,
            job.cancel,
        )
    }

    fn command(
        &self,
        job: &mut JobContext<'_>,
        view: &JobView,
        env: Environment,
        phases: &mut Phases<'_>,
    ) -> Result<JobOutcome, Failure> {
        let compiled = job.compile().map_err(Failure::Errored)?;
        if compiled.run_as_root {
            return Err(Failure::Errored("a host process cannot ask to run as root".to_owned()));
        }
        let mut argv = compiled.argv.into_iter();
        let program = argv.next().unwrap_or_default();
        let mut command = Command::new(program).args(argv).env(env).cwd(&view.workspace);
        let shell = self.dev_shell(job, view).map(str::to_owned);
        let mut inside = None;
        if let Some(shell) = &shell {
            let entering = phases.time("dev_shell", || self.enter_dev_shell(job, view, shell, &command))?;
            command = entering.command.clone();
            inside = Some(entering);
        }
        let limit = Duration::from_secs(job.spec.timeout_secs);
        let supervision = Supervision {
            time_limit: Some(limit),
            grace: self.tools.config.grace,
            isolation: with_prepared(view.isolation.clone(), &job.prepared.mounts),
            ..Supervision::new(JOB_TAG, job.tag.clone())
        };
        if let Some(reason) = job.cancel.reason() {
            return Err(Failure::Cancelled(reason));
        }
        let finished = phases.time("command", || {
            self.tools.host.supervise(&command, &supervision, &mut LogSink(job.log), job.cancel)
        });
        match finished {
            Ok(finished) => {
                if let (Some(inside), Some(shell), EndedBy::Itself) = (&inside, &shell, finished.ended_by) {
                    inside_at_all(inside.entered(), shell, &compiled.line, finished.exit)?;
                }
                Ok(judge(&finished, limit))
            }
            Err(HostError::Cancelled(reason)) => Err(Failure::Cancelled(reason)),
            Err(error @ HostError::Mount { .. }) => {
                job.source.mount_failed();
                Err(Failure::errored(&error))
            }
            Err(error) if error.is_no_space() => {
                Err(Failure::Errored("the disk is full: the output could not be kept".to_owned()))
            }
            Err(error) => Err(Failure::errored(&error)),
        }
    }

    fn environment(&self, job: &JobContext<'_>, view: &JobView) -> Environment {
        let config = &self.tools.config;
        let mut env = environment::base(&config.caller_environment, config.inherit_env, &job.spec.pass_env);
        env.set("ARTIFACTS", job.artifacts)
            .set("CARGO_HOME", job.source.cargo_home())
            .set("CARGO_TARGET_DIR", &view.cargo_target)
            .set("PWD", &view.workspace);
        // The workspace lies below the user's own repository: git must not find that one.
        if let Some(above) = view.workspace.parent() {
            env.set("GIT_CEILING_DIRECTORIES", above);
        }
        for (name, value) in &job.spec.env {
            env.set(name, value);
        }
        env
    }

    /// The dev shell that the job has to run in, if any.
    fn dev_shell<'a>(&'a self, job: &'a JobContext<'_>, view: &JobView) -> Option<&'a str> {
        let JobRuntimeConfig::HostProcess(runtime) = &job.spec.runtime else { return None };
        let config = &self.tools.config;
        let shell = runtime.nix_shell.as_deref().or(config.host_local_nix_shell.as_deref())?;
        let unwanted = runtime.without_nix_shell
            // Already in one: its tools are what the caller means.
            || config.caller_environment.get("IN_NIX_SHELL").is_some()
            || !view.source_tree.join("flake.nix").exists();
        (!unwanted).then_some(shell)
    }

    /// Finds or captures the shell, and puts the command into it.
    fn enter_dev_shell(
        &self,
        job: &JobContext<'_>,
        view: &JobView,
        shell: &str,
        command: &Command,
    ) -> Result<dev_shell::Inside, Failure> {
        let config = &self.tools.config;
        let source = dev_shell::Source {
            tree: &view.source_tree,
            content_hash: job.source.content_hash(),
            nix: &config.nix_program,
            // Nix itself runs as the caller does; the job still does not see that environment.
            env: &config.caller_environment,
            grace: config.grace,
        };
        let cache = config.state_root.join("cache").join("dev-env");
        let promised = [JOB_TAG, "ARTIFACTS", "CARGO_HOME", "CARGO_TARGET_DIR", "GIT_CEILING_DIRECTORIES"];
        let given: Vec<String> = secrets::variables(&job.spec.secrets)
            .chain(job.spec.caches.keys().map(|name| caches::variable(name)))
            .collect();
        let own = job.spec.env.keys().chain(&given).map(String::as_str);
        let kept = promised.into_iter().chain(own);
        dev_shell::capture(&*self.tools.host, &cache, shell, &source, job.cancel)
            .and_then(|script| dev_shell::enter(&script, command.clone(), kept, job.scratch))
            .map_err(|error| match error {
                DevShellError::Cancelled(reason) => Failure::Cancelled(reason),
                other => Failure::errored(&other),
            })
    }
}

/// Leaves the result of the job beside its artifacts.
pub(super) fn write_result(tools: &Tools, job: &JobContext<'_>, outcome: &JobOutcome) -> Result<(), String> {
    let (now, artifacts) = (tools.clock.now(), job.artifacts);
    let message = match job.masker {
        Some(masker) => masker.text(&outcome.message),
        None => outcome.message.clone(),
    };
    let result = match outcome.exit_code {
        Some(code) => RuntimeTerminalResult::from_exit_code(code, now, message),
        None => RuntimeTerminalResult::failed(now, message),
    };
    let path = artifacts.join("result.json");
    // The job owns this directory, and may have put a link in its place.
    if !fs::symlink_metadata(artifacts).is_ok_and(|meta| meta.is_dir()) {
        return Err(format!("{} is no directory any more: result.json is not written", artifacts.display()));
    }
    let failed = |error: &dyn std::error::Error| {
        format!("{} could not be written: {}", path.display(), with_causes(error))
    };
    let mut text = serde_json::to_vec_pretty(&result).map_err(|error| failed(&error))?;
    text.push(b'\n');
    // The job may have removed it. Not synced, as it is in a guest: the journal has the verdict.
    fs::create_dir_all(artifacts).map_err(|error| failed(&error))?;
    tools.host.write_atomic(&path, &text, false).map_err(|error| failed(&error))
}

/// Shows prepared outputs where guests see them too: wrappers name those paths. Without a mount
/// namespace, or where there is no such directory and none can be made, they are to be had through
/// the job's own links alone.
fn with_prepared(isolation: Isolation, prepared: &[PreparedMount]) -> Isolation {
    let Isolation::Namespaces(mut mounts) = isolation else { return isolation };
    for PreparedMount { source, guest_path } in prepared {
        // An empty directory of this name is all that stays behind of it on this machine.
        let own = guest_path.starts_with("/staged") && fs::create_dir_all(guest_path).is_ok();
        if own && source.is_dir() {
            let (source, target) = (source.clone(), guest_path.clone());
            mounts.push(Mount::Bind { source, target, read_only: true });
        }
    }
    Isolation::Namespaces(mounts)
}

/// Hands output of the command to the log. By copying: on ext4 and a 1 MiB pipe, moving pages
/// takes longer than reading and writing pieces that stay in the processor's cache.
struct LogSink<'a>(&'a mut dyn JobLog);

impl jericho_host::OutputSink for LogSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write(bytes)
    }
}

/// A command that was never started has said nothing.
fn inside_at_all(entered: Entered, shell: &str, line: &str, exit: Exit) -> Result<(), Failure> {
    let how = match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
    };
    match entered {
        Entered::Started => Ok(()),
        Entered::NoProgram => {
            Err(Failure::Errored(format!("the dev shell `{shell}` cannot start the command ({how}): {line}")))
        }
        Entered::Never => Err(Failure::Errored(format!(
            "the dev shell `{shell}` ended before the command was started ({how}): see its shellHook"
        ))),
    }
}

fn judge(finished: &Finished, limit: Duration) -> JobOutcome {
    let mut outcome = match (finished.ended_by, finished.exit) {
        (EndedBy::TimeLimit, _) => {
            let message = format!("timed out after {}s", limit.as_secs());
            return JobOutcome::new(Verdict::Failed(FailureKind::Timeout), message);
        }
        (EndedBy::Cancelled(reason), _) => return cancelled(reason),
        (EndedBy::Itself, Exit::Code(0)) => JobOutcome::new(Verdict::Passed, "passed"),
        (EndedBy::Itself, Exit::Code(code)) => {
            let message = format!("the command exited with code {code}");
            JobOutcome::new(Verdict::Failed(FailureKind::TestFailure), message)
        }
        (EndedBy::Itself, Exit::Signal(signal)) => {
            let message = format!("the command was ended by signal {signal}");
            JobOutcome::new(Verdict::Failed(FailureKind::TestFailure), message)
        }
    };
    match finished.exit {
        Exit::Code(code) => outcome.exit_code = Some(code),
        Exit::Signal(signal) => outcome.signal = Some(signal),
    }
    outcome.leaked =
        finished.leaked.iter().map(|leaked| format!("{} (pid {})", leaked.command, leaked.pid)).collect();
    outcome
}

pub(super) fn cancelled(reason: CancelReason) -> JobOutcome {
    let kind = match reason {
        CancelReason::RecordsFailed => FailureKind::Infrastructure,
        _ => FailureKind::Cancelled,
    };
    JobOutcome::new(Verdict::Failed(kind), format!("cancelled: {reason}"))
}

/// Puts into the log what its reader would otherwise miss. A clean job's log stays as it is.
pub(super) fn note(log: &mut dyn JobLog, outcome: &mut JobOutcome) {
    let mut lines: Vec<String> =
        outcome.leaked.iter().map(|process| format!("left behind and ended: {process}")).collect();
    lines.extend(outcome.left_behind.iter().map(|left| format!("left behind: {left}")));
    lines.extend(outcome.warnings.iter().map(|warning| format!("warning: {warning}")));
    let own_verdict = matches!(outcome.verdict, Verdict::Passed | Verdict::Failed(FailureKind::TestFailure));
    if !own_verdict {
        lines.push(outcome.message.clone());
    }
    for line in lines {
        if let Err(error) = log.engine_line(&line) {
            outcome.warnings.push(format!("the host log could not be written: {error}"));
            return;
        }
    }
}

/// Makes what host jobs share below `cargo_home`: the user's registry settings (mirrors) hold
/// for jobs too. Credentials are not taken over.
pub fn prepare_cargo_home(cargo_home: &Path, caller: &Environment) -> std::io::Result<()> {
    fs::create_dir_all(cargo_home)?;
    let own = match (caller.get("CARGO_HOME"), caller.get("HOME")) {
        (Some(dir), _) => Path::new(dir).to_path_buf(),
        (None, Some(home)) => Path::new(home).join(".cargo"),
        (None, None) => return Ok(()),
    };
    let (theirs, ours) = (own.join("config.toml"), cargo_home.join("config.toml"));
    if theirs.exists() && fs::symlink_metadata(&ours).is_err() {
        match std::os::unix::fs::symlink(&theirs, &ours) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    Ok(())
}
