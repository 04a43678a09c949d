//! Writes one status, event or result of a guest; see `--help`.

use std::io::Write as _;
use std::process::ExitCode;

use jericho_guest::lifecycle::{HELP, LifecycleError, act};

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if let [only] = args.as_slice()
        && matches!(only.as_str(), "-h" | "--help")
    {
        // Nobody may be reading.
        let _ = std::io::stdout().write_all(HELP.as_bytes());
        return ExitCode::SUCCESS;
    }
    let Err(error) = act(&args) else { return ExitCode::SUCCESS };
    let (hint, code) = match error {
        LifecycleError::Usage(_) => ("\nTry `pika-cloud-lifecycle --help`.", 2),
        LifecycleError::Write(_) => ("", 1),
    };
    let _ = writeln!(std::io::stderr(), "pika-cloud-lifecycle: {error}{hint}");
    code.into()
}
