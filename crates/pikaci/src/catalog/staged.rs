//! Staged Linux targets and lanes: which prepared outputs a target has, and which wrapper in them a job runs.

use jerichoci::model::staged::{
    StagedLinuxCommandConfig, StagedLinuxRustPayloadRole, StagedLinuxRustTargetPayloadSpec,
    StagedLinuxSnapshotProfile,
};
use serde::Serialize;

use crate::targets::TargetSpec;
use PikaStagedLinuxLane::*;
use PikaStagedLinuxTarget::*;
use StagedLinuxSnapshotProfile::{Followup, Rust};

/// A target whose jobs take their tools from two prepared outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PikaStagedLinuxTarget {
    /// `pre-merge-pika-rust`.
    PreMergePikaRust,
    /// `pre-merge-pika-followup`.
    PreMergePikaFollowup,
    /// `pre-merge-agent-contracts`.
    PreMergeAgentContracts,
    /// `pre-merge-notifications`.
    PreMergeNotifications,
    /// `pre-merge-fixture-rust`.
    PreMergeFixtureRust,
    /// `pre-merge-rmp`.
    PreMergeRmp,
    /// `pre-merge-pikachat-rust`.
    PreMergePikachatRust,
    /// `pre-merge-pikachat-typescript`.
    PreMergePikachatTypescript,
    /// `pre-merge-pikachat-openclaw-e2e`.
    PreMergePikachatOpenclawE2e,
}

/// One job of a staged target: a wrapper in the workspace build output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PikaStagedLinuxLane {
    /// `pika_followup_android_test_compile`.
    PikaFollowupAndroidTestCompile,
    /// `pika_followup_pikachat_build`.
    PikaFollowupPikachatBuild,
    /// `pika_followup_desktop_check`.
    PikaFollowupDesktopCheck,
    /// `pika_followup_actionlint`.
    PikaFollowupActionlint,
    /// `pika_followup_doc_contracts`.
    PikaFollowupDocContracts,
    /// `pika_followup_rust_deps_hygiene`.
    PikaFollowupRustDepsHygiene,
    /// `pika_core_lib_app_flows`.
    PikaCoreLibAppFlows,
    /// `pika_core_messaging_e2e`.
    PikaCoreMessagingE2e,
    /// `agent_contracts_pika_cloud_unit`.
    AgentContractsPikaCloudUnit,
    /// `agent_contracts_server_agent_api`.
    AgentContractsServerAgentApi,
    /// `agent_contracts_core_nip98`.
    AgentContractsCoreNip98,
    /// `notifications_server_package_tests`.
    NotificationsServerPackageTests,
    /// `fixture_pikahut_clippy`.
    FixturePikahutClippy,
    /// `fixture_relay_smoke`.
    FixtureRelaySmoke,
    /// `rmp_init_smoke_ci`.
    RmpInitSmokeCi,
    /// `pikachat_package_tests`.
    PikachatPackageTests,
    /// `pikachat_sidecar_package_tests`.
    PikachatSidecarPackageTests,
    /// `pikachat_desktop_package_tests`.
    PikachatDesktopPackageTests,
    /// `pikachat_cli_smoke_local`.
    PikachatCliSmokeLocal,
    /// `pikachat_post_rebase_invalid_event`.
    PikachatPostRebaseInvalidEvent,
    /// `pikachat_post_rebase_logout_session`.
    PikachatPostRebaseLogoutSession,
    /// `pikachat_typescript`.
    PikachatTypescript,
    /// `openclaw_invite_and_chat`.
    OpenclawInviteAndChat,
    /// `openclaw_invite_and_chat_rust_bot`.
    OpenclawInviteAndChatRustBot,
    /// `openclaw_invite_and_chat_daemon`.
    OpenclawInviteAndChatDaemon,
    /// `openclaw_audio_echo`.
    OpenclawAudioEcho,
    /// `openclaw_gateway_e2e`.
    OpenclawGatewayE2e,
}

