//! A plan for people: jobs in an order in which they may start, each with what it waits for.

use std::collections::HashSet;
use std::fmt::Write as _;

use jerichoci::model::job::{GuestCommand, JobPlacement, JobRuntimeConfig, JobSpec};
use jerichoci::model::outputs::Residency;
use jerichoci::model::plan::{PlanNodeRecord, PrepareNode};

use super::PlanDocument;
use crate::render::document::word;
use crate::render::text::{counted, printable};

/// More of a command is not shown.
const LONGEST_COMMAND: usize = 100;

/// The plan, several lines.
pub(crate) fn text(plan: &PlanDocument<'_>) -> String {
    let mut lines = Vec::new();
    let description = plan.target_description.map(|text| format!(": {text}")).unwrap_or_default();
    lines.push(format!("{}{description}", plan.target_id));
    let verb = if plan.selection.runs { "would run" } else { "would be skipped" };
    // The words of a run that goes on, or was skipped.
    let why = &plan.selection.why;
    let why = ["skipped: ", "runs: ", "runs "].iter().find_map(|word| why.strip_prefix(word)).unwrap_or(why);
    lines.push(format!("{verb}: {why}"));
    if !plan.filters.is_empty() {
        lines.push(format!("filters: {}", plan.filters.join("  ")));
    }
    if plan.trigger != "none" {
        lines.push(format!("trigger: {}", plan.trigger));
    }
    if let Some(group) = plan.concurrency_group {
        lines.push(format!("concurrency group: {group}"));
    }
    let prepares: Vec<String> = plan.nodes.iter().filter_map(|node| prepare(plan, node)).collect();
    if !prepares.is_empty() {
        lines.extend([String::new(), "prepared first:".to_owned()]);
        lines.extend(prepares);
    }
    lines.extend([String::new(), format!("{}:", counted(plan.jobs.len(), "job"))]);
    for (position, job) in in_order(plan.jobs).into_iter().enumerate() {
        job_lines(plan, position + 1, job, &mut lines);
    }
    lines.iter().map(|line| printable(line.as_bytes()) + "\n").collect()
}

/// Jobs as written, but none before what it needs.
fn in_order(jobs: &[JobSpec]) -> Vec<&JobSpec> {
    let mut order: Vec<&JobSpec> = Vec::with_capacity(jobs.len());
    let mut listed: HashSet<&str> = HashSet::new();
    while let Some(next) = jobs.iter().find(|job| {
        !listed.contains(job.id.as_str()) && job.needs.iter().all(|need| listed.contains(need.as_str()))
    }) {
        listed.insert(&next.id);
        order.push(next);
    }
    order
}

fn prepare(plan: &PlanDocument<'_>, node: &PlanNodeRecord) -> Option<String> {
    let PlanNodeRecord::Prepare { id, prepare, depends_on, .. } = node else { return None };
    let what = prepared(plan, node)?;
    let links = matches!(prepare, PrepareNode::NixBuild { handoff: Some(handoff), .. } if !handoff.exposures.is_empty());
    let after = match depends_on.as_slice() {
        [] => String::new(),
        needs => format!(", after {}", needs.join(", ")),
    };
    let waiting = plan.nodes.iter().filter(|other| other.depends_on().contains(id));
    let jobs = waiting.filter_map(|other| plan.job_of(other)).count();
    Some(format!(
        "  {id}: {what}{after}; {} for it",
        match (jobs, links) {
            (1, true) => "1 job gets a link to it, and waits".to_owned(),
            (1, false) => "1 job waits".to_owned(),
            (count, true) => format!("{count} jobs get a link to it, and wait"),
            (count, false) => format!("{count} jobs wait"),
        }
    ))
}

/// What a node prepares, and where.
pub(super) fn prepared(plan: &PlanDocument<'_>, node: &PlanNodeRecord) -> Option<String> {
    let PlanNodeRecord::Prepare { id, prepare, .. } = node else { return None };
    let mut waiting = plan.nodes.iter().filter(|other| other.depends_on().contains(id));
    let host =
        waiting.find_map(|other| plan.job_of(other)?.placement.host()).map(|host| format!(" on {host}"));
    Some(match prepare {
        PrepareNode::NixBuild { output_name, residency, .. } => {
            let stays = match residency {
                Residency::RemoteAuthoritativeStagedLinux => ", where it stays",
                Residency::LocalAuthoritative => "",
            };
            format!("nix build {output_name}{}{stays}", host.unwrap_or_default())
        }
        PrepareNode::RemoteLinuxVmBackend { backend } => {
            format!("check {}{}", word(backend), host.unwrap_or_default())
        }
    })
}

