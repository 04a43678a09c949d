//! The rules of a runtime spec, checked all at once.

use super::{RuntimeNetwork, RuntimePaths, RuntimeSpec};
use crate::glob::GlobSet;
use crate::validation::{Problems, ValidationErrors};

const TEXT: &str = "some text";
const GLOB: &str = "a glob of files below the artifact directory";
const PATH: &str = "an absolute path without `..`";
const INSTANCE_NAME: &str = "1 to 63 ASCII letters, digits and `-`, first a letter, last no `-`";

impl RuntimeSpec {
    /// Checks every rule and reports every problem.
    ///
    /// - `identity` and `incus`: no field blank or with control characters; `instance_name` is a
    ///   name Incus takes.
    /// - `resources`: what is given is above 0.
    /// - `paths`: absolute, without `..`, all inside `state_dir`, compared component by
    ///   component (`/run/pika-cloudy` is not inside `/run/pika-cloud`); no file at the path of
    ///   another file or of a directory.
    /// - `mounts`: a source; a `guest_path` that is absolute, without `..`, not `/`, and no
    ///   other mount's, however it is written (`/a/` is `/a`).
    /// - `artifact_globs`: each one a glob, see [`crate::glob`].
    /// - `entry_command`, when given, is not blank. No label has a blank name.
    ///
    /// # Errors
    ///
    /// All problems, each with field, value and what is allowed.
    pub fn validate(&self) -> Result<(), ValidationErrors> {
        let mut problems = Problems::of("runtime spec");
        self.check_names(&mut problems);
        self.check_resources(&mut problems);
        self.check_mounts(&mut problems);
        check_paths(&mut problems, &self.paths);
        if let Some(command) = &self.entry_command {
            check_text(&mut problems, "entry_command", command, |c| c == '\0');
        }
        let globs = &self.policies.output_collection.artifact_globs;
        for (index, error) in GlobSet::new(globs).err().unwrap_or_default() {
            let field = format!("policies.output_collection.artifact_globs[{index}]");
            problems.add(field, globs[index].as_str(), error.to_string(), GLOB);
        }
        for (name, value) in &self.labels {
            if name.trim().is_empty() {
                problems.add(format!("labels[{name:?}]"), value.as_str(), "has a blank name", "a name");
            }
        }
        problems.finish()
    }

    /// Checks that events, status and result lie at their canonical paths: an observer that knows
    /// no spec looks there. Not a part of [`validate`](Self::validate).
    ///
    /// # Errors
    ///
    /// Each path that differs.
    pub fn validate_canonical_paths(&self) -> Result<(), ValidationErrors> {
        let mut problems = Problems::of("runtime spec");
        check_canonical(&mut problems, &self.paths);
        problems.finish()
    }

    fn check_names(&self, problems: &mut Problems) {
        check_text(problems, "identity.runtime_id", &self.identity.runtime_id, char::is_control);
        let name = &self.identity.instance_name;
        if name.trim().is_empty() {
            problems.add("identity.instance_name", name.as_str(), "is blank", INSTANCE_NAME);
        } else if !is_instance_name(name) {
            problems.add("identity.instance_name", name.as_str(), "is no Incus instance name", INSTANCE_NAME);
        }
        check_text(problems, "incus.project", &self.incus.project, char::is_control);
        check_text(problems, "incus.profile", &self.incus.profile, char::is_control);
        check_text(problems, "incus.image_alias", &self.incus.image_alias, char::is_control);
        if let Some(target) = &self.incus.target {
            check_text(problems, "incus.target", target, char::is_control);
        }
        if let RuntimeNetwork::On { network: Some(network) } = &self.network {
            check_text(problems, "network.network", network, char::is_control);
        }
    }

    fn check_resources(&self, problems: &mut Problems) {
        for (field, value) in [
            ("vcpu_count", self.resources.vcpu_count.map(u32::from)),
            ("memory_mib", self.resources.memory_mib),
            ("root_disk_gib", self.resources.root_disk_gib),
        ] {
            if value == Some(0) {
                problems.add(format!("resources.{field}"), 0, "is no amount", "a number above 0, or nothing");
            }
        }
    }

