//! What an engine does not do while it waits, and not too often while it works.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use jericho_host::{Clock as _, SystemClock};

use crate::common::{Tree, each_way};

/// How often the threads of a process have waited for something so far.
fn waits(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let status = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let count = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    status.map(count).sum()
}

#[test]
fn an_engine_whose_jobs_are_quiet_does_not_wake_up_to_look_after_them() {
    each_way(|way| {
        let tree = Tree::new(way, "[targets.quiet.jobs.a]\ncommand = \"exec sleep 600\"\n");
        let mut live = tree.start(&["run", "quiet"]);
        live.until("job_started", "a");
        // Who looks ten times a second does so in each of them, and a busy machine adds to some.
        let fewest = (0..6).map(|_| {
            let before = waits(live.pid());
            std::thread::park_timeout(Duration::from_secs(1));
            waits(live.pid()) - before
        });
        let fewest = fewest.min().unwrap();
        assert!(fewest <= 5, "it woke up {fewest} times in the quietest second");
        live.signal("TERM");
        live.end().code(4);
    });
}

#[test]
fn a_record_is_written_at_the_start_at_the_end_and_at_most_four_times_a_second_in_between() {
    let mut targets = String::new();
    for number in 0..60 {
        writeln!(targets, "[targets.many.jobs.j{number}]\ncommand = \"true\"").unwrap();
    }
    let tree = Tree::with(&targets);
    let live = tree.start(&["run", "many", "-j", "1"]);
    let (began, path) = (SystemClock.monotonic(), tree.run_dir(&live.id).join("run.json"));
    let (mut last, mut count) = (None, 0_u32);
    let ended = std::thread::scope(|scope| {
        let ended = scope.spawn(|| live.end());
        while !ended.is_finished() {
            let now = fs::metadata(&path).map(|record| (record.ino(), record.mtime(), record.mtime_nsec()));
            if let Ok(now) = now
                && last != Some(now)
            {
                (last, count) = (Some(now), count + 1);
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        ended.join().unwrap()
    });
    ended.code(0);
    let quarters = (SystemClock.monotonic() - began).as_millis() / 250;
    assert!(u128::from(count) <= quarters + 3, "{count} times in {quarters} quarters of a second");
    assert!(count >= 2, "at the start and at the end");
}
