//! Who is told about a run, in which form.

use std::io::{self, Write as _};

use clap::ValueEnum;
use jerichoci::model::record::RunRecord;
use jerichoci::{NoReporter, Reporter};

use super::document;
use super::human::Human;
use super::jsonl::Jsonl;
use crate::error::CliError;
use crate::exit::Exit;

/// Options that say what is printed about a run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OutputFlags {
    /// What goes to standard output
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Output::Human)]
    output: Output,
    /// Which events `--output jsonl` prints
    #[arg(long, value_enum, value_name = "KINDS", default_value_t = Events::Classic)]
    events: Events,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for each job that has ended
    Human,
    /// The run record, after the end
    Json,
    /// Events, one a line, as they happen
    Jsonl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Events {
    /// Start and end of the run and of its jobs
    Classic,
    /// Also prepares, phases, growth of logs, warnings
    All,
}

/// What is printed about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Human,
    Json,
    Jsonl { all: bool },
}

impl OutputFlags {
    /// The form that was asked for.
    pub(crate) fn format(&self) -> Result<Format, CliError> {
        match (self.output, self.events) {
            (Output::Jsonl, events) => Ok(Format::Jsonl { all: events == Events::All }),
            (_, Events::All) => {
                Err(CliError::usage("--events all is about --output jsonl").hint("add --output jsonl"))
            }
            (Output::Human, Events::Classic) => Ok(Format::Human),
            (Output::Json, Events::Classic) => Ok(Format::Json),
        }
    }
}

/// The reporter of a form. `typed` makes a command of this program that can be typed.
pub(crate) fn reporter<'a>(
    format: Format,
    typed: impl Fn(&[&str]) -> String + Send + 'a,
) -> Box<dyn Reporter + 'a> {
    match format {
        Format::Human => Box::new(Human::new(io::stdout(), io::stderr(), typed)),
        Format::Json => Box::new(NoReporter),
        Format::Jsonl { all } => Box::new(Jsonl::new(io::stdout(), all)),
    }
}

/// What is printed after the end. The verdict of the run decides the exit code also when the
/// reader of standard output went away.
pub(crate) fn finish(format: Format, record: &RunRecord, exit: Exit) -> Result<Exit, CliError> {
    match format {
        Format::Human | Format::Jsonl { .. } => Ok(exit),
        Format::Json => match document::print(record) {
            Err(error) if !error.is_quiet() => Err(error),
            _ => Ok(exit),
        },
    }
}

/// A line for people beside the output proper.
pub(crate) fn note(text: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A line about something that is wrong and changes nothing.
pub(crate) fn warn(text: &str) {
    note(&format!("warning: {text}"));
}
