//! What the runner of a host is handed for a job: who owns it, the request, the view, the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pika_cloud::{GuestEnvironment, GuestRunOptions, GuestRuntime, IncusGuestRunRequest, RuntimePaths};
use serde_json::{Value, json};

use super::{JobContext, Run};
use crate::causes::with_causes;
use crate::executor::process::{JOB_TAG, caches};
use crate::model::demands::{ArtifactsWhen, CacheSharing, SecretDelivery};

/// The four documents, one line each.
pub(super) struct Documents {
    owner: Vec<u8>,
    request: Vec<u8>,
    view: Vec<u8>,
    environment: Vec<u8>,
    names: Vec<String>,
}

impl Documents {
    pub(super) fn new(run: &Run<'_>, job: &JobContext<'_>, tree: &Path) -> Result<Self, String> {
        let environment = environment(run, job)?;
        let mut names: Vec<String> = environment.variables.keys().cloned().collect();
        for name in names.iter_mut().filter(|name| environment.secret_files.contains(*name)) {
            name.push_str("_FILE");
        }
        names.sort();
        let json = |error: serde_json::Error| format!("a document of the job cannot be written: {error}");
        Ok(Self {
            owner: serde_json::to_vec(&owner(run, job)).map_err(json)?,
            request: serde_json::to_vec(&request(run, job)?).map_err(json)?,
            view: serde_json::to_vec(&view(run, job, tree)?).map_err(json)?,
            environment: one_line(&environment)?,
            names,
        })
    }

    /// As the program that starts a runner reads them.
    pub(super) fn lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for document in [&self.owner, &self.request, &self.view, &self.environment] {
            lines.extend_from_slice(document);
            lines.push(b'\n');
        }
        lines
    }

    /// Names of the variables of the job.
    pub(super) fn variables(&self) -> Vec<String> {
        self.names.clone()
    }
}

/// Without the line breaks between its parts.
fn one_line(environment: &GuestEnvironment) -> Result<Vec<u8>, String> {
    let text = environment.to_json().map_err(|error| with_causes(&error))?;
    let value: Value = serde_json::from_slice(&text)
        .map_err(|_| "the environment of the job cannot be written".to_owned())?;
    serde_json::to_vec(&value).map_err(|_| "the environment of the job cannot be written".to_owned())
}

fn owner(run: &Run<'_>, job: &JobContext<'_>) -> Value {
    json!({
        "schema_version": 1,
        "engine": run.tools.hosts.engine_id(),
        "run_id": run.place.run_id,
        "job_id": job.spec.id,
        "tag": job.tag,
    })
}

fn text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is no text", path.display()))
}

fn request(run: &Run<'_>, job: &JobContext<'_>) -> Result<IncusGuestRunRequest, String> {
    let compiled = job.compile()?;
    if compiled.run_as_root {
        return Err("a host process cannot ask to run as root".to_owned());
    }
    let artifact_globs = match job.spec.artifacts_when {
        ArtifactsWhen::Never => Vec::new(),
        ArtifactsWhen::Always | ArtifactsWhen::Failure => globs(&job.spec.artifacts),
    };
    let options = GuestRunOptions {
        env_file: Some(text(&run.place.env_file)?),
        cwd: Some(text(&run.place.workspace)?),
        artifact_globs,
        grace_secs: Some(run.tools.config.grace.as_secs()),
        log_cap_bytes: Some(run.tools.config.log_cap_bytes.max(1)),
        runtime: GuestRuntime::HostProcess,
        paths: Some(RuntimePaths::in_dir(&text(&run.place.state)?)),
        ..GuestRunOptions::default()
    };
    IncusGuestRunRequest::with_options(
        format!("exec {}", compiled.line),
        job.spec.timeout_secs,
        false,
        options,
    )
    .map_err(|error| with_causes(&error))
}

/// A pattern that matches a directory means everything in it.
fn globs(patterns: &[String]) -> Vec<String> {
    let each = |pattern: &String| {
        let (no, glob) = match pattern.strip_prefix('!') {
            Some(glob) => ("!", glob),
            None => ("", pattern.as_str()),
        };
        let glob = glob.strip_prefix("./").unwrap_or(glob);
        let glob = glob.strip_suffix('/').unwrap_or(glob);
        let below = (!glob.ends_with("**")).then(|| format!("{no}{glob}/**"));
        std::iter::once(format!("{no}{glob}")).chain(below)
    };
    patterns.iter().flat_map(each).collect()
}

fn view(run: &Run<'_>, job: &JobContext<'_>, tree: &Path) -> Result<Value, String> {
    let mut all = Vec::new();
    for (name, cache) in &job.spec.caches {
        caches::check(name, cache, job.source.manifest())?;
        let dir = run.place.cache(name);
        all.push(json!({
            "dir": text(&dir.join("data"))?,
            "lock": text(&dir.join("lock"))?,
            "path": cache.path,
            "name": name,
            "shared": cache.sharing == CacheSharing::Shared,
        }));
    }
    let source = job.source.manifest().hash().to_string();
    Ok(json!({
        "schema_version": 1, "tree": text(tree)?, "caches": all, "source": source,
        "holder": caches::holder(job), "cache_wait_secs": run.tools.config.cache_wait.as_secs(),
    }))
}

/// What the job gets beside what the runner gives every command.
fn environment(run: &Run<'_>, job: &JobContext<'_>) -> Result<GuestEnvironment, String> {
    let (place, config) = (run.place, &run.tools.config);
    let mut variables = BTreeMap::new();
    for name in &job.spec.pass_env {
        if let Some(value) = config.caller_environment.get(name) {
            let value = value.to_str().ok_or_else(|| format!("the variable {name} is no text"))?;
            variables.insert(name.clone(), value.to_owned());
        }
    }
    let mut set = |name: &str, path: &Path| -> Result<(), String> {
        variables.insert(name.to_owned(), text(path)?);
        Ok(())
    };
    set("ARTIFACTS", &place.artifacts)?;
    set("CARGO_HOME", &place.cargo_home())?;
    set("CARGO_TARGET_DIR", &place.cargo_target)?;
    if let Some(above) = place.workspace.parent() {
        set("GIT_CEILING_DIRECTORIES", above)?;
    }
    for (name, cache) in &job.spec.caches {
        set(&caches::variable(name), &place.workspace.join(&cache.path))?;
    }
    variables.extend(job.spec.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    let (mut secrets, mut secret_files) = (BTreeSet::new(), BTreeSet::new());
    for secret in &job.spec.secrets {
        let name = &secret.name;
        let value = config.secrets.get(name).ok_or_else(|| format!("the secret {name} is not set"))?;
        let value = value
            .to_str()
            .ok_or_else(|| format!("the secret {name} is no text, and cannot be handed to a host"))?;
        variables.insert(name.clone(), value.to_owned());
        match secret.delivery {
            SecretDelivery::Env => secrets.insert(name.clone()),
            SecretDelivery::File => secret_files.insert(name.clone()),
        };
    }
    variables.insert(JOB_TAG.to_owned(), job.tag.clone());
    Ok(GuestEnvironment { variables, secrets, secret_files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_matches_a_directory_means_everything_in_it() {
        let patterns = ["./out/", "!out/tmp", "logs/**"].map(str::to_owned);
        assert_eq!(globs(&patterns), ["out", "out/**", "!out/tmp", "!out/tmp/**", "logs/**"]);
    }
}
