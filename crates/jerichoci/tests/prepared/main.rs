//! Prepared outputs of jobs on this machine, with the real nix.

mod faults;
mod tree;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};

use jericho_host::{CancelReason, CancelToken, Command, Host as _, LocalHost};
use jericho_testkit::need::needs_root;
use jericho_testkit::nix::Rig;
use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::outputs::{Consumer, PreparedOutputsRecord, Residency};
use jerichoci::{NoReporter, Reporter};

use crate::tree::{BUILD, DEPS, Tree, job, shell, staged};

#[test]
fn a_staged_job_runs_its_wrapper_from_outputs_that_were_built_for_it() {
    let Some(tree) = Tree::new("a_staged_job_runs_its_wrapper_from_outputs_that_were_built_for_it") else {
        return;
    };
    let run = tree.run(vec![staged("a", "run-test"), staged("b", "run-test")]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(
        tree.steps(),
        ["builtins.path", "hash path", "path-info", "--realise", "path-info", "--realise"]
    );
    let log = tree.log(&run, "jobs/a/host.log");
    assert!(
        log.contains("staged-linux-rust/workspace-build/bin/run-test") && log.contains("deps\n"),
        "{log}"
    );

    let nodes = ["prepare-t-workspace-deps", "prepare-t-workspace-build"];
    let timed: Vec<&str> = run.prepare_timings.iter().map(|timing| timing.node_id.as_str()).collect();
    assert_eq!(timed, nodes);
    let waited = run.prepare_timings.iter().map(|timing| timing.duration_ms).sum();
    assert_eq!(job(&run, "a").pre_execution_prepare_duration_ms, Some(waited));
    assert!(tree.log(&run, "prepares/prepare-t-workspace-build.log").contains("building"));

    let text = fs::read(run.prepared_outputs_path.as_ref().unwrap()).unwrap();
    let record: PreparedOutputsRecord = serde_json::from_slice(&text).unwrap();
    assert_eq!(run.prepared_output_consumer, Some(Consumer::HostLocalSymlinkMountsV1));
    assert_eq!(record.outputs.len(), 2);
    let build = &record.outputs[1];
    assert_eq!(build.node_id, nodes[1]);
    assert_eq!(build.residency, Residency::LocalAuthoritative);
    assert!(Path::new(&build.realized_path).starts_with(tree.nix.store()));
    assert_eq!(build.payload.as_ref().unwrap().entrypoints[0].name, "run-test");
    let places: Vec<PathBuf> = ["a", "b"]
        .map(|id| tree.dir(&run).join("jobs").join(id).join("staged-linux-rust/workspace-build"))
        .into();
    assert_eq!(build.exposures.iter().map(|at| PathBuf::from(&at.path)).collect::<Vec<_>>(), places);
    assert!(places.iter().all(|place| fs::read_link(place).unwrap() == Path::new(&build.realized_path)));
}

#[test]
fn the_second_run_adds_nothing_and_builds_nothing_also_when_an_unused_file_changed() {
    let Some(tree) =
        Tree::new("the_second_run_adds_nothing_and_builds_nothing_also_when_an_unused_file_changed")
    else {
        return;
    };
    let jobs = || vec![staged("a", "run-test")];
    assert_eq!(tree.run(jobs()).verdict, Verdict::Passed);
    tree.steps();
    let again = tree.run(jobs());
    assert_eq!(again.verdict, Verdict::Passed);
    assert_eq!(tree.steps(), ["--realise", "--realise"], "the same source has the same derivations");
    assert_eq!(tree.log(&again, "prepares/prepare-t-workspace-build.log").matches("building").count(), 0);
    fs::write(tree.root.join("unused"), "x").unwrap();
    let changed = tree.run(jobs());
    assert_eq!(tree.steps()[0], "builtins.path");
    assert_eq!(tree.log(&changed, "prepares/prepare-t-workspace-build.log").matches("building").count(), 0);
}

#[test]
fn what_is_remembered_of_another_store_is_no_obstacle() {
    let Some(mut tree) = Tree::new("what_is_remembered_of_another_store_is_no_obstacle") else { return };
    assert_eq!(tree.run(vec![staged("a", "run-test")]).verdict, Verdict::Passed);
    let other = Rig::new().unwrap();
    tree.set(|config| {
        config.caller_environment = other.environment().into_iter().collect();
        config.nix_program = other.program();
    });
    let run = tree.run(vec![staged("a", "run-test")]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let record: PreparedOutputsRecord =
        serde_json::from_slice(&fs::read(run.prepared_outputs_path.as_ref().unwrap()).unwrap()).unwrap();
    assert!(record.outputs.iter().all(|output| Path::new(&output.realized_path).starts_with(other.store())));
}

#[test]
fn a_source_that_is_collected_before_it_is_hashed_is_added_once_more() {
    let Some(mut tree) = Tree::new("a_source_that_is_collected_before_it_is_hashed_is_added_once_more")
    else {
        return;
    };
    let dir = tree.beside("wrapped");
    let store = tree.nix.program().with_file_name("nix-store");
    let wrapper = format!(
        "#!/bin/sh\ncase \"$*\" in *'hash path'*)\n  for path; do :; done\n  \
         mkdir '{0}/once' 2> /dev/null && '{1}' --delete \"$path\" > /dev/null ;;\nesac\nexec '{2}' \"$@\"\n",
        dir.display(),
        store.display(),
        tree.nix.program().display(),
    );
    fs::write(dir.join("nix"), wrapper).unwrap();
    fs::set_permissions(dir.join("nix"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink(&store, dir.join("nix-store")).unwrap();
    tree.set(|config| config.nix_program = dir.join("nix"));
    let run = tree.run(vec![staged("a", "run-test")]);
    assert!(dir.join("once").exists());
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
}

#[test]
fn a_fault_of_this_machine_during_an_evaluation_is_not_the_sources() {
    let Some(mut tree) = Tree::new("a_fault_of_this_machine_during_an_evaluation_is_not_the_sources") else {
        return;
    };
    // Nix makes its caches below, when it evaluates a flake.
    let file = tree.beside("cache").join("file");
    fs::write(&file, "").unwrap();
    tree.set(|config| {
        config.caller_environment.set("XDG_CACHE_HOME", file.join("x"));
    });
    let run = tree.run(vec![staged("a", "run-test")]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure), "{run:#?}");
    assert!(job(&run, "a").message.as_ref().unwrap().contains("evaluate"), "{run:#?}");
}

#[test]
fn outputs_outlive_a_collection_during_the_run_and_can_be_collected_after_it() {
    let Some(tree) = Tree::new("outputs_outlive_a_collection_during_the_run_and_can_be_collected_after_it")
    else {
        return;
    };
    // The job collects the garbage of the very store that its output is in.
    let collect = tree.nix.program().with_file_name("nix-store");
    let build = BUILD.replace(
        "echo ran from $0",
        &format!(
            "echo ran from $0; {} --gc --print-dead > /dev/null; {} --gc",
            collect.display(),
            collect.display()
        ),
    );
    tree.flake(DEPS, &build);
    let mut job = staged("a", "run-test");
    for (name, value) in tree.nix.environment().into_iter().filter(|(name, _)| name.starts_with("NIX_")) {
        job.env.insert(name, value.into_string().unwrap());
    }
    let run = tree.run(vec![job.clone()]);
    assert_eq!(run.verdict, Verdict::Passed, "{}", tree.log(&run, "jobs/a/host.log"));
    let text = fs::read(run.prepared_outputs_path.as_ref().unwrap()).unwrap();
    let record: PreparedOutputsRecord = serde_json::from_slice(&text).unwrap();
    assert!(record.outputs.iter().all(|output| Path::new(&output.realized_path).exists()));
    assert!(!tree.dir(&run).join("roots").exists());
    tree.collect_garbage();
    assert!(record.outputs.iter().all(|output| !Path::new(&output.realized_path).exists()));
    // What is remembered of a source that was collected is no obstacle.
    assert_eq!(tree.run(vec![job]).verdict, Verdict::Passed);
}

#[test]
fn a_build_that_fails_fails_those_that_need_it_with_its_last_lines_and_skips_the_others() {
    let Some(tree) =
        Tree::new("a_build_that_fails_fails_those_that_need_it_with_its_last_lines_and_skips_the_others")
    else {
        return;
    };
    tree.flake("echo cannot find the linker >&2; exit 3", BUILD);
    let mut after = shell("after", "true");
    after.needs = vec!["a".into()];
    let jobs = || vec![staged("a", "run-test"), after.clone(), shell("other", "true")];
    let run = tree.run_with(jobs(), true, &CancelToken::new().unwrap(), &mut NoReporter);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::TestFailure));
    assert_eq!(job(&run, "a").verdict, Verdict::Failed(FailureKind::TestFailure));
    let message = job(&run, "a").message.as_ref().unwrap();
    assert!(
        message.contains("prepare-t-workspace-deps") && message.contains("cannot find the linker"),
        "{message}"
    );
    let log = tree.log(&run, "jobs/a/host.log");
    assert!(
        log.contains("cannot find the linker\n") && log.contains("[jerichoci] not run: prepare-t"),
        "{log}"
    );
    assert_eq!(job(&run, "after").verdict, Verdict::Skipped);
    assert!(job(&run, "after").message.as_ref().unwrap().contains("prepare-t-workspace-deps"));
    assert_eq!(job(&run, "other").verdict, Verdict::Passed, "it needs no output");
    assert!(tree.log(&run, "prepares/prepare-t-workspace-deps.log").contains("cannot find the linker"));
    assert_eq!(run.prepares.len(), 1, "nobody builds what needs it");
}

#[test]
fn what_the_flake_does_not_have_is_the_sources_fault_and_a_nix_that_is_not_there_is_not() {
    let Some(mut tree) =
        Tree::new("what_the_flake_does_not_have_is_the_sources_fault_and_a_nix_that_is_not_there_is_not")
    else {
        return;
    };
    let mut missing = staged("a", "run-test");
    missing.staged.as_mut().unwrap().deps.output_name = "ci.x86_64-linux.nothing".into();
    let run = tree.run(vec![missing]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::TestFailure));
    assert!(job(&run, "a").message.as_ref().unwrap().contains("ci.x86_64-linux.nothing"), "{run:#?}");
    let missing = tree.root.join("nowhere/nix");
    tree.set(|config| config.nix_program = missing);
    let run = tree.run(vec![staged("a", "run-test")]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure));
    assert!(job(&run, "a").message.as_ref().unwrap().contains("is not installed"), "{run:#?}");
}