fn job_lines(plan: &PlanDocument<'_>, position: usize, job: &JobSpec, lines: &mut Vec<String>) {
    let description = match job.description.as_str() {
        same if same == job.id => String::new(),
        other => format!(": {other}"),
    };
    lines.push(format!("{position:>3}. {}{description}", job.id));
    let mut facts = vec![place(job), format!("at most {}", limit(job.timeout_secs))];
    if !job.needs.is_empty() {
        facts.push(format!("after {}", job.needs.join(", ")));
    }
    if let Some(staged) = &job.staged {
        facts.push(format!("with the prepared outputs of {}", staged.prefix));
    }
    for group in &job.groups {
        facts.push(format!("group {group} ({} at once)", plan.groups.get(group.as_str()).unwrap_or(&1)));
    }
    if job.retries > 0 {
        facts.push(match job.retries {
            1 => "1 retry".to_owned(),
            count => format!("{count} retries"),
        });
    }
    let names = |what: &str, names: Vec<&str>| match names.as_slice() {
        [] => None,
        names => Some(format!("{what} {}", names.join(", "))),
    };
    facts.extend(names("caches", job.caches.keys().map(String::as_str).collect()));
    facts.extend(names("secrets", job.secrets.iter().map(|secret| secret.name.as_str()).collect()));
    facts.extend(names("artifacts", job.artifacts.iter().map(String::as_str).collect()));
    lines.push(format!("     {}", facts.join("; ")));
    lines.push(format!("     $ {}", one_line(&command(job))));
}

/// Where a job runs, in what isolation.
pub(crate) fn place(job: &JobSpec) -> String {
    let runtime = match &job.runtime {
        JobRuntimeConfig::HostProcess(config) => match &config.nix_shell {
            Some(shell) => format!("host_process in dev shell {shell}"),
            None => "host_process".to_owned(),
        },
        JobRuntimeConfig::Incus(config) => {
            let role = config.guest_role.as_ref().map(word);
            let words = [Some("incus".to_owned()), config.image_alias.clone().or(role)];
            let at = config.target.as_ref().map(|target| format!("at {target}"));
            words.into_iter().chain([at]).flatten().collect::<Vec<_>>().join(" ")
        }
        JobRuntimeConfig::Tart(config) => match &config.base_vm {
            Some(vm) => format!("tart {vm}"),
            None => "tart".to_owned(),
        },
    };
    match &job.placement {
        JobPlacement::Local => format!("local {runtime}"),
        JobPlacement::RemoteSsh { host } => format!("{runtime} on {host} by ssh"),
    }
}

/// A time limit as `jericho.toml` writes it.
pub(crate) fn limit(seconds: u64) -> String {
    let parts = [(seconds / 3600, "h"), (seconds % 3600 / 60, "m"), (seconds % 60, "s")];
    parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect()
}

/// The command of a job, for the eye.
pub(crate) fn command(job: &JobSpec) -> String {
    match (&job.staged, &job.command) {
        (Some(staged), _) => staged.wrapper.clone(),
        (
            None,
            GuestCommand::HostShellCommand { command }
            | GuestCommand::ShellCommand { command }
            | GuestCommand::ShellCommandAsRoot { command },
        ) => command.clone(),
        (None, GuestCommand::Script { script }) => script.clone(),
        (None, GuestCommand::Argv { argv }) => jericho_host::quote::join(argv)
            .map_or_else(|_| argv.join(" "), |line| line.to_string_lossy().into_owned()),
        (None, GuestCommand::ExactCargoTest { package, test_name }) => {
            format!("cargo test -p {package} {test_name}, exactly that")
        }
        (None, GuestCommand::PackageUnitTests { package }) => format!("cargo test -p {package} --lib"),
        (None, GuestCommand::PackageTests { package }) => format!("cargo test -p {package}"),
        (None, GuestCommand::FilteredCargoTests { package, filter }) => {
            format!("cargo test -p {package} {filter}")
        }
    }
}

/// One line of a command: what is left out is a `…`.
fn one_line(command: &str) -> String {
    let text = command.trim();
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(LONGEST_COMMAND).collect();
    if shown.len() < text.len() {
        let _ = write!(shown, " …");
    }
    shown
}
