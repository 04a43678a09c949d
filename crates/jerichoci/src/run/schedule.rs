//! Which node starts when: a pure state machine over the nodes of a plan. No clock, no thread.
//!
//! The caller asks [`Schedule::ready`], runs what it gets, and tells [`Schedule::finished`].
//! A step costs a logarithm of the number of nodes, and each edge is looked at once.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{NodeIndex, PlanNode};

/// Prepare nodes that run at once. They have no job slot, but each may mean a connection.
const PREPARES_AT_ONCE: usize = 16;

/// How much may run at once, and what a failure means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Jobs that run at once; at least 1.
    pub max_concurrent: usize,
    /// Places of each named group; 1 for a group that is not listed, and at least 1.
    pub groups: BTreeMap<String, usize>,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
}

/// How a node ended, as far as others care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its dependants may start.
    Passed,
    /// They never will.
    Failed,
}

/// Why a node was never started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStarted {
    /// This node failed, and the node needs it, directly or through others.
    NeedFailed(NodeIndex),
    /// This node failed first, and nothing starts after a failure.
    FailFast(NodeIndex),
    /// The run was cancelled.
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for this many others.
    Waiting(usize),
    /// Waits for a slot or a place.
    Runnable,
    Running,
    Ended,
    /// Never to be started, because this node failed.
    Blocked(NodeIndex),
}

#[derive(Debug, Clone)]
struct Node {
    state: State,
    prepare: bool,
    dependants: Vec<usize>,
    groups: Vec<usize>,
    /// Group that was full when the node last tried, and that has woken it since.
    woken_by: Option<usize>,
}

#[derive(Debug, Clone)]
struct Group {
    free: usize,
    waiting: BTreeSet<usize>,
}

/// The state of all nodes of a plan.
#[derive(Debug, Clone)]
pub struct Schedule {
    nodes: Vec<Node>,
    groups: Vec<Group>,
    keep_going: bool,
    free_slots: usize,
    free_prepares: usize,
    prepares: BTreeSet<usize>,
    jobs: BTreeSet<usize>,
    running: usize,
    /// Nothing starts any more, for this reason.
    stopped: Option<NotStarted>,
}

impl Schedule {
    /// Nothing has started. The nodes are free of circles, as [`super::plan::plan`] makes them.
    #[must_use]
    pub fn new(plan: &[PlanNode], limits: &Limits) -> Self {
        let mut group_ids = BTreeMap::new();
        let mut groups = Vec::new();
        let mut nodes: Vec<Node> = Vec::with_capacity(plan.len());
        for node in plan {
            let mut own: Vec<usize> = Vec::with_capacity(node.groups.len());
            for name in &node.groups {
                let id = *group_ids.entry(name.as_str()).or_insert_with(|| {
                    let width = limits.groups.get(name).copied().unwrap_or(1);
                    groups.push(Group { free: width.max(1), waiting: BTreeSet::new() });
                    groups.len() - 1
                });
                if !own.contains(&id) {
                    own.push(id);
                }
            }
            nodes.push(Node {
                state: State::Waiting(0),
                prepare: node.is_prepare(),
                dependants: Vec::new(),
                groups: own,
                woken_by: None,
            });
        }
        for (index, node) in plan.iter().enumerate() {
            for need in &node.depends_on {
                nodes[need.0].dependants.push(index);
            }
            nodes[index].state = State::Waiting(node.depends_on.len());
        }
        let mut schedule = Self {
            nodes,
            groups,
            keep_going: limits.keep_going,
            free_slots: limits.max_concurrent.max(1),
            free_prepares: PREPARES_AT_ONCE,
            prepares: BTreeSet::new(),
            jobs: BTreeSet::new(),
            running: 0,
            stopped: None,
        };
        for index in 0..schedule.nodes.len() {
            schedule.release(index);
        }
        schedule
    }

    /// What to start now, in the order of the plan; slots and places are taken. Empty until
    /// something ends.
    #[must_use]
    pub fn ready(&mut self) -> Vec<NodeIndex> {
        let mut started = Vec::new();
        if self.stopped.is_some() {
            return started;
        }
        while self.free_prepares > 0 {
            let Some(index) = self.prepares.pop_first() else { break };
            self.free_prepares -= 1;
            self.start(index, &mut started);
        }
        while self.free_slots > 0 {
            let Some(index) = self.jobs.pop_first() else { break };
            if self.take_places(index) {
                self.free_slots -= 1;
                self.start(index, &mut started);
            }
        }
        started.sort_unstable();
        started
    }

