//! Staged jobs: each runs the wrapper of its lane in a guest of the build host. The command of a row is what the
//! wrapper stands for, for people and for a machine without prepared outputs.

use jerichoci::model::demands::WorkspaceGit;

use crate::catalog::rows::Command::{
    ExactCargoTest, FilteredCargoTests, Guest, PackageTests, PackageUnitTests,
};
use crate::catalog::rows::{JobRow, Place};
use crate::catalog::staged::PikaStagedLinuxLane as Lane;

/// Wrappers bring their variables and tools along, and need no repository.
const STAGED: JobRow = JobRow {
    id: "",
    description: "",
    timeout_secs: 1800,
    place: Place::Incus,
    writable_workspace: false,
    command: Guest(DECLARED_ONLY),
    env: &[],
    pass_env: &[],
    git: WorkspaceGit::None,
};

/// What a job says that nothing but its wrapper can run.
const DECLARED_ONLY: &str = "ignored";

/// `pika-cloud-unit`.
pub(in crate::catalog) static PIKA_CLOUD_UNIT: JobRow = JobRow {
    id: "pika-cloud-unit",
    description: "pika-cloud lib unit tests",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::AgentContractsPikaCloudUnit),
    command: PackageUnitTests("pika-cloud"),
    ..STAGED
};

/// `server-agent-api-tests`.
pub(in crate::catalog) static SERVER_AGENT_API_TESTS: JobRow = JobRow {
    id: "server-agent-api-tests",
    description: "pika-server agent_api tests",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::AgentContractsServerAgentApi),
    command: FilteredCargoTests("pika-server", "agent_api::tests"),
    ..STAGED
};

/// `core-agent-nip98-test`.
pub(in crate::catalog) static CORE_AGENT_NIP98_TEST: JobRow = JobRow {
    id: "core-agent-nip98-test",
    description: "one pika_core signing test",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::AgentContractsCoreNip98),
    command: ExactCargoTest(
        "pika_core",
        "core::agent::tests::run_agent_flow_signs_requests_with_nip98_authorization",
    ),
    ..STAGED
};

/// `pika-core-lib-app-flows-tests`.
pub(in crate::catalog) static PIKA_CORE_LIB_APP_FLOWS_TESTS: JobRow = JobRow {
    id: "pika-core-lib-app-flows-tests",
    description: "pika_core lib and app_flows",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::PikaCoreLibAppFlows),
    command: Guest("cargo test -p pika_core --lib --test app_flows -- --nocapture"),
    ..STAGED
};

/// `pika-core-messaging-e2e-tests`.
pub(in crate::catalog) static PIKA_CORE_MESSAGING_E2E_TESTS: JobRow = JobRow {
    id: "pika-core-messaging-e2e-tests",
    description: "pika_core messaging and group profiles",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::PikaCoreMessagingE2e),
    command: Guest("cargo test -p pika_core --test e2e_messaging --test e2e_group_profiles -- --nocapture"),
    ..STAGED
};

/// `pika-server-package-tests`.
pub(in crate::catalog) static PIKA_SERVER_PACKAGE_TESTS: JobRow = JobRow {
    id: "pika-server-package-tests",
    description: "pika-server tests with postgres fixture",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::NotificationsServerPackageTests),
    command: Guest(include_str!("../scripts/pika-server-package-tests.sh")),
    ..STAGED
};

/// `pikachat-package-tests`.
pub(in crate::catalog) static PIKACHAT_PACKAGE_TESTS: JobRow = JobRow {
    id: "pikachat-package-tests",
    description: "pikachat tests",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::PikachatPackageTests),
    command: PackageTests("pikachat"),
    ..STAGED
};

/// `pikachat-sidecar-package-tests`.
pub(in crate::catalog) static PIKACHAT_SIDECAR_PACKAGE_TESTS: JobRow = JobRow {
    id: "pikachat-sidecar-package-tests",
    description: "sidecar tests, TTS fixture on",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::PikachatSidecarPackageTests),
    command: Guest("PIKACHAT_TTS_FIXTURE=1 cargo test -p pikachat-sidecar -- --nocapture"),
    ..STAGED
};