/// What is known about a staged target.
#[derive(Debug, PartialEq, Eq)]
pub struct PikaStagedLinuxTargetConfig {
    /// The target.
    pub target: PikaStagedLinuxTarget,
    /// What a user types.
    pub target_id: &'static str,
    /// One line for people.
    pub target_description: &'static str,
    /// Middle part of the ids of the prepare nodes. Targets with the same one share their outputs.
    pub prepare_node_prefix: &'static str,
    /// What of the source tree the outputs are built from.
    pub snapshot_profile: StagedLinuxSnapshotProfile,
    /// Flake attribute of the compiled dependencies.
    pub workspace_deps_output_name: &'static str,
    /// Flake attribute of the compiled tests and their wrappers.
    pub workspace_build_output_name: &'static str,
    /// Nix system of both.
    pub workspace_output_system: &'static str,
    /// Lane of the Nix build that makes them.
    pub nix_lane: &'static str,
}

struct LaneRow {
    lane: PikaStagedLinuxLane,
    id: &'static str,
    target: PikaStagedLinuxTarget,
    wrapper: &'static str,
}

const fn row(
    lane: PikaStagedLinuxLane,
    id: &'static str,
    target: PikaStagedLinuxTarget,
    wrapper: &'static str,
) -> LaneRow {
    LaneRow { lane, id, target, wrapper }
}

