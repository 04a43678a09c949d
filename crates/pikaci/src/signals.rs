//! SIGINT, SIGTERM and SIGHUP become a cancel token; a third one ends the process at once.

use jericho_host::{CancelReason, CancelToken};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::CliError;
use crate::exit;
use crate::output::note;

/// A token that the signals of this process cancel from now on.
///
/// # Errors
/// Infrastructure, when the process has no file descriptors or threads left.
pub(crate) fn cancel_token() -> Result<CancelToken, CliError> {
    let failed = |error| CliError::infrastructure("cannot listen to signals").because(&error);
    let token = CancelToken::new().map_err(failed)?;
    let mut wanted = vec![SIGINT, SIGTERM];
    if !hangup_is_ignored() {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted).map_err(failed)?;
    let cancelled = token.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for (index, _signal) in signals.forever().enumerate() {
                match index {
                    0 => {
                        cancelled.cancel(CancelReason::Signal);
                        note(format_args!("cancelling; again to force"));
                    }
                    1 => {
                        cancelled.cancel(CancelReason::Forced);
                        note(format_args!("ending at once; again to leave without looking back"));
                    }
                    _ => signal_hook::low_level::exit(i32::from(exit::CANCELLED)),
                }
            }
        })
        .map_err(failed)?;
    Ok(token)
}

/// Under nohup(1) a closed terminal must not end the run.
fn hangup_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, SIGHUP))
}

fn ignores(status: &str, signal: i32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_recognised() {
        assert!(ignores("Name:\tx\nSigIgn:\t0000000000001001\n", SIGHUP));
        assert!(!ignores("Name:\tx\nSigIgn:\t0000000000001000\n", SIGHUP));
        assert!(!ignores("", SIGHUP));
    }
}
