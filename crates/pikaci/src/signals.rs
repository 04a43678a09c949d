//! SIGINT, SIGTERM and SIGHUP: the first cancels in good order, the second at once, the third ends
//! this process whatever it is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

use crate::error::CliError;
use crate::exit::Exit;
use crate::render::announce::Announcer;

/// How long the end may take after the second signal. Jobs are gone and the record is written
/// long before; what can take longer is telling somebody who has stopped reading.
const GRACE: Duration = Duration::from_secs(3);

/// Hears signals until it is dropped.
pub(crate) struct Listener {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Passes signals on to the token. While the terminal is lent, Ctrl-C is for who has it.
    pub(crate) fn start(
        token: &CancelToken,
        announcer: Announcer,
        lent: Arc<AtomicBool>,
    ) -> Result<Self, CliError> {
        let failed = |error| {
            CliError::new(Exit::Infrastructure, "cannot listen for signals")
                .because(error)
                .hint("ulimit -a; the machine refused what every process may ask for")
        };
        // The last one is heard so that it does not end the engine in the middle of a write: a write
        // beyond a limit on the size of files fails by itself.
        let mut wanted = vec![SIGINT, SIGTERM, SIGXFSZ];
        if !ignores_hangup(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()) {
            wanted.push(SIGHUP);
        }
        let mut signals = Signals::new(wanted).map_err(failed)?;
        let handle = signals.handle();
        let token = token.clone();
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut watchdog = None;
            let is_others = |signal| signal == SIGINT && lent.load(Ordering::SeqCst);
            let asked = signals.forever().filter(|signal| *signal != SIGXFSZ && !is_others(*signal));
            for (earlier, _) in asked.enumerate() {
                let (reason, words) = match earlier {
                    0 => (CancelReason::Signal, "ending the run; once more ends it at once"),
                    1 => (CancelReason::Forced, "ending the run at once"),
                    // Somebody who asks three times does not want to wait for anything.
                    _ => leave(),
                };
                if reason == CancelReason::Forced {
                    watchdog = Some(leave_after(GRACE));
                }
                if token.cancel(reason) {
                    announcer.say(words);
                }
            }
            drop(watchdog);
        });
        Ok(Self { handle, thread: Some(thread.map_err(failed)?) })
    }
}

/// Ends this process when the grace is over, unless what it returns is dropped before.
fn leave_after(grace: Duration) -> Sender<()> {
    let (ended, end) = channel();
    // Without a thread there is still the third signal.
    let _ = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        if end.recv_timeout(grace) == Err(RecvTimeoutError::Timeout) {
            leave();
        }
    });
    ended
}

fn leave() -> ! {
    signal_hook::low_level::exit(i32::from(Exit::Cancelled.code()))
}

/// Whether the status of a process says that it was started to outlive its terminal, as nohup(1)
/// does: a handler would undo that.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic there changes nothing here.
            let _ = thread.join();
        }
    }
}