/// In the order of the enum.
static TARGETS: [PikaStagedLinuxTargetConfig; 9] = [
    PikaStagedLinuxTargetConfig {
        target: PikaStagedLinuxTarget::PreMergePikaRust,
        target_id: "pre-merge-pika-rust",
        target_description: "pika_core Rust tests before merging",
        prepare_node_prefix: "pika-core-linux-rust",
        snapshot_profile: Rust,
        workspace_deps_output_name: "ci.x86_64-linux.workspaceDeps",
        workspace_build_output_name: "ci.x86_64-linux.workspaceBuild",
        workspace_output_system: "x86_64-linux",
        nix_lane: "pika-core",
    },
    PikaStagedLinuxTargetConfig {
        target: PikaStagedLinuxTarget::PreMergePikaFollowup,
        target_id: "pre-merge-pika-followup",
        target_description: "non-test checks for the app lane",
        prepare_node_prefix: "pika-followup-linux-rust",
        snapshot_profile: Followup,
        workspace_deps_output_name: "ci.x86_64-linux.pikaFollowupWorkspaceDeps",
        workspace_build_output_name: "ci.x86_64-linux.pikaFollowupWorkspaceBuild",
        workspace_output_system: "x86_64-linux",
        nix_lane: "pika-followup",
    },
    PikaStagedLinuxTargetConfig {
        target: PikaStagedLinuxTarget::PreMergeAgentContracts,
        target_id: "pre-merge-agent-contracts",
        target_description: "agent contract jobs before merging",
        prepare_node_prefix: "agent-contracts-linux-rust",
        snapshot_profile: Rust,
        workspace_deps_output_name: "ci.x86_64-linux.agentContractsWorkspaceDeps",
        workspace_build_output_name: "ci.x86_64-linux.agentContractsWorkspaceBuild",
        workspace_output_system: "x86_64-linux",
        nix_lane: "agent-contracts",
    },
    PikaStagedLinuxTargetConfig {
        target: PikaStagedLinuxTarget::PreMergeNotifications,
        target_id: "pre-merge-notifications",
        target_description: "notification server tests before merging",
        prepare_node_prefix: "notifications-linux-rust",
        snapshot_profile: Rust,
        workspace_deps_output_name: "ci.x86_64-linux.notificationsWorkspaceDeps",
        workspace_build_output_name: "ci.x86_64-linux.notificationsWorkspaceBuild",
        workspace_output_system: "x86_64-linux",
        nix_lane: "notifications",
    },
    PikaStagedLinuxTargetConfig {
        target: PikaStagedLinuxTarget::PreMergeFixtureRust,
        target_id: "pre-merge-fixture-rust",
        target_description: "pikahut fixture checks before merging",
        prepare_node_prefix: "fixture-linux-rust",
        snapshot_profile: Rust,
        workspace_deps_output_name: "ci.x86_64-linux.fixtureWorkspaceDeps",
        workspace_build_output_name: "ci.x86_64-linux.fixtureWorkspaceBuild",
        workspace_output_system: "x86_64-linux",
        nix_lane: "fixture",
    },
    PikaStagedLinuxTargetConfig {
        target: PikaStagedLinuxTarget::PreMergeRmp,
        target_id: "pre-merge-rmp",
        target_description: "RMP project generation smoke",
        prepare_node_prefix: "rmp-linux-rust",
        snapshot_profile: Rust,
        workspace_deps_output_name: "ci.x86_64-linux.rmpWorkspaceDeps",
        workspace_build_output_name: "ci.x86_64-linux.rmpWorkspaceBuild",
        workspace_output_system: "x86_64-linux",
        nix_lane: "rmp",
    },
    PikaStagedLinuxTargetConfig {
        target: PikaStagedLinuxTarget::PreMergePikachatRust,
        target_id: "pre-merge-pikachat-rust",
        target_description: "pikachat Rust and scenario tests",
        prepare_node_prefix: "pikachat-linux-rust",
        snapshot_profile: Rust,
        workspace_deps_output_name: "ci.x86_64-linux.pikachatWorkspaceDeps",
        workspace_build_output_name: "ci.x86_64-linux.pikachatWorkspaceBuild",
        workspace_output_system: "x86_64-linux",
        nix_lane: "pikachat",
    },
    PikaStagedLinuxTargetConfig {
        target: PikaStagedLinuxTarget::PreMergePikachatTypescript,
        target_id: "pre-merge-pikachat-typescript",
        target_description: "TypeScript checks of two plugins",
        prepare_node_prefix: "pikachat-linux-rust",
        snapshot_profile: Rust,
        workspace_deps_output_name: "ci.x86_64-linux.pikachatWorkspaceDeps",
        workspace_build_output_name: "ci.x86_64-linux.pikachatWorkspaceBuild",
        workspace_output_system: "x86_64-linux",
        nix_lane: "pikachat",
    },
    PikaStagedLinuxTargetConfig {
        target: PikaStagedLinuxTarget::PreMergePikachatOpenclawE2e,
        target_id: "pre-merge-pikachat-openclaw-e2e",
        target_description: "heavy OpenClaw gateway scenario",
        prepare_node_prefix: "pikachat-openclaw-linux-rust",
        snapshot_profile: Rust,
        workspace_deps_output_name: "ci.x86_64-linux.pikachatWorkspaceDeps",
        workspace_build_output_name: "ci.x86_64-linux.pikachatWorkspaceBuild",
        workspace_output_system: "x86_64-linux",
        nix_lane: "pikachat",
    },
];

