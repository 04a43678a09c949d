//! Commands at the other end: what they are given, and what their report means.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::SshHost;
use super::error::{SshError, last_line};
use super::exchange::{Answer, Ended, Exchange, Order, Sink};
use super::master::Master;
use super::report::Report;
use super::wire::{BOOTSTRAP, Script, pattern};
use crate::cancel::CancelToken;
use crate::command::Command;
use crate::host::{EndedBy, Exit, Finished, HostError, Isolation, Leaked, Output, OutputSink, Supervision};
use crate::local::capture::LIMIT;
use crate::local::prepare::DEFAULT_PATH;
use crate::quote::NulInArgument;

/// Input up to this size is kept in memory at the other end, more of it on its disk.
const SMALL_INPUT: usize = 8 << 20;
/// A master that has lost its connection is about to end: its last words are worth waiting for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Between two attempts to open a session that was refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// How often one is tried when no other session of this host runs.
const REFUSALS: u32 = 10;

/// Carries out one script.
pub(super) fn exchange(
    host: &SshHost,
    write: &dyn Fn(&str) -> Result<Script, HostError>,
    input: &[u8],
    order: Order,
    sink: &mut dyn Sink,
    cancel: &CancelToken,
) -> Result<Answer, HostError> {
    let _slot = host.slots.take(cancel)?;
    let mut order = order;
    let mut attempts = Attempts::default();
    loop {
        let master = host.master(cancel)?;
        let mark = host.ids.fresh();
        order.input = write(&mark)?.encode();
        order.input.extend_from_slice(input);
        let args = host.config.client_args(master.words, &master.socket, BOOTSTRAP);
        let ssh = super::ssh_command(&host.config, args);
        let client = Exchange::start(&ssh, &mark, &mut order, host.config.connect_limit)?;
        let name = || host.config.destination.clone();
        let ended = client
            .follow(&order, sink, cancel, |waited| SshError::Unconfirmed { host: name(), waited }.into())?;
        let (exit, begun, said) = match ended {
            Ended::Reported(answer) => return Ok(answer),
            Ended::Broken { exit, begun, said } => (exit, begun, said),
        };
        let said = String::from_utf8_lossy(&said).into_owned();
        let error = broken(host, &master, exit, begun, &said);
        if !attempts.another(&error, &said, cancel)? {
            return Err(error.into());
        }
    }
}

/// Attempts to have something begun. None is made after the other end has, or may have, begun with it.
#[derive(Default)]
pub(super) struct Attempts {
    refused: u32,
    without_master: bool,
}