#[test]
fn what_a_flake_throws_is_its_own_fault_in_whatever_words() {
    let Some(tree) = Tree::new("what_a_flake_throws_is_its_own_fault_in_whatever_words") else { return };
    let flake = tree.root.join("flake.nix");
    let sound = fs::read_to_string(&flake).unwrap();
    let words = ["opening `/x`: Permission denied", "No space left on device", "cannot connect to socket"];
    for (word, broken) in words.iter().flat_map(|word| {
        let thrown = format!("throw ''{word}''");
        // An output that is no more than that, and one that has it inside.
        [
            (word, sound.replacen("deps = sh {", &format!("deps = {thrown}; other = sh {{"), 1)),
            (word, sound.replacen("name = \"deps\";", &format!("name = {thrown};"), 1)),
        ]
    }) {
        assert_ne!(broken, sound);
        fs::write(&flake, broken).unwrap();
        let run = tree.run(vec![staged("a", "run-test")]);
        assert_eq!(run.verdict, Verdict::Failed(FailureKind::TestFailure), "{word}: {run:#?}");
        assert!(job(&run, "a").message.as_ref().unwrap().contains(word), "{run:#?}");
    }
}

#[test]
fn a_wrapper_that_the_build_does_not_have_as_a_program_fails_its_job_alone() {
    let test = "a_wrapper_that_the_build_does_not_have_as_a_program_fails_its_job_alone";
    let Some(tree) = Tree::new(test) else { return };
    tree.flake(DEPS, &format!("{BUILD}\nmkdir $out/bin/run-dir; echo text > $out/bin/run-text"));
    let jobs = vec![
        staged("missing", "run-nothing"),
        staged("dir", "run-dir"),
        staged("text", "run-text"),
        staged("good", "run-test"),
    ];
    let run = tree.run_with(jobs, true, &CancelToken::new().unwrap(), &mut NoReporter);
    assert_eq!(job(&run, "good").verdict, Verdict::Passed, "{run:#?}");
    for (id, why) in [
        ("missing", "bin/run-nothing: it is not there"),
        ("dir", "bin/run-dir: it is a directory"),
        ("text", "bin/run-text: it is not executable"),
    ] {
        let job = job(&run, id);
        assert_eq!(job.verdict, Verdict::Failed(FailureKind::TestFailure), "{job:#?}");
        let message = job.message.as_ref().unwrap();
        assert_eq!(*message, format!("`ci.x86_64-linux.build` has no program {why}"));
    }
}

