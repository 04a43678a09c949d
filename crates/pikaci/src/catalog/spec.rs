//! From a row to what the engine is given.

use std::collections::BTreeMap;

use jerichoci::model::job::{
    GuestCommand, HostProcessRuntimeConfig, IncusRuntimeConfig, JobPlacement, JobRuntimeConfig, JobSpec,
    TartRuntimeConfig,
};
use jerichoci::run::outputs::staged_linux_remote_defaults;
use pika_incus_guest_role::IncusGuestRole;

use super::rows::{Command, JobRow, Place, TargetRow};
use crate::targets::{Filters, Origin, TargetSpec};

/// Resource group of macOS VMs; a Mac runs [`TART_VMS`] at once.
pub(super) const TART_GROUP: &str = "tart-vm";
/// How many macOS VMs one Mac may run.
pub(super) const TART_VMS: usize = 2;

const HOST_SETUP: &str = include_str!("scripts/ios-host-setup.sh");

/// A target without its path filters, which are in the lane file.
pub(super) fn target(row: &TargetRow) -> TargetSpec {
    TargetSpec {
        id: row.id.to_owned(),
        title: Some(row.title.to_owned()),
        description: Some(row.description.to_owned()),
        filters: Filters::default(),
        jobs: row.jobs.iter().map(|row| job(row)).collect(),
        default: false,
        trigger: row.trigger,
        concurrency_group: row.group.name(),
        definition: None,
        origin: Origin::Catalog,
    }
}

fn job(row: &JobRow) -> JobSpec {
    let (placement, runtime) = place(row.place);
    let groups = match row.place {
        Place::Tart { .. } => vec![TART_GROUP.to_owned()],
        Place::Host { .. } | Place::StagedIncus(_) | Place::Incus => Vec::new(),
    };
    let staged = match row.place {
        Place::StagedIncus(lane) => Some(lane.command_config()),
        Place::Host { .. } | Place::Incus | Place::Tart { .. } => None,
    };
    let env: BTreeMap<_, _> =
        row.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    JobSpec {
        description: row.description.to_owned(),
        timeout_secs: row.timeout_secs,
        placement,
        runtime,
        writable_workspace: row.writable_workspace,
        env,
        pass_env: row.pass_env.iter().map(|name| (*name).to_owned()).collect(),
        groups,
        staged,
        git: row.git,
        ..JobSpec::host_process(row.id, command(row.command))
    }
}

fn place(place: Place) -> (JobPlacement, JobRuntimeConfig) {
    match place {
        Place::Host { nix_shell } => {
            let nix_shell = nix_shell.map(str::to_owned);
            let runtime = HostProcessRuntimeConfig { nix_shell, ..HostProcessRuntimeConfig::default() };
            (JobPlacement::Local, JobRuntimeConfig::HostProcess(runtime))
        }
        Place::StagedIncus(_) => (build_host(), incus(false)),
        Place::Incus => (build_host(), incus(true)),
        Place::Tart { mount_host_rust_toolchain } => {
            let runtime = TartRuntimeConfig {
                host_setup: Some(HOST_SETUP.to_owned()),
                mount_host_rust_toolchain,
                ..TartRuntimeConfig::default()
            };
            (JobPlacement::Local, JobRuntimeConfig::Tart(runtime))
        }
    }
}

fn build_host() -> JobPlacement {
    JobPlacement::RemoteSsh { host: staged_linux_remote_defaults().ssh_host.to_owned() }
}

fn incus(network: bool) -> JobRuntimeConfig {
    let guest_role = Some(IncusGuestRole::JerichoRunner);
    JobRuntimeConfig::Incus(IncusRuntimeConfig { guest_role, network, ..IncusRuntimeConfig::default() })
}

fn command(command: Command) -> GuestCommand {
    let owned = str::to_owned;
    match command {
        Command::Host(line) => GuestCommand::HostShellCommand { command: owned(line) },
        Command::Guest(line) => GuestCommand::ShellCommand { command: owned(line) },
        Command::GuestAsRoot(line) => GuestCommand::ShellCommandAsRoot { command: owned(line) },
        Command::PackageUnitTests(package) => GuestCommand::PackageUnitTests { package: owned(package) },
        Command::PackageTests(package) => GuestCommand::PackageTests { package: owned(package) },
        Command::FilteredCargoTests(package, filter) => {
            GuestCommand::FilteredCargoTests { package: owned(package), filter: owned(filter) }
        }
        Command::ExactCargoTest(package, test_name) => {
            GuestCommand::ExactCargoTest { package: owned(package), test_name: owned(test_name) }
        }
    }
}