impl Attempts {
    /// Whether another attempt is to be made after one that has failed; waits until then.
    pub(super) fn another(
        &mut self,
        error: &SshError,
        said: &str,
        cancel: &CancelToken,
    ) -> Result<bool, HostError> {
        match error {
            // Sessions of ours that have just ended, or are going to. The server does not tell when.
            SshError::Sessions { used, .. } if *used > 2 || self.refused < REFUSALS => {
                self.refused += 1;
                super::pause_for(REFUSED_PAUSE, cancel)?;
                Ok(true)
            }
            // No master has taken the client, so that nothing has been sent.
            SshError::Lost { begun: false, .. }
                if said.contains("UNKNOWN port") && !said.contains("master") && !self.without_master =>
            {
                self.without_master = true;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// What it means that ssh has ended without a report.
pub(super) fn broken(host: &SshHost, master: &Arc<Master>, exit: Exit, begun: bool, said: &str) -> SshError {
    let name = host.config.destination.clone();
    if !begun && matches!(exit, Exit::Code(code) if code != 255) {
        return SshError::Shell { host: name, reason: last_line(said) };
    }
    let is_refused = said.contains("Session open refused") || said.contains("session request failed");
    if !begun && is_refused && master.is_alive() {
        return SshError::Sessions { host: name, used: host.slots.used() + 1 };
    }
    // The connection is not there any more.
    let gone = master.ends_within(LAST_WORDS);
    if gone || !begun {
        host.forget(master);
    }
    // The shell of the account may have refused the own session of the master first, which has ended it.
    if gone && let Some(fate) = master.fate() {
        return fate;
    }
    let reason = if gone { master.last_words() } else { None }.unwrap_or_else(|| last_line(said));
    SshError::Lost { host: name, begun, reason }
}

/// What is asked of a command beside itself.
pub(super) struct Ask<'a> {
    pub(super) command: &'a Command,
    pub(super) grace: Duration,
    pub(super) supervision: Option<&'a Supervision>,
    /// Whether its input is what the client sends while it runs.
    pub(super) talks: bool,
}

impl Ask<'_> {
    pub(super) fn script(&self, mark: &str) -> Result<Script, HostError> {
        let program = self.command.program.to_string_lossy().into_owned();
        self.write(mark).map_err(|error| HostError::Start {
            program,
            source: io::Error::new(io::ErrorKind::InvalidInput, error.to_string()),
        })
    }

    fn write(&self, mark: &str) -> Result<Script, NulInArgument> {
        let Command { program, args, env, cwd, stdin, .. } = self.command;
        let mut script = Script::command(mark);
        let input = stdin.as_ref().map_or(0, Vec::len);
        script.set("j_bytes", input.to_string())?;
        let room = if input <= SMALL_INPUT { "/dev/shm /tmp" } else { "/var/tmp /tmp" };
        script.set("j_room", room)?;
        script.set("j_cwd", cwd.as_deref().map(plain).unwrap_or_default())?;
        script.set("j_path", env.get("PATH").unwrap_or(OsStr::new(DEFAULT_PATH)))?;
        script.set("j_grace", tenths(self.grace))?;
        let mut env = env.clone();
        if let Some(supervision) = self.supervision {
            let (name, value) = &supervision.tag;
            env.set(name, value);
            script.set("j_merge", "yes")?;
            script.set("j_tag", format!("^{}={}$", pattern(name), pattern(value)))?;
            script.set("j_drain", tenths(supervision.drain))?;
        } else {
            script.set("j_merge", "")?;
        }
        script.environment(&env)?;
        let function = if self.talks { "j_talk" } else { "j_command" };
        script.call(function, std::iter::once(program).chain(args))?;
        Ok(script)
    }

    fn carry_out(
        &self,
        host: &SshHost,
        sink: &mut dyn Sink,
        cancel: &CancelToken,
    ) -> Result<(Answer, Report), HostError> {
        if let Some(reason) = cancel.reason() {
            return Err(HostError::Cancelled(reason));
        }
        // What cannot be said is found before anything is connected.
        self.script("")?;
        let order = Order {
            input: Vec::new(),
            grace: self.grace,
            time_limit: self.supervision.and_then(|supervision| supervision.time_limit),
            hears_words: true,
        };
        let input = self.command.stdin.as_deref().unwrap_or_default();
        let answer = exchange(host, &|mark| self.script(mark), input, order, sink, cancel)?;
        let report = Report::read(&answer.report, self.command, &host.config.destination)?;
        Ok((answer, report))
    }
}

/// A path that no program takes for an option.
pub(super) fn plain(path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_path_buf() } else { Path::new(".").join(path) }
}

/// Rounded up; at most what a shell can count.
fn tenths(duration: Duration) -> String {
    duration.as_millis().div_ceil(100).min(999_999_999).to_string()
}

type Taker<'a> = &'a mut dyn FnMut(&[u8]);

/// Keeps what a short command prints.
struct Kept<'a> {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    stream: Option<Taker<'a>>,
    program: &'a OsStr,
}

impl Kept<'_> {
    fn keep(kept: &mut Vec<u8>, bytes: &[u8], program: &OsStr) -> Result<(), HostError> {
        kept.extend_from_slice(bytes);
        if kept.len() > LIMIT {
            let program = program.to_string_lossy().into_owned();
            return Err(HostError::OutputTooLarge { program, limit: LIMIT });
        }
        Ok(())
    }
}

