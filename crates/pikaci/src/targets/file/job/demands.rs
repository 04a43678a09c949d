//! What a job asks of its surroundings: secrets, caches, artifacts, git.

use std::collections::{BTreeMap, BTreeSet};

use jerichoci::executor::process::JOB_TAG;
use jerichoci::model::demands::{
    ArtifactsWhen, CacheSharing, CacheSpec, SecretDelivery, SecretSpec, WorkspaceGit,
};
use jerichoci::model::job::{JobRuntimeKind, JobSpec};
use toml::de::{DeTable, DeValue};

use super::super::keys::{ARTIFACTS_WHEN, CACHE, DELIVERIES, Fields, GIT, SECRET, SHARING};
use super::super::reader::{Reader, Value, in_order, items};
use super::super::target::{Context, SecretPlace, patterns};
use crate::targets::error::quoted;

/// Reads `secrets`, `caches`, `artifacts`, `artifacts_when` and `git`. `spec` has its `env` already.
pub(super) fn read(
    reader: &mut Reader<'_>,
    context: &mut Context<'_>,
    fields: &Fields<'_, '_>,
    runtime: Option<JobRuntimeKind>,
    spec: &mut JobSpec,
) {
    if let Some(value) = fields.get("secrets") {
        secrets(reader, context, value, spec);
    }
    if let Some(table) = fields.get("caches").and_then(|value| reader.table(value)) {
        spec.caches = caches(reader, table, runtime);
    }
    if let Some(value) = fields.get("artifacts") {
        spec.artifacts = patterns(reader, value).patterns().to_vec();
    }
    if let Some(value) = fields.get("artifacts_when") {
        let meanings = [ArtifactsWhen::Always, ArtifactsWhen::Failure, ArtifactsWhen::Never];
        spec.artifacts_when = reader.choose(value, &ARTIFACTS_WHEN, meanings).unwrap_or_default();
    }
    if let Some(value) = fields.get("git") {
        let meanings = [WorkspaceGit::None, WorkspaceGit::Shallow, WorkspaceGit::Full];
        spec.git = reader.choose(value, &GIT, meanings).unwrap_or_default();
    }
}

fn secrets(reader: &mut Reader<'_>, context: &mut Context<'_>, value: Value<'_, '_>, spec: &mut JobSpec) {
    let DeValue::Array(array) = value.value else {
        reader.wrong_type::<()>(value, "an array of names");
        return;
    };
    for item in items(array, value.key) {
        let Some((secret, at)) = secret(reader, item) else { continue };
        if spec.secrets.iter().any(|other| other.name == secret.name) {
            reader.problem(
                at,
                format!("the secret {} is named twice", quoted(&secret.name)),
                "leave one out",
            );
            continue;
        }
        let variable = match secret.delivery {
            SecretDelivery::Env => secret.name.clone(),
            SecretDelivery::File => format!("{}_FILE", secret.name),
        };
        if spec.env.contains_key(&variable) {
            let message = format!("`env` has {}, which the secret sets", quoted(&variable));
            reader.problem(at, message, "leave it out of `env`");
        }
        context.secrets.push(SecretPlace { name: secret.name.clone(), place: reader.place(at) });
        spec.secrets.push(secret);
    }
}

/// One item, and where its name stands.
fn secret(reader: &mut Reader<'_>, item: Value<'_, '_>) -> Option<(SecretSpec, usize)> {
    match item.value {
        DeValue::String(_) => {
            let name = variable(reader, item)?;
            Some((SecretSpec { name, delivery: SecretDelivery::Env }, item.at))
        }
        DeValue::Table(table) => {
            let fields = Fields::read(reader, table, &SECRET, "of a secret");
            let delivery = match fields.get("delivery") {
                None => SecretDelivery::Env,
                Some(value) => {
                    reader.choose(value, &DELIVERIES, [SecretDelivery::Env, SecretDelivery::File])?
                }
            };
            let Some(value) = fields.get("name") else {
                if fields.understood {
                    reader.problem(item.at, "the secret has no `name`", "");
                }
                return None;
            };
            Some((SecretSpec { name: variable(reader, value)?, delivery }, value.at))
        }
        _ => reader.wrong_type(item, "the name of a variable, or a table with `name` and `delivery`"),
    }
}

