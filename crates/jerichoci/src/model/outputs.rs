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