#[test]
fn a_derivation_without_an_output_out_is_the_sources_fault() {
    let Some(tree) = Tree::new("a_derivation_without_an_output_out_is_the_sources_fault") else { return };
    tree.flake("mkdir $bin $lib", BUILD);
    let flake = tree.root.join("flake.nix");
    let text = fs::read_to_string(&flake).unwrap();
    let split = text.replacen("name = \"deps\";", "name = \"deps\"; outputs = [ \"bin\" \"lib\" ];", 1);
    assert_ne!(split, text);
    fs::write(&flake, split).unwrap();
    let run = tree.run(vec![staged("a", "run-test")]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::TestFailure), "{run:#?}");
    assert!(job(&run, "a").message.as_ref().unwrap().contains("no output of the name `out`"), "{run:#?}");
    assert!(!tree.dir(&run).join("roots").exists());
}

#[test]
fn a_wrapper_that_says_no_fails_its_job_alone() {
    let Some(tree) = Tree::new("a_wrapper_that_says_no_fails_its_job_alone") else { return };
    let jobs = vec![staged("good", "run-test"), staged("bad", "run-bad")];
    let run = tree.run_with(jobs, true, &CancelToken::new().unwrap(), &mut NoReporter);
    assert_eq!(job(&run, "good").verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(job(&run, "bad").exit_code, Some(7));
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::TestFailure));
}

