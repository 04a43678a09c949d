//! Which mode a run has: today's settings, or what an earlier run has recorded; but where the
//! build host is, is always today's.

use super::OutputsError;
use super::mode::{Invocation, Mode, Transport};
use crate::config::OutputsConfig;
use crate::model::job::{JobExecutionConfig, JobPlacement, JobPlacementKind, JobSpec};
use crate::model::record::SettingRecord;

/// Origin of a transport that is neither set nor repeated, but the only one for outputs of a host.
const FORCED: &str = "build host";

/// The mode of a run, with where each of its values came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The mode; every part of it is known.
    pub mode: Mode,
    /// Its values by the names of the record's fields, each with its origin.
    pub settings: Vec<SettingRecord>,
}

/// Chooses for a run of these jobs. `recorded` is the id of the run that is repeated and what it
/// recorded.
///
/// When a job is staged and remote, launcher, transport (SSH), program, host, remote programs and
/// work directory are today's, whatever was recorded: the build host may have moved since.
///
/// # Errors
/// [`OutputsError::Invalid`] for a mode that does not fit the jobs.
pub fn choose(
    jobs: &[JobSpec],
    recorded: Option<(&str, &Mode)>,
    today: &OutputsConfig,
) -> Result<Chosen, OutputsError> {
    let is_remote =
        |job: &JobSpec| job.staged.is_some() && job.placement.kind() == JobPlacementKind::RemoteSsh;
    let cut = jobs.iter().any(is_remote);
    let mode = match recorded {
        None => today.mode.clone(),
        Some((_, Mode::Fulfill { subprocess, invocation: Invocation::Launcher { .. } })) if cut => {
            let (program, transport) = launcher_of(today);
            let invocation = Invocation::Launcher { program, transport };
            Mode::Fulfill { subprocess: *subprocess, invocation }
        }
        Some((_, mode)) => mode.clone(),
    };
    let mode = complete(mode, today);
    check(&mode, jobs, recorded.is_some())?;
    let origin = |name: &str| {
        let of_launcher = name.starts_with("prepared_output_launcher_")
            || name == "prepared_output_invocation_wrapper_program";
        let of_ssh = over_ssh(&mode)
            && name.starts_with("prepared_output_launcher_transport_")
            && name != "prepared_output_launcher_transport_mode";
        let origins = if of_ssh { &today.ssh_origins } else { &today.origins };
        let known = || origins.iter().find(|(field, _)| field == name);
        match recorded {
            // Whatever is set or was recorded: nothing else reaches the host.
            Some((_, then))
                if cut
                    && name == "prepared_output_launcher_transport_mode"
                    && !(over_ssh(then) || over_ssh(&today.mode)) =>
            {
                FORCED.to_owned()
            }
            Some((run_id, mode)) if !(cut && of_launcher) && has_field(mode, name) => format!("run {run_id}"),
            _ => known().map_or_else(|| "default".to_owned(), |(_, origin)| origin.clone()),
        }
    };
    let settings = fields(&mode).into_iter();
    let settings =
        settings.map(|(name, value)| SettingRecord { origin: origin(name), name: name.to_owned(), value });
    Ok(Chosen { settings: settings.collect(), mode })
}

fn over_ssh(mode: &Mode) -> bool {
    let Mode::Fulfill { invocation: Invocation::Launcher { transport, .. }, .. } = mode else { return false };
    matches!(transport, Transport::Ssh { .. })
}

/// The launcher of today and an SSH transport, also when today's mode is another one.
fn launcher_of(today: &OutputsConfig) -> (Option<String>, Transport) {
    let own = || today.launcher_program.as_ref().map(|path| path.to_string_lossy().into_owned());
    match &today.mode {
        Mode::Fulfill { invocation: Invocation::Launcher { program, transport }, .. } => {
            let transport = match transport {
                Transport::Ssh { .. } => transport,
                _ => &today.ssh,
            };
            (program.clone().or_else(own), transport.clone())
        }
        _ => (own(), today.ssh.clone()),
    }
}

