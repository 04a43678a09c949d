//! Runs one request of a guest or a remote host; see `--help`.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match jericho_guest::args::parse(std::env::args_os().skip(1)) {
        Ok(action) => jericho_guest::runner::act(action).into(),
        Err(message) => {
            // Nobody may be reading.
            let _ = write!(
                std::io::stderr(),
                "jerichoci-incus-run: {message}\nTry `jerichoci-incus-run --help`.\n"
            );
            jericho_guest::BOOTSTRAP_ERROR.into()
        }
    }
}
