//! What goes wrong, as it is told: a message, its causes, and one hint that can be typed.

use std::error::Error;
use std::io;
use std::path::Path;

use jericho_host::HostError;
use jerichoci::EngineError;
use jerichoci::model::id::RunId;
use jerichoci::snapshot::SnapshotError;

use crate::exit::{Ending, ErrorKind};
use crate::render::printable;
use crate::targets::TargetError;

/// An error of a command. Shown once, by [`crate::cli::main`].
#[derive(Debug)]
pub(crate) struct CliError {
    kind: ErrorKind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl CliError {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// The request makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// The machine, or a record, is not as it must be.
    pub(crate) fn infrastructure(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Infrastructure, message)
    }

    /// Standard output took no more. A reader that has gone is no error worth a word.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(ErrorKind::OutputClosed, "standard output was closed");
        }
        Self::infrastructure("cannot write to standard output").because(error)
    }

    /// Adds what led to it.
    pub(crate) fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// How the command ends by it.
    pub(crate) fn ending(&self) -> Ending {
        Ending::Error(self.kind)
    }

    /// The text for standard error, ending in a newline; nothing when there is nobody to tell.
    /// Control characters that came in with a name or a message are escaped.
    pub(crate) fn render(&self) -> String {
        if self.kind == ErrorKind::OutputClosed {
            return String::new();
        }
        let mut text = format!("error: {}\n", paragraph(&self.message));
        for cause in &self.causes {
            // Many errors repeat their source in their own words.
            if !self.message.contains(cause.as_str()) {
                text.push_str(&format!("  cause: {}\n", paragraph(cause)));
            }
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  hint: {}\n", paragraph(hint)));
        }
        text
    }
}

/// Keeps the line breaks of a message, such as the marked line of a file, and nothing else
/// that steers a terminal.
fn paragraph(text: &str) -> String {
    text.trim_end().split('\n').map(printable::text).collect::<Vec<_>>().join("\n")
}

/// Reads a run id from the command line.
///
/// # Errors
/// Usage, with the place to look for one.
pub(crate) fn parse_run_id(text: &str) -> Result<RunId, CliError> {
    text.parse::<RunId>()
        .map_err(|error| CliError::usage(error.to_string()).hint("`pikaci list` shows the runs there are"))
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        let (kind, hint) = match &error {
            EngineError::Request(_) => (ErrorKind::Usage, Some("correct the jobs of the target".to_owned())),
            EngineError::Id(_) | EngineError::NotRepeatable { .. } => {
                (ErrorKind::Usage, Some("`pikaci list` shows the runs there are".to_owned()))
            }
            EngineError::RunNotFound { .. } => (
                ErrorKind::NotFound,
                Some("`pikaci list` shows the runs there are; --state-root names another place".to_owned()),
            ),
            EngineError::JobNotFound { run_id, .. } => {
                (ErrorKind::NotFound, Some(format!("`pikaci status {run_id}` shows its jobs")))
            }
            EngineError::LogNotFound { run_id, .. } => (
                ErrorKind::NotFound,
                Some(format!("`pikaci logs {run_id} --metadata-json` shows which logs there are")),
            ),
            EngineError::NoJobs { run_id } | EngineError::NoPreparedOutputs { run_id } => {
                (ErrorKind::NotFound, Some(format!("`pikaci status {run_id}` shows what it has")))
            }
            EngineError::Corrupt { path, .. } => (ErrorKind::Infrastructure, Some(damaged(path))),
            EngineError::Busy(_) => {
                (ErrorKind::Infrastructure, Some("repeat the command when that has ended".to_owned()))
            }
            EngineError::File { source, path, .. } => {
                (ErrorKind::Infrastructure, Some(file_hint(path, source)))
            }
            EngineError::Host(HostError::Cancelled(_))
            | EngineError::Snapshot(SnapshotError::Cancelled(_)) => (ErrorKind::Cancelled, None),
            EngineError::Snapshot(SnapshotError::StateRootIsSource { .. }) => (
                ErrorKind::Usage,
                Some("name a directory below it, or elsewhere, with --state-root DIR".to_owned()),
            ),
            EngineError::Snapshot(SnapshotError::BadIgnoreFile { .. }) => (ErrorKind::Usage, None),
            EngineError::Snapshot(SnapshotError::Git { .. }) => (
                ErrorKind::Infrastructure,
                Some("`git status` says what is wrong with the work tree".to_owned()),
            ),
            EngineError::Host(error) => (
                ErrorKind::Infrastructure,
                error.is_no_space().then(|| "`pikaci gc` removes old runs".to_owned()),
            ),
            _ => (ErrorKind::Infrastructure, None),
        };
        let mut told = Self::new(kind, error.to_string());
        if let Some(source) = error.source() {
            told = told.because(source);
        }
        told.hint = hint;
        told
    }
}

fn damaged(path: &Path) -> String {
    format!("other runs are not affected; move {} away if nobody can mend it", path.display())
}

/// What helps against an error of the file system at `path`.
pub(crate) fn file_hint(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => format!(
            "give yourself access to {}, or name another state root with --state-root DIR",
            path.display()
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "`pikaci gc --keep-runs 3` removes old runs".to_owned()
        }
        _ => "--state-root DIR names another place for records".to_owned(),
    }
}

impl From<TargetError> for CliError {
    fn from(error: TargetError) -> Self {
        let kind = match &error {
            TargetError::UnknownTarget { .. } => ErrorKind::NotFound,
            TargetError::File { .. } => ErrorKind::Infrastructure,
            _ => ErrorKind::Usage,
        };
        let hint = error.hint().or_else(|| {
            matches!(error, TargetError::Toml { .. })
                .then(|| "nothing was run; correct the file and try again".to_owned())
        });
        let mut told = Self::new(kind, error.to_string());
        if let Some(source) = error.source() {
            told = told.because(source);
        }
        told.hint = hint;
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_causes_once_and_one_hint() {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, "permission denied");
        let error = CliError::from(EngineError::File { action: "create", path: "/s/runs".into(), source });
        insta::assert_snapshot!(error.render(), @r"
        error: cannot create /s/runs
          cause: permission denied
          hint: give yourself access to /s/runs, or name another state root with --state-root DIR
        ");
        assert_eq!(error.ending().code(), 3);
    }

    #[test]
    fn a_name_from_outside_cannot_steer_the_terminal() {
        let error = parse_run_id("\u{1b}[31mred\r").unwrap_err();
        assert!(!error.render().contains(['\u{1b}', '\r']), "{}", error.render());
        assert_eq!(error.ending().code(), 2);
    }

    #[test]
    fn a_reader_that_has_gone_is_not_an_error() {
        let error = CliError::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((error.render().as_str(), error.ending().code()), ("", 0));
        let error = CliError::output(&io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error.ending().code(), 3);
    }
}
