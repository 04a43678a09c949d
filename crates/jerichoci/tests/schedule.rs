//! The scheduler: order, limits, failures, and an end whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use jerichoci::model::job::{GuestCommand, JobSpec};
use jerichoci::run::plan::{NodeIndex, NodeWork, PlanNode, plan};
use jerichoci::run::schedule::{Limits, NotStarted, Outcome, Schedule};
use proptest::prelude::*;

fn limits(max_concurrent: usize) -> Limits {
    Limits { max_concurrent, groups: BTreeMap::new(), keep_going: false }
}

fn keep_going(max_concurrent: usize) -> Limits {
    Limits { keep_going: true, ..limits(max_concurrent) }
}

/// Job nodes; each with its needs and groups.
fn jobs(needs: &[(&[usize], &[&str])]) -> Vec<PlanNode> {
    let specs: Vec<JobSpec> = needs
        .iter()
        .enumerate()
        .map(|(index, (needs, groups))| {
            let command = GuestCommand::Argv { argv: vec!["true".into()] };
            let mut job = JobSpec::host_process(format!("j{index}"), command);
            job.needs = needs.iter().map(|need| format!("j{need}")).collect();
            job.groups = groups.iter().map(ToString::to_string).collect();
            job
        })
        .collect();
    plan(&specs).unwrap().nodes().to_vec()
}

fn prepare(id: &str, depends_on: &[usize]) -> PlanNode {
    PlanNode {
        id: id.into(),
        description: String::new(),
        depends_on: depends_on.iter().copied().map(NodeIndex).collect(),
        groups: Vec::new(),
        work: NodeWork::CheckBackend { job_id: id.into() },
    }
}

fn indices(nodes: &[NodeIndex]) -> Vec<usize> {
    nodes.iter().map(|node| node.0).collect()
}

fn why(schedule: &Schedule) -> Vec<(usize, NotStarted)> {
    schedule.not_started().map(|(node, why)| (node.0, why)).collect()
}

#[test]
fn jobs_start_in_plan_order_and_only_when_their_needs_have_passed() {
    let mut schedule = Schedule::new(&jobs(&[(&[2], &[]), (&[], &[]), (&[], &[])]), &limits(2));
    assert_eq!(indices(&schedule.ready()), [1, 2]);
    schedule.finished(NodeIndex(1), Outcome::Passed);
    assert_eq!(indices(&schedule.ready()), [0; 0]);
    schedule.finished(NodeIndex(2), Outcome::Passed);
    assert_eq!(indices(&schedule.ready()), [0]);
    assert!(!schedule.is_done());
    schedule.finished(NodeIndex(0), Outcome::Passed);
    assert!(schedule.is_done());
    assert_eq!(why(&schedule), []);
}

#[test]
fn after_a_failure_nothing_new_starts_and_each_job_says_why() {
    let mut schedule =
        Schedule::new(&jobs(&[(&[], &[]), (&[], &[]), (&[0], &[]), (&[2], &[]), (&[], &[])]), &limits(2));
    assert_eq!(indices(&schedule.ready()), [0, 1]);
    schedule.finished(NodeIndex(0), Outcome::Failed);
    assert_eq!(indices(&schedule.ready()), [0; 0]);
    assert!(!schedule.is_done(), "job 1 runs on");
    schedule.finished(NodeIndex(1), Outcome::Passed);
    assert!(schedule.is_done());
    let failed = NodeIndex(0);
    assert_eq!(
        why(&schedule),
        [
            (2, NotStarted::NeedFailed(failed)),
            (3, NotStarted::NeedFailed(failed)),
            (4, NotStarted::FailFast(failed))
        ]
    );
}

#[test]
fn keep_going_gives_up_only_what_depends_on_the_failure() {
    let mut schedule =
        Schedule::new(&jobs(&[(&[], &[]), (&[0], &[]), (&[1], &[]), (&[], &[])]), &keep_going(1));
    assert_eq!(indices(&schedule.ready()), [0]);
    schedule.finished(NodeIndex(0), Outcome::Failed);
    assert_eq!(indices(&schedule.ready()), [3]);
    schedule.finished(NodeIndex(3), Outcome::Passed);
    assert!(schedule.is_done());
    let why_not = NotStarted::NeedFailed(NodeIndex(0));
    assert_eq!(why(&schedule), [(1, why_not), (2, why_not)]);
}

