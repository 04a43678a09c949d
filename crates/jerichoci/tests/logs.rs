//! Logs: exact bytes, a cap, and nothing lost when the engine is killed.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use jericho_host::OutputSink;
use jerichoci::run::logs::{LogSummary, LogWriter, append_engine_line, tail};
use proptest::prelude::*;
use tempfile::TempDir;

const BIG: u64 = 1 << 30;

fn log() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.log");
    (dir, path)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a log with this cap must hold at its end.
fn expected(output: &[u8], cap: usize) -> Vec<u8> {
    if output.len() <= cap {
        return output.to_vec();
    }
    let tail = cap / 2;
    let head = cap - tail;
    let mut log = output[..head].to_vec();
    if log.last() != Some(&b'\n') {
        log.push(b'\n');
    }
    let left_out = output.len() - cap;
    log.extend(
        format!(
            "[jerichoci] the log is over its limit: {left_out} bytes are left out here, the last {tail} follow\n"
        )
        .bytes(),
    );
    log.extend(&output[output.len() - tail..]);
    log
}

#[test]
fn output_is_kept_byte_for_byte() {
    let (dir, path) = log();
    let mut writer = LogWriter::create(&path, BIG).unwrap();
    let size = writer.size();
    for part in [&b"\xff\xfe no utf-8"[..], b"\0\r\n", b"", b"no newline at the end"] {
        writer.write(part).unwrap();
        assert_eq!(size.load(Ordering::Relaxed), fs::metadata(&path).unwrap().len(), "not buffered");
    }
    let summary = writer.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"\xff\xfe no utf-8\0\r\nno newline at the end");
    assert_eq!(summary, LogSummary { bytes: 35, left_out: 0 });
    assert_eq!(names(dir.path()), ["host.log"]);
}

#[test]
fn engine_lines_stand_on_lines_of_their_own() {
    let (_dir, path) = log();
    let mut writer = LogWriter::create(&path, BIG).unwrap();
    writer.engine_line("first").unwrap();
    writer.write(b"half").unwrap();
    writer.engine_line("two\nlines").unwrap();
    writer.write(b"whole\n").unwrap();
    writer.engine_line("last").unwrap();
    writer.finish().unwrap();
    append_engine_line(&path, "later").unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "[jerichoci] first\nhalf\n[jerichoci] two\n[jerichoci] lines\nwhole\n[jerichoci] last\n[jerichoci] later\n"
    );
    fs::write(&path, "half").unwrap();
    append_engine_line(&path, "later").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "half\n[jerichoci] later\n");
}