/// `pika-desktop-package-tests`.
pub(in crate::catalog) static PIKA_DESKTOP_PACKAGE_TESTS: JobRow = JobRow {
    id: "pika-desktop-package-tests",
    description: "pika-desktop tests",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::PikachatDesktopPackageTests),
    command: PackageTests("pika-desktop"),
    ..STAGED
};

/// `pikachat-cli-smoke-local`.
pub(in crate::catalog) static PIKACHAT_CLI_SMOKE_LOCAL: JobRow = JobRow {
    id: "pikachat-cli-smoke-local",
    description: "CLI smoke selector",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::PikachatCliSmokeLocal),
    command: Guest(
        "cargo test -p pikahut --test integration_deterministic cli_smoke_local -- --ignored --nocapture",
    ),
    ..STAGED
};

/// `pikachat-post-rebase-invalid-event`.
pub(in crate::catalog) static PIKACHAT_POST_REBASE_INVALID_EVENT: JobRow = JobRow {
    id: "pikachat-post-rebase-invalid-event",
    description: "invalid-event rejection selector",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::PikachatPostRebaseInvalidEvent),
    command: Guest(
        "cargo test -p pikahut --test integration_deterministic post_rebase_invalid_event_rejection_boundary -- --ignored --nocapture",
    ),
    ..STAGED
};

/// `pikachat-post-rebase-logout-session`.
pub(in crate::catalog) static PIKACHAT_POST_REBASE_LOGOUT_SESSION: JobRow = JobRow {
    id: "pikachat-post-rebase-logout-session",
    description: "logout convergence selector",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::PikachatPostRebaseLogoutSession),
    command: Guest(
        "cargo test -p pikahut --test integration_deterministic post_rebase_logout_session_convergence_boundary -- --ignored --nocapture",
    ),
    ..STAGED
};

/// `openclaw-invite-and-chat`.
pub(in crate::catalog) static OPENCLAW_INVITE_AND_CHAT: JobRow = JobRow {
    id: "openclaw-invite-and-chat",
    description: "OpenClaw invite scenario",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::OpenclawInviteAndChat),
    command: Guest(
        "cargo test -p pikahut --test integration_deterministic openclaw_scenario_invite_and_chat -- --ignored --nocapture",
    ),
    ..STAGED
};

/// `openclaw-invite-and-chat-rust-bot`.
pub(in crate::catalog) static OPENCLAW_INVITE_AND_CHAT_RUST_BOT: JobRow = JobRow {
    id: "openclaw-invite-and-chat-rust-bot",
    description: "OpenClaw invite scenario, Rust bot",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::OpenclawInviteAndChatRustBot),
    command: Guest(
        "cargo test -p pikahut --test integration_deterministic openclaw_scenario_invite_and_chat_rust_bot -- --ignored --nocapture",
    ),
    ..STAGED
};

/// `openclaw-invite-and-chat-daemon`.
pub(in crate::catalog) static OPENCLAW_INVITE_AND_CHAT_DAEMON: JobRow = JobRow {
    id: "openclaw-invite-and-chat-daemon",
    description: "OpenClaw invite scenario, daemon",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::OpenclawInviteAndChatDaemon),
    command: Guest(
        "cargo test -p pikahut --test integration_deterministic openclaw_scenario_invite_and_chat_daemon -- --ignored --nocapture",
    ),
    ..STAGED
};

/// `openclaw-audio-echo`.
pub(in crate::catalog) static OPENCLAW_AUDIO_ECHO: JobRow = JobRow {
    id: "openclaw-audio-echo",
    description: "OpenClaw audio scenario",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::OpenclawAudioEcho),
    command: Guest(
        "cargo test -p pikahut --test integration_deterministic openclaw_scenario_audio_echo -- --ignored --nocapture",
    ),
    ..STAGED
};

/// `pikachat-typescript`.
pub(in crate::catalog) static PIKACHAT_TYPESCRIPT: JobRow = JobRow {
    id: "pikachat-typescript",
    description: "TypeScript typecheck and tests",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::PikachatTypescript),
    command: Guest(DECLARED_ONLY),
    ..STAGED
};

