//! `pikaci report`.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::report::destination::Destination;
use crate::report::junit::junit;
use crate::report::page::page;
use crate::report::recorded::Recorded;
use crate::report::trace::trace;

/// Makes a page of a run that opens in any browser, JUnit XML, a trace
///
/// The page is one file without anything to load: a timeline, each job with its logs and a search
/// over all of them, what changed, the settings. It is written into the directory of the run, unless
/// `--output` says another place; with `--junit` or `--trace` alone there is no page. Prints the
/// path of each file it has written.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run; `latest` is the newest one
    run_id: String,
    /// Write the page here; `-` is standard output [default: report.html in the run's directory]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write JUnit XML here; `-` is standard output
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a trace for Perfetto or chrome://tracing here; `-` is standard output
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let run_id = session.run_id(&args.run_id)?;
    let state_root = session.state_root()?;
    let recorded = Recorded::load(&state_root, &run_id).map_err(|error| session.engine_error(error))?;
    let to = |option: &str, path: &Option<PathBuf>| {
        path.as_ref().map(|path| destination(session, option, path)).transpose()
    };
    let (mut html, xml, json) =
        (to("--output", &args.output)?, to("--junit", &args.junit)?, to("--trace", &args.trace)?);
    if html.is_none() && xml.is_none() && json.is_none() {
        let path = recorded.run_directory().join("report.html");
        html = Some(Destination::check("--output", &path)?);
    }
    let all = [&html, &xml, &json];
    if all.iter().filter(|to| matches!(to, Some(Destination::Stdout))).count() > 1 {
        return Err(CliError::usage("standard output can take one document, and more were sent there")
            .hint("give the others the names of files"));
    }
    let told = |args: &[&str]| session.typed(args.iter().copied());
    let failed =
        |what: &str, error| CliError::new(Exit::Infrastructure, format!("cannot make {what}")).because(error);
    if let Some(to) = &html {
        let made = page(&recorded, &told).map_err(|error| failed("the page", std::io::Error::from(error)))?;
        to.write(&made)?;
    }
    if let Some(to) = &xml {
        to.write(&junit(&recorded).map_err(|error| failed("JUnit XML", error))?)?;
    }
    if let Some(to) = &json {
        let made =
            serde_json::to_vec(&trace(&recorded)).map_err(|error| failed("the trace", error.into()))?;
        to.write(&made)?;
    }
    if all.iter().any(|to| matches!(to, Some(Destination::Stdout))) {
        return Ok(Exit::Success);
    }
    let mut out = std::io::stdout().lock();
    for path in all.into_iter().flatten().filter_map(Destination::path) {
        let line = [path.as_os_str().as_bytes(), b"\n"].concat();
        out.write_all(&line).map_err(CliError::output)?;
    }
    Ok(Exit::Success)
}

fn destination(session: &Session, option: &str, path: &Path) -> Result<Destination, CliError> {
    match path == Path::new("-") {
        true => Ok(Destination::Stdout),
        false => Destination::check(option, &session.surroundings().absolute(path)?),
    }
}
