//! A guest that is there and runs: created by one request, or found as it was asked for.

use std::cell::Cell;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::{self, Site};
use super::client::{Answer, Request, Trouble, quoted};
use super::error::OpsError;
use super::facts::{Image, Instance, Resources, instance_path};
use super::filled::VolumeRef;
use super::incus::{Ending, Incus};
use super::observer::{Note, Observer};
use super::patience::Backoff;
use super::state::is_busy;
use crate::lifecycle::LifecycleState;
use crate::plan::{IncusRuntimePlan, InstanceType};
use crate::spec::RuntimeNetwork;

/// How often a creation is tried of which nobody knows how it ended.
const CREATIONS: u32 = 3;

/// Pauses while a project is full. Incus tells nobody when a place is free, so it is asked.
const FULL_FIRST: Duration = Duration::from_millis(100);
const FULL_LONGEST: Duration = Duration::from_secs(2);

/// How often, and with which pauses, an instance is looked for whose creation was cancelled.
const LOOKS: u32 = 10;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Where an instance is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstanceRef {
    /// Its project.
    pub project: String,
    /// Its name.
    pub name: String,
}

impl InstanceRef {
    /// The instance of a plan.
    pub fn of(plan: &IncusRuntimePlan) -> Self {
        Self { project: plan.incus.project.clone(), name: plan.identity.instance_name.clone() }
    }

    pub(crate) fn path(&self, sub: &str) -> String {
        instance_path(&self.project, &self.name, sub)
    }
}

/// A guest that is there and runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// Where it is.
    pub instance: InstanceRef,
    /// What it was made from.
    pub image: Image,
    /// Whether it was made now; else it was there.
    pub created: bool,
}

/// How one try to create ended, when it did not fail for good.
enum Creation {
    Created,
    /// Somebody made an instance of that name meanwhile.
    Taken,
    /// The project has reached a limit.
    Full(String),
    /// Somebody else makes or removes it at this moment.
    Busy,
    /// Nobody knows.
    Unknown,
}

impl Incus {
    /// Makes sure that the guest of a plan is there and runs.
    ///
    /// An instance of that name which is what the plan asks for (labels, limits, devices) is
    /// started when it does not run, and taken as it is: a guest that outlives its maker. Volumes
    /// that mounts name are made when they are not there. While the project is full, a place is
    /// waited for. Whatever fails after the creation has begun, nothing of it is left behind.
    ///
    /// # Errors
    ///
    /// [`OpsError::Conflict`] for another instance of that name, which is left alone;
    /// [`OpsError::Refused`], [`OpsError::Full`], the `…Missing` ones, or that Incus does not
    /// answer. [`OpsError::LeftBehind`] when a half-made instance could not be removed.
    pub fn ensure(&self, plan: &IncusRuntimePlan, observer: &mut dyn Observer) -> Result<Ensured, OpsError> {
        observer.host_saw(LifecycleState::Requested);
        let instance = InstanceRef::of(plan);
        let site = self.site(plan)?;
        let image = self.image(&plan.incus.project, &plan.incus.image_alias)?;
        let request = body::instance(plan, image.kind, &site)?;
        if let Some(found) = self.instance(&instance.project, &instance.name)? {
            return self.adopt(plan, image, &site, &found, observer);
        }
        let mut target = plan.incus.target.clone();
        if plan.mounts.iter().any(|mount| !body::is_host_path(mount)) {
            // Volumes are on one member, and so is who sees them.
            let pool = site.pool().unwrap_or_default();
            target = self.member_of_plan(plan, pool)?;
            for name in body::volumes(plan) {
                let (project, pool) = (plan.incus.project.clone(), pool.to_owned());
                self.ensure_volume(&VolumeRef {
                    project,
                    pool,
                    member: target.clone(),
                    name: name.to_owned(),
                })?;
            }
        }

        observer.host_saw(LifecycleState::Provisioning);
        let started = self.clock.monotonic();
        let mut backoff = Backoff::new(FULL_FIRST, FULL_LONGEST);
        let (mut unknown, mut waiting) = (0, false);
        loop {
            match self.create(plan, &instance, target.as_deref(), &request)? {
                Creation::Created => break,
                Creation::Taken | Creation::Busy => {
                    if self.clock.monotonic().saturating_sub(started) > self.patience().operation {
                        return Err(self.failed(&instance, "somebody else makes and removes it"));
                    }
                    // Not before it is whole: half-made it differs from every plan.
                    self.client.pause(backoff.next()).map_err(OpsError::Cancelled)?;
                    if let Some(found) = self.instance(&instance.project, &instance.name)?
                        && found.is_running()
                    {
                        return self.adopt(plan, image, &site, &found, observer);
                    }
                }
                Creation::Full(reason) => {
                    let after = self.clock.monotonic().saturating_sub(started);
                    if after > self.patience().full {
                        let project = instance.project.clone();
                        return Err(OpsError::Full { project, after, reason });
                    }
                    if !std::mem::replace(&mut waiting, true) {
                        observer.note(Note::Waiting { reason });
                    }
                    self.client.pause(backoff.next()).map_err(OpsError::Cancelled)?;
                }
                Creation::Unknown => {
                    unknown += 1;
                    if unknown == CREATIONS {
                        return Err(self.failed(&instance, "nobody knows how it ended, three times"));
                    }
                }
            }
        }
        let checked = self.check(plan, image.kind, &instance);
        let member = self.undone(&request, &instance, checked)?;
        if let Some(warning) = self.too_few_processors(plan, image.kind, &member) {
            observer.note(Note::Warning(warning));
        }
        observer.host_saw(LifecycleState::Booted);
        Ok(Ensured { instance, image, created: true })
    }

