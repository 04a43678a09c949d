//! The faults, one by one.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jericho_host::{Clock as _, SystemClock};
use serde_json::json;

use crate::world::{Daemon, Live, World, command, wait_for, world};

/// Processes below `pid` whose name is `ssh`, with those that hold the connection first.
fn ssh_of(live: &Live) -> (Vec<u32>, Vec<u32>) {
    let table = processes();
    let mut all = vec![live.child.id()];
    let mut at = 0;
    while at < all.len() {
        let parent = all[at];
        all.extend(table.iter().filter(|process| process.parent == parent).map(|process| process.pid));
        at += 1;
    }
    let ssh = table.iter().filter(|process| all.contains(&process.pid) && process.name == "ssh");
    let (masters, clients): (Vec<_>, Vec<_>) =
        ssh.partition(|process| process.args.iter().any(|arg| arg == "-M"));
    let pids = |of: Vec<&Process>| of.iter().map(|process| process.pid).collect();
    (pids(masters), pids(clients))
}

struct Process {
    pid: u32,
    parent: u32,
    name: String,
    args: Vec<String>,
}

fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let (state, rest) = rest.split_once(' ')?;
        // One that has ended, and whose parent has not looked at it yet.
        let parent = rest.split(' ').next().filter(|_| state != "Z")?.parse().ok()?;
        let args = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let args = args.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned());
        Some(Process { pid, parent, name: name.to_owned(), args: args.collect() })
    })
    .collect()
}

fn kill(pids: &[u32], signal: &str) {
    assert!(send(pids, signal));
}

/// Whether all of them were there to get it.
fn send(pids: &[u32], signal: &str) -> bool {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    command("kill".as_ref()).arg("-s").arg(signal).args(pids).status().unwrap().success()
}

fn seconds(count: u64) {
    let until = SystemClock.monotonic() + Duration::from_secs(count);
    wait_for("the time to pass", || (SystemClock.monotonic() >= until).then_some(()));
}

/// What the engine writes when it connects again.
const RECONNECTED: &str = "connected again to Incus on rig";

/// The job ends well, after the connection was made anew.
#[track_caller]
fn resumes(world: &World<'_>, live: Live) {
    live.until_host_log(RECONNECTED);
    live.until_more();
    world.go();
    live.end().passed();
}

#[test]
fn a_killed_ssh_client_changes_nothing() {
    world("a_killed_ssh_client_changes_nothing", Daemon::Shared, |world| {
        let live = world.start();
        // The one of the snapshots stays as long as the run; others may end while they are looked at.
        let clients = ssh_of(&live).1;
        let hit = clients.iter().filter(|pid| send(&[**pid], "KILL")).count();
        assert!(hit > 0, "a client was there, of {clients:?}");
        let gone = || ssh_of(&live).1.iter().all(|pid| !clients.contains(pid));
        wait_for("the end of the clients", || gone().then_some(()));
        live.until_more();
        world.go();
        live.end().passed();
    });
}

#[test]
fn a_killed_master_is_replaced_and_the_log_goes_on_where_it_was() {
    world("a_killed_master_is_replaced_and_the_log_goes_on_where_it_was", Daemon::Shared, |world| {
        let live = world.start();
        let (masters, _) = ssh_of(&live);
        assert_eq!(masters.len(), 1);
        kill(&masters, "KILL");
        live.until_host_log(RECONNECTED);
        assert!(ssh_of(&live).0.iter().all(|pid| *pid != masters[0]), "another master");
        resumes(world, live);
    });
}

/// What the runner does on the host of a world: `relay` before Incus, `store` of snapshots.
fn runners(world: &World<'_>, part: &str) -> Vec<u32> {
    let is_its_own = |process: &Process| {
        process.name == "jerichoci-incus"
            && process.args.get(1).is_some_and(|word| word == part)
            && process.args.iter().any(|arg| Path::new(arg) == world.work_dir)
    };
    processes().iter().filter(|process| is_its_own(process)).map(|process| process.pid).collect()
}

