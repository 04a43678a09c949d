//! Runs of chosen jobs, with arguments, and reruns of what is outstanding.

use std::collections::{BTreeSet, HashMap, HashSet};

use jericho_host::CancelToken;
use jerichoci::model::job::{GuestCommand, JobSpec};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;
use jerichoci::run::outstanding::{closure_of_needs, needs_outside, outstanding};
use jerichoci::run::request::RequestError;
use jerichoci::{EngineError, NoReporter, RerunRequest, RunOptions, RunRequest};
use proptest::prelude::*;

use crate::rig::{Rig, job, needs, sh};

fn ids(jobs: &[JobSpec]) -> Vec<&str> {
    jobs.iter().map(|job| job.id.as_str()).collect()
}

fn ran(run: &RunRecord) -> Vec<&str> {
    run.jobs.iter().map(|job| job.id.as_str()).collect()
}

fn rerun(rig: &Rig, request: &RerunRequest) -> RunRecord {
    rig.engine().rerun(request, &mut NoReporter, &CancelToken::new().unwrap()).unwrap()
}

#[test]
fn only_runs_a_job_and_what_it_needs() {
    let rig = Rig::new();
    let jobs = vec![
        sh("fmt", "true"),
        needs(sh("build", "true"), &["fmt"]),
        needs(sh("test", "true"), &["build"]),
        sh("docs", "exit 1"),
    ];
    let mut request = RunRequest::new(jobs);
    request.options.only = vec!["build".into()];
    let run = rig.run_request(&request);
    assert_eq!((run.verdict, ran(&run)), (Verdict::Passed, vec!["fmt", "build"]));
    request.options.only = vec!["biuld".into()];
    let error = rig.engine().run(&request, &mut NoReporter, &CancelToken::new().unwrap()).unwrap_err();
    assert!(matches!(error, EngineError::Request(RequestError::UnknownJob { .. })), "{error}");
    assert_eq!(error.to_string(), "there is no job `biuld`; the jobs are: fmt, build, test, docs");
}

#[test]
fn arguments_are_appended_to_commands_and_are_positional_parameters_of_scripts() {
    let rig = Rig::new();
    let script =
        |id: &str| JobSpec::host_process(id, GuestCommand::Script { script: "printf '<%s>' \"$@\"".into() });
    let line = JobSpec::host_process(
        "line",
        GuestCommand::HostShellCommand { command: "printf '<%s>' \"$@\"".into() },
    );
    let argv =
        JobSpec::host_process("argv", GuestCommand::Argv { argv: vec!["printf".into(), "<%s>".into()] });
    let mut request = RunRequest::new(vec![script("script"), line, argv]);
    request.options.args = vec!["a b".into(), "$HOME".into(), "--".into()];
    let run = rig.run_request(&request);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    for id in ["script", "line", "argv"] {
        assert_eq!(rig.log(&run, id), "<a b><$HOME><-->", "{id}");
    }
    let plan = std::fs::read_to_string(rig.run_dir(&run).join("plan.json")).unwrap();
    assert!(plan.contains("printf '<%s>' 'a b' '$HOME' --"), "{plan}");
    // The same again.
    let again = rerun(&rig, &RerunRequest::new(run.run_id.parse().unwrap()));
    assert_eq!(rig.log(&again, "argv"), "<a b><$HOME><-->");
    // With `only`, for the jobs that were named, not for what they need.
    let mut request = RunRequest::new(vec![script("first"), needs(script("second"), &["first"])]);
    request.options =
        RunOptions { only: vec!["second".into()], args: vec!["x".into()], ..RunOptions::default() };
    let run = rig.run_request(&request);
    assert_eq!((rig.log(&run, "first").as_str(), rig.log(&run, "second").as_str()), ("<>", "<x>"));
}

#[test]
fn a_rerun_of_what_failed_runs_that_and_what_waited_for_it_on_the_recorded_source() {
    let rig = Rig::new();
    let broken = rig.outside().join("broken");
    std::fs::write(&broken, "").unwrap();
    let flaky = format!("[ ! -e '{}' ]", broken.display());
    let jobs = vec![
        sh("fmt", "true"),
        needs(sh("test", &flaky), &["fmt"]),
        needs(sh("package", "cat a.txt"), &["test", "fmt"]),
        needs(sh("docs", "true"), &["fmt"]),
    ];
    let run = rig.run_request(&RunRequest::new(jobs).keep_going(true));
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::TestFailure));
    std::fs::remove_file(&broken).unwrap();
    std::fs::write(rig.root.join("a.txt"), "changed\n").unwrap();
    let again = rerun(&rig, &RerunRequest::new(run.run_id.parse().unwrap()).failed_only(true));
    assert_eq!((again.verdict, ran(&again)), (Verdict::Passed, vec!["test", "package"]));
    assert_eq!(rig.log(&again, "package"), "one\n");
    assert_eq!(again.rerun_of.as_deref(), Some(run.run_id.as_str()));
    // Nothing is outstanding in the rerun; all of it can be repeated as it was.
    let nothing = rerun(&rig, &RerunRequest::new(again.run_id.parse().unwrap()).failed_only(true));
    assert_eq!((nothing.verdict, ran(&nothing)), (Verdict::Skipped, vec![]));
    assert!(nothing.message.unwrap().contains("every job passed"));
    let whole = rerun(&rig, &RerunRequest::new(again.run_id.parse().unwrap()));
    assert_eq!(ran(&whole), ["test", "package"]);
}

