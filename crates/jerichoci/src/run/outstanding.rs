//! Which jobs of a request run: the closure of those that were named, and what an earlier run
//! has left to do. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::request::RequestError;
use crate::model::job::JobSpec;

/// The named jobs and everything they need, in the order of `jobs`; all when none is named.
///
/// # Errors
/// [`RequestError::UnknownJob`].
pub fn closure_of_needs(jobs: &[JobSpec], only: &[String]) -> Result<Vec<JobSpec>, RequestError> {
    if only.is_empty() {
        return Ok(jobs.to_vec());
    }
    let by_id = positions(jobs);
    let mut open = Vec::with_capacity(only.len());
    for id in only {
        let unknown = || RequestError::UnknownJob {
            job: id.clone(),
            known: jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>().join(", "),
        };
        open.push(*by_id.get(id.as_str()).ok_or_else(unknown)?);
    }
    let mut wanted = BTreeSet::new();
    while let Some(index) = open.pop() {
        if wanted.insert(index) {
            // A need that no job has is found by the plan.
            open.extend(jobs[index].needs.iter().filter_map(|need| by_id.get(need.as_str())));
        }
    }
    Ok(wanted.into_iter().map(|index| jobs[index].clone()).collect())
}

/// The jobs that are still to be done when those in `passed` are done: all others, and all that
/// need one of them, directly or through others. In the order of `jobs`.
#[must_use]
pub fn outstanding(jobs: &[JobSpec], passed: &HashSet<&str>) -> Vec<JobSpec> {
    let by_id = positions(jobs);
    let mut dependants: Vec<Vec<usize>> = vec![Vec::new(); jobs.len()];
    for (index, job) in jobs.iter().enumerate() {
        for need in job.needs.iter().filter_map(|need| by_id.get(need.as_str())) {
            dependants[*need].push(index);
        }
    }
    let mut open: Vec<usize> =
        (0..jobs.len()).filter(|index| !passed.contains(jobs[*index].id.as_str())).collect();
    let mut wanted = BTreeSet::new();
    while let Some(index) = open.pop() {
        if wanted.insert(index) {
            open.extend(&dependants[index]);
        }
    }
    wanted.into_iter().map(|index| jobs[index].clone()).collect()
}

/// Needs of these jobs that are no jobs among them, sorted.
#[must_use]
pub fn needs_outside(jobs: &[JobSpec]) -> Vec<String> {
    let inside = positions(jobs);
    let needs = jobs.iter().flat_map(|job| &job.needs).filter(|need| !inside.contains_key(need.as_str()));
    needs.collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

fn positions(jobs: &[JobSpec]) -> HashMap<&str, usize> {
    jobs.iter().enumerate().map(|(index, job)| (job.id.as_str(), index)).collect()
}