/// `pikachat-openclaw-gateway-e2e`.
pub(in crate::catalog) static PIKACHAT_OPENCLAW_GATEWAY_E2E: JobRow = JobRow {
    id: "pikachat-openclaw-gateway-e2e",
    description: "OpenClaw gateway scenario",
    timeout_secs: 3600,
    place: Place::StagedIncus(Lane::OpenclawGatewayE2e),
    command: Guest(DECLARED_ONLY),
    ..STAGED
};

/// `pika-android-test-compile`.
pub(in crate::catalog) static PIKA_ANDROID_TEST_COMPILE: JobRow = JobRow {
    id: "pika-android-test-compile",
    description: "compile Android instrumentation Kotlin",
    timeout_secs: 3600,
    place: Place::StagedIncus(Lane::PikaFollowupAndroidTestCompile),
    command: Guest("cd android && ./gradlew :app:compileDebugAndroidTestKotlin"),
    ..STAGED
};

/// `pikachat-build`.
pub(in crate::catalog) static PIKACHAT_BUILD: JobRow = JobRow {
    id: "pikachat-build",
    description: "build pikachat",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::PikaFollowupPikachatBuild),
    command: Guest("cargo build -p pikachat"),
    ..STAGED
};

/// `pika-desktop-check`.
pub(in crate::catalog) static PIKA_DESKTOP_CHECK: JobRow = JobRow {
    id: "pika-desktop-check",
    description: "check pika-desktop",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::PikaFollowupDesktopCheck),
    command: Guest("just desktop-check"),
    ..STAGED
};

/// `pika-actionlint`.
pub(in crate::catalog) static PIKA_ACTIONLINT: JobRow = JobRow {
    id: "pika-actionlint",
    description: "lint workflows",
    timeout_secs: 600,
    place: Place::StagedIncus(Lane::PikaFollowupActionlint),
    command: Guest("actionlint"),
    ..STAGED
};

/// `pika-doc-contracts`.
pub(in crate::catalog) static PIKA_DOC_CONTRACTS: JobRow = JobRow {
    id: "pika-doc-contracts",
    description: "docs and justfile contracts",
    timeout_secs: 900,
    place: Place::StagedIncus(Lane::PikaFollowupDocContracts),
    command: Guest(
        "npx --yes @justinmoon/agent-tools check-docs && npx --yes @justinmoon/agent-tools check-justfile",
    ),
    ..STAGED
};

/// `pika-rust-deps-hygiene`.
pub(in crate::catalog) static PIKA_RUST_DEPS_HYGIENE: JobRow = JobRow {
    id: "pika-rust-deps-hygiene",
    description: "unused dependencies",
    timeout_secs: 900,
    place: Place::StagedIncus(Lane::PikaFollowupRustDepsHygiene),
    command: Guest("./scripts/check-cargo-machete"),
    ..STAGED
};

/// `pikahut-clippy`.
pub(in crate::catalog) static PIKAHUT_CLIPPY: JobRow = JobRow {
    id: "pikahut-clippy",
    description: "pikahut clippy",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::FixturePikahutClippy),
    command: Guest(DECLARED_ONLY),
    ..STAGED
};

/// `fixture-relay-smoke`.
pub(in crate::catalog) static FIXTURE_RELAY_SMOKE: JobRow = JobRow {
    id: "fixture-relay-smoke",
    description: "relay profile up/wait/status",
    timeout_secs: 300,
    place: Place::StagedIncus(Lane::FixtureRelaySmoke),
    command: Guest(DECLARED_ONLY),
    ..STAGED
};

/// `rmp-init-smoke-ci`.
pub(in crate::catalog) static RMP_INIT_SMOKE_CI: JobRow = JobRow {
    id: "rmp-init-smoke-ci",
    description: "generate and check five RMP projects",
    timeout_secs: 1800,
    place: Place::StagedIncus(Lane::RmpInitSmokeCi),
    command: Guest(include_str!("../scripts/rmp-init-smoke-ci.sh")),
    ..STAGED
};