fn variable(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<String> {
    let name = reader.string(value)?;
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        let message = format!("{} is not the name of a variable", quoted(name));
        reader.problem(
            value.at,
            message,
            "a secret is named like its variable, such as `\"REGISTRY_TOKEN\"`",
        );
        return None;
    }
    if name == JOB_TAG {
        reader.problem(value.at, format!("`{JOB_TAG}` is set by Jericho CI for each job"), "leave it out");
        return None;
    }
    Some(name.to_owned())
}

fn caches(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    runtime: Option<JobRuntimeKind>,
) -> BTreeMap<String, CacheSpec> {
    let mut caches = BTreeMap::new();
    let mut paths: BTreeSet<String> = BTreeSet::new();
    for (key, value) in in_order(table) {
        reader.name(key, "cache");
        let Some((path, sharing)) = cache(reader, key.name, value) else { continue };
        let Some(text) = path_of(reader, path, runtime) else { continue };
        if let Some(other) = paths.iter().find(|other| within(other, &text) || within(&text, other)) {
            let message = format!("{} and {} are caches, one inside the other", quoted(other), quoted(&text));
            reader.problem(path.at, message, "give each a directory of its own");
        }
        paths.insert(text.clone());
        caches.insert(key.name.to_owned(), CacheSpec { path: text, sharing });
    }
    caches
}

fn within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where the path of a cache stands, and who may have it.
fn cache<'d, 'i>(
    reader: &mut Reader<'_>,
    name: &str,
    value: Value<'d, 'i>,
) -> Option<(Value<'d, 'i>, CacheSharing)> {
    match value.value {
        DeValue::String(_) => Some((value, CacheSharing::Locked)),
        DeValue::Table(table) => {
            let fields = Fields::read(reader, table, &CACHE, &format!("of cache {}", quoted(name)));
            let sharing = match fields.get("sharing") {
                None => CacheSharing::Locked,
                Some(value) => {
                    reader.choose(value, &SHARING, [CacheSharing::Locked, CacheSharing::Shared])?
                }
            };
            let path = fields.get("path");
            if path.is_none() && fields.understood {
                reader.problem(value.at, format!("cache {} has no `path`", quoted(name)), "");
            }
            Some((path?, sharing))
        }
        _ => reader.wrong_type(value, "a path, or a table with `path` and `sharing`"),
    }
}

/// The path without a `/` at its end.
fn path_of(reader: &mut Reader<'_>, value: Value<'_, '_>, runtime: Option<JobRuntimeKind>) -> Option<String> {
    let text = reader.argument(value)?;
    let refused = |reader: &mut Reader<'_>, why: &str, help: &str| {
        reader.problem(value.at, format!("a cache cannot be at {}: {why}", quoted(text)), help);
        None
    };
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let absolute = text.starts_with('/');
    let mut parts = trimmed.strip_prefix('/').unwrap_or(trimmed).split('/');
    if trimmed.is_empty() || parts.any(|part| matches!(part, "" | "." | "..")) {
        return refused(
            reader,
            "it is no plain path to a directory",
            "write it without `.`, `..` and empty parts",
        );
    }
    match (runtime, absolute) {
        (Some(JobRuntimeKind::HostProcess), true) => {
            refused(reader, "a host process sees its caches below its workspace", "write a relative path")
        }
        (Some(JobRuntimeKind::Incus | JobRuntimeKind::Tart), false) => {
            refused(reader, "in a guest it is absolute", "write a path that starts with `/`")
        }
        (Some(JobRuntimeKind::HostProcess), false) if trimmed.split('/').next() == Some(".git") => {
            refused(reader, "that is git's own", "choose another directory")
        }
        (Some(JobRuntimeKind::Incus), true) => match CacheSpec::problem_in_guest(trimmed) {
            Some(why) => refused(
                reader,
                &why,
                "choose a directory of its own, such as `\"/cache\"`, or one below `/workspace/snapshot`",
            ),
            None => Some(trimmed.to_owned()),
        },
        _ => Some(trimmed.to_owned()),
    }
}
