//! How a host is reached: the settings, and the argument vectors that follow from them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Environment;

/// What every connection is made with. A caller's own options come after these and cannot
/// change them: the first value of an option counts.
const FIXED: [&str; 10] = [
    // Nobody is there to be asked.
    "BatchMode=yes",
    "ConnectTimeout=5",
    // A peer that says nothing for a minute is gone.
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
    // What the configuration of the user may say for sessions at a keyboard.
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",
    // A host gets nothing of its client.
    "ForwardAgent=no",
    "ForwardX11=no",
    // Below it, ssh does not say why it ends.
    "LogLevel=INFO",
];

/// The same, in words that came with OpenSSH 8.7. `IgnoreUnknown` is no way to say them to an earlier one: it would
/// take the place of the user's own.
const SINCE_8_7: [&str; 3] = ["StdinNull=no", "SessionType=default", "ForkAfterAuthentication=no"];

/// Which words the ssh program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    All,
    /// It is older than OpenSSH 8.7, and so knows nothing that would have to be undone with the others.
    Before8_7,
}

impl Words {
    /// Whether ssh has ended with this line because it does not know one of them.
    pub(super) fn are_unknown(said: &str) -> bool {
        let said = said.to_ascii_lowercase();
        let Some((place, word)) = said.split_once("bad configuration option: ") else { return false };
        let word = word.trim();
        place.starts_with("command-line")
            && SINCE_8_7.iter().any(|known| known.to_ascii_lowercase().split('=').next() == Some(word))
    }

    fn fixed(self) -> impl Iterator<Item = &'static str> {
        let newer: &[&str] = match self {
            Self::All => &SINCE_8_7,
            Self::Before8_7 => &[],
        };
        FIXED.iter().chain(newer).copied()
    }
}

/// How a host is reached. Plain data: nothing here reads the environment.
#[derive(Debug, Clone)]
pub struct SshConfig {
    /// Anything that ssh(1) takes: `user@host`, an alias of its configuration, `ssh://host:port`.
    pub destination: String,
    /// The ssh program: a path, or a name looked up in `PATH` of [`SshConfig::env`].
    pub program: OsString,
    /// Read instead of the configuration of the user (`-F`).
    pub config_file: Option<PathBuf>,
    /// More options, `Name=value` each, as ssh_config(5) has them.
    pub options: Vec<String>,
    /// What ssh runs with: `HOME`, `PATH`, `SSH_AUTH_SOCK` when an agent is to be used.
    pub env: Environment,
    /// Where control sockets stand: made when it is missing, for this user alone. Short, because
    /// the path of a socket has at most 107 bytes.
    pub control_dir: PathBuf,
    /// Most commands at once over the one connection; more of them wait. A server allows ten
    /// sessions unless it is told otherwise (`MaxSessions`), and the master holds one.
    pub max_sessions: usize,
    /// From the start of ssh to the first answer of the other end's shell: for the connection, and for each
    /// command, where it begins again with every byte that comes or goes.
    pub connect_limit: Duration,
}

impl SshConfig {
    /// A host with the defaults: `ssh`, the user's configuration, eight commands at once, 30 s to
    /// connect, an empty environment.
    #[must_use]
    pub fn new(destination: impl Into<String>) -> Self {
        Self {
            destination: destination.into(),
            program: "ssh".into(),
            config_file: None,
            options: Vec::new(),
            env: Environment::empty(),
            control_dir: default_control_dir(),
            max_sessions: 8,
            connect_limit: Duration::from_secs(30),
        }
    }

    /// The arguments of the master: it holds the connection, listens at `socket`, and runs
    /// `command` at the other end for as long as it lives.
    pub(super) fn master_args(&self, words: Words, socket: &Path, command: &str) -> Vec<OsString> {
        let mut args = self.common_args();
        args.extend(["-M", "-T", "-S"].map(OsString::from));
        args.push(socket.into());
        options(&mut args, ["ControlPersist=no"]);
        options(&mut args, words.fixed());
        options(&mut args, &self.options);
        self.end(&mut args, Some(command));
        args
    }

    /// The arguments of a client of the master. Without a master it fails: it never makes a
    /// connection of its own.
    pub(super) fn client_args(&self, words: Words, socket: &Path, command: &str) -> Vec<OsString> {
        let mut args = self.common_args();
        args.extend(["-T", "-S"].map(OsString::from));
        args.push(socket.into());
        options(&mut args, ["ControlMaster=no", "ProxyCommand=false"]);
        options(&mut args, words.fixed());
        options(&mut args, &self.options);
        self.end(&mut args, Some(command));
        args
    }

    /// The arguments of a client at which a person sits: with a terminal at the other end where there is one here.
    pub(super) fn terminal_args(
        &self,
        words: Words,
        socket: &Path,
        command: &str,
        has_terminal: bool,
    ) -> Vec<OsString> {
        let mut args = self.client_args(words, socket, command);
        if has_terminal && let Some(kind) = args.iter_mut().find(|arg| *arg == "-T") {
            *kind = "-t".into();
        }
        args
    }

