//! Settings of how prepared outputs are handed over.
//!
//! | `JERICHOCI_PREPARED_OUTPUT_…` | what it says |
//! |---|---|
//! | `CONSUMER` | who makes outputs visible: nothing, or another than this process |
//! | `FULFILL_INVOCATION` | how a helper is started |
//! | `FULFILL_LAUNCHER_TRANSPORT` | how a launcher is reached |
//!
//! The variables for programs are read also when nothing of today's mode needs them: a rerun may. So are the last
//! two where this process makes the links, and there is nothing to start.

use std::path::{Path, PathBuf};

use jerichoci::config::OutputsConfig;
use jerichoci::model::job::JobSpec;
use jerichoci::run::outputs::mode::{Invocation, Mode, Transport};
use jerichoci::run::outputs::staged_linux_remote_defaults;

use super::{Origin, Places, Setting, Surroundings, variables as names};
use crate::error::CliError;

const HELPER: &str = "pikaci-fulfill-prepared-output";
const LAUNCHER: &str = "pikaci-launch-fulfill-prepared-output";

/// How prepared outputs are handed over, and where each value came from.
#[derive(Debug, Clone)]
pub(crate) struct Outputs {
    pub(crate) consumer: Setting<Option<String>>,
    config: OutputsConfig,
    /// A transport of a launcher, where the helper is started without one.
    without_launcher: Option<&'static str>,
}

impl Outputs {
    /// Of the environment, and of what is known of hosts.
    pub(super) fn resolve(surroundings: &Surroundings, places: &Places) -> Result<Self, CliError> {
        let read = Read { surroundings, origins: Vec::new(), ssh_origins: Vec::new() };
        read.outputs(places)
    }

    /// As the engine takes them.
    pub(super) fn config(&self) -> OutputsConfig {
        self.config.clone()
    }

    /// Whether a new run of these jobs can be what all words together say. A rerun has its own words, and of these
    /// only what its own leave open.
    pub(crate) fn check(&self, jobs: &[JobSpec]) -> Result<(), CliError> {
        let Some(word) = self.without_launcher.filter(|_| jobs.iter().any(|job| job.staged.is_some())) else {
            return Ok(());
        };
        let message = format!(
            "{}={word} is a way to reach a launcher, and direct_helper_exec_v1 starts the helper without one",
            names::LAUNCHER_TRANSPORT
        );
        let hint = format!(
            "export {}=external_wrapper_command_v1, or unset {}",
            names::INVOCATION,
            names::LAUNCHER_TRANSPORT
        );
        Err(CliError::usage(message).hint(hint))
    }
}

/// Reads, and notes what it has found.
struct Read<'s> {
    surroundings: &'s Surroundings,
    origins: Vec<(String, String)>,
    /// Of a transport over SSH, which may be used when the mode is another one.
    ssh_origins: Vec<(String, String)>,
}

/// How a helper is started, as it is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Direct,
    Wrapper,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Direct,
    Command,
    Ssh,
}

