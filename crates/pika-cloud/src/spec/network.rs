//! What a guest reaches.

use serde::{Deserialize, Serialize};

/// What a guest reaches. Without a device it has no network at all.
///
/// ```
/// use pika_cloud::RuntimeNetwork;
///
/// let network: RuntimeNetwork = serde_json::from_str(r#"{ "mode": "on", "network": "incusbr0" }"#)?;
/// assert_eq!(network, RuntimeNetwork::On { network: Some("incusbr0".to_owned()) });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum RuntimeNetwork {
    /// What its profiles give it.
    #[default]
    Profile,
    /// Nothing, whatever its profiles give it.
    Off,
    /// A network.
    On {
        /// A network of its project. Absent: what its profiles give it, and where they give none, the first
        /// managed bridge that the project sees.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<String>,
    },
}

impl RuntimeNetwork {
    /// Whether this is the default.
    #[must_use]
    pub const fn is_profile(&self) -> bool {
        matches!(self, Self::Profile)
    }
}
