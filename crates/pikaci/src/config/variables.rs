//! Names of environment variables.

pub(crate) const STATE_ROOT: &str = "JERICHOCI_STATE_ROOT";
pub(crate) const MAX_CONCURRENT_EXECUTES: &str = "JERICHOCI_MAX_CONCURRENT_EXECUTES";
pub(crate) const HOST_LOCAL_NIX_SHELL: &str = "JERICHOCI_HOST_LOCAL_NIX_SHELL";
pub(crate) const BASE_REF: &str = "JERICHOCI_BASE_REF";
/// The user's file.
pub(crate) const CONFIG: &str = "JERICHOCI_CONFIG";
/// Whether what runs may come from somebody else.
pub(crate) const UNTRUSTED: &str = "JERICHOCI_UNTRUSTED";
pub(crate) const INCUS_BACKEND: &str = "JERICHOCI_REMOTE_LINUX_VM_BACKEND";
pub(crate) const INCUS_GUEST_ROLE: &str = "JERICHOCI_REMOTE_LINUX_VM_INCUS_GUEST_ROLE";
pub(crate) const INCUS_PROJECT: &str = "JERICHOCI_REMOTE_LINUX_VM_INCUS_PROJECT";
pub(crate) const INCUS_PROFILE: &str = "JERICHOCI_REMOTE_LINUX_VM_INCUS_PROFILE";
pub(crate) const INCUS_IMAGE_ALIAS: &str = "JERICHOCI_REMOTE_LINUX_VM_INCUS_IMAGE_ALIAS";
pub(crate) const SSH_BINARY: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY";
pub(crate) const SSH_NIX_BINARY: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_NIX_BINARY";
/// Stands for the build host that is built in.
pub(crate) const SSH_HOST: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST";
pub(crate) const REMOTE_WORK_DIR: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR";
pub(super) const CONSUMER: &str = "JERICHOCI_PREPARED_OUTPUT_CONSUMER";
pub(super) const SUBPROCESS: &str = "JERICHOCI_PRE_MERGE_PIKA_RUST_SUBPROCESS_FULFILL";
pub(super) const INVOCATION: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_INVOCATION";
pub(super) const LAUNCHER_TRANSPORT: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_LAUNCHER_TRANSPORT";
pub(super) const HELPER_BINARY: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_BINARY";
pub(super) const LAUNCHER_BINARY: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_LAUNCHER_BINARY";
/// The older name of the former.
pub(super) const WRAPPER_BINARY: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_WRAPPER_BINARY";
pub(super) const TRANSPORT_BINARY: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_TRANSPORT_BINARY";
pub(super) const REMOTE_LAUNCHER_BINARY: &str =
    "JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_LAUNCHER_BINARY";
pub(super) const REMOTE_HELPER_BINARY: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_HELPER_BINARY";
pub(crate) const RECONNECT_SECS: &str = "JERICHOCI_RECONNECT_SECS";
pub(crate) const CACHE_WAIT_SECS: &str = "JERICHOCI_CACHE_WAIT_SECS";
pub(crate) const GUEST_RUNNER_DIR: &str = "JERICHOCI_GUEST_RUNNER_DIR";
/// Read by the client of Incus as well: the socket, else the directory that has it.
pub(super) const INCUS_SOCKET: &str = "INCUS_SOCKET";
pub(super) const INCUS_DIR: &str = "INCUS_DIR";
/// The two of them, for people.
pub(crate) const INCUS_SOCKETS: &str = "INCUS_SOCKET or INCUS_DIR";
/// Set by most machines that run checks of others.
pub(super) const CI: &str = "CI";

/// Once selected which jobs run in Incus.
pub(super) const REMOVED: &str = "JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES";

/// Variables that tie git to one repository, see `git rev-parse --local-env-vars`. Those that
/// only carry configuration are left.
pub(super) const REPOSITORY: [&str; 11] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// What stands behind `JERICHOCI_` in the variables that once began with `PIKACI_`.
const RENAMED: [&str; 40] = [
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
    "STATE_ROOT",
    "TART_BASE_VM",
    "TART_DEVELOPER_DIR",
    "USE_PATH_TOOLS",
];

/// More of them, by their common beginnings.
const RENAMED_FAMILIES: [&str; 3] = ["REMOTE_LINUX_VM_INCUS_", "TART_", "X86_64_REMOTE_"];

/// The name that a variable of the past has now.
pub(super) fn successor(name: &str) -> Option<String> {
    let rest = name.strip_prefix("PIKACI_")?;
    let known = RENAMED.contains(&rest) || RENAMED_FAMILIES.iter().any(|family| rest.starts_with(family));
    known.then(|| format!("JERICHOCI_{rest}"))
}
