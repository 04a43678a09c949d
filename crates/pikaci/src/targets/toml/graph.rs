//! `needs`: every one is a job of the same target, and nothing waits for itself.

use std::collections::HashMap;
use std::ops::Range;

use super::reader::{Reader, suggestion};
use crate::render::text::shorten;

/// A job that another waits for.
#[derive(Debug, Clone)]
pub(super) struct Need {
    /// Where it is written.
    pub(super) span: Range<usize>,
    /// Its name.
    pub(super) id: String,
}

/// `needs[i]` are those of the job `ids[i]`. Without recursion: the file may be of any size.
pub(super) fn check(reader: &mut Reader, ids: &[&str], needs: &[Vec<Need>]) {
    let index: HashMap<&str, usize> = ids.iter().enumerate().map(|(index, id)| (*id, index)).collect();
    let mut edges: Vec<Vec<(usize, &Need)>> = Vec::new();
    for (job, wanted) in needs.iter().enumerate() {
        let mut known = Vec::new();
        for need in wanted {
            match index.get(need.id.as_str()) {
                Some(target) => known.push((*target, need)),
                None => {
                    let others: Vec<&str> = ids.iter().filter(|id| **id != ids[job]).copied().collect();
                    let meant = suggestion(&need.id, &others);
                    let (job, need_id) = (shorten(ids[job]), shorten(&need.id));
                    reader.problem(
                        need.span.clone(),
                        format!("job `{job}` needs `{need_id}`, which is not a job of this target; {meant}"),
                    );
                }
            }
        }
        edges.push(known);
    }
    if let Some(circle) = circle(&edges) {
        let mut names: Vec<String> = circle.iter().map(|(job, _)| shorten(ids[*job])).collect();
        names.push(names[0].clone());
        let (job, edge) = circle[0];
        let span = edges[job][edge].1.span.clone();
        reader.problem(span, format!("jobs need each other in a circle: {}", names.join(" -> ")));
    }
}

/// Jobs that wait for each other, each with the number of the need that leads to the next.
fn circle(edges: &[Vec<(usize, &Need)>]) -> Option<Vec<(usize, usize)>> {
    // Take away what waits for nothing, again and again: what stays waits for a circle.
    let mut waiting: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut dependants: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    for (job, needs) in edges.iter().enumerate() {
        for (need, _) in needs {
            dependants[*need].push(job);
        }
    }
    let mut free: Vec<usize> = (0..edges.len()).filter(|job| waiting[*job] == 0).collect();
    while let Some(job) = free.pop() {
        for dependant in &dependants[job] {
            waiting[*dependant] -= 1;
            if waiting[*dependant] == 0 {
                free.push(*dependant);
            }
        }
    }
    let mut job = (0..edges.len()).find(|job| waiting[*job] > 0)?;
    let mut place: Vec<Option<usize>> = vec![None; edges.len()];
    let mut path: Vec<(usize, usize)> = Vec::new();
    loop {
        if let Some(start) = place[job] {
            return Some(path.split_off(start));
        }
        place[job] = Some(path.len());
        let edge = edges[job].iter().position(|(need, _)| waiting[*need] > 0)?;
        path.push((job, edge));
        job = edges[job][edge].0;
    }
}
