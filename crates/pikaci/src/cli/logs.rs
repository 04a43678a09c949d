//! `pikaci logs`.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use clap::ValueEnum;
use jerichoci::run::logs::LogFile;
use jerichoci::{EngineError, load_logs_metadata, open_log};

use super::follow::follow;
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
    /// The run; `latest` is the newest one
    run_id: String,
    /// The job [default: the first one; all of them with --metadata-json]
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Which log
    #[arg(long, value_enum, default_value_t = Kind::Both)]
    kind: Kind,
    /// Go on with what is added, until the job has ended; waits for one that has not started
    #[arg(short, long, conflicts_with = "metadata_json")]
    follow: bool,
    /// Only the last lines of each log
    #[arg(long, value_name = "N", conflicts_with = "metadata_json", value_parser = super::usage::from_zero)]
    tail: Option<usize>,
    /// Where the logs are and how long, in place of the logs
    #[arg(long)]
    metadata_json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kind {
    Host,
    Guest,
    /// Those that are there
    Both,
}

impl Kind {
    /// For the middle of a sentence.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
            Self::Both => "host or guest",
        }
    }
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
    if args.follow {
        return follow(session, &run_id, job, args.kind, args.tail);
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
        if let Some(lines) = args.tail {
            start_of_tail(&mut log, lines).and_then(|start| log.seek(SeekFrom::Start(start))).map_err(
                |error| {
                    CliError::new(Exit::Infrastructure, "cannot read the log")
                        .because(error)
                        .hint(session.typed(["logs", run_id.as_str(), "--metadata-json"]))
                },
            )?;
        }
        io::copy(&mut log, &mut out).map_err(CliError::output)?;
        out.flush().map_err(CliError::output)?;
        at_line_start = ends_with_newline(&mut log);
    }
    Ok(Exit::Success)
}

/// Where the last lines of a log begin. A line that has no end counts.
pub(super) fn start_of_tail(log: &mut File, lines: usize) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let length = log.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut ends = 0;
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        log.seek(SeekFrom::Start(start))?;
        block.clear();
        (&mut *log).take(end - start).read_to_end(&mut block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let offset = start + index as u64;
            // The last one ends the last line.
            if offset + 1 == length {
                continue;
            }
            ends += 1;
            if ends == lines {
                return Ok(offset + 1);
            }
        }
        end = start;
    }
    Ok(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_begin_where_they_begin_whatever_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        let mut check = |content: &[u8], lines, start| {
            file.set_len(0).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(content).unwrap();
            assert_eq!(start_of_tail(&mut file, lines).unwrap(), start, "{lines} of {}", content.len());
        };
        check(b"", 3, 0);
        check(b"a\nb\nc\n", 0, 6);
        check(b"a\nb\nc\n", 1, 4);
        check(b"a\nb\nc", 1, 4);
        check(b"a\nb\nc", 2, 2);
        check(b"a\nb\nc", 3, 0);
        check(b"a\nb\nc", 30, 0);
        check(b"\n\n\n", 2, 1);
        let long = [vec![b'x'; 200_000], b"\n".to_vec(), vec![b'y'; 100_000]].concat();
        check(&long, 1, 200_001);
        check(&long, 2, 0);
    }
}
