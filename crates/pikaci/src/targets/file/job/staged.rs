//! The prepared outputs of a job.

use std::collections::BTreeMap;

use jerichoci::model::id::check_name;
use jerichoci::model::job::GuestCommand;
use jerichoci::model::staged::{
    StagedLinuxCommandConfig, StagedLinuxRustPayloadRole, StagedLinuxRustTargetPayloadSpec,
    StagedLinuxSnapshotProfile,
};

use super::super::keys::{Fields, PROFILES, STAGED};
use super::super::reader::{Key, Reader, Value};
use super::Job;
use crate::targets::error::quoted;

/// Reads the table. Its wrapper is the command of the job.
pub(super) fn read(
    reader: &mut Reader<'_>,
    value: Value<'_, '_>,
    command_value: Option<Value<'_, '_>>,
    command: &GuestCommand,
) -> Option<StagedLinuxCommandConfig> {
    let table = reader.table(value)?;
    let fields = Fields::read(reader, table, &STAGED, "in `staged`");
    for name in STAGED.required {
        if fields.understood && fields.entry(name).is_none() {
            reader.problem(value.at, format!("`staged` has no `{name}`"), "");
        }
    }
    let deps = output(reader, &fields, "deps", StagedLinuxRustPayloadRole::WorkspaceDeps);
    let build = output(reader, &fields, "build", StagedLinuxRustPayloadRole::WorkspaceBuild);
    let prefix = fields.get("prefix").and_then(|value| {
        let name = reader.string(value)?;
        reader.name(Key { name, at: value.at }, "prefix").then(|| name.to_owned())
    });
    let profile = match fields.get("profile") {
        None => Some(StagedLinuxSnapshotProfile::Rust),
        Some(value) => {
            let meanings = [StagedLinuxSnapshotProfile::Rust, StagedLinuxSnapshotProfile::Followup];
            reader.choose(value, &PROFILES, meanings)
        }
    };
    let wrapper = command_value.and_then(|value| wrapper(reader, value, command));
    Some(StagedLinuxCommandConfig {
        prefix: prefix?,
        profile: profile?,
        deps: deps?,
        build: build?,
        wrapper: wrapper?,
    })
}

/// Reports jobs of one target that share a prefix and mean different outputs.
pub(in super::super) fn check(reader: &mut Reader<'_>, jobs: &[Job]) {
    let mut known: BTreeMap<&str, (&StagedLinuxCommandConfig, &str)> = BTreeMap::new();
    for made in jobs.iter().flat_map(|job| &job.made) {
        let Some(staged) = &made.spec.staged else { continue };
        let (first, by) = *known.entry(&staged.prefix).or_insert((staged, &made.spec.id));
        if (&first.deps, &first.build) != (&staged.deps, &staged.build) {
            let message = format!(
                "jobs {} and {} share the prefix {}, and name different outputs",
                quoted(by),
                quoted(&made.spec.id),
                quoted(&staged.prefix)
            );
            reader.problem(made.staged_at, message, "give each pair of outputs a prefix of its own");
        }
    }
}

fn output(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    name: &str,
    role: StagedLinuxRustPayloadRole,
) -> Option<StagedLinuxRustTargetPayloadSpec> {
    let value = fields.get(name)?;
    let text = reader.string(value)?;
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'\''))
    };
    if !text.split('.').all(part) || text.starts_with('-') {
        let message = format!("{} is not an attribute of a flake", quoted(text));
        reader.problem(
            value.at,
            message,
            "write names with dots between them, such as `\"ci.x86_64-linux.workspaceDeps\"`",
        );
        return None;
    }
    Some(StagedLinuxRustTargetPayloadSpec { role, output_name: text.to_owned() })
}

fn wrapper(reader: &mut Reader<'_>, value: Value<'_, '_>, command: &GuestCommand) -> Option<String> {
    let name = match command {
        GuestCommand::Script { script } => Some(script.as_str()),
        GuestCommand::Argv { argv } => match argv.as_slice() {
            [name] => Some(name.as_str()),
            // What is wrong with it was reported.
            [] => return None,
            _ => None,
        },
        _ => None,
    };
    if let Some(name) = name.filter(|name| check_name(name).is_ok()) {
        return Some(name.to_owned());
    }
    let what = name.map_or_else(|| "a program with arguments".to_owned(), quoted);
    let message = format!("beside `staged`, the command is a program in `bin/` of `build`; {what} is none");
    reader.problem(value.at, message, "write its file name, without arguments");
    None
}