#[test]
fn a_killed_relay_before_incus_is_replaced_and_the_log_goes_on_where_it_was() {
    world(
        "a_killed_relay_before_incus_is_replaced_and_the_log_goes_on_where_it_was",
        Daemon::Shared,
        |world| {
            let mut replaced = 0;
            // On a host that has no runner yet, it has a session of its own; else it is beside the receiver of snapshots.
            for killed in ["relay", "relay", "store"] {
                let live = world.start();
                let before = runners(world, "relay");
                assert_eq!(before.len(), 1);
                kill(&runners(world, killed), "KILL");
                live.until_host_log(RECONNECTED);
                let after = runners(world, "relay");
                assert_ne!(after, before, "not the one that was killed");
                // On a machine so busy that none listens within 3 s it goes on without one.
                replaced += usize::from(after.len() == 1);
                resumes(world, live);
            }
            assert!(replaced > 0, "another relay");
        },
    );
}

#[test]
fn a_host_that_says_nothing_for_30_seconds_is_waited_for() {
    world("a_host_that_says_nothing_for_30_seconds_is_waited_for", Daemon::Shared, |world| {
        let live = world.start();
        let (before, sessions) = (ssh_of(&live).0, world.sshd.sessions());
        world.sshd.stop_sessions();
        let lines = live.lines();
        seconds(30);
        assert!(live.lines() < lines + 50, "nothing comes from a host that is stopped");
        world.sshd.continue_sessions();
        live.until_more();
        // What begins as the silence does gives up when it ends, and connects for itself; the job stays where it is.
        let now = ssh_of(&live).0;
        assert!(before.len() == 1 && now.contains(&before[0]), "the same master: {now:?}, {before:?}");
        // Incus itself may have given up a stream meanwhile; that is another one on the same connection.
        assert!(world.sshd.sessions().iter().any(|pid| sessions.contains(pid)), "the same session");
        world.go();
        live.end().passed();
    });
}

#[test]
fn a_host_that_says_nothing_for_90_seconds_is_connected_again() {
    world("a_host_that_says_nothing_for_90_seconds_is_connected_again", Daemon::Shared, |world| {
        let live = world.start();
        let stopped = world.sshd.sessions();
        world.sshd.stop_sessions();
        seconds(90);
        live.until_host_log(RECONNECTED);
        assert!(world.sshd.sessions().iter().any(|pid| !stopped.contains(pid)), "another session");
        kill(&stopped, "CONT");
        resumes(world, live);
    });
}

#[test]
fn an_sshd_that_is_restarted_is_connected_again() {
    world("an_sshd_that_is_restarted_is_connected_again", Daemon::Shared, |world| {
        let live = world.start();
        let before = world.sshd.listener();
        world.sshd.restart();
        assert_ne!(world.sshd.listener(), before);
        resumes(world, live);
    });
}

#[test]
fn an_incusd_that_is_killed_and_comes_back_loses_no_job() {
    world("an_incusd_that_is_killed_and_comes_back_loses_no_job", Daemon::Own, |world| {
        let live = world.start();
        let before = world.incus.daemon().unwrap();
        world.incus.kill_daemon().unwrap();
        world.incus.start_daemon().unwrap();
        assert_ne!(world.incus.daemon().unwrap(), before);
        live.until_more();
        world.go();
        live.end().passed();
    });
}

#[test]
fn an_incusd_that_is_terminated_and_comes_back_loses_no_job() {
    world("an_incusd_that_is_terminated_and_comes_back_loses_no_job", Daemon::Own, |world| {
        let live = world.start();
        let before = world.incus.daemon().unwrap();
        // It waits for what it runs, and says that it shuts down, so the job ends meanwhile.
        kill(&[before], "TERM");
        seconds(2);
        let instance = world.instance_of(&live);
        world.touch_from_outside(&instance, "/var/tmp/go");
        wait_for("the end of the daemon", || (!alive(before)).then_some(()));
        world.incus.start_daemon().unwrap();
        assert_ne!(world.incus.daemon().unwrap(), before);
        live.end().passed();
    });
}

fn alive(pid: u32) -> bool {
    processes().iter().any(|process| process.pid == pid && process.name == "incusd")
}

#[test]
fn an_instance_that_is_stopped_is_told_and_not_blamed_on_the_job() {
    world("an_instance_that_is_stopped_is_told_and_not_blamed_on_the_job", Daemon::Shared, |world| {
        let live = world.start();
        let path = format!("/1.0/instances/{}/state?project={}", world.instance(), world.project.name());
        world.incus.ask("PUT", &path, Some(&json!({ "action": "stop", "force": true }))).unwrap();
        live.end().is(3, "infrastructure", "stopped");
    });
}

