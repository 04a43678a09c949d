//! `[targets.<target>.jobs.<job>]` → [`JobSpec`].

use std::collections::BTreeMap;
use std::ops::Range;

use ::toml::de::DeValue;
use jerichoci::model::id::check_name;
use jerichoci::model::job::{
    GuestCommand, HostProcessRuntimeConfig, IncusRuntimeConfig, JobRuntimeConfig, JobRuntimeKind, JobSpec,
    TartRuntimeConfig,
};

use super::graph::{self, Need};
use super::reader::{Entry, Reader, Value, entries};
use super::{check_id, keys};
use crate::render::text::shorten;
use crate::targets::duration;

const RUNTIMES: [(&str, JobRuntimeKind); 3] = [
    ("host_process", JobRuntimeKind::HostProcess),
    ("incus", JobRuntimeKind::Incus),
    ("tart", JobRuntimeKind::Tart),
];

/// All jobs of a target, in the order of the file.
pub(super) fn read_jobs(reader: &mut Reader, jobs: Vec<Entry<'_, '_>>) -> Vec<JobSpec> {
    let mut specs = Vec::new();
    let mut needs = Vec::new();
    for entry in jobs {
        let (spec, wanted) = read_job(reader, entry);
        specs.push(spec);
        needs.push(wanted);
    }
    let ids: Vec<&str> = specs.iter().map(|spec| spec.id.as_str()).collect();
    graph::check(reader, &ids, &needs);
    specs
}

fn read_job(reader: &mut Reader, entry: Entry<'_, '_>) -> (JobSpec, Vec<Need>) {
    let what = format!("job `{}`", entry.shown());
    check_id(reader, entry, "job");
    let mut spec = JobSpec::host_process(entry.name(), GuestCommand::Script { script: String::new() });
    let mut needs = Vec::new();
    let Some(table) = reader.table(entry.1, &what) else { return (spec, needs) };
    let mut has_command = false;
    let mut runtime = JobRuntimeKind::HostProcess;
    let mut nix_shell: Option<(Range<usize>, String)> = None;
    for entry in entries(table) {
        let of = format!("`{}` of {what}", entry.shown());
        match entry.name() {
            "command" => {
                has_command = true;
                if let Some(command) = read_command(reader, entry.1, &of) {
                    spec.command = command;
                }
            }
            "description" => {
                if let Some(line) = reader.line(entry.1, &of) {
                    spec.description = line;
                }
            }
            "needs" => {
                for (span, id) in reader.strings(entry.1, &of).unwrap_or_default() {
                    if needs.iter().any(|need: &Need| need.id == id) {
                        reader.problem(span, format!("{of} names `{}` twice", shorten(&id)));
                    } else {
                        needs.push(Need { span, id });
                    }
                }
            }
            "timeout" => read_timeout(reader, entry.1, &of, &mut spec),
            "env" => spec.env = read_env(reader, entry.1, &of),
            "runtime" => {
                if let Some(kind) = reader.word(entry.1, &of, &RUNTIMES) {
                    runtime = kind;
                }
            }
            "nix_shell" => {
                nix_shell = read_name(reader, entry.1, &of).map(|name| (entry.0.span(), name));
            }
            "group" => spec.groups.extend(read_name(reader, entry.1, &of)),
            _ => reader.unknown_key(entry, &what, &keys::JOB),
        }
    }
    if !has_command {
        reader.problem(entry.0.span(), format!("{what} has no `command`"));
    }
    spec.runtime = match runtime {
        JobRuntimeKind::HostProcess => JobRuntimeConfig::HostProcess(HostProcessRuntimeConfig {
            nix_shell: nix_shell.map(|(_, name)| name),
        }),
        guest => {
            if let Some((span, _)) = nix_shell {
                let message =
                    format!("`nix_shell` of {what} is for host processes, and the job runs in a guest");
                reader.problem(span, message);
            }
            if guest == JobRuntimeKind::Incus {
                JobRuntimeConfig::Incus(IncusRuntimeConfig::default())
            } else {
                JobRuntimeConfig::Tart(TartRuntimeConfig::default())
            }
        }
    };
    // A guest sees the snapshot read-only until `writable` says otherwise.
    spec.writable_workspace = runtime == JobRuntimeKind::HostProcess;
    spec.needs = needs.iter().map(|need| need.id.clone()).collect();
    (spec, needs)
}

fn read_command(reader: &mut Reader, value: &Value<'_>, of: &str) -> Option<GuestCommand> {
    match value.get_ref() {
        DeValue::String(_) => {
            let script = reader.string(value, of)?;
            if script.trim().is_empty() {
                reader.problem(value.span(), format!("{of} is empty"));
                return None;
            }
            Some(GuestCommand::Script { script })
        }
        DeValue::Array(_) => {
            let argv: Vec<String> = reader.strings(value, of)?.into_iter().map(|(_, text)| text).collect();
            if argv.first().is_none_or(String::is_empty) {
                reader.problem(value.span(), format!("{of} names no program"));
                return None;
            }
            Some(GuestCommand::Argv { argv })
        }
        _ => {
            reader.wrong_type(value, of, "a string for a shell, or an array of program and arguments");
            None
        }
    }
}

fn read_timeout(reader: &mut Reader, value: &Value<'_>, of: &str, spec: &mut JobSpec) {
    if let DeValue::Integer(number) = value.get_ref() {
        let number = shorten(number.as_str());
        reader.problem(value.span(), format!("{of} lacks a unit: write \"{number}s\" for seconds"));
        return;
    }
    let Some(text) = reader.string(value, of) else { return };
    match duration::parse(&text) {
        Ok(limit) => spec.timeout_secs = limit.as_secs(),
        Err(problem) => {
            let text = shorten(&text);
            reader.problem(
                value.span(),
                format!("{of}: `{text}` {problem}; for example \"90s\", \"5m\", \"1h30m\""),
            );
        }
    }
}

fn read_env(reader: &mut Reader, value: &Value<'_>, of: &str) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for entry in reader.table(value, of).into_iter().flat_map(entries) {
        let name = entry.name();
        if name.is_empty() || name.contains(['=', '\0']) {
            reader.problem(entry.0.span(), format!("{of}: no variable can be called `{}`", entry.shown()));
        }
        if let Some(text) = reader.string(entry.1, &format!("variable `{}`", entry.shown())) {
            env.insert(name.to_owned(), text);
        }
    }
    env
}

fn read_name(reader: &mut Reader, value: &Value<'_>, of: &str) -> Option<String> {
    let text = reader.string(value, of)?;
    match check_name(&text) {
        Ok(()) => Some(text),
        Err(_) => {
            reader.problem(value.span(), format!("{of}: `{}` is not a name", shorten(&text)));
            None
        }
    }
}
