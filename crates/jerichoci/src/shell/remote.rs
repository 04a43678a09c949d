//! A shell on a host over SSH, for a job that is a process of it: in a private copy of the snapshot there, with the
//! terminal of this process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use jericho_host::{CancelToken, Command, Exit, HostError};

use super::place::source;
use super::{Opened, Shell, Tell};
use crate::causes::with_causes;
use crate::executor::host_tree::HostTree;
use crate::model::job::JobRuntimeKind;
use crate::remote::RemoteError;
use crate::run::store::prepare_state_root;

const START: &str = include_str!("remote.sh");
/// Ends the shell with whoever asked for it: without a terminal nothing there tells it that its connection is gone.
const LEASH: &str = include_str!("leash.sh");
/// More than that takes.
const LEASH_GRACE: Duration = Duration::from_secs(10);

pub(super) fn open(shell: &Shell<'_>, name: &str, tell: &mut Tell<'_>) -> Opened {
    let (engine, job) = (shell.engine, shell.job);
    let identity = prepare_state_root(&shell.layout(), &engine.ids.fresh())?;
    let tools = engine.tools(engine.hosts(identity.engine_id));
    tools.hosts.heed(shell.cancel);
    let (_pinned, source) = source(shell)?;
    let failed = |error: RemoteError| shell.cancelled().unwrap_or_else(|| shell.error(error.told()));
    let host = tools.hosts.get(name).map_err(failed)?;
    host.permit(JobRuntimeKind::HostProcess).map_err(failed)?;
    let ready = host.ready(&mut |line| tell(line), shell.cancel).map_err(failed)?;
    let id = engine.ids.fresh();
    let mut tree = HostTree::of((&host, &ready), &source, &tools, &format!("shell-{id}"));
    tree.deliver(&source, &tools, &mut |line| tell(line), shell.cancel)
        .map_err(|error| shell.cancelled().unwrap_or_else(|| shell.error(with_causes(&error))))?;
    let dir = ready.work_dir.join("shells").join(&id);
    let cargo_home = ready.work_dir.join("cache").join("cargo-home");
    let mut variables: BTreeMap<String, OsString> = BTreeMap::new();
    for name in &job.pass_env {
        if let Some(value) = engine.config.caller_environment.get(name) {
            variables.insert(name.clone(), value.to_owned());
        }
    }
    for (name, path) in [
        ("ARTIFACTS", dir.join("artifacts")),
        ("CARGO_HOME", cargo_home.clone()),
        ("CARGO_TARGET_DIR", dir.join("cargo-target")),
        ("PWD", dir.join("workspace")),
        ("GIT_CEILING_DIRECTORIES", dir.clone()),
    ] {
        variables.insert(name.to_owned(), path.into());
    }
    variables.extend(job.env.iter().map(|(name, value)| (name.clone(), value.into())));
    let leash = Command::new("sh").args(["-c", LEASH, "sh"]).arg(&dir).grace(LEASH_GRACE);
    let mut words: Vec<OsString> = vec![tree.path().into(), dir.into(), cargo_home.into()];
    words.extend(variables.into_iter().map(|(name, value)| {
        let mut word = OsString::from(name);
        word.push("=");
        word.push(value);
        word
    }));
    words.push("--".into());
    words.extend(shell.request.command.iter().map(OsString::from));
    if shell.request.command.is_empty() {
        tell(&format!("on {name}, in a private copy of the snapshot, which goes with the shell"));
    }
    let lost = |error| failed(host.error(error));
    let mut leash = host.ssh().converse(&leash, shell.cancel).map_err(lost)?;
    if leash.receive(&mut [0; 64]).map_err(lost)? == 0 {
        let said = leash.finish().map_err(lost)?.stderr;
        return Err(shell.error(String::from_utf8_lossy(&said).trim().to_owned()));
    }
    let ended = host.ssh().foreground(START, &words, shell.cancel);
    // The lease ends with the connection at the latest, and so does the shell.
    if let Ok(cancel) = CancelToken::new() {
        leash.heed(&cancel);
        let _ = leash.finish();
        let _ = tree.release(&cancel);
    }
    if let Some(reason) = shell.cancel.reason() {
        return Err(HostError::Cancelled(reason).into());
    }
    Ok(match ended.map_err(lost)? {
        Exit::Code(code) => code,
        // As a shell tells it.
        Exit::Signal(signal) => 128 + signal,
    })
}
