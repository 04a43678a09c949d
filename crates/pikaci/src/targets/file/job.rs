//! One job of a target.

use std::collections::BTreeMap;

use jerichoci::executor::process::JOB_TAG;
use jerichoci::model::job::{
    GuestCommand, HostProcessRuntimeConfig, IncusRuntimeConfig, JobRuntimeConfig, JobRuntimeKind, JobSpec,
    TartRuntimeConfig,
};
use toml::de::DeValue;

use super::super::error::quoted;
use super::duration;
use super::reader::{Key, Reader, Value, in_order};
use super::target::Context;

const KEYS: &[&str] = &["command", "needs", "timeout", "env", "description", "group", "runtime", "nix_shell"];

/// Keys of the format that this version does not act on. They are refused, since a job that ran
/// without its image or its secrets would only pretend.
const UNSUPPORTED: &[&str] = &[
    "artifacts",
    "artifacts_when",
    "caches",
    "cpus",
    "disk",
    "git",
    "image",
    "matrix",
    "memory",
    "network",
    "on",
    "retries",
    "role",
    "root",
    "secrets",
    "staged",
    "writable",
];

/// What people who know other tools write, and what it is here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cmd", "command"),
    ("depends", "needs"),
    ("depends_on", "needs"),
    ("deps", "needs"),
    ("environment", "env"),
    ("exec", "command"),
    ("run", "command"),
    ("script", "command"),
    ("steps", "command"),
];

/// A job and the places of its parts.
pub(super) struct Job {
    pub(super) spec: JobSpec,
    /// For each of its needs, where it stands.
    pub(super) need_places: Vec<usize>,
}

/// Reads a job. `None` only when nothing can be made of it; then a problem was reported. A job
/// with problems is still one that others can need.
pub(super) fn read(
    reader: &mut Reader<'_>,
    context: &mut Context<'_>,
    key: Key<'_>,
    value: Value<'_, '_>,
) -> Option<Job> {
    reader.name(key, "job");
    let mut spec = JobSpec::host_process(key.name, GuestCommand::Argv { argv: Vec::new() });
    let mut need_places = Vec::new();
    let mut has_command = false;
    let mut understood = true;
    let mut runtime = JobRuntimeKind::HostProcess;
    let mut nix_shell = None;
    for (key, value) in in_order(reader.table(value)?) {
        match key.name {
            "command" => {
                has_command = true;
                if let Some(command) = command(reader, value) {
                    spec.command = command;
                }
            }
            "needs" => {
                for (need, value) in reader.strings(value) {
                    spec.needs.push(need.to_owned());
                    need_places.push(value.at);
                }
            }
            "timeout" => spec.timeout_secs = timeout(reader, value).unwrap_or(spec.timeout_secs),
            "env" => spec.env = env(reader, value),
            "description" => {
                if let Some(text) = reader.line(value) {
                    spec.description = text.to_owned();
                }
            }
            "group" => spec.groups.extend(group(reader, context, value)),
            "runtime" => runtime = runtime_kind(reader, value).unwrap_or(runtime),
            "nix_shell" => nix_shell = Some((key, shell(reader, value))),
            _ => {
                understood &= UNSUPPORTED.contains(&key.name);
                wrong_key(reader, key, &spec.id);
            }
        }
    }
    // Where a key is not understood, it may be the command.
    if !has_command && understood {
        reader.problem(key.at, format!("job {} has no `command`", quoted(&spec.id)), "");
    }
    if let Some((key, _)) = &nix_shell
        && runtime != JobRuntimeKind::HostProcess
    {
        reader.problem(key.at, "`nix_shell` is for jobs whose runtime is `host_process`", "leave it out");
    }
    spec.writable_workspace = runtime == JobRuntimeKind::HostProcess;
    spec.runtime = match runtime {
        JobRuntimeKind::HostProcess => JobRuntimeConfig::HostProcess(HostProcessRuntimeConfig {
            nix_shell: nix_shell.and_then(|(_, shell)| shell),
            ..HostProcessRuntimeConfig::default()
        }),
        JobRuntimeKind::Incus => JobRuntimeConfig::Incus(IncusRuntimeConfig::default()),
        JobRuntimeKind::Tart => JobRuntimeConfig::Tart(TartRuntimeConfig::default()),
    };
    Some(Job { spec, need_places })
}

fn wrong_key(reader: &mut Reader<'_>, key: Key<'_>, job: &str) {
    if UNSUPPORTED.contains(&key.name) {
        let message = format!("`{}` is not supported by this version", key.name);
        return reader.problem(key.at, message, format!("leave it out of job {}", quoted(job)));
    }
    let place = format!("in job {}", quoted(job));
    match ELSEWHERE.iter().find(|(word, _)| *word == key.name) {
        Some((word, here)) => {
            reader.problem(
                key.at,
                format!("unknown key `{word}` {place}"),
                format!("did you mean `{here}`?"),
            );
        }
        None => reader.unknown_key(key, &place, KEYS),
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

fn timeout(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<u64> {
    const HELP: &str = "write whole hours, minutes and seconds, such as `\"90s\"`, `\"5m\"`, `\"1h30m\"`";
    if let DeValue::Integer(integer) = value.value {
        let message = format!("expected a duration with its unit, found the integer {integer}");
        reader.problem(value.at, message, HELP);
        return None;
    }
    let text = reader.string(value)?;
    duration::seconds(text)
        .map_err(|why| reader.problem(value.at, format!("{} {why}", quoted(text)), HELP))
        .ok()
}

fn env(reader: &mut Reader<'_>, value: Value<'_, '_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (key, value) in reader.table(value).map(in_order).unwrap_or_default() {
        if key.name.is_empty() || key.name.contains(['=', '\0']) {
            let message = format!("{} cannot be the name of a variable", quoted(key.name));
            reader.problem(key.at, message, "a name has no `=` and at least one letter");
        }
        // By it, leftovers of the job are found.
        if key.name == JOB_TAG {
            reader.problem(key.at, format!("`{JOB_TAG}` is set by Jericho CI for each job"), "leave it out");
        }
        if let Some(text) = reader.argument(value) {
            variables.insert(key.name.to_owned(), text.to_owned());
        }
    }
    variables
}

fn group(reader: &mut Reader<'_>, context: &mut Context<'_>, value: Value<'_, '_>) -> Option<String> {
    let name = reader.string(value)?;
    if !reader.name(Key { name, at: value.at }, "group") {
        return None;
    }
    if let Some(groups) = context.groups.as_ref().filter(|groups| !groups.contains_key(name)) {
        let help = reader
            .suggestion(name, groups.keys().map(String::as_str))
            .unwrap_or_else(|| format!("add `{name} = 1` there"));
        reader.problem(value.at, format!("group `{name}` is not in [groups]"), help);
    }
    context.used_groups.push(name.to_owned());
    Some(name.to_owned())
}

fn runtime_kind(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<JobRuntimeKind> {
    let words = [
        ("host_process", JobRuntimeKind::HostProcess),
        ("incus", JobRuntimeKind::Incus),
        ("tart", JobRuntimeKind::Tart),
    ];
    reader.word(value, &words)
}

fn shell(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<String> {
    let name = reader.string(value)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'\'');
    if name.is_empty() || name.starts_with('-') || !name.bytes().all(plain) {
        let message = format!("{} is not the name of a dev shell", quoted(name));
        reader.problem(value.at, message, "`\"default\"` is the usual one");
        return None;
    }
    Some(name.to_owned())
}
