//! A host process on another machine: the command of a job under the runner there, which goes on whatever
//! happens to the connection.
//!
//! | phase | what |
//! |---|---|
//! | `prepare_directories` | the host is connected, its work directory checked, the runner there |
//! | `stage_workspace_snapshot` | the source tree is there |
//! | `launch` | the runner has the request and has said so |
//! | `wait_for_completion` | log and events come, and at last the result |
//! | `collect_artifacts` | what the job left is here |
//!
//! The verdict is what `result.json` says and nothing else. What the job has left there is removed once that is told.

mod artifacts;
mod documents;
mod follow;
mod frames;
mod left;
mod limit;
mod place;
mod result;

use std::sync::Arc;
use std::time::Duration;

use jericho_host::sys::ProcessIdentity;
use jericho_host::{CancelReason, CancelToken, Command, Exit, Host as _, HostError};

use super::failure::Failure;
use super::host_tree::HostTree;
use super::process::{cancelled, note, write_result};
use super::{Executor, JobContext, JobReport, Phases, Tools};
use crate::causes::with_causes;
use crate::model::attempt::ArtifactRecord;
use crate::model::demands::{ArtifactsWhen, WorkspaceGit};
use crate::model::job::{JobPlacement, JobRuntimeConfig, JobRuntimeKind};
use crate::model::outcome::{JobOutcome, Verdict};
use crate::remote::sync::Holder;
use crate::remote::{BuildHost, Ready};

use documents::Documents;
use follow::{Ended, FollowError, Follower};
use left::Left;
use limit::Limited;
use place::Place;

/// Starts a runner.
const START: &str = include_str!("start.sh");

/// Beyond its own limit and grace, and the time for which its host may be away, how long a runner may take to say how a job has ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// Beyond the grace, how long a host may take to end a job that was cancelled.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// Runs jobs as processes of a host over SSH.
#[derive(Debug)]
pub(super) struct RemoteProcess {
    tools: Tools,
}

/// What is known of a job on its host.
struct Run<'a> {
    tools: &'a Tools,
    host: &'a Arc<BuildHost>,
    ready: &'a Ready,
    place: &'a Place,
}

impl RemoteProcess {
    pub(super) fn new(tools: Tools) -> Self {
        Self { tools }
    }
}

impl Executor for RemoteProcess {
    fn execute(&self, mut job: JobContext<'_>) -> JobReport {
        let clock = Arc::clone(&self.tools.clock);
        let mut phases = Phases::new(&*clock);
        let mut report = JobReport::default();
        let ran = self.run(&mut job, &mut phases, &mut report);
        let mut outcome = ran.unwrap_or_else(Failure::into_outcome);
        if let Err(error) = self.tools.host.remove(job.scratch) {
            outcome.warnings.push(with_causes(&error));
        }
        note(job.log, &mut outcome);
        if let Err(error) = write_result(&self.tools, &job, &outcome) {
            outcome.warnings.push(error);
        }
        JobReport { outcome, phases: phases.into_records(), ..report }
    }
}

impl RemoteProcess {
    fn run(
        &self,
        job: &mut JobContext<'_>,
        phases: &mut Phases<'_>,
        told: &mut JobReport,
    ) -> Result<JobOutcome, Failure> {
        refuse_what_only_this_machine_has(job)?;
        let JobPlacement::RemoteSsh { host } = &job.spec.placement else {
            return Err(Failure::Errored("the job has no host".to_owned()));
        };
        let host = self.tools.hosts.get(host)?;
        host.permit(JobRuntimeKind::HostProcess)?;
        let ready = phases.time("prepare_directories", || {
            let log = &mut *job.log;
            host.ready(&mut |line| drop(log.engine_line(line)), job.cancel)
        })?;
        if host.is_full() {
            let line = format!("waiting for one of the jobs that run on {} to end", host.name());
            drop(job.log.engine_line(&line));
        }
        let _place = phases.time_if("wait_for_session", |waited| {
            *waited = host.is_full();
            host.follower(job.cancel)
        })?;
        let place = Place::new(&ready, self.tools.hosts.engine_id(), job).map_err(Failure::Errored)?;
        let run = Run { tools: &self.tools, host: &host, ready: &ready, place: &place };
        let mut tree = phases.time("stage_workspace_snapshot", || run.stage(job))?;
        let waited = match Documents::new(&run, job, tree.path()) {
            Ok(documents) => {
                told.environment = documents.variables();
                match phases.time("launch", || run.launch(&documents, &mut tree, job)) {
                    Ok(()) => run.finish(job, phases, &mut told.artifacts),
                    Err(failure) => Waited::told(failure.into_outcome()),
                }
            }
            Err(why) => Waited::told(JobOutcome::errored(why)),
        };
        host.reap_now();
        let left =
            Left { dir: place.job.clone(), is_unknown: waited.is_unknown, ready: ready.clone(), host, tree };
        told.cleanup = Some(left.into_cleanup());
        Ok(waited.told)
    }
}