/// Puts today's values where nothing is said.
fn complete(mut mode: Mode, today: &OutputsConfig) -> Mode {
    let Mode::Fulfill { invocation: Invocation::Launcher { program, transport }, .. } = &mut mode else {
        return mode;
    };
    if program.is_none() {
        *program = today.launcher_program.as_ref().map(|path| path.to_string_lossy().into_owned());
    }
    if let (
        Transport::Ssh { program, host, remote_launcher_program, remote_helper_program, remote_work_dir },
        Transport::Ssh {
            program: today_program,
            host: today_host,
            remote_launcher_program: today_launcher,
            remote_helper_program: today_helper,
            remote_work_dir: today_work_dir,
        },
    ) = (transport, &today.ssh)
    {
        for (part, today) in [
            (program, today_program),
            (host, today_host),
            (remote_launcher_program, today_launcher),
            (remote_helper_program, today_helper),
            (remote_work_dir, today_work_dir),
        ] {
            if part.is_none() {
                part.clone_from(today);
            }
        }
    }
    mode
}

/// `repeated` is whether an earlier run had this mode: what is left of its jobs may need nothing of it.
fn check(mode: &Mode, jobs: &[JobSpec], repeated: bool) -> Result<(), OutputsError> {
    let invalid = |problem: String| Err(OutputsError::Invalid(problem));
    for job in jobs.iter().filter(|job| job.staged.is_some()) {
        if let JobPlacement::RemoteSsh { host } = &job.placement {
            check_remote(mode, &job.id, host)?;
        }
    }
    let staged = jobs.iter().find(|job| job.staged.is_some());
    match mode {
        Mode::RemoteRequest => match staged {
            Some(job) => invalid(format!(
                "the consumer remote_request_v1 only writes requests, and job `{}` needs its outputs",
                job.id
            )),
            None => Ok(()),
        },
        Mode::Fulfill { subprocess: true, .. } => {
            let other = jobs
                .iter()
                .find(|job| job.staged.is_none() && job.execution() != JobExecutionConfig::HOST_LOCAL);
            match (staged, other) {
                (None, _) if !repeated => invalid(
                    "subprocess fulfilment is for runs with a staged job: unset \
                     JERICHOCI_PRE_MERGE_PIKA_RUST_SUBPROCESS_FULFILL"
                        .to_owned(),
                ),
                (_, Some(job)) => invalid(format!(
                    "subprocess fulfilment is for staged jobs and host processes of this machine, and job `{}` is \
                     neither",
                    job.id
                )),
                _ => Ok(()),
            }
        }
        Mode::HostLocalSymlinks | Mode::Fulfill { .. } => Ok(()),
    }
}

/// The outputs of a staged job on a host are in the store of that host, so the helper has to run there.
fn check_remote(mode: &Mode, job: &str, host: &str) -> Result<(), OutputsError> {
    let invalid = |problem: String| Err(OutputsError::Invalid(problem));
    let Mode::Fulfill { invocation, .. } = mode else { return Ok(()) };
    let elsewhere = match invocation {
        Invocation::Direct => "direct_helper_exec_v1",
        Invocation::Launcher { transport: Transport::Direct, .. } => "direct_launcher_exec_v1",
        Invocation::Launcher { transport: Transport::Command { .. }, .. } => "command_transport_v1",
        Invocation::Launcher { transport: Transport::Ssh { host: Some(there), .. }, .. } if there != host => {
            return invalid(format!(
                "the outputs of job `{job}` are built on {host}, and the launcher is reached on {there}: set \
                 JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST={host}"
            ));
        }
        Invocation::Launcher { transport: Transport::Ssh { .. }, .. } => return Ok(()),
    };
    invalid(format!(
        "the outputs of job `{job}` are built on {host}, where {elsewhere} reaches no helper: set \
         JERICHOCI_PREPARED_OUTPUT_FULFILL_INVOCATION=external_wrapper_command_v1 and \
         JERICHOCI_PREPARED_OUTPUT_FULFILL_LAUNCHER_TRANSPORT=ssh_launcher_transport_v1, or unset \
         JERICHOCI_PREPARED_OUTPUT_CONSUMER and JERICHOCI_PRE_MERGE_PIKA_RUST_SUBPROCESS_FULFILL"
    ))
}

