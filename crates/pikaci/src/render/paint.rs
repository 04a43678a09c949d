//! Colours of words, where colours are wanted.

use console::Style;

/// Puts colours on words, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    on: bool,
}

/// What a word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Warning,
    Busy,
    Faint,
}

impl Paint {
    pub(crate) const fn new(on: bool) -> Self {
        Self { on }
    }

    pub(super) fn word(self, text: &str, tone: Tone) -> String {
        if !self.on || text.is_empty() {
            return text.to_owned();
        }
        let style = match tone {
            Tone::Good => Style::new().green(),
            Tone::Bad => Style::new().red().bold(),
            Tone::Warning => Style::new().yellow(),
            Tone::Busy => Style::new().cyan(),
            Tone::Faint => Style::new().dim(),
        };
        // Whether it is wanted was decided by who asked for it, not by what this library reads.
        style.force_styling(true).apply_to(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_a_word_is_itself() {
        assert_eq!(Paint::new(false).word("failed", Tone::Bad), "failed");
        assert_eq!(Paint::new(true).word("", Tone::Bad), "");
        assert_eq!(Paint::new(true).word("passed", Tone::Good), "\u{1b}[32mpassed\u{1b}[0m");
    }
}
