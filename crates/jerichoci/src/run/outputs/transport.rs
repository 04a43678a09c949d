//! A handover over SSH: the documents with paths of the host, the launcher there, its result.
//!
//! Below the run directory a path of this machine is the same path below
//! `<remote work dir>/runs/<run id>`; no other path goes over.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use jericho_host::{Command, Environment, Exit, Host};

use super::OutputsError;
use super::copy::{FarStore, copy};
use super::handover::{With, text, words};
use super::mode::Transport;
use crate::executor::JobLog;
use crate::model::outputs::{
    Exposure, FulfillmentStatus, PreparedOutputLaunchRequestRecord, PreparedOutputRequestRecord,
    PreparedOutputResultRecord, Residency,
};
use crate::model::version;
use crate::run::layout::RunLayout;

/// The way to a launcher on a host: every part is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// SSH program; today's when absent.
    pub program: Option<String>,
    /// The host.
    pub host: String,
    /// Launcher there.
    pub launcher_program: String,
    /// Helper there.
    pub helper_program: String,
    /// Work directory there.
    pub work_dir: PathBuf,
    local_run_dir: PathBuf,
    run_id: String,
}

/// The host of a route, as it is asked.
pub(crate) struct Endpoint {
    pub(crate) host: Arc<dyn Host>,
    /// What programs there are started with.
    pub(crate) env: Environment,
    /// For what has to be copied there.
    pub(crate) store: FarStore,
}

impl Route {
    /// Of an SSH transport, for a run.
    ///
    /// # Errors
    /// [`OutputsError::Invalid`] for another transport, or a part that is missing.
    pub fn new(transport: &Transport, run: &RunLayout) -> Result<Self, OutputsError> {
        let Transport::Ssh { program, host, remote_launcher_program, remote_helper_program, remote_work_dir } =
            transport
        else {
            return Err(OutputsError::Invalid("the transport is not SSH".to_owned()));
        };
        let needed = |name: &str, value: &Option<String>| {
            let missing = || OutputsError::Invalid(format!("an SSH transport without its {name}"));
            value.clone().filter(|value| !value.is_empty()).ok_or_else(missing)
        };
        let work_dir = PathBuf::from(needed("remote work directory", remote_work_dir)?);
        super::expose::check_absolute(&work_dir)?;
        Ok(Self {
            program: program.clone(),
            host: needed("host", host)?,
            launcher_program: needed("remote launcher program", remote_launcher_program)?,
            helper_program: needed("remote helper program", remote_helper_program)?,
            work_dir,
            local_run_dir: run.dir().to_path_buf(),
            run_id: text(Path::new(run.dir().file_name().unwrap_or_default())),
        })
    }

    /// The directory of the run there.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.work_dir.join("runs").join(&self.run_id)
    }

    /// A path of this machine as the host has it.
    ///
    /// # Errors
    /// [`OutputsError::Invalid`] for a path that is not below the run directory.
    pub fn translate(&self, path: &Path) -> Result<PathBuf, OutputsError> {
        let below = path.strip_prefix(&self.local_run_dir).ok();
        let plain = |rest: &&Path| rest.components().all(|part| matches!(part, Component::Normal(_)));
        let rest =
            below.filter(plain).filter(|rest| rest.components().next().is_some()).ok_or_else(|| {
                OutputsError::Invalid(format!(
                    "{}: not below the run directory {}",
                    path.display(),
                    self.local_run_dir.display()
                ))
            })?;
        Ok(self.run_dir().join(rest))
    }

    fn translate_text(&self, path: &str) -> Result<String, OutputsError> {
        self.translate(Path::new(path)).map(|path| text(&path))
    }

    fn translate_all(&self, exposures: &[Exposure]) -> Result<Vec<Exposure>, OutputsError> {
        let one = |exposure: &Exposure| {
            Ok(Exposure { path: self.translate_text(&exposure.path)?, ..exposure.clone() })
        };
        exposures.iter().map(one).collect()
    }
}

/// One handover over SSH.
pub(super) struct Errand<'a> {
    pub(super) route: &'a Route,
    pub(super) endpoint: &'a Endpoint,
    pub(super) local: &'a With<'a>,
    pub(super) node_id: &'a str,
    pub(super) request: &'a PreparedOutputRequestRecord,
    pub(super) launch_path: &'a Path,
    pub(super) request_path: &'a Path,
    pub(super) result_path: &'a Path,
    /// A directory of its own, for the time of a copy.
    pub(super) copy_dir: &'a Path,
}