impl Read<'_> {
    fn outputs(mut self, places: &Places) -> Result<Outputs, CliError> {
        let consumer = self.one_of(
            names::CONSUMER,
            "consumer",
            &[("remote_request_v1", false), ("fulfill_request_cli_v1", true)],
        )?;
        let subprocess = self.subprocess()?;
        if let (true, Some(_)) = (subprocess, consumer) {
            let message = format!("{} is set, and {} names a consumer", names::SUBPROCESS, names::CONSUMER);
            return Err(CliError::usage(message).hint(format!("unset {}", names::CONSUMER)));
        }
        let start = self.one_of(
            names::INVOCATION,
            "invocation_mode",
            &[("direct_helper_exec_v1", Start::Direct), ("external_wrapper_command_v1", Start::Wrapper)],
        )?;
        let reach = self.one_of(
            names::LAUNCHER_TRANSPORT,
            "launcher_transport_mode",
            &[
                ("direct_launcher_exec_v1", Reach::Direct),
                ("command_transport_v1", Reach::Command),
                ("ssh_launcher_transport_v1", Reach::Ssh),
            ],
        )?;
        let helper = match self.path(names::HELPER_BINARY, "")? {
            None => self.sibling(HELPER),
            named => named,
        };
        let launcher = match self.path(names::LAUNCHER_BINARY, "invocation_wrapper_program")? {
            None => self.path(names::WRAPPER_BINARY, "invocation_wrapper_program")?,
            named => named,
        };
        let launcher = launcher.or_else(|| self.sibling(LAUNCHER));
        let ssh = self.ssh(places)?;
        let mode = match consumer {
            None if !subprocess => Mode::HostLocalSymlinks,
            Some(false) => Mode::RemoteRequest,
            None | Some(true) => {
                let invocation = match start.unwrap_or(Start::Direct) {
                    Start::Direct => Invocation::Direct,
                    Start::Wrapper => Invocation::Launcher {
                        program: launcher.as_deref().map(text),
                        transport: match reach.unwrap_or(Reach::Direct) {
                            Reach::Direct => Transport::Direct,
                            Reach::Command => Transport::Command { program: self.transport_program()? },
                            Reach::Ssh => ssh.clone(),
                        },
                    },
                };
                Mode::Fulfill { subprocess, invocation }
            }
        };
        let direct = matches!(mode, Mode::Fulfill { invocation: Invocation::Direct, .. });
        let without_launcher = reach.filter(|_| direct).and_then(|reach| match reach {
            Reach::Direct => None,
            Reach::Command => Some("command_transport_v1"),
            Reach::Ssh => Some("ssh_launcher_transport_v1"),
        });
        if subprocess {
            self.note("mode");
            self.note("consumer");
        }
        check_programs(&mode, helper.as_deref(), launcher.as_deref())?;
        let consumer = Setting {
            value: match mode {
                Mode::HostLocalSymlinks => None,
                Mode::RemoteRequest => Some("remote_request_v1".to_owned()),
                Mode::Fulfill { .. } => Some("fulfill_request_cli_v1".to_owned()),
            },
            origin: if consumer.is_some() || subprocess { Origin::Environment } else { Origin::Default },
        };
        let config = OutputsConfig {
            mode,
            helper_program: helper,
            launcher_program: launcher,
            ssh,
            origins: self.origins,
            ssh_origins: self.ssh_origins,
            ..OutputsConfig::default()
        };
        Ok(Outputs { consumer, config, without_launcher })
    }

    /// SSH to where the build host is.
    fn ssh(&mut self, places: &Places) -> Result<Transport, CliError> {
        let defaults = staged_linux_remote_defaults();
        let host = places.build_host().unwrap_or(defaults.ssh_host);
        let hosts = places.hosts();
        let launcher = self.text(names::REMOTE_LAUNCHER_BINARY, "")?;
        let helper = self.text(names::REMOTE_HELPER_BINARY, "")?;
        let of_variable = |is_set: bool| if is_set { Origin::Environment } else { Origin::Default };
        let [program, build_host, work_dir] = places.ssh_origins(host);
        self.ssh_origins = [
            ("program", program),
            ("host", build_host),
            ("remote_work_dir", work_dir),
            ("remote_launcher_program", of_variable(launcher.is_some())),
            ("remote_helper_program", of_variable(helper.is_some())),
        ]
        .map(|(field, origin)| {
            (format!("prepared_output_launcher_transport_{field}"), origin.word().to_owned())
        })
        .into();
        Ok(Transport::Ssh {
            program: Some(hosts.ssh_program.to_string_lossy().into_owned()),
            host: Some(host.to_owned()),
            remote_launcher_program: launcher.or_else(|| Some(defaults.remote_launcher_binary.to_owned())),
            remote_helper_program: helper.or_else(|| Some(defaults.remote_helper_binary.to_owned())),
            remote_work_dir: Some(text(&hosts.get(host).work_dir)),
        })
    }

    fn subprocess(&self) -> Result<bool, CliError> {
        const EXPECTED: &str = "one of 1, true, TRUE, yes, YES, 0, false, FALSE, no, NO";
        match self.surroundings.environment().get(names::SUBPROCESS).map(|value| value.to_str()) {
            None | Some(Some("0" | "false" | "FALSE" | "no" | "NO")) => Ok(false),
            Some(Some("1" | "true" | "TRUE" | "yes" | "YES")) => Ok(true),
            Some(_) => Err(self.surroundings.bad(names::SUBPROCESS, EXPECTED)),
        }
    }

    fn transport_program(&mut self) -> Result<String, CliError> {
        let program = self.text(names::TRANSPORT_BINARY, "launcher_transport_program")?;
        program.ok_or_else(|| {
            CliError::usage("command_transport_v1 has no transport program")
                .hint(format!("export {}=/path/to/program", names::TRANSPORT_BINARY))
        })
    }

    /// The value of one of these words.
    fn one_of<T: Copy>(
        &mut self,
        name: &str,
        field: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, CliError> {
        let Some(value) = self.surroundings.environment().get(name) else { return Ok(None) };
        match words.iter().find(|(word, _)| value == *word) {
            Some((_, meaning)) => {
                self.note(field);
                Ok(Some(*meaning))
            }
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(self.surroundings.bad(name, &format!("one of {}", words.join(", "))))
            }
        }
    }

    fn text(&mut self, name: &str, field: &str) -> Result<Option<String>, CliError> {
        let Some(value) = self.surroundings.environment().get(name) else { return Ok(None) };
        let value = value.to_str().filter(|value| !value.trim().is_empty());
        let value = value.ok_or_else(|| self.surroundings.bad(name, "a program"))?.to_owned();
        self.note(field);
        Ok(Some(value))
    }

    /// A program of this machine. A name without a slash is looked up where programs are.
    fn path(&mut self, name: &str, field: &str) -> Result<Option<PathBuf>, CliError> {
        let Some(value) = self.text(name, field)? else { return Ok(None) };
        match value.contains('/') {
            true => self.surroundings.absolute(Path::new(&value)).map(Some),
            false => Ok(Some(PathBuf::from(value))),
        }
    }

    /// A program beside this one, when this one is one of them.
    fn sibling(&self, name: &str) -> Option<PathBuf> {
        let own = self.surroundings.program()?;
        let is_known = [HELPER, LAUNCHER, "pikaci"].iter().any(|known| own.ends_with(known));
        is_known.then(|| own.with_file_name(name))
    }

    fn note(&mut self, field: &str) {
        if !field.is_empty() {
            self.origins.push((format!("prepared_output_{field}"), Origin::Environment.word().to_owned()));
        }
    }
}

