//! Who is told about a run, in which form.

use std::io::{self, Write as _};

use clap::ValueEnum;
use jerichoci::model::record::RunRecord;
use jerichoci::{NoReporter, Reporter};

use super::announce::Announcer;
use super::document;
use super::human::{Human, Manner, Stage};
use super::jsonl::Jsonl;
use super::live::Live;
use super::paint::Paint;
use crate::config::{ColorWhen, Terminal};
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
    /// Only what went wrong: failures, and a summary when there are any
    #[arg(short, long)]
    quiet: bool,
    /// When words on standard error have colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorWhen::Auto)]
    color: ColorWhen,
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
pub(crate) struct Format {
    form: Form,
    quiet: bool,
    color: ColorWhen,
}

/// What goes to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Human,
    Json,
    Jsonl { all: bool },
}

impl OutputFlags {
    /// The form that was asked for.
    pub(crate) fn format(&self) -> Result<Format, CliError> {
        let form = match (self.output, self.events) {
            (Output::Jsonl, events) => Form::Jsonl { all: events == Events::All },
            (_, Events::All) => {
                return Err(
                    CliError::usage("--events all is about --output jsonl").hint("add --output jsonl")
                );
            }
            (Output::Human, Events::Classic) => Form::Human,
            (Output::Json, Events::Classic) => Form::Json,
        };
        Ok(Format { form, quiet: self.quiet, color: self.color })
    }
}

impl Format {
    /// Lines for people, as they are without any flag.
    #[cfg(test)]
    pub(super) const HUMAN: Self = Self { form: Form::Human, quiet: false, color: ColorWhen::Auto };
    /// A record for programs.
    #[cfg(test)]
    pub(super) const JSON: Self = Self { form: Form::Json, quiet: false, color: ColorWhen::Auto };

    /// Whether people read it as it happens.
    pub(crate) fn is_human(self) -> bool {
        self.form == Form::Human
    }

    /// Whether only what went wrong is told.
    pub(crate) const fn is_quiet(self) -> bool {
        self.quiet
    }

    /// What this form needs to know of the terminal.
    pub(crate) fn terminal(self, surroundings: &crate::config::Surroundings) -> Terminal {
        Terminal::of(surroundings, self.color)
    }
}

/// The reporter of a form. `typed` makes a command of this program that can be typed; `jobs` is
/// how many there are, when that is known.
pub(crate) fn reporter<'a>(
    format: Format,
    terminal: Terminal,
    announcer: &Announcer,
    jobs: Option<usize>,
    typed: impl Fn(&[&str]) -> String + Send + 'a,
) -> Box<dyn Reporter + 'a> {
    match format.form {
        Form::Human => {
            let paint = Paint::new(terminal.color);
            // Without a terminal, and where there is little to tell, nothing is redrawn.
            let live = terminal.live && !format.quiet;
            let stage = match live {
                true => Stage::Live(Live::start(announcer.clone(), paint, jobs)),
                false => Stage::Plain(io::stderr()),
            };
            let manner = Manner { quiet: format.quiet, one_terminal: live && terminal.stdout, paint };
            Box::new(Human::new(io::stdout(), stage, manner, typed))
        }
        Form::Json => Box::new(NoReporter),
        Form::Jsonl { all } => Box::new(Jsonl::new(io::stdout(), all)),
    }
}

/// What is printed after the end. The verdict of the run decides the exit code also when the
/// reader of standard output went away.
pub(crate) fn finish(format: Format, record: &RunRecord, exit: Exit) -> Result<Exit, CliError> {
    match format.form {
        Form::Human | Form::Jsonl { .. } => Ok(exit),
        Form::Json => match document::print(record) {
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
