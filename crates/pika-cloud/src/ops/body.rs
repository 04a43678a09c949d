//! What Incus is told to create: the plan, the image and the place made into one request. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::OpsError;
use crate::plan::{IncusMountPlan, IncusRuntimePlan, InstanceType};
use crate::spec::{MountKind, RuntimeNetwork};

/// Configuration of one device.
pub(crate) type Device = BTreeMap<String, String>;

/// Name of the device that is the root disk, as Incus's own tools call it.
const ROOT: &str = "root";

/// The profile that the plan's own is applied on top of.
const DEFAULT_PROFILE: &str = "default";

/// What must be known of the place where a guest is created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Site {
    /// Whether host owners can be shown as they are. A project that restricts the paths of disks
    /// does not allow it: there, host owners show as nobody and only mode bits for others count.
    pub(crate) shift: bool,
    /// The root disk as the profiles give it.
    pub(crate) root: Option<Device>,
    /// Network devices as the profiles give them, by name. Known only where it matters.
    pub(crate) nics: BTreeMap<String, Device>,
    /// The first managed bridge that the project sees. Known only where it matters.
    pub(crate) bridge: Option<String>,
}

impl Site {
    /// The storage pool of volumes: the one of the root disk.
    pub(crate) fn pool(&self) -> Option<&str> {
        self.root.as_ref()?.get("pool").map(String::as_str)
    }
}

/// Whether the source of a mount is a directory of the host; else it is a volume.
pub(crate) fn is_host_path(mount: &IncusMountPlan) -> bool {
    mount.source.starts_with('/')
}

/// The volumes that are made when they are not there: all but snapshots, which somebody fills.
pub(crate) fn volumes(plan: &IncusRuntimePlan) -> impl Iterator<Item = &str> {
    plan.mounts
        .iter()
        .filter(|mount| !is_host_path(mount) && mount.kind != MountKind::ReadOnlySnapshot)
        .map(|mount| mount.source.as_str())
}

/// Whether the root disk of the profiles must be known to create the guest.
pub(crate) fn needs_root(plan: &IncusRuntimePlan) -> bool {
    plan.resources.root_disk_gib.is_some() || plan.mounts.iter().any(|mount| !is_host_path(mount))
}

/// Whether the network devices of the profiles must be known to create the guest.
pub(crate) fn needs_nics(plan: &IncusRuntimePlan) -> bool {
    !plan.network.is_profile()
}

/// The plan's profiles, in the order they are applied.
pub(crate) fn profiles(plan: &IncusRuntimePlan) -> Vec<&str> {
    profiles_with(&plan.incus.profile)
}

pub(crate) fn profiles_with(own: &str) -> Vec<&str> {
    if own == DEFAULT_PROFILE { vec![own] } else { vec![DEFAULT_PROFILE, own] }
}

