//! `pikaci logs`: what a job wrote, byte for byte.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use clap::ValueEnum;
use jerichoci::EngineError;
use jerichoci::run::logs::LogFile;

use crate::config::Config;
use crate::error::{CliError, parse_run_id};
use crate::exit::Ending;
use crate::output::print_json;

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// What the engine and a host process wrote
    Host,
    /// What was written inside a guest
    Guest,
    /// Those that are there
    Both,
}

/// Show the logs of a job
///
/// Each log follows its heading, `== host ==` or `== guest ==`, byte for byte.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run; `pikaci list` shows them
    #[arg(value_name = "RUN")]
    run_id: String,

    /// The job [default: the first of the run; with --metadata-json all]
    #[arg(long, value_name = "JOB")]
    job: Option<String>,

    /// Which log
    #[arg(long, value_enum, value_name = "KIND", default_value = "both")]
    kind: Kind,

    /// Leave the headings out
    #[arg(long, conflicts_with = "metadata_json")]
    raw: bool,

    /// Where the logs are and how long, as JSON, in place of the logs; --kind makes no difference
    #[arg(long)]
    metadata_json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Ending, CliError> {
    let run_id = parse_run_id(&args.run_id)?;
    let state_root = config.state_root()?.value;
    if args.metadata_json {
        print_json(&jerichoci::load_logs_metadata(&state_root, &run_id, args.job.as_deref())?)?;
        return Ok(Ending::Done);
    }
    let open = |log| jerichoci::open_log(&state_root, &run_id, args.job.as_deref(), log);
    let logs = match args.kind {
        Kind::Host => vec![("host", open(LogFile::Host)?)],
        Kind::Guest => vec![("guest", open(LogFile::Guest)?)],
        Kind::Both => match (there(open(LogFile::Host))?, there(open(LogFile::Guest))?) {
            (None, None) => vec![("host", open(LogFile::Host)?)],
            (host, guest) => [("host", host), ("guest", guest)]
                .into_iter()
                .filter_map(|(name, log)| Some((name, log?)))
                .collect(),
        },
    };
    copy(logs, args.raw).map_err(|error| CliError::output(&error))?;
    Ok(Ending::Done)
}

/// A log that is not there is no error where both are asked for.
fn there(log: Result<File, EngineError>) -> Result<Option<File>, EngineError> {
    match log {
        Ok(log) => Ok(Some(log)),
        Err(EngineError::LogNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The kernel moves the bytes; memory stays flat however long a log is.
fn copy(logs: Vec<(&'static str, File)>, raw: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut open_line = false;
    for (name, mut log) in logs {
        if !raw {
            // A heading starts a line, also behind a log that ends without one.
            let lead = if open_line { "\n" } else { "" };
            writeln!(out, "{lead}== {name} ==")?;
        }
        let copied = io::copy(&mut log, &mut out)?;
        open_line = copied > 0 && !ends_line(&mut log)?;
    }
    out.flush()
}

fn ends_line(log: &mut File) -> io::Result<bool> {
    log.seek(SeekFrom::Current(-1))?;
    let mut last = [0];
    log.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