#[test]
fn a_rerun_with_the_current_tree_takes_todays_files_and_definitions() {
    let rig = Rig::new();
    let run = rig.run_request(
        &RunRequest::new(vec![sh("good", "true"), sh("bad", "cat a.txt; exit 1")]).keep_going(true),
    );
    std::fs::write(rig.root.join("a.txt"), "two\n").unwrap();
    let today = vec![sh("good", "true"), sh("bad", "cat a.txt"), needs(sh("new", "true"), &["good"])];
    let id: jerichoci::model::id::RunId = run.run_id.parse().unwrap();
    let again = rerun(&rig, &RerunRequest::new(id.clone()).current(today.clone()));
    assert_eq!((again.verdict, ran(&again)), (Verdict::Passed, vec!["good", "bad", "new"]));
    assert_eq!(rig.log(&again, "bad"), "two\n");
    assert_ne!(again.snapshot_hash, run.snapshot_hash);
    let again = rerun(&rig, &RerunRequest::new(id).current(today).failed_only(true));
    assert_eq!((again.verdict, ran(&again)), (Verdict::Passed, vec!["bad", "new"]));
    assert_eq!(job(&again, "new").verdict, Verdict::Passed);
}

/// Any graph without circles, and any set of jobs that passed.
fn graph() -> impl Strategy<Value = (Vec<JobSpec>, HashSet<usize>)> {
    (1..12usize).prop_flat_map(|count| {
        let edges = prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), count);
        let order = Just((0..count).collect::<Vec<_>>()).prop_shuffle();
        (edges, order, prop::collection::hash_set(0..count, 0..=count)).prop_map(|(edges, order, passed)| {
            let mut jobs = Vec::new();
            for (job, needed) in edges.into_iter().enumerate() {
                let mut spec = sh(&format!("j{job}"), "true");
                if job > 0 {
                    spec.needs = needed.iter().map(|need| format!("j{}", need.index(job))).collect();
                }
                jobs.push(spec);
            }
            (order.into_iter().map(|at| jobs[at].clone()).collect(), passed)
        })
    })
}

/// Whether `job` needs something of `of`, directly or through others; by brute force.
fn needs_one_of(job: &str, of: &HashSet<&str>, jobs: &HashMap<&str, &JobSpec>) -> bool {
    jobs[job].needs.iter().any(|need| of.contains(need.as_str()) || needs_one_of(need, of, jobs))
}

proptest! {
    #[test]
    fn a_rerun_of_what_failed_covers_exactly_the_outstanding_jobs((jobs, passed) in graph()) {
        let by_id: HashMap<&str, &JobSpec> = jobs.iter().map(|job| (job.id.as_str(), job)).collect();
        let names: HashSet<String> = passed.iter().map(|job| format!("j{job}")).collect();
        let passed: HashSet<&str> = names.iter().map(String::as_str).collect();
        let not: HashSet<&str> = by_id.keys().copied().filter(|id| !passed.contains(id)).collect();
        let left = outstanding(&jobs, &passed);
        let expected: Vec<&str> = ids(&jobs)
            .into_iter()
            .filter(|id| not.contains(id) || needs_one_of(id, &not, &by_id))
            .collect();
        prop_assert_eq!(ids(&left), expected);
        // What it leans on has passed, and is not run again.
        let outside = needs_outside(&left);
        prop_assert!(outside.iter().all(|need| passed.contains(need.as_str())));
        prop_assert!(!ids(&left).iter().any(|id| outside.iter().any(|need| need == id)));
    }

    #[test]
    fn a_chosen_job_comes_with_all_it_needs_and_nothing_else((jobs, chosen) in graph()) {
        let only: Vec<String> = chosen.iter().map(|job| format!("j{job}")).collect();
        let got = closure_of_needs(&jobs, &only).unwrap();
        let set: BTreeSet<&str> = ids(&got).into_iter().collect();
        prop_assert!(needs_outside(&got).is_empty());
        prop_assert!(only.iter().all(|id| set.contains(id.as_str())));
        let only: HashSet<&str> = only.iter().map(String::as_str).collect();
        for id in set.iter().filter(|id| !only.is_empty() && !only.contains(*id)) {
            prop_assert!(got.iter().any(|job| job.needs.iter().any(|need| need == id)));
        }
    }
}
