//! Host jobs in Nix dev shells, with the real nix.

use std::fs;
use std::path::{Path, PathBuf};

use jericho_host::lock::FileLock;
use jericho_host::{CancelReason, CancelToken, Command, Environment, Host, LocalHost};
use jericho_testkit::need::needs_program;
use jericho_testkit::nix::Rig;
use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::job::{GuestCommand, HostProcessRuntimeConfig, JobRuntimeConfig, JobSpec};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::{JobRecord, RunRecord};
use jerichoci::{Engine, EngineConfig, NoReporter, RunRequest};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A tree with a flake, and an engine whose nix is the rig's.
struct Tree {
    engine: Engine,
    root: PathBuf,
    nix: Rig,
    _dir: tempfile::TempDir,
}

impl Tree {
    fn new(test: &str) -> Option<Self> {
        Self::with(test, |_| ())
    }

    fn with(test: &str, change: impl FnOnce(&mut EngineConfig)) -> Option<Self> {
        if !needs_program(test, "nix") || !needs_program(test, "bash") {
            return None;
        }
        let nix = Rig::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("tree");
        fs::create_dir(&root).unwrap();
        let mut config = EngineConfig::new(root.join(".jerichoci"), &root);
        config.caller_environment = nix.environment().into_iter().collect();
        config.nix_program = nix.program();
        change(&mut config);
        Some(Self { engine: Engine::new(config), root, nix, _dir: dir })
    }

    fn flake(&self, shells: &[(&str, &str)]) {
        fs::write(self.root.join("flake.nix"), self.nix.flake(shells)).unwrap();
    }

    fn run(&self, jobs: Vec<JobSpec>) -> RunRecord {
        let cancel = CancelToken::new().unwrap();
        self.engine.run(&RunRequest::new(jobs).keep_going(true), &mut NoReporter, &cancel).unwrap()
    }

    /// Runs one job that has to pass, and returns what it printed.
    fn output(&self, job: JobSpec) -> String {
        let id = job.id.clone();
        let run = self.run(vec![job]);
        assert_eq!(run.verdict, Verdict::Passed, "{run:#?}\n{}", self.log(&run, &id));
        self.log(&run, &id)
    }

