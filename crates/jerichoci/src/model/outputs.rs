//! Prepared outputs and the documents that hand them over.

use serde::{Deserialize, Serialize};

/// How a prepared output is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoffProtocol {
    /// By the path of a Nix store output.
    NixStorePathV1,
}

/// Where a prepared output lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residency {
    /// On this machine.
    #[default]
    LocalAuthoritative,
    /// On the host that runs the staged jobs.
    RemoteAuthoritativeStagedLinux,
}

/// Who makes a prepared output visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consumer {
    /// This process, by symbolic links.
    HostLocalSymlinkMountsV1,
    /// Whoever reads the request that is written.
    RemoteExposureRequestV1,
    /// A helper program that is given the request.
    FulfillRequestCliV1,
}

/// How the helper program is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvocationMode {
    /// Directly.
    DirectHelperExecV1,
    /// By a launcher that is given a launch request.
    ExternalWrapperCommandV1,
}

/// How the launcher is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LauncherTransportMode {
    /// Directly.
    DirectLauncherExecV1,
    /// By a program that is given a transport request.
    CommandTransportV1,
    /// Over SSH.
    SshLauncherTransportV1,
}

/// How an exposure is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExposureKind {
    /// A symbolic link on the host.
    HostSymlinkMount,
}

/// What may be done with an exposure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExposureAccess {
    /// Reading.
    ReadOnly,
}

/// A place where a prepared output becomes visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// How.
    pub kind: ExposureKind,
    /// Where, absolute.
    pub path: String,
    /// What may be done there.
    pub access: ExposureAccess,
}

/// To whom a prepared output is handed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handoff {
    /// How.
    pub protocol: HandoffProtocol,
    /// Where it becomes visible.
    #[serde(default)]
    pub exposures: Vec<Exposure>,
}

/// All prepared outputs of a run: `prepared-outputs.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedOutputsRecord {
    /// [`super::version::PREPARED_OUTPUTS`].
    pub schema_version: u32,
    /// One entry a node, in the order they were realised.
    #[serde(default)]
    pub outputs: Vec<PreparedOutputRecord>,
}

impl Default for PreparedOutputsRecord {
    fn default() -> Self {
        Self { schema_version: super::version::PREPARED_OUTPUTS, outputs: Vec::new() }
    }
}

impl PreparedOutputsRecord {
    /// Replaces the entry of the same node, or adds one.
    pub fn put(&mut self, output: PreparedOutputRecord) {
        match self.outputs.iter_mut().find(|known| known.node_id == output.node_id) {
            Some(known) => *known = output,
            None => self.outputs.push(output),
        }
    }
}

/// A prepared output, and what became of its handover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedOutputRecord {
    /// Node of the plan.
    pub node_id: String,
    /// `path:<snapshot dir>#<output name>`.
    pub installable: String,
    /// Flake attribute.
    pub output_name: String,
    /// How it is handed over.
    pub protocol: HandoffProtocol,
    /// Where it lives.
    #[serde(default)]
    pub residency: Residency,
    /// Who makes it visible.
    pub consumer: Consumer,
    /// Path in the Nix store.
    pub realized_path: String,
    /// The request, when one was written.
    pub consumer_request_path: Option<String>,
    /// The result of the request.
    pub consumer_result_path: Option<String>,
    /// The launch request.
    pub consumer_launch_request_path: Option<String>,
    /// The transport request.
    pub consumer_transport_request_path: Option<String>,
    /// Where it is visible.
    #[serde(default)]
    pub exposures: Vec<Exposure>,
    /// Where it was asked for; empty when this process makes it visible itself.
    #[serde(default)]
    pub requested_exposures: Vec<Exposure>,
    /// What it says about itself.
    pub payload: Option<PayloadManifestRecord>,
}

/// What a prepared output says about itself: `share/jerichoci/payload-manifest.json` in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadManifestRecord {
    /// [`super::version::PAYLOAD_MANIFEST`].
    pub schema_version: u32,
    /// What kind of output it is, for example `staged_linux_workspace_build_v1`.
    pub kind: String,
    /// Programs.
    #[serde(default)]
    pub entrypoints: Vec<PayloadPathRecord>,
    /// Directories of files.
    #[serde(default)]
    pub asset_roots: Vec<PayloadPathRecord>,
    /// What a guest sees, and where.
    #[serde(default)]
    pub mounts: Vec<PayloadMountRecord>,
}

