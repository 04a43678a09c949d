//! A shell in a private copy of the snapshot, for a job that is a process of this machine.

use std::ffi::OsString;

use std::time::Duration;

use jericho_host::{Command, Exit, LocalHost};
use pika_cloud::ops::Console;

use super::place::{Dir, source};
use super::{Opened, Shell, Tell};
use crate::executor::process::{JOB_TAG, shell_environment};
use crate::model::id::RunId;

/// Between TERM and KILL of what a shell has started that is cancelled.
pub(super) const GRACE: Duration = Duration::from_secs(1);

pub(super) fn open(shell: &Shell<'_>, console: &mut dyn Console, tell: &mut Tell<'_>) -> Opened {
    let (engine, job) = (shell.engine, shell.job);
    let (_pinned, source) = source(shell)?;
    let id = RunId::new(engine.clock.now(), &engine.ids.fresh());
    let dir = Dir::make(&shell.layout(), &id)?;
    let workspace = dir.path.join("workspace");
    tell("writing out what the job saw");
    source.own_tree(&workspace, shell.cancel).map_err(|error| {
        shell.cancelled().unwrap_or_else(|| shell.error(crate::causes::with_causes(&error)))
    })?;
    let artifacts = dir.path.join("artifacts");
    let _ = std::fs::create_dir(&artifacts);
    let mut environment = shell_environment(job, &engine.config);
    environment
        .set("ARTIFACTS", &artifacts)
        .set("CARGO_HOME", source.cargo_home())
        .set("CARGO_TARGET_DIR", dir.path.join("cargo-target"))
        .set("PWD", &workspace)
        .set(JOB_TAG, format!("{id}/{}", job.id))
        .set("GIT_CEILING_DIRECTORIES", &dir.path);
    let mut words: Vec<OsString> = shell.request.command.iter().map(OsString::from).collect();
    if words.is_empty() {
        let own = engine.config.caller_environment.get("SHELL").filter(|own| !own.is_empty());
        words.push(own.map_or_else(|| "/bin/sh".into(), OsString::from));
        tell("in a private copy of the snapshot, which goes with the shell");
    }
    let program = words.remove(0);
    let command = Command::new(program).args(words).env(environment).cwd(&workspace);
    console.lend(true);
    let ended = LocalHost::new().foreground_until(&command, shell.cancel);
    console.lend(false);
    if let Some(cancelled) = shell.cancelled() {
        // What has left the shell goes with it, and with the copy that it stands on.
        engine.host.end_tagged(JOB_TAG, &format!("{id}/"), GRACE)?;
        return Err(cancelled);
    }
    Ok(match ended? {
        Exit::Code(code) => code,
        // As a shell tells it.
        Exit::Signal(signal) => 128 + signal,
    })
}
