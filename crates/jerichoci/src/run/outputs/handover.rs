//! Hands one realised output over, in the way of the run's mode, and says what became of it.
//!
//! | mode | what happens here |
//! |---|---|
//! | host-local links | this process makes the links |
//! | remote request | the request is written, for whoever reads it |
//! | fulfil | the request is written, a helper is started with it, its result is checked |
//!
//! A helper is started directly, or by a launcher that is given a launch request; the launcher
//! directly, by a program that is given a transport request, or over SSH ([`super::transport`]).

use std::path::{Path, PathBuf};
use std::time::Duration;

use jericho_host::{CancelToken, Command, Environment, Exit, Host};

use super::answer;
use super::expose::expose;
use super::fulfill::{check_result, fulfill_prepared_output_request_result, write_document};
use super::mode::{Invocation, Mode, Transport};
use super::transport::{self, Endpoint};
use super::{OutputsError, read};
use crate::executor::JobLog;
use crate::model::outputs::{
    Exposure, HandoffProtocol, PreparedOutputLaunchRequestRecord, PreparedOutputRecord,
    PreparedOutputRequestRecord, PreparedOutputResultRecord, PreparedOutputTransportRequestRecord, Residency,
    TransportPathContract,
};
use crate::model::version;
use crate::run::layout::{Handoffs, RunLayout};

/// What is handed over, and with what.
pub(crate) struct Handover<'a> {
    pub(crate) run: &'a RunLayout,
    pub(crate) mode: &'a Mode,
    pub(crate) node_id: &'a str,
    pub(crate) installable: &'a str,
    pub(crate) output_name: &'a str,
    pub(crate) residency: Residency,
    /// Path in the store.
    pub(crate) realized: &'a Path,
    /// Store of the machine it is on.
    pub(crate) store_dir: &'a Path,
    /// Where it is to become visible.
    pub(crate) exposures: &'a [Exposure],
    pub(crate) with: &'a With<'a>,
}

/// What a handover needs of its surroundings.
pub(crate) struct With<'a> {
    /// This machine.
    pub(crate) host: &'a dyn Host,
    /// What helpers are started with.
    pub(crate) env: &'a Environment,
    /// The helper, and the launcher for a mode that names none.
    pub(crate) helper: Option<&'a Path>,
    pub(crate) launcher: Option<&'a Path>,
    /// Local nix, for a copy to the host of a transport.
    pub(crate) nix: &'a Path,
    /// The host of an SSH transport. Puts its true work directory into the route.
    pub(crate) endpoint: &'a dyn Fn(&mut transport::Route) -> Result<Endpoint, OutputsError>,
    pub(crate) answer_limit: Duration,
    pub(crate) cancel: &'a CancelToken,
}

impl With<'_> {
    /// Runs a launcher or a helper on a machine to its end; what it prints goes into the log.
    pub(super) fn start(
        &self,
        host: &dyn Host,
        command: &Command,
        log: &mut dyn JobLog,
    ) -> Result<Exit, OutputsError> {
        let output = answer::within(self.answer_limit, self.cancel, |cancel| host.run(command, cancel))?;
        let Some(output) = output else {
            let (program, host) = (command.program.to_string_lossy(), host.label());
            let why = answer::no_answer(self.answer_limit);
            return Err(OutputsError::Invalid(format!("{program} on {host}: {why}")));
        };
        keep(log, &output.stdout, &output.stderr)?;
        Ok(output.exit)
    }
}

/// Hands it over. The record is complete also when that failed.
pub(crate) fn hand_over(
    handover: &Handover<'_>,
    log: &mut dyn JobLog,
) -> (PreparedOutputRecord, Result<(), OutputsError>) {
    let mut record = PreparedOutputRecord {
        node_id: handover.node_id.to_owned(),
        installable: handover.installable.to_owned(),
        output_name: handover.output_name.to_owned(),
        protocol: HandoffProtocol::NixStorePathV1,
        residency: handover.residency,
        consumer: handover.mode.consumer(),
        realized_path: text(handover.realized),
        consumer_request_path: None,
        consumer_result_path: None,
        consumer_launch_request_path: None,
        consumer_transport_request_path: None,
        exposures: Vec::new(),
        requested_exposures: Vec::new(),
        payload: None,
    };
    let handed = match handover.mode {
        Mode::HostLocalSymlinks => handover.links(&mut record),
        Mode::RemoteRequest => handover.request(&mut record).map(drop),
        Mode::Fulfill { invocation, .. } => handover.fulfil(invocation, &mut record, log),
    };
    (record, handed)
}

