//! Errors for people: what went wrong, why, and one thing to type next.

use std::error::Error;
use std::fmt;
use std::io;

use crate::exit::Exit;
use crate::targets::TargetError;

/// Why the command could not do what it was asked for.
#[derive(Debug)]
pub(crate) struct CliError {
    exit: Exit,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
    reader_gone: bool,
}

impl CliError {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), source: None, hint: None, reader_gone: false }
    }

    /// What was asked for makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Standard output took nothing more. That its reader went away is no error: `pikaci logs
    /// RUN | head` has what it wanted.
    pub(crate) fn output(error: io::Error) -> Self {
        let reader_gone = error.kind() == io::ErrorKind::BrokenPipe;
        let this = Self::new(Exit::Infrastructure, "cannot write to standard output").because(error);
        Self { reader_gone, ..this.hint("df -h, and make room; or send the output elsewhere") }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// One thing to type next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to type next: the hint, or what is always worth a look.
    fn next_step(&self) -> &str {
        match (&self.hint, self.exit) {
            (Some(hint), _) => hint,
            (None, Exit::Usage) => "pikaci --help",
            (None, Exit::NotFound) => "pikaci list",
            (None, Exit::Success | Exit::Failed | Exit::Infrastructure | Exit::Cancelled | Exit::Of(_)) => {
                "run it again, when what the cause names is mended"
            }
        }
    }

    pub(crate) const fn exit(&self) -> Exit {
        if self.reader_gone { Exit::Success } else { self.exit }
    }

    /// Whether there is nobody to tell.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.reader_gone
    }
}

/// The message, each cause in a line of its own, the hint.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = cause {
            write!(f, "\n  because: {error}")?;
            cause = error.source();
        }
        write!(f, "\n  hint: {}", self.next_step())
    }
}

impl From<TargetError> for CliError {
    fn from(error: TargetError) -> Self {
        let exit = match &error {
            TargetError::UnknownTarget { .. } => Exit::NotFound,
            TargetError::File { .. } => Exit::Infrastructure,
            _ => Exit::Usage,
        };
        let hint = match &error {
            TargetError::Toml { .. } => Some("mend that, and run again; nothing was started".to_owned()),
            other => other.hint(),
        };
        let mut this = Self::new(exit, error.to_string());
        this.hint = hint;
        match error {
            TargetError::File { source, .. } => this.because(source),
            _ => this,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_names_a_next_step() {
        let all =
            [Exit::Success, Exit::Failed, Exit::Usage, Exit::Infrastructure, Exit::Cancelled, Exit::NotFound];
        let mut errors: Vec<CliError> = all.into_iter().map(|exit| CliError::new(exit, "what")).collect();
        errors.push(CliError::usage("what").because("why"));
        errors.push(CliError::output(io::Error::from(io::ErrorKind::StorageFull)));
        errors.push(
            TargetError::UnknownTarget { name: "x".to_owned(), nearest: None, known: Vec::new() }.into(),
        );
        for error in errors {
            let told = error.to_string();
            let last = told.lines().last().unwrap();
            assert!(last.strip_prefix("  hint: ").is_some_and(|hint| hint.len() > 5), "{told}");
        }
        let told = CliError::usage("what").because("why").hint("do that").to_string();
        assert_eq!(told, "error: what\n  because: why\n  hint: do that");
    }
}