    /// The arguments of a word to the master itself: `check`, `forward`, `cancel`.
    pub(super) fn control_args(&self, socket: &Path, word: &str, forward: Option<&OsStr>) -> Vec<OsString> {
        // The master is found by its socket alone. A configuration would add its own forwards.
        let mut args: Vec<OsString> = ["-F", "none", "-S"].map(OsString::from).into();
        args.extend([socket.into(), "-O".into(), word.into()]);
        options(&mut args, ["ProxyCommand=false", "StreamLocalBindMask=0177"]);
        if let Some(forward) = forward {
            args.extend(["-L".into(), forward.to_os_string()]);
        }
        self.end(&mut args, None);
        args
    }

    /// A program with the arguments that come before the destination, for one that makes a connection of its own.
    pub(super) fn alone(&self, known: Words) -> Vec<OsString> {
        let mut words = vec![self.program.clone()];
        words.extend(self.common_args());
        options(&mut words, ["ControlMaster=no", "ControlPath=none"]);
        // Some have a local command of their own, which tells them that the connection stands.
        options(&mut words, known.fixed().filter(|option| !option.starts_with("PermitLocalCommand")));
        options(&mut words, &self.options);
        words
    }

    fn common_args(&self) -> Vec<OsString> {
        self.config_file.iter().flat_map(|file| ["-F".into(), file.clone().into_os_string()]).collect()
    }

    fn end(&self, args: &mut Vec<OsString>, command: Option<&str>) {
        args.push("--".into());
        args.push(self.destination.clone().into());
        args.extend(command.map(OsString::from));
    }
}

fn options(args: &mut Vec<OsString>, all: impl IntoIterator<Item = impl AsRef<str>>) {
    for option in all {
        args.extend(["-o".into(), option.as_ref().into()]);
    }
}

/// `/tmp/jericho-ssh-<uid>`: short, and one for all engines of a user.
fn default_control_dir() -> PathBuf {
    PathBuf::from(format!("/tmp/jericho-ssh-{}", rustix::process::geteuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &[OsString]) -> String {
        args.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_argument_vectors_are_exactly_these() {
        let config = SshConfig {
            config_file: Some("/etc/x".into()),
            options: vec!["Port=2222".into(), "BatchMode=no".into()],
            ..SshConfig::new("me@box")
        };
        let fixed = "-o BatchMode=yes -o ConnectTimeout=5 -o ServerAliveInterval=15 \
                     -o ServerAliveCountMax=4 -o RemoteCommand=none -o PermitLocalCommand=no \
                     -o ClearAllForwardings=yes -o ForwardAgent=no -o ForwardX11=no -o LogLevel=INFO";
        let newer = "-o StdinNull=no -o SessionType=default -o ForkAfterAuthentication=no";
        let own = "-o Port=2222 -o BatchMode=no -- me@box";
        assert_eq!(
            words(&config.master_args(Words::All, Path::new("/s"), "hold")),
            format!("-F /etc/x -M -T -S /s -o ControlPersist=no {fixed} {newer} {own} hold")
        );
        assert_eq!(
            words(&config.master_args(Words::Before8_7, Path::new("/s"), "hold")),
            format!("-F /etc/x -M -T -S /s -o ControlPersist=no {fixed} {own} hold")
        );
        assert_eq!(
            words(&config.client_args(Words::All, Path::new("/s"), "run")),
            format!("-F /etc/x -T -S /s -o ControlMaster=no -o ProxyCommand=false {fixed} {newer} {own} run")
        );
        assert_eq!(
            words(&config.client_args(Words::Before8_7, Path::new("/s"), "run")),
            format!("-F /etc/x -T -S /s -o ControlMaster=no -o ProxyCommand=false {fixed} {own} run")
        );
        assert_eq!(
            words(&config.alone(Words::Before8_7)),
            format!(
                "ssh -F /etc/x -o ControlMaster=no -o ControlPath=none {} -o Port=2222 -o BatchMode=no",
                // Nix has one of its own, and waits for what it says.
                fixed.replace("-o PermitLocalCommand=no ", "")
            )
        );
        assert_eq!(
            words(&config.control_args(Path::new("/s"), "forward", Some("/l:/r".as_ref()))),
            "-F none -S /s -O forward -o ProxyCommand=false -o StreamLocalBindMask=0177 -L /l:/r -- me@box"
        );
        let plain = SshConfig::new("box");
        assert_eq!(
            words(&plain.control_args(Path::new("/s"), "check", None)),
            "-F none -S /s -O check -o ProxyCommand=false -o StreamLocalBindMask=0177 -- box"
        );
    }

    #[test]
    fn an_ssh_that_does_not_know_the_newer_words_is_told_from_one_with_a_bad_configuration() {
        assert!(Words::are_unknown("command-line: line 0: Bad configuration option: stdinnull"));
        assert!(Words::are_unknown("command-line line 0: Bad configuration option: SessionType"));
        for other in [
            "/home/me/.ssh/config: line 3: Bad configuration option: stdinnull",
            "command-line: line 0: Bad configuration option: portt",
            "/home/me/.ssh/config: terminating, 1 bad configuration options",
        ] {
            assert!(!Words::are_unknown(other), "{other}");
        }
    }
}
