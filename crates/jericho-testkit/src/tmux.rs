//! A terminal of one test: a tmux server of its own, with one pane that is typed into and looked at.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use jericho_testkit::tmux::Terminal;
//! let terminal = Terminal::start("/tmp".as_ref(), &[("PS1", "$ ")], 80, 24)?;
//! terminal.type_line("echo hello")?;
//! terminal.wait_for("the greeting", |screen| screen.contains("\nhello\n"))?;
//! # Ok(())
//! # }
//! ```

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long anything may take to appear.
const LONGEST: Duration = Duration::from_secs(60);
/// How often is looked.
const BETWEEN: Duration = Duration::from_millis(20);

/// A running server. It ends with this value, and what runs in its pane with it.
#[derive(Debug)]
pub struct Terminal {
    dir: tempfile::TempDir,
    pid: String,
}

impl Terminal {
    /// A pane of so many columns and rows, in which a plain shell waits with a cleared environment
    /// but for `PATH`, what tmux sets itself (such as `TERM`), and `variables`.
    ///
    /// # Errors
    /// When there is no tmux, or it does not start.
    pub fn start(directory: &Path, variables: &[(&str, &str)], columns: u16, rows: u16) -> Result<Self> {
        // Paths of sockets must be short.
        let dir = tempfile::Builder::new().prefix("tmux-").tempdir_in("/tmp")?;
        let settings = "set -g status off\nset -g remain-on-exit on\nset -g history-limit 5000\n\
                        set -g default-shell /bin/sh\nset -g default-terminal tmux-256color\nset -g escape-time 0\n";
        std::fs::write(dir.path().join("conf"), settings)?;
        let mut this = Self { dir, pid: String::new() };
        let mut start = this.command();
        start.args(["new-session", "-d", "-x", &columns.to_string(), "-y", &rows.to_string(), "-c"]);
        start.arg(directory);
        for (name, value) in variables {
            start.arg("-e").arg(format!("{name}={value}"));
        }
        checked(&start.arg("exec /bin/sh").output().context("tmux")?)?;
        this.pid = this.tmux(&["display-message", "-p", "#{pid}"])?.trim().to_owned();
        this.wait_for("the prompt", |screen| screen.contains(['$', '#']))?;
        Ok(this)
    }

    /// Types a line into the pane, and Enter.
    ///
    /// # Errors
    /// When tmux refuses.
    pub fn type_line(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", line])?;
        self.tmux(&["send-keys", "Enter"]).map(drop)
    }

    /// Presses a key by its tmux name, `C-c` for example.
    ///
    /// # Errors
    /// When tmux refuses.
    pub fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    /// Gives the pane another size.
    ///
    /// # Errors
    /// When tmux refuses.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]).map(drop)
    }

    /// What is to be seen: the rows of the pane, without blanks at their ends.
    ///
    /// # Errors
    /// When tmux refuses.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same with everything that has scrolled away before it. A row that was too long for the
    /// pane is one line again.
    ///
    /// # Errors
    /// When tmux refuses.
    pub fn history(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-"])
    }

    /// What is to be seen with its colours, as escape sequences.
    ///
    /// # Errors
    /// When tmux refuses.
    pub fn colored(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Looks at the pane until it shows something, for a minute at most; returns what it
    /// shows then.
    ///
    /// # Errors
    /// When it does not, with what is there instead.
    pub fn wait_for(&self, what: &str, seen: impl Fn(&str) -> bool) -> Result<String> {
        let mut screen = String::new();
        for _ in 0..LONGEST.as_millis() / BETWEEN.as_millis() {
            screen = self.screen()?;
            if seen(&screen) {
                return Ok(screen);
            }
            ensure!(!screen.contains("Pane is dead"), "the shell has ended, and never was: {what}\n{screen}");
            std::thread::park_timeout(BETWEEN);
        }
        bail!("did not appear within a minute: {what}\n{screen}")
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        checked(&self.command().args(args).output().context("tmux")?)
    }

    #[expect(clippy::disallowed_methods, reason = "tests start real programs")]
    fn command(&self) -> Command {
        let mut tmux = Command::new("tmux");
        // The login shell of a user may refuse to be one.
        tmux.env_clear()
            .env("SHELL", "/bin/sh")
            .env("LANG", "C.UTF-8")
            .env("PS1", "$ ")
            .env("HOME", self.dir.path());
        if let Some(path) = std::env::var_os("PATH") {
            tmux.env("PATH", path);
        }
        tmux.arg("-S").arg(self.dir.path().join("socket")).arg("-f").arg(self.dir.path().join("conf"));
        tmux.arg("-u");
        tmux
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let server = self.pid.parse().ok().and_then(Pid::from_raw);
        let server = server.and_then(|server| pidfd_open(server, PidfdFlags::empty()).ok());
        // What runs in the pane gets a hangup, as it would from a window that is closed.
        let _ = self.command().arg("kill-server").output();
        if let Some(server) = server
            && !has_ended(&server)
        {
            let _ = pidfd_send_signal(&server, Signal::KILL);
        }
    }
}

/// Whether a process has ended, or does so soon.
fn has_ended(process: &OwnedFd) -> bool {
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    let longest = Timespec { tv_sec: 10, tv_nsec: 0 };
    poll(&mut ended, Some(&longest)).is_ok_and(|count| count > 0)
}

fn checked(output: &Output) -> Result<String> {
    ensure!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pane_shows_what_was_typed_and_takes_another_size() {
        if !crate::need::needs_program("a_pane_shows_what_was_typed_and_takes_another_size", "tmux") {
            return;
        }
        let terminal = Terminal::start("/".as_ref(), &[("WORD", "hello")], 40, 10).unwrap();
        terminal.type_line("pwd; echo $WORD; stty size").unwrap();
        terminal.wait_for("the answers", |screen| screen.contains("\n/\nhello\n10 40\n")).unwrap();
        terminal.resize(20, 8).unwrap();
        terminal.type_line("stty size").unwrap();
        terminal.wait_for("the new size", |screen| screen.contains("\n8 20\n")).unwrap();
        let server = Pid::from_raw(terminal.pid.parse().unwrap()).unwrap();
        let server = pidfd_open(server, PidfdFlags::empty()).unwrap();
        drop(terminal);
        assert!(has_ended(&server));
    }
}
