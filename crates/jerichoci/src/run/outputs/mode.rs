//! Who makes prepared outputs visible: one value, and its eight fields in a run record.

use serde::Serialize;

use super::OutputsError;
use crate::model::outputs::{Consumer, InvocationMode, LauncherTransportMode};
use crate::model::record::RunRecord;

/// The one name that a fixed combination of settings has.
pub const SUBPROCESS_MODE: &str = "pre_merge_pika_rust_subprocess_fulfillment_v1";

/// Who makes prepared outputs visible.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mode {
    /// This process, by symbolic links.
    #[default]
    HostLocalSymlinks,
    /// Whoever reads the requests that are written.
    RemoteRequest,
    /// A helper program, for each request.
    Fulfill {
        /// Whether it was asked for under the name [`SUBPROCESS_MODE`].
        subprocess: bool,
        /// How it is started.
        invocation: Invocation,
    },
}

/// How a helper is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Directly.
    Direct,
    /// By a launcher.
    Launcher {
        /// Its program; the engine's own helper when absent.
        program: Option<String>,
        /// How it is reached.
        transport: Transport,
    },
}

/// How a launcher is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Directly.
    Direct,
    /// By a program that is given a transport request.
    Command {
        /// The program.
        program: String,
    },
    /// Over SSH. What is absent comes from the live configuration: records of remote runs never
    /// decide where a later one goes.
    Ssh {
        /// SSH program.
        program: Option<String>,
        /// Host.
        host: Option<String>,
        /// Launcher there.
        remote_launcher_program: Option<String>,
        /// Helper there.
        remote_helper_program: Option<String>,
        /// Work directory there.
        remote_work_dir: Option<String>,
    },
}

impl Mode {
    /// The word that records use.
    #[must_use]
    pub const fn consumer(&self) -> Consumer {
        match self {
            Self::HostLocalSymlinks => Consumer::HostLocalSymlinkMountsV1,
            Self::RemoteRequest => Consumer::RemoteExposureRequestV1,
            Self::Fulfill { .. } => Consumer::FulfillRequestCliV1,
        }
    }

    /// Writes this into the fields of a record, and clears those it does not use.
    pub fn write_to(&self, run: &mut RunRecord) {
        run.prepared_output_consumer = Some(self.consumer());
        run.prepared_output_mode = None;
        run.prepared_output_invocation_mode = None;
        run.prepared_output_invocation_wrapper_program = None;
        run.prepared_output_launcher_transport_mode = None;
        run.prepared_output_launcher_transport_program = None;
        run.prepared_output_launcher_transport_host = None;
        run.prepared_output_launcher_transport_remote_launcher_program = None;
        run.prepared_output_launcher_transport_remote_helper_program = None;
        run.prepared_output_launcher_transport_remote_work_dir = None;
        let Self::Fulfill { subprocess, invocation } = self else { return };
        run.prepared_output_mode = subprocess.then(|| SUBPROCESS_MODE.to_owned());
        let Invocation::Launcher { program, transport } = invocation else {
            run.prepared_output_invocation_mode = Some(InvocationMode::DirectHelperExecV1);
            return;
        };
        run.prepared_output_invocation_mode = Some(InvocationMode::ExternalWrapperCommandV1);
        run.prepared_output_invocation_wrapper_program.clone_from(program);
        run.prepared_output_launcher_transport_mode = Some(match transport {
            Transport::Direct => LauncherTransportMode::DirectLauncherExecV1,
            Transport::Command { program } => {
                run.prepared_output_launcher_transport_program = Some(program.clone());
                LauncherTransportMode::CommandTransportV1
            }
            Transport::Ssh {
                program,
                host,
                remote_launcher_program,
                remote_helper_program,
                remote_work_dir,
            } => {
                run.prepared_output_launcher_transport_program.clone_from(program);
                run.prepared_output_launcher_transport_host.clone_from(host);
                run.prepared_output_launcher_transport_remote_launcher_program
                    .clone_from(remote_launcher_program);
                run.prepared_output_launcher_transport_remote_helper_program
                    .clone_from(remote_helper_program);
                run.prepared_output_launcher_transport_remote_work_dir.clone_from(remote_work_dir);
                LauncherTransportMode::SshLauncherTransportV1
            }
        });
    }

