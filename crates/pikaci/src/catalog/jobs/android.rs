//! Jobs with an Android emulator, in a guest of the build host.

use jerichoci::model::demands::WorkspaceGit;

use crate::catalog::rows::Command::GuestAsRoot;
use crate::catalog::rows::{JobRow, Place};

/// The guest says by `ANDROID_HOME` and `JAVA_HOME` where its tools are.
const ANDROID: JobRow = JobRow {
    id: "",
    description: "",
    timeout_secs: 7200,
    place: Place::Incus,
    writable_workspace: true,
    command: GuestAsRoot("false"),
    env: &[],
    pass_env: &[],
    git: WorkspaceGit::None,
};

/// `android-sdk-probe`.
pub(in crate::catalog) static ANDROID_SDK_PROBE: JobRow = JobRow {
    id: "android-sdk-probe",
    description: "tool presence check, as root",
    timeout_secs: 3600,
    writable_workspace: true,
    command: GuestAsRoot(include_str!("../scripts/android-sdk-probe.sh")),
    ..ANDROID
};

/// `android-nostr-connect-intent-test`.
pub(in crate::catalog) static ANDROID_NOSTR_CONNECT_INTENT_TEST: JobRow = JobRow {
    id: "android-nostr-connect-intent-test",
    description: "one instrumentation class, as root",
    timeout_secs: 7200,
    writable_workspace: true,
    command: GuestAsRoot(include_str!("../scripts/android-nostr-connect-intent-test.sh")),
    env: &[
        ("PIKA_RUST_PROFILE", "debug"),
        ("PIKA_ANDROID_ABI", "arm64-v8a"),
        ("PIKA_ANDROID_TEST_CLASS", "com.pika.app.NostrConnectIntentTest"),
        ("PIKA_ANDROID_FORCE_GUI", "0"),
        ("PIKA_ANDROID_EMULATOR_ARGS", "-no-window -no-boot-anim -accel off"),
    ],
    ..ANDROID
};
