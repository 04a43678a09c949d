//! Jobs that run to their end on a host: verdicts, logs, secrets, artifacts, and what is left there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use jericho_host::CancelReason;
use jerichoci::model::demands::{
    ArtifactsWhen, CacheSharing, CacheSpec, SecretDelivery, SecretSpec, WorkspaceGit,
};
use jerichoci::model::job::{JobPlacement, JobRuntimeKind, JobSpec};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::{Engine, EngineConfig, RunRequest};

use crate::rig::{Rig, job, sh, token};

fn failed(kind: FailureKind) -> Verdict {
    Verdict::Failed(kind)
}

#[test]
fn a_job_sees_the_snapshot_and_its_log_is_its_output_byte_for_byte() {
    let Some(rig) = Rig::start("a_job_sees_the_snapshot_and_its_log_is_its_output_byte_for_byte") else {
        return;
    };
    fs::write(rig.root.join("run.sh"), "echo ran\n").unwrap();
    fs::set_permissions(rig.root.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let script =
        "cat a.txt; ./run.sh; echo new > b.txt; echo changed > a.txt; cat a.txt; printf '\\377no newline'";
    let run = rig.run(vec![
        sh("first", script),
        sh("second", "cat a.txt; test \"$(ls -A)\" = \"$(printf '.gitignore\\na.txt\\nrun.sh')\""),
    ]);
    assert_eq!(run.verdict, Verdict::Passed, "{:?} {}", run.jobs, rig.log(&run, "first", "host.log"));
    let log = fs::read(rig.job_dir(&run, "first").join("host.log")).unwrap();
    let output = b"one\nran\nchanged\n\xffno newline";
    assert!(log.ends_with(output), "{}", String::from_utf8_lossy(&log));
    let before = String::from_utf8_lossy(&log[..log.len() - output.len()]).into_owned();
    assert!(before.lines().all(|line| line.starts_with("[jerichoci] ")), "{before}");
    let record = job(&run, "first");
    assert_eq!((record.exit_code, record.executor.as_str()), (Some(0), "remote_ssh_host_process"));
    let names: Vec<_> = record.phases.iter().map(|phase| phase.phase.as_str()).collect();
    let expected = [
        "prepare_directories",
        "stage_workspace_snapshot",
        "launch",
        "wait_for_completion",
        "collect_artifacts",
    ];
    assert_eq!(names, expected);
    assert_eq!(rig.left(), Vec::<String>::new());
    assert_eq!(fs::read_to_string(rig.root.join("a.txt")).unwrap(), "one\n");
}

#[test]
fn how_a_command_ends_is_told_as_on_this_machine() {
    let Some(rig) = Rig::start("how_a_command_ends_is_told_as_on_this_machine") else { return };
    for (script, verdict, code, signal, message) in [
        ("exit 7", FailureKind::TestFailure, Some(7), None, "the command exited with code 7"),
        ("exit 255", FailureKind::TestFailure, Some(255), None, "the command exited with code 255"),
        ("kill -9 $$", FailureKind::TestFailure, None, Some(9), "the command was ended by signal 9"),
    ] {
        let run = rig.run(vec![sh("job", script)]);
        let record = job(&run, "job");
        assert_eq!(record.verdict, failed(verdict), "{script}: {record:?}");
        assert_eq!((record.exit_code, record.signal), (code, signal), "{script}");
        assert_eq!(record.message.as_deref(), Some(message));
    }
    let mut slow = sh("job", "echo begun; sleep 300");
    slow.timeout_secs = 1;
    let run = rig.run(vec![slow]);
    let record = job(&run, "job");
    assert_eq!(record.verdict, failed(FailureKind::Timeout), "{record:?}");
    assert_eq!(record.message.as_deref(), Some("timed out after 1s"));
    assert!(rig.log(&run, "job", "host.log").contains("begun\n"));
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn a_job_that_is_cancelled_is_ended_on_its_host() {
    let Some(rig) = Rig::start("a_job_that_is_cancelled_is_ended_on_its_host") else { return };
    let cancel = token();
    let request = RunRequest::new(vec![sh("job", "echo $$ >/dev/null; echo begun; exec sleep 301")]);
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| rig.run_until(&request, &cancel));
        rig.wait_for_log("job", "begun");
        assert_eq!(rig.commands("sleep 301").len(), 1);
        cancel.cancel(CancelReason::Signal);
        run.join().unwrap()
    });
    let record = job(&run, "job");
    assert_eq!(record.verdict, failed(FailureKind::Cancelled), "{record:?}");
    assert_eq!(record.leaked, Vec::<String>::new());
    assert_eq!(record.left_behind, Vec::<String>::new());
    assert_eq!(rig.commands("sleep 301"), Vec::<u32>::new());
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn secrets_reach_the_job_and_no_process_list_and_no_log() {
    let Some(mut rig) = Rig::start("secrets_reach_the_job_and_no_process_list_and_no_log") else { return };
    rig.config.secrets.insert("TOKEN", "hunter22-value");
    rig.config.secrets.insert("KEY", "keyfile99-value");
    let mut asking = sh(
        "job",
        "echo \"is $TOKEN\"; cat \"$KEY_FILE\"; echo; stat -c %a \"$KEY_FILE\"; test -z \"${KEY-}\"; \
         for file in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <\"$file\" 2>/dev/null; echo; done; \
         printf %s \"$TOKEN\" | wc -c",
    );
    asking.secrets = vec![
        SecretSpec { name: "TOKEN".into(), delivery: SecretDelivery::Env },
        SecretSpec { name: "KEY".into(), delivery: SecretDelivery::File },
    ];
    let run = rig.run(vec![asking]);
    let log = rig.log(&run, "job", "host.log");
    assert_eq!(run.verdict, Verdict::Passed, "{log}");
    assert!(log.contains("is ***\n***\n400\n") && log.ends_with("14\n"), "{log}");
    assert!(!log.contains("hunter22") && !log.contains("keyfile99"), "{log}");
    let environment = &job(&run, "job").environment;
    assert!(
        environment.iter().any(|name| name == "TOKEN") && environment.iter().any(|name| name == "KEY_FILE")
    );
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn artifacts_come_home_bit_for_bit() {
    let Some(rig) = Rig::start("artifacts_come_home_bit_for_bit") else { return };
    let script = "mkdir -p out/deep \"$ARTIFACTS/own\"; i=0; \
                  while [ $i -lt 1000 ]; do echo \"$i\" > out/deep/$i; i=$((i+1)); done; \
                  head -c 100000000 /dev/urandom > \"$ARTIFACTS/own/large\"; sha256sum < \"$ARTIFACTS/own/large\"; \
                  ln -s /etc/passwd out/link; printf '#!/bin/sh' > out/tool; chmod 755 out/tool; echo no > other";
    let mut leaving = sh("job", script);
    leaving.artifacts = vec!["out/".to_owned(), "!out/deep/7".to_owned()];
    let run = rig.run(vec![leaving]);
    let log = rig.log(&run, "job", "host.log");
    assert_eq!(run.verdict, Verdict::Passed, "{log}");
    let home = rig.job_dir(&run, "job").join("artifacts");
    for number in (0..1000).filter(|number| *number != 7) {
        let text = fs::read_to_string(home.join(format!("out/deep/{number}"))).unwrap();
        assert_eq!(text, format!("{number}\n"));
    }
    assert!(!home.join("out/deep/7").exists() && !home.join("other").exists());
    assert!(fs::symlink_metadata(home.join("out/link")).is_err());
    assert_eq!(fs::metadata(home.join("out/tool")).unwrap().permissions().mode() & 0o777, 0o755);
    let large = fs::read(home.join("own/large")).unwrap();
    let digest = hex_sha256(&large);
    assert!(log.contains(&digest), "{log}");
    let record = job(&run, "job");
    assert_eq!(record.artifacts.len(), 1000);
    assert!(record.artifacts.iter().all(|artifact| artifact.path.starts_with("out/")));
    assert!(record.warnings.iter().any(|line| line.contains("out/link")), "{:?}", record.warnings);
}

fn hex_sha256(content: &[u8]) -> String {
    use jericho_host::{Command, Host, LocalHost};
    let mut command = Command::new("sha256sum").env(crate::rig::environment());
    command.stdin = Some(content.to_vec());
    let output = LocalHost::new().run(&command, &token()).unwrap();
    String::from_utf8_lossy(&output.stdout[..64]).into_owned()
}

#[test]
fn artifacts_are_limited_and_brought_home_when_they_are_asked_for() {
    let Some(mut rig) = Rig::start("artifacts_are_limited_and_brought_home_when_they_are_asked_for") else {
        return;
    };
    let leaving = |when: ArtifactsWhen, code: u8| {
        let mut job = sh("job", &format!("echo a > a.log; echo b > b.log; echo c > c.log; exit {code}"));
        job.artifacts = vec!["*.log".to_owned()];
        job.artifacts_when = when;
        job
    };
    for (when, code, files) in [
        (ArtifactsWhen::Failure, 0, 0),
        (ArtifactsWhen::Failure, 1, 3),
        (ArtifactsWhen::Never, 1, 0),
        (ArtifactsWhen::Always, 0, 3),
    ] {
        let run = rig.run(vec![leaving(when, code)]);
        assert_eq!(job(&run, "job").artifacts.len(), files, "{when:?} {code}");
    }
    rig.config.artifact_limits.files = 2;
    let run = rig.run(vec![leaving(ArtifactsWhen::Always, 0)]);
    let record = job(&run, "job");
    assert_eq!(record.artifacts.len(), 2);
    assert!(record.warnings.iter().any(|line| line.contains("1 files were left out")), "{record:?}");
}

#[test]
fn a_cache_is_kept_from_run_to_run_and_a_locked_one_is_waited_for() {
    let name = "a_cache_is_kept_from_run_to_run_and_a_locked_one_is_waited_for";
    let Some(rig) = Rig::start(name) else { return };
    let using = |id: &str, script: &str| {
        let mut job = sh(id, script);
        job.caches.insert(
            "store".to_owned(),
            CacheSpec { path: "var/store".into(), sharing: CacheSharing::Locked },
        );
        job
    };
    let run = rig.run(vec![using(
        "job",
        "echo kept > var/store/file; test \"$JERICHO_CACHE_STORE\" = \"$PWD/var/store\"",
    )]);
    assert_eq!(run.verdict, Verdict::Passed, "{}", rig.log(&run, "job", "host.log"));
    // Two at once would both find no directory to make.
    let alone = "cat var/store/file; mkdir var/store/busy && sleep 0.3 && rmdir var/store/busy";
    let run = rig.run(vec![using("one", alone), using("two", alone)]);
    assert_eq!(run.verdict, Verdict::Passed, "{}", rig.log(&run, "two", "host.log"));
    assert!(rig.log(&run, "one", "host.log").contains("kept\n"));
}

#[test]
fn who_waits_for_a_cache_of_a_host_is_told_whose_it_is_and_waits_no_longer_than_it_may() {
    let name = "who_waits_for_a_cache_of_a_host_is_told_whose_it_is_and_waits_no_longer_than_it_may";
    let Some(mut rig) = Rig::start(name) else { return };
    let using = |id: &str, script: &str, limit: u64| {
        let mut job = sh(id, script);
        // Waiting is no part of it.
        job.timeout_secs = limit;
        let cache = CacheSpec { path: "store".into(), sharing: CacheSharing::Locked };
        job.caches.insert("store".to_owned(), cache);
        job
    };
    rig.config.cache_wait = Duration::from_secs(2);
    let patient = EngineConfig { cache_wait: Duration::from_secs(600), ..rig.config.clone() };
    std::thread::scope(|scope| {
        let has = using("has", "echo have it; until [ -e store/go ]; do sleep 0.05; done", 600);
        let has = scope.spawn(|| rig.run(vec![has]));
        rig.wait_for_log("has", "have it");
        let run = rig.run(vec![using("wants", "true", 1)]);
        let message = job(&run, "wants").message.clone().unwrap();
        assert_eq!(job(&run, "wants").verdict, failed(FailureKind::Infrastructure), "{run:#?}");
        assert_eq!(message, "host box: the cache `store`: it was not free within 2 s");
        let waits = scope.spawn(|| {
            let request = RunRequest::new(vec![using("waits", "true", 1)]);
            Engine::new(patient).run(&request, &mut rig.reporter(), &token()).unwrap()
        });
        rig.wait_for_log("waits", "waiting for the cache");
        // Longer than its own limit.
        let (_never, pause) = std::sync::mpsc::channel::<()>();
        let _ = pause.recv_timeout(Duration::from_millis(1200));
        let caches = rig.work_dir().join("cache/named");
        let own = fs::read_dir(caches).unwrap().next().unwrap().unwrap().path();
        fs::write(own.join("store/data/go"), "").unwrap();
        let (has, waits) = (has.join().unwrap(), waits.join().unwrap());
        assert_eq!(has.verdict, Verdict::Passed, "{}", rig.log(&has, "has", "host.log"));
        assert_eq!(waits.verdict, Verdict::Passed, "{}", rig.log(&waits, "waits", "host.log"));
        let line = format!("waiting for the cache `store`, which job `has` of run {} has", has.run_id);
        for (run, job) in [(&run, "wants"), (&waits, "waits")] {
            let log = rig.log(run, job, "host.log");
            assert!(log.contains(&format!("[jerichoci] {line}\n")), "{log}");
        }
    });
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn a_job_for_a_host_goes_through_ssh_also_when_that_is_this_machine() {
    let Some(mut rig) = Rig::start("a_job_for_a_host_goes_through_ssh_also_when_that_is_this_machine") else {
        return;
    };
    // An ssh that says for which destination it was called, and lets nobody through.
    let (program, calls, ran) =
        (rig.outside().join("no-ssh"), rig.outside().join("calls"), rig.outside().join("ran"));
    let script = format!("#!/bin/sh\necho \"$@\" >>{}\necho not today >&2\nexit 255\n", calls.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    rig.config.hosts.ssh_program = program.into();
    for name in ["localhost", "127.0.0.1"] {
        let mut host = rig.host().clone();
        host.ssh = name.to_owned();
        rig.config.hosts.named.insert(name.to_owned(), host);
        let mut job = sh("job", &format!("touch {}", ran.display()));
        job.placement = JobPlacement::RemoteSsh { host: name.to_owned() };
        let run = rig.run(vec![job]);
        assert_eq!(run.verdict, failed(FailureKind::Infrastructure), "{run:#?}");
        let called = fs::read_to_string(&calls).unwrap();
        assert!(called.contains(&format!("-- {name} ")), "{called}");
        assert!(!ran.exists(), "it must not run without ssh");
    }
}

#[test]
fn a_cache_where_a_link_of_the_source_leads_is_refused_and_nothing_there_is_touched() {
    let name = "a_cache_where_a_link_of_the_source_leads_is_refused_and_nothing_there_is_touched";
    let Some(rig) = Rig::start(name) else { return };
    let shared = rig.outside().join("shared");
    fs::create_dir_all(shared.join("cache")).unwrap();
    fs::write(shared.join("cache/precious"), "precious\n").unwrap();
    std::os::unix::fs::symlink(&shared, rig.root.join("nm")).unwrap();
    for path in ["nm/cache", "nm"] {
        let mut job = sh("job", "echo x > nm/cache/new");
        job.caches.insert("c".to_owned(), CacheSpec { path: path.into(), sharing: CacheSharing::Locked });
        let here = JobSpec { placement: JobPlacement::Local, ..job.clone() };
        for one in [job, here] {
            let run = rig.run(vec![one]);
            let record = &run.jobs[0];
            assert_eq!(record.verdict, failed(FailureKind::Infrastructure), "{record:?}");
            let why = format!("the cache `c` cannot be at {path}: the source tree has a file or link nm");
            assert_eq!(record.message.as_ref(), Some(&why));
            assert_eq!(fs::read_to_string(shared.join("cache/precious")).unwrap(), "precious\n");
            assert_eq!(fs::read_dir(shared.join("cache")).unwrap().count(), 1);
        }
    }
}

#[test]
fn what_a_host_cannot_offer_is_refused_before_anything_is_connected() {
    let name = "what_a_host_cannot_offer_is_refused_before_anything_is_connected";
    let Some(mut rig) = Rig::start(name) else { return };
    let mut git = sh("git", "true");
    git.git = WorkspaceGit::Shallow;
    let run = rig.run(vec![git]);
    let message = job(&run, "git").message.clone().unwrap();
    assert_eq!(job(&run, "git").verdict, failed(FailureKind::Infrastructure));
    assert!(message.contains("only jobs of this machine may ask for it"), "{message}");
    rig.host().allow = vec![JobRuntimeKind::Incus];
    let run = rig.run(vec![sh("job", "true")]);
    let message = job(&run, "job").message.clone().unwrap();
    assert!(message.contains("`allow = [\"incus\", \"host_process\"]` under `[hosts.box]`"), "{message}");
    assert!(!rig.sshd.log().contains("Accepted"), "{}", rig.sshd.log());
}

#[test]
fn each_attempt_of_a_job_begins_anew() {
    let Some(rig) = Rig::start("each_attempt_of_a_job_begins_anew") else { return };
    let mut flaky = sh("job", "test ! -e seen && touch seen && echo x >> var/x && test $(wc -l < var/x) = 2");
    flaky.retries = 1;
    flaky.caches.insert("x".to_owned(), CacheSpec { path: "var".into(), sharing: CacheSharing::Shared });
    let run = rig.run(vec![flaky]);
    let record = job(&run, "job");
    assert_eq!((record.verdict, record.attempts.len()), (Verdict::Passed, 2), "{record:?}");
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn what_is_beyond_the_disk_budget_of_a_host_goes_and_what_a_dead_receiver_left_goes() {
    let test = "what_is_beyond_the_disk_budget_of_a_host_goes_and_what_a_dead_receiver_left_goes";
    let Some(mut rig) = Rig::start(test) else { return };
    let first = rig.run(vec![sh("j", "true")]);
    assert_eq!(first.verdict, Verdict::Passed, "{}", rig.log(&first, "j", "host.log"));
    let shelf = rig.work_dir().join("snapshots");
    // Of an engine that is long gone: this one never asks about it.
    let (tree, foreign) = (fs::read_dir(&shelf).unwrap(), shelf.join("0".repeat(64)));
    let tree = tree.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    fs::create_dir_all(foreign.join("snapshot")).unwrap();
    fs::write(foreign.join("snapshot/f"), vec![1; 100_000]).unwrap();
    fs::create_dir_all(shelf.join("tmp-1-0/snapshot")).unwrap();
    rig.host().disk_budget = jerichoci::config::DiskBudget::Bytes(90_000);
    let is_collected = || !shelf.join("tmp-1-0").exists() && !foreign.exists();
    // Beside the run, which does not wait for long.
    for _ in 0..5 {
        let again = rig.run(vec![sh("j", "true")]);
        assert_eq!(again.verdict, Verdict::Passed, "{}", rig.log(&again, "j", "host.log"));
        if is_collected() {
            break;
        }
    }
    assert!(is_collected());
    assert!(tree.exists(), "the budget is that of one tree");
}

#[test]
fn a_log_of_200_mb_is_followed_with_flat_memory() {
    let Some(rig) = Rig::start("a_log_of_200_mb_is_followed_with_flat_memory") else { return };
    let run =
        rig.run(vec![sh("job", "yes 'a line of a log that nobody will ever read' | head -c 200000000")]);
    assert_eq!(run.verdict, Verdict::Passed);
    let log = rig.job_dir(&run, "job").join("host.log");
    assert!(fs::metadata(&log).unwrap().len() >= 200_000_000);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 << 10, "{kib} KiB");
}

#[test]
fn sixteen_jobs_at_once_on_one_host_take_turns_over_its_connection_and_all_pass() {
    let name = "sixteen_jobs_at_once_on_one_host_take_turns_over_its_connection_and_all_pass";
    let Some(mut rig) = Rig::start(name) else { return };
    rig.config.max_concurrent_executes = std::num::NonZeroUsize::new(16);
    let jobs: Vec<_> = (0..16).map(|n| sh(&format!("j{n}"), &format!("echo {n}; sleep 0.3"))).collect();
    let run = rig.run(jobs);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let mut waited = 0;
    for n in 0..16 {
        let id = format!("j{n}");
        let log = rig.log(&run, &id, "host.log");
        assert!(log.contains(&format!("{n}\n")), "{log}");
        assert_eq!(job(&run, &id).warnings, Vec::<String>::new());
        waited += usize::from(log.contains("waiting for one of the jobs that run on box to end"));
    }
    assert!(waited > 0, "nobody had to wait, so this shows nothing");
    assert_eq!(rig.sshd.log().matches("Accepted publickey").count(), 1);
    assert!(!rig.sshd.log().contains("no more sessions"), "{}", rig.sshd.log());
    assert_eq!(rig.left(), Vec::<String>::new());
}