fn refuse_what_only_this_machine_has(job: &JobContext<'_>) -> Result<(), Failure> {
    let refuse = |what: &str| Err(Failure::Errored(what.to_owned()));
    if job.spec.git != WorkspaceGit::None {
        return refuse(
            "a host over SSH has no git in its workspaces: only jobs of this machine may ask for it",
        );
    }
    if let JobRuntimeConfig::HostProcess(runtime) = &job.spec.runtime
        && runtime.nix_shell.is_some()
        && !runtime.without_nix_shell
    {
        return refuse("a host over SSH has no dev shells: only jobs of this machine may ask for one");
    }
    Ok(())
}

impl Run<'_> {
    fn runner(&self, words: &[&str]) -> Command {
        Command::new(&self.ready.runner).args(words)
    }

    /// Makes sure that the source tree is there, and holds it until the runner does.
    fn stage(&self, job: &mut JobContext<'_>) -> Result<HostTree, Failure> {
        // Which process it is for is known when that has started.
        let mut tree = HostTree::of((self.host, self.ready), job.source, self.tools, &self.place.nonce);
        let log = &mut *job.log;
        let mut say = |line: &str| drop(log.engine_line(line));
        tree.deliver(job.source, self.tools, &mut say, job.cancel)
            .map_err(|error| Failure::of_delivery(self.host, error))?;
        Ok(tree)
    }

    /// Hands the request to the runner. After a lost connection it is asked again, which starts nothing
    /// twice.
    fn launch(
        &self,
        documents: &Documents,
        tree: &mut HostTree,
        job: &mut JobContext<'_>,
    ) -> Result<(), Failure> {
        let mut command = Command::new("sh").args(["-c", START, "sh"]);
        command = command.arg(&self.place.job).arg(&self.ready.runner).arg(&self.place.env_file);
        command = command.arg(self.place.cargo_home());
        command.stdin = Some(documents.lines());
        loop {
            let output = match self.host.ssh().run(&command, job.cancel) {
                Ok(output) => output,
                Err(HostError::Ssh(error)) if error.is_transient() => {
                    self.lost(&HostError::Ssh(error), "handing over the job", job)?;
                    continue;
                }
                Err(error) => return Err(self.host.error(error).into()),
            };
            if output.exit == Exit::Code(0) {
                self.hand_over(tree, &output.stdout, job);
                return Ok(());
            }
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().replace('\n', "; ");
            let message = format!("host {}: the runner did not take the job: {said}", self.host.name());
            return Err(Failure::Errored(message));
        }
    }

    /// The runner keeps the source tree from now on. One that has ended already needs none.
    fn hand_over(&self, tree: &mut HostTree, announced: &[u8], job: &mut JobContext<'_>) {
        let Ok(runner) = serde_json::from_slice::<ProcessIdentity>(announced) else { return };
        if let Err(error) = tree.hand_to(Holder::Process(runner), job.cancel) {
            let line =
                format!("warning: the source tree is held by this engine alone: {}", with_causes(&error));
            drop(job.log.engine_line(&line));
        }
    }

    /// Connects again after a loss.
    fn lost(&self, error: &HostError, while_: &str, job: &mut JobContext<'_>) -> Result<(), Failure> {
        let log = &mut *job.log;
        let mut tell = |line: &str| drop(log.engine_line(line));
        tell(&format!("lost the connection to {} while {while_}: {}", self.host.name(), with_causes(error)));
        self.host.reconnect(&mut tell, job.cancel)?;
        tell(&format!("connected to {} again", self.host.name()));
        Ok(())
    }

    /// From the running job to its artifacts.
    fn finish(
        &self,
        job: &mut JobContext<'_>,
        phases: &mut Phases<'_>,
        kept: &mut Vec<ArtifactRecord>,
    ) -> Waited {
        let mut follower = Follower::new(self);
        let mut outcome = phases.time("wait_for_completion", || self.wait(&mut follower, job));
        // Who asked twice does not wait for copies.
        if job.cancel.reason() != Some(CancelReason::Forced) && !outcome.is_unknown {
            let wanted = match job.spec.artifacts_when {
                ArtifactsWhen::Always => true,
                ArtifactsWhen::Failure => outcome.told.verdict != Verdict::Passed,
                ArtifactsWhen::Never => false,
            };
            let fetched = phases.time("collect_artifacts", || artifacts::fetch(self, job, wanted));
            outcome.told.warnings.extend(fetched.warnings);
            *kept = fetched.files;
        }
        outcome
    }

    /// Follows the job to its end.
    fn wait(&self, follower: &mut Follower<'_>, job: &mut JobContext<'_>) -> Waited {
        let config = &self.tools.config;
        let limit = longest_wait(job.spec.timeout_secs, config.grace, config.hosts.reconnect);
        // A job may wait for each of its caches before its own limit begins.
        let waits = !job.spec.caches.is_empty();
        let waiting =
            config.cache_wait.saturating_mul(u32::try_from(job.spec.caches.len()).unwrap_or(u32::MAX));
        let watchdog = match Limited::within(limit.saturating_add(waiting), job.cancel) {
            Ok(watchdog) => watchdog,
            Err(error) => {
                return Waited::unknown(JobOutcome::errored(format!("cannot make a token: {error}")));
            }
        };
        if waits {
            follower.at_start(watchdog.renewal(limit));
        }
        let failure = match follower.follow(job.log, watchdog.token()) {
            Ok(Ended::Result(result)) => {
                return Waited::told(result::judge(&result, job.spec, self.host.name()));
            }
            Ok(Ended::Gone) => return self.gone(follower, job),
            Err(failure) => failure,
        };
        let forced = job.cancel.reason() == Some(CancelReason::Forced);
        let instead = match failure {
            FollowError::Cancelled(_) if watchdog.has_passed() => JobOutcome::errored(format!(
                "host {}: the runner has not ended the job at its limit of {} s",
                self.host.name(),
                job.spec.timeout_secs
            )),
            FollowError::Cancelled(reason) => cancelled(job.cancel.reason().unwrap_or(reason)),
            FollowError::Log(error) if error.is_no_space() => {
                JobOutcome::errored("the disk is full: the output could not be kept")
            }
            FollowError::Log(error) => JobOutcome::errored(with_causes(&error)),
            FollowError::Remote(error) => JobOutcome::errored(match follower.last_heard() {
                Some(last) => format!("{}; the last that was heard of the job: {last}", error.told()),
                None => error.told(),
            }),
        };
        self.end(follower, job, instead, forced)
    }

    /// Ends a job on its host, for a reason that is told already.
    fn end(
        &self,
        follower: &mut Follower<'_>,
        job: &mut JobContext<'_>,
        mut instead: JobOutcome,
        forced: bool,
    ) -> Waited {
        let ended = self.cancel(job.cancel, forced).or_else(|why| {
            // The second signal came while the first one was heard.
            let forced_now = job.cancel.reason() == Some(CancelReason::Forced);
            if forced_now && !forced { self.cancel(job.cancel, true) } else { Err(why) }
        });
        if let Err(why) = ended {
            instead.left_behind.push(format!(
                "{} on {}: {}; the next run that uses the host ends it ({why})",
                job.tag,
                self.host.name(),
                self.place.job.display()
            ));
            return Waited::unknown(instead);
        }
        // What it has said at the end, and whether it was ended by this at all.
        let Ok(limited) = Limited::of(END_PATIENCE) else { return Waited::unknown(instead) };
        match follower.follow_once(job.log, limited.token()) {
            Ok(Ended::Result(result)) if !result::is_cancelled(&result) => {
                let told = result::judge(&result, job.spec, self.host.name());
                // An end that came by itself counts, but not the one that a lost host is blamed for.
                let counts = matches!(told.verdict, Verdict::Passed) || told.exit_code.is_some();
                if counts { Waited::told(told) } else { Waited { told: instead, is_unknown: false } }
            }
            _ => Waited { told: instead, is_unknown: false },
        }
    }

    /// The runner is gone and has left no result: what it owes is seen to.
    fn gone(&self, follower: &mut Follower<'_>, job: &mut JobContext<'_>) -> Waited {
        let name = self.host.name();
        let instead = JobOutcome::errored(format!("the runner on {name} ended without a result"));
        if self.cancel(job.cancel, true).is_err() {
            return Waited::unknown(instead);
        }
        match follower.follow(job.log, job.cancel) {
            Ok(Ended::Result(result)) => Waited::told(result::judge(&result, job.spec, name)),
            _ => Waited::unknown(instead),
        }
    }

    /// Tells the runner to end the job, and waits until it has.
    fn cancel(&self, cancel: &CancelToken, force: bool) -> Result<(), String> {
        let grace = if force { Duration::ZERO } else { self.tools.config.grace };
        let limited = Limited::of(grace.saturating_add(END_PATIENCE)).map_err(|error| error.to_string())?;
        if !force {
            limited.hears_force(cancel);
        }
        let words: &[&str] = if force { &["cancel", "--force"] } else { &["cancel"] };
        let command = self.runner(words).arg(&self.place.request);
        match self.host.ssh().run(&command, limited.token()) {
            Ok(output) if output.exit.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")),
            Err(HostError::Cancelled(_)) => Err("the host did not answer in time".to_owned()),
            Err(error) => Err(with_causes(&error)),
        }
    }
}