    /// One try to create; nothing is left behind by one that failed.
    fn create(
        &self,
        plan: &IncusRuntimePlan,
        instance: &InstanceRef,
        target: Option<&str>,
        body: &Value,
    ) -> Result<Creation, OpsError> {
        let action = format!("create instance {}", instance.name);
        let mut path = format!("/1.0/instances?project={}", quoted(&instance.project));
        if let Some(target) = target {
            path.push_str(&format!("&target={}", quoted(target)));
        }
        let request = Request::new(ureq::http::Method::POST, path).json(body);
        let cut_off = Cell::new(false);
        let asked = self.repeat(&action, Trouble::is_before, || {
            // Whoever was cancelled before sends nothing.
            let is_sent = !self.client.cancel.is_cancelled();
            let answer = self.client.ask(&request);
            cut_off.set(is_sent && matches!(answer, Err(Trouble::Cancelled(_))));
            answer
        });
        let ending = match asked {
            Ok(Answer::Begun(id)) => self.wait(&action, &id, self.patience().operation),
            Ok(Answer::Done(_)) => Err(self.garbled(&action, "a document in place of an operation")),
            Err(Trouble::Broken(_) | Trouble::Silent) => Ok(Ending::Vanished),
            Err(Trouble::Api { code, message }) if code != 403 => Ok(Ending::Failure(message)),
            // Only the answer is missing: what was asked for is being made.
            Err(Trouble::Cancelled(reason)) if cut_off.get() => Err(OpsError::Cancelled(reason)),
            // Nothing was begun: there is nothing to remove.
            Err(trouble) => return Err(self.explain(&action, trouble)),
        };
        match ending {
            Ok(Ending::Success(_)) => Ok(Creation::Created),
            Ok(Ending::Failure(message)) if is_taken(&message) => Ok(Creation::Taken),
            Ok(Ending::Failure(message)) if is_busy(&message) => Ok(Creation::Busy),
            Ok(Ending::Failure(message)) if message.contains("Reached maximum") => {
                Ok(Creation::Full(message))
            }
            Ok(Ending::Failure(message)) => {
                let error = self.diagnose(plan, instance, message);
                self.undone(body, instance, Err(error))
            }
            Ok(Ending::Vanished) => {
                let found = self.instance(&instance.project, &instance.name);
                if self.undone(body, instance, found)?.is_some_and(|found| found.is_running()) {
                    return Ok(Creation::Created);
                }
                self.undone(body, instance, self.remove_own(body, instance))?;
                Ok(Creation::Unknown)
            }
            Ok(Ending::Pending) => {
                let after = self.patience().operation;
                self.undone(body, instance, Err(OpsError::TimedOut { action, after }))
            }
            Err(error) => self.undone(body, instance, Err(error)),
        }
    }

    /// The result; when it is an error, what was created is removed first.
    fn undone<T>(
        &self,
        asked: &Value,
        instance: &InstanceRef,
        result: Result<T, OpsError>,
    ) -> Result<T, OpsError> {
        let Err(error) = result else { return result };
        // A cancelled creation is removed all the same, by a client that nobody cancels.
        let cleaner = self.cleaner(error.is_connection());
        let removed = match error {
            OpsError::Cancelled(_) => cleaner.remove_late(asked, instance),
            _ => cleaner.remove_own(asked, instance),
        };
        match removed {
            Ok(()) => Err(error),
            Err(cleanup) => Err(OpsError::LeftBehind {
                instance: instance.name.clone(),
                cleanup: Box::new(cleanup),
                error: Box::new(error),
            }),
        }
    }

