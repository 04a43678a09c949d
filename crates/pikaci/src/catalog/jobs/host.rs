//! Jobs that are processes of this machine. Those of the Apple hosts are here: they drive a Mac from afar.

use jerichoci::model::demands::WorkspaceGit;

use crate::catalog::rows::Command::Host;
use crate::catalog::rows::{JobRow, Place};

/// Checks on a Mac itself. Their wrapper says where phases are written and which binaries are built already, and
/// asks git for the tree it is in.
const FOLLOWUP: JobRow = JobRow {
    id: "",
    description: "",
    timeout_secs: 1800,
    place: Place::Host { nix_shell: Some("default") },
    writable_workspace: false,
    command: Host("false"),
    env: &[],
    pass_env: &["JERICHOCI_APPLE_PHASE_REPORT", "JERICHOCI_APPLE_RUST_PREPARED_MANIFEST", "OPENCLAW_DIR"],
    git: WorkspaceGit::Shallow,
};

/// Recipes on a Mac over SSH. The script is told by variables where the Mac is, and sends it a bundle of the
/// commit: that takes the whole history.
const APPLE: JobRow = JobRow {
    timeout_secs: 3600,
    pass_env: &[
        "JERICHOCI_APPLE_IOS_XCFRAMEWORK_RESULT",
        "JERICHOCI_APPLE_KEEP_PREPARED",
        "JERICHOCI_APPLE_KEEP_RUNS",
        "JERICHOCI_APPLE_LOCK_TIMEOUT_SEC",
        "JERICHOCI_APPLE_REMOTE_ROOT",
        "JERICHOCI_APPLE_SSH_BINARY",
        "JERICHOCI_APPLE_SSH_HOST",
        "JERICHOCI_APPLE_SSH_KEY_FILE",
        "JERICHOCI_APPLE_SSH_USER",
        "JERICHOCI_IOS_UI_TEST_USE_PREPARED",
    ],
    git: WorkspaceGit::Full,
    ..FOLLOWUP
};

/// Recipes that enter their dev shell themselves. Without a repository the flake is that of the plain directory.
const NIGHTLY: JobRow = JobRow {
    timeout_secs: 14400,
    place: Place::Host { nix_shell: None },
    pass_env: &["OPENCLAW_DIR"],
    git: WorkspaceGit::None,
    ..FOLLOWUP
};

/// `pikachat-clippy`.
pub(in crate::catalog) static PIKACHAT_CLIPPY: JobRow = JobRow {
    id: "pikachat-clippy",
    description: "pikachat clippy on host",
    timeout_secs: 1800,
    command: Host(
        "./scripts/apple-host-record-phase pikachat-followup.pikachat-clippy rust-live-clippy -- cargo clippy -p pikachat -- -D warnings",
    ),
    ..FOLLOWUP
};

/// `pikachat-sidecar-clippy`.
pub(in crate::catalog) static PIKACHAT_SIDECAR_CLIPPY: JobRow = JobRow {
    id: "pikachat-sidecar-clippy",
    description: "sidecar clippy on host",
    timeout_secs: 1800,
    command: Host(
        "./scripts/apple-host-record-phase pikachat-followup.pikachat-sidecar-clippy rust-live-clippy -- cargo clippy -p pikachat-sidecar -- -D warnings",
    ),
    ..FOLLOWUP
};

/// `pikachat-ui-e2e-local-desktop`.
pub(in crate::catalog) static PIKACHAT_UI_E2E_LOCAL_DESKTOP: JobRow = JobRow {
    id: "pikachat-ui-e2e-local-desktop",
    description: "desktop UI selector on host",
    timeout_secs: 1800,
    command: Host(include_str!("../scripts/pikachat-ui-e2e-local-desktop.sh")),
    ..FOLLOWUP
};

/// `pikachat-openclaw-channel-behavior`.
pub(in crate::catalog) static PIKACHAT_OPENCLAW_CHANNEL_BEHAVIOR: JobRow = JobRow {
    id: "pikachat-openclaw-channel-behavior",
    description: "one TypeScript test on host",
    timeout_secs: 1800,
    command: Host(
        "./scripts/apple-host-record-phase pikachat-followup.pikachat-openclaw-channel-behavior js-live -- npx --yes tsx --test pikachat-openclaw/openclaw/extensions/pikachat-openclaw/src/channel-behavior.test.ts",
    ),
    ..FOLLOWUP
};

/// `apple_host_sanity`.
pub(in crate::catalog) static APPLE_HOST_SANITY: JobRow = JobRow {
    id: "apple_host_sanity",
    description: "remote Mac recipe",
    timeout_secs: 3600,
    command: Host("./scripts/pikaci-apple-remote.sh run --just-recipe apple-host-sanity"),
    ..APPLE
};

/// `apple_desktop_compile`.
pub(in crate::catalog) static APPLE_DESKTOP_COMPILE: JobRow = JobRow {
    id: "apple_desktop_compile",
    description: "remote Mac recipe",
    timeout_secs: 3600,
    command: Host("./scripts/pikaci-apple-remote.sh run --just-recipe apple-host-desktop-compile"),
    ..APPLE
};

/// `apple_ios_compile`.
pub(in crate::catalog) static APPLE_IOS_COMPILE: JobRow = JobRow {
    id: "apple_ios_compile",
    description: "remote Mac recipe",
    timeout_secs: 3600,
    command: Host("./scripts/pikaci-apple-remote.sh run --just-recipe apple-host-ios-compile"),
    ..APPLE
};

/// `nightly_apple_host_bundle`.
pub(in crate::catalog) static NIGHTLY_APPLE_HOST_BUNDLE: JobRow = JobRow {
    id: "nightly_apple_host_bundle",
    description: "remote Mac recipe",
    timeout_secs: 14400,
    command: Host("./scripts/pikaci-apple-remote.sh run --just-recipe apple-host-bundle"),
    ..APPLE
};

/// `nightly_linux`.
pub(in crate::catalog) static NIGHTLY_LINUX: JobRow = JobRow {
    id: "nightly_linux",
    description: "just recipe",
    timeout_secs: 14400,
    command: Host("nix develop .#default -c just rmp_tools::rmp-nightly-linux"),
    ..NIGHTLY
};

/// `nightly_pika`.
pub(in crate::catalog) static NIGHTLY_PIKA: JobRow = JobRow {
    id: "nightly_pika",
    description: "just recipe",
    timeout_secs: 14400,
    command: Host("nix develop .#default -c just checks::nightly-pika-e2e"),
    ..NIGHTLY
};

/// `nightly_pikachat`.
pub(in crate::catalog) static NIGHTLY_PIKACHAT: JobRow = JobRow {
    id: "nightly_pikachat",
    description: "just recipe",
    timeout_secs: 14400,
    command: Host("nix develop .#default -c just checks::nightly-pikachat"),
    ..NIGHTLY
};

/// `nightly_pika_ui_android`.
pub(in crate::catalog) static NIGHTLY_PIKA_UI_ANDROID: JobRow = JobRow {
    id: "nightly_pika_ui_android",
    description: "script",
    timeout_secs: 14400,
    command: Host("./scripts/forge-nightly-pika-ui-android.sh"),
    ..NIGHTLY
};