/// How long a job is waited for whose host may be away for a while, just when the job ends.
fn longest_wait(timeout_secs: u64, grace: Duration, reconnect: Duration) -> Duration {
    Duration::from_secs(timeout_secs).saturating_add(grace).saturating_add(PATIENCE).saturating_add(reconnect)
}

/// What came of waiting.
struct Waited {
    told: JobOutcome,
    /// Nobody knows what the job does there.
    is_unknown: bool,
}

impl Waited {
    fn told(told: JobOutcome) -> Self {
        Self { told, is_unknown: false }
    }

    fn unknown(told: JobOutcome) -> Self {
        Self { told, is_unknown: true }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use jericho_host::{LocalHost, Output};

    use super::*;

    /// Hands a job to something that only says that it was started.
    fn hand_over(dir: &Path, before: &str) -> Output {
        let runner = "#!/bin/sh\nexec >\"${0%/*}/started\"\n";
        fs::write(dir.join("runner"), runner).unwrap();
        fs::set_permissions(dir.join("runner"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let script = format!("{before}\nexec sh -c \"$@\"");
        let mut command = Command::new("sh").args(["-c", &script, "sh", START, "sh"]);
        let words = ["job", "runner", "env", "cargo-home"].map(|name| dir.join(name));
        command = command.args(words).cwd(dir);
        command = command.env([("PATH", "/usr/local/bin:/usr/bin:/bin")].into_iter().collect());
        command.stdin = Some(b"owner\nrequest\nview\nenvironment\n".to_vec());
        LocalHost::new().run(&command, &CancelToken::new().unwrap()).unwrap()
    }

    #[test]
    fn a_job_that_ends_while_its_host_is_away_is_heard_when_it_is_back() {
        let (limit, grace, reconnect) = (1, Duration::from_secs(2), Duration::from_secs(300));
        assert!(longest_wait(limit, grace, reconnect) >= Duration::from_secs(1 + 2 + 300) + PATIENCE);
        assert_eq!(longest_wait(1, grace, Duration::MAX), Duration::MAX);
    }

    #[test]
    fn asked_again_while_a_runner_comes_up_nothing_is_started_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let said = hand_over(
            dir.path(),
            "mkdir -p job/state; echo owner >job/owner.json; : >job/state/.runner.lock
             (exec >/dev/null; sleep 0.5; echo me >job/state/new; mv job/state/new job/state/runner.json) &",
        );
        assert_eq!((said.exit, said.stdout.as_slice()), (Exit::Code(0), b"me\n".as_slice()));
        assert!(!dir.path().join("started").exists());
    }

    #[test]
    fn a_runner_that_does_not_say_who_it_is_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let before = "mkdir -p job/state; echo owner >job/owner.json; : >job/state/.runner.lock";
        let said = hand_over(dir.path(), before);
        assert_eq!(said.exit, Exit::Code(1));
        assert!(String::from_utf8_lossy(&said.stderr).contains("does not say who it is"));
        assert!(dir.path().join("job/state/.runner.lock").exists());
        assert!(!dir.path().join("started").exists());
    }

    #[test]
    fn a_job_that_was_never_handed_over_whole_is_handed_over_again() {
        let dir = tempfile::tempdir().unwrap();
        let said = hand_over(dir.path(), "mkdir job; echo owner >job/owner.json");
        assert_eq!(said.exit, Exit::Code(0), "{}", String::from_utf8_lossy(&said.stderr));
        assert!(dir.path().join("started").exists());
        assert_eq!(fs::read_to_string(dir.path().join("job/view.json")).unwrap(), "view\n");
        assert_eq!(fs::read_to_string(dir.path().join("env")).unwrap(), "environment\n");
    }
}