    /// A node that was started has ended. Told of any other node, it changes nothing.
    pub fn finished(&mut self, node: NodeIndex, outcome: Outcome) {
        let NodeIndex(index) = node;
        if self.nodes.get(index).is_none_or(|node| node.state != State::Running) {
            return;
        }
        self.nodes[index].state = State::Ended;
        self.running -= 1;
        if self.nodes[index].prepare {
            self.free_prepares += 1;
        } else {
            self.free_slots += 1;
            for position in 0..self.nodes[index].groups.len() {
                let group = self.nodes[index].groups[position];
                self.groups[group].free += 1;
                self.wake_one(group);
            }
        }
        match outcome {
            Outcome::Passed => {
                for dependant in std::mem::take(&mut self.nodes[index].dependants) {
                    if let State::Waiting(count) = &mut self.nodes[dependant].state {
                        *count -= 1;
                    }
                    self.release(dependant);
                }
            }
            Outcome::Failed => {
                self.block_dependants(node);
                if !self.keep_going {
                    self.stopped.get_or_insert(NotStarted::FailFast(node));
                }
            }
        }
    }

    /// Nothing starts any more.
    pub fn cancel(&mut self) {
        self.stopped.get_or_insert(NotStarted::Cancelled);
    }

    /// Nothing runs, and nothing will.
    #[must_use]
    pub fn is_done(&self) -> bool {
        // A job that waits for a place waits for a running one, so it needs no look here.
        self.running == 0 && (self.stopped.is_some() || (self.prepares.is_empty() && self.jobs.is_empty()))
    }

    /// Nothing new starts, whatever there is left: a job failed under fail-fast, or it was cancelled.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// How many nodes run.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// The nodes that will never start, with the reason, in the order of the plan. Before the
    /// end these are the ones that are known already.
    pub fn not_started(&self) -> impl Iterator<Item = (NodeIndex, NotStarted)> + '_ {
        self.nodes.iter().enumerate().filter_map(|(index, node)| {
            let why = match node.state {
                State::Blocked(failed) => Some(NotStarted::NeedFailed(failed)),
                State::Waiting(_) | State::Runnable => self.stopped,
                State::Running | State::Ended => None,
            };
            why.map(|why| (NodeIndex(index), why))
        })
    }

    fn start(&mut self, index: usize, started: &mut Vec<NodeIndex>) {
        self.nodes[index].state = State::Running;
        self.running += 1;
        started.push(NodeIndex(index));
    }

    fn release(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.state == State::Waiting(0) {
            node.state = State::Runnable;
            if node.prepare {
                self.prepares.insert(index)
            } else {
                self.jobs.insert(index)
            };
        }
    }

    /// Takes a place of each group, or none and waits at the first full one.
    fn take_places(&mut self, index: usize) -> bool {
        let woken_by = self.nodes[index].woken_by.take();
        let full = self.nodes[index].groups.iter().copied().find(|group| self.groups[*group].free == 0);
        let Some(full) = full else {
            for group in &self.nodes[index].groups {
                self.groups[*group].free -= 1;
            }
            return true;
        };
        self.groups[full].waiting.insert(index);
        // The place it was woken for is not taken: the next one may.
        if let Some(group) = woken_by.filter(|group| *group != full) {
            self.wake_one(group);
        }
        false
    }

    fn wake_one(&mut self, group: usize) {
        if let Some(index) = self.groups[group].waiting.pop_first() {
            self.nodes[index].woken_by = Some(group);
            self.jobs.insert(index);
        }
    }

    fn block_dependants(&mut self, failed: NodeIndex) {
        let mut open = std::mem::take(&mut self.nodes[failed.0].dependants);
        while let Some(index) = open.pop() {
            let node = &mut self.nodes[index];
            if matches!(node.state, State::Waiting(_)) {
                node.state = State::Blocked(failed);
                open.append(&mut node.dependants);
            }
        }
    }
}
