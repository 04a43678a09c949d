//! The journal: numbered without gap or repetition, over crashes and from several processes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use chrono::DateTime;
use pika_cloud::EventProblemKind::{self, Gap, Garbled, Nuls, Repeated, SchemaVersion, Torn};
use pika_cloud::{EventLog, EventLogError, LifecycleState, NewEvent, Timestamp, parse_events, read_events};
use proptest::prelude::*;
use serde_json::json;

struct Journal {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Journal {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        Self { _directory: directory, path }
    }

    fn with(bytes: impl AsRef<[u8]>) -> Self {
        let journal = Self::new();
        fs::write(&journal.path, bytes).unwrap();
        journal
    }

    fn counter(&self) -> PathBuf {
        self.path.with_file_name("events.jsonl.seq")
    }

    /// Appends an event and returns its number.
    fn append(&self) -> u64 {
        EventLog::new(&self.path).append(event("m")).unwrap().seq
    }

    fn seqs(&self) -> Vec<u64> {
        read_events(&self.path).unwrap().events.iter().map(|event| event.seq).collect()
    }

    fn problems(&self) -> Vec<EventProblemKind> {
        problems(&fs::read(&self.path).unwrap())
    }
}

fn problems(bytes: &[u8]) -> Vec<EventProblemKind> {
    parse_events(bytes, 0).problems.into_iter().map(|problem| problem.kind).collect()
}

fn at() -> Timestamp {
    DateTime::parse_from_rfc3339("2026-04-01T12:00:30+00:00").unwrap()
}

fn event(message: &str) -> NewEvent {
    NewEvent::new(LifecycleState::Booted, at(), message)
}

fn line(seq: u64) -> String {
    format!(
        r#"{{"schema_version":1,"seq":{seq},"timestamp":"2026-04-01T12:00:30+00:00","kind":"ready","message":"m"}}"#
    ) + "\n"
}

#[test]
fn events_are_one_line_each_and_numbered_from_1() {
    let journal = Journal::new();
    let log = EventLog::new(&journal.path);
    let first = log.append(event("line\nbreak \u{2028} é").with_boot_id("b1")).unwrap();
    let second = log.append(event("m").with_details(json!({ "exit_code": 0 }))).unwrap();
    assert_eq!((first.seq, second.seq), (1, 2));
    let text = fs::read_to_string(&journal.path).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.ends_with("}\n"));
    let contents = read_events(&journal.path).unwrap();
    assert_eq!(contents.events, [first, second]);
    assert_eq!(contents.problems, []);
    assert_eq!((contents.last_seq, contents.next_offset), (2, text.len() as u64));
    assert_eq!(fs::read_to_string(journal.counter()).unwrap().trim(), "2");
}

#[test]
fn missing_directories_are_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/pika-cloud/events.jsonl");
    assert_eq!(EventLog::new(&path).append(event("m")).unwrap().seq, 1);
}

#[test]
fn a_lost_or_garbled_counter_is_repaired_from_the_last_line() {
    for garbled in [
        "",
        "\n",
        "x",
        "-3",
        "1 2",
        "0x7",
        "\0\0\0\0",
        "3.0",
        "99999999999999999999999999",
        "18446744073709551615",
        "1",
    ] {
        let journal = Journal::with(line(1) + &line(2) + &line(7));
        fs::write(journal.counter(), garbled).unwrap();
        assert_eq!(journal.append(), 8, "{garbled:?}");
        assert_eq!(fs::read_to_string(journal.counter()).unwrap(), "8\n", "{garbled:?}");
    }
    let journal = Journal::with(line(7));
    fs::write(journal.counter(), b"\xff\xff garbage that is longer than the number").unwrap();
    assert_eq!((journal.append(), journal.append()), (8, 9));
    fs::remove_file(journal.counter()).unwrap();
    assert_eq!(journal.append(), 10);
}

#[test]
fn a_counter_ahead_of_the_journal_wins() {
    let journal = Journal::with(line(7));
    fs::write(journal.counter(), "20").unwrap();
    assert_eq!(journal.append(), 21);
    fs::remove_file(&journal.path).unwrap();
    assert_eq!(journal.append(), 22, "a journal that was taken away does not start anew");
}

#[test]
fn a_crash_between_line_and_counter_leaves_no_gap() {
    let journal = Journal::new();
    journal.append();
    fs::OpenOptions::new().append(true).open(&journal.path).unwrap().write_all(line(2).as_bytes()).unwrap();
    assert_eq!(journal.append(), 3);
    assert_eq!(journal.problems(), []);
}

#[test]
fn a_torn_last_line_is_ended_wherever_it_was_torn_and_spoils_no_other() {
    let torn = line(2);
    for cut in 0..torn.len() {
        let before = line(1) + &torn[..cut];
        let journal = Journal::with(&before);
        // A line that lacks only its newline counts; any shorter one does not.
        let expected = if cut == torn.len() - 1 { 3 } else { 2 };
        assert_eq!(journal.append(), expected, "cut at {cut}");
        let after = fs::read(&journal.path).unwrap();
        assert!(after.starts_with(before.as_bytes()), "bytes in the file never change");
        assert_eq!(journal.seqs(), (1..=expected).collect::<Vec<_>>());
        let torn_lines = if (1..torn.len() - 1).contains(&cut) { vec![Torn] } else { vec![] };
        assert_eq!(journal.problems(), torn_lines, "cut at {cut}");
    }
}