    /// Runs one job that has to end errored, and returns why.
    fn error(&self, job: JobSpec) -> String {
        let run = self.run(vec![job]);
        assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure), "{run:#?}");
        run.jobs[0].message.clone().unwrap()
    }

    fn log(&self, run: &RunRecord, job: &str) -> String {
        let dir = self.root.join(".jerichoci/runs").join(&run.run_id).join("jobs").join(job);
        // A job that was never started has none, and its record says more.
        fs::read_to_string(dir.join("host.log")).unwrap_or_default()
    }

    fn cache(&self) -> PathBuf {
        self.root.join(".jerichoci/cache/dev-env/default")
    }

    /// The nix subcommands that were run since this was asked last.
    fn steps(&self) -> Vec<String> {
        let calls = self.nix.take_calls().unwrap();
        assert!(!calls.iter().any(|call| call.contains("accept-flake-config")), "{calls:?}");
        let known = ["print-dev-env", "store add-path", "hash path", "currentSystem", "eval"];
        let step = |call: &String| known.iter().find(|step| call.contains(**step)).unwrap_or(&"other");
        calls.iter().map(|call| (*step(call)).to_owned()).collect()
    }

    fn drop_root(&self) {
        for entry in fs::read_dir(self.cache()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().starts_with("profile-") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    fn collect_garbage(&self) {
        let env: Environment = self.nix.environment().into_iter().collect();
        let gc = Command::new("nix-store").arg("--gc").env(env);
        let output = LocalHost::new().run(&gc, &CancelToken::new().unwrap()).unwrap();
        assert!(output.exit.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

const EVALUATED: [&str; 4] = ["currentSystem", "store add-path", "hash path", "eval"];
const CAPTURED: [&str; 5] = ["currentSystem", "store add-path", "hash path", "eval", "print-dev-env"];

fn plain(script: &str) -> JobSpec {
    JobSpec::host_process("job", GuestCommand::Argv { argv: vec!["sh".into(), "-c".into(), script.into()] })
}

fn inside(script: &str) -> JobSpec {
    in_shell(plain(script), "default")
}

fn in_shell(mut job: JobSpec, shell: &str) -> JobSpec {
    job.runtime = JobRuntimeConfig::HostProcess(HostProcessRuntimeConfig {
        nix_shell: Some(shell.to_owned()),
        ..HostProcessRuntimeConfig::default()
    });
    job
}

fn phase(job: &JobRecord, name: &str) -> Option<u64> {
    job.phases.iter().find(|phase| phase.phase == name).map(|phase| phase.duration_ms)
}

#[test]
fn a_job_sees_the_shell_and_keeps_what_it_was_promised_and_what_it_declares() {
    let test = "a_job_sees_the_shell_and_keeps_what_it_was_promised_and_what_it_declares";
    let Some(tree) = Tree::new(test) else { return };
    let theirs = "GREETING = \"hello\"; ARTIFACTS = \"theirs\"; CARGO_HOME = \"theirs\";
        CARGO_TARGET_DIR = \"theirs\"; GIT_CEILING_DIRECTORIES = \"theirs\"; JERICHOCI_JOB = \"theirs\";
        MINE = \"theirs\"; EMPTY = \"theirs\"; shellHook = \"export HOOKED=yes MINE=hooked; IFS=/\";";
    tree.flake(&[("default", theirs)]);
    let mut job = inside(
        "echo $GREETING $HOOKED $IN_NIX_SHELL; env | grep -c theirs; \
         for v in \"$ARTIFACTS\" \"$CARGO_HOME\" \"$CARGO_TARGET_DIR\"; do [ -d \"$v\" ] || echo no $v; done; \
         printf '<%s>' \"$MINE\" \"$EMPTY\" \"$(env | grep ^a.b=)\"; cat flake.nix | wc -l",
    );
    let odd = " o'ne \"$HOME\"\n`two` \\ ";
    // Not every sh passes on a variable that it could not name itself.
    if let GuestCommand::Argv { argv } = &mut job.command {
        argv[0] = "bash".to_owned();
    }
    job.env = [("MINE", odd), ("EMPTY", ""), ("a.b", "1"), ("BASH_ENV", "/nonexistent")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let lines = fs::read_to_string(tree.root.join("flake.nix")).unwrap().lines().count();
    assert_eq!(tree.output(job), format!("hello yes impure\n0\n<{odd}><><a.b=1>{lines}\n"));
}

#[test]
fn a_program_of_the_shell_gets_its_arguments_and_gives_its_exit_code_unchanged() {
    let test = "a_program_of_the_shell_gets_its_arguments_and_gives_its_exit_code_unchanged";
    let Some(tree) = Tree::new(test) else { return };
    let tools = r#"PATH = "${sh "tools" ''
        mkdir -p $out/bin
        printf '%s\n' '#!/bin/sh' 'printf "[%s]" "$@"; exit 7' > $out/bin/only-here
        chmod +x $out/bin/only-here
      ''}/bin";"#;
    tree.flake(&[("default", tools)]);
    let argv = |words: &[&str]| GuestCommand::Argv { argv: words.iter().map(ToString::to_string).collect() };
    let words = ["only-here", "a b", "c\nd", "", "--", "$HOME", "é'\""];
    let run = tree.run(vec![in_shell(JobSpec::host_process("job", argv(&words)), "default")]);
    assert_eq!(run.jobs[0].verdict, Verdict::Failed(FailureKind::TestFailure), "{run:#?}");
    assert_eq!(run.jobs[0].exit_code, Some(7));
    assert_eq!(tree.log(&run, "job"), "[a b][c\nd][][--][$HOME][é'\"]");
    // Not there: the machine's fault, as it is without a shell.
    let message =
        tree.error(in_shell(JobSpec::host_process("job", argv(&["not-anywhere", "x y"])), "default"));
    assert_eq!(
        message,
        "the dev shell `default` cannot start the command (exit code 127): not-anywhere 'x y'"
    );
}

#[test]
fn nix_is_asked_only_for_what_is_not_known() {
    let Some(tree) = Tree::new("nix_is_asked_only_for_what_is_not_known") else { return };
    tree.flake(&[("default", "GREETING = \"one\";")]);
    assert_eq!(tree.output(inside("echo $GREETING")), "one\n");
    assert_eq!(tree.steps(), CAPTURED);
    assert_eq!(tree.output(inside("echo again $GREETING")), "again one\n");
    assert_eq!(tree.steps(), Vec::<String>::new(), "the same source");
    fs::write(tree.root.join("other"), "").unwrap();
    assert_eq!(tree.output(inside("echo $GREETING")), "one\n");
    assert_eq!(tree.steps(), EVALUATED, "another source, the same shell");
    tree.flake(&[("default", "GREETING = \"two\";")]);
    assert_eq!(tree.output(inside("echo $GREETING")), "two\n");
    assert_eq!(tree.steps(), CAPTURED, "another shell");
    let generations = fs::read_dir(tree.cache())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("profile-"))
        .count();
    assert_eq!(generations, 1, "what is not used any more is not kept");
}

#[test]
fn a_damaged_cache_is_captured_again() {
    let Some(tree) = Tree::new("a_damaged_cache_is_captured_again") else { return };
    tree.flake(&[("default", "GREETING = \"hello\";")]);
    tree.output(inside("true"));
    tree.steps();
    let script = fs::read_to_string(tree.cache().join("env.sh")).unwrap();
    let damages: [(&str, String); 5] = [
        ("state.json", "{".to_owned()),
        ("state.json", "{\"schema_version\":1,\"shell\":\"default\",\"shell_fingerprint\":\"x\"}".to_owned()),
        ("env.sh", String::new()),
        ("env.sh", script.replace("hello", "hullo")),
        ("env.sh", script[..script.len() / 2].to_owned()),
    ];
    for (file, content) in damages {
        fs::write(tree.cache().join(file), &content).unwrap();
        assert_eq!(tree.output(inside("echo $GREETING")), "hello\n", "{file}: {content}");
        assert_eq!(tree.steps(), CAPTURED, "{file}: {content}");
    }
}

#[test]
fn a_cached_shell_is_not_collected_and_one_that_was_is_captured_again() {
    let test = "a_cached_shell_is_not_collected_and_one_that_was_is_captured_again";
    let Some(tree) = Tree::new(test) else { return };
    // The shell's bash is in the store, as it is in a real one.
    tree.flake(&[("default", "builder = \"${./tools}/bash\"; GREETING = \"hello\";")]);
    fs::create_dir(tree.root.join("tools")).unwrap();
    fs::copy(tree.nix.bash(), tree.root.join("tools/bash")).unwrap();
    tree.output(inside("true"));
    tree.steps();
    tree.collect_garbage();
    assert_eq!(tree.output(inside("echo $GREETING")), "hello\n");
    assert_eq!(tree.steps(), Vec::<String>::new(), "the profile keeps it");
    tree.drop_root();
    assert_eq!(tree.output(inside("echo $GREETING")), "hello\n");
    assert_eq!(tree.steps(), CAPTURED, "nothing keeps it");
    assert!(tree.cache().join("profile").exists());
    tree.drop_root();
    tree.collect_garbage();
    assert_eq!(tree.output(inside("echo $GREETING")), "hello\n");
    assert_eq!(tree.steps(), CAPTURED);
}

#[test]
fn a_shell_is_entered_where_one_is_asked_for_and_only_there() {
    let test = "a_shell_is_entered_where_one_is_asked_for_and_only_there";
    let shells = [("default", "GREETING = \"default\";"), ("other.1", "GREETING = \"other\";")];
    let show = "echo ${GREETING:-plain}";
    let mut never = plain(show);
    never.runtime = JobRuntimeConfig::HostProcess(HostProcessRuntimeConfig {
        without_nix_shell: true,
        ..HostProcessRuntimeConfig::default()
    });
    let Some(tree) = Tree::new(test) else { return };
    tree.flake(&shells);
    assert_eq!(tree.output(plain(show)), "plain\n", "nobody asks");
    assert_eq!(tree.output(in_shell(plain(show), "other.1")), "other\n");

    let all = |config: &mut EngineConfig| config.host_local_nix_shell = Some("default".to_owned());
    let tree = Tree::with(test, all).unwrap();
    assert_eq!(tree.output(inside(show)), "plain\n", "no flake.nix");
    tree.flake(&shells);
    assert_eq!(tree.output(plain(show)), "default\n", "asked for all jobs");
    assert_eq!(tree.output(in_shell(plain(show), "other.1")), "other\n", "the job's own word is stronger");
    assert_eq!(tree.output(never.clone()), "plain\n", "never in one");

    let already = |config: &mut EngineConfig| {
        all(config);
        config.caller_environment.set("IN_NIX_SHELL", "");
    };
    let tree = Tree::with(test, already).unwrap();
    tree.flake(&shells);
    assert_eq!(tree.output(inside(show)), "plain\n", "the caller is in one");
    assert_eq!(tree.steps(), Vec::<String>::new());
}

#[test]
fn without_nix_a_job_that_asks_for_a_shell_is_errored_and_says_so() {
    let test = "without_nix_a_job_that_asks_for_a_shell_is_errored_and_says_so";
    let absent = |config: &mut EngineConfig| config.nix_program = "no-nix-here".into();
    let Some(tree) = Tree::with(test, absent) else { return };
    tree.flake(&[("default", "")]);
    let message = tree.error(inside("true"));
    assert_eq!(message, "the job asks for the dev shell `default`, and no-nix-here is not installed");
}

#[test]
fn what_nix_refuses_is_never_blamed_on_the_tests() {
    let Some(tree) = Tree::new("what_nix_refuses_is_never_blamed_on_the_tests") else { return };
    tree.flake(&[("default", "GREETING = throw \"the moon is full\";")]);
    let message = tree.error(inside("true"));
    assert!(message.starts_with("nix could not evaluate the dev shell `default`: "), "{message}");
    assert!(message.contains("the moon is full"), "{message}");
    let message = tree.error(in_shell(plain("true"), "absent"));
    assert!(message.starts_with("nix could not evaluate the dev shell `absent`: "), "{message}");
    assert!(message.contains("does not provide attribute"), "{message}");
    tree.flake(&[("default", "DEP = sh \"dep\" \"echo out of luck >&2; exit 3\";")]);
    let message = tree.error(inside("true"));
    assert!(message.starts_with("nix could not build the dev shell `default`: "), "{message}");
    assert!(message.contains("dep.drv"), "{message}");
    let message = tree.error(in_shell(plain("true"), "../escape"));
    assert!(message.starts_with("a dev shell cannot be called that"), "{message}");
}

#[test]
fn a_shell_that_ends_before_the_command_is_errored_never_passed() {
    let Some(tree) = Tree::new("a_shell_that_ends_before_the_command_is_errored_never_passed") else {
        return;
    };
    for (hook, how) in [("exit 0", "exit code 0"), ("set -e; false", "exit code 1")] {
        tree.flake(&[("default", &format!("shellHook = \"{hook}\";"))]);
        let message = tree.error(inside("true"));
        let expected = format!(
            "the dev shell `default` ended before the command was started ({how}): see its shellHook"
        );
        assert_eq!(message, expected);
    }
    tree.flake(&[("default", "shellHook = \"echo noise; false\";")]);
    assert_eq!(tree.output(inside("echo ran")), "noise\nran\n");
}

#[test]
fn temporary_files_and_outputs_of_a_shell_are_private_to_the_job() {
    let Some(tree) = Tree::new("temporary_files_and_outputs_of_a_shell_are_private_to_the_job") else {
        return;
    };
    tree.flake(&[("default", "")]);
    let script = "mkdir -p $out && [ $out = $(pwd)/outputs/out ] && touch $TMPDIR/x && echo $TMPDIR";
    let temporary = [tree.output(inside(script)), tree.output(inside(script))];
    assert_ne!(temporary[0], temporary[1]);
    for dir in temporary.iter().map(|dir| Path::new(dir.trim_end())) {
        assert!(dir.starts_with(tree.root.join(".jerichoci")), "{dir:?}");
        assert!(!dir.exists(), "{dir:?}");
    }
    assert!(!tree.cache().join("outputs").exists());
}

#[test]
fn two_jobs_that_need_one_shell_at_once_capture_it_once() {
    let two = |config: &mut EngineConfig| config.max_concurrent_executes = std::num::NonZero::new(2);
    let Some(tree) = Tree::with("two_jobs_that_need_one_shell_at_once_capture_it_once", two) else { return };
    tree.flake(&[("default", "DEP = sh \"dep\" \"sleep 1; echo > $out\";")]);
    let jobs = ["a", "b"].map(|id| JobSpec { id: id.to_owned(), ..inside("cat $DEP; echo x") });
    let run = tree.run(jobs.into());
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(tree.steps(), CAPTURED);
}

#[test]
fn the_capture_is_a_phase_of_its_own_and_not_part_of_the_time_limit() {
    let test = "the_capture_is_a_phase_of_its_own_and_not_part_of_the_time_limit";
    let Some(tree) = Tree::new(test) else { return };
    tree.flake(&[("default", "DEP = sh \"dep\" \"sleep 3; echo > $out\";")]);
    let job = JobSpec { timeout_secs: 2, ..inside("true") };
    let run = tree.run(vec![job]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert!(phase(&run.jobs[0], "dev_shell").unwrap() >= 3000, "{run:#?}");
    let run = tree.run(vec![plain("true")]);
    assert_eq!(phase(&run.jobs[0], "dev_shell"), None);
}

/// Whether a process ends at once: nix has waited for its builder, not for what that started.
fn ends(pid: i32) -> bool {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return true;
    };
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).unwrap() == 1
}

#[test]
fn a_cancel_ends_a_build_of_nix_and_everything_it_started() {
    let Some(tree) = Tree::new("a_cancel_ends_a_build_of_nix_and_everything_it_started") else { return };
    let fifo = tree.root.with_file_name("building");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    // Losing its terminal when nix dies is not enough to end it.
    let build = format!("trap '' HUP TERM; sleep 300 & echo $$ $! > {}; wait", fifo.display());
    tree.flake(&[("default", &format!("DEP = sh \"dep\" \"{build}\";"))]);
    let cancel = CancelToken::new().unwrap();
    let (run, pids) = std::thread::scope(|scope| {
        let request = RunRequest::new(vec![inside("true")]);
        let (engine, token) = (&tree.engine, &cancel);
        let running = scope.spawn(move || engine.run(&request, &mut NoReporter, token).unwrap());
        // Opening it waits for the builder.
        let pids = fs::read_to_string(&fifo).unwrap();
        cancel.cancel(CancelReason::Requested);
        (running.join().unwrap(), pids)
    });
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled), "{run:#?}");
    assert_eq!(pids.split_whitespace().count(), 2);
    for pid in pids.split_whitespace() {
        assert!(ends(pid.parse().unwrap()), "{pid} is still there");
    }
    assert!(phase(&run.jobs[0], "dev_shell").unwrap() < 60_000);
    // Nothing half done is left: the next one that asks gets it.
    tree.flake(&[("default", "GREETING = \"hello\";")]);
    assert_eq!(tree.output(inside("echo $GREETING")), "hello\n");
}

#[test]
fn a_job_that_waits_for_the_capture_of_another_can_be_cancelled() {
    let test = "a_job_that_waits_for_the_capture_of_another_can_be_cancelled";
    let Some(tree) = Tree::new(test) else { return };
    tree.flake(&[("default", "")]);
    fs::create_dir_all(tree.cache()).unwrap();
    let held = FileLock::try_exclusive(&tree.cache().join("lock")).unwrap().unwrap();
    let cancel = CancelToken::new().unwrap();
    let mut reporter = |entry: &JournalEntry| {
        if let RunLifecycleEvent::JobStarted { .. } = &entry.event {
            cancel.cancel(CancelReason::Requested);
        }
        Ok(())
    };
    let run = tree.engine.run(&RunRequest::new(vec![inside("true")]), &mut reporter, &cancel).unwrap();
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled), "{run:#?}");
    assert_eq!(tree.steps(), Vec::<String>::new());
    drop(held);
    tree.output(inside("true"));
}
