//! A job as a guest is asked for: runtime spec, run request and environment. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jericho_host::Environment;
use pika_cloud::{
    GuestEnvironment, GuestRunOptions, IncusGuestRunRequest, OutputCollectionPolicy, RuntimeIdentity,
    RuntimeIncus, RuntimeMount, RuntimeNetwork, RuntimePolicies, RuntimeResources, RuntimeSpec,
    ValidationErrors, instance_name,
};
use pika_incus_guest_role::IncusGuestRole;

use super::kit;
use super::labels::Labels;
use crate::config::{EngineConfig, IncusConfig};
use crate::executor::PreparedMount;
use crate::executor::command::Compiled;
use crate::executor::failure::Failure;
use crate::executor::process::JOB_TAG;
use crate::executor::process::caches::variable;
use crate::model::demands::{ArtifactsWhen, SecretDelivery};
use crate::model::job::{IncusRuntimeConfig, JobSpec};
use crate::snapshot::ContentHash;

/// Where a job finds its source.
pub(crate) const WORKSPACE: &str = "/workspace/snapshot";
/// Where a guest sees the snapshot when the job gets a copy.
pub(super) const BESIDE_WORKSPACE: &str = "/workspace/.snapshot";
/// The environment of the command. `/dev` is in memory in every guest, from the beginning: `/dev/shm` is not there
/// before a system that boots has mounted it over what lies there.
pub(super) const ENV_FILE: &str = "/dev/jericho-environment.json";

/// Programs of a NixOS guest come before those of any other.
const PATH: &str = "/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every guest job sees beside what the runner gives it.
const VARIABLES: [(&str, &str); 10] = [
    ("CARGO_HOME", "/cargo-home"),
    ("CARGO_INCREMENTAL", "0"),
    ("CARGO_TARGET_DIR", "/cargo-target"),
    ("CARGO_TERM_COLOR", "never"),
    ("GIT_CEILING_DIRECTORIES", "/workspace"),
    ("PATH", PATH),
    ("PGSHAREDIR", "/run/current-system/sw/share/postgresql"),
    ("PGSYSCONFDIR", "/run/current-system/sw"),
    ("XDG_CACHE_HOME", "/cargo-home/xdg-cache"),
    ("XDG_STATE_HOME", "/run/pika-cloud/xdg-state"),
];

/// The image of a job: its alias, and the role whose alias that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) alias: String,
    /// Absent when the alias is another one than the role's.
    pub(super) role: Option<IncusGuestRole>,
}

/// Settings win over the job; an alias wins over a role.
pub(super) fn image(job: &IncusRuntimeConfig, config: &IncusConfig) -> Image {
    let role = config.guest_role.or(job.guest_role).unwrap_or(IncusGuestRole::JerichoRunner);
    let alias = config.image_alias.as_ref().or(job.image_alias.as_ref());
    let alias = alias.cloned().unwrap_or_else(|| role.image_alias().to_owned());
    let role = (alias == role.image_alias()).then_some(role);
    Image { alias, role }
}

/// What a guest is made of beside its job.
pub(super) struct Surroundings<'a> {
    pub(super) run_id: &'a str,
    pub(super) config: &'a IncusConfig,
    pub(super) image: &'a Image,
    /// The snapshot; its guest path is decided here.
    pub(super) snapshot: String,
    /// The directory of the runner; absent where the image has to have one.
    pub(super) runner_dir: Option<&'a Path>,
    /// Prepared outputs of the job.
    pub(super) outputs: &'a [PreparedMount],
    /// Volumes of caches, by the name of the cache.
    pub(super) volumes: &'a BTreeMap<String, String>,
    pub(super) labels: Labels,
}

/// Whether the job works in a copy of the snapshot: to write to it, or since the files need other times than those
/// that its caches remember.
fn gets_a_copy(job: &JobSpec) -> bool {
    job.writable_workspace || !job.caches.is_empty()
}

/// What `prepare.sh` is told.
pub(super) fn preparation(job: &JobSpec, source: &ContentHash) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    if gets_a_copy(job) {
        let copy = if job.writable_workspace { "copy" } else { "read-only" };
        told.insert("JERICHO_WORKSPACE".to_owned(), copy.to_owned());
    }
    if !job.caches.is_empty() {
        let caches: Vec<&str> = job.caches.values().map(|cache| cache.path.as_str()).collect();
        told.insert("JERICHO_CACHES".to_owned(), caches.join("\n"));
        told.insert("JERICHO_SOURCE".to_owned(), source.to_string());
    }
    told
}

/// A path as Incus can be told it.
///
/// # Errors
/// When it is no text: another path would be the wrong one.
pub(super) fn path_text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::Errored(format!(
            "a guest cannot be given {}: the path is no UTF-8, and Incus takes nothing else; \
             name another place with --state-root",
            path.display()
        ))
    })
}

