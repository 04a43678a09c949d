//! Where a job runs and in what isolation, and the keys that have a meaning only there.

use jerichoci::model::job::{
    HostProcessRuntimeConfig, IncusRuntimeConfig, JobPlacement, JobRuntimeConfig, JobRuntimeKind, JobSpec,
    TartRuntimeConfig,
};
use pika_incus_guest_role::IncusGuestRole;
use toml::de::DeValue;

use super::super::keys::{Fields, ROLES, RUNTIMES};
use super::super::reader::{Key, Reader, Value, list};
use super::super::size;
use super::super::target::Context;
use crate::operator::is_word;
use crate::targets::error::quoted;

/// With less memory than this, in MiB, the runner of a guest does not come up.
const LEAST_MEMORY: u32 = 16;

/// Name of this machine where a host is named.
pub(crate) const LOCAL: &str = "local";

/// Reads `runtime`, `on`, and what belongs to them. Returns the runtime when it is known.
pub(super) fn read(
    reader: &mut Reader<'_>,
    context: &Context<'_>,
    fields: &Fields<'_, '_>,
    spec: &mut JobSpec,
) -> Option<JobRuntimeKind> {
    let written = fields.get("runtime");
    let known = match written {
        None => Some(JobRuntimeKind::HostProcess),
        Some(value) => reader.choose(
            value,
            &RUNTIMES,
            [JobRuntimeKind::HostProcess, JobRuntimeKind::Incus, JobRuntimeKind::Tart],
        ),
    };
    if let Some(runtime) = known {
        check_meaning(reader, fields, runtime);
    }
    let settings = Settings::read(reader, fields);
    let runtime = known.unwrap_or(JobRuntimeKind::HostProcess);
    spec.writable_workspace = settings.writable.unwrap_or(runtime == JobRuntimeKind::HostProcess);
    spec.runtime = settings.of(runtime);
    if let Some(host) = fields.get("on").and_then(|value| host(reader, context, value, known)) {
        spec.placement = JobPlacement::RemoteSsh { host };
    }
    known
}

/// What was written about the place, of whatever runtime.
struct Settings {
    nix_shell: Option<String>,
    image: Option<String>,
    role: Option<IncusGuestRole>,
    cpus: Option<u8>,
    memory_mib: Option<u32>,
    disk_gib: Option<u32>,
    network: Option<bool>,
    target: Option<String>,
    writable: Option<bool>,
}

impl Settings {
    fn read(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Self {
        let roles = [IncusGuestRole::JerichoRunner, IncusGuestRole::ManagedOpenclaw];
        let role = fields.entry("role");
        if let (Some((key, _)), Some(_)) = (role, fields.get("image")) {
            reader.problem(key.at, "`image` and `role` both say the image", "leave one out");
        }
        Self {
            nix_shell: fields.get("nix_shell").and_then(|value| shell(reader, value)),
            image: fields.get("image").and_then(|value| image(reader, value)),
            role: role.and_then(|(_, value)| reader.choose(value, &ROLES, roles)),
            cpus: fields.get("cpus").and_then(|value| reader.whole(value, 1, 255)),
            memory_mib: fields.get("memory").and_then(|value| memory(reader, value)),
            disk_gib: fields.get("disk").and_then(|value| amount(reader, value, 30)),
            network: fields.get("network").and_then(|value| reader.boolean(value)),
            target: fields.get("target").and_then(|value| target(reader, value)),
            writable: fields.get("writable").and_then(|value| reader.boolean(value)),
        }
    }

    fn of(self, runtime: JobRuntimeKind) -> JobRuntimeConfig {
        match runtime {
            JobRuntimeKind::HostProcess => JobRuntimeConfig::HostProcess(HostProcessRuntimeConfig {
                nix_shell: self.nix_shell,
                ..HostProcessRuntimeConfig::default()
            }),
            JobRuntimeKind::Incus => JobRuntimeConfig::Incus(IncusRuntimeConfig {
                guest_role: self.role,
                image_alias: self.image,
                vcpu_count: self.cpus,
                memory_mib: self.memory_mib,
                root_disk_gib: self.disk_gib,
                network: self.network.unwrap_or(false),
                target: self.target,
            }),
            JobRuntimeKind::Tart => JobRuntimeConfig::Tart(TartRuntimeConfig {
                base_vm: self.image,
                vcpu_count: self.cpus,
                memory_mib: self.memory_mib,
                root_disk_gib: self.disk_gib,
                ..TartRuntimeConfig::default()
            }),
        }
    }
}

/// Reports keys that say nothing for a runtime. What is so anyway may be said.
fn check_meaning(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, runtime: JobRuntimeKind) {
    for name in [
        "nix_shell",
        "image",
        "role",
        "target",
        "cpus",
        "memory",
        "disk",
        "root",
        "network",
        "writable",
        "staged",
    ] {
        let Some((key, value)) = fields.entry(name) else { continue };
        let Some(why) = meaningless(name, value.value, runtime) else { continue };
        let word = word(runtime);
        let help = match (fields.get("runtime"), name) {
            (None, "writable" | "network") | (Some(_), _) => "leave it out".to_owned(),
            (None, _) => "leave it out, or write `runtime = \"incus\"`".to_owned(),
        };
        let message = format!("`{name}` has no meaning where the runtime is `{word}`: {why}");
        reader.problem(key.at, message, help);
    }
}

const fn word(runtime: JobRuntimeKind) -> &'static str {
    match runtime {
        JobRuntimeKind::HostProcess => RUNTIMES[0],
        JobRuntimeKind::Incus => RUNTIMES[1],
        JobRuntimeKind::Tart => RUNTIMES[2],
    }
}