    /// What a record says. A record without a consumer never got so far: nothing.
    ///
    /// # Errors
    /// [`OutputsError::Invalid`] for an unknown name of a combination, or a command transport
    /// without its program.
    pub fn from_record(run: &RunRecord) -> Result<Option<Self>, OutputsError> {
        let subprocess = match run.prepared_output_mode.as_deref() {
            None => false,
            Some(SUBPROCESS_MODE) => true,
            Some(other) => {
                return Err(OutputsError::Invalid(format!("unknown prepared output mode `{other}`")));
            }
        };
        Ok(match run.prepared_output_consumer {
            None => None,
            Some(Consumer::HostLocalSymlinkMountsV1) => Some(Self::HostLocalSymlinks),
            Some(Consumer::RemoteExposureRequestV1) => Some(Self::RemoteRequest),
            Some(Consumer::FulfillRequestCliV1) => {
                Some(Self::Fulfill { subprocess, invocation: invocation(run)? })
            }
        })
    }
}

fn invocation(run: &RunRecord) -> Result<Invocation, OutputsError> {
    match run.prepared_output_invocation_mode {
        None | Some(InvocationMode::DirectHelperExecV1) => return Ok(Invocation::Direct),
        Some(InvocationMode::ExternalWrapperCommandV1) => {}
    }
    let program = run.prepared_output_launcher_transport_program.clone();
    let transport = match run.prepared_output_launcher_transport_mode {
        None | Some(LauncherTransportMode::DirectLauncherExecV1) => Transport::Direct,
        Some(LauncherTransportMode::CommandTransportV1) => Transport::Command {
            program: program.ok_or_else(|| {
                OutputsError::Invalid("command_transport_v1 without a transport program".to_owned())
            })?,
        },
        Some(LauncherTransportMode::SshLauncherTransportV1) => Transport::Ssh {
            program,
            host: run.prepared_output_launcher_transport_host.clone(),
            remote_launcher_program: run.prepared_output_launcher_transport_remote_launcher_program.clone(),
            remote_helper_program: run.prepared_output_launcher_transport_remote_helper_program.clone(),
            remote_work_dir: run.prepared_output_launcher_transport_remote_work_dir.clone(),
        },
    };
    Ok(Invocation::Launcher { program: run.prepared_output_invocation_wrapper_program.clone(), transport })
}

/// Built-in settings of remote staged Linux runs; `staged-linux-remote-defaults --json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RemoteDefaults {
    /// SSH program.
    pub ssh_binary: &'static str,
    /// Nix on the host.
    pub ssh_nix_binary: &'static str,
    /// The host.
    pub ssh_host: &'static str,
    /// Work directory on the host.
    pub remote_work_dir: &'static str,
    /// Launcher on the host.
    pub remote_launcher_binary: &'static str,
    /// Helper on the host.
    pub remote_helper_binary: &'static str,
    /// Nix store of the host.
    pub store_uri: &'static str,
}

/// The built-in settings. No environment is applied.
#[must_use]
pub const fn staged_linux_remote_defaults() -> RemoteDefaults {
    RemoteDefaults {
        ssh_binary: "/usr/bin/ssh",
        ssh_nix_binary: "nix",
        ssh_host: "pika-build",
        remote_work_dir: "/var/tmp/jerichoci-prepared-output",
        remote_launcher_binary: "/run/current-system/sw/bin/pikaci-launch-fulfill-prepared-output",
        remote_helper_binary: "/run/current-system/sw/bin/pikaci-fulfill-prepared-output",
        store_uri: "ssh://pika-build",
    }
}
