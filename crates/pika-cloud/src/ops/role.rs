//! The guest role behind a name, with the error that operations have.

use pika_incus_guest_role::IncusGuestRole;

use super::error::OpsError;

/// The guest role of a name: `managed-openclaw` or `jericho-runner`.
///
/// # Errors
///
/// [`OpsError::RoleUnknown`].
pub fn role(name: &str) -> Result<IncusGuestRole, OpsError> {
    name.parse().map_err(|_| OpsError::RoleUnknown { role: name.to_owned() })
}