#[test]
fn a_log_in_the_way_is_not_overwritten() {
    let (_dir, path) = log();
    fs::write(&path, "mine").unwrap();
    assert_eq!(LogWriter::create(&path, 10).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn head_and_tail_are_kept_and_offsets_never_change(parts in parts(), cap in 2usize..80) {
        let (dir, path) = log();
        let mut writer = LogWriter::create(&path, cap as u64).unwrap();
        let mut seen = Vec::new();
        for part in &parts {
            writer.write(part).unwrap();
            let now = fs::read(&path).unwrap();
            prop_assert!(now.starts_with(&seen));
            seen = now;
        }
        let beside: u64 = names(dir.path())
            .iter()
            .filter(|name| *name != "host.log")
            .map(|name| fs::metadata(dir.path().join(name)).unwrap().len())
            .sum();
        prop_assert!(beside <= 2 * (cap as u64 / 2), "disk use is bounded too");
        let summary = writer.finish().unwrap();
        let output = parts.concat();
        let log = fs::read(&path).unwrap();
        prop_assert!(log.starts_with(&seen));
        prop_assert_eq!(&log, &expected(&output, cap));
        prop_assert_eq!(summary.bytes, log.len() as u64);
        prop_assert_eq!(summary.left_out as usize, output.len().saturating_sub(cap));
        prop_assert_eq!(names(dir.path()), ["host.log"]);
    }

    #[test]
    fn a_log_whose_writer_was_killed_is_completed_later(
        parts in parts(), cap in 2usize..80, cut in 0.0f64..1.0, twice in any::<bool>(),
    ) {
        let (dir, path) = log();
        let mut writer = LogWriter::create(&path, cap as u64).unwrap();
        for part in &parts {
            writer.write(part).unwrap();
        }
        drop(writer);
        let wanted = expected(&parts.concat(), cap);
        let head = fs::metadata(&path).unwrap().len();
        if twice && names(dir.path()).len() > 1 {
            // A writer that was killed while it put the log together.
            let to = head + ((wanted.len() as u64 - head) as f64 * cut) as u64;
            let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.seek(SeekFrom::Start(head)).unwrap();
            file.write_all(&wanted[head as usize..to as usize]).unwrap();
        }
        tail::recover(&path).unwrap();
        prop_assert_eq!(&fs::read(&path).unwrap(), &wanted);
        prop_assert_eq!(names(dir.path()), ["host.log"]);
        prop_assert!(!tail::recover(&path).unwrap());
        prop_assert_eq!(&fs::read(&path).unwrap(), &wanted);
    }
}

#[test]
fn a_kill_between_the_removals_of_a_finished_log_changes_nothing() {
    let (dir, path) = log();
    let mut writer = LogWriter::create(&path, 20).unwrap();
    writer.write(&[b'x'; 35]).unwrap();
    let segments: Vec<(String, Vec<u8>)> = names(dir.path())
        .into_iter()
        .filter(|name| name != "host.log")
        .map(|name| (name.clone(), fs::read(dir.path().join(name)).unwrap()))
        .collect();
    assert_eq!(segments.len(), 2);
    writer.finish().unwrap();
    let finished = fs::read(&path).unwrap();
    let (name, content) = &segments[1];
    fs::write(dir.path().join(name), content).unwrap();
    assert!(tail::recover(&path).unwrap());
    assert_eq!(fs::read(&path).unwrap(), finished);
    assert_eq!(names(dir.path()), ["host.log"]);
}

/// Runs the ignored test of this name in a small file system of its own.
#[expect(clippy::disallowed_methods, reason = "a mount namespace of its own, for a disk that is full")]
fn on_a_small_disk(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=256k none \"$1\" && cd \"$1\" && touch small-disk && \
                  exec \"$2\" --exact --ignored \"$3\"";
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
fn a_full_disk_is_told_as_such_and_loses_nothing_that_was_written() {
    if jericho_testkit::need::needs_root("a_full_disk_is_told_as_such_and_loses_nothing_that_was_written") {
        on_a_small_disk("small_disk");
    }
}

#[test]
#[ignore = "runs on the small disk that another test makes"]
fn small_disk() {
    use std::io::ErrorKind::StorageFull;
    if !Path::new("small-disk").exists() {
        return;
    }
    let path = Path::new("host.log");
    let mut writer = LogWriter::create(path, BIG).unwrap();
    let size = writer.size();
    let chunk: Vec<u8> = (0..10_007u32).map(|n| n as u8).collect();
    let mut output = Vec::new();
    let error = loop {
        output.extend(&chunk);
        if let Err(error) = writer.write(&chunk) {
            break error;
        }
    };
    assert_eq!(error.kind(), StorageFull);
    let log = fs::read(path).unwrap();
    assert!(output.starts_with(&log) && log.len() > 100_000);
    assert_eq!(size.load(Ordering::Relaxed), log.len() as u64);
    fs::remove_file(path).unwrap();
    drop(writer);

    // The disk is full when head and tail shall be put together.
    let output: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let mut writer = LogWriter::create(path, 60_000).unwrap();
    writer.write(&output).unwrap();
    let mut ballast = fs::File::create("ballast").unwrap();
    while ballast.write_all(&[0; 1024]).is_ok() {}
    assert_eq!(writer.finish().unwrap_err().kind(), StorageFull);
    drop(ballast);
    fs::remove_file("ballast").unwrap();
    assert!(tail::recover(path).unwrap());
    assert_eq!(fs::read(path).unwrap(), expected(&output, 60_000));
}