/// In the order of the enum.
#[rustfmt::skip]
static LANES: [LaneRow; 27] = [
    row(PikaFollowupAndroidTestCompile, "pika_followup_android_test_compile", PreMergePikaFollowup, "run-pika-android-test-compile"),
    row(PikaFollowupPikachatBuild, "pika_followup_pikachat_build", PreMergePikaFollowup, "run-pika-followup-pikachat-build"),
    row(PikaFollowupDesktopCheck, "pika_followup_desktop_check", PreMergePikaFollowup, "run-pika-desktop-check"),
    row(PikaFollowupActionlint, "pika_followup_actionlint", PreMergePikaFollowup, "run-pika-actionlint"),
    row(PikaFollowupDocContracts, "pika_followup_doc_contracts", PreMergePikaFollowup, "run-pika-doc-contracts"),
    row(PikaFollowupRustDepsHygiene, "pika_followup_rust_deps_hygiene", PreMergePikaFollowup, "run-pika-rust-deps-hygiene"),
    row(PikaCoreLibAppFlows, "pika_core_lib_app_flows", PreMergePikaRust, "run-pika-core-lib-app-flows-tests"),
    row(PikaCoreMessagingE2e, "pika_core_messaging_e2e", PreMergePikaRust, "run-pika-core-messaging-e2e-tests"),
    row(AgentContractsPikaCloudUnit, "agent_contracts_pika_cloud_unit", PreMergeAgentContracts, "run-pika-cloud-unit-tests"),
    row(AgentContractsServerAgentApi, "agent_contracts_server_agent_api", PreMergeAgentContracts, "run-server-agent-api-tests"),
    row(AgentContractsCoreNip98, "agent_contracts_core_nip98", PreMergeAgentContracts, "run-core-agent-nip98-test"),
    row(NotificationsServerPackageTests, "notifications_server_package_tests", PreMergeNotifications, "run-pika-server-package-tests"),
    row(FixturePikahutClippy, "fixture_pikahut_clippy", PreMergeFixtureRust, "run-pikahut-clippy"),
    row(FixtureRelaySmoke, "fixture_relay_smoke", PreMergeFixtureRust, "run-fixture-relay-smoke"),
    row(RmpInitSmokeCi, "rmp_init_smoke_ci", PreMergeRmp, "run-rmp-init-smoke-ci"),
    row(PikachatPackageTests, "pikachat_package_tests", PreMergePikachatRust, "run-pikachat-package-tests"),
    row(PikachatSidecarPackageTests, "pikachat_sidecar_package_tests", PreMergePikachatRust, "run-pikachat-sidecar-package-tests"),
    row(PikachatDesktopPackageTests, "pikachat_desktop_package_tests", PreMergePikachatRust, "run-pika-desktop-package-tests"),
    row(PikachatCliSmokeLocal, "pikachat_cli_smoke_local", PreMergePikachatRust, "run-pikachat-cli-smoke-local"),
    row(PikachatPostRebaseInvalidEvent, "pikachat_post_rebase_invalid_event", PreMergePikachatRust, "run-pikachat-post-rebase-invalid-event"),
    row(PikachatPostRebaseLogoutSession, "pikachat_post_rebase_logout_session", PreMergePikachatRust, "run-pikachat-post-rebase-logout-session"),
    row(PikachatTypescript, "pikachat_typescript", PreMergePikachatTypescript, "run-pikachat-typescript"),
    row(OpenclawInviteAndChat, "openclaw_invite_and_chat", PreMergePikachatRust, "run-openclaw-invite-and-chat"),
    row(OpenclawInviteAndChatRustBot, "openclaw_invite_and_chat_rust_bot", PreMergePikachatRust, "run-openclaw-invite-and-chat-rust-bot"),
    row(OpenclawInviteAndChatDaemon, "openclaw_invite_and_chat_daemon", PreMergePikachatRust, "run-openclaw-invite-and-chat-daemon"),
    row(OpenclawAudioEcho, "openclaw_audio_echo", PreMergePikachatRust, "run-openclaw-audio-echo"),
    row(OpenclawGatewayE2e, "openclaw_gateway_e2e", PreMergePikachatOpenclawE2e, "run-openclaw-gateway-e2e"),
];

// A row that is not in the place of its variant does not compile.
const _: () = {
    let mut index = 0;
    while index < TARGETS.len() {
        assert!(TARGETS[index].target as usize == index);
        index += 1;
    }
    index = 0;
    while index < LANES.len() {
        assert!(LANES[index].lane as usize == index);
        index += 1;
    }
};

impl PikaStagedLinuxTarget {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        TARGETS.iter().map(|row| row.target)
    }

    /// The target of this name, when it is a staged one.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        TARGETS.iter().find(|row| row.target_id == id).map(|row| row.target)
    }

    /// What is known about it.
    #[must_use]
    pub fn config(self) -> &'static PikaStagedLinuxTargetConfig {
        &TARGETS[self as usize]
    }

    /// What a user types.
    #[must_use]
    pub fn id(self) -> &'static str {
        self.config().target_id
    }

    /// Its lanes.
    pub fn lanes(self) -> impl Iterator<Item = PikaStagedLinuxLane> {
        PikaStagedLinuxLane::all().filter(move |lane| lane.target() == self)
    }
}

