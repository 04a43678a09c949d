//! The built-in target `jericho-smoke`: whether this machine can run jobs at all.
//!
//! Its jobs need `sh` and the tools of POSIX, work on any tree, also an empty one, and are over
//! in seconds. Each one fails when a promise that is made to every job is broken.

use jerichoci::model::job::{GuestCommand, HostProcessRuntimeConfig, JobRuntimeConfig, JobSpec};

use super::{Filters, Origin, TargetSpec, Trigger};

const TIMEOUT_SECS: u64 = 300;

/// The target.
pub(super) fn target() -> TargetSpec {
    TargetSpec {
        id: "jericho-smoke".to_owned(),
        title: None,
        description: Some("Whether this machine can run jobs: source, workspace, isolation".to_owned()),
        filters: Filters::default(),
        jobs: vec![
            job("source", "Reads every file of the snapshot", include_str!("source.sh"), &[]),
            job("workspace", "Writes where a job may write", include_str!("workspace.sh"), &[]),
            job(
                "isolation",
                "Sees nothing that another job wrote, and no repository above",
                include_str!("isolation.sh"),
                &["workspace"],
            ),
        ],
        default: false,
        trigger: Trigger::None,
        concurrency_group: None,
        definition: None,
        origin: Origin::BuiltIn,
    }
}

fn job(id: &str, description: &str, script: &str, needs: &[&str]) -> JobSpec {
    let argv = ["sh", "-euc", script].map(str::to_owned).to_vec();
    let mut spec = JobSpec::host_process(id, GuestCommand::Argv { argv });
    description.clone_into(&mut spec.description);
    spec.timeout_secs = TIMEOUT_SECS;
    let runtime = HostProcessRuntimeConfig { without_nix_shell: true, ..HostProcessRuntimeConfig::default() };
    spec.runtime = JobRuntimeConfig::HostProcess(runtime);
    spec.needs = needs.iter().copied().map(str::to_owned).collect();
    spec
}

#[cfg(test)]
mod tests;