#[test]
fn a_tail_of_nuls_or_garbage_is_skipped_to_find_the_last_line() {
    for (tail, problem) in [
        ("\0\0\0\0", Some(Nuls)),
        ("\0\n\0\n", None),
        ("garbage\n", None),
        ("{}\n{\"seq\":\"9\"}\n", None),
        ("{\"seq\":-4}\n", None),
        ("\n\n\n", None),
    ] {
        let journal = Journal::with(line(1) + tail);
        assert_eq!(journal.append(), 2, "{tail:?}");
        assert_eq!(journal.seqs(), [1, 2], "{tail:?}");
        if let Some(problem) = problem {
            assert_eq!(journal.problems(), [problem]);
        }
    }
}

#[test]
fn the_number_of_a_line_from_a_newer_writer_counts() {
    let journal = Journal::with(line(1) + "{\"schema_version\":2,\"seq\":2,\"new\":true}\n");
    assert_eq!(journal.append(), 3);
    assert_eq!(journal.seqs(), [1, 3]);
    assert_eq!(journal.problems(), [SchemaVersion { found: 2, expected: 1 }]);
}

#[test]
fn the_last_line_is_found_behind_more_garbage_than_one_read_takes() {
    let long = "x".repeat(300_000);
    for tail in [format!("{long}\n"), long.clone(), "y\n".repeat(100_000), "\n".repeat(50_000)] {
        let journal = Journal::with(line(4) + &tail);
        assert_eq!(journal.append(), 5);
    }
    let journal = Journal::new();
    let log = EventLog::new(&journal.path);
    for expected in 1..=3 {
        assert_eq!(log.append(event(&long)).unwrap().seq, expected);
        fs::remove_file(journal.counter()).unwrap();
    }
}

#[test]
fn the_greatest_number_is_followed_by_none() {
    let journal = Journal::with(line(u64::MAX));
    let error = EventLog::new(&journal.path).append(event("m")).unwrap_err();
    assert!(matches!(error, EventLogError::Exhausted { .. }), "{error}");
}

#[test]
fn an_error_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("events.jsonl")).unwrap();
    let error = EventLog::new(directory.path().join("events.jsonl")).append(event("m")).unwrap_err();
    assert!(error.to_string().ends_with("events.jsonl"), "{error}");
    let far = NewEvent::new(LifecycleState::Ready, DateTime::<chrono::Utc>::MAX_UTC, "m");
    let journal = Journal::new();
    assert!(matches!(EventLog::new(&journal.path).append(far), Err(EventLogError::Encode { .. })));
    assert_eq!(journal.append(), 1, "what could not be written took no number");
}

#[test]
fn a_reader_skips_and_tells_what_is_wrong() {
    let garbled = |bytes: &[u8]| matches!(problems(bytes)[..], [Garbled { .. }]);
    assert!(garbled(b"x\n") && garbled(b"[]\n") && garbled(b"{}\n") && garbled(b"\xff\n"));
    assert!(garbled(line(1).replace("ready", "passed").as_bytes()));
    assert!(garbled(line(1).replace("ready", "re\0dy").as_bytes()), "a NUL inside");
    assert_eq!(problems(b"{\"schema_version\":1,\"seq\":1"), [Torn]);
    assert_eq!(problems(b"xyz"), [Torn], "an unfinished line may still become anything");
    assert_eq!(problems(b""), []);
    assert_eq!(problems(b"\r\n \n\n"), []);
    assert_eq!(problems(format!("\0\0{}\0", line(1)).as_bytes()), [Nuls, Nuls]);
    assert_eq!(parse_events(format!("\0\0{}", line(1)).as_bytes(), 0).events.len(), 1);
}

#[test]
fn a_reader_tells_gaps_and_repetitions_and_still_reads_the_lines() {
    let bytes = [line(2), line(3), line(3), line(1), line(6)].concat();
    let contents = parse_events(bytes.as_bytes(), 0);
    assert_eq!(contents.events.len(), 5);
    assert_eq!(
        problems(bytes.as_bytes()),
        [
            Gap { expected: 1, found: 2 },
            Repeated { expected: 4, found: 3 },
            Repeated { expected: 4, found: 1 },
            Gap { expected: 4, found: 6 },
        ]
    );
    let text: Vec<String> = contents.problems.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    line 1 (byte 0): has seq 2, expected 1: events are missing
    line 3 (byte 196): has seq 3, expected 4: events are repeated
    line 4 (byte 294): has seq 1, expected 4: events are repeated
    line 5 (byte 392): has seq 6, expected 4: events are missing
    ");
    assert_eq!(problems(line(0).as_bytes()), [Repeated { expected: 1, found: 0 }]);
}