    /// Removes one that may only be about to appear: the request that makes it can still be on its way, and
    /// nobody hears of its arrival.
    fn remove_late(&self, asked: &Value, instance: &InstanceRef) -> Result<(), OpsError> {
        for _ in 0..LOOKS {
            if self.instance(&instance.project, &instance.name)?.is_some() {
                break;
            }
            self.client.pause(LOOK_AGAIN).map_err(OpsError::Cancelled)?;
        }
        self.remove_own(asked, instance)
    }

    /// Removes the instance when it is what was asked for, with its labels, limits and devices.
    /// Another one is not ours to remove.
    fn remove_own(&self, asked: &Value, instance: &InstanceRef) -> Result<(), OpsError> {
        let Some(found) = self.instance(&instance.project, &instance.name)? else { return Ok(()) };
        let config = asked["config"].as_object().into_iter().flatten();
        let is_ours = serde_json::to_value(&found.devices).is_ok_and(|devices| devices == asked["devices"])
            && config
                .into_iter()
                .all(|(key, value)| found.config.get(key).map(String::as_str) == value.as_str());
        if is_ours { self.destroy(instance) } else { Ok(()) }
    }

    /// Takes an instance that was there, when it is what the plan asks for.
    fn adopt(
        &self,
        plan: &IncusRuntimePlan,
        image: Image,
        site: &Site,
        found: &Instance,
        observer: &mut dyn Observer,
    ) -> Result<Ensured, OpsError> {
        let instance = InstanceRef::of(plan);
        if let Some(difference) = difference(plan, &image, site, found)? {
            return Err(OpsError::Conflict { name: instance.name, difference });
        }
        if !found.is_running() {
            if found.status != "Stopped" {
                // It is ending, and a start would be told that it runs.
                self.stop(&instance)?;
            }
            self.start(&instance)?;
        }
        observer.host_saw(LifecycleState::Booted);
        let fingerprint = found.image().unwrap_or(&image.fingerprint).to_owned();
        Ok(Ensured { instance, image: Image { fingerprint, ..image }, created: false })
    }

    /// Checks that what was created runs, with the limits that were asked for in force. Returns where it is.
    fn check(
        &self,
        plan: &IncusRuntimePlan,
        kind: InstanceType,
        instance: &InstanceRef,
    ) -> Result<String, OpsError> {
        let found = self.instance(&instance.project, &instance.name)?;
        let Some(found) = found else { return Err(self.failed(instance, "it is gone")) };
        if !found.is_running() {
            // An Incus without the extension instance_create_start.
            self.start(instance)?;
        }
        for (key, value) in plan.config() {
            if found.expanded_config.get(&key) != Some(&value) {
                return Err(self.failed(instance, &format!("{key} is not {value}")));
            }
        }
        self.check_limits(plan, kind, instance)?;
        Ok(found.location)
    }

    fn check_limits(
        &self,
        plan: &IncusRuntimePlan,
        kind: InstanceType,
        instance: &InstanceRef,
    ) -> Result<(), OpsError> {
        const MIB: u64 = 1024 * 1024;
        let disk = plan.resources.root_disk_gib.map(|gib| u64::from(gib) * 1024 * MIB);
        let memory = plan.resources.memory_mib.map(|mib| u64::from(mib) * MIB);
        if disk.is_none() && memory.is_none() {
            return Ok(());
        }
        let state = self.state(instance)?.ok_or_else(|| self.failed(instance, "it is gone"))?;
        // 0 is not known: a virtual machine says nothing of these before its agent runs, and has them by what it is.
        // Of a container Incus knows every limit that holds.
        let is_known = |found: u64| found != 0 || kind == InstanceType::Container;
        let is_other = |found: u64, asked: Option<u64>| {
            asked.filter(|asked| is_known(found) && (found == 0 || found > *asked))
        };
        if let Some(asked) = is_other(state.memory.total, memory) {
            let problem = format!("its memory is not limited to {} MiB", asked / MIB);
            return Err(self.failed(instance, &problem));
        }
        let root = state.disk.get("root").map_or(0, |root| u64::try_from(root.total).unwrap_or(0));
        if let Some(asked) = is_other(root, disk) {
            let gib = asked / MIB / 1024;
            let problem = format!(
                "its root disk is not limited to {gib} GiB: its pool has no quotas, as one on btrfs or zfs has; \
                 move the pool, or ask for no size"
            );
            return Err(self.failed(instance, &problem));
        }
        Ok(())
    }

