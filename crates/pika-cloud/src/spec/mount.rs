//! What of its host a guest sees, where, and whether it may write there.

use serde::{Deserialize, Serialize};

/// What a mount is for. It names the device, not the rights: those are the [`MountMode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// State that outlives the guest; the source is a volume.
    PersistentVolume,
    /// A source tree.
    ReadOnlySnapshot,
    /// Where the guest leaves what it made.
    ArtifactOutput,
    /// State that only saves time.
    Cache,
}

impl MountKind {
    /// The word in device names.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::PersistentVolume => "persist",
            Self::ReadOnlySnapshot => "snapshot",
            Self::ArtifactOutput => "artifact",
            Self::Cache => "cache",
        }
    }
}

/// Whether the guest may write to a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountMode {
    /// It may only read.
    ReadOnly,
    /// It may read and write.
    ReadWrite,
}

/// One directory of the host, or volume, made visible in the guest.
///
/// ```
/// # let text = r#"
/// { "kind": "cache", "guest_path": "/cargo-home", "source": "/srv/cargo-home", "mode": "read_write" }
/// # "#;
/// let mount: pika_cloud::RuntimeMount = serde_json::from_str(text)?;
/// assert_eq!(mount, pika_cloud::RuntimeMount::cache("/srv/cargo-home", "/cargo-home"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeMount {
    /// What it is for.
    pub kind: MountKind,
    /// Absolute path in the guest.
    pub guest_path: String,
    /// Path on the host, or volume name.
    pub source: String,
    /// Whether the guest may write.
    pub mode: MountMode,
    /// Whether the guest is useless without it. Absent: no.
    #[serde(default)]
    pub required: bool,
}

impl RuntimeMount {
    /// A source tree, read-only.
    pub fn read_only_snapshot(source: impl Into<String>, guest_path: impl Into<String>) -> Self {
        Self::new(MountKind::ReadOnlySnapshot, source.into(), guest_path.into(), MountMode::ReadOnly)
    }

    /// A volume that outlives the guest, writable.
    pub fn persistent_volume(source: impl Into<String>, guest_path: impl Into<String>) -> Self {
        Self::new(MountKind::PersistentVolume, source.into(), guest_path.into(), MountMode::ReadWrite)
    }

    /// A place for what the guest makes, writable.
    pub fn artifact_output(source: impl Into<String>, guest_path: impl Into<String>) -> Self {
        Self::new(MountKind::ArtifactOutput, source.into(), guest_path.into(), MountMode::ReadWrite)
    }

    /// A cache, writable.
    pub fn cache(source: impl Into<String>, guest_path: impl Into<String>) -> Self {
        Self::new(MountKind::Cache, source.into(), guest_path.into(), MountMode::ReadWrite)
    }

    /// The same mount, and the guest is useless without it.
    #[must_use]
    pub fn require(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same mount, and the guest may only read it.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.mode = MountMode::ReadOnly;
        self
    }

    fn new(kind: MountKind, source: String, guest_path: String, mode: MountMode) -> Self {
        Self { kind, guest_path, source, mode, required: false }
    }
}
