//! Names of instances and disk devices, derived so that every party computes the same one.
//!
//! All of them fit Incus's limits: at most 22 characters, ASCII letters, digits and `-`.

use sha2::{Digest, Sha256};

use crate::spec::MountKind;

/// Longest payload device name that is used as it is, in characters.
const PAYLOAD_NAME_LIMIT: usize = 20;

/// Name of the instance of one job of one run: `jerichoci-` and 12 hexadecimal digits.
///
/// ```
/// use pika_cloud::instance_name;
///
/// assert_eq!(instance_name("20260401T120000Z-0a1b2c3d", "pika-actionlint"), "jerichoci-1fac30581f5b");
/// ```
pub fn instance_name(run_id: &str, job_id: &str) -> String {
    format!("jerichoci-{}", sha256_prefix(&format!("{run_id}:{job_id}"), 6))
}

/// Device name of a mount of a runtime spec: `pk-`, up to 6 letters of its kind, `-`, 8
/// hexadecimal digits of a hash over kind, source and guest path.
///
/// ```
/// use pika_cloud::{MountKind, mount_device_name};
///
/// let name = mount_device_name(MountKind::PersistentVolume, "customer-state", "/var/lib/pika");
/// assert_eq!(name, "pk-persis-b09b5ac0");
/// ```
pub fn mount_device_name(kind: MountKind, source: &str, guest_path: &str) -> String {
    let label = kind.label();
    let seed = format!("{label}-{}-{}", clean(source), clean(guest_path));
    let [.., a, b, c, d] = fnv1a_64(seed.as_bytes()).to_be_bytes();
    format!("pk-{}-{:08x}", prefix(label, 6), u32::from_be_bytes([a, b, c, d]))
}

/// Device name of a mount of a payload manifest: `pk-<kind>-<mount>` when that is at most 20
/// characters, else `pk-`, 8 characters of the kind, `-`, 8 hexadecimal digits of a hash.
///
/// ```
/// use pika_cloud::payload_device_name;
///
/// assert_eq!(payload_device_name("deps", "root"), "pk-deps-root");
/// assert_eq!(payload_device_name("workspace-build", "workspace_build_root"), "pk-workspac-51fa7376");
/// ```
pub fn payload_device_name(manifest_kind: &str, mount_name: &str) -> String {
    let kind = clean(manifest_kind);
    let candidate = format!("pk-{kind}-{}", clean(mount_name));
    if candidate.len() <= PAYLOAD_NAME_LIMIT {
        return candidate;
    }
    format!("pk-{}-{}", prefix(&kind, 8), sha256_prefix(&candidate, 4))
}

/// ASCII letters lowered, digits kept, every other character a `-`; none at either end.
fn clean(text: &str) -> String {
    let dashed: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    dashed.trim_matches('-').to_owned()
}

/// The first `limit` characters of ASCII text.
fn prefix(text: &str, limit: usize) -> &str {
    text.get(..limit).unwrap_or(text)
}

fn sha256_prefix(text: &str, bytes: usize) -> String {
    Sha256::digest(text.as_bytes()).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

fn fnv1a_64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