#[test]
fn a_failed_prepare_counts_as_a_failed_job() {
    let mut nodes = vec![prepare("p0", &[]), prepare("p1", &[0])];
    let mut job = jobs(&[(&[], &[])]).remove(0);
    job.depends_on = vec![NodeIndex(1)];
    nodes.push(job);
    nodes.push(jobs(&[(&[], &[])]).remove(0));
    for keep in [false, true] {
        let mut schedule = Schedule::new(&nodes, &Limits { keep_going: keep, ..limits(1) });
        assert_eq!(indices(&schedule.ready()), [0, 3], "a prepare node takes no job slot");
        schedule.finished(NodeIndex(0), Outcome::Failed);
        schedule.finished(NodeIndex(3), Outcome::Passed);
        assert_eq!(indices(&schedule.ready()), [0; 0]);
        assert!(schedule.is_done());
        let why_not = NotStarted::NeedFailed(NodeIndex(0));
        assert_eq!(why(&schedule), [(1, why_not), (2, why_not)]);
    }
}

#[test]
fn independent_prepares_run_at_the_same_time() {
    let mut schedule = Schedule::new(&[prepare("a", &[]), prepare("b", &[0]), prepare("c", &[])], &limits(1));
    assert_eq!(indices(&schedule.ready()), [0, 2]);
}

#[test]
fn cancelling_stops_what_has_not_started_and_keeps_an_earlier_reason() {
    let mut schedule = Schedule::new(&jobs(&[(&[], &[]), (&[], &[])]), &limits(1));
    assert_eq!(indices(&schedule.ready()), [0]);
    schedule.cancel();
    assert!(!schedule.is_done());
    schedule.finished(NodeIndex(0), Outcome::Failed);
    assert!(schedule.is_done());
    assert_eq!(why(&schedule), [(1, NotStarted::Cancelled)]);

    let mut schedule = Schedule::new(&jobs(&[(&[], &[]), (&[], &[])]), &limits(1));
    assert_eq!(indices(&schedule.ready()), [0]);
    schedule.finished(NodeIndex(0), Outcome::Failed);
    schedule.cancel();
    assert_eq!(why(&schedule), [(1, NotStarted::FailFast(NodeIndex(0)))]);
}

#[test]
fn a_group_has_one_place_unless_it_is_given_more() {
    let nodes = jobs(&[(&[], &["mac"]), (&[], &["mac"]), (&[], &["mac"]), (&[], &[])]);
    let mut schedule = Schedule::new(&nodes, &limits(4));
    assert_eq!(indices(&schedule.ready()), [0, 3]);
    schedule.finished(NodeIndex(0), Outcome::Passed);
    assert_eq!(indices(&schedule.ready()), [1]);
    let wide = Limits { groups: BTreeMap::from([("mac".into(), 2)]), ..limits(4) };
    assert_eq!(indices(&Schedule::new(&nodes, &wide).ready()), [0, 1, 3]);
}

#[test]
fn ten_thousand_jobs_with_one_group_are_scheduled_in_no_time() {
    // Quadratic behaviour would take minutes here; the test has no clock, only patience.
    let groups: &[&str] = &["one"];
    let all: Vec<(&[usize], &[&str])> = vec![(&[], groups); 10_000];
    let mut schedule = Schedule::new(&jobs(&all), &limits(8));
    let mut count = 0;
    loop {
        let ready = schedule.ready();
        let Some(node) = ready.first() else { break };
        count += ready.len();
        schedule.finished(*node, Outcome::Passed);
    }
    assert!(schedule.is_done());
    assert_eq!(count, 10_000);
}

#[derive(Debug, Clone)]
struct Case {
    nodes: Vec<PlanNode>,
    limits: Limits,
    /// Nodes that fail.
    failing: BTreeSet<usize>,
    /// Which running node ends next.
    picks: Vec<usize>,
    cancel_after: Option<usize>,
}

