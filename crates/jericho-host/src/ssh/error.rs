//! What can be wrong with a connection. Nothing in here is ever the verdict of a command.

use std::time::Duration;

/// Why a host could not be used over ssh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// No connection: unknown name, refused, no route, no answer in time.
    #[error("cannot connect to {host}: {reason}")]
    Connect {
        /// As ssh(1) calls it.
        host: String,
        /// What ssh said last.
        reason: String,
    },
    /// The host does not let this user in.
    #[error("{host} refuses to let this user in: {reason}")]
    Authentication {
        /// As ssh(1) calls it.
        host: String,
        /// What ssh said of it.
        reason: String,
        /// Whether the host has not seen all keys of this user: there are more than it lets anybody try.
        too_many: bool,
    },
    /// The key of the host is unknown, or not the one that is known.
    #[error("the key of {host} {}: {reason}", if forget.is_some() { "has changed" } else { "is not known" })]
    HostKey {
        /// As ssh(1) calls it.
        host: String,
        /// What ssh said of it.
        reason: String,
        /// When another key is known: the command that forgets that one.
        forget: Option<String>,
    },
    /// The connection was there and went away before the command had told its result. The other
    /// end of it ends a command whose connection is gone.
    #[error("the connection to {host} was lost: {reason}")]
    Lost {
        /// As ssh(1) calls it.
        host: String,
        /// Whether the other end had begun with the command.
        begun: bool,
        /// What ssh said last.
        reason: String,
    },
    /// The host is connected and opens no session, although no other one is in use.
    #[error("{host} opens no more sessions (its MaxSessions is below {used})")]
    Sessions {
        /// As ssh(1) calls it.
        host: String,
        /// Sessions that were in use, with the refused one and the master's own.
        used: usize,
    },
    /// The shell of the account does not do what it is told.
    #[error("the account on {host} has no usable shell: {reason}")]
    Shell {
        /// As ssh(1) calls it.
        host: String,
        /// What was printed instead.
        reason: String,
    },
    /// A command was told to end, and the other end did not say that it has.
    #[error("{host} did not confirm within {} s that the command has ended", waited.as_secs())]
    Unconfirmed {
        /// As ssh(1) calls it.
        host: String,
        /// Since it was told to.
        waited: Duration,
    },
    /// It was connected, answered nothing for a while, and was given up: see
    /// [`SshHost::give_up`](super::SshHost::give_up).
    #[error("{host} has not said anything for {} s and was given up", waited.as_secs())]
    GivenUp {
        /// As ssh(1) calls it.
        host: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The master does not forward.
    #[error("{host} does not forward {socket}: {reason}")]
    Forward {
        /// As ssh(1) calls it.
        host: String,
        /// At the other end.
        socket: String,
        /// What ssh said last.
        reason: String,
    },
    /// The settings cannot be used.
    #[error("cannot use {host} over ssh: {reason}")]
    Settings {
        /// As it was given.
        host: String,
        /// What is wrong with them.
        reason: String,
    },
}

impl SshError {
    /// Whether trying again later can help: a connection that could not be made or was lost.
    /// Wrong keys and settings stay wrong.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Lost { .. } | Self::Unconfirmed { .. } | Self::Sessions { .. } => {
                true
            }
            Self::Authentication { .. }
            | Self::HostKey { .. }
            | Self::Shell { .. }
            | Self::GivenUp { .. }
            | Self::Forward { .. }
            | Self::Settings { .. } => false,
        }
    }

    /// Sorts what ssh has said when it could not connect.
    pub(super) fn of_connection(host: &str, said: &[u8]) -> Self {
        let text = String::from_utf8_lossy(said);
        let host = host.to_owned();
        let line = |words: &[&str]| {
            let is_it = |line: &&str| words.iter().any(|word| line.contains(word));
            text.lines().map(str::trim).rfind(is_it).map(shortened)
        };
        let key = || HOST_KEY.iter().find_map(|word| line(&[word]));
        // A jump host, or another program, that was to make the connection: what it has said is not of this host.
        if text.contains("Connection closed by UNKNOWN port") {
            let of_the_way = key().or_else(|| line(&AUTHENTICATION)).or_else(|| {
                let is_its = |line: &&str| !line.is_empty() && !line.contains("onnection closed by");
                text.lines().map(str::trim).rfind(is_its).map(shortened)
            });
            let reason =
                of_the_way.map_or_else(|| last_line(&text), |said| format!("on the way there: {said}"));
            return Self::Connect { host, reason };
        }
        if text.contains("HOST IDENTIFICATION HAS CHANGED") {
            let reason = line(&["Offending "]).unwrap_or_else(|| last_line(&text));
            let forget = line(&["ssh-keygen "]).unwrap_or_else(|| "ssh-keygen -R NAME".to_owned());
            Self::HostKey { host, reason, forget: Some(forget) }
        } else if let Some(reason) = key() {
            Self::HostKey { host, reason, forget: None }
        } else if let Some(reason) = line(&AUTHENTICATION) {
            Self::Authentication { host, too_many: reason.contains(TOO_MANY), reason }
        } else {
            Self::Connect { host, reason: last_line(&text) }
        }
    }
}

/// What ssh says of a key that it does not trust, beside the words on one that has changed; the first says most.
const HOST_KEY: [&str; 2] = ["host key is known for", "Host key verification failed"];

/// What ssh says when it is not let in.
const AUTHENTICATION: [&str; 3] = [TOO_MANY, "Permission denied (", "No supported authentication"];

const TOO_MANY: &str = "Too many authentication failures";

/// A line for people.
fn shortened(line: &str) -> String {
    line.chars().take(500).collect()
}

/// The last line that says something, for people.
pub(super) fn last_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    shortened(line.unwrap_or("ssh ended without a word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_is_sorted() {
        let sort = |said: &str| SshError::of_connection("box", said.as_bytes());
        assert!(matches!(
            sort("ssh: connect to host box port 22: Connection refused\r\n"),
            SshError::Connect { reason, .. } if reason == "ssh: connect to host box port 22: Connection refused"
        ));
        assert!(matches!(
            sort("me@box: Permission denied (publickey).\r\n"),
            SshError::Authentication { .. }
        ));
        let unknown = "No ED25519 host key is known for box and you have requested strict checking.";
        assert!(matches!(
            sort(&format!("{unknown}\r\nHost key verification failed.\r\n")),
            SshError::HostKey { reason, forget: None, .. } if reason == unknown
        ));
        assert!(matches!(
            sort("Host key verification failed.\r\n"),
            SshError::HostKey { reason, forget: None, .. } if reason == "Host key verification failed."
        ));
        assert!(matches!(sort(""), SshError::Connect { reason, .. } if reason == "ssh ended without a word"));
        assert!(sort("").is_transient() && !sort("Permission denied (publickey)").is_transient());
    }
}
