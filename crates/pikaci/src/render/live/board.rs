//! What the live view shows: the jobs that run, and how far the run is. Pure but for the logs.

use std::path::Path;
use std::time::Duration;

use console::{measure_text_width, truncate_str};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::JobRecord;

use super::last_line::LastLine;
use crate::render::paint::{Paint, Tone};
use crate::render::text::{counted, elapsed, printable};

/// Narrower than this a line has no room for what a job prints.
const ROOM_FOR_OUTPUT: usize = 40;
/// A name takes at most this much of a line with output.
const LONGEST_NAME: usize = 32;

/// Something that goes on.
#[derive(Debug)]
struct Running {
    name: String,
    since: Duration,
    logs: Vec<LastLine>,
    last: String,
}

/// The jobs that run and the numbers of those that have ended.
#[derive(Debug)]
pub(super) struct Board {
    started: Duration,
    running: Vec<Running>,
    total: Option<usize>,
    passed: usize,
    failed: usize,
    other: usize,
    ending: bool,
}

/// A terminal: columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Board {
    /// At the start of a run; `total` jobs will end, when that is known.
    pub(super) const fn new(started: Duration, total: Option<usize>) -> Self {
        Self { started, running: Vec::new(), total, passed: 0, failed: 0, other: 0, ending: false }
    }

    pub(super) fn job_started(&mut self, job: &JobRecord, now: Duration) {
        let logs = [&job.host_log_path, &job.guest_log_path];
        let logs = logs.into_iter().map(|log| LastLine::of(Path::new(log).to_path_buf())).collect();
        self.started(&job.id, logs, now);
    }

    pub(super) fn prepare_started(&mut self, node: &str, now: Duration) {
        self.started(node, Vec::new(), now);
    }

    fn started(&mut self, name: &str, logs: Vec<LastLine>, now: Duration) {
        let name = printable(name.as_bytes());
        self.running.push(Running { name, since: now, logs, last: String::new() });
    }

    /// A job that did not pass is tried again.
    pub(super) fn job_again(&mut self, job_id: &str, attempt: u32, now: Duration) {
        let name = printable(job_id.as_bytes());
        if let Some(running) = self.running.iter_mut().find(|running| running.name == name) {
            running.since = now;
            running.last = format!("attempt {attempt}");
        }
    }

    /// The job or prepare of this name has ended.
    pub(super) fn ended(&mut self, name: &str) {
        let name = printable(name.as_bytes());
        self.running.retain(|running| running.name != name);
    }

    pub(super) fn job_ended(&mut self, job: &JobRecord) {
        self.ended(&job.id);
        match job.verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Running | Verdict::Skipped | Verdict::Failed(FailureKind::Cancelled) => self.other += 1,
            Verdict::Failed(_) => self.failed += 1,
        }
    }

    /// Somebody asked for the end.
    pub(super) const fn end_was_asked_for(&mut self) {
        self.ending = true;
    }

    /// The lines to show now: at most half of the terminal, each at most as wide as it.
    pub(super) fn lines(&mut self, now: Duration, size: Size, paint: Paint) -> Vec<String> {
        let rows = (size.height / 2).max(1);
        // One row is the last line's. When not all jobs have a row, another says how many.
        let jobs = match self.running.len() < rows {
            true => self.running.len(),
            false => rows.saturating_sub(2),
        };
        let hidden = self.running.len() - jobs;
        let shown = &mut self.running[..jobs];
        for running in shown.iter_mut() {
            for log in &mut running.logs {
                running.last = log.news().unwrap_or_else(|| std::mem::take(&mut running.last));
            }
        }
        let names = shown.iter().map(|running| measure_text_width(&running.name)).max().unwrap_or(0);
        let mut lines: Vec<String> =
            shown.iter().map(|running| running.line(now, names, size.width, self.ending, paint)).collect();
        if hidden > 0 && rows > 1 {
            lines.push(paint.word(&cut(&format!("and {hidden} more"), size.width), Tone::Faint));
        }
        lines.push(self.summary(now, size.width, paint));
        lines
    }

    fn summary(&self, now: Duration, width: usize, paint: Paint) -> String {
        let done = self.passed + self.failed + self.other;
        let mut parts = Vec::new();
        if self.ending {
            parts.push("ending".to_owned());
        }
        match (self.running.len(), done) {
            (0, 0) => parts.push("preparing".to_owned()),
            (running, _) => parts.push(format!("{running} running")),
        }
        match self.total {
            Some(total) => parts.push(format!("{done} of {} done", counted(total, "job"))),
            None if done > 0 => parts.push(format!("{done} done")),
            None => {}
        }
        if self.failed > 0 {
            parts.push(format!("{} failed", self.failed));
        }
        parts.push(elapsed(now.saturating_sub(self.started)));
        let tone = match (self.failed, self.ending) {
            (0, false) => Tone::Faint,
            (0, true) => Tone::Warning,
            _ => Tone::Bad,
        };
        paint.word(&cut(&parts.join(", "), width), tone)
    }
}