    /// What there is to say of a container that asks for more processors than its machine has. It gets those
    /// that there are, which limits nothing and is no reason not to run.
    fn too_few_processors(
        &self,
        plan: &IncusRuntimePlan,
        kind: InstanceType,
        member: &str,
    ) -> Option<String> {
        let asked = plan.resources.vcpu_count.filter(|_| kind == InstanceType::Container)?;
        if asked == 1 {
            return None;
        }
        let mut path = "/1.0/resources".to_owned();
        if !matches!(member, "" | "none") {
            path.push_str(&format!("?target={}", quoted(member)));
        }
        // Not everybody who may make instances may look: then nobody knows.
        let found: Resources = self.find("count its processors", &Request::get(path)).ok().flatten()?;
        let there = found.cpu.total;
        (there != 0 && there < u64::from(asked))
            .then(|| format!("{asked} processors are asked for, and the machine has {there}"))
    }

    /// What a failed creation means, found out by asking where that is possible.
    fn diagnose(&self, plan: &IncusRuntimePlan, instance: &InstanceRef, message: String) -> OpsError {
        if let Err(error) = self.check_profiles(plan) {
            return error;
        }
        if let Err(error) = self.image(&plan.incus.project, &plan.incus.image_alias) {
            return error;
        }
        if let RuntimeNetwork::On { network: Some(network) } = &plan.network
            && matches!(self.has_network(&plan.incus.project, network), Ok(false))
        {
            return OpsError::NetworkMissing {
                project: plan.incus.project.clone(),
                network: network.clone(),
            };
        }
        if let Some(source) = missing_source(&message) {
            return OpsError::NotFound { what: "mount source", name: source };
        }
        if is_refused(&message) {
            let (project, instance) = (instance.project.clone(), instance.name.clone());
            return OpsError::Refused { project, instance, reason: message };
        }
        self.failed(instance, &message)
    }

    fn failed(&self, instance: &InstanceRef, message: &str) -> OpsError {
        OpsError::Failed { action: format!("create instance {}", instance.name), message: message.to_owned() }
    }
}

/// In what an instance is not what the plan asks for. Its image may be an older one of the alias.
fn difference(
    plan: &IncusRuntimePlan,
    image: &Image,
    site: &Site,
    found: &Instance,
) -> Result<Option<String>, OpsError> {
    for (key, value) in body::config(plan)? {
        match found.config.get(&key) {
            Some(other) if *other == value => {}
            Some(other) => return Ok(Some(format!("its {key} is {other:?}, not {value:?}"))),
            None => return Ok(Some(format!("it has no {key}, and {value:?} was asked for"))),
        }
    }
    if found.profiles != body::profiles(plan) {
        return Ok(Some(format!("its profiles are {}", found.profiles.join(", "))));
    }
    let asked = body::devices(plan, image.kind, site)?;
    for name in asked.keys().chain(found.devices.keys()) {
        if asked.get(name) != found.devices.get(name) {
            return Ok(Some(format!("its device {name} is not the one asked for")));
        }
    }
    Ok(None)
}

/// The database of Incus says so when two create one name.
fn is_taken(message: &str) -> bool {
    message.contains("UNIQUE constraint failed: instances") || message.contains("already exists")
}

/// Whether the restrictions of a project were the reason.
fn is_refused(message: &str) -> bool {
    message.starts_with("Failed checking if instance creation allowed")
        || message.contains("restricted")
        || message.contains("forbidden")
}

/// The path of a mount that is not on the host.
fn missing_source(message: &str) -> Option<String> {
    let rest = message.split_once("Missing source path ")?.1;
    Some(rest.split_once('"')?.1.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_incus_are_understood() {
        assert!(is_taken(
            "Failed creating instance record: Add instance info to the database: Failed to create \
             \"instances\" entry: UNIQUE constraint failed: instances.project_id, instances.name"
        ));
        assert!(is_refused(
            "Failed checking if instance creation allowed: Invalid value \"true\" for config \
             \"security.privileged\" on container \"g2\" of project \"t1\": Privileged containers are forbidden"
        ));
        assert!(is_refused(
            "Failed to start device \"snap\": The \"shift\" property cannot be used with a restricted source path"
        ));
        assert!(!is_refused("Image not provided for instance creation"));
        assert_eq!(
            missing_source(
                "Failed initializing instance: Failed add validation for device \"snap\": Missing source path \
                 \"/srv/nope\" for disk \"snap\""
            )
            .as_deref(),
            Some("/srv/nope")
        );
        assert_eq!(missing_source("Missing source"), None);
    }
}
