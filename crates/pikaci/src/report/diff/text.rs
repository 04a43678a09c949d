//! The differences of two runs, for people.

use std::time::Duration;

use serde_json::Value;

use super::{Change, FieldDiff, Outcome, RunDiff, Side};
use crate::render::text::{counted, duration, printable};

/// More files are counted and not named.
const MOST_FILES: usize = 40;
/// More of a value is not shown.
const LONGEST: usize = 100;

/// Several lines; each part says when there is nothing to say.
pub(crate) fn text(diff: &RunDiff<'_>) -> String {
    let mut lines = vec![side("A", &diff.a), side("B", &diff.b), String::new()];
    source(diff, &mut lines);
    for (name, a, b) in [
        ("commit", diff.a.git_head, diff.b.git_head),
        (
            "base",
            diff.a.base.map(|base| base.merge_base.as_str()),
            diff.b.base.map(|base| base.merge_base.as_str()),
        ),
    ] {
        if a != b {
            lines.push(format!("{name}: {} -> {}", a.unwrap_or("none"), b.unwrap_or("none")));
        }
    }
    definitions(diff, &mut lines);
    all_fields("settings", &diff.settings, &mut lines);
    all_fields("versions", &diff.versions, &mut lines);
    jobs(diff, &mut lines);
    lines.iter().map(|line| printable(line.as_bytes()) + "\n").collect()
}

fn side(name: &str, side: &Side<'_>) -> String {
    let start = side.created_at.get(..19).unwrap_or(&side.created_at).replace('T', " ");
    let took = side.duration_ms.map(|ms| format!(", {}", millis(ms))).unwrap_or_default();
    format!("{name}  {}  {}  {}, {start} UTC{took}", side.run_id, side.target_id.unwrap_or("-"), side.verdict)
}

const fn sign(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Changed => '~',
    }
}

fn source(diff: &RunDiff<'_>, lines: &mut Vec<String>) {
    let source = &diff.source;
    match (source.same, &source.why) {
        (Some(true), _) => lines.push("source: the same".to_owned()),
        (Some(false), _) => {
            let differ = if source.files.len() == 1 { "differs" } else { "differ" };
            lines.push(format!("source: {} {differ}", counted(source.files.len(), "file")));
        }
        (None, why) => lines.push(format!("source: not known: {}", why.as_deref().unwrap_or("-"))),
    }
    for file in source.files.iter().take(MOST_FILES) {
        let kinds = match (&file.a, &file.b) {
            (Some(a), Some(b)) if a.kind != b.kind => format!(" ({} -> {})", a.kind, b.kind),
            _ => String::new(),
        };
        lines.push(format!("  {} {}{kinds}", sign(file.change), file.path));
    }
    if source.files.len() > MOST_FILES {
        lines.push(format!("  … and {} more; --json names them all", source.files.len() - MOST_FILES));
    }
}

fn definitions(diff: &RunDiff<'_>, lines: &mut Vec<String>) {
    if diff.definitions.is_empty() {
        lines.push("definitions: the same".to_owned());
        return;
    }
    let differ = if diff.definitions.len() == 1 { "differs" } else { "differ" };
    lines.push(format!("definitions: {} {differ}", counted(diff.definitions.len(), "job")));
    for job in &diff.definitions {
        lines.push(format!("  {} {}", sign(job.change), job.job));
        lines.extend(job.fields.iter().map(|field| format!("      {}", one(field))));
    }
}

fn all_fields(name: &str, fields: &[FieldDiff], lines: &mut Vec<String>) {
    if fields.is_empty() {
        lines.push(format!("{name}: the same"));
        return;
    }
    lines.push(format!("{name}:"));
    lines.extend(fields.iter().map(|field| format!("  ~ {}", one(field))));
}

fn one(field: &FieldDiff) -> String {
    let (a, b) = match (&field.a, &field.b) {
        (Value::String(a), Value::String(b)) => where_they_differ(a, b),
        (a, b) => (shown(a), shown(b)),
    };
    format!("{}: {} -> {}", field.name, cut(&a), cut(&b))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Of texts with several lines, only the lines between their common beginning and end.
fn where_they_differ(a: &str, b: &str) -> (String, String) {
    let (old, new): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
    let shorter = old.len().min(new.len());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count().min(shorter - head);
    let part = |lines: &[&str]| match lines.get(head..lines.len() - tail).unwrap_or_default() {
        [] => "nothing".to_owned(),
        lines => lines.join("\n"),
    };
    if head + tail == 0 { (a.to_owned(), b.to_owned()) } else { (part(&old), part(&new)) }
}

fn cut(text: &str) -> String {
    let mut cut: String = text.chars().take(LONGEST).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

fn jobs(diff: &RunDiff<'_>, lines: &mut Vec<String>) {
    if diff.jobs.is_empty() {
        return;
    }
    let changed = diff.jobs.iter().filter(|job| verdict(job.a.as_ref()) != verdict(job.b.as_ref())).count();
    lines.push(match changed {
        0 => "jobs: each ended the same way".to_owned(),
        1 => "jobs: 1 ended another way".to_owned(),
        count => format!("jobs: {count} ended another way"),
    });
    let width = diff.jobs.iter().map(|job| job.id.chars().count()).max().unwrap_or(0).min(40);
    for job in &diff.jobs {
        let (a, b) = (verdict(job.a.as_ref()), verdict(job.b.as_ref()));
        let sign = if a == b { ' ' } else { '~' };
        let verdicts = if a == b { a.to_owned() } else { format!("{a} -> {b}") };
        let took = took(job.a.as_ref(), job.b.as_ref());
        lines.push(format!("  {sign} {:width$}  {verdicts}{took}", job.id));
        // Why, where it is news.
        let message = job.b.as_ref().and_then(|b| b.message.as_ref()).filter(|message| *message != b);
        if let (true, Some(message)) = (a != b, message) {
            lines.push(format!("    {:width$}  {message}", ""));
        }
    }
}

fn verdict(outcome: Option<&Outcome>) -> &'static str {
    outcome.map_or("not in the run", |outcome| outcome.verdict)
}

fn took(a: Option<&Outcome>, b: Option<&Outcome>) -> String {
    let ms = |outcome: Option<&Outcome>| outcome.and_then(|outcome| outcome.duration_ms);
    match (ms(a), ms(b)) {
        (None, None) => String::new(),
        (Some(a), None) => format!(", {} -> none", millis(a)),
        (None, Some(b)) => format!(", none -> {}", millis(b)),
        (Some(a), Some(b)) => {
            let change = i128::from(b) - i128::from(a);
            let percent = if a == 0 { 0 } else { change * 100 / i128::from(a) };
            match percent {
                0 => format!(", {} -> {}", millis(a), millis(b)),
                percent => format!(", {} -> {} ({percent:+} %)", millis(a), millis(b)),
            }
        }
    }
}

fn millis(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_long_texts_the_lines_that_differ_are_shown() {
        let differ = |a, b| where_they_differ(a, b);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(differ("same\nold\nend", "same\nnew\nend"), pair("old", "new"));
        assert_eq!(differ("a\nb", "a\nb\nc"), pair("nothing", "c"));
        assert_eq!(differ("a\na", "a\na\na"), pair("nothing", "a"));
        assert_eq!(differ("old", "new"), pair("old", "new"));
        assert_eq!(differ("", "new"), pair("", "new"));
        // A final newline is all that differs.
        assert_eq!(differ("a", "a\n"), pair("nothing", "nothing"));
    }
}
