//! Fulfils requests, and checks what others say they fulfilled.

use std::fs;
use std::path::{Path, PathBuf};

use jericho_host::fs::write_atomic;
use jericho_host::{CancelToken, Command, Environment, Host as _, LocalHost};
use serde::Serialize;

use super::expose::{check_absolute, expose};
use super::{OutputsError, STORE_DIR, load};
use crate::causes::with_causes;
use crate::model::outputs::{
    Exposure, FulfillmentStatus, PreparedOutputLaunchRequestRecord, PreparedOutputRequestRecord,
    PreparedOutputResultRecord, PreparedOutputTransportRequestRecord, TransportPathContract,
};
use crate::model::version;
use crate::run::layout::Handoffs;

/// Makes all exposures of a request that lies at this path, and returns the request. Doing it
/// again gives the same result.
///
/// # Errors
/// [`OutputsError`]; exposures before the one that failed have been made.
pub fn fulfill_prepared_output_request(
    request_path: &Path,
) -> Result<PreparedOutputRequestRecord, OutputsError> {
    fulfill_prepared_output_request_in(request_path, Path::new(STORE_DIR))
}

/// The same, with a store that is elsewhere: see [`store_dir_here`].
///
/// # Errors
/// As [`fulfill_prepared_output_request`].
pub fn fulfill_prepared_output_request_in(
    request_path: &Path,
    store_dir: &Path,
) -> Result<PreparedOutputRequestRecord, OutputsError> {
    let request = load_request(request_path, store_dir)?;
    make_exposures(request_path, &request).map_err(|(_, error)| error)?;
    Ok(request)
}

/// Fulfils a request and says how that went in the document for it, which is also written to
/// `result_path`, with the directories above it. `store_dir` is [`STORE_DIR`] but for tests and
/// unusual installations.
///
/// # Errors
/// [`OutputsError::File`] when the result could not be written. A request that could not be
/// fulfilled is a result.
pub fn fulfill_prepared_output_request_result(
    request_path: &Path,
    result_path: Option<&Path>,
    store_dir: &Path,
) -> Result<PreparedOutputResultRecord, OutputsError> {
    let (request, exposures, error) = match load_request(request_path, store_dir) {
        Err(error) => (None, Vec::new(), Some(error)),
        Ok(request) => match make_exposures(request_path, &request) {
            Ok(()) => (Some(request.clone()), request.requested_exposures, None),
            Err((count, error)) => {
                let made = request.requested_exposures[..count].to_vec();
                (Some(request), made, Some(error))
            }
        },
    };
    let request = request.as_ref();
    let result = PreparedOutputResultRecord {
        schema_version: version::PREPARED_OUTPUT_HANDOFF,
        request_path: request_path.to_string_lossy().into_owned(),
        node_id: request.map(|request| request.node_id.clone()),
        output_name: request.map(|request| request.output_name.clone()),
        realized_path: request.map(|request| request.realized_path.clone()),
        status: if error.is_none() { FulfillmentStatus::Succeeded } else { FulfillmentStatus::Failed },
        fulfilled_exposures_count: exposures.len(),
        fulfilled_exposures: exposures,
        error: error.as_ref().map(|error| with_causes(error)),
    };
    if let Some(path) = result_path {
        write_document(path, &result)?;
    }
    Ok(result)
}

/// Writes one of the documents, with the directories above it.
pub(super) fn write_document<T: Serialize>(path: &Path, document: &T) -> Result<(), OutputsError> {
    let failed = |source| OutputsError::File { action: "write", path: path.to_path_buf(), source };
    let bytes = serde_json::to_vec_pretty(document).map_err(|error| failed(error.into()))?;
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    write_atomic(path, &bytes, false).map_err(failed)
}

/// The store directory of this machine, for the request at this path: `NIX_STORE_DIR`, else
/// [`STORE_DIR`]; nix is asked only about an output that is elsewhere.
#[must_use]
pub fn store_dir_here(request_path: &Path, env: &Environment) -> PathBuf {
    if let Some(dir) = env.get("NIX_STORE_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return dir;
    }
    let usual = PathBuf::from(STORE_DIR);
    match load::<PreparedOutputRequestRecord>(request_path) {
        Ok(request) if !Path::new(&request.realized_path).starts_with(&usual) => {
            ask_store_dir(env).unwrap_or(usual)
        }
        _ => usual,
    }
}

fn ask_store_dir(env: &Environment) -> Option<PathBuf> {
    let nix = Command::new("nix")
        .args(["--extra-experimental-features", "nix-command", "eval", "--raw", "--expr"])
        .arg("builtins.storeDir")
        .env(env.clone());
    let said = LocalHost::new().run(&nix, &CancelToken::new().ok()?).ok()?;
    let dir = PathBuf::from(String::from_utf8(said.stdout).ok()?.trim());
    (said.exit.success() && dir.is_absolute()).then_some(dir)
}

