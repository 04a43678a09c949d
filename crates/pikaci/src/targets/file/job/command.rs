//! What a job runs: a script, a program with its arguments, or a wrapper of prepared outputs.

use jericho_host::quote;
use jerichoci::model::job::{GuestCommand, JobRuntimeKind, JobSpec};
use toml::de::DeValue;

use super::super::keys::Fields;
use super::super::reader::{Reader, Value};
use super::staged;

/// Reads `command`, `root` and `staged`.
pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, spec: &mut JobSpec) {
    let value = fields.get("command");
    if let Some(command) = value.and_then(|value| command(reader, value)) {
        spec.command = command;
    }
    let root = fields.entry("root").and_then(|(key, value)| Some((key, reader.boolean(value)?)));
    let staged = fields.entry("staged");
    if let Some((_, table)) = staged {
        spec.staged = staged::read(reader, table, value, &spec.command);
    }
    if let (Some((key, true)), Some(_)) = (root, staged) {
        let why = "wrappers of prepared outputs run as the guest's own user";
        return reader.problem(
            key.at,
            format!("`root` has no meaning beside `staged`: {why}"),
            "leave it out",
        );
    }
    if let (Some((_, true)), JobRuntimeKind::Incus) = (root, spec.runtime.kind())
        && let Some(command) = as_root(&spec.command)
    {
        spec.command = GuestCommand::ShellCommandAsRoot { command };
    }
}

fn command(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<GuestCommand> {
    match value.value {
        DeValue::String(_) => {
            let script = reader.argument(value)?;
            if script.trim().is_empty() {
                reader.problem(value.at, "the command is empty", "");
                return None;
            }
            Some(GuestCommand::Script { script: script.to_owned() })
        }
        DeValue::Array(_) => {
            let words = reader.strings(value);
            match words.first() {
                None if matches!(value.value, DeValue::Array(array) if array.is_empty()) => {
                    reader.problem(value.at, "the command is empty", "");
                }
                Some(("", value)) => {
                    reader.problem(value.at, "the program of the command is empty", "");
                }
                _ => {}
            }
            Some(GuestCommand::Argv { argv: words.into_iter().map(|(word, _)| word.to_owned()).collect() })
        }
        _ => reader.wrong_type(value, "a script as a string, or a program and its arguments as an array"),
    }
}

/// The same command as a line for the one kind of command that guests run as root.
fn as_root(command: &GuestCommand) -> Option<String> {
    match command {
        GuestCommand::Script { script } => Some(format!("set -euo pipefail\n{script}")),
        GuestCommand::Argv { argv } if !argv.is_empty() => {
            let line = quote::join(argv).ok()?.into_string().ok()?;
            Some(format!("exec {line} \"$@\""))
        }
        _ => None,
    }
}
