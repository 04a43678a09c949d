//! Jobs of macOS VMs.

use jerichoci::model::demands::WorkspaceGit;

use crate::catalog::rows::Command::Guest;
use crate::catalog::rows::{JobRow, Place};

const TART: JobRow = JobRow {
    id: "",
    description: "",
    timeout_secs: 7200,
    place: Place::Tart { mount_host_rust_toolchain: false },
    writable_workspace: true,
    command: Guest("false"),
    env: &[],
    pass_env: &["PIKA_IOS_BUNDLE_ID", "PIKA_IOS_URL_SCHEME"],
    git: WorkspaceGit::None,
};

/// `tart-beachhead`.
pub(in crate::catalog) static TART_BEACHHEAD: JobRow = JobRow {
    id: "tart-beachhead",
    description: "single XCTest case",
    timeout_secs: 7200,
    place: Place::Tart { mount_host_rust_toolchain: true },
    writable_workspace: true,
    command: Guest(include_str!("../scripts/ios-test.sh")),
    env: &[
        ("PIKA_IOS_ONLY_TESTING", "PikaTests/AgentTests/testAgentButtonStateReflectsBusyFlag"),
        ("PIKA_IOS_SKIP_TESTING", "PikaUITests"),
    ],
    ..TART
};

/// `tart-env-probe`.
pub(in crate::catalog) static TART_ENV_PROBE: JobRow = JobRow {
    id: "tart-env-probe",
    description: "tool versions in macOS guest",
    timeout_secs: 1800,
    place: Place::Tart { mount_host_rust_toolchain: true },
    writable_workspace: false,
    command: Guest(include_str!("../scripts/tart-env-probe.sh")),
    ..TART
};

/// `tart-ios-agent-button-state-test`.
pub(in crate::catalog) static TART_IOS_AGENT_BUTTON_STATE_TEST: JobRow = JobRow {
    id: "tart-ios-agent-button-state-test",
    description: "single XCTest case",
    timeout_secs: 7200,
    place: Place::Tart { mount_host_rust_toolchain: true },
    writable_workspace: true,
    command: Guest(include_str!("../scripts/ios-test.sh")),
    env: &[
        ("PIKA_IOS_ONLY_TESTING", "PikaTests/AgentTests/testAgentButtonStateReflectsBusyFlag"),
        ("PIKA_IOS_SKIP_TESTING", "PikaUITests"),
    ],
    ..TART
};

/// `tart-ios-agent-tests`.
pub(in crate::catalog) static TART_IOS_AGENT_TESTS: JobRow = JobRow {
    id: "tart-ios-agent-tests",
    description: "one XCTest suite",
    timeout_secs: 7200,
    place: Place::Tart { mount_host_rust_toolchain: false },
    writable_workspace: true,
    command: Guest(include_str!("../scripts/ios-test.sh")),
    env: &[
        ("PIKA_IOS_ONLY_TESTING", "PikaTests/AgentTests"),
        ("PIKA_IOS_SKIP_TESTING", "PikaUITests"),
        ("PIKA_IOS_SUITE_ARTIFACTS", "1"),
    ],
    ..TART
};

/// `tart-ios-app-manager-tests`.
pub(in crate::catalog) static TART_IOS_APP_MANAGER_TESTS: JobRow = JobRow {
    id: "tart-ios-app-manager-tests",
    description: "one XCTest suite",
    timeout_secs: 7200,
    place: Place::Tart { mount_host_rust_toolchain: false },
    writable_workspace: true,
    command: Guest(include_str!("../scripts/ios-test.sh")),
    env: &[
        ("PIKA_IOS_ONLY_TESTING", "PikaTests/AppManagerTests"),
        ("PIKA_IOS_SKIP_TESTING", "PikaUITests"),
        ("PIKA_IOS_SUITE_ARTIFACTS", "1"),
    ],
    ..TART
};

/// `tart-ios-chat-deeplink-tests`.
pub(in crate::catalog) static TART_IOS_CHAT_DEEPLINK_TESTS: JobRow = JobRow {
    id: "tart-ios-chat-deeplink-tests",
    description: "one XCTest suite",
    timeout_secs: 7200,
    place: Place::Tart { mount_host_rust_toolchain: false },
    writable_workspace: true,
    command: Guest(include_str!("../scripts/ios-test.sh")),
    env: &[
        ("PIKA_IOS_ONLY_TESTING", "PikaTests/ChatDeepLinkTests"),
        ("PIKA_IOS_SKIP_TESTING", "PikaUITests"),
        ("PIKA_IOS_SUITE_ARTIFACTS", "1"),
    ],
    ..TART
};

/// `tart-ios-keychain-tests`.
pub(in crate::catalog) static TART_IOS_KEYCHAIN_TESTS: JobRow = JobRow {
    id: "tart-ios-keychain-tests",
    description: "one XCTest suite",
    timeout_secs: 7200,
    place: Place::Tart { mount_host_rust_toolchain: false },
    writable_workspace: true,
    command: Guest(include_str!("../scripts/ios-test.sh")),
    env: &[
        ("PIKA_IOS_ONLY_TESTING", "PikaTests/KeychainNsecStoreTests"),
        ("PIKA_IOS_SKIP_TESTING", "PikaUITests"),
        ("PIKA_IOS_SUITE_ARTIFACTS", "1"),
    ],
    ..TART
};

/// `tart-ios-ui-test`.
pub(in crate::catalog) static TART_IOS_UI_TEST: JobRow = JobRow {
    id: "tart-ios-ui-test",
    description: "UI tests minus three",
    timeout_secs: 7200,
    place: Place::Tart { mount_host_rust_toolchain: false },
    writable_workspace: true,
    command: Guest(include_str!("../scripts/ios-test.sh")),
    env: &[(
        "PIKA_IOS_SKIP_TESTING",
        "PikaUITests/PikaUITests/testE2E_deployedRustBot_pingPong PikaUITests/PikaUITests/testE2E_hypernoteDetailsAndCodeBlock PikaUITests/PikaUITests/testE2E_multiImageGrid",
    )],
    ..TART
};

/// `tart-ios-ui-note-to-self`.
pub(in crate::catalog) static TART_IOS_UI_NOTE_TO_SELF: JobRow = JobRow {
    id: "tart-ios-ui-note-to-self",
    description: "one UI test",
    timeout_secs: 7200,
    place: Place::Tart { mount_host_rust_toolchain: false },
    writable_workspace: true,
    command: Guest(include_str!("../scripts/ios-test.sh")),
    env: &[
        (
            "PIKA_IOS_ONLY_TESTING",
            "PikaUITests/PikaUITests/testCreateAccount_noteToSelf_sendMessage_and_logout",
        ),
        ("PIKA_IOS_SKIP_TESTING", "PikaUITests/PikaUITests/testE2E_deployedRustBot_pingPong"),
    ],
    ..TART
};

/// `tart-desktop-package-tests`.
pub(in crate::catalog) static TART_DESKTOP_PACKAGE_TESTS: JobRow = JobRow {
    id: "tart-desktop-package-tests",
    description: "cargo test in macOS guest",
    timeout_secs: 7200,
    place: Place::Tart { mount_host_rust_toolchain: false },
    writable_workspace: false,
    command: Guest(include_str!("../scripts/tart-desktop-package-tests.sh")),
    ..TART
};