impl Sink for Kept<'_> {
    fn stdout(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        match &mut self.stream {
            Some(take) => {
                take(bytes);
                Ok(())
            }
            None => Self::keep(&mut self.stdout, bytes, self.program),
        }
    }

    fn stderr(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        Self::keep(&mut self.stderr, bytes, self.program)
    }
}

fn short(
    host: &SshHost,
    command: &Command,
    cancel: &CancelToken,
    mut kept: Kept<'_>,
) -> Result<Output, HostError> {
    let ask = Ask { command, grace: command.grace, supervision: None, talks: false };
    let (answer, report) = ask.carry_out(host, &mut kept, cancel)?;
    if let EndedBy::Cancelled(reason) = answer.ended_by {
        return Err(HostError::Cancelled(reason));
    }
    Ok(Output { exit: report.exit, stdout: kept.stdout, stderr: kept.stderr })
}

/// See [`crate::Host::run`].
pub(super) fn run(host: &SshHost, command: &Command, cancel: &CancelToken) -> Result<Output, HostError> {
    let kept = Kept { stdout: Vec::new(), stderr: Vec::new(), stream: None, program: &command.program };
    short(host, command, cancel, kept)
}

/// See [`crate::Host::stream`].
pub(super) fn stream(
    host: &SshHost,
    command: &Command,
    cancel: &CancelToken,
    stdout: &mut dyn FnMut(&[u8]),
) -> Result<Output, HostError> {
    let kept =
        Kept { stdout: Vec::new(), stderr: Vec::new(), stream: Some(stdout), program: &command.program };
    short(host, command, cancel, kept)
}

struct Merged<'a> {
    sink: &'a mut dyn OutputSink,
    bytes: u64,
}

impl Sink for Merged<'_> {
    fn stdout(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        self.sink.write(bytes).map_err(HostError::Sink)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Both streams of the command are one at the other end; what stands here is of its shell.
    fn stderr(&mut self, _: &[u8]) -> Result<(), HostError> {
        Ok(())
    }
}

/// See [`crate::Host::supervise`].
pub(super) fn supervise(
    host: &SshHost,
    command: &Command,
    supervision: &Supervision,
    sink: &mut dyn OutputSink,
    cancel: &CancelToken,
) -> Result<Finished, HostError> {
    if supervision.isolation != Isolation::Session {
        let source = io::Error::from(io::ErrorKind::Unsupported);
        return Err(HostError::System("a host over ssh has no namespaces", source));
    }
    let mut merged = Merged { sink, bytes: 0 };
    let ask = Ask { command, grace: supervision.grace, supervision: Some(supervision), talks: false };
    let (answer, report) = ask.carry_out(host, &mut merged, cancel)?;
    Ok(Finished {
        exit: report.exit,
        ended_by: answer.ended_by,
        leaked: report.leaked,
        duration: answer.duration,
        output_bytes: merged.bytes,
    })
}

/// See [`crate::Host::end_tagged`].
pub(super) fn end_tagged(
    host: &SshHost,
    name: &str,
    value_prefix: &str,
    grace: Duration,
) -> Result<Vec<Leaked>, HostError> {
    let write = |mark: &str| {
        let written = (|| {
            let mut script = Script::command(mark);
            script.set("j_tag", format!("^{}={}", pattern(name), pattern(value_prefix)))?;
            script.set("j_grace", tenths(grace))?;
            script.call("j_reap", [""; 0])?;
            Ok::<_, NulInArgument>(script)
        })();
        written.map_err(|error| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
            HostError::System("cannot look for processes", source)
        })
    };
    let order = Order { input: Vec::new(), grace: Duration::MAX, time_limit: None, hears_words: true };
    let never = CancelToken::new().map_err(|e| HostError::System("cannot make a token", e))?;
    let reap = Command::new("sh");
    let mut nowhere = Kept { stdout: Vec::new(), stderr: Vec::new(), stream: None, program: &reap.program };
    let answer = exchange(host, &write, &[], order, &mut nowhere, &never)?;
    Ok(Report::read(&answer.report, &reap, &host.config.destination)?.leaked)
}
