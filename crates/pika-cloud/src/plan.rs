//! What Incus is told: a runtime spec with everything derived that depends on it alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::mount_device_name;
use crate::spec::{
    MountKind, MountMode, RuntimeIdentity, RuntimeIncus, RuntimeMount, RuntimeNetwork, RuntimePaths,
    RuntimePolicies, RuntimeResources, RuntimeSpec,
};
use crate::validation::ValidationErrors;

/// Bus of read-only mounts in virtual machines.
const READ_ONLY_IO_BUS: &str = "virtiofs";

/// What an image becomes. It is a property of the image, so a plan does not name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceType {
    /// Shares the host's kernel.
    Container,
    /// Has a kernel of its own.
    VirtualMachine,
}

/// One guest, as Incus is asked for it.
///
/// The same keys as [`RuntimeSpec`], with the mounts planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncusRuntimePlan {
    /// Who the guest is.
    pub identity: RuntimeIdentity,
    /// Where in Incus it lives, and what it is made from.
    pub incus: RuntimeIncus,
    /// How much of the host it may use.
    pub resources: RuntimeResources,
    /// Its disk devices, each with a name of its own.
    #[serde(default)]
    pub mounts: Vec<IncusMountPlan>,
    /// What it reaches.
    #[serde(default, skip_serializing_if = "RuntimeNetwork::is_profile")]
    pub network: RuntimeNetwork,
    /// Where in the guest the lifecycle files lie.
    pub paths: RuntimePaths,
    /// What becomes of it when it ends.
    pub policies: RuntimePolicies,
    /// The program started in it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_command: Option<String>,
    /// Names and values by which its owner finds it again.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Anything else its owner keeps with it.
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
}

impl RuntimeSpec {
    /// What Incus is to be told.
    ///
    /// # Errors
    ///
    /// All problems of the spec, as [`RuntimeSpec::validate`] reports them.
    pub fn plan(&self) -> Result<IncusRuntimePlan, ValidationErrors> {
        self.validate()?;
        Ok(IncusRuntimePlan {
            identity: self.identity.clone(),
            incus: self.incus.clone(),
            resources: self.resources,
            mounts: plan_mounts(&self.mounts),
            network: self.network.clone(),
            paths: self.paths.clone(),
            policies: self.policies.clone(),
            entry_command: self.entry_command.clone(),
            labels: self.labels.clone(),
            metadata: self.metadata.clone(),
        })
    }
}

impl TryFrom<&RuntimeSpec> for IncusRuntimePlan {
    type Error = ValidationErrors;

    fn try_from(spec: &RuntimeSpec) -> Result<Self, ValidationErrors> {
        spec.plan()
    }
}

impl IncusRuntimePlan {
    /// Instance configuration: `limits.cpu` and `limits.memory` (`4096MiB`), each only when set.
    pub fn config(&self) -> BTreeMap<String, String> {
        let cpu = self.resources.vcpu_count.map(|count| ("limits.cpu", count.to_string()));
        let memory = self.resources.memory_mib.map(|mib| ("limits.memory", format!("{mib}MiB")));
        cpu.into_iter().chain(memory).map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Disk devices by name, for an image of this type.
    pub fn devices(&self, instance: InstanceType) -> BTreeMap<String, BTreeMap<String, String>> {
        self.mounts.iter().map(|mount| (mount.device_name.clone(), mount.device(instance))).collect()
    }
}

/// One mount, as a disk device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncusMountPlan {
    /// What it is for.
    pub kind: MountKind,
    /// Path on the host, or volume name.
    pub source: String,
    /// Absolute path in the guest.
    pub guest_path: String,
    /// Name of the device: see [`mount_device_name`]. Mounts that hash alike get `-2`, `-3`, …
    /// after the first of them.
    pub device_name: String,
    /// Whether the guest may only read.
    pub read_only: bool,
    /// How a virtual machine sees it; `virtiofs` for read-only mounts, else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_bus: Option<String>,
    /// Whether the guest is useless without it.
    #[serde(default)]
    pub required: bool,
}

impl IncusMountPlan {
    /// The device's configuration for an image of this type: `type=disk`, `source`, `path`,
    /// `readonly=true` (read-only only) and `io.bus` (virtual machines only; containers have no bus).
    pub fn device(&self, instance: InstanceType) -> BTreeMap<String, String> {
        let io_bus = self.io_bus.as_deref().filter(|_| instance == InstanceType::VirtualMachine);
        [
            ("type", Some("disk")),
            ("source", Some(self.source.as_str())),
            ("path", Some(self.guest_path.as_str())),
        ]
        .into_iter()
        .chain([("readonly", self.read_only.then_some("true")), ("io.bus", io_bus)])
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect()
    }
}

fn plan_mounts(mounts: &[RuntimeMount]) -> Vec<IncusMountPlan> {
    let mut taken = BTreeSet::new();
    mounts
        .iter()
        .map(|mount| {
            let read_only = mount.mode == MountMode::ReadOnly;
            IncusMountPlan {
                kind: mount.kind,
                source: mount.source.clone(),
                guest_path: mount.guest_path.clone(),
                device_name: free_name(&mut taken, mount),
                read_only,
                io_bus: read_only.then(|| READ_ONLY_IO_BUS.to_owned()),
                required: mount.required,
            }
        })
        .collect()
}

/// The mount's device name, or the next free one after it: `/a/b` and `/a-b` hash alike, and of two
/// devices with one name Incus would keep one.
fn free_name(taken: &mut BTreeSet<String>, mount: &RuntimeMount) -> String {
    let name = mount_device_name(mount.kind, &mount.source, &mount.guest_path);
    let mut candidate = name.clone();
    let mut number = 1;
    while !taken.insert(candidate.clone()) {
        number += 1;
        candidate = format!("{name}-{number}");
    }
    candidate
}