fn has_field(mode: &Mode, name: &str) -> bool {
    fields(mode).iter().any(|(field, _)| *field == name)
}

/// The values of a mode by the names of the record's fields; what is absent is left out.
fn fields(mode: &Mode) -> Vec<(&'static str, String)> {
    let mut fields = vec![("prepared_output_consumer", word(&mode.consumer()))];
    let Mode::Fulfill { subprocess, invocation } = mode else { return fields };
    if *subprocess {
        fields.push(("prepared_output_mode", super::mode::SUBPROCESS_MODE.to_owned()));
    }
    let Invocation::Launcher { program, transport } = invocation else {
        fields.push(("prepared_output_invocation_mode", "direct_helper_exec_v1".to_owned()));
        return fields;
    };
    fields.push(("prepared_output_invocation_mode", "external_wrapper_command_v1".to_owned()));
    let mut add = |name, value: &Option<String>| fields.extend(value.clone().map(|value| (name, value)));
    add("prepared_output_invocation_wrapper_program", program);
    let (mode, rest): (&str, &[(&'static str, &Option<String>)]) = match transport {
        Transport::Direct => ("direct_launcher_exec_v1", &[]),
        Transport::Command { program } => {
            add("prepared_output_launcher_transport_program", &Some(program.clone()));
            ("command_transport_v1", &[])
        }
        Transport::Ssh { program, host, remote_launcher_program, remote_helper_program, remote_work_dir } => {
            (
                "ssh_launcher_transport_v1",
                &[
                    ("prepared_output_launcher_transport_program", program),
                    ("prepared_output_launcher_transport_host", host),
                    ("prepared_output_launcher_transport_remote_launcher_program", remote_launcher_program),
                    ("prepared_output_launcher_transport_remote_helper_program", remote_helper_program),
                    ("prepared_output_launcher_transport_remote_work_dir", remote_work_dir),
                ],
            )
        }
    };
    add("prepared_output_launcher_transport_mode", &Some(mode.to_owned()));
    for (name, value) in rest {
        add(name, value);
    }
    fields
}

/// A word of an enum as records have it.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::job::{GuestCommand, IncusRuntimeConfig, JobRuntimeConfig};
    use crate::model::staged::{
        StagedLinuxCommandConfig, StagedLinuxRustPayloadRole, StagedLinuxRustTargetPayloadSpec,
        StagedLinuxSnapshotProfile,
    };

    fn plain(id: &str) -> JobSpec {
        JobSpec::host_process(id, GuestCommand::HostShellCommand { command: "true".into() })
    }

    fn staged(placement: JobPlacement) -> JobSpec {
        let payload = |role, name: &str| StagedLinuxRustTargetPayloadSpec { role, output_name: name.into() };
        let mut job = plain("a");
        job.placement = placement;
        job.staged = Some(StagedLinuxCommandConfig {
            prefix: "p".into(),
            profile: StagedLinuxSnapshotProfile::Rust,
            deps: payload(StagedLinuxRustPayloadRole::WorkspaceDeps, "d"),
            build: payload(StagedLinuxRustPayloadRole::WorkspaceBuild, "b"),
            wrapper: "w".into(),
        });
        job
    }

    fn remote() -> JobSpec {
        staged(JobPlacement::RemoteSsh { host: "host of today".into() })
    }

    fn ssh(place: &str) -> Transport {
        let some = |what: &str| Some(format!("{what} of {place}"));
        Transport::Ssh {
            program: some("ssh"),
            host: some("host"),
            remote_launcher_program: some("launcher"),
            remote_helper_program: some("helper"),
            remote_work_dir: some("/work"),
        }
    }

    fn launched(program: &str, transport: Transport) -> Mode {
        let invocation = Invocation::Launcher { program: Some(program.into()), transport };
        Mode::Fulfill { subprocess: false, invocation }
    }

    fn today() -> OutputsConfig {
        OutputsConfig {
            launcher_program: Some("/today/launcher".into()),
            ssh: ssh("today"),
            ssh_origins: vec![("prepared_output_launcher_transport_host".into(), "environment".into())],
            ..OutputsConfig::default()
        }
    }

    #[test]
    fn a_rerun_of_a_remote_staged_job_goes_where_the_build_host_is_now() {
        let then = launched("/then/launcher", ssh("then"));
        for mode in [Mode::HostLocalSymlinks, launched("/today/launcher", ssh("today"))] {
            let today = OutputsConfig { mode, ..today() };
            let chosen = choose(&[remote(), plain("x")], Some(("r", &then)), &today).unwrap();
            assert_eq!(chosen.mode, launched("/today/launcher", ssh("today")));
            let origin = |name: &str| {
                chosen.settings.iter().find(|setting| setting.name == name).unwrap().origin.clone()
            };
            assert_eq!(origin("prepared_output_consumer"), "run r");
            assert_eq!(origin("prepared_output_invocation_mode"), "run r");
            assert_eq!(origin("prepared_output_launcher_transport_host"), "environment");
            assert_eq!(origin("prepared_output_launcher_transport_remote_work_dir"), "default");
            assert_eq!(origin("prepared_output_invocation_wrapper_program"), "default");
        }
        // Whatever the transport was, it is SSH now.
        let then = launched("/then/launcher", Transport::Command { program: "/t".into() });
        let chosen = choose(&[remote()], Some(("r", &then)), &today()).unwrap();
        assert_eq!(chosen.mode, launched("/today/launcher", ssh("today")));
    }

    #[test]
    fn a_transport_that_is_neither_set_nor_repeated_has_a_word_of_its_own() {
        let command = launched("/l", Transport::Command { program: "/t".into() });
        let named =
            |name: &str| (format!("prepared_output_launcher_transport_{name}"), "environment".to_owned());
        let today = OutputsConfig {
            mode: command.clone(),
            origins: vec![named("mode"), named("program")],
            ..today()
        };
        let chosen = choose(&[remote()], Some(("r", &command)), &today).unwrap();
        let origin = |name: &str| {
            let name = format!("prepared_output_launcher_transport_{name}");
            chosen.settings.iter().find(|setting| setting.name == name).unwrap().origin.clone()
        };
        let origins = ["mode", "program", "host"].map(origin);
        assert_eq!(origins, ["build host", "default", "environment"]);
    }

    #[test]
    fn a_rerun_without_a_remote_staged_job_uses_what_was_recorded() {
        let mut plain_remote = plain("x");
        plain_remote.placement = JobPlacement::RemoteSsh { host: "h".into() };
        for mode in [
            launched("/then/launcher", ssh("then")),
            Mode::Fulfill { subprocess: false, invocation: Invocation::Direct },
        ] {
            let jobs = [staged(JobPlacement::Local), plain_remote.clone()];
            let chosen = choose(&jobs, Some(("r", &mode)), &today()).unwrap();
            assert_eq!(chosen.mode, mode);
            assert!(chosen.settings.iter().all(|setting| setting.origin == "run r"), "{chosen:?}");
        }
        // What depends on no host is repeated for remote jobs too.
        let links = Mode::HostLocalSymlinks;
        assert_eq!(choose(&[remote()], Some(("r", &links)), &today()).unwrap().mode, links);
    }

    #[test]
    fn what_is_left_of_a_run_may_have_no_staged_job() {
        let subprocess = Mode::Fulfill { subprocess: true, invocation: Invocation::Direct };
        let chosen = choose(&[plain("x")], Some(("r", &subprocess)), &today()).unwrap();
        assert_eq!(chosen.mode, subprocess);
    }

    #[test]
    fn outputs_of_a_host_are_handed_over_there_and_nowhere_else() {
        let direct = Mode::Fulfill { subprocess: false, invocation: Invocation::Direct };
        let command = Transport::Command { program: "/t".into() };
        let elsewhere = launched("/l", ssh("another place"));
        let refused = |mode: &Mode, recorded| {
            let today = OutputsConfig { mode: mode.clone(), ..today() };
            choose(&[remote()], recorded, &today).unwrap_err().to_string()
        };
        let said = refused(&elsewhere, None);
        assert!(said.contains("on host of today") && said.contains("on host of another place"), "{said}");
        assert!(said.contains("FULFILL_SSH_HOST=host of today"), "{said}");
        assert!(refused(&direct, None).contains("direct_helper_exec_v1"));
        assert!(refused(&direct, Some(("r", &direct))).contains("built on host of today"));
        assert!(refused(&launched("/l", Transport::Direct), None).contains("ssh_launcher_transport_v1"));
        assert!(refused(&launched("/l", command), None).contains("command_transport_v1"));
        // Of this machine an output is copied to wherever the launcher is.
        let jobs = [staged(JobPlacement::Local)];
        choose(&jobs, None, &OutputsConfig { mode: elsewhere, ..today() }).unwrap();
    }

    #[test]
    fn a_run_and_its_rerun_in_one_environment_choose_the_same_mode() {
        let direct = Mode::Fulfill { subprocess: false, invocation: Invocation::Direct };
        let modes = [
            Mode::HostLocalSymlinks,
            direct,
            launched("/l", Transport::Direct),
            launched("/l", Transport::Command { program: "/t".into() }),
            launched("/l", ssh("today")),
        ];
        for (jobs, possible) in [([remote()], 2), ([staged(JobPlacement::Local)], 5)] {
            let chosen = modes.iter().filter_map(|mode| {
                let today = OutputsConfig { mode: mode.clone(), ..today() };
                let first = choose(&jobs, None, &today).ok()?.mode;
                let again = choose(&jobs, Some(("r", &first)), &today).unwrap().mode;
                Some((first, again))
            });
            let chosen: Vec<_> = chosen.collect();
            assert!(chosen.iter().all(|(first, again)| first == again), "{chosen:?}");
            assert_eq!(chosen.len(), possible);
        }
    }

    #[test]
    fn what_a_record_left_open_is_todays() {
        let open = Transport::Ssh {
            program: None,
            host: None,
            remote_launcher_program: None,
            remote_helper_program: None,
            remote_work_dir: None,
        };
        let then = Mode::Fulfill {
            subprocess: false,
            invocation: Invocation::Launcher { program: None, transport: open },
        };
        let chosen = choose(&[staged(JobPlacement::Local)], Some(("r", &then)), &today()).unwrap();
        assert_eq!(chosen.mode, launched("/today/launcher", ssh("today")));
    }

    #[test]
    fn a_mode_that_does_not_fit_the_jobs_is_refused() {
        let with = |mode| OutputsConfig { mode, ..today() };
        let refused = |jobs: &[JobSpec], mode| choose(jobs, None, &with(mode)).unwrap_err().to_string();
        assert!(refused(&[remote()], Mode::RemoteRequest).contains("remote_request_v1"));
        choose(&[plain("x")], None, &with(Mode::RemoteRequest)).unwrap();
        let subprocess = Mode::Fulfill { subprocess: true, invocation: Invocation::Direct };
        assert!(refused(&[plain("x")], subprocess.clone()).contains("with a staged job"));
        assert!(refused(&[plain("x")], subprocess.clone()).contains("unset JERICHOCI_PRE_MERGE"));
        let mut guest = plain("guest");
        guest.runtime = JobRuntimeConfig::Incus(IncusRuntimeConfig::default());
        let here = || staged(JobPlacement::Local);
        assert!(refused(&[here(), guest], subprocess.clone()).contains("`guest` is neither"));
        choose(&[here(), plain("x")], None, &with(subprocess)).unwrap();
    }
}