/// Why a key says nothing for a runtime.
fn meaningless(name: &str, value: &DeValue<'_>, runtime: JobRuntimeKind) -> Option<&'static str> {
    use JobRuntimeKind::{HostProcess, Incus, Tart};
    let denied = matches!(value, DeValue::Boolean(false));
    match (name, runtime) {
        ("image" | "role", HostProcess) => Some("it has the tools of its machine, and no image"),
        ("cpus" | "memory" | "disk", HostProcess) => Some("it shares its machine with everything else"),
        ("target", HostProcess | Tart) => {
            Some("it names a member of a cluster of Incus, and only guests of Incus go there")
        }
        ("root", HostProcess) => Some("it is the user who runs it"),
        ("network", HostProcess) if denied => Some("it has the network of its machine"),
        ("writable", HostProcess) if denied => Some("it always has a private copy that it may write"),
        ("nix_shell", Incus | Tart) => {
            Some("only a host process enters a dev shell, and a guest has the tools of its image")
        }
        ("role", Tart) => {
            Some("a role names an image of Incus, and `image` names the virtual machine that is cloned")
        }
        ("root", Tart) => Some("its commands run as the user of the virtual machine"),
        ("network", Tart) if denied => Some("its virtual machine always has a network"),
        ("staged", Tart) => Some("prepared outputs are for Linux"),
        _ => None,
    }
}

/// The host of a job that does not run here.
fn host(
    reader: &mut Reader<'_>,
    context: &Context<'_>,
    value: Value<'_, '_>,
    runtime: Option<JobRuntimeKind>,
) -> Option<String> {
    let name = reader.string(value)?;
    if name == LOCAL {
        return None;
    }
    let Some(operator) = context.operator else {
        return reader.name(Key { name, at: value.at }, "host").then(|| name.to_owned());
    };
    let Some(host) = operator.hosts.get(name) else {
        let file = operator.described();
        let mut known: Vec<&str> = operator.hosts.keys().map(String::as_str).collect();
        known.push(LOCAL);
        let help = reader.suggestion(name, known.iter().copied()).unwrap_or_else(|| match known.len() {
            1 => format!("add a table [hosts.NAME] there, or write `\"{LOCAL}\"`"),
            _ => format!("the hosts are {}", list(&known)),
        });
        reader.problem(value.at, format!("host {} is not in {file}", quoted(name)), help);
        return None;
    };
    if let Some(runtime) = runtime.filter(|runtime| !host.allows(*runtime)) {
        let word = word(runtime);
        let message = format!("host {} does not take jobs whose runtime is `{word}`", quoted(name));
        let help = match host.allowed_words().as_slice() {
            [] => "it takes none; see `allow` of the host".to_owned(),
            words => format!("the runtimes it takes are {}; see `allow` of the host", list(words)),
        };
        reader.problem(value.at, message, help);
    }
    Some(name.to_owned())
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

fn image(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<String> {
    let name = reader.string(value)?;
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
        let message = format!("{} is not the name of an image", quoted(name));
        reader.problem(value.at, message, "a name is one word, such as `\"jericho/dev\"`");
        return None;
    }
    Some(name.to_owned())
}

/// A member of a cluster, or a group of members.
fn target(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<String> {
    let name = reader.string(value)?;
    if !is_word(name) || name == "@" {
        let message = format!("{} is neither a member of a cluster nor a group of members", quoted(name));
        reader.problem(value.at, message, "write `\"MEMBER\"` or `\"@GROUP\"`");
        return None;
    }
    Some(name.to_owned())
}

/// Memory in MiB, as much as a guest needs to be one.
fn memory(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<u32> {
    let at = value.at;
    let mib = amount(reader, value, 20)?;
    if mib < LEAST_MEMORY {
        let message = format!("no guest lives in `{mib}MiB`");
        reader.problem(at, message, format!("write at least `\"{LEAST_MEMORY}MiB\"`"));
        return None;
    }
    Some(mib)
}

/// An amount in units of 2^`shift` bytes.
fn amount(reader: &mut Reader<'_>, value: Value<'_, '_>, shift: u32) -> Option<u32> {
    const HELP: &str = "write a whole number of `MiB`, `GiB` or `TiB`, such as `\"512MiB\"`, `\"4GiB\"`";
    if let DeValue::Integer(integer) = value.value {
        reader.problem(value.at, format!("expected a size with its unit, found the integer {integer}"), HELP);
        return None;
    }
    let text = reader.string(value)?;
    let units = size::units(text, shift);
    units.map_err(|why| reader.problem(value.at, format!("{} {why}", quoted(text)), HELP)).ok()
}