/// Reads what a launcher is given.
///
/// # Errors
/// [`OutputsError::File`], [`OutputsError::Document`].
pub fn load_prepared_output_fulfillment_launch_request(
    path: &Path,
) -> Result<PreparedOutputLaunchRequestRecord, OutputsError> {
    load(path)
}

/// Reads what an SSH transport is given.
///
/// # Errors
/// [`OutputsError::File`], [`OutputsError::Document`] also when something SSH needs is missing.
pub fn load_ssh_transport_request(path: &Path) -> Result<PreparedOutputTransportRequestRecord, OutputsError> {
    let request: PreparedOutputTransportRequestRecord = load(path)?;
    let problem = |problem: String| OutputsError::Document { path: path.to_path_buf(), problem };
    if request.path_contract != TransportPathContract::SshRemoteWorkDirTranslationV1 {
        return Err(problem("path_contract is not ssh_remote_work_dir_translation_v1".to_owned()));
    }
    let needed = [
        ("remote_host", &request.remote_host),
        ("local_run_dir", &request.local_run_dir),
        ("remote_work_dir", &request.remote_work_dir),
        ("remote_launcher_program", &request.remote_launcher_program),
        ("remote_helper_program", &request.remote_helper_program),
    ];
    match needed.iter().find(|(_, value)| value.is_none()) {
        Some((name, _)) => Err(problem(format!("{name} is missing"))),
        None => Ok(request),
    }
}

/// Checks what a helper says about a request of ours. `helper_succeeded` is whether it exited
/// with 0; `may_be_elsewhere` is whether an empty list of exposures is as good as all of them:
/// for an output that is only to be had on the host the helper ran on.
///
/// # Errors
/// [`OutputsError::Invalid`] with the first difference.
pub fn check_result(
    result: &PreparedOutputResultRecord,
    request_path: &Path,
    request: &PreparedOutputRequestRecord,
    helper_succeeded: bool,
    may_be_elsewhere: bool,
) -> Result<(), OutputsError> {
    let invalid = |problem: String| Err(OutputsError::Invalid(problem));
    if result.status != FulfillmentStatus::Succeeded {
        let why = result.error.as_deref().unwrap_or("it says no reason");
        return invalid(format!("the helper failed: {why}"));
    }
    if !helper_succeeded {
        return invalid("the helper says it succeeded, but did not exit with 0".to_owned());
    }
    if result.schema_version != version::PREPARED_OUTPUT_HANDOFF {
        return invalid(format!("the result has schema_version {}", result.schema_version));
    }
    if Path::new(&result.request_path) != request_path {
        return invalid(format!("the result is for another request: {}", result.request_path));
    }
    let count = result.fulfilled_exposures.len();
    if result.fulfilled_exposures_count != count {
        return invalid(format!(
            "the result counts {} exposures and lists {count}",
            result.fulfilled_exposures_count
        ));
    }
    let elsewhere = may_be_elsewhere && count == 0;
    if !elsewhere && result.fulfilled_exposures != request.requested_exposures {
        return invalid("the result lists other exposures than were requested".to_owned());
    }
    for (name, found, wanted) in [
        ("node_id", &result.node_id, &request.node_id),
        ("output_name", &result.output_name, &request.output_name),
        ("realized_path", &result.realized_path, &request.realized_path),
    ] {
        if found.as_ref() != Some(wanted) {
            let found = found.as_deref().unwrap_or("nothing");
            return invalid(format!("the result has {name} `{found}` in place of `{wanted}`"));
        }
    }
    Ok(())
}

fn load_request(path: &Path, store_dir: &Path) -> Result<PreparedOutputRequestRecord, OutputsError> {
    let request: PreparedOutputRequestRecord = load(path)?;
    let realized = Path::new(&request.realized_path);
    check_absolute(realized)?;
    let below = realized.strip_prefix(store_dir).is_ok_and(|rest| rest.components().next().is_some());
    if !below {
        return Err(OutputsError::Invalid(format!(
            "{}: not a path below {}",
            realized.display(),
            store_dir.display()
        )));
    }
    fs::symlink_metadata(realized).map_err(|source| OutputsError::File {
        action: "find",
        path: realized.to_path_buf(),
        source,
    })?;
    Ok(request)
}

/// On failure also how many exposures were made before.
fn make_exposures(
    request_path: &Path,
    request: &PreparedOutputRequestRecord,
) -> Result<(), (usize, OutputsError)> {
    let run_dir = run_dir_of(request_path);
    let realized = Path::new(&request.realized_path);
    let make = |exposure: &Exposure| expose(run_dir.as_deref(), Path::new(&exposure.path), realized);
    for (count, exposure) in request.requested_exposures.iter().enumerate() {
        make(exposure).map_err(|error| (count, error))?;
    }
    Ok(())
}

/// A request that lies in the directory of requests of a run can only expose below that run.
fn run_dir_of(request_path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(request_path).ok()?;
    let requests =
        path.parent().filter(|dir| dir.file_name().is_some_and(|name| name == Handoffs::Requests.dir()))?;
    requests.parent().map(Path::to_path_buf)
}