impl Handover<'_> {
    fn links(&self, record: &mut PreparedOutputRecord) -> Result<(), OutputsError> {
        for exposure in self.exposures {
            expose(Some(self.run.dir()), Path::new(&exposure.path), self.realized)?;
            record.exposures.push(exposure.clone());
        }
        Ok(())
    }

    fn request(
        &self,
        record: &mut PreparedOutputRecord,
    ) -> Result<(PathBuf, PreparedOutputRequestRecord), OutputsError> {
        let request = PreparedOutputRequestRecord {
            schema_version: version::PREPARED_OUTPUT_HANDOFF,
            node_id: self.node_id.to_owned(),
            installable: self.installable.to_owned(),
            output_name: self.output_name.to_owned(),
            protocol: HandoffProtocol::NixStorePathV1,
            residency: self.residency,
            realized_path: text(self.realized),
            requested_exposures: self.exposures.to_vec(),
        };
        let path = self.run.handoff(Handoffs::Requests, self.node_id);
        write_document(&path, &request)?;
        record.consumer_request_path = Some(text(&path));
        record.requested_exposures = self.exposures.to_vec();
        Ok((path, request))
    }

    fn fulfil(
        &self,
        invocation: &Invocation,
        record: &mut PreparedOutputRecord,
        log: &mut dyn JobLog,
    ) -> Result<(), OutputsError> {
        let (request_path, request) = self.request(record)?;
        let result_path = self.run.handoff(Handoffs::Results, self.node_id);
        record.consumer_result_path = Some(text(&result_path));
        let over_ssh = matches!(invocation, Invocation::Launcher { transport: Transport::Ssh { .. }, .. });
        let exit = match invocation {
            Invocation::Direct => {
                let helper =
                    Command::new(self.helper()?).arg("--result-path").arg(&result_path).arg(&request_path);
                self.start(helper, log)?
            }
            Invocation::Launcher { program, transport } => {
                let launcher = self.launcher(program.as_deref())?;
                let launch = self.launch_request(&request_path, &result_path, over_ssh, record)?;
                match transport {
                    Transport::Direct => self.start(Command::new(launcher).arg(&launch), log)?,
                    Transport::Command { program } => {
                        let transport = self.transport_request(&launcher, &launch, None, record)?;
                        self.start(Command::new(program).arg(&transport), log)?
                    }
                    Transport::Ssh { .. } => {
                        let mut route = transport::Route::new(transport, self.run)?;
                        let endpoint = (self.with.endpoint)(&mut route);
                        self.transport_request(&launcher, &launch, Some(&route), record)?;
                        let paths = (&*request_path, &*result_path);
                        self.over_ssh(&route, endpoint, &request, paths, log)?;
                        Exit::Code(0)
                    }
                }
            }
        };
        let result: PreparedOutputResultRecord = read(&result_path).map_err(|error| match exit {
            Exit::Code(0) => error,
            exit => OutputsError::Invalid(format!("the helper ended with {}", words(exit))),
        })?;
        let is_here = std::fs::symlink_metadata(self.realized).is_ok();
        let elsewhere = over_ssh && !is_here && self.residency == Residency::RemoteAuthoritativeStagedLinux;
        check_result(&result, &request_path, &request, exit.success(), elsewhere)?;
        record.exposures = result.fulfilled_exposures;
        Ok(())
    }

    fn launch_request(
        &self,
        request_path: &Path,
        result_path: &Path,
        over_ssh: bool,
        record: &mut PreparedOutputRecord,
    ) -> Result<PathBuf, OutputsError> {
        let launch = PreparedOutputLaunchRequestRecord {
            schema_version: version::PREPARED_OUTPUT_HANDOFF,
            helper_program: match (self.with.helper, over_ssh) {
                (Some(helper), _) => text(helper),
                // Over SSH the host's own takes its place.
                (None, true) => "pikaci-fulfill-prepared-output".to_owned(),
                (None, false) => text(self.helper()?),
            },
            helper_request_path: text(request_path),
            helper_result_path: text(result_path),
            node_id: Some(self.node_id.to_owned()),
            output_name: Some(self.output_name.to_owned()),
        };
        let path = self.run.handoff(Handoffs::LaunchRequests, self.node_id);
        write_document(&path, &launch)?;
        record.consumer_launch_request_path = Some(text(&path));
        Ok(path)
    }

    fn transport_request(
        &self,
        launcher: &Path,
        launch: &Path,
        route: Option<&transport::Route>,
        record: &mut PreparedOutputRecord,
    ) -> Result<PathBuf, OutputsError> {
        let mut request = PreparedOutputTransportRequestRecord {
            schema_version: version::PREPARED_OUTPUT_HANDOFF,
            path_contract: TransportPathContract::SameHostAbsolutePathsV1,
            launcher_program: text(launcher),
            launcher_request_path: text(launch),
            local_run_dir: Some(text(self.run.dir())),
            remote_host: None,
            remote_work_dir: None,
            remote_launcher_program: None,
            remote_helper_program: None,
            remote_launcher_request_path: None,
            remote_helper_request_path: None,
            remote_helper_result_path: None,
            node_id: Some(self.node_id.to_owned()),
            output_name: Some(self.output_name.to_owned()),
        };
        if let Some(route) = route {
            let there = |kind| route.translate(&self.run.handoff(kind, self.node_id)).map(|path| text(&path));
            request.path_contract = TransportPathContract::SshRemoteWorkDirTranslationV1;
            request.remote_host = Some(route.host.clone());
            request.remote_work_dir = Some(text(&route.work_dir));
            request.remote_launcher_program = Some(route.launcher_program.clone());
            request.remote_helper_program = Some(route.helper_program.clone());
            request.remote_launcher_request_path = Some(there(Handoffs::LaunchRequests)?);
            request.remote_helper_request_path = Some(there(Handoffs::Requests)?);
            request.remote_helper_result_path = Some(there(Handoffs::Results)?);
        }
        let path = self.run.handoff(Handoffs::TransportRequests, self.node_id);
        write_document(&path, &request)?;
        record.consumer_transport_request_path = Some(text(&path));
        Ok(path)
    }

    /// Has the host fulfil its own copy of the request, and writes the result for this machine.
    fn over_ssh(
        &self,
        route: &transport::Route,
        endpoint: Result<Endpoint, OutputsError>,
        request: &PreparedOutputRequestRecord,
        (request_path, result_path): (&Path, &Path),
        log: &mut dyn JobLog,
    ) -> Result<(), OutputsError> {
        let done = endpoint.and_then(|endpoint| {
            let errand = transport::Errand {
                route,
                endpoint: &endpoint,
                local: self.with,
                node_id: self.node_id,
                request,
                launch_path: &self.run.handoff(Handoffs::LaunchRequests, self.node_id),
                request_path,
                result_path,
                copy_dir: &self.run.dir().join(format!("copy-{}", self.node_id)),
            };
            errand.run(log)
        });
        let mut result = PreparedOutputResultRecord {
            schema_version: version::PREPARED_OUTPUT_HANDOFF,
            request_path: text(request_path),
            node_id: Some(request.node_id.clone()),
            output_name: Some(request.output_name.clone()),
            realized_path: Some(request.realized_path.clone()),
            status: crate::model::outputs::FulfillmentStatus::Succeeded,
            fulfilled_exposures_count: 0,
            fulfilled_exposures: Vec::new(),
            error: None,
        };
        if let Err(error) = done {
            result.status = crate::model::outputs::FulfillmentStatus::Failed;
            result.error = Some(crate::causes::with_causes(&error));
            write_document(result_path, &result)?;
            return Err(error);
        }
        if std::fs::symlink_metadata(self.realized).is_ok() {
            fulfill_prepared_output_request_result(request_path, Some(result_path), self.store_dir)?;
            return Ok(());
        }
        if self.residency != Residency::RemoteAuthoritativeStagedLinux {
            result.fulfilled_exposures.clone_from(&request.requested_exposures);
            result.fulfilled_exposures_count = result.fulfilled_exposures.len();
        }
        write_document(result_path, &result)
    }

    fn helper(&self) -> Result<&Path, OutputsError> {
        let missing = "there is no helper program: name it with JERICHOCI_PREPARED_OUTPUT_FULFILL_BINARY";
        self.with.helper.ok_or_else(|| OutputsError::Invalid(missing.to_owned()))
    }

    fn launcher(&self, named: Option<&str>) -> Result<PathBuf, OutputsError> {
        let missing =
            "there is no launcher program: name it with JERICHOCI_PREPARED_OUTPUT_FULFILL_LAUNCHER_BINARY";
        let own = || self.with.launcher.map(Path::to_path_buf);
        named.map(PathBuf::from).or_else(own).ok_or_else(|| OutputsError::Invalid(missing.to_owned()))
    }

    /// Runs a program of this machine.
    fn start(&self, command: Command, log: &mut dyn JobLog) -> Result<Exit, OutputsError> {
        self.with.start(self.with.host, &command.env(self.with.env.clone()), log)
    }
}

/// Appends what a helper has printed to the log.
pub(super) fn keep(log: &mut dyn JobLog, stdout: &[u8], stderr: &[u8]) -> Result<(), OutputsError> {
    let kept = log.write(stdout).and_then(|()| log.write(stderr));
    kept.map_err(|error| OutputsError::Host(jericho_host::HostError::Sink(error)))
}

pub(super) fn words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
    }
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
