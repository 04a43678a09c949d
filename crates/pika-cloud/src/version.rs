//! The schema version of a document, as a type that cannot hold another number.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Schema version `N`: written as the number, and nothing but that number is read.
///
/// ```
/// use pika_cloud::SchemaVersion;
///
/// assert_eq!(serde_json::to_string(&SchemaVersion::<1>)?, "1");
/// assert!(serde_json::from_str::<SchemaVersion<1>>("2").is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SchemaVersion<const N: u32>;

impl<const N: u32> fmt::Debug for SchemaVersion<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchemaVersion({N})")
    }
}

impl<const N: u32> Serialize for SchemaVersion<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(N)
    }
}

impl<'de, const N: u32> Deserialize<'de> for SchemaVersion<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = u64::deserialize(deserializer)?;
        if found == u64::from(N) {
            Ok(Self)
        } else {
            Err(de::Error::custom(format_args!("schema_version {found} is not supported, expected {N}")))
        }
    }
}
