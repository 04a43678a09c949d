//! Guest role names and what each implies.
//!
//! A guest role says which image an Incus guest needs. The word is part of job definitions,
//! records and settings, so the spellings here never change.
//!
//! ```
//! use pika_incus_guest_role::IncusGuestRole;
//!
//! let role: IncusGuestRole = "jericho-runner".parse()?;
//! assert_eq!(role.image_alias(), "jericho/dev");
//! assert_eq!(serde_json::to_string(&role)?, r#""jericho-runner""#);
//! // The spelling of older records is still read; it is never written.
//! assert_eq!(serde_json::from_str::<IncusGuestRole>(r#""pikaci-runner""#)?, role);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod parse;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use parse::UnknownRole;

/// Which image a guest needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncusGuestRole {
    /// A managed agent's machine: `managed-openclaw`.
    ManagedOpenclaw,
    /// A CI job's machine: `jericho-runner`; `pikaci-runner` is read as the same.
    #[serde(alias = "pikaci-runner")]
    JerichoRunner,
}

impl IncusGuestRole {
    /// Every role, in the order in which words for people list them.
    pub const ALL: [Self; 2] = [Self::ManagedOpenclaw, Self::JerichoRunner];

    /// The role's word, as records and settings spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ManagedOpenclaw => "managed-openclaw",
            Self::JerichoRunner => "jericho-runner",
        }
    }

    /// The Incus image alias a guest of this role is created from, unless a setting names another.
    pub const fn image_alias(self) -> &'static str {
        match self {
            Self::ManagedOpenclaw => "pika-agent/dev",
            Self::JerichoRunner => "jericho/dev",
        }
    }

    /// The flake's package attributes that build the image: the main one first, then its other name.
    pub const fn flake_attributes(self) -> [&'static str; 2] {
        match self {
            Self::ManagedOpenclaw => ["managed-openclaw-incus-image", "pika-agent-incus-dev-image"],
            Self::JerichoRunner => ["pikaci-runner-incus-image", "pikaci-incus-dev-image"],
        }
    }

    /// The flake's package attribute that builds the image.
    pub const fn flake_attribute(self) -> &'static str {
        self.flake_attributes()[0]
    }

    /// The name, and variant, the built image carries in its metadata.
    pub const fn image_name(self) -> &'static str {
        match self {
            Self::ManagedOpenclaw => "pika-agent-incus-dev",
            Self::JerichoRunner => "pikaci-incus-dev",
        }
    }

    /// Size of the image's root disk, in MiB.
    pub const fn disk_size_mib(self) -> u32 {
        match self {
            Self::ManagedOpenclaw => 8192,
            Self::JerichoRunner => 12288,
        }
    }
}

impl fmt::Display for IncusGuestRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
