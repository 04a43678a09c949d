//! From jobs to nodes: what has to be done, and what waits for what. Pure.
//!
//! [`plan`] needs nothing but the jobs, so it answers before anything is touched. Once the run
//! has an id and a snapshot, [`RunPlan::bind`] gives the document that is kept.

use std::collections::{BTreeMap, HashMap};

use jericho_host::quote::NulInArgument;

use super::request::{RequestError, RunOptions};
use crate::executor::command::{self, Compiled};
use crate::model::demands::CacheSharing;
use crate::model::id::check_name;
use crate::model::job::{GuestCommand, JobExecutionConfig, JobPlacement, JobRuntimeKind, JobSpec};
use crate::model::staged::{StagedLinuxCommandConfig, StagedLinuxRustPayloadRole};

mod bind;

pub use bind::PlanInputs;

/// Position of a node in its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub usize);

/// A plan without a place: no run, no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPlan {
    nodes: Vec<PlanNode>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanNode {
    /// Unique in the plan.
    pub id: String,
    /// One line for people.
    pub description: String,
    /// Nodes that must have succeeded, without repetition.
    pub depends_on: Vec<NodeIndex>,
    /// Named resources it takes one place of each, without repetition.
    pub groups: Vec<String>,
    /// What there is to do.
    pub work: NodeWork,
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeWork {
    /// Build one output and hand it to jobs.
    BuildOutput {
        /// Which of the two.
        role: StagedLinuxRustPayloadRole,
        /// Flake attribute.
        output_name: String,
        /// Where it is built: where the jobs that use it run.
        placement: JobPlacement,
        /// Ids of the jobs that use it.
        jobs: Vec<String>,
    },
    /// Make sure that an instance can be made for a job.
    CheckBackend {
        /// The job.
        job_id: String,
    },
    /// Run a job.
    Execute(ExecuteWork),
}

/// What running a job means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecuteWork {
    /// Position of the job in the request.
    pub job: usize,
    /// Id of the job.
    pub job_id: String,
    /// Where, and in what isolation.
    pub execution: JobExecutionConfig,
    /// The command.
    pub command: PlannedCommand,
    /// Limit in seconds.
    pub timeout_secs: u64,
    /// Whether the workspace may be written.
    pub writable_workspace: bool,
}

/// The command of a job, as far as it is known without a run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedCommand {
    /// A command line.
    Line {
        /// The line.
        line: String,
        /// As root of the guest.
        run_as_root: bool,
    },
    /// A program in `bin/` of the workspace build output.
    Wrapper {
        /// Its name.
        name: String,
    },
}

impl PlanNode {
    /// Whether it is no job.
    #[must_use]
    pub const fn is_prepare(&self) -> bool {
        !matches!(self.work, NodeWork::Execute(_))
    }

    /// Position in the request of the job it runs.
    #[must_use]
    pub const fn job(&self) -> Option<usize> {
        match &self.work {
            NodeWork::Execute(work) => Some(work.job),
            NodeWork::BuildOutput { .. } | NodeWork::CheckBackend { .. } => None,
        }
    }
}

/// Plans a run of these jobs: all prepare nodes in the order the jobs ask for them, then one
/// execute node a job, in the order of the jobs.
///
/// # Errors
/// [`RequestError`]: an id that is none or is taken, a need that no job has, jobs that wait for
/// each other, a command that cannot be given to a program, root outside a guest, or two
/// meanings of one set of prepared outputs.
pub fn plan(jobs: &[JobSpec]) -> Result<RunPlan, RequestError> {
    plan_run(jobs, &RunOptions::default())
}

