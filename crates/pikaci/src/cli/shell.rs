//! `pikaci shell`, and `run --shell-on-failure`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jericho_host::CancelToken;
use jerichoci::Engine;
use jerichoci::model::job::JobRuntimeKind;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;
use jerichoci::shell::ShellRequest;

use super::run::Interrupt;
use super::session::Session;
use crate::config::HostFlags;
use crate::console::OwnTerminal;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::note;

/// Opens a shell where a job ran: in its guest, or in a fresh one like it
///
/// A guest is there while its job works, and for two hours after it failed in a run with --keep-on-failure.
/// Otherwise a fresh one is made with the same image and mounts and the same snapshot, and goes when the shell ends. The
/// shell starts in the workspace, as the user and with the variables of the job, without its secrets.
///
/// The exit code is that of the shell, or of COMMAND.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run; `latest` is the newest one
    run_id: String,
    /// The job; can be left out where the run has only one
    job: Option<String>,
    /// A fresh guest, also when that of the job is still there
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    hosts: HostFlags,
    /// In place of a shell: a program and its arguments
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let run_id = session.run_id(&args.run_id)?;
    let (engine, _) = session.engine_with_hosts(&args.hosts)?;
    let interrupt = Interrupt::listen()?;
    let request = ShellRequest {
        run_id,
        job_id: args.job.clone(),
        fresh: args.fresh,
        command: args.command.clone(),
        term: term(session),
    };
    let code = open(session, &engine, &request, (&interrupt.lent, &interrupt.cancel))?;
    Ok(Exit::Of(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn term(session: &Session) -> Option<String> {
    let term = session.surroundings().environment().get("TERM")?;
    term.to_str().filter(|term| !term.is_empty()).map(str::to_owned)
}

fn open(
    session: &Session,
    engine: &Engine,
    request: &ShellRequest,
    (lent, cancel): (&Arc<AtomicBool>, &CancelToken),
) -> Result<i32, CliError> {
    if request.command.is_empty() {
        check_terminal("pikaci shell RUN JOB -- COMMAND...")?;
    }
    let mut console = OwnTerminal::new(Arc::clone(lent));
    let opened = engine.shell(request, &mut console, &mut |line| note(line), cancel);
    drop(console);
    opened.map_err(|error| session.engine_error(error))
}

/// Opens a shell at the first job of a run that failed in a guest.
pub(super) fn after(
    session: &Session,
    engine: &Engine,
    record: &RunRecord,
    cancel: &CancelToken,
) -> Result<(), CliError> {
    let failed =
        |verdict| matches!(verdict, Verdict::Failed(FailureKind::TestFailure | FailureKind::Timeout));
    let job =
        record.jobs.iter().find(|job| failed(job.verdict) && job.runtime == Some(JobRuntimeKind::Incus));
    let Some(job) = job else { return Ok(()) };
    let Ok(run_id) = record.run_id.parse() else { return Ok(()) };
    note(&format!("a shell where {} failed; it ends with `exit`", job.id));
    let request = ShellRequest {
        run_id,
        job_id: Some(job.id.clone()),
        fresh: false,
        command: Vec::new(),
        term: term(session),
    };
    // Of a guest, which never has the terminal itself.
    let code = open(session, engine, &request, (&Arc::default(), cancel))?;
    note(&format!("the shell ended with {code}; {}", session.typed(["shell", &record.run_id, &job.id])));
    Ok(())
}

/// Refuses where nobody can type at a shell.
pub(super) fn check_terminal(hint: &str) -> Result<(), CliError> {
    if OwnTerminal::new(Arc::default()).is_terminal() {
        return Ok(());
    }
    Err(CliError::usage("standard input is no terminal, so nobody can type at a shell").hint(hint))
}
