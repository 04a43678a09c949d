//! What is asked of a guest: [`RuntimeSpec`] and its parts.
//!
//! ```
//! use pika_cloud::{RuntimeIdentity, RuntimeIncus, RuntimeMount, RuntimeSpec};
//!
//! let spec = RuntimeSpec::new(
//!     RuntimeIdentity::named("jerichoci-1fac30581f5b"),
//!     RuntimeIncus::new("pika-managed-agents", "pika-agent-dev", "jericho/dev"),
//! )
//! .with_cpus(2)
//! .with_memory_mib(4096)
//! .with_mount(RuntimeMount::read_only_snapshot("/srv/snapshot", "/workspace/snapshot").require());
//! spec.validate()?;
//!
//! assert_eq!(serde_json::to_value(&spec)?["mounts"][0], serde_json::json!({
//!     "kind": "read_only_snapshot", "guest_path": "/workspace/snapshot",
//!     "source": "/srv/snapshot", "mode": "read_only", "required": true,
//! }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod mount;
mod network;
mod paths;
mod policies;
mod validate;

pub use mount::{MountKind, MountMode, RuntimeMount};
pub use network::RuntimeNetwork;
pub use paths::RuntimePaths;
pub use policies::{
    OutputCollectionMode, OutputCollectionPolicy, RestartPolicy, RetentionPolicy, RuntimePolicies,
};
pub(crate) use validate::{check_canonical, check_path, check_paths};

/// One guest, as it is asked for.
///
/// The smallest document names the guest and its image; the rest has defaults:
///
/// ```
/// # let text = r#"
/// {
///   "identity": { "runtime_id": "agent-7", "instance_name": "agent-7" },
///   "incus": { "project": "pika-managed-agents", "profile": "pika-agent-dev", "image_alias": "pika-agent/dev" }
/// }
/// # "#;
/// let spec: pika_cloud::RuntimeSpec = serde_json::from_str(text)?;
/// assert_eq!(spec.paths.state_dir, "/run/pika-cloud");
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Reading checks the shape only; [`RuntimeSpec::validate`] checks the rules. Unknown keys are
/// ignored, among them `provider`, which older documents carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeSpec {
    /// Who the guest is.
    pub identity: RuntimeIdentity,
    /// Where in Incus it lives, and what it is made from.
    pub incus: RuntimeIncus,
    /// How much of the host it may use.
    #[serde(default)]
    pub resources: RuntimeResources,
    /// What of the host it sees.
    #[serde(default)]
    pub mounts: Vec<RuntimeMount>,
    /// What it reaches.
    #[serde(default, skip_serializing_if = "RuntimeNetwork::is_profile")]
    pub network: RuntimeNetwork,
    /// Where in the guest the lifecycle files lie.
    #[serde(default)]
    pub paths: RuntimePaths,
    /// What becomes of it when it ends.
    #[serde(default)]
    pub policies: RuntimePolicies,
    /// The program started in it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_command: Option<String>,
    /// Names and values by which its owner finds it again.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Anything else its owner keeps with it; never interpreted here.
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
}

impl RuntimeSpec {
    /// A guest with the defaults for everything but its name and image.
    pub fn new(identity: RuntimeIdentity, incus: RuntimeIncus) -> Self {
        Self {
            identity,
            incus,
            resources: RuntimeResources::default(),
            mounts: Vec::new(),
            network: RuntimeNetwork::default(),
            paths: RuntimePaths::default(),
            policies: RuntimePolicies::default(),
            entry_command: None,
            labels: BTreeMap::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// Limits the guest to this many CPUs.
    #[must_use]
    pub fn with_cpus(mut self, count: u8) -> Self {
        self.resources.vcpu_count = Some(count);
        self
    }

    /// Limits the guest to this much memory, in MiB.
    #[must_use]
    pub fn with_memory_mib(mut self, mib: u32) -> Self {
        self.resources.memory_mib = Some(mib);
        self
    }

    /// Adds a mount after those already there.
    #[must_use]
    pub fn with_mount(mut self, mount: RuntimeMount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Sets what the guest reaches.
    #[must_use]
    pub fn with_network(mut self, network: RuntimeNetwork) -> Self {
        self.network = network;
        self
    }

    /// Sets the program started in the guest.
    #[must_use]
    pub fn with_entry_command(mut self, command: impl Into<String>) -> Self {
        self.entry_command = Some(command.into());
        self
    }

    /// Sets one label, in place of an earlier one of that name.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Sets what becomes of the guest when it ends.
    #[must_use]
    pub fn with_policies(mut self, policies: RuntimePolicies) -> Self {
        self.policies = policies;
        self
    }
}

/// Who a guest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeIdentity {
    /// Its owner's name for it.
    pub runtime_id: String,
    /// Its name in Incus: 1 to 63 ASCII letters, digits and `-`, first a letter, last no `-`.
    pub instance_name: String,
}

impl RuntimeIdentity {
    /// A guest whose owner calls it by its instance name.
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { runtime_id: name.clone(), instance_name: name }
    }
}

/// Where in Incus a guest lives, and what it is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeIncus {
    /// Incus project.
    pub project: String,
    /// Incus profile, applied on top of `default`.
    pub profile: String,
    /// Alias of the image, such as `jericho/dev`.
    pub image_alias: String,
    /// Member of a cluster, or `@GROUP`, that the guest is placed on; Incus chooses when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl RuntimeIncus {
    /// A place and an image.
    pub fn new(
        project: impl Into<String>,
        profile: impl Into<String>,
        image_alias: impl Into<String>,
    ) -> Self {
        Self {
            project: project.into(),
            profile: profile.into(),
            image_alias: image_alias.into(),
            target: None,
        }
    }

    /// Places the guest on a member of a cluster, or on one of `@GROUP`.
    #[must_use]
    pub fn on(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }
}

/// How much of its host a guest may use. What is absent is left to the profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeResources {
    /// Number of CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpu_count: Option<u8>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Size of the root disk in GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_disk_gib: Option<u32>,
}