/// The same with the options of a run: commands with the arguments that were given for them,
/// and needs that count as passed left out.
///
/// # Errors
/// As [`plan`].
pub fn plan_run(jobs: &[JobSpec], options: &RunOptions) -> Result<RunPlan, RequestError> {
    let mut by_id = HashMap::with_capacity(jobs.len());
    for (index, job) in jobs.iter().enumerate() {
        check_name(&job.id)?;
        if by_id.insert(job.id.as_str(), index).is_some() {
            return Err(RequestError::DuplicateJob(job.id.clone()));
        }
    }
    let needs =
        jobs.iter().map(|job| needs_of(job, &by_id, &options.satisfied)).collect::<Result<Vec<_>, _>>()?;
    if let Some(circle) = find_circle(&needs) {
        return Err(RequestError::Cycle(circle.into_iter().map(|job| jobs[job].id.clone()).collect()));
    }

    let mut nodes = Vec::with_capacity(jobs.len());
    let prepared = plan_prepares(jobs, &mut nodes)?;
    let first_execute = nodes.len();
    for (index, job) in jobs.iter().enumerate() {
        let mut depends_on = prepared[index].clone();
        depends_on.extend(needs[index].iter().map(|need| NodeIndex(first_execute + need)));
        nodes.push(PlanNode {
            id: format!("execute-{}", job.id),
            description: job.description.clone(),
            depends_on,
            groups: groups_of(job),
            work: NodeWork::Execute(ExecuteWork {
                job: index,
                job_id: job.id.clone(),
                execution: job.execution(),
                command: planned_command(job, options.args_of(&job.id))?,
                timeout_secs: job.timeout_secs,
                writable_workspace: job.writable_workspace,
            }),
        });
    }
    Ok(RunPlan { nodes })
}

/// What a job runs, as arguments. `build_output` is where the job sees the workspace build
/// output; only staged jobs ask for it.
///
/// # Errors
/// [`NulInArgument`].
pub fn compile_job(job: &JobSpec, build_output: &str) -> Result<Compiled, NulInArgument> {
    match &job.staged {
        Some(staged) => command::compile_program(&format!("{build_output}/bin/{}", staged.wrapper)),
        None => command::compile(&job.command),
    }
}

impl RunPlan {
    /// The nodes; a [`NodeIndex`] is a position in them.
    #[must_use]
    pub fn nodes(&self) -> &[PlanNode] {
        &self.nodes
    }

    /// One node.
    ///
    /// # Panics
    /// When the index comes from a longer plan.
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> &PlanNode {
        &self.nodes[index.0]
    }
}

/// Adds the prepare nodes of all jobs; returns for each job those it waits for itself.
fn plan_prepares(jobs: &[JobSpec], nodes: &mut Vec<PlanNode>) -> Result<Vec<Vec<NodeIndex>>, RequestError> {
    // By prefix: the pair of nodes, and the job that asked first.
    let mut staged: BTreeMap<&str, ([NodeIndex; 2], &JobSpec)> = BTreeMap::new();
    let mut depends_on = Vec::with_capacity(jobs.len());
    for job in jobs {
        let mut own = Vec::new();
        if let Some(config) = &job.staged {
            check_name(&config.prefix)?;
            check_name(&config.wrapper)?;
            let pair = match staged.get(config.prefix.as_str()) {
                Some((pair, first)) => {
                    agree(first, job, config)?;
                    *pair
                }
                None => {
                    let pair = push_outputs(config, &job.placement, nodes);
                    staged.insert(&config.prefix, (pair, job));
                    pair
                }
            };
            for index in pair {
                if let NodeWork::BuildOutput { jobs, .. } = &mut nodes[index.0].work {
                    jobs.push(job.id.clone());
                }
            }
            own.extend(pair);
        }
        if job.execution() == JobExecutionConfig::REMOTE_SSH_INCUS {
            own.push(NodeIndex(nodes.len()));
            nodes.push(PlanNode {
                id: format!("prepare-{}-runner", job.id),
                description: format!("Check that an instance can be made for {}", job.id),
                depends_on: Vec::new(),
                groups: Vec::new(),
                work: NodeWork::CheckBackend { job_id: job.id.clone() },
            });
        }
        depends_on.push(own);
    }
    Ok(depends_on)
}

fn push_outputs(
    config: &StagedLinuxCommandConfig,
    placement: &JobPlacement,
    nodes: &mut Vec<PlanNode>,
) -> [NodeIndex; 2] {
    let mut previous = None;
    StagedLinuxRustPayloadRole::ALL.map(|role| {
        let index = NodeIndex(nodes.len());
        nodes.push(PlanNode {
            id: format!("prepare-{}-{}", config.prefix, role.name()),
            description: format!("Build {} of {}", role.name(), config.prefix),
            depends_on: previous.replace(index).into_iter().collect(),
            groups: Vec::new(),
            work: NodeWork::BuildOutput {
                role,
                output_name: output_name(config, role).to_owned(),
                placement: placement.clone(),
                jobs: Vec::new(),
            },
        });
        index
    })
}