impl Running {
    /// `name  time  last line of output`, with what there is room for.
    fn line(&self, now: Duration, names: usize, width: usize, ending: bool, paint: Paint) -> String {
        let time = elapsed(now.saturating_sub(self.since));
        let state = if ending { "ending " } else { "running" };
        if width < ROOM_FOR_OUTPUT {
            let room = width.saturating_sub(time.len() + 1);
            return cut(&format!("{} {time}", cut(&self.name, room)), width);
        }
        let names = names.min(LONGEST_NAME).min(width / 3);
        let name = cut(&self.name, names);
        let padding = " ".repeat(names.saturating_sub(measure_text_width(&name)));
        let head = format!("{state} {name}{padding} {time:>6}");
        let tail = cut(&self.last, width.saturating_sub(measure_text_width(&head) + 2));
        let rest = head.strip_prefix(state).unwrap_or_default();
        format!("{}{rest}  {}", paint.word(state, Tone::Busy), paint.word(&tail, Tone::Faint))
            .trim_end()
            .to_owned()
    }
}

/// At most this many columns of a text; an ellipsis where some of it is missing.
fn cut(text: &str, width: usize) -> String {
    match width {
        0 => String::new(),
        _ => truncate_str(text, width, "…").into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paint = Paint::new(false);

    fn board(jobs: usize) -> Board {
        let mut board = Board::new(Duration::ZERO, Some(jobs));
        for job in 0..jobs {
            board.started(&format!("job-{job}"), Vec::new(), Duration::from_secs(job as u64));
        }
        board
    }

    fn lines(board: &mut Board, width: usize, height: usize) -> Vec<String> {
        board.lines(Duration::from_secs(200), Size { width, height }, PLAIN)
    }

    #[test]
    fn jobs_beyond_half_of_the_terminal_are_a_number() {
        insta::assert_snapshot!(lines(&mut board(200), 80, 12).join("\n"), @r"
        running job-0 3 min 20 s
        running job-1 3 min 19 s
        running job-2 3 min 18 s
        running job-3 3 min 17 s
        and 196 more
        200 running, 0 of 200 jobs done, 3 min 20 s
        ");
        for height in 0..60 {
            let lines = lines(&mut board(200), 80, height);
            assert!(lines.len() <= (height / 2).max(1), "{height}: {lines:#?}");
        }
        assert_eq!(lines(&mut board(5), 80, 12).len(), 6);
        assert_eq!(lines(&mut board(6), 80, 12).len(), 6);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut board = board(3);
        for name in ["ein-länger-er-name-mit-umlauten-und-noch-mehr-davon", "名前名前名前名前名前名前"]
        {
            board.started(name, Vec::new(), Duration::ZERO);
        }
        for running in &mut board.running {
            running.last = "出力 of a job that says a lot about everything it does 🦀🦀🦀".repeat(3);
        }
        for width in 0..130 {
            for line in lines(&mut board, width, 40) {
                assert!(measure_text_width(&line) <= width, "{width}: {line:?}");
            }
        }
        insta::assert_snapshot!(lines(&mut board, 20, 40).join("\n"), @r"
        job-0 3 min 20 s
        job-1 3 min 19 s
        job-2 3 min 18 s
        ein-läng… 3 min 20 s
        名前名前… 3 min 20 s
        5 running, 0 of 3 j…
        ");
    }

    #[test]
    fn the_last_line_of_output_stands_beside_its_job() {
        let mut board = board(2);
        board.running[1].last = "Compiling".to_owned();
        board.failed = 1;
        insta::assert_snapshot!(lines(&mut board, 60, 40).join("\n"), @r"
        running job-0 3 min 20 s
        running job-1 3 min 19 s  Compiling
        2 running, 1 of 2 jobs done, 1 failed, 3 min 20 s
        ");
        board.end_was_asked_for();
        board.ended("job-0");
        insta::assert_snapshot!(lines(&mut board, 60, 40).join("\n"), @r"
        ending  job-1 3 min 19 s  Compiling
        ending, 1 running, 1 of 2 jobs done, 1 failed, 3 min 20 s
        ");
    }
}