#[test]
fn a_journal_can_be_followed_from_any_cut() {
    let whole = [line(1), line(2), line(3)].concat();
    for cut in 0..=whole.len() {
        let first = parse_events(&whole.as_bytes()[..cut], 0);
        let rest = &whole.as_bytes()[usize::try_from(first.next_offset).unwrap()..];
        let second = parse_events(rest, first.last_seq);
        assert_eq!(second.problems, [], "cut at {cut}");
        let seqs: Vec<u64> = first.events.iter().chain(&second.events).map(|event| event.seq).collect();
        assert_eq!(seqs, [1, 2, 3], "cut at {cut}");
    }
}

#[test]
fn a_missing_journal_is_an_error_of_the_reader() {
    assert!(read_events(Path::new("/nonexistent/events.jsonl")).is_err());
}

#[test]
fn a_line_that_the_reader_takes_counts_for_the_writer_too() {
    for noise in ["\u{c}", " ", "\t", "\0", "\u{c}\0"] {
        let journal = Journal::with(format!("{noise}{}", line(7)));
        assert_eq!(journal.append(), 8, "{noise:?}");
    }
}

proptest! {
    #[test]
    fn whatever_the_file_holds_the_next_event_is_whole_and_its_number_is_new(
        pieces in prop::collection::vec(
            prop_oneof![
                (0_u64..50).prop_map(|seq| line(seq).into_bytes()),
                (0_u64..50, 0_usize..90).prop_map(|(seq, cut)| line(seq).into_bytes()[..cut].to_vec()),
                prop::collection::vec(any::<u8>(), 0..20),
                Just(b"\n".to_vec()),
                Just(vec![0; 5]),
            ],
            0..8,
        ),
        counter in prop::option::of(prop::collection::vec(any::<u8>(), 0..12)),
    ) {
        let before = pieces.concat();
        let journal = Journal::with(&before);
        if let Some(counter) = counter {
            fs::write(journal.counter(), counter).unwrap();
        }
        let last_before = parse_events(&before, 0).events.last().map_or(0, |event| event.seq);
        let seq = journal.append();
        prop_assert!(seq > last_before);
        let after = fs::read(&journal.path).unwrap();
        prop_assert!(after.starts_with(&before));
        prop_assert_eq!(read_events(&journal.path).unwrap().events.last().map(|event| event.seq), Some(seq));
        prop_assert_eq!(journal.append(), seq + 1);
    }
}

/// How many processes append at once, and how many events each.
const WRITERS: u64 = 4;
const EACH: u64 = 50;

#[test]
fn writers_in_several_processes_never_repeat_a_number() {
    let journal = Journal::new();
    let children: Vec<_> = (0..WRITERS).map(|_| start_writer(&journal.path, EACH)).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let contents = read_events(&journal.path).unwrap();
    assert_eq!(contents.problems, []);
    assert_eq!(journal.seqs(), (1..=WRITERS * EACH).collect::<Vec<_>>());
    let writers: BTreeSet<&str> = contents.events.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(writers.len() as u64, WRITERS);
}

#[test]
fn a_killed_writer_leaves_neither_lock_nor_repetition() {
    let journal = Journal::new();
    let survivor = start_writer(&journal.path, EACH);
    for _ in 0..5 {
        let mut victim = start_writer(&journal.path, u64::MAX);
        let output = BufReader::new(victim.stdout.take().unwrap());
        assert!(output.lines().any(|line| line.unwrap().contains(WRITING)), "it is at it");
        victim.kill().unwrap();
        assert!(!victim.wait().unwrap().success());
    }
    assert!(survivor.wait_with_output().unwrap().status.success());
    let last = journal.append();
    assert!(last > EACH + 5, "{last}");
    assert_eq!(journal.seqs(), (1..=last).collect::<Vec<_>>());
}

const JOURNAL_VARIABLE: &str = "PIKA_CLOUD_TEST_JOURNAL";
const COUNT_VARIABLE: &str = "PIKA_CLOUD_TEST_COUNT";
/// What a writer prints after its first event.
const WRITING: &str = "writing now";

#[expect(clippy::disallowed_methods, reason = "the test is its own other process")]
fn start_writer(path: &Path, count: u64) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_process", "--ignored", "--nocapture"])
        .env(JOURNAL_VARIABLE, path)
        .env(COUNT_VARIABLE, count.to_string())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

/// Not a test of its own: what [`start_writer`] starts.
#[test]
#[ignore = "started by other tests as a process"]
#[expect(clippy::disallowed_methods, reason = "how the parent says which journal")]
fn writer_process() {
    let Some(path) = std::env::var_os(JOURNAL_VARIABLE) else { return };
    let log = EventLog::new(PathBuf::from(path));
    let id = std::process::id().to_string();
    let count: u64 = std::env::var(COUNT_VARIABLE).unwrap().parse().unwrap();
    for number in 0..count {
        log.append(event(&id)).unwrap();
        if number == 0 {
            println!("{WRITING}");
        }
    }
}