fn output_name(config: &StagedLinuxCommandConfig, role: StagedLinuxRustPayloadRole) -> &str {
    match role {
        StagedLinuxRustPayloadRole::WorkspaceDeps => &config.deps.output_name,
        StagedLinuxRustPayloadRole::WorkspaceBuild => &config.build.output_name,
    }
}

fn agree(first: &JobSpec, job: &JobSpec, config: &StagedLinuxCommandConfig) -> Result<(), RequestError> {
    let same = first.staged.as_ref().is_some_and(|known| {
        StagedLinuxRustPayloadRole::ALL
            .iter()
            .all(|role| output_name(known, *role) == output_name(config, *role))
    });
    if same && first.placement == job.placement {
        return Ok(());
    }
    Err(RequestError::StagedConflict {
        prefix: config.prefix.clone(),
        first: first.id.clone(),
        second: job.id.clone(),
    })
}

fn planned_command(job: &JobSpec, args: &[String]) -> Result<PlannedCommand, RequestError> {
    if let Some(staged) = &job.staged {
        return Ok(PlannedCommand::Wrapper { name: staged.wrapper.clone() });
    }
    let compiled = command::compile_with(&job.command, args)
        .map_err(|NulInArgument| RequestError::NulInCommand(job.id.clone()))?;
    let run_as_root = compiled.run_as_root;
    if job.execution().runtime != JobRuntimeKind::HostProcess {
        return Ok(PlannedCommand::Line { line: compiled.line, run_as_root });
    }
    if run_as_root {
        return Err(RequestError::RootOnHost(job.id.clone()));
    }
    let line = match &job.command {
        GuestCommand::HostShellCommand { command } if args.is_empty() => command.clone(),
        _ => compiled.line,
    };
    Ok(PlannedCommand::Line { line, run_as_root })
}

fn needs_of(
    job: &JobSpec,
    by_id: &HashMap<&str, usize>,
    satisfied: &[String],
) -> Result<Vec<usize>, RequestError> {
    let mut needs = Vec::with_capacity(job.needs.len());
    for need in &job.needs {
        let Some(index) = by_id.get(need.as_str()) else {
            if satisfied.contains(need) {
                continue;
            }
            return Err(RequestError::UnknownNeed { job: job.id.clone(), need: need.clone() });
        };
        if !needs.contains(index) {
            needs.push(*index);
        }
    }
    Ok(needs)
}

/// Jobs that need each other, in that order and with the first one again at the end. Without
/// recursion: chains may be as long as a request.
fn find_circle(needs: &[Vec<usize>]) -> Option<Vec<usize>> {
    const NEW: usize = usize::MAX;
    const DONE: usize = usize::MAX - 1;
    // Depth of a job on the current path, or one of the two above.
    let mut state = vec![NEW; needs.len()];
    let mut path: Vec<(usize, usize)> = Vec::new();
    for start in 0..needs.len() {
        if state[start] != NEW {
            continue;
        }
        state[start] = 0;
        path.push((start, 0));
        while let Some((job, next)) = path.last_mut() {
            let Some(&need) = needs[*job].get(*next) else {
                state[*job] = DONE;
                path.pop();
                continue;
            };
            *next += 1;
            match state[need] {
                NEW => {
                    state[need] = path.len();
                    path.push((need, 0));
                }
                DONE => {}
                depth => {
                    let circle = path[depth..].iter().map(|(job, _)| *job);
                    return Some(circle.chain([need]).collect());
                }
            }
        }
    }
    None
}

/// The groups of a job. A cache that only one job may have is one too: jobs of one run that
/// share it wait for it without a slot.
fn groups_of(job: &JobSpec) -> Vec<String> {
    let mut groups = without_repetition(&job.groups);
    let locked = job.caches.iter().filter(|(_, cache)| cache.sharing == CacheSharing::Locked);
    groups.extend(locked.map(|(name, _)| format!("cache:{name}")));
    groups
}

fn without_repetition(names: &[String]) -> Vec<String> {
    let mut seen = Vec::with_capacity(names.len());
    for name in names {
        if !seen.contains(name) {
            seen.push(name.clone());
        }
    }
    seen
}
