//! A front end of one's own: two jobs on a directory, told line by line.
//!
//! `cargo run -p jerichoci --example front_end -- DIRECTORY`

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use jericho_host::{CancelToken, Environment};
use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::job::{GuestCommand, JobSpec};
use jerichoci::model::outcome::Verdict;
use jerichoci::{Engine, EngineConfig, Reporter, RunRequest};

/// What people are told: whatever a front end likes. The engine prints nothing itself.
struct Lines<W>(W);

impl<W: Write + Send> Reporter for Lines<W> {
    fn report(&mut self, entry: &JournalEntry) -> io::Result<()> {
        match &entry.event {
            RunLifecycleEvent::JobStarted { job, .. } => writeln!(self.0, "{} starts", job.id),
            RunLifecycleEvent::JobFinished { job, .. } => {
                writeln!(self.0, "{}: {}", job.id, job.verdict.word())
            }
            _ => Ok(()),
        }
    }
}

fn script(id: &str, text: &str, needs: &[&str]) -> JobSpec {
    let mut job = JobSpec::host_process(id, GuestCommand::Script { script: text.to_owned() });
    job.needs = needs.iter().map(|need| (*need).to_owned()).collect();
    job.timeout_secs = 60;
    job
}

/// Checks a directory; records and caches go to `state_root`.
pub(crate) fn check(
    directory: &Path,
    state_root: &Path,
    environment: Environment,
    out: impl Write + Send,
) -> Result<Verdict, Box<dyn Error>> {
    let mut config = EngineConfig::new(state_root, directory);
    // Jobs see of it what is known to be harmless: PATH, HOME, LANG and the like.
    config.caller_environment = environment;
    let jobs = vec![
        script("count", "find . -type f | wc -l", &[]),
        script("words", "! grep -rn FIXME .", &["count"]),
    ];
    let request = RunRequest::new(jobs).target("tidy", Some("No work is left to be done".to_owned()));
    // Whoever holds a clone of the token can end the run, from a signal handler for example.
    let record = Engine::new(config).run(&request, &mut Lines(out), &CancelToken::new()?)?;
    Ok(record.verdict)
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let directory = Path::new(&directory).canonicalize()?;
    let state_root = directory.join(".jerichoci");
    #[expect(clippy::disallowed_methods, reason = "a program decides what its jobs may see")]
    let verdict = check(&directory, &state_root, std::env::vars_os().collect(), io::stdout())?;
    writeln!(io::stdout(), "{}", verdict.word())?;
    if verdict == Verdict::Passed { Ok(()) } else { Err("not everything passed".into()) }
}
