//! Commands as they can be typed where this one was.

use std::ffi::{OsStr, OsString};

use jericho_host::quote;

use super::GlobalFlags;

/// Spells `pikaci` commands for hints, with the global flags of this invocation behind them.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommandLine {
    flags: Vec<OsString>,
}

impl CommandLine {
    pub(super) fn new(given: &GlobalFlags) -> Self {
        let mut flags = Vec::new();
        for (name, value) in [("-C", &given.directory), ("--state-root", &given.state_root)] {
            if let Some(value) = value {
                flags.extend([OsString::from(name), value.clone().into_os_string()]);
            }
        }
        Self { flags }
    }

    /// `pikaci`, these words, and the flags: quoted for a shell.
    pub(crate) fn of(&self, words: &[&str]) -> String {
        let all = [OsStr::new("pikaci")]
            .into_iter()
            .chain(words.iter().map(OsStr::new))
            .chain(self.flags.iter().map(OsString::as_os_str));
        // A NUL byte cannot come in with an argument.
        quote::join(all).unwrap_or_default().to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_repeats_the_global_flags() {
        let flags = GlobalFlags { directory: None, state_root: Some("/a b".into()) };
        assert_eq!(CommandLine::new(&flags).of(&["list"]), "pikaci list --state-root '/a b'");
        assert_eq!(CommandLine::default().of(&["logs", "r"]), "pikaci logs r");
    }
}
