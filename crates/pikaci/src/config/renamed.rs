//! Variables that are not read any more: removed ones are refused, renamed ones are named.

use jericho_host::Environment;

use crate::error::CliError;

/// Selected which jobs run in Incus; all that ask for it do.
const REMOVED: &str = "JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES";

/// Names behind `JERICHOCI_` that were behind `PIKACI_` before.
const RENAMED: &[&str] = &[
    "ANDROID_AAPT2_OVERRIDE",
    "APPLE_IOS_XCFRAMEWORK_RESULT",
    "APPLE_JUST_RECIPE",
    "APPLE_KEEP_PREPARED",
    "APPLE_KEEP_RUNS",
    "APPLE_LOCK_TIMEOUT_SEC",
    "APPLE_PHASE_REPORT",
    "APPLE_PREPARED_PROFILE",
    "APPLE_REMOTE_ROOT",
    "APPLE_RUST_PREPARED_MANIFEST",
    "APPLE_SSH_BINARY",
    "APPLE_SSH_HOST",
    "APPLE_SSH_KEY",
    "APPLE_SSH_KEY_FILE",
    "APPLE_SSH_USER",
    "APPLE_TAILSCALE_AUTHKEY",
    "BASE_REF",
    "BIN",
    "HOST_LOCAL_NIX_SHELL",
    "IOS_UI_TEST_USE_PREPARED",
    "MAX_CONCURRENT_EXECUTES",
    "PACKAGE_ROOT",
    "PREPARED_OUTPUT_CONSUMER",
    "PREPARED_OUTPUT_FULFILL_BINARY",
    "PREPARED_OUTPUT_FULFILL_INVOCATION",
    "PREPARED_OUTPUT_FULFILL_LAUNCHER_BINARY",
    "PREPARED_OUTPUT_FULFILL_LAUNCHER_TRANSPORT",
    "PREPARED_OUTPUT_FULFILL_SSH_BINARY",
    "PREPARED_OUTPUT_FULFILL_SSH_HOST",
    "PREPARED_OUTPUT_FULFILL_SSH_NIX_BINARY",
    "PREPARED_OUTPUT_FULFILL_SSH_REMOTE_HELPER_BINARY",
    "PREPARED_OUTPUT_FULFILL_SSH_REMOTE_LAUNCHER_BINARY",
    "PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR",
    "PREPARED_OUTPUT_FULFILL_TRANSPORT_BINARY",
    "PREPARED_OUTPUT_FULFILL_WRAPPER_BINARY",
    "PRE_MERGE_PIKA_RUST_SUBPROCESS_FULFILL",
    "REMOTE_LINUX_VM_BACKEND",
    "REMOTE_LINUX_VM_INCUS_GUEST_ROLE",
    "REMOTE_LINUX_VM_INCUS_IMAGE_ALIAS",
    "REMOTE_LINUX_VM_INCUS_PROFILE",
    "REMOTE_LINUX_VM_INCUS_PROJECT",
    "STATE_ROOT",
    "TART_BASE_VM",
    "TART_DEVELOPER_DIR",
    "TART_USE_HOST_XCODE",
    "TART_XCODE_APP",
    "TOOL_RESOLUTION",
    "USE_PATH_TOOLS",
    "X86_64_REMOTE_INSTALLABLE",
    "X86_64_REMOTE_STORE_URI",
];

/// Fails when a removed variable still asks for something.
pub(super) fn refuse_removed(environment: &Environment) -> Result<(), CliError> {
    match environment.get(REMOVED) {
        Some(value) if !value.to_string_lossy().trim().is_empty() => {
            Err(CliError::usage(format!("{REMOVED} is set, and was removed: every Incus job runs in Incus"))
                .hint(format!("unset {REMOVED}")))
        }
        _ => Ok(()),
    }
}

/// One line for each variable that is set under its old name.
pub(super) fn warnings(environment: &Environment) -> Vec<String> {
    environment
        .iter()
        .filter_map(|(name, _)| name.to_str()?.strip_prefix("PIKACI_"))
        .filter(|name| RENAMED.contains(name))
        .map(|name| format!("PIKACI_{name} is not read; its name is JERICHOCI_{name} now"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_removed_selector_fails_unless_it_is_blank() {
        for (value, good) in [("", true), ("  ", true), ("a", false)] {
            assert_eq!(refuse_removed(&[(REMOVED, value)].into_iter().collect()).is_ok(), good, "{value:?}");
        }
    }

    #[test]
    fn an_old_name_is_told_its_new_one() {
        let environment = [("PIKACI_STATE_ROOT", "/x"), ("PIKACI_OTHER", "1"), ("JERICHOCI_BIN", "y")];
        assert_eq!(
            warnings(&environment.into_iter().collect()),
            ["PIKACI_STATE_ROOT is not read; its name is JERICHOCI_STATE_ROOT now"]
        );
    }
}
