//! Jobs with awkward children.

use serde_json::Value;

use crate::common::{Tree, each_way, verdicts};

const TARGETS: &str = r#"
[targets.leader.jobs.leader]
command = """
setsid sleep 600 </dev/null >/dev/null 2>&1 &
exit 3
"""
[targets.background.jobs.background]
command = "sleep 600 & echo done"
[targets.bare.jobs.bare]
command = "s=$(command -v sleep); (setsid env -i \"$s\" 600 &); echo done"
[targets.deaf.jobs.deaf]
command = """
trap '' TERM INT HUP
(trap '' TERM; setsid sh -c 'trap "" TERM; while :; do sleep 600; done' &)
while :; do sleep 600; done
"""
timeout = "1s"
[targets.deaf.jobs.after]
command = "true"
needs = ["deaf"]
[targets.closed.jobs.closed]
command = "exec >&- 2>&-; exec sleep 600"
timeout = "1s"
[targets.tag.jobs.tag]
command = "printf %s \"$JERICHOCI_JOB\""
"#;

#[track_caller]
fn only_job(record: &Value) -> &Value {
    assert_eq!(record["jobs"].as_array().unwrap().len(), 1, "{record:#}");
    &record["jobs"][0]
}

/// Holds that the job ended promptly: a wait for the child would take ten minutes, and waiting
/// out a pipe or a grace takes seconds.
#[track_caller]
fn ended_promptly_and_names(job: &Value, name: &str) {
    let leaked = job["leaked"].as_array().unwrap();
    assert!(leaked.iter().any(|leak| leak.as_str().unwrap().contains(name)), "{job:#}");
    assert!(job["duration_ms"].as_u64().unwrap() < 4500, "{job:#}");
}

#[test]
fn a_session_leader_that_a_job_leaves_is_ended_and_named() {
    each_way(|way| {
        let tree = Tree::new(way, TARGETS);
        let record = tree.record_of(&["run", "leader"]);
        let job = only_job(&record);
        assert_eq!(job["failure_kind"], "test_failure", "{record:#}");
        assert_eq!(job["exit_code"], 3);
        ended_promptly_and_names(job, "sleep 600");
        tree.nothing_is_left();
    });
}

#[test]
fn a_background_child_that_holds_the_pipe_does_not_hold_up_the_job_and_is_named() {
    each_way(|way| {
        let tree = Tree::new(way, TARGETS);
        let record = tree.record_of(&["run", "background"]);
        let job = only_job(&record);
        assert_eq!(job["status"], "passed", "{record:#}");
        ended_promptly_and_names(job, "sleep 600");
        tree.nothing_is_left();
        let id = record["run_id"].as_str().unwrap();
        let log = String::from_utf8(tree.host_log(id, "background")).unwrap();
        assert!(log.starts_with("done\n[jerichoci] left behind and ended: sleep 600 (pid "), "{log}");
        let told = tree.run(&["rerun", id]).code(0);
        told.says("background: left behind and ended: sleep 600");
    });
}

#[test]
fn a_child_without_environment_that_holds_the_pipe_is_found_too() {
    each_way(|way| {
        let tree = Tree::new(way, TARGETS);
        let record = tree.record_of(&["run", "bare"]);
        ended_promptly_and_names(only_job(&record), "sleep 600");
    });
}

#[test]
fn a_job_that_ignores_term_is_killed_after_its_grace_with_all_its_children() {
    each_way(|way| {
        let tree = Tree::new(way, TARGETS);
        let record = tree.record_of(&["run", "deaf"]);
        assert_eq!(record["failure_kind"], "timeout", "{record:#}");
        assert_eq!(verdicts(&record)[1], ("after".to_owned(), "skipped".to_owned()));
        let took = record["jobs"][0]["duration_ms"].as_u64().unwrap();
        assert!(took >= 6000, "the limit and the grace are {took} ms together: no time to clean up");
        tree.nothing_is_left();
        let log = tree.host_log(record["run_id"].as_str().unwrap(), "deaf");
        assert!(log.ends_with(b"[jerichoci] timed out after 1s\n"), "{}", String::from_utf8_lossy(&log));
    });
}

#[test]
fn a_job_that_closed_its_output_is_still_waited_for_and_timed_out() {
    each_way(|way| {
        let tree = Tree::new(way, TARGETS);
        let record = tree.record_of(&["run", "closed"]);
        assert_eq!(only_job(&record)["failure_kind"], "timeout", "{record:#}");
        tree.nothing_is_left();
    });
}

#[test]
fn every_process_of_a_job_carries_its_tag() {
    let tree = Tree::with(TARGETS);
    let record = tree.record_of(&["run", "tag"]);
    let id = record["run_id"].as_str().unwrap();
    let tag = String::from_utf8(tree.host_log(id, "tag")).unwrap();
    let parts: Vec<&str> = tag.split('/').collect();
    assert_eq!(parts[..2], [id, "tag"], "{tag}");
    assert!(parts.len() == 3 && parts[2].len() >= 8, "{tag}");
}