/// A program that today's mode starts must be known.
fn check_programs(mode: &Mode, helper: Option<&Path>, launcher: Option<&Path>) -> Result<(), CliError> {
    let unknown = |what: &str, name: &str| {
        let message =
            format!("there is no {what}: this program is not called pikaci, so none lies beside it");
        Err(CliError::usage(message).hint(format!("export {name}=/path/to/program")))
    };
    let Mode::Fulfill { invocation, .. } = mode else { return Ok(()) };
    let over_ssh = matches!(invocation, Invocation::Launcher { transport: Transport::Ssh { .. }, .. });
    match invocation {
        _ if helper.is_none() && !over_ssh => unknown("helper", names::HELPER_BINARY),
        Invocation::Launcher { .. } if launcher.is_none() => unknown("launcher", names::LAUNCHER_BINARY),
        _ => Ok(()),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostFlags;
    use crate::exit::Exit;
    use crate::operator::Operator;

    fn resolved(variables: &[(&str, &str)]) -> Result<OutputsConfig, CliError> {
        let surroundings = Surroundings::with(variables);
        let places = Places::resolve(&surroundings, &HostFlags::default(), &Operator::default())?;
        Ok(Outputs::resolve(&surroundings, &places)?.config())
    }

    #[test]
    fn without_a_word_this_process_makes_the_links() {
        let config = resolved(&[]).unwrap();
        assert_eq!(config.mode, Mode::HostLocalSymlinks);
        assert_eq!(config.helper_program, Some("/opt/jericho/bin/pikaci-fulfill-prepared-output".into()));
        assert_eq!(config.origins, []);
        assert_eq!(resolved(&[(names::SUBPROCESS, "no")]).unwrap().mode, Mode::HostLocalSymlinks);
    }

    #[test]
    fn what_the_staged_lanes_script_exports_is_a_launcher_over_ssh() {
        let config = resolved(&[
            (names::SUBPROCESS, "1"),
            (names::INVOCATION, "external_wrapper_command_v1"),
            (names::LAUNCHER_TRANSPORT, "ssh_launcher_transport_v1"),
            (names::SSH_BINARY, "/bin/ssh"),
            (names::SSH_HOST, "box"),
            (names::REMOTE_WORK_DIR, "/work"),
            (names::REMOTE_LAUNCHER_BINARY, "/l"),
            (names::REMOTE_HELPER_BINARY, "/h"),
        ])
        .unwrap();
        let some = |text: &str| Some(text.to_owned());
        let transport = Transport::Ssh {
            program: some("/bin/ssh"),
            host: some("box"),
            remote_launcher_program: some("/l"),
            remote_helper_program: some("/h"),
            remote_work_dir: some("/work"),
        };
        let program = some("/opt/jericho/bin/pikaci-launch-fulfill-prepared-output");
        let invocation = Invocation::Launcher { program, transport };
        assert_eq!(config.mode, Mode::Fulfill { subprocess: true, invocation });
        let from =
            |field: &str| config.origins.iter().any(|(name, _)| name == &format!("prepared_output_{field}"));
        assert!(from("launcher_transport_mode") && from("mode") && !from("invocation_wrapper_program"));
        assert!(config.ssh_origins.iter().all(|(_, origin)| origin == "environment"), "{config:?}");
    }

    #[test]
    fn each_part_of_a_way_over_ssh_has_the_origin_of_its_value() {
        let file = "[hosts.pika-build]\nssh = \"box\"\nwork_dir = \"/of/file\"\n";
        let env = (names::REMOTE_WORK_DIR, "/of/env");
        let flag = HostFlags { remote_work_dir: Some("/of/flag".into()), ..HostFlags::default() };
        let none = HostFlags::default();
        // Of a command transport; SSH has a program of its own.
        let command = (names::TRANSPORT_BINARY, "/t");
        for (file, variables, flags, expected) in [
            (file, &[env, command][..], &flag, ["flag", "default", "default"]),
            (file, &[env, command], &none, ["environment", "default", "default"]),
            (file, &[command], &none, ["user", "default", "default"]),
            ("", &[command], &none, ["default", "default", "default"]),
            (
                "",
                &[(names::SSH_HOST, "x"), (names::SSH_BINARY, "/s")],
                &none,
                ["default", "environment", "environment"],
            ),
        ] {
            let surroundings = Surroundings::with(variables);
            let operator = Operator::parse("config.toml", file.as_bytes()).unwrap();
            let places = Places::resolve(&surroundings, flags, &operator).unwrap();
            let config = Outputs::resolve(&surroundings, &places).unwrap().config();
            let origin = |field: &str| {
                let name = format!("prepared_output_launcher_transport_{field}");
                config.ssh_origins.iter().find(|(known, _)| *known == name).unwrap().1.clone()
            };
            assert_eq!(["remote_work_dir", "host", "program"].map(origin), expected, "{variables:?}");
        }
    }

    #[test]
    fn the_older_name_of_the_launcher_counts_when_the_newer_is_not_set() {
        let fulfil =
            [(names::CONSUMER, "fulfill_request_cli_v1"), (names::INVOCATION, "external_wrapper_command_v1")];
        let launcher = |more: &[(&'static str, &'static str)]| {
            resolved(&[&fulfil[..], more].concat()).unwrap().launcher_program.unwrap()
        };
        assert_eq!(launcher(&[(names::WRAPPER_BINARY, "/old")]), PathBuf::from("/old"));
        assert_eq!(
            launcher(&[(names::WRAPPER_BINARY, "/old"), (names::LAUNCHER_BINARY, "/new")]),
            PathBuf::from("/new")
        );
    }

    #[test]
    fn a_word_that_is_none_and_what_cannot_be_together_is_wrong_usage() {
        let fulfil = (names::CONSUMER, "fulfill_request_cli_v1");
        for variables in [
            &[(names::CONSUMER, "host_local_symlink_mounts_v1")][..],
            &[(names::CONSUMER, "")],
            &[(names::SUBPROCESS, "")],
            &[(names::SUBPROCESS, "maybe")],
            &[(names::SUBPROCESS, "1"), fulfil],
            &[fulfil, (names::INVOCATION, "by hand")],
            &[fulfil, (names::LAUNCHER_TRANSPORT, "pigeon")],
            &[
                fulfil,
                (names::INVOCATION, "external_wrapper_command_v1"),
                (names::LAUNCHER_TRANSPORT, "command_transport_v1"),
            ],
        ] {
            assert_eq!(resolved(variables).unwrap_err().exit(), Exit::Usage, "{variables:?}");
        }
    }
}
