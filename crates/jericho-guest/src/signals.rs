//! Signals to the runner: the first ends the command in good order, the second at once.

use std::io;

use jericho_host::{CancelReason, CancelToken};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

/// Passes signals on to the token from now on. A runner in the background does not end with the session
/// that started it, so it only hears that this one has ended.
pub(crate) fn listen(token: &CancelToken, detached: bool) -> io::Result<()> {
    // The last one is heard so that a write beyond a limit on the size of files fails by itself.
    let mut wanted = vec![SIGINT, SIGTERM, SIGXFSZ];
    if detached || !ignores_hangup(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()) {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted)?;
    let token = token.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let counts = |signal: &i32| *signal != SIGXFSZ && !(detached && *signal == SIGHUP);
        for (earlier, _) in signals.forever().filter(counts).enumerate() {
            token.cancel(if earlier == 0 { CancelReason::Signal } else { CancelReason::Forced });
        }
    })?;
    Ok(())
}

/// Whether the status of a process says that it was started to outlive its terminal, as nohup(1) does.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}
