//! What to tell of an operation on Incus that failed: the thing it is about, and the way out.

use pika_cloud::ops::OpsError;
use pika_incus_guest_role::IncusGuestRole;

use super::spec::Image;
use crate::causes::with_causes;
use crate::config::IncusConfig;

/// The error that matters, and of an instance that is still there although it should not: its name, and why.
pub(super) fn left_behind(error: OpsError) -> (OpsError, Option<(String, String)>) {
    match error {
        OpsError::LeftBehind { instance, cleanup, error } => {
            (*error, Some((instance, with_causes(&*cleanup))))
        }
        other => (other, None),
    }
}

/// One line for people, which ends with what they can do.
pub(super) fn explain(error: &OpsError, config: &IncusConfig, image: Option<&Image>) -> String {
    let what = with_causes(error);
    let IncusConfig { project, profile, .. } = config;
    let hint = match error {
        OpsError::ImageMissing { alias, .. } => {
            let role = image.and_then(|image| image.role);
            let has_role = role.is_some();
            let role = role.unwrap_or(IncusGuestRole::JerichoRunner);
            let mut hint = format!(
                "build it: scripts/incus-role-image.sh --role {role} build-import --project {project}"
            );
            if !has_role {
                hint.push_str(&format!(" --alias {alias}"));
            }
            hint
        }
        OpsError::ProjectMissing { .. } => format!(
            "make it: incus project create {project}, or name another one in \
             JERICHOCI_REMOTE_LINUX_VM_INCUS_PROJECT"
        ),
        OpsError::ProfileMissing { .. } => format!(
            "make it: incus profile create {profile} --project {project}, or name another one in \
             JERICHOCI_REMOTE_LINUX_VM_INCUS_PROFILE"
        ),
        OpsError::NoRights { .. } => {
            "let this user in: sudo usermod -aG incus-admin $USER, and log in again".to_owned()
        }
        OpsError::Unreachable { .. } => {
            "start it: sudo systemctl start incus; `pikaci doctor` says more".to_owned()
        }
        OpsError::RoleUnknown { .. } => "name a role that there is".to_owned(),
        OpsError::Refused { reason, .. } if reason.to_lowercase().contains("disk") => format!(
            "let the project see the directory: incus project set {project} \
             restricted.devices.disk.paths=DIRECTORY"
        ),
        OpsError::Refused { .. } => format!("see what it allows: incus project show {project}"),
        _ => return what,
    };
    format!("{what}; {hint}")
}
