//! `pikaci doctor`.

use std::io::Write as _;

use jerichoci::doctor::{Check, Diagnosis, Standing};
use serde::Serialize;

use super::run::Interrupt;
use super::session::Session;
use crate::config::{HostFlags, word};
use crate::error::CliError;
use crate::exit::Exit;
use crate::operator::Operator;
use crate::render::document;
use crate::render::report::note;
use crate::render::text::printable;
use crate::targets::file::LOCAL;
use crate::targets::nearest;

/// Looks whether jobs can run on this machine or on a host, and tells what mends it
///
/// Looks at ssh, the work directory, disk, clock, programs, and at all of Incus that guests need.
/// Nothing is changed. Each line is `ok`, `note` (jobs run, or those that need it do not) or `problem`; below what is not
/// `ok` stands a command that mends it. Exit code 3 when there is a problem.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A host of the user's file, or anything that ssh takes as a destination [default: this machine]
    #[arg(value_parser = word)]
    host: Option<String>,
    /// This machine and every host of the user's file
    #[arg(long, conflicts_with = "host")]
    all: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hosts: HostFlags,
}

const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Document {
    schema_version: u32,
    /// Whether jobs can run on all of them.
    ok: bool,
    hosts: Vec<Diagnosis>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let (engine, operator) = session.engine_with_hosts(&args.hosts)?;
    let chosen = chosen(args, &operator);
    let interrupt = Interrupt::listen()?;
    let mut seen = Vec::new();
    for host in chosen {
        if let (Some(host), false) = (host, args.json) {
            tell_unknown(host, &operator);
        }
        if args.all && !args.json {
            line(&format!("{}:", printable(host.unwrap_or(LOCAL).as_bytes())))?;
        }
        let mut written = Ok(());
        let told = engine.doctor(host, &interrupt.cancel, &mut |check| {
            if !args.json && written.is_ok() {
                written = tell(check);
            }
        });
        written?;
        seen.push(told.map_err(|error| session.engine_error(error))?);
    }
    let ok = seen.iter().all(Diagnosis::is_well);
    if args.json {
        document::print(&Document { schema_version: SCHEMA_VERSION, ok, hosts: seen })?;
    }
    Ok(if ok { Exit::Success } else { Exit::Infrastructure })
}

/// The machines that are asked for; `None` is this one.
fn chosen<'a>(args: &'a Args, operator: &'a Operator) -> Vec<Option<&'a str>> {
    match args.host.as_deref() {
        _ if args.all => {
            let named = operator.hosts.keys().map(|name| Some(name.as_str()));
            std::iter::once(None).chain(named).collect()
        }
        None | Some(LOCAL) => vec![None],
        Some(host) => vec![Some(host)],
    }
}

/// A name without a table is taken for a destination, which may be a slip.
fn tell_unknown(host: &str, operator: &Operator) {
    if operator.hosts.contains_key(host) {
        return;
    }
    let meant = nearest(host, operator.hosts.keys().map(String::as_str));
    let meant = meant.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
    note(&format!(
        "{} is not in {}, so it is what ssh makes of it, with the defaults{meant}",
        printable(host.as_bytes()),
        operator.described()
    ));
}

fn tell(check: &Check) -> Result<(), CliError> {
    let standing = match check.standing {
        Standing::Ok => "ok",
        Standing::Note => "note",
        Standing::Problem => "problem",
    };
    line(&format!("{standing:<8} {:<14} {}", check.check, printable(check.found.as_bytes())))?;
    match &check.mend {
        Some(mend) => line(&format!("         {:<14} mend: {}", "", printable(mend.as_bytes()))),
        None => Ok(()),
    }
}

/// Out at once: looking at a host takes a while, and somebody reads along.
fn line(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(CliError::output)
}