impl Errand<'_> {
    /// Has the host fulfil the request, and checks what it says.
    pub(super) fn run(&self, log: &mut dyn JobLog) -> Result<(), OutputsError> {
        let Self { route, request, .. } = self;
        self.bring(log)?;
        let launch_there = route.translate(self.launch_path)?;
        let request_there = route.translate(self.request_path)?;
        let result_there = route.translate(self.result_path)?;
        let translated = PreparedOutputRequestRecord {
            requested_exposures: route.translate_all(&request.requested_exposures)?,
            ..(*request).clone()
        };
        let launch = PreparedOutputLaunchRequestRecord {
            schema_version: version::PREPARED_OUTPUT_HANDOFF,
            helper_program: route.helper_program.clone(),
            helper_request_path: text(&request_there),
            helper_result_path: text(&result_there),
            node_id: Some(request.node_id.clone()),
            output_name: Some(request.output_name.clone()),
        };
        self.put(&request_there, &translated)?;
        self.put(&launch_there, &launch)?;
        // What an earlier try has left is not this one's result.
        self.endpoint.host.remove(&result_there)?;
        let launcher =
            Command::new(&route.launcher_program).arg(&launch_there).env(self.endpoint.env.clone());
        let exit = self.local.start(&*self.endpoint.host, &launcher, log)?;
        let read = self.endpoint.host.read_range(&result_there, 0, super::DOCUMENT_LIMIT);
        let result = match (read, exit) {
            (Ok(bytes), _) => bytes,
            (Err(error), Exit::Code(0)) => return Err(error.into()),
            (Err(_), exit) => {
                let host = &route.host;
                let program = &route.launcher_program;
                return Err(OutputsError::Invalid(format!("{program} on {host} ended with {}", words(exit))));
            }
        };
        let result: PreparedOutputResultRecord = serde_json::from_slice(&result)
            .map_err(|error| OutputsError::Document { path: result_there, problem: error.to_string() })?;
        check_remote_result(&result, &request_there, &translated)?;
        match exit {
            Exit::Code(0) => Ok(()),
            exit => Err(OutputsError::Invalid(format!(
                "{} on {} says it succeeded, and ended with {}",
                route.launcher_program,
                route.host,
                words(exit)
            ))),
        }
    }

    /// Makes sure that the output is on the host.
    fn bring(&self, log: &mut dyn JobLog) -> Result<(), OutputsError> {
        let Self { route, request, local, .. } = self;
        let realized = &request.realized_path;
        let test = Command::new("test").args(["-e", realized]).env(self.endpoint.env.clone());
        if self.endpoint.host.run(&test, local.cancel)?.exit.success() {
            return Ok(());
        }
        let (node, host) = (self.node_id, &route.host);
        if request.residency == Residency::RemoteAuthoritativeStagedLinux {
            return Err(OutputsError::Invalid(format!(
                "{realized} of {node} is not on {host}, which alone may have built it"
            )));
        }
        if std::fs::symlink_metadata(realized).is_err() {
            return Err(OutputsError::Invalid(format!(
                "{realized} of {node} is neither on {host} nor on this machine"
            )));
        }
        copy(&self.endpoint.store, realized, self.copy_dir, local, log)
    }

    fn put<T: serde::Serialize>(&self, path: &Path, document: &T) -> Result<(), OutputsError> {
        let problem = |error: serde_json::Error| OutputsError::Document {
            path: path.to_path_buf(),
            problem: error.to_string(),
        };
        let bytes = serde_json::to_vec_pretty(document).map_err(problem)?;
        if let Some(dir) = path.parent() {
            self.endpoint.host.make_dirs(dir)?;
        }
        Ok(self.endpoint.host.write_atomic(path, &bytes, false)?)
    }
}

/// Checks what a helper on a host says about a request with its paths.
///
/// # Errors
/// [`OutputsError::Invalid`] with the first difference.
pub fn check_remote_result(
    result: &PreparedOutputResultRecord,
    request_path: &Path,
    request: &PreparedOutputRequestRecord,
) -> Result<(), OutputsError> {
    let invalid = |problem: String| Err(OutputsError::Invalid(format!("the host's result: {problem}")));
    if result.status != FulfillmentStatus::Succeeded {
        let why = result.error.as_deref().unwrap_or("it says no reason");
        return invalid(format!("it failed: {why}"));
    }
    if result.schema_version != version::PREPARED_OUTPUT_HANDOFF {
        return invalid(format!("schema_version {}", result.schema_version));
    }
    if Path::new(&result.request_path) != request_path {
        return invalid(format!("it is for another request: {}", result.request_path));
    }
    for (name, found, wanted) in [
        ("node_id", &result.node_id, &request.node_id),
        ("output_name", &result.output_name, &request.output_name),
        ("realized_path", &result.realized_path, &request.realized_path),
    ] {
        if found.as_ref() != Some(wanted) {
            let found = found.as_deref().unwrap_or("nothing");
            return invalid(format!("{name} is `{found}` in place of `{wanted}`"));
        }
    }
    let count = result.fulfilled_exposures.len();
    if result.fulfilled_exposures_count != count {
        return invalid(format!(
            "it counts {} exposures and lists {count}",
            result.fulfilled_exposures_count
        ));
    }
    if result.fulfilled_exposures != request.requested_exposures {
        return invalid("it lists other exposures than were requested".to_owned());
    }
    Ok(())
}
