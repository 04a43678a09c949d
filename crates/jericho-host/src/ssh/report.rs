//! How a command of the other end has ended, as the shell there tells it.

use std::io;

use super::error::SshError;
use crate::command::Command;
use crate::host::{Exit, HostError, Leaked};

/// How a command has ended, as the other end tells it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) exit: Exit,
    pub(super) leaked: Vec<Leaked>,
}

impl Report {
    pub(super) fn read(report: &[u8], command: &Command, host: &str) -> Result<Self, HostError> {
        let text = String::from_utf8_lossy(report);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let program = || command.program.to_string_lossy().into_owned();
        let (kind, rest) = first.split_at_checked(1).unwrap_or_default();
        let rest = rest.trim_start();
        match kind {
            "x" => {
                let status = rest.parse().map_err(|_| unreadable(host, first))?;
                Ok(Self { exit: exit_of(status), leaked: lines.map_while(leaked).collect() })
            }
            "n" => Err(HostError::NotFound { program: program() }),
            "d" => {
                let source = io::Error::from_raw_os_error(libc::EACCES);
                Err(HostError::Start { program: program(), source })
            }
            "c" => {
                let path = command.cwd.clone().unwrap_or_default();
                Err(HostError::File { action: "enter", path, source: super::files::said(rest) })
            }
            "i" => {
                let message = "the host cannot keep the input of a command";
                Err(HostError::System(message, super::files::said(rest)))
            }
            "m" => {
                let reason = format!("it has no program {rest}");
                Err(SshError::Shell { host: host.to_owned(), reason }.into())
            }
            _ => Err(unreadable(host, first)),
        }
    }
}

fn unreadable(host: &str, line: &str) -> HostError {
    let reason = format!("its shell reported {line:?}");
    SshError::Shell { host: host.to_owned(), reason }.into()
}

fn leaked(line: &str) -> Option<Leaked> {
    let mut parts = line.strip_prefix("l ")?.splitn(3, ' ');
    let pid = parts.next()?.parse().ok()?;
    let held_output = parts.next()? == "1";
    Some(Leaked { pid, command: parts.next()?.trim_end().to_owned(), held_output })
}

/// What a shell's number means. It tells a death by signal as 128 and the signal; a program may
/// also return such a number, so that only signals count that usually kill.
fn exit_of(status: i32) -> Exit {
    const KILL: [i32; 15] = [
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGKILL,
        libc::SIGSEGV,
        libc::SIGPIPE,
        libc::SIGALRM,
        libc::SIGTERM,
        libc::SIGXCPU,
        libc::SIGXFSZ,
        libc::SIGSYS,
    ];
    if KILL.contains(&(status - 128)) { Exit::Signal(status - 128) } else { Exit::Code(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_usually_kills_is_told_as_a_signal() {
        for (status, exit) in [
            (0, Exit::Code(0)),
            (127, Exit::Code(127)),
            (128, Exit::Code(128)),
            (129, Exit::Code(129)),
            (137, Exit::Signal(9)),
            (143, Exit::Signal(15)),
            (255, Exit::Code(255)),
        ] {
            assert_eq!(exit_of(status), exit);
        }
    }

    #[test]
    fn a_report_names_what_was_left_behind() {
        let report =
            Report::read(b"x 3\nl 42 1 sleep 300 \nl 43 0 [x y]\n.\n", &Command::new("a"), "h").unwrap();
        assert_eq!(report.exit, Exit::Code(3));
        let told: Vec<_> = report.leaked.iter().map(|l| (l.pid, l.command.as_str(), l.held_output)).collect();
        assert_eq!(told, [(42, "sleep 300", true), (43, "[x y]", false)]);
        assert!(matches!(
            Report::read(b"y", &Command::new("a"), "h"),
            Err(HostError::Ssh(SshError::Shell { .. }))
        ));
    }
}
