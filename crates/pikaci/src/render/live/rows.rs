//! Rows on a terminal that each end in a line break.
//!
//! indicatif fills each row with blanks and leaves the cursor at the end of the last one. A terminal
//! that is made narrower takes rows without a break for one long line, and what it echoes of a
//! Ctrl-C lands inside. Here each row ends where its text ends, and the cursor waits below them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use console::{Term, measure_text_width};
use indicatif::TermLike;

/// Standard error, for rows that are never blank.
#[derive(Debug)]
pub(super) struct Rows {
    term: Term,
    /// Whether the cursor is in the row below the last one, where indicatif believes it in that.
    below: AtomicBool,
}

impl Rows {
    pub(super) const fn new(term: Term) -> Self {
        Self { term, below: AtomicBool::new(false) }
    }

    /// Puts the cursor where indicatif believes it to be.
    fn believed(&self) -> io::Result<()> {
        if self.below.swap(false, Ordering::Relaxed) {
            self.term.clear_line()?;
            self.term.move_cursor_up(1)?;
        }
        Ok(())
    }
}

/// How many rows lines take that were written to a wider terminal: one that has become narrower
/// flows what is too long into the next row.
pub(super) fn rows_of(lines: &[String], width: usize) -> usize {
    lines.iter().map(|line| measure_text_width(line).div_ceil(width.max(1)).max(1)).sum()
}

impl TermLike for Rows {
    fn width(&self) -> u16 {
        TermLike::width(&self.term)
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.term)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.believed()?;
        self.term.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.believed()?;
        self.term.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.believed()?;
        self.term.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.believed()?;
        self.term.move_cursor_left(n)
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.term.write_line(s)
    }

    /// A row, or the blanks that would fill it: those become its end.
    fn write_str(&self, s: &str) -> io::Result<()> {
        if !s.trim_matches(' ').is_empty() {
            return self.term.write_str(s);
        }
        self.below.store(true, Ordering::Relaxed);
        self.term.write_line("")
    }

    fn clear_line(&self) -> io::Result<()> {
        self.believed()?;
        self.term.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.term.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_takes_more_rows_and_an_empty_one_takes_one() {
        let lines = ["0123456789".to_owned(), "名前".to_owned(), "\u{1b}[2m01234\u{1b}[0m".to_owned()];
        for (width, rows) in [(80, 3), (10, 3), (5, 4), (4, 6), (1, 19), (0, 19)] {
            assert_eq!(rows_of(&lines, width), rows, "{width}");
        }
        assert_eq!(rows_of(&[String::new()], 80), 1);
    }
}
