//! A run as JUnit XML: a suite for the run, a case for each job.
//!
//! | verdict | element |
//! |---|---|
//! | passed | none |
//! | failed, timed out | `failure`, with the kind as its `type` |
//! | errored, interrupted, cancelled, or not at its end | `error` |
//! | skipped | `skipped` |
//! | passed after a failure | `flakyFailure` or `flakyError` for each attempt that did not pass |
//! | failed after failures | `rerunFailure` or `rerunError` for each earlier attempt |
//!
//! What went wrong with the run and not with a job is a case of its own, called `(run)`: a file
//! without failures is a run that passed. The form is the one that `junit-10.xsd` of the Jenkins
//! xUnit plugin describes.

use std::fs::File;
use std::io;

use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::JobRecord;
use jerichoci::run::logs::LogFile;
use quick_xml::events::{BytesDecl, BytesText, Event};
use quick_xml::writer::Writer;

use super::excerpt::Excerpt;
use super::recorded::Recorded;
use crate::render::document::word;
use crate::render::tail::plain;

/// Bytes of each log that `system-out` holds at most: its end.
const SYSTEM_OUT: u64 = 64 << 10;
/// Lines of the log that stand in a failure.
const FAILURE_LINES: usize = 20;

type Xml = Writer<Vec<u8>>;

/// What a case is, beside its name.
struct Case<'a> {
    name: &'a str,
    verdict: Verdict,
    message: Option<&'a str>,
    millis: u64,
    job: Option<&'a JobRecord>,
}

/// The document.
///
/// # Errors
/// None that a caller could cause: the writer of XML writes to memory.
pub(crate) fn junit(recorded: &Recorded) -> io::Result<Vec<u8>> {
    let run = &recorded.run;
    let cases = cases(recorded);
    let count = |wanted: fn(Verdict) -> bool| cases.iter().filter(|case| wanted(case.verdict)).count();
    let tests = cases.len().to_string();
    let failures = count(|verdict| matches!(element_of(verdict), Some("failure"))).to_string();
    let errors = count(|verdict| matches!(element_of(verdict), Some("error"))).to_string();
    let skipped = count(|verdict| verdict == Verdict::Skipped).to_string();
    let time = seconds(run.duration_ms.unwrap_or(0));
    let timestamp = run.created_at.format("%Y-%m-%dT%H:%M:%S").to_string();
    let name = recorded.name();

    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let totals = [("tests", &*tests), ("failures", &*failures), ("errors", &*errors), ("time", &*time)];
    let suites = xml.create_element("testsuites").with_attribute(("name", name)).with_attributes(totals);
    suites.write_inner_content(|xml| {
        let suite = xml.create_element("testsuite").with_attribute(("name", name)).with_attributes(totals);
        let suite = suite.with_attributes([
            ("skipped", &*skipped),
            ("timestamp", &*timestamp),
            ("hostname", "localhost"),
            ("id", "0"),
            ("package", name),
        ]);
        suite.write_inner_content(|xml| {
            properties(xml, recorded)?;
            for case in &cases {
                write_case(xml, recorded, case)?;
            }
            Ok(())
        })?;
        Ok(())
    })?;
    let mut document = xml.into_inner();
    document.push(b'\n');
    Ok(document)
}

fn cases(recorded: &Recorded) -> Vec<Case<'_>> {
    let run = &recorded.run;
    let mut cases: Vec<Case<'_>> = run
        .jobs
        .iter()
        .map(|job| Case {
            name: &job.id,
            verdict: job.verdict,
            message: job.message.as_deref(),
            millis: job.duration_ms.unwrap_or(0),
            job: Some(job),
        })
        .collect();
    // Whatever the run says that no job says for it.
    let said = run.jobs.iter().any(|job| element_of(job.verdict) == element_of(run.verdict));
    if cases.is_empty() || (element_of(run.verdict).is_some() && !said) {
        cases.push(Case {
            name: "(run)",
            verdict: run.verdict,
            message: run.message.as_deref(),
            millis: run.duration_ms.unwrap_or(0),
            job: None,
        });
    }
    cases
}

/// The element of something that did not go well.
const fn element_of(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Passed | Verdict::Skipped => None,
        Verdict::Failed(FailureKind::TestFailure | FailureKind::Timeout | FailureKind::Unrecorded) => {
            Some("failure")
        }
        // Never to be taken for good, also when it has not ended yet.
        Verdict::Running
        | Verdict::Failed(FailureKind::Infrastructure | FailureKind::Interrupted | FailureKind::Cancelled) => {
            Some("error")
        }
    }
}

/// The kind, as records spell it.
fn type_of(verdict: Verdict) -> String {
    match verdict.failure_kind() {
        None | Some(FailureKind::Unrecorded) => verdict.status().as_str().to_owned(),
        Some(kind) => word(&kind),
    }
}