impl PikaStagedLinuxLane {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        LANES.iter().map(|row| row.lane)
    }

    /// Its name, in snake case.
    #[must_use]
    pub fn id(self) -> &'static str {
        LANES[self as usize].id
    }

    /// The target whose outputs it uses.
    #[must_use]
    pub fn target(self) -> PikaStagedLinuxTarget {
        LANES[self as usize].target
    }

    /// Program in `bin/` of the workspace build output.
    #[must_use]
    pub fn wrapper(self) -> &'static str {
        LANES[self as usize].wrapper
    }

    /// What the engine is told about a job of this lane.
    #[must_use]
    pub fn command_config(self) -> StagedLinuxCommandConfig {
        let target = self.target().config();
        StagedLinuxCommandConfig {
            prefix: target.prepare_node_prefix.to_owned(),
            profile: target.snapshot_profile,
            deps: payload(StagedLinuxRustPayloadRole::WorkspaceDeps, target.workspace_deps_output_name),
            build: payload(StagedLinuxRustPayloadRole::WorkspaceBuild, target.workspace_build_output_name),
            wrapper: self.wrapper().to_owned(),
        }
    }
}

fn payload(role: StagedLinuxRustPayloadRole, output_name: &str) -> StagedLinuxRustTargetPayloadSpec {
    StagedLinuxRustTargetPayloadSpec { role, output_name: output_name.to_owned() }
}

/// What scripts are told about a staged target: the document of `pikaci staged-linux-target-info --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PikaStagedLinuxTargetInfoJson {
    /// What a user types.
    pub target_id: String,
    /// One line for people.
    pub target_description: String,
    /// Middle part of the ids of the prepare nodes.
    pub shared_prepare_node_prefix: String,
    /// One line about the prepare nodes.
    pub shared_prepare_description: String,
    /// Flake attribute of the compiled dependencies.
    pub workspace_deps_output_name: String,
    /// Flake attribute of the compiled tests and their wrappers.
    pub workspace_build_output_name: String,
    /// Nix system of both.
    pub workspace_output_system: String,
    /// For `nix build`, from the top of the tree.
    pub workspace_deps_installable: String,
    /// For `nix build`, from the top of the tree.
    pub workspace_build_installable: String,
}

impl From<&PikaStagedLinuxTargetConfig> for PikaStagedLinuxTargetInfoJson {
    fn from(config: &PikaStagedLinuxTargetConfig) -> Self {
        Self::new(
            config.target_id,
            config.target_description,
            config.prepare_node_prefix,
            config.workspace_deps_output_name,
            config.workspace_build_output_name,
        )
    }
}

impl PikaStagedLinuxTargetInfoJson {
    /// Of a target that a `jericho.toml` declares, whose jobs have these outputs.
    pub(crate) fn of_file(target: &TargetSpec, outputs: &StagedLinuxCommandConfig) -> Self {
        let description = target.description.as_deref().unwrap_or_default();
        let (deps, build) = (&outputs.deps.output_name, &outputs.build.output_name);
        Self::new(&target.id, description, &outputs.prefix, deps, build)
    }

    fn new(id: &str, description: &str, prefix: &str, deps: &str, build: &str) -> Self {
        Self {
            target_id: id.to_owned(),
            target_description: description.to_owned(),
            shared_prepare_node_prefix: prefix.to_owned(),
            shared_prepare_description: format!("Build workspace-deps and workspace-build of {prefix}"),
            workspace_deps_output_name: deps.to_owned(),
            workspace_build_output_name: build.to_owned(),
            // The second component of `ci.<system>.<name>`.
            workspace_output_system: deps.split('.').nth(1).unwrap_or_default().to_owned(),
            workspace_deps_installable: format!(".#{deps}"),
            workspace_build_installable: format!(".#{build}"),
        }
    }
}