fn case() -> impl Strategy<Value = Case> {
    let node =
        (prop::collection::vec(any::<prop::sample::Index>(), 0..3), 0u8..8, prop::bool::weighted(0.15));
    (
        prop::collection::vec(node, 1..24),
        1usize..5,
        (1usize..3, 1usize..3),
        any::<bool>(),
        prop::collection::btree_set(0usize..24, 0..3),
        prop::collection::vec(any::<usize>(), 24),
        prop::option::weighted(0.2, 0usize..24),
    )
        .prop_map(|(nodes, max_concurrent, (a, b), keep_going, failing, picks, cancel_after)| {
            // Needs point backwards here; the order of the plan is then turned round for half
            // of them by position, since real needs may point forwards too.
            let count = nodes.len();
            let place = |index: usize| if keep_going { count - 1 - index } else { index };
            let mut placed: Vec<Option<PlanNode>> = vec![None; count];
            for (index, (needs, groups, is_prepare)) in nodes.into_iter().enumerate() {
                let mut node = prepare("p", &[]);
                if !is_prepare {
                    node = jobs(&[(&[], &[])]).remove(0);
                    node.groups = ["a", "b", "c"]
                        .iter()
                        .enumerate()
                        .filter(|(bit, _)| groups & (1 << bit) != 0)
                        .map(|(_, name)| (*name).to_owned())
                        .collect();
                }
                let needs: BTreeSet<usize> =
                    needs.iter().filter(|_| index > 0).map(|need| place(need.index(index))).collect();
                node.depends_on = needs.into_iter().map(NodeIndex).collect();
                placed[place(index)] = Some(node);
            }
            let groups = BTreeMap::from([("a".into(), a), ("b".into(), b)]);
            let nodes = placed.into_iter().flatten().collect();
            Case {
                nodes,
                limits: Limits { max_concurrent, groups, keep_going },
                failing,
                picks,
                cancel_after,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_schedule_keeps_its_limits_and_ends(case in case()) {
        let Case { nodes, limits, failing, picks, cancel_after } = case;
        let mut schedule = Schedule::new(&nodes, &limits);
        let mut running: Vec<usize> = Vec::new();
        let mut started = BTreeSet::new();
        let mut passed = BTreeSet::new();
        let mut first_failure: Option<usize> = None;
        let mut cancelled = false;
        for step in 0.. {
            if cancel_after == Some(step) {
                schedule.cancel();
                cancelled = true;
            }
            let batch = indices(&schedule.ready());
            prop_assert!(batch.is_sorted(), "plan order");
            for index in batch {
                prop_assert!(started.insert(index), "started once");
                for need in &nodes[index].depends_on {
                    prop_assert!(passed.contains(&need.0), "not before its needs");
                }
                prop_assert!(!cancelled, "not after a cancel");
                prop_assert!(limits.keep_going || first_failure.is_none(), "not after a failure");
                running.push(index);
            }
            prop_assert!(schedule.ready().is_empty(), "one call gives all there is");
            let jobs = running.iter().filter(|index| !nodes[**index].is_prepare()).count();
            prop_assert!(jobs <= limits.max_concurrent);
            for group in ["a", "b", "c"] {
                let users = running.iter().filter(|i| nodes[**i].groups.iter().any(|g| g == group)).count();
                prop_assert!(users <= limits.groups.get(group).copied().unwrap_or(1));
            }
            prop_assert_eq!(schedule.running(), running.len());
            if running.is_empty() {
                break;
            }
            prop_assert!(!schedule.is_done());
            // Nothing idles: a job that could run at once does.
            if !cancelled && (limits.keep_going || first_failure.is_none()) && jobs < limits.max_concurrent {
                let idle = nodes.iter().enumerate().find(|(index, node)| {
                    !node.is_prepare()
                        && !started.contains(index)
                        && node.depends_on.iter().all(|need| passed.contains(&need.0))
                        && node.groups.iter().all(|group| {
                            let users =
                                running.iter().filter(|i| nodes[**i].groups.contains(group)).count();
                            users < limits.groups.get(group).copied().unwrap_or(1)
                        })
                });
                prop_assert!(idle.is_none(), "node {:?} idles", idle.map(|(index, _)| index));
            }
            let index = running.swap_remove(picks[step % picks.len()] % running.len());
            if failing.contains(&index) {
                first_failure.get_or_insert(index);
                schedule.finished(NodeIndex(index), Outcome::Failed);
            } else {
                passed.insert(index);
                schedule.finished(NodeIndex(index), Outcome::Passed);
            }
        }
        prop_assert!(schedule.is_done());
        let reasons: BTreeMap<usize, NotStarted> = why(&schedule).into_iter().collect();
        for index in 0..nodes.len() {
            prop_assert_eq!(started.contains(&index), !reasons.contains_key(&index), "one or the other");
        }
        for reason in reasons.values() {
            match reason {
                NotStarted::NeedFailed(node) => prop_assert!(started.contains(&node.0) && !passed.contains(&node.0)),
                NotStarted::FailFast(node) => {
                    prop_assert!(!limits.keep_going);
                    prop_assert_eq!(Some(node.0), first_failure);
                }
                NotStarted::Cancelled => prop_assert!(cancelled),
            }
        }
    }
}