/// Labels as configuration keys: `user.<name>`, and a name that begins so as it is.
///
/// # Errors
///
/// When two labels come to the same key.
pub(crate) fn label_keys(labels: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, OpsError> {
    let mut keys = BTreeMap::new();
    for (name, value) in labels {
        if keys.insert(label_key(name), value.clone()).is_some() {
            let mut problems = crate::validation::Problems::of("runtime spec");
            problems.add(
                format!("labels[{name:?}]"),
                value.as_str(),
                "is given with and without `user.`",
                "each label once",
            );
            problems.finish()?;
        }
    }
    Ok(keys)
}

/// A label's configuration key: only keys that begin with `user.` are free for users.
pub(crate) fn label_key(name: &str) -> String {
    if name.starts_with("user.") { name.to_owned() } else { format!("user.{name}") }
}

/// Configuration of the instance: limits, labels, and that it does not start with its host.
pub(crate) fn config(plan: &IncusRuntimePlan) -> Result<BTreeMap<String, String>, OpsError> {
    let mut config = plan.config();
    config.extend(label_keys(&plan.labels)?);
    config.insert("boot.autostart".to_owned(), "false".to_owned());
    Ok(config)
}

/// All devices of the instance, the root disk only when its size is asked for.
pub(crate) fn devices(
    plan: &IncusRuntimePlan,
    kind: InstanceType,
    site: &Site,
) -> Result<BTreeMap<String, Device>, OpsError> {
    let mut devices = plan.devices(kind);
    for mount in &plan.mounts {
        let Some(device) = devices.get_mut(&mount.device_name) else { continue };
        if is_host_path(mount) {
            if kind == InstanceType::Container && site.shift {
                device.insert("shift".to_owned(), "true".to_owned());
            }
            if !mount.required {
                // Incus then starts the guest without it.
                device.insert("required".to_owned(), "false".to_owned());
            }
        } else {
            let pool = site.pool().ok_or_else(|| no_root(plan))?;
            device.insert("pool".to_owned(), pool.to_owned());
        }
    }
    if let Some(size) = plan.resources.root_disk_gib {
        let mut root = site.root.clone().ok_or_else(|| no_root(plan))?;
        root.insert("size".to_owned(), format!("{size}GiB"));
        devices.insert(ROOT.to_owned(), root);
    }
    nics(plan, site, &mut devices)?;
    Ok(devices)
}

/// Name of the network device that is made, as Incus's own tools call it.
const NIC: &str = "eth0";

/// Adds the network device that is asked for, and hides those of the profiles that are not.
fn nics(
    plan: &IncusRuntimePlan,
    site: &Site,
    devices: &mut BTreeMap<String, Device>,
) -> Result<(), OpsError> {
    let device = |pairs: &[(&str, &str)]| -> Device {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let network = match &plan.network {
        RuntimeNetwork::Profile => return Ok(()),
        RuntimeNetwork::Off => None,
        RuntimeNetwork::On { network: None } if !site.nics.is_empty() => return Ok(()),
        RuntimeNetwork::On { network } => {
            let network = network.as_ref().or(site.bridge.as_ref()).ok_or_else(|| OpsError::NoNetwork {
                project: plan.incus.project.clone(),
                profiles: profiles(plan).join(", "),
            })?;
            Some(network)
        }
    };
    for name in site.nics.keys() {
        devices.insert(name.clone(), device(&[("type", "none")]));
    }
    if let Some(network) = network {
        devices.insert(NIC.to_owned(), device(&[("type", "nic"), ("network", network), ("name", NIC)]));
    }
    Ok(())
}

fn no_root(plan: &IncusRuntimePlan) -> OpsError {
    OpsError::Failed {
        action: format!("create instance {}", plan.identity.instance_name),
        message: format!(
            "the profiles {} of project {} have no root disk, so there is no pool for volumes",
            profiles(plan).join(", "),
            plan.incus.project
        ),
    }
}

/// The request that creates, configures, attaches and starts.
pub(crate) fn instance(plan: &IncusRuntimePlan, kind: InstanceType, site: &Site) -> Result<Value, OpsError> {
    Ok(json!({
        "name": plan.identity.instance_name,
        "type": kind,
        "ephemeral": false,
        "profiles": profiles(plan),
        "source": { "type": "image", "alias": plan.incus.image_alias },
        "config": config(plan)?,
        "devices": devices(plan, kind, site)?,
        "start": true,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{RuntimeIdentity, RuntimeIncus, RuntimeMount, RuntimeSpec};

    fn spec() -> RuntimeSpec {
        RuntimeSpec::new(
            RuntimeIdentity::named("guest-1"),
            RuntimeIncus::new("project", "profile", "image/dev"),
        )
    }

    fn site(shift: bool) -> Site {
        let root = [("type", "disk"), ("path", "/"), ("pool", "fast")];
        Site {
            shift,
            root: Some(root.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..Site::default()
        }
    }

    #[test]
    fn one_request_creates_configures_attaches_and_starts() {
        let mut spec = spec()
            .with_cpus(2)
            .with_memory_mib(512)
            .with_label("user.owner", "a")
            .with_label("run", "7")
            .with_mount(RuntimeMount::read_only_snapshot("/srv/s", "/workspace/snapshot").require())
            .with_mount(RuntimeMount::cache("cargo", "/cargo"));
        spec.resources.root_disk_gib = Some(3);
        let body = instance(&spec.plan().unwrap(), InstanceType::Container, &site(true)).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap(), @r#"
        {
          "name": "guest-1",
          "type": "container",
          "ephemeral": false,
          "profiles": [
            "default",
            "profile"
          ],
          "source": {
            "type": "image",
            "alias": "image/dev"
          },
          "config": {
            "boot.autostart": "false",
            "limits.cpu": "2",
            "limits.memory": "512MiB",
            "user.owner": "a",
            "user.run": "7"
          },
          "devices": {
            "pk-cache-7d5fc851": {
              "path": "/cargo",
              "pool": "fast",
              "source": "cargo",
              "type": "disk"
            },
            "pk-snapsh-2dab47e0": {
              "path": "/workspace/snapshot",
              "readonly": "true",
              "shift": "true",
              "source": "/srv/s",
              "type": "disk"
            },
            "root": {
              "path": "/",
              "pool": "fast",
              "size": "3GiB",
              "type": "disk"
            }
          },
          "start": true
        }
        "#);
    }

    #[test]
    fn owners_are_not_shifted_where_paths_are_restricted_nor_in_a_virtual_machine() {
        let plan = spec().with_mount(RuntimeMount::cache("/srv/c", "/c")).plan().unwrap();
        let device = |kind, shift| devices(&plan, kind, &site(shift)).unwrap().into_values().next().unwrap();
        assert_eq!(device(InstanceType::Container, true).get("shift").map(String::as_str), Some("true"));
        assert_eq!(device(InstanceType::Container, false).get("shift"), None);
        assert_eq!(device(InstanceType::VirtualMachine, true).get("shift"), None);
    }

    #[test]
    fn a_guest_without_network_has_none_of_its_profiles_and_one_with_it_has_one() {
        let nic = |network: &str| -> Device {
            [("type", "nic"), ("network", network), ("name", "eth0")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };
        let of = |network, site: &Site| {
            let plan = spec().with_network(network).plan().unwrap();
            devices(&plan, InstanceType::Container, site)
        };
        let own = Site { nics: [("lan".to_owned(), nic("corp"))].into(), ..site(false) };
        let bridged = Site { bridge: Some("br0".to_owned()), ..site(false) };
        let none: Device = [("type".to_owned(), "none".to_owned())].into();
        assert_eq!(of(RuntimeNetwork::Profile, &own).unwrap(), BTreeMap::new());
        assert_eq!(of(RuntimeNetwork::Off, &own).unwrap(), [("lan".to_owned(), none.clone())].into());
        assert_eq!(of(RuntimeNetwork::Off, &bridged).unwrap(), BTreeMap::new());
        let on = |network: Option<&str>| RuntimeNetwork::On { network: network.map(str::to_owned) };
        assert_eq!(of(on(None), &own).unwrap(), BTreeMap::new());
        assert_eq!(of(on(None), &bridged).unwrap(), [("eth0".to_owned(), nic("br0"))].into());
        assert_eq!(
            of(on(Some("other")), &own).unwrap(),
            [("eth0".to_owned(), nic("other")), ("lan".to_owned(), none)].into()
        );
        let error = of(on(None), &site(false)).unwrap_err().to_string();
        assert!(error.contains("a network is asked for"), "{error}");
    }

    #[test]
    fn a_mount_that_is_not_required_does_not_keep_the_guest_from_starting() {
        let of = |mount| {
            let plan = spec().with_mount(mount).plan().unwrap();
            devices(&plan, InstanceType::Container, &site(false)).unwrap().into_values().next().unwrap()
        };
        let optional = of(RuntimeMount::read_only_snapshot("/srv/s", "/s"));
        assert_eq!(optional.get("required").map(String::as_str), Some("false"));
        assert_eq!(of(RuntimeMount::read_only_snapshot("/srv/s", "/s").require()).get("required"), None);
    }

    #[test]
    fn a_label_given_with_and_without_its_prefix_is_an_error() {
        let plan = spec().with_label("a", "1").with_label("user.a", "2").plan().unwrap();
        let error = instance(&plan, InstanceType::Container, &site(false)).unwrap_err();
        assert!(error.to_string().contains("with and without"), "{error}");
    }

    #[test]
    fn volumes_are_made_for_every_kind_but_snapshots() {
        let plan = spec()
            .with_mount(RuntimeMount::persistent_volume("state", "/a"))
            .with_mount(RuntimeMount::artifact_output("out", "/b"))
            .with_mount(RuntimeMount::read_only_snapshot("snapshot-1", "/c"))
            .with_mount(RuntimeMount::cache("/srv/cache", "/d"))
            .plan()
            .unwrap();
        assert_eq!(volumes(&plan).collect::<Vec<_>>(), ["state", "out"]);
    }

    #[test]
    fn a_volume_without_a_pool_is_an_error_that_names_the_profiles() {
        let plan = spec().with_mount(RuntimeMount::cache("c", "/c")).plan().unwrap();
        let error = instance(&plan, InstanceType::Container, &Site::default()).unwrap_err();
        assert!(error.to_string().contains("default, profile"), "{error}");
    }
}
