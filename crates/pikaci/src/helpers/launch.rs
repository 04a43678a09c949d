//! Starts the helper of a launch request, and ends as it does.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use jericho_host::{CancelToken, Command, Exit, Host as _, LocalHost};
use jerichoci::run::outputs::load_prepared_output_fulfillment_launch_request;

use super::{Problem, with_causes};
use crate::config::Surroundings;

pub(super) const USAGE: &str = "\
Usage: pikaci-launch-fulfill-prepared-output LAUNCH_REQUEST

Starts the helper that the launch request at this path names, with its request and result, and prints what it
printed when it has ended.

Exit: that of the helper; 1 when a signal ended it, when it could not be started, and for wrong usage.
";

pub(super) fn run(args: &[OsString], surroundings: &Surroundings) -> Result<ExitCode, Problem> {
    let [path] = args else {
        return Err(Problem::Usage(format!("{} arguments in place of one", args.len())));
    };
    if path.to_str().is_some_and(|path| path.starts_with('-')) {
        return Err(Problem::Usage(format!("unknown option {}", path.to_string_lossy())));
    }
    let failed = |error: &dyn std::error::Error| Problem::Failed(with_causes(error));
    let request = load_prepared_output_fulfillment_launch_request(Path::new(path)).map_err(|e| failed(&e))?;
    let helper = Command::new(&request.helper_program)
        .arg("--result-path")
        .args([&request.helper_result_path, &request.helper_request_path])
        .env(surroundings.environment().clone());
    let cancel = CancelToken::new().map_err(|error| failed(&error))?;
    let output = LocalHost::new().run(&helper, &cancel).map_err(|error| failed(&error))?;
    let printed = std::io::stdout()
        .write_all(&output.stdout)
        .and_then(|()| std::io::stdout().flush())
        .and_then(|()| std::io::stderr().write_all(&output.stderr));
    printed.map_err(|error| failed(&error))?;
    match output.exit {
        // Of a process that has ended there are only the low eight bits.
        Exit::Code(code) => Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))),
        Exit::Signal(signal) => {
            Err(Problem::Failed(format!("{} was ended by signal {signal}", request.helper_program)))
        }
    }
}