/// A named path in a prepared output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadPathRecord {
    /// Its name.
    pub name: String,
    /// Relative to the output.
    pub relative_path: String,
}

/// A part of a prepared output that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadMountRecord {
    /// Its name.
    pub name: String,
    /// Relative to the output; `.` is all of it.
    pub relative_path: String,
    /// Absolute path in the guest.
    pub guest_path: String,
    /// Writes are refused.
    pub read_only: bool,
}

/// Asks for a prepared output to be made visible: `prepared-output-requests/<node id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedOutputRequestRecord {
    /// [`super::version::PREPARED_OUTPUT_HANDOFF`].
    pub schema_version: u32,
    /// Node of the plan.
    pub node_id: String,
    /// `path:<snapshot dir>#<output name>`.
    pub installable: String,
    /// Flake attribute.
    pub output_name: String,
    /// How it is handed over.
    pub protocol: HandoffProtocol,
    /// Where it lives.
    #[serde(default)]
    pub residency: Residency,
    /// Path in the Nix store.
    pub realized_path: String,
    /// Where it shall be visible.
    #[serde(default)]
    pub requested_exposures: Vec<Exposure>,
}

/// Whether a request was fulfilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FulfillmentStatus {
    /// It was.
    Succeeded,
    /// It was not.
    Failed,
}

/// What became of a request: `prepared-output-results/<node id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedOutputResultRecord {
    /// [`super::version::PREPARED_OUTPUT_HANDOFF`].
    pub schema_version: u32,
    /// The request.
    pub request_path: String,
    /// Node of the plan, when the request could be read.
    pub node_id: Option<String>,
    /// Flake attribute, when the request could be read.
    pub output_name: Option<String>,
    /// Path in the Nix store, when the request could be read.
    pub realized_path: Option<String>,
    /// Whether it was fulfilled.
    pub status: FulfillmentStatus,
    /// Length of the list that follows.
    #[serde(default)]
    pub fulfilled_exposures_count: usize,
    /// Where the output is visible now.
    #[serde(default)]
    pub fulfilled_exposures: Vec<Exposure>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What a launcher is given: `prepared-output-launch-requests/<node id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedOutputLaunchRequestRecord {
    /// [`super::version::PREPARED_OUTPUT_HANDOFF`].
    pub schema_version: u32,
    /// Helper to start.
    pub helper_program: String,
    /// The request it is given.
    pub helper_request_path: String,
    /// The result it writes.
    pub helper_result_path: String,
    /// Node of the plan.
    pub node_id: Option<String>,
    /// Flake attribute.
    pub output_name: Option<String>,
}

/// How paths of this machine become paths of the launcher's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportPathContract {
    /// They are the same.
    #[default]
    SameHostAbsolutePathsV1,
    /// Below the run directory they are the same, below the remote work directory.
    SshRemoteWorkDirTranslationV1,
}

/// What a transport is given: `prepared-output-transport-requests/<node id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedOutputTransportRequestRecord {
    /// [`super::version::PREPARED_OUTPUT_HANDOFF`].
    pub schema_version: u32,
    /// How paths are translated.
    #[serde(default)]
    pub path_contract: TransportPathContract,
    /// Launcher to start.
    pub launcher_program: String,
    /// The launch request it is given.
    pub launcher_request_path: String,
    /// The run directory here.
    pub local_run_dir: Option<String>,
    /// The host.
    pub remote_host: Option<String>,
    /// Work directory there.
    pub remote_work_dir: Option<String>,
    /// Launcher there.
    pub remote_launcher_program: Option<String>,
    /// Helper there.
    pub remote_helper_program: Option<String>,
    /// The launch request as the launcher there sees it.
    pub remote_launcher_request_path: Option<String>,
    /// The request as the helper there sees it.
    pub remote_helper_request_path: Option<String>,
    /// The result as the helper there sees it.
    pub remote_helper_result_path: Option<String>,
    /// Node of the plan.
    pub node_id: Option<String>,
    /// Flake attribute.
    pub output_name: Option<String>,
}
