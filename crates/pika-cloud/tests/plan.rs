//! From a spec to what Incus is told.

use std::collections::{BTreeMap, BTreeSet};

use pika_cloud::{
    IncusRuntimePlan, InstanceType, RuntimeIdentity, RuntimeIncus, RuntimeMount, RuntimeSpec,
    mount_device_name,
};
use serde_json::json;

fn sample() -> RuntimeSpec {
    let path = jericho_testkit::crate_dir!().join("tests/fixtures/runtime-spec.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn spec() -> RuntimeSpec {
    RuntimeSpec::new(RuntimeIdentity::named("guest-1"), RuntimeIncus::new("project", "profile", "image/dev"))
}

#[test]
fn the_sample_spec_becomes_the_sample_plan() {
    let path = jericho_testkit::crate_dir!().join("tests/fixtures/incus-runtime-plan.json");
    let expected: IncusRuntimePlan = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(sample().plan().unwrap(), expected);
    assert_eq!(IncusRuntimePlan::try_from(&sample()).unwrap(), expected);
}

#[test]
fn limits_are_told_only_when_set() {
    let config = |spec: RuntimeSpec| serde_json::to_value(spec.plan().unwrap().config()).unwrap();
    assert_eq!(config(sample()), json!({ "limits.cpu": "2", "limits.memory": "4096MiB" }));
    assert_eq!(config(spec()), json!({}));
    assert_eq!(config(spec().with_cpus(255)), json!({ "limits.cpu": "255" }));
    assert_eq!(config(spec().with_memory_mib(1)), json!({ "limits.memory": "1MiB" }));
}

#[test]
fn a_read_only_mount_has_a_bus_in_a_virtual_machine_and_none_in_a_container() {
    let devices = |instance| serde_json::to_value(sample().plan().unwrap().devices(instance)).unwrap();
    let source = "/var/tmp/jerichoci-prepared-output/snapshots/abc123/snapshot";
    assert_eq!(
        devices(InstanceType::VirtualMachine),
        json!({ "pk-snapsh-e465a5d5": {
            "type": "disk", "source": source, "path": "/workspace/snapshot", "readonly": "true", "io.bus": "virtiofs" } })
    );
    assert_eq!(
        devices(InstanceType::Container),
        json!({ "pk-snapsh-e465a5d5": {
            "type": "disk", "source": source, "path": "/workspace/snapshot", "readonly": "true" } })
    );
}

#[test]
fn a_writable_mount_is_neither_readonly_nor_on_a_bus() {
    let plan = spec().with_mount(RuntimeMount::cache("cargo", "/cargo-home")).plan().unwrap();
    assert_eq!((plan.mounts[0].read_only, plan.mounts[0].io_bus.as_deref()), (false, None));
    let written = serde_json::to_value(&plan.mounts[0]).unwrap();
    assert!(written.get("io_bus").is_none());
    let device: BTreeMap<_, _> = [("type", "disk"), ("source", "cargo"), ("path", "/cargo-home")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    assert_eq!(plan.mounts[0].device(InstanceType::VirtualMachine), device);
    // The mode decides, not the kind.
    let plan = spec().with_mount(RuntimeMount::cache("cargo", "/cargo-home").read_only()).plan().unwrap();
    assert!(plan.mounts[0].read_only);
}

#[test]
fn mounts_that_hash_alike_still_have_a_device_each() {
    let paths = ["/data/x", "/data-x", "/DATA.x", "/data/y"];
    let plan = paths
        .iter()
        .fold(spec(), |spec, path| spec.with_mount(RuntimeMount::cache("c", *path)))
        .plan()
        .unwrap();
    let names: Vec<&str> = plan.mounts.iter().map(|mount| mount.device_name.as_str()).collect();
    let first = mount_device_name(pika_cloud::MountKind::Cache, "c", "/data/x");
    assert_eq!(names[..3], [first.clone(), format!("{first}-2"), format!("{first}-3")]);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(plan.devices(InstanceType::Container).len(), 4);
}

#[test]
fn a_plan_must_say_resources_paths_and_policies() {
    let whole = serde_json::to_value(sample().plan().unwrap()).unwrap();
    let read_without = |key: &str| {
        let mut document = whole.clone();
        document.as_object_mut().unwrap().remove(key).unwrap();
        serde_json::from_value::<IncusRuntimePlan>(document)
    };
    for required in ["identity", "incus", "resources", "paths", "policies"] {
        assert!(read_without(required).is_err(), "{required}");
    }
    for optional in ["mounts", "entry_command", "labels", "metadata"] {
        assert!(read_without(optional).is_ok(), "{optional}");
    }
}

#[test]
fn instance_types_are_spelled_as_incus_does() {
    assert_eq!(serde_json::to_value(InstanceType::VirtualMachine).unwrap(), "virtual-machine");
    assert_eq!(serde_json::to_value(InstanceType::Container).unwrap(), "container");
}
