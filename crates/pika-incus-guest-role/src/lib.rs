//! Guest role names and what each implies.

use serde::{Deserialize, Serialize};

/// Which image a guest needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncusGuestRole {
    /// A managed agent.
    ManagedOpenclaw,
    /// A CI job.
    #[serde(alias = "pikaci-runner")]
    JerichoRunner,
}
