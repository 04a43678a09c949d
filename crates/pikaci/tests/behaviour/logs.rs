//! Logs are bytes, and any amount of them costs flat memory.

use std::io::Read as _;
use std::process::Stdio;

use crate::common::{Tree, each_way};

const BYTES: usize = 100_000_000;

const TARGETS: &str = r#"
[targets.odd.jobs.odd]
command = "printf 'a\\377\\376\\000b\\r\\n\\033[31m\\303('; printf 'err\\200' >&2"
[targets.much.jobs.much]
command = "head -c 100000000 /dev/zero; : > @OUT@/written; until [ -e @OUT@/go ]; do sleep 0.02; done"
"#;

#[test]
fn invalid_utf_8_and_a_missing_newline_survive_byte_for_byte() {
    each_way(|way| {
        let tree = Tree::new(way, TARGETS);
        let record = tree.record_of(&["run", "odd"]);
        assert_eq!(record["status"], "passed", "{record:#}");
        let id = record["run_id"].as_str().unwrap();
        let expected = b"a\xff\xfe\0b\r\n\x1b[31m\xc3(err\x80";
        assert_eq!(tree.host_log(id, "odd"), expected);
        let logs = tree.run(&["logs", id, "--job", "odd", "--kind", "host"]).code(0);
        assert_eq!(logs.stdout, [b"== host ==\n", &expected[..]].concat());
        let metadata = tree.run(&["logs", id, "--metadata-json"]).code(0).json();
        assert_eq!(metadata["jobs"][0]["host_log_bytes"], expected.len());
    });
}

/// Most memory that a process had at any time, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn a_hundred_megabytes_of_output_cost_flat_memory_to_write_and_to_print() {
    let tree = Tree::with(TARGETS);
    let live = tree.start(&["run", "much"]);
    let id = live.id.clone();
    tree.wait_for_file("written");
    let log = tree.run_dir(&id).join("jobs/much/host.log");
    crate::common::wait_for("the log", || {
        (std::fs::metadata(&log).ok()?.len() == BYTES as u64).then_some(())
    });
    let engine = peak_mib(live.pid());
    tree.make_file("go");
    live.end().code(0);
    assert!(engine < 32, "the engine had {engine} MiB");

    let mut child = tree.pikaci(&["logs", &id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut buffer = vec![0; 1 << 20];
    let (mut read, mut peak) = (0, 0);
    loop {
        let count = out.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        read += count;
        // The pipe holds far less than what is still to come.
        if read < BYTES - (8 << 20) {
            peak = peak_mib(child.id());
        }
    }
    assert_eq!(read, BYTES + "== host ==\n".len());
    assert!(child.wait().unwrap().success());
    assert!(0 < peak && peak < 32, "logs had {peak} MiB");
}
