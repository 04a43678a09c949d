//! What is known of the terminal: whether there is one, and whether it wants colours.

use std::ffi::OsStr;
use std::io::IsTerminal as _;

use clap::ValueEnum;

use super::Surroundings;

/// When words have colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR or CLICOLOR=0 is set; with CLICOLOR_FORCE everywhere
    #[default]
    Auto,
    Always,
    Never,
}

/// Where standard output and standard error lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Standard error is a terminal that can redraw lines.
    pub(crate) live: bool,
    /// Standard output is a terminal.
    pub(crate) stdout: bool,
    /// What goes to standard error has colours.
    pub(crate) color: bool,
}

impl Terminal {
    /// Of this process.
    pub(crate) fn of(surroundings: &Surroundings, when: ColorWhen) -> Self {
        let (stdout, stderr) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        Self::resolve(surroundings, when, stdout, stderr)
    }

    fn resolve(surroundings: &Surroundings, when: ColorWhen, stdout: bool, stderr: bool) -> Self {
        let variable = |name: &str| surroundings.environment().get(name).filter(|value| !value.is_empty());
        let is = |name, word: &str| variable(name) == Some(OsStr::new(word));
        let capable = variable("TERM").is_some_and(|term| term != "dumb");
        let color = match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto if variable("NO_COLOR").is_some() => false,
            ColorWhen::Auto if variable("CLICOLOR_FORCE").is_some() && !is("CLICOLOR_FORCE", "0") => true,
            ColorWhen::Auto => stderr && capable && !is("CLICOLOR", "0"),
        };
        Self { live: stderr && capable, stdout, color }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn color(variables: &[(&str, &str)], when: ColorWhen, stderr: bool) -> bool {
        let mut all = vec![("TERM", "xterm")];
        all.extend(variables);
        Terminal::resolve(&Surroundings::with(&all), when, false, stderr).color
    }

    #[test]
    fn colours_follow_the_flag_then_the_environment_then_the_terminal() {
        use ColorWhen::{Always, Auto, Never};
        assert!(color(&[], Auto, true) && !color(&[], Auto, false));
        assert!(
            color(&[("NO_COLOR", "1")], Always, false) && !color(&[("CLICOLOR_FORCE", "1")], Never, true)
        );
        assert!(!color(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], Auto, true));
        assert!(color(&[("NO_COLOR", "")], Auto, true));
        assert!(color(&[("CLICOLOR_FORCE", "1")], Auto, false));
        assert!(!color(&[("CLICOLOR_FORCE", "0")], Auto, false));
        assert!(!color(&[("CLICOLOR", "0")], Auto, true));
        assert!(!color(&[("TERM", "dumb")], Auto, true));
    }

    #[test]
    fn a_terminal_that_cannot_redraw_has_no_live_view() {
        for (term, stderr, live) in
            [("xterm", true, true), ("dumb", true, false), ("", true, false), ("xterm", false, false)]
        {
            let terminal =
                Terminal::resolve(&Surroundings::with(&[("TERM", term)]), ColorWhen::Always, true, stderr);
            assert_eq!((terminal.live, terminal.stdout), (live, true), "{term} {stderr}");
        }
    }
}