#[test]
fn an_instance_that_is_deleted_is_told_and_not_blamed_on_the_job() {
    world("an_instance_that_is_deleted_is_told_and_not_blamed_on_the_job", Daemon::Shared, |world| {
        let live = world.start();
        let instance = format!("/1.0/instances/{}", world.instance());
        let project = world.project.name();
        let stop = json!({ "action": "stop", "force": true });
        world.incus.ask("PUT", &format!("{instance}/state?project={project}"), Some(&stop)).unwrap();
        // The engine may have been faster to remove what was stopped.
        let _ = world.incus.ask("DELETE", &format!("{instance}?project={project}"), None);
        let ended = live.end();
        assert_eq!(ended.job["failure_kind"], "infrastructure", "{ended:#?}");
        assert_eq!(ended.code, Some(3), "{ended:#?}");
    });
}

#[test]
fn a_command_that_needs_more_memory_than_there_is_fails_by_its_own_fault() {
    world("a_command_that_needs_more_memory_than_there_is_fails_by_its_own_fault", Daemon::Shared, |world| {
        // One that is killed by the kernel, and no other process of the guest with it.
        let greedy = "i=0; while [ $i -lt 5 ]; do i=$((i + 1)); echo \"line $i\"; done\n\
                      echo 1000 >/proc/self/oom_score_adj\nexec perl -e '$x = \"a\" x 1000000000'";
        world.job(greedy, "memory = \"128MiB\"");
        let live = world.start();
        let ended = live.end();
        assert_eq!(ended.code, Some(1), "{ended:#?}");
        assert_eq!(ended.job["failure_kind"], "test_failure", "{ended:#?}");
        let told = format!("{} {}", ended.job["message"], ended.job["signal"]);
        assert!(told.contains('9') || told.contains("137"), "{ended:#?}");
    });
}

#[test]
fn a_disk_that_is_full_in_the_guest_is_told_and_leaves_nothing() {
    // A pool of its own: where others remove guests, btrfs may come to call its quotas inconsistent, and holds no limit any more.
    world("a_disk_that_is_full_in_the_guest_is_told_and_leaves_nothing", Daemon::Own, |world| {
        let script = "i=0; while [ $i -lt 5 ]; do i=$((i + 1)); echo \"line $i\"; done\n\
                      dd if=/dev/urandom of=/var/tmp/big bs=1M 2>&1; echo \"dd $?\"; exit 3";
        world.job(script, "disk = \"1GiB\"");
        let ended = world.start().end();
        assert!(ended.log.starts_with("line 1\nline 2\n"), "{ended:#?}");
        // The log lies on the same disk: the guest cannot go on telling what its command does.
        let message = ended.job["message"].as_str().unwrap_or_default();
        assert!(message.contains("Disk quota exceeded") || message.contains("No space left"), "{ended:#?}");
        assert_eq!((ended.code, ended.job["failure_kind"].as_str()), (Some(3), Some("infrastructure")));
    });
}

#[test]
fn an_engine_that_is_killed_is_put_in_order_by_the_next_command() {
    world("an_engine_that_is_killed_is_put_in_order_by_the_next_command", Daemon::Shared, |world| {
        let mut live = world.start();
        live.child.kill().unwrap();
        live.child.wait().unwrap();
        let lines = live.lines();
        assert_eq!(world.project.instances().unwrap().len(), 1, "somebody has to end it");
        world.job("true", "");
        let next = world.output(&["run", "job"]);
        assert!(next.status.success(), "{next:?}");
        wait_for("the end of what the killed engine left", || {
            world.project.instances().unwrap().is_empty().then_some(())
        });
        let record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(live.dir.join("run.json")).unwrap()).unwrap();
        assert_eq!(record["failure_kind"], "interrupted", "{record:#}");
        assert!(live.lines() >= lines, "what was there is kept");
        let numbers: BTreeSet<&str> = record["jobs"].as_array().unwrap().iter().map(kind).collect();
        assert_eq!(numbers, BTreeSet::from(["interrupted"]));
    });
}

fn kind(job: &serde_json::Value) -> &str {
    job["failure_kind"].as_str().unwrap_or_default()
}
