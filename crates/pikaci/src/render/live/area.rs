//! The rows of the terminal that the live view takes, drawn by indicatif.

use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::board::{Board, Size};
use super::rows::{Rows, rows_of};
use crate::render::paint::Paint;

/// The board, and what of it stands on the terminal.
pub(super) struct Area {
    board: Board,
    paint: Paint,
    term: Term,
    drawn: Option<Drawn>,
}

/// What stands on the terminal: one bar whose message is all the lines.
struct Drawn {
    bar: ProgressBar,
    lines: Vec<String>,
    size: Size,
    stale: bool,
}

impl Area {
    pub(super) fn new(now: Duration, paint: Paint, total: Option<usize>) -> Self {
        Self { board: Board::new(now, total), paint, term: Term::buffered_stderr(), drawn: None }
    }

    pub(super) const fn board(&mut self) -> &mut Board {
        &mut self.board
    }

    /// Draws what has changed.
    pub(super) fn redraw(&mut self, now: Duration) {
        let (height, width) = self.term.size();
        let size = Size { width: width.into(), height: height.into() };
        self.settle(size);
        let lines = self.board.lines(now, size, self.paint);
        let fresh = || Drawn { bar: bar(&self.term), lines: Vec::new(), size, stale: true };
        let drawn = self.drawn.get_or_insert_with(fresh);
        if drawn.stale || drawn.lines != lines {
            drawn.bar.set_message(lines.join("\n"));
            drawn.lines = lines;
            drawn.stale = false;
        }
    }

    /// Writes what is to stay, above the rows. The board shows what it knows by then.
    pub(super) fn above<T>(&mut self, now: Duration, write: impl FnOnce() -> T) -> T {
        if self.drawn.is_none() {
            return write();
        }
        self.redraw(now);
        match &self.drawn {
            Some(drawn) => drawn.bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the rows away.
    pub(super) fn clear(&mut self) {
        if let Some(drawn) = self.drawn.take() {
            drawn.bar.finish_and_clear();
        }
    }

    /// After the terminal got another width, its rows may be others than those that were drawn.
    /// Leaves as many blank ones as the bar believes in, below what is to stay.
    fn settle(&mut self, size: Size) {
        let Some(drawn) = &mut self.drawn else { return };
        if drawn.size == size {
            return;
        }
        let rows = rows_of(&drawn.lines, size.width).min(size.height.saturating_sub(1));
        let moved = self
            .term
            .move_cursor_up(rows)
            .and_then(|()| self.term.write_str("\r"))
            .and_then(|()| self.term.clear_to_end_of_screen())
            .and_then(|()| self.term.write_str(&"\n".repeat(drawn.lines.len())))
            .and_then(|()| self.term.flush());
        // Where the terminal takes nothing more there is nothing to put right.
        drop(moved);
        drawn.size = size;
        // The next lines are drawn whatever they are.
        drawn.stale = true;
    }
}

fn bar(term: &Term) -> ProgressBar {
    // As many redraws as are asked for: they are few.
    let target = ProgressDrawTarget::term_like(Box::new(Rows::new(term.clone())));
    let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(None, target).with_style(style)
}
