//! `pikaci logs`.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use clap::ValueEnum;
use jerichoci::run::logs::LogFile;
use jerichoci::{EngineError, load_logs_metadata, open_log};

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::document;

/// Prints the logs of a job, byte for byte
///
/// Each log stands under a heading: `== host ==` for what the engine and the command wrote on the
/// host, `== guest ==` for what was written inside a guest. A host process has no guest log.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run_id: String,
    /// The job [default: the first one; all of them with --metadata-json]
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Which log
    #[arg(long, value_enum, default_value_t = Kind::Both)]
    kind: Kind,
    /// Where the logs are and how long, in place of the logs
    #[arg(long)]
    metadata_json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Host,
    Guest,
    /// Those that are there
    Both,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let run_id = session.run_id(&args.run_id)?;
    let state_root = session.state_root()?;
    let job = args.job.as_deref();
    if args.metadata_json {
        let metadata =
            load_logs_metadata(&state_root, &run_id, job).map_err(|error| session.engine_error(error))?;
        document::print(&metadata)?;
        return Ok(Exit::Success);
    }
    let open = |log| open_log(&state_root, &run_id, job, log);
    let logs = match args.kind {
        Kind::Host => vec![("host", open(LogFile::Host))],
        Kind::Guest => vec![("guest", open(LogFile::Guest))],
        Kind::Both => {
            let both = vec![("host", open(LogFile::Host)), ("guest", open(LogFile::Guest))];
            let missing =
                |log: &Result<File, EngineError>| matches!(log, Err(EngineError::LogNotFound { .. }));
            match both.iter().all(|(_, log)| missing(log)) {
                true => both,
                false => both.into_iter().filter(|(_, log)| !missing(log)).collect(),
            }
        }
    };
    let mut at_line_start = true;
    for (name, log) in logs {
        let mut log = log.map_err(|error| session.engine_error(error))?;
        let mut out = io::stdout().lock();
        let heading = if at_line_start { "" } else { "\n" };
        writeln!(out, "{heading}== {name} ==").map_err(CliError::output)?;
        io::copy(&mut log, &mut out).map_err(CliError::output)?;
        out.flush().map_err(CliError::output)?;
        at_line_start = ends_with_newline(&mut log);
    }
    Ok(Exit::Success)
}

/// Whether what was copied so far ends a line. A log that cannot be read again does not matter
/// that much.
fn ends_with_newline(log: &mut File) -> bool {
    let mut last = [b'\n'];
    let Ok(end) = log.stream_position() else { return true };
    if end > 0 && log.seek(SeekFrom::Start(end - 1)).is_ok() {
        let _ = log.read(&mut last);
    }
    last == [b'\n']
}