/// Sends the ids of nodes that start, and the events.
struct Tell(Sender<RunLifecycleEvent>);

impl Reporter for Tell {
    fn report(&mut self, entry: &JournalEntry) -> std::io::Result<()> {
        let _ = self.0.send(entry.event.clone());
        Ok(())
    }
}

/// A script that makes a file, and then waits until another one is there.
fn meeting(at: &Path, own: &str, other: &str) -> String {
    let (own, other) = (at.join(own), at.join(other));
    format!("touch {}; until test -e {}; do sleep 0.05; done", own.display(), other.display())
}

#[test]
fn cancelling_ends_a_build_and_everything_it_started() {
    let Some(tree) = Tree::new("cancelling_ends_a_build_and_everything_it_started") else { return };
    let meet = tempfile::tempdir().unwrap();
    let fifo = meet.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
    // The builder holds the pipe until it ends.
    tree.flake(&format!("exec 3> {}; echo began; sleep 600", fifo.display()), BUILD);
    let cancel = CancelToken::new().unwrap();
    let run = std::thread::scope(|scope| {
        let running =
            scope.spawn(|| tree.run_with(vec![staged("a", "run-test")], false, &cancel, &mut NoReporter));
        let mut reader = fs::File::open(&fifo).unwrap();
        cancel.cancel(CancelReason::Requested);
        std::io::Read::read_to_end(&mut reader, &mut Vec::new()).unwrap();
        running.join().unwrap()
    });
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled), "{run:#?}");
    assert_eq!(run.prepares[0].verdict, Verdict::Failed(FailureKind::Cancelled));
}

