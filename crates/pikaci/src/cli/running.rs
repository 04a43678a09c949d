//! What `run` and `rerun` share: how a run is shown, cancelled and ended.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;

use clap::ValueEnum;
use jericho_host::CancelToken;
use jerichoci::EngineError;
use jerichoci::model::event::JournalEntry;
use jerichoci::model::job::JobRuntimeKind;
use jerichoci::model::record::{JobRecord, RunRecord};
use jerichoci::run::report::Reporter;

use crate::config::CommandLine;
use crate::error::CliError;
use crate::exit::Ending;
use crate::render::{Human, Json, Jsonl, Sink, View};
use crate::{output, signals};

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line a job as it ends; messages, and the last lines of what failed, on standard error
    Human,
    /// The record of the run, after its end
    Json,
    /// An event a line, as it happens
    Jsonl,
}

/// Which events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Events {
    /// run_started, job_started, job_finished, run_finished
    Classic,
    /// Also prepare, phase, log progress and warning events
    All,
}

#[derive(Debug, clap::Args)]
pub(super) struct RunningArgs {
    /// What standard output carries
    #[arg(long, value_enum, value_name = "FORM", default_value = "human")]
    output: Output,

    /// Which events `--output jsonl` shows
    #[arg(long, value_enum, value_name = "WHICH", default_value = "classic")]
    events: Events,

    /// Jobs that run at once [default: number of processors]
    #[arg(short, long, value_name = "N")]
    pub(super) jobs: Option<NonZeroUsize>,

    /// Let host jobs see the whole environment of this command
    #[arg(long)]
    pub(super) inherit_env: bool,
}

/// Remembers that standard output failed: the engine asks no more, but the end still comes.
struct Watched {
    view: Box<dyn View>,
    failed: Option<io::Error>,
}

impl Reporter for Watched {
    fn report(&mut self, entry: &JournalEntry) -> io::Result<()> {
        self.view.report(entry).inspect_err(|error| self.failed = Some(copy(error)))
    }
}

fn copy(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

impl RunningArgs {
    /// Checks what the parser cannot.
    pub(super) fn check(&self) -> Result<(), CliError> {
        if self.events == Events::All && self.output != Output::Jsonl {
            return Err(CliError::usage("--events all shows nothing without --output jsonl")
                .hint("add --output jsonl, or leave --events out"));
        }
        Ok(())
    }

    fn view(&self, commands: CommandLine) -> Box<dyn View> {
        let (out, err): (Sink, Sink) = (Box::new(io::stdout()), Box::new(io::stderr()));
        match self.output {
            Output::Human => Box::new(Human::new(out, err, commands, Box::new(failing_log))),
            Output::Json => Box::new(Json::new(out, err)),
            Output::Jsonl => Box::new(Jsonl::new(out, err, self.events == Events::All)),
        }
    }

    /// Runs what `engine` does, shown as asked for and cancelled by signals, to its exit code.
    pub(super) fn run(
        &self,
        commands: CommandLine,
        cancel: &CancelToken,
        engine: impl FnOnce(&mut dyn Reporter, &CancelToken) -> Result<RunRecord, EngineError>,
    ) -> Result<Ending, CliError> {
        let mut watched = Watched { view: self.view(commands), failed: None };
        let record = engine(&mut watched, cancel)?;
        let told = watched.failed.is_none();
        let last = watched.view.finish(&record, told);
        let Some(error) = watched.failed.or(last.err()) else { return Ok(Ending::of_run(&record)) };
        output::note(format_args!("cannot write to standard output: {error}"));
        Ok(Ending::OutputLost)
    }
}

/// Signals cancel this token from now on.
pub(super) fn cancel_token() -> Result<CancelToken, CliError> {
    signals::cancel_token()
}

/// The log of a job in which its failure is most likely told. By its path: a record that the
/// engine has just told need not be on disk in full when the next event comes.
fn failing_log(job: &JobRecord) -> Option<File> {
    let written = |file: &File| file.metadata().is_ok_and(|metadata| metadata.len() > 0);
    let open = |path: &str| File::open(path).ok().filter(written);
    if job.runtime == Some(JobRuntimeKind::HostProcess) {
        return open(&job.host_log_path);
    }
    open(&job.guest_log_path).or_else(|| open(&job.host_log_path))
}