    fn check_mounts(&self, problems: &mut Problems) {
        let mut taken: Vec<(usize, Vec<&str>)> = Vec::new();
        for (index, mount) in self.mounts.iter().enumerate() {
            check_text(problems, &format!("mounts[{index}].source"), &mount.source, |c| c == '\0');
            let field = format!("mounts[{index}].guest_path");
            let guest_path = mount.guest_path.as_str();
            if !check_path(problems, &field, guest_path) {
                continue;
            }
            let parts: Vec<&str> = components(guest_path).collect();
            if parts.is_empty() {
                problems.add(field, guest_path, "is the root of the guest", "a path below `/`");
            } else if let Some((first, _)) = taken.iter().find(|(_, other)| *other == parts) {
                let problem = format!("is the guest path of mounts[{first}] too");
                problems.add(field, guest_path, problem, "a guest path of its own");
            } else {
                taken.push((index, parts));
            }
        }
    }
}

/// The rules of lifecycle paths: absolute, without `..`, inside the state directory, each its own.
pub(crate) fn check_paths(problems: &mut Problems, paths: &RuntimePaths) {
    let fields = paths.fields();
    let sound = fields.map(|(field, path)| check_path(problems, &format!("paths.{field}"), path));
    let state_dir = &paths.state_dir;
    for (index, (field, path)) in fields.into_iter().enumerate().skip(1) {
        if !sound[index] {
            continue;
        }
        let field = format!("paths.{field}");
        // Without a sound state directory there is nothing to compare with.
        if sound[0] && !is_inside(path, state_dir) {
            let allowed = format!("a path inside state_dir, {state_dir:?}");
            problems.add(field.as_str(), path, "is outside state_dir", allowed);
        }
        let clash = fields.into_iter().enumerate().find(|(other, (other_field, other_path))| {
            // Two directories may be one; two files are reported once, at the second.
            let counts = *other < index || is_directory(other_field);
            *other != index && counts && sound[*other] && components(path).eq(components(other_path))
        });
        if let Some((_, (other, _))) = clash.filter(|_| !is_directory(&field)) {
            problems.add(field, path, format!("is the path of paths.{other} too"), "a path of its own");
        }
    }
}

/// What an observer that knows no spec relies on: events, status and result at their canonical paths.
pub(crate) fn check_canonical(problems: &mut Problems, paths: &RuntimePaths) {
    for (field, found, canonical) in [
        ("events_path", &paths.events_path, RuntimePaths::EVENTS),
        ("status_path", &paths.status_path, RuntimePaths::STATUS),
        ("result_path", &paths.result_path, RuntimePaths::RESULT),
    ] {
        if found != canonical {
            let allowed = format!("{canonical:?}");
            problems.add(format!("paths.{field}"), found.as_str(), "is not the canonical path", allowed);
        }
    }
}

fn is_directory(field: &str) -> bool {
    field.ends_with("_dir")
}

/// Text that must not be blank nor hold a character that `forbidden` names.
fn check_text(problems: &mut Problems, field: &str, value: &str, forbidden: fn(char) -> bool) {
    if value.trim().is_empty() {
        problems.add(field, value, "is blank", TEXT);
    } else if value.contains('\0') {
        problems.add(field, value, "has a NUL character", "text without NUL characters");
    } else if value.contains(forbidden) {
        problems.add(field, value, "has a control character", "text without control characters");
    }
}

/// Reports what keeps `path` from being an absolute path without `..`; true when nothing does.
pub(crate) fn check_path(problems: &mut Problems, field: &str, path: &str) -> bool {
    if path.trim().is_empty() {
        problems.add(field, path, "is blank", PATH);
        return false;
    }
    let broken = [
        (!path.starts_with('/'), "is relative"),
        (path.split('/').any(|part| part == ".."), "has a `..` component"),
        (path.contains('\0'), "has a NUL character"),
    ];
    for (_, problem) in broken.iter().filter(|(is_broken, _)| *is_broken) {
        problems.add(field, path, *problem, PATH);
    }
    broken.iter().all(|(is_broken, _)| !is_broken)
}

/// The parts of a path that count: `/a//b/./c/` has a, b and c.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// Whether `path` is `directory` or below it.
fn is_inside(path: &str, directory: &str) -> bool {
    let mut parts = components(path);
    components(directory).all(|part| parts.next() == Some(part))
}

fn is_instance_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}
