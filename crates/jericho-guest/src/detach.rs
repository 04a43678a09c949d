//! A runner in the background: it outlives the connection that started it.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use crate::BOOTSTRAP_ERROR;
use crate::args::{DETACHED, Detach};
use crate::runner::complain;
use crate::state::Runner;

/// Starts a runner in the background and waits until it has found its request to be sound. What it says
/// then is printed.
pub(crate) fn start(asked: &Detach) -> u8 {
    match try_start(asked) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("cannot start in the background: {error}"));
            BOOTSTRAP_ERROR
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it starts itself, and must not supervise what it starts")]
fn try_start(asked: &Detach) -> io::Result<u8> {
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0("jerichoci-incus-run").arg(DETACHED);
    if let Some(view) = &asked.view {
        command.arg("--view").arg(std::path::absolute(view)?);
    }
    let mut child = command
        .arg("--")
        .arg(std::path::absolute(&asked.request)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        // Ends when the runner lets go of its output, or ends itself.
        stdout.read_to_end(&mut line)?;
    }
    if line.ends_with(b"\n") {
        // It runs, whether anybody is told or not.
        let _ = io::stdout().write_all(&line).and_then(|()| io::stdout().flush());
        return Ok(0);
    }
    // It has said why on the standard error that both have.
    let code = child.wait()?.code();
    Ok(code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(BOOTSTRAP_ERROR))
}

/// Makes this process the leader of a session without a terminal, away from the directory it was started
/// in.
pub(crate) fn leave_session() {
    // Fails only for one who leads a group already, and then nothing is lost but the new session.
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
}

/// Tells the starter who runs the request, and lets go of its outputs: from now on standard error is a
/// file.
pub(crate) fn announce(runner: &Runner, log: &Path) -> io::Result<()> {
    let mut line = serde_json::to_vec(runner)?;
    line.push(b'\n');
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    // The starter may have gone: the request is run all the same.
    let mut stdout = io::stdout();
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}