fn properties(xml: &mut Xml, recorded: &Recorded) -> io::Result<()> {
    let run = &recorded.run;
    let known = [
        ("run_id", Some(run.run_id.clone())),
        ("verdict", Some(run.verdict.word().to_owned())),
        ("rerun_of", run.rerun_of.clone()),
        ("target_description", run.target_description.clone()),
        ("git_head", run.git_head.clone()),
        ("git_dirty", run.git_dirty.map(|dirty| dirty.to_string())),
        ("snapshot_hash", run.snapshot_hash.clone()),
        ("engine_version", run.engine_version.clone()),
    ];
    xml.create_element("properties").write_inner_content(|xml| {
        for (name, value) in known {
            if let Some(value) = value {
                let value = legal(value.as_bytes());
                let property = xml.create_element("property");
                property.with_attributes([("name", name), ("value", &*value)]).write_empty()?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

fn write_case(xml: &mut Xml, recorded: &Recorded, case: &Case<'_>) -> io::Result<()> {
    let time = seconds(case.millis);
    let element = xml.create_element("testcase").with_attributes([
        ("name", case.name),
        ("classname", recorded.name()),
        ("time", &*time),
    ]);
    let logs =
        case.job.map(|job| [LogFile::Host, LogFile::Guest].map(|log| tail(recorded.log(job, log))).join(""));
    let logs = logs.unwrap_or_default();
    let attempts = case.job.map(|job| job.attempts.as_slice()).unwrap_or_default();
    let empty = element_of(case.verdict).is_none() && case.verdict != Verdict::Skipped;
    if empty && logs.is_empty() && attempts.is_empty() {
        element.write_empty()?;
        return Ok(());
    }
    element.write_inner_content(|xml| {
        let message = legal(case.message.unwrap_or(case.verdict.word()).as_bytes());
        match element_of(case.verdict) {
            Some(name) => problem(xml, name, &type_of(case.verdict), &message, &last_lines(&logs))?,
            None if case.verdict == Verdict::Skipped => {
                xml.create_element("skipped").with_attribute(("message", &*message)).write_empty()?;
            }
            None => {}
        }
        let earlier = attempts.len().saturating_sub(1);
        for attempt in attempts.iter().take(earlier) {
            let element = match (case.verdict, element_of(attempt.verdict)) {
                (_, None) => continue,
                (Verdict::Passed, Some("failure")) => "flakyFailure",
                (Verdict::Passed, Some(_)) => "flakyError",
                (_, Some("failure")) => "rerunFailure",
                (_, Some(_)) => "rerunError",
            };
            let said = attempt.message.as_deref().unwrap_or(attempt.verdict.word());
            let message = legal(format!("attempt {}: {said}", attempt.attempt).as_bytes());
            let out = tail(recorded.attempt_log(attempt));
            let kind = type_of(attempt.verdict);
            let element = xml.create_element(element);
            let element = element.with_attributes([("message", &*message), ("type", &*kind)]);
            if out.is_empty() {
                element.write_empty()?;
                continue;
            }
            element.write_inner_content(|xml| {
                xml.create_element("system-out").write_text_content(BytesText::new(&out))?;
                Ok(())
            })?;
        }
        if !logs.is_empty() {
            xml.create_element("system-out").write_text_content(BytesText::new(&logs))?;
        }
        Ok(())
    })?;
    Ok(())
}

fn problem(xml: &mut Xml, name: &str, kind: &str, message: &str, lines: &str) -> io::Result<()> {
    let text = match lines {
        "" => message.to_owned(),
        lines => format!("{message}\n\n{lines}"),
    };
    let element = xml.create_element(name).with_attributes([("message", message), ("type", kind)]);
    element.write_text_content(BytesText::new(&text))?;
    Ok(())
}

/// The end of a log as text. One that is not there, or cannot be read, has none.
fn tail(log: Option<File>) -> String {
    let excerpt = log.and_then(|mut file| Excerpt::tail_of(&mut file, SYSTEM_OUT).ok()).unwrap_or_default();
    let mut text = String::new();
    if excerpt.left_out > 0 {
        text = format!("[{} bytes are left out here]\n", excerpt.left_out);
    }
    let bytes = [excerpt.head, excerpt.tail].concat();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let ends = line.ends_with(b"\n");
        text.push_str(&legal(&plain(line.strip_suffix(b"\n").unwrap_or(line))));
        if ends {
            text.push('\n');
        }
    }
    text
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(FAILURE_LINES)..].join("\n")
}

/// Text in which every character is one that XML knows; U+FFFD for the others, and for bytes that
/// are no UTF-8.
fn legal(bytes: &[u8]) -> String {
    let is_legal = |character: char| match character {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        other => other >= ' ',
    };
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|character| if is_legal(character) { character } else { '\u{fffd}' }).collect()
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}
