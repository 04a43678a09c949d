//! Names that other parties compute too: they must never change.

use std::collections::BTreeSet;

use pika_cloud::{MountKind, instance_name, mount_device_name, payload_device_name};
use proptest::prelude::*;

#[test]
fn instance_names_are_a_hash_of_run_and_job() {
    assert_eq!(instance_name("20260401T120000Z-0a1b2c3d", "pika-actionlint"), "jerichoci-1fac30581f5b");
    // The hash of ":" alone, as sha256sum prints it.
    assert_eq!(instance_name("", ""), "jerichoci-e7ac0786668e");
}

#[test]
fn mount_device_names_are_those_of_the_contract() {
    use MountKind::{ArtifactOutput, Cache, PersistentVolume, ReadOnlySnapshot};
    for (kind, source, guest_path, name) in [
        (ReadOnlySnapshot, "/var/tmp/run/snapshot", "/workspace/snapshot", "pk-snapsh-7bc0883f"),
        (PersistentVolume, "customer-state", "/var/lib/pika", "pk-persis-b09b5ac0"),
        (
            ReadOnlySnapshot,
            "/var/tmp/jerichoci-prepared-output/snapshots/abc123/snapshot",
            "/workspace/snapshot",
            "pk-snapsh-e465a5d5",
        ),
        // FNV-1a of "cache--" and "artifact--": both ends cleaned away.
        (Cache, "", "", "pk-cache-cd06a82f"),
        (ArtifactOutput, "///", "-", "pk-artifa-60551625"),
    ] {
        assert_eq!(mount_device_name(kind, source, guest_path), name, "{source:?} {guest_path:?}");
    }
}

#[test]
fn payload_device_names_are_those_of_the_contract() {
    for (kind, mount, name) in [
        ("workspace-build", "workspace_build_root", "pk-workspac-51fa7376"),
        ("staged_linux_workspace_deps_v1", "workspace_deps_root", "pk-staged-l-abd7f13d"),
        ("staged_linux_workspace_build_v1", "workspace_build_root", "pk-staged-l-47d99971"),
        ("deps", "root", "pk-deps-root"),
        ("DEPS_", "/Root/", "pk-deps-root"),
        // 20 characters stay, 21 are hashed.
        ("abcdefgh", "12345678", "pk-abcdefgh-12345678"),
        ("é", "ß", "pk--"),
    ] {
        assert_eq!(payload_device_name(kind, mount), name, "{kind:?} {mount:?}");
    }
    assert_eq!(payload_device_name("abcdefgh", "123456789").len(), "pk-abcdefgh-".len() + 8);
}

#[test]
fn a_character_outside_ascii_is_one_dash_however_many_bytes_it_has() {
    let name = |path: &str| mount_device_name(MountKind::Cache, "s", path);
    assert_eq!(name("/a/é/b"), name("/a/-/b"));
    assert_eq!(name("/a/🦀/b"), name("/a/_/b"));
    assert_eq!(name("/A/B"), name("/a/b"));
    assert_eq!(name("/\u{212a}"), name("/"), "the Kelvin sign is no ASCII letter");
    assert_ne!(name("/a//b"), name("/a/b"), "runs of dashes are kept");
    assert_ne!(name("/a/b"), name("/a/c"));
}

proptest! {
    #[test]
    fn any_text_gives_a_name_that_incus_takes(source in any::<String>(), path in any::<String>()) {
        let mut names = BTreeSet::new();
        for kind in [
            MountKind::PersistentVolume, MountKind::ReadOnlySnapshot, MountKind::ArtifactOutput, MountKind::Cache,
        ] {
            names.insert(mount_device_name(kind, &source, &path));
        }
        prop_assert_eq!(names.len(), 4);
        names.insert(payload_device_name(&source, &path));
        names.insert(instance_name(&source, &path));
        for name in names {
            prop_assert!(name.len() <= 22, "{}", name);
            prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{}", name);
        }
    }
}