/// The guest of a job.
///
/// # Errors
/// When what it is to see lies where Incus cannot be told of.
pub(super) fn runtime_spec(
    job: &JobSpec,
    runtime: &IncusRuntimeConfig,
    around: Surroundings<'_>,
) -> Result<RuntimeSpec, Failure> {
    let config = around.config;
    let name = instance_name(around.run_id, &job.id);
    let mut incus = RuntimeIncus::new(&config.project, &config.profile, &around.image.alias);
    incus.target.clone_from(&config.target);
    let mut spec = RuntimeSpec::new(RuntimeIdentity::named(name), incus);
    spec.resources = RuntimeResources {
        vcpu_count: runtime.vcpu_count,
        memory_mib: runtime.memory_mib,
        root_disk_gib: runtime.root_disk_gib,
    };
    let snapshot = if gets_a_copy(job) { BESIDE_WORKSPACE } else { WORKSPACE };
    spec.mounts.push(RuntimeMount::read_only_snapshot(around.snapshot, snapshot).require());
    if let Some(dir) = around.runner_dir {
        let dir = path_text(dir)?;
        spec.mounts.push(RuntimeMount::read_only_snapshot(dir, kit::IN_GUEST).require());
    }
    for PreparedMount { source, guest_path } in around.outputs {
        let (source, guest_path) = (path_text(source)?, path_text(guest_path)?);
        spec.mounts.push(RuntimeMount::read_only_snapshot(source, guest_path).require());
    }
    for (name, cache) in &job.caches {
        if let Some(volume) = around.volumes.get(name) {
            spec.mounts.push(RuntimeMount::cache(volume, &cache.path).require());
        }
    }
    spec.network = match runtime.network {
        true => RuntimeNetwork::On { network: config.network.clone() },
        false => RuntimeNetwork::Off,
    };
    spec.policies = RuntimePolicies {
        output_collection: OutputCollectionPolicy {
            include_logs: false,
            artifact_globs: vec!["**".to_owned()],
            ..OutputCollectionPolicy::default()
        },
        ..RuntimePolicies::default()
    };
    let programs = if around.runner_dir.is_some() { kit::IN_GUEST } else { kit::OF_IMAGE };
    spec.entry_command = Some(format!("{programs}/{}", kit::RUNNER));
    spec.labels = around.labels;
    Ok(spec)
}

/// The patterns of a job in the words of the runner: one that names a directory means what is in it.
pub(super) fn globs(patterns: &[String]) -> Vec<String> {
    let both = |pattern: &String| [pattern.clone(), format!("{}/**", pattern.trim_end_matches('/'))];
    let plain = |pattern: &String| pattern.ends_with("**");
    patterns
        .iter()
        .flat_map(|pattern| if plain(pattern) { vec![pattern.clone()] } else { both(pattern).to_vec() })
        .collect()
}

/// What the runner is told.
pub(super) fn request(
    job: &JobSpec,
    compiled: &Compiled,
    config: &EngineConfig,
) -> Result<IncusGuestRunRequest, ValidationErrors> {
    let artifact_globs = match job.artifacts_when {
        ArtifactsWhen::Never => Vec::new(),
        ArtifactsWhen::Always | ArtifactsWhen::Failure => globs(&job.artifacts),
    };
    let options = GuestRunOptions {
        env_file: Some(ENV_FILE.to_owned()),
        cwd: Some(WORKSPACE.to_owned()),
        artifact_globs,
        grace_secs: Some(config.grace.as_secs()),
        log_cap_bytes: Some(config.log_cap_bytes.max(1)),
        ..GuestRunOptions::default()
    };
    IncusGuestRunRequest::with_options(&compiled.line, job.timeout_secs, compiled.run_as_root, options)
}

/// What somebody sees who looks at the guest of a job: as the command, without secrets.
///
/// # Errors
/// As [`environment`].
pub(crate) fn shell_environment(
    job: &JobSpec,
    config: &EngineConfig,
) -> Result<BTreeMap<String, String>, String> {
    let without = JobSpec { secrets: Vec::new(), ..job.clone() };
    let mut variables = environment(&without, "", config)?.variables;
    // It is nobody's job, and nobody ends it as one.
    variables.remove(JOB_TAG);
    Ok(variables)
}

/// What the command sees.
///
/// # Errors
/// A value that is no text: a guest cannot be given it.
pub(super) fn environment(
    job: &JobSpec,
    tag: &str,
    config: &EngineConfig,
) -> Result<GuestEnvironment, String> {
    let mut variables: BTreeMap<String, String> =
        VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let text = |name: &str, value: &std::ffi::OsStr| {
        let text = value.to_str().map(str::to_owned);
        text.ok_or_else(|| format!("the value of {name} is no text, and a guest takes nothing else"))
    };
    let caller: &Environment = &config.caller_environment;
    for name in &job.pass_env {
        if let Some(value) = caller.get(name) {
            variables.insert(name.clone(), text(name, value)?);
        }
    }
    for (name, cache) in &job.caches {
        variables.insert(variable(name), cache.path.clone());
    }
    variables.extend(job.env.clone());
    let (mut secrets, mut secret_files) = (BTreeSet::new(), BTreeSet::new());
    for secret in &job.secrets {
        let name = &secret.name;
        let value = config.secrets.get(name).ok_or_else(|| format!("the secret {name} is not set"))?;
        variables.insert(name.clone(), text(name, value)?);
        secrets.insert(name.clone());
        if secret.delivery == SecretDelivery::File {
            secret_files.insert(name.clone());
        }
    }
    variables.insert(JOB_TAG.to_owned(), tag.to_owned());
    Ok(GuestEnvironment { variables, secrets, secret_files })
}