#[test]
fn what_the_build_says_is_in_its_log_while_it_says_it() {
    let Some(tree) = Tree::new("what_the_build_says_is_in_its_log_while_it_says_it") else { return };
    let meet = tempfile::tempdir().unwrap();
    let go = meet.path().join("go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
    // It goes on when somebody has read its first words.
    tree.flake(&format!("echo first words; cat {}; {DEPS}", go.display()), BUILD);
    let (tell, events) = channel();
    let cancel = CancelToken::new().unwrap();
    let run = std::thread::scope(|scope| {
        let running =
            scope.spawn(|| tree.run_with(vec![staged("a", "run-test")], false, &cancel, &mut Tell(tell)));
        let started = events.iter().find_map(|event| match event {
            RunLifecycleEvent::PrepareStarted { run_id, node_id } => Some((run_id, node_id)),
            _ => None,
        });
        let (run_id, node_id) = started.unwrap();
        let log = tree.root.join(".jerichoci/runs").join(run_id).join(format!("prepares/{node_id}.log"));
        // Opening waits for the builder, which has said its words by then.
        let writer = fs::OpenOptions::new().write(true).open(&go).unwrap();
        let follow = "until grep -q 'first words' \"$0\"; do sleep 0.02; done";
        let follow = Command::new("timeout").args(["20", "sh", "-c", follow]).arg(&log);
        assert!(LocalHost::new().run(&follow, &cancel).unwrap().exit.success(), "{}", log.display());
        drop(writer);
        running.join().unwrap()
    });
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
}

#[test]
fn independent_outputs_are_built_at_the_same_time() {
    let Some(tree) = Tree::new("independent_outputs_are_built_at_the_same_time") else { return };
    let meet = tempfile::tempdir().unwrap();
    // Each waits for the other: one after the other they would never end.
    tree.flake(
        &format!("{}; {DEPS}", meeting(meet.path(), "deps", "build")),
        &BUILD.replace("$deps", "/nowhere"),
    );
    let text = fs::read_to_string(tree.root.join("flake.nix")).unwrap();
    let other = text.replacen(
        "build = sh { name = \"build\"; inherit deps; } ''",
        &format!("build = sh {{ name = \"build\"; }} ''{}; ", meeting(meet.path(), "build", "deps")),
        1,
    );
    assert_ne!(text, other);
    fs::write(tree.root.join("flake.nix"), other).unwrap();
    let mut swapped = staged("b", "run-bad");
    let config = swapped.staged.as_mut().unwrap();
    config.prefix = "u".into();
    std::mem::swap(&mut config.deps.output_name, &mut config.build.output_name);
    let run = tree.run_with(
        vec![staged("a", "run-bad"), swapped],
        true,
        &CancelToken::new().unwrap(),
        &mut NoReporter,
    );
    assert_eq!(job(&run, "a").exit_code, Some(7), "{run:#?}");
}

#[test]
fn two_runs_that_need_the_same_output_build_it_once_and_do_not_poll() {
    let Some(tree) = Tree::new("two_runs_that_need_the_same_output_build_it_once_and_do_not_poll") else {
        return;
    };
    let count = tempfile::tempdir().unwrap();
    let go = count.path().join("go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
    // Every build leaves a file; the first one goes on when it is told to.
    tree.flake(
        &format!("mktemp {}/built.XXXXXX; cat {}; {DEPS}", count.path().display(), go.display()),
        BUILD,
    );
    let (tell, events) = channel();
    let cancel = CancelToken::new().unwrap();
    let runs = std::thread::scope(|scope| {
        let both: Vec<_> = (0..2)
            .map(|_| {
                let mut tell = Tell(tell.clone());
                let (tree, cancel) = (&tree, &cancel);
                scope.spawn(move || tree.run_with(vec![staged("a", "run-test")], false, cancel, &mut tell))
            })
            .collect();
        drop(tell);
        let started: HashSet<String> = events
            .iter()
            .filter_map(|event| match event {
                RunLifecycleEvent::PrepareStarted { run_id, .. } => Some(run_id),
                _ => None,
            })
            .take(2)
            .collect();
        assert_eq!(started.len(), 2);
        // The build goes on when the other run waits for it.
        let logs = tree.root.join(".jerichoci/runs/*/prepares/prepare-t-workspace-deps.log");
        let waits =
            format!("until grep -q 'waiting for another run' {}; do sleep 0.02; done", logs.display());
        let waits = Command::new("timeout").args(["20", "sh", "-c", &waits]);
        assert!(LocalHost::new().run(&waits, &cancel).unwrap().exit.success());
        fs::write(&go, "").unwrap();
        both.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(runs.iter().all(|run| run.verdict == Verdict::Passed), "{runs:#?}");
    assert_eq!(fs::read_dir(count.path()).unwrap().count(), 2, "one build, and the pipe");
    // Who waits for a file lock is woken when it is free; nix would look again after 5 s.
    let polls = runs.iter().any(|run| {
        let dir = tree.dir(run).join("prepares/prepare-t-workspace-deps.log");
        fs::read_to_string(dir).unwrap().contains("waiting for lock")
    });
    assert!(!polls);
}

#[test]
fn as_root_a_wrapper_finds_its_outputs_where_guests_do_and_cannot_write_them() {
    let test = "as_root_a_wrapper_finds_its_outputs_where_guests_do_and_cannot_write_them";
    if !needs_root(test) {
        return;
    }
    let Some(tree) = Tree::new(test) else { return };
    let wrapper = "cat /staged/linux-rust/workspace-deps/lib/deps; \
                   touch /staged/linux-rust/workspace-build/bin/x 2>/dev/null || echo read-only";
    tree.flake(DEPS, &BUILD.replace("echo ran from $0", wrapper));
    let run = tree.run(vec![staged("a", "run-test")]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert!(tree.log(&run, "jobs/a/host.log").starts_with("deps\nread-only\n"));
    assert!(fs::read_dir("/staged/linux-rust/workspace-deps").unwrap().next().is_none());
}

#[test]
fn what_a_dead_engine_kept_in_the_store_is_let_go_of() {
    let Some(tree) = Tree::new("what_a_dead_engine_kept_in_the_store_is_let_go_of") else { return };
    let run = tree.run(vec![staged("a", "run-test")]);
    // As it was before its end, when nobody works on it any more.
    let record = tree.dir(&run).join("run.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    value["status"] = "running".into();
    fs::write(&record, value.to_string()).unwrap();
    fs::write(tree.root.join(".jerichoci/active").join(&run.run_id), "").unwrap();
    fs::create_dir(tree.dir(&run).join("roots")).unwrap();
    std::os::unix::fs::symlink(tree.nix.store(), tree.dir(&run).join("roots/x")).unwrap();
    tree.engine.reap().unwrap();
    assert!(!tree.dir(&run).join("roots").exists());
    assert!(tree.nix.store().exists(), "links are removed, not what they lead to");
}
