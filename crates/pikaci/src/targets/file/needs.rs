//! What jobs need of each other: jobs of the same target, in an order that exists.

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::quoted;
use super::job::Job;
use super::reader::{Reader, list};

/// Reports needs that no job meets, and the first circle; writes the ids of the others into the
/// specs. A need of a job with a matrix is one of all of its jobs; one of them can be named by its
/// id.
pub(super) fn resolve(reader: &mut Reader<'_>, jobs: &mut [Job]) {
    let ids = ids(reader, jobs);
    let index: BTreeMap<&str, usize> =
        jobs.iter().enumerate().map(|(index, job)| (job.id.as_str(), index)).collect();
    let of_matrix: BTreeMap<&str, usize> =
        ids.iter().enumerate().flat_map(|(job, ids)| ids.iter().map(move |id| (id.as_str(), job))).collect();
    // For each job: the job it needs, and where it says so.
    let mut edges: Vec<Vec<(usize, usize)>> = Vec::with_capacity(jobs.len());
    let mut met: Vec<Vec<Vec<String>>> = Vec::with_capacity(jobs.len());
    for (from, job) in jobs.iter().enumerate() {
        let mut known = BTreeMap::new();
        let mut of_job = Vec::with_capacity(job.made.len());
        for made in &job.made {
            let mut needs: Vec<String> = Vec::new();
            let mut seen = BTreeSet::new();
            let mut have = BTreeSet::new();
            for (need, at) in &made.needs {
                let (to, meant) = match (index.get(need.as_str()), of_matrix.get(need.as_str())) {
                    (Some(&to), _) => (to, ids[to].as_slice()),
                    (None, Some(&to)) => (to, std::slice::from_ref(need)),
                    (None, None) => {
                        unknown(reader, jobs, from, need, *at);
                        continue;
                    }
                };
                if to == from {
                    reader.problem(*at, format!("job {} needs itself", quoted(need)), "leave it out");
                } else if !seen.insert(need) {
                    let message = format!("job {} needs {} twice", quoted(&job.id), quoted(need));
                    reader.problem(*at, message, "leave one out");
                } else {
                    known.entry(to).or_insert(*at);
                    needs.extend(meant.iter().filter(|id| have.insert(id.as_str())).cloned());
                }
            }
            of_job.push(needs);
        }
        edges.push(known.into_iter().collect());
        met.push(of_job);
    }
    if let Some(circle) = circle(&edges) {
        let names: Vec<String> = circle.iter().map(|&(job, _)| quoted(&jobs[job].id)).collect();
        let way = names.iter().chain(names.first()).cloned().collect::<Vec<_>>().join(" -> ");
        let at = circle.first().map_or(0, |&(_, at)| at);
        reader.problem(
            at,
            format!("jobs need each other in a circle: {way}"),
            "leave one of these needs out",
        );
    }
    for (job, needs) in jobs.iter_mut().zip(met) {
        for (made, needs) in job.made.iter_mut().zip(needs) {
            made.spec.needs = needs;
        }
    }
}

/// For each job the ids of those it stands for. Reports an id that two have.
fn ids(reader: &mut Reader<'_>, jobs: &[Job]) -> Vec<Vec<String>> {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for job in jobs {
        for made in &job.made {
            if let Some(other) = taken.insert(&made.spec.id, &job.id) {
                let message = format!(
                    "the jobs {} and {} both make a job {}",
                    quoted(other),
                    quoted(&job.id),
                    quoted(&made.spec.id)
                );
                reader.problem(
                    job.at,
                    message,
                    "jobs of a matrix have its name, a dot and a number; rename one",
                );
            }
        }
    }
    jobs.iter().map(|job| job.made.iter().map(|made| made.spec.id.clone()).collect()).collect()
}

fn unknown(reader: &mut Reader<'_>, jobs: &[Job], from: usize, need: &str, at: usize) {
    if reader.is_full() {
        return reader.problem(at, "", "");
    }
    let others: Vec<&str> =
        jobs.iter().enumerate().filter(|(other, _)| *other != from).map(|(_, job)| job.id.as_str()).collect();
    let help = match reader.suggestion(need, others.iter().copied()) {
        Some(question) => question,
        None if others.is_empty() => "it has no other job".to_owned(),
        None => format!("the other jobs are {}", list(&others)),
    };
    let job = quoted(&jobs[from].id);
    reader.problem(at, format!("job {job} needs {}, which is not a job of this target", quoted(need)), help);
}

/// The first circle: each job of it, with the place where it says that it needs the next.
fn circle(edges: &[Vec<(usize, usize)>]) -> Option<Vec<(usize, usize)>> {
    // Take away jobs whose needs are all met until none is left to take. What remains waits for
    // a circle or is in one.
    let mut waits: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    for (from, needs) in edges.iter().enumerate() {
        needs.iter().for_each(|&(to, _)| needed_by[to].push(from));
    }
    let mut ready: Vec<usize> = (0..edges.len()).filter(|&job| waits[job] == 0).collect();
    while let Some(done) = ready.pop() {
        for &job in &needed_by[done] {
            waits[job] -= 1;
            if waits[job] == 0 {
                ready.push(job);
            }
        }
    }
    // From a job that remains, each step to a need that remains stays among them, and comes back.
    let mut job = (0..edges.len()).find(|&job| waits[job] > 0)?;
    let mut way: Vec<(usize, usize)> = Vec::new();
    let mut visited = vec![false; edges.len()];
    while !visited[job] {
        visited[job] = true;
        let &(next, at) = edges[job].iter().find(|(next, _)| waits[*next] > 0)?;
        way.push((job, at));
        job = next;
    }
    let start = way.iter().position(|&(other, _)| other == job)?;
    let mut circle = way.split_off(start);
    // It reads best from the job that comes first in the file.
    let first = circle.iter().enumerate().min_by_key(|(_, (job, _))| *job)?.0;
    circle.rotate_left(first);
    Some(circle)
}
