//! Fulfils one request, and says so in the document for it.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use jerichoci::model::outputs::FulfillmentStatus;
use jerichoci::run::outputs::fulfill::store_dir_here;
use jerichoci::run::outputs::{OutputsError, fulfill_prepared_output_request_result};

use super::{Problem, with_causes};
use crate::config::Surroundings;

pub(super) const USAGE: &str = "\
Usage: pikaci-fulfill-prepared-output [--result-path PATH] REQUEST

Makes the links that the request at the path REQUEST asks for. Prints the result as one line of JSON, and
writes it to PATH, with the directories above it. Repeating it gives the same result.

Exit: 0 fulfilled, 1 not fulfilled or wrong usage.
";

pub(super) fn run(args: &[OsString], surroundings: &Surroundings) -> Result<ExitCode, Problem> {
    let (request, result_path) = parse(args)?;
    let store_dir = store_dir_here(&request, surroundings.environment());
    let fulfilled = fulfill_prepared_output_request_result(&request, result_path.as_deref(), &store_dir);
    let result = fulfilled.or_else(|unwritten| {
        // Who started it reads a result in any case: again, which makes the same links, without the file.
        let mut result = fulfill_prepared_output_request_result(&request, None, &store_dir)?;
        result.status = FulfillmentStatus::Failed;
        result.error = Some(with_causes(&unwritten));
        Ok(result)
    });
    let result = result.map_err(|error: OutputsError| Problem::Failed(with_causes(&error)))?;
    let failed = |error: std::io::Error| Problem::Failed(format!("cannot print the result: {error}"));
    let line = serde_json::to_string(&result).map_err(|error| failed(error.into()))?;
    writeln!(std::io::stdout(), "{line}").map_err(failed)?;
    if result.status == FulfillmentStatus::Succeeded {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Problem::Failed(result.error.unwrap_or_else(|| "the request was not fulfilled".to_owned())))
}

fn parse(args: &[OsString]) -> Result<(PathBuf, Option<PathBuf>), Problem> {
    let usage = |problem: &str| Problem::Usage(problem.to_owned());
    let (mut request, mut result_path) = (None, None);
    let mut args = args.iter();
    let mut only_paths = false;
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--") if !only_paths => only_paths = true,
            Some("--result-path") if !only_paths => {
                let value = args.next().ok_or_else(|| usage("--result-path has no value"))?;
                if result_path.replace(PathBuf::from(value)).is_some() {
                    return Err(usage("--result-path is given twice"));
                }
            }
            Some(option) if option.starts_with('-') && !only_paths => {
                return Err(Problem::Usage(format!("unknown option {option}")));
            }
            _ if request.is_some() => return Err(usage("more than one request")),
            _ => request = Some(PathBuf::from(arg)),
        }
    }
    let request = request.ok_or_else(|| usage("no request"))?;
    Ok((request, result_path))
}
