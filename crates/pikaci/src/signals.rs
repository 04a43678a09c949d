//! SIGINT, SIGTERM and SIGHUP: the first cancels in good order, the second at once.

use std::io::Write as _;
use std::thread::JoinHandle;

use jericho_host::{CancelReason, CancelToken};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::error::CliError;
use crate::exit::Exit;

/// Hears signals until it is dropped.
pub(crate) struct Listener {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Passes signals on to the token.
    pub(crate) fn start(token: &CancelToken) -> Result<Self, CliError> {
        let failed = |error| CliError::new(Exit::Infrastructure, "cannot listen for signals").because(error);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
        let handle = signals.handle();
        let token = token.clone();
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut first = true;
            for _ in &mut signals {
                let (reason, words) = match first {
                    true => (CancelReason::Signal, "ending the run; once more ends it at once"),
                    false => (CancelReason::Forced, "ending the run at once"),
                };
                first = false;
                if token.cancel(reason) {
                    // Nobody may be reading.
                    let _ = writeln!(std::io::stderr(), "{words}");
                }
            }
        });
        Ok(Self { handle, thread: Some(thread.map_err(failed)?) })
    }
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
