//! `pikaci config`.

use std::io::Write as _;

use serde::Serialize;

use super::session::Session;
use crate::config::{CONFIG, Origin, RunFlags};
use crate::error::CliError;
use crate::exit::Exit;
use crate::operator::Operator;
use crate::render::document;
use crate::render::text::printable;
use crate::targets::{Catalog, FILE_NAME};

/// Shows each setting, its value, and where it comes from
///
/// A value comes from a flag, else from the environment, else from jericho.toml, else from the
/// user's file, else it is the default. Values of secrets are never shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: RunFlags,
}

const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Document {
    schema_version: u32,
    settings: Vec<Row>,
}

/// One setting.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    value: String,
    /// `flag`, `environment`, `repository`, `user` or `default`.
    origin: &'static str,
    /// The flag, the variable, or the place in a file; none for a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let source = session.source()?;
    let operator = session.operator()?;
    let catalog = Catalog::load_for(&source.root, None, &operator)?;
    let settings = session.settings(&args.flags, &source, &operator, catalog.settings())?;
    let row = |name: &str, value: String, origin: Origin, flag: &str, variable: &str| Row {
        name: name.to_owned(),
        value,
        origin: origin.word(),
        from: from(origin, flag, variable, &operator),
    };
    let mut rows = vec![row(
        "source_root",
        settings.source_root.to_string_lossy().into_owned(),
        session.started_in(),
        "-C",
        "",
    )];
    for shown in settings.shown() {
        rows.push(row(&shown.name, shown.value, shown.origin, shown.flag, shown.variable));
    }
    let untrusted = session.surroundings().untrusted()?;
    rows.push(row("untrusted", untrusted.value.to_string(), untrusted.origin, "", UNTRUSTED_BY));
    let (path, origin) = session.operator_file()?;
    let path = match (&operator.file, path) {
        (Some(read), _) => read.to_string_lossy().into_owned(),
        (None, Some(path)) => format!("none ({} is not there)", path.to_string_lossy()),
        (None, None) => "none".to_owned(),
    };
    rows.push(row("config", path, origin, "--config", CONFIG));
    let user =
        |name: String, value: String| Row { name, value, origin: "user", from: Some(operator.place.clone()) };
    let repository = |name: String, value: String| Row {
        name,
        value,
        origin: "repository",
        from: Some(FILE_NAME.to_owned()),
    };
    if !operator.allowed_secrets.is_empty() {
        rows.push(user("secrets.allow".to_owned(), operator.allowed_secrets.join(", ")));
    }
    if let Ok(target) = catalog.default_target() {
        rows.push(repository("default_target".to_owned(), target.id.clone()));
    }
    for (name, width) in catalog.group_widths() {
        let origin = catalog.group_place(name).map_or(Origin::Default, |(l, c)| Origin::Repository(l, c));
        rows.push(row(&format!("groups.{name}"), width.to_string(), origin, "", ""));
    }
    match args.json {
        true => document::print(&Document { schema_version: SCHEMA_VERSION, settings: rows })?,
        false => table(&rows)?,
    }
    Ok(Exit::Success)
}

/// Two variables say it.
const UNTRUSTED_BY: &str = "CI or JERICHOCI_UNTRUSTED";

fn from(origin: Origin, flag: &str, variable: &str, operator: &Operator) -> Option<String> {
    match origin {
        Origin::Flag => Some(flag.to_owned()),
        Origin::Environment => Some(variable.to_owned()),
        Origin::Repository(line, column) => Some(format!("{FILE_NAME}:{line}:{column}")),
        Origin::User(line, column) => Some(format!("{}:{line}:{column}", operator.place)),
        Origin::UserFile => Some(operator.place.clone()),
        Origin::Default => None,
    }
}

fn table(rows: &[Row]) -> Result<(), CliError> {
    let shown: Vec<[String; 3]> = rows
        .iter()
        .map(|row| {
            let origin = match &row.from {
                Some(from) => format!("{} ({from})", row.origin),
                None => row.origin.to_owned(),
            };
            [&row.name, &row.value, &origin].map(|text| printable(text.as_bytes()))
        })
        .collect();
    let width = |column: usize| shown.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    // A path as long as a line must not push every other origin out of sight.
    let (names, values) = (width(0), width(1).min(48));
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for [name, value, origin] in &shown {
        writeln!(out, "{name:<names$}  {value:<values$}  {origin}").map_err(CliError::output)?;
    }
    out.flush().map_err(CliError::output)
}
