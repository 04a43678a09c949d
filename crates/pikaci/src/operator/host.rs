//! One host of the user's file.

use std::path::{Path, PathBuf};

use jerichoci::config::DiskBudget;
use jerichoci::model::job::JobRuntimeKind;
use toml::de::DeValue;

use super::keys::{HOST, INCUS};
use crate::targets::file::keys::{Fields, RUNTIMES};
use crate::targets::file::reader::{Key, Reader, Value, items};
use crate::targets::file::size;
use crate::targets::quoted;

/// A machine that jobs can run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Anything that ssh(1) understands; one word that is no option.
    pub ssh: String,
    /// Directory for snapshots and outputs, absolute.
    pub work_dir: Option<PathBuf>,
    /// Where instances are made.
    pub incus: IncusHostConfig,
    /// Nix program, a name or an absolute path.
    pub nix: Option<String>,
    /// Runtimes that jobs may have.
    pub allow: Vec<JobRuntimeKind>,
    /// How much of its disk may be used.
    pub disk_budget: Option<DiskBudget>,
}

/// Where instances are made on a machine. What is absent has a default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IncusHostConfig {
    /// Project.
    pub project: Option<String>,
    /// Profile.
    pub profile: Option<String>,
    /// Image of jobs that say neither an image nor a role.
    pub image: Option<String>,
    /// Cluster member, or `@GROUP`.
    pub target: Option<String>,
    /// Network of jobs that have one.
    pub network: Option<String>,
    /// Socket of the daemon, absolute.
    pub socket: Option<PathBuf>,
}

const KINDS: [JobRuntimeKind; 3] = [JobRuntimeKind::HostProcess, JobRuntimeKind::Incus, JobRuntimeKind::Tart];

impl HostConfig {
    /// Whether jobs of this runtime may run here.
    #[must_use]
    pub fn allows(&self, runtime: JobRuntimeKind) -> bool {
        self.allow.contains(&runtime)
    }

    /// The words of the runtimes that it takes.
    pub(crate) fn allowed_words(&self) -> Vec<&'static str> {
        words_of(&self.allow)
    }
}

/// The words of runtimes.
pub(crate) fn words_of(kinds: &[JobRuntimeKind]) -> Vec<&'static str> {
    RUNTIMES.into_iter().zip(KINDS).filter(|(_, kind)| kinds.contains(kind)).map(|(word, _)| word).collect()
}

/// Reads a host. `None` only when nothing can be made of it; then a problem was reported. A host
/// with problems is still one that jobs may name.
pub(super) fn read(reader: &mut Reader<'_>, key: Key<'_>, value: Value<'_, '_>) -> Option<HostConfig> {
    let table = reader.table(value)?;
    let fields = Fields::read(reader, table, &HOST, &format!("of host {}", quoted(key.name)));
    let mut word = |name: &str, what: &str| fields.get(name).and_then(|value| word(reader, value, what));
    let ssh = word("ssh", "a host for ssh").unwrap_or_else(|| key.name.to_owned());
    let nix = word("nix", "a program");
    Some(HostConfig {
        ssh,
        nix,
        work_dir: fields.get("work_dir").and_then(|value| absolute(reader, value)),
        incus: fields.get("incus").map(|value| incus(reader, value)).unwrap_or_default(),
        allow: fields.get("allow").map_or_else(|| KINDS[1..].to_vec(), |value| allow(reader, value)),
        disk_budget: fields.get("disk_budget").and_then(|value| budget(reader, value)),
    })
}

/// A word that a program is given as an argument, and must not take for an option.
fn word(reader: &mut Reader<'_>, value: Value<'_, '_>, what: &str) -> Option<String> {
    let text = reader.string(value)?;
    // A group of members of a cluster has a name.
    if !is_word(text) || text == "@" {
        reader.problem(
            value.at,
            format!("{} is not {what}", quoted(text)),
            "write one word that does not start with `-`",
        );
        return None;
    }
    Some(text.to_owned())
}

fn absolute(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<PathBuf> {
    let text = reader.line(value)?;
    let path = Path::new(text);
    if !is_place(path) {
        let message = format!("{} is not the absolute path of a directory to work in", quoted(text));
        reader.problem(
            value.at,
            message,
            "write a path that starts with `/`, without `..`, and is not `/` itself",
        );
        return None;
    }
    Some(path.to_owned())
}

/// Whether a path can be one of a host: absolute, without `..`, and not the root.
pub(crate) fn is_place(path: &Path) -> bool {
    let up = path.components().any(|part| part == std::path::Component::ParentDir);
    path.is_absolute() && !up && path.parent().is_some()
}

/// Whether a text can be given to a program as an argument that it must not take for an option.
pub(crate) fn is_word(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    !text.is_empty() && !text.starts_with('-') && text.chars().all(plain)
}

/// Reads where instances are made.
pub(super) fn incus(reader: &mut Reader<'_>, value: Value<'_, '_>) -> IncusHostConfig {
    let Some(table) = reader.table(value) else { return IncusHostConfig::default() };
    let fields = Fields::read(reader, table, &INCUS, "in `incus`");
    let mut word = |name: &str| fields.get(name).and_then(|value| word(reader, value, "a name in Incus"));
    IncusHostConfig {
        project: word("project"),
        profile: word("profile"),
        image: word("image"),
        target: word("target"),
        network: word("network"),
        socket: fields.get("socket").and_then(|value| socket(reader, value)),
    }
}

fn socket(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<PathBuf> {
    let text = reader.line(value)?;
    if !is_place(Path::new(text)) {
        let message = format!("{} is not the absolute path of a socket", quoted(text));
        reader.problem(value.at, message, "the usual one is `\"/var/lib/incus/unix.socket\"`");
        return None;
    }
    Some(PathBuf::from(text))
}

fn allow(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Vec<JobRuntimeKind> {
    let DeValue::Array(array) = value.value else {
        return reader.wrong_type(value, "an array of runtimes").unwrap_or_default();
    };
    items(array, value.key).filter_map(|item| reader.choose(item, &RUNTIMES, KINDS)).collect()
}

fn budget(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<DiskBudget> {
    const HELP: &str = "write a share such as `\"20%\"`, or a size such as `\"200GiB\"`";
    let text = reader.string(value)?;
    let budget = match text.strip_suffix('%') {
        Some(share) => match share.parse() {
            Ok(percent @ 1..=100) if !share.starts_with('+') => Ok(DiskBudget::Percent(percent)),
            _ => Err("is not a share from 1% to 100%"),
        },
        None => size::bytes(text).map(DiskBudget::Bytes),
    };
    budget.map_err(|why| reader.problem(value.at, format!("{} {why}", quoted(text)), HELP)).ok()
}
