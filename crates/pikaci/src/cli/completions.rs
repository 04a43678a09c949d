//! `pikaci completions`, and the answers that a shell asks for when somebody presses Tab.
//!
//! The script that a shell reads asks this program, by a variable, for every word: so targets and
//! runs are completed as well as options, and a script never falls behind the program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use clap_complete::env::Shells;
use clap_complete::{ArgValueCandidates, CompletionCandidate};
use jerichoci::{RunSummary, list_runs};

use super::session::{Globals, Session};
use crate::config::Surroundings;
use crate::error::CliError;
use crate::exit::Exit;
use crate::targets::{Catalog, TargetSpec};

/// Set by the scripts to the name of the shell that asks.
const VARIABLE: &str = "JERICHOCI_COMPLETE";
/// At most so many of the newest runs are offered.
const RUNS: usize = 50;

/// Prints the completions of bash, zsh or fish
///
/// They complete commands, options, targets, jobs and runs.
///
/// bash: source <(pikaci completions bash), in ~/.bashrc
///
/// zsh: source <(pikaci completions zsh), in ~/.zshrc after compinit
///
/// fish: pikaci completions fish | source, in ~/.config/fish/config.fish
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    const fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<Exit, CliError> {
    let name = args.shell.name();
    let mut script = Vec::new();
    if let Some(shell) = Shells::builtins().completer(name) {
        // By its name: whichever stands first on the PATH then is asked.
        shell
            .write_registration(VARIABLE, "pikaci", "pikaci", "pikaci", &mut script)
            .map_err(CliError::output)?;
    }
    std::io::stdout().write_all(&script).map_err(CliError::output)?;
    Ok(Exit::Success)
}

/// Answers a shell; nothing when no shell asks.
pub(super) fn answer(surroundings: &Surroundings, command: impl FnOnce() -> clap::Command) -> Option<Exit> {
    let asks = surroundings.environment().get(VARIABLE)?.to_str()?;
    let shell = Shells::builtins();
    let shell = shell.completer(asks)?;
    // `pikaci -- WORD...`, the words as they stand on the line.
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let mut command = with_candidates(command(), &globals(&words));
    command.build();
    let mut answer = Vec::new();
    let directory = surroundings.absolute(".".as_ref()).ok();
    // A shell that gets no answer completes nothing, which is as much as can be said to it.
    let answered = shell.write_complete(&mut command, words, directory.as_deref(), &mut answer);
    let answered = answered.and_then(|()| std::io::stdout().write_all(&answer));
    Some(if answered.is_ok() { Exit::Success } else { Exit::Infrastructure })
}

/// The global options among the words.
fn globals(words: &[OsString]) -> Globals {
    let value = |option: &str| {
        let at = words.iter().position(|word| word == option)?;
        words.get(at + 1).map(PathBuf::from)
    };
    Globals::new(value("--state-root"), value("-C"))
}

/// The same command with candidates for names that only the tree and the records know.
fn with_candidates(command: clap::Command, globals: &Globals) -> clap::Command {
    command.mut_subcommands(|command| {
        command.mut_args(|arg| {
            let globals = globals.clone();
            let session = move || Session::new(Surroundings::capture(), globals.clone());
            match arg.get_id().as_str() {
                "target" => arg.add(ArgValueCandidates::new(move || targets(&session()))),
                "only" => arg.add(ArgValueCandidates::new(move || jobs(&session()))),
                "run_id" => arg.add(ArgValueCandidates::new(move || runs(&session()))),
                _ => arg,
            }
        })
    })
}

/// None where they cannot be read: the command says why when it is run.
fn all_targets(session: &Session) -> Vec<TargetSpec> {
    let catalog = session.source().ok().and_then(|source| Catalog::load(&source.root).ok());
    catalog.map(|catalog| catalog.iter().cloned().collect()).unwrap_or_default()
}

fn targets(session: &Session) -> Vec<CompletionCandidate> {
    let candidate =
        |target: TargetSpec| CompletionCandidate::new(target.id).help(target.description.map(Into::into));
    all_targets(session).into_iter().map(candidate).collect()
}

fn jobs(session: &Session) -> Vec<CompletionCandidate> {
    let mut jobs = BTreeMap::new();
    for target in all_targets(session) {
        for job in target.jobs {
            jobs.entry(job.id).or_insert_with(|| format!("of {}", target.id));
        }
    }
    let candidate = |(job, of): (String, String)| CompletionCandidate::new(job).help(Some(of.into()));
    jobs.into_iter().map(candidate).collect()
}

fn runs(session: &Session) -> Vec<CompletionCandidate> {
    let list = session.state_root().ok().and_then(|state_root| list_runs(&state_root).ok());
    let runs = list.map(|list| list.runs).unwrap_or_default();
    let newest = runs.into_iter().take(RUNS).enumerate();
    let candidate = |(place, run): (usize, RunSummary)| {
        let what = run.target_id.or(run.first_job_id).unwrap_or_default();
        let help = format!("{what} {}", run.verdict.word());
        CompletionCandidate::new(run.run_id).help(Some(help.into())).display_order(Some(place))
    };
    newest.map(candidate).collect()
}
