//! Consumer, invocation and launcher transport: every combination of them, for outputs of this machine and of a host.
//! What is possible runs to its end; what is not is refused before nix is asked anything.

use std::fs;
use std::path::{Path, PathBuf};

use jericho_testkit::program::guest_programs;
use jericho_testkit::{built_program, ssh};
use jerichoci::model::outcome::Verdict;
use jerichoci::model::outputs::{
    Consumer, InvocationMode, LauncherTransportMode, PreparedOutputRecord, PreparedOutputRequestRecord,
    PreparedOutputTransportRequestRecord, Residency, TransportPathContract,
};
use jerichoci::model::record::RunRecord;
use jerichoci::run::outputs::mode::SUBPROCESS_MODE;

use crate::rig::{Tree, document};

/// Where the outputs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Here,
    Host,
}

/// The variable that chooses a consumer, and its value; and who makes the links then.
const CONSUMERS: [(Option<(&str, &str)>, Consumer); 4] = [
    (None, Consumer::HostLocalSymlinkMountsV1),
    (Some(("JERICHOCI_PREPARED_OUTPUT_CONSUMER", "fulfill_request_cli_v1")), Consumer::FulfillRequestCliV1),
    (Some(("JERICHOCI_PRE_MERGE_PIKA_RUST_SUBPROCESS_FULFILL", "1")), Consumer::FulfillRequestCliV1),
    (Some(("JERICHOCI_PREPARED_OUTPUT_CONSUMER", "remote_request_v1")), Consumer::RemoteExposureRequestV1),
];

const INVOCATIONS: [(Option<&str>, InvocationMode); 3] = [
    (None, InvocationMode::DirectHelperExecV1),
    (Some("direct_helper_exec_v1"), InvocationMode::DirectHelperExecV1),
    (Some("external_wrapper_command_v1"), InvocationMode::ExternalWrapperCommandV1),
];

const TRANSPORTS: [(Option<&str>, LauncherTransportMode); 4] = [
    (None, LauncherTransportMode::DirectLauncherExecV1),
    (Some("direct_launcher_exec_v1"), LauncherTransportMode::DirectLauncherExecV1),
    (Some("command_transport_v1"), LauncherTransportMode::CommandTransportV1),
    (Some("ssh_launcher_transport_v1"), LauncherTransportMode::SshLauncherTransportV1),
];

/// What becomes of a combination.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The job passes, and for each output these are started, in this order.
    Passes(&'static [&'static str]),
    /// Wrong usage, in these words.
    Usage(&'static str),
    /// A run that failed before it did anything, in these words.
    Refused(&'static str),
}

fn end(
    place: Place,
    consumer: Consumer,
    invocation: InvocationMode,
    transport: LauncherTransportMode,
) -> End {
    use InvocationMode::{DirectHelperExecV1 as Direct, ExternalWrapperCommandV1 as Wrapper};
    use LauncherTransportMode::{
        CommandTransportV1 as Command, DirectLauncherExecV1 as Same, SshLauncherTransportV1 as Ssh,
    };
    match (consumer, invocation, transport) {
        // Nothing is started: the other words are for reruns of runs that did.
        (Consumer::HostLocalSymlinkMountsV1, ..) => End::Passes(&[]),
        (Consumer::FulfillRequestCliV1, Direct, Command | Ssh) => End::Usage(
            "is a way to reach a launcher, and direct_helper_exec_v1 starts the helper without one",
        ),
        (Consumer::RemoteExposureRequestV1, ..) => {
            End::Refused("remote_request_v1 only writes requests, and job `check` needs its outputs")
        }
        (_, Wrapper, Ssh) => End::Passes(&["remote-launcher", "remote-helper"]),
        (_, Direct, _) if place == Place::Host => End::Refused("direct_helper_exec_v1 reaches no helper"),
        (_, Wrapper, Same) if place == Place::Host => {
            End::Refused("direct_launcher_exec_v1 reaches no helper")
        }
        (_, Wrapper, Command) if place == Place::Host => {
            End::Refused("command_transport_v1 reaches no helper")
        }
        (_, Direct, _) => End::Passes(&["helper"]),
        (_, Wrapper, Same) => End::Passes(&["launcher", "helper"]),
        (_, Wrapper, Command) => End::Passes(&["transport", "launcher", "helper"]),
    }
}

/// A tree, a host, and programs for each part that write down that they were started.
struct Stage {
    tree: Tree,
    place: Place,
    work: PathBuf,
    started: PathBuf,
    config: String,
    variables: Vec<(&'static str, String)>,
    _sshd: ssh::Rig,
}

impl Stage {
    fn set(test: &str, place: Place) -> Option<Self> {
        let (tree, sshd) = (Tree::new(test)?, ssh::Rig::start(test)?);
        let runners = guest_programs(test)?;
        let (started, work) = (tree.beside().join("started"), tree.beside().join("work"));
        fs::write(&started, "").unwrap();
        let program = |name: &str, text: &str| {
            tree.script(name, &format!("echo {name} >> '{}'\n{text}", started.display()))
        };
        let helper = format!(
            "export NIX_STORE_DIR='{}'; exec '{}' \"$@\"",
            tree.nix.store().display(),
            built_program!("pikaci-fulfill-prepared-output").display()
        );
        let launcher =
            format!("exec '{}' \"$@\"", built_program!("pikaci-launch-fulfill-prepared-output").display());
        let transport = "field() { sed -n \"s/^  \\\"$1\\\": \\\"\\(.*\\)\\\",*$/\\1/p\" \"$2\"; }\n\
             exec \"$(field launcher_program \"$1\")\" \"$(field launcher_request_path \"$1\")\"";
        let ssh = tree.script("ssh", &format!("exec ssh -F {} \"$@\"", sshd.config().display()));
        let variables = vec![
            ("JERICHOCI_PREPARED_OUTPUT_FULFILL_BINARY", program("helper", &helper)),
            ("JERICHOCI_PREPARED_OUTPUT_FULFILL_LAUNCHER_BINARY", program("launcher", &launcher)),
            ("JERICHOCI_PREPARED_OUTPUT_FULFILL_TRANSPORT_BINARY", program("transport", transport)),
            ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY", ssh),
            ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST", "rig".to_owned()),
            ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR", work.to_string_lossy().into_owned()),
            (
                "JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_LAUNCHER_BINARY",
                program("remote-launcher", &launcher),
            ),
            ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_HELPER_BINARY", program("remote-helper", &helper)),
            ("JERICHOCI_GUEST_RUNNER_DIR", runners.to_string_lossy().into_owned()),
        ];
        let nix = tree.nix.program_alone().unwrap();
        let host =
            format!("[hosts.rig]\nssh = \"rig\"\nallow = [\"host_process\"]\nnix = \"{}\"\n", nix.display());
        let config = tree.beside().join("config.toml");
        fs::write(&config, host).unwrap();
        let config = config.to_string_lossy().into_owned();
        if place == Place::Host {
            let targets = tree.root.join("jericho.toml");
            let text = fs::read_to_string(&targets).unwrap();
            fs::write(&targets, format!("{text}on = \"rig\"\nruntime = \"host_process\"\n")).unwrap();
        }
        Some(Self { tree, place, work, started, config, variables, _sshd: sshd })
    }

    /// Runs one combination of words, and looks at all that it has done.
    fn play(&self, words: &[(&str, &str)], expected: &End, told: &str) -> Option<RunRecord> {
        fs::write(&self.started, "").unwrap();
        self.tree.nix.take_calls().unwrap();
        let known = self.runs_there();
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, &**value)).collect();
        let output = self.tree.pikaci(
            &["--config", &self.config, "run", "--no-git", "--output", "json"],
            &[&variables[..], words].concat(),
        );
        let said = String::from_utf8_lossy(&output.stderr);
        let run: Option<RunRecord> = serde_json::from_slice(&output.stdout).ok();
        let started = fs::read_to_string(&self.started).unwrap();
        let started: Vec<&str> = started.lines().collect();
        match expected {
            End::Passes(each) => {
                assert_eq!(output.status.code(), Some(0), "{told}: {run:#?} {said}");
                assert_eq!(started, each.repeat(2), "{told}");
                assert_eq!(self.runs_there(), 0, "{told}: something of the run is left on the host");
                return run;
            }
            End::Usage(why) => {
                assert_eq!((output.status.code(), &run), (Some(2), &None), "{told}: {said}");
                assert!(said.contains(why), "{told}: {said}");
            }
            End::Refused(why) => {
                let run = run.unwrap_or_else(|| panic!("{told}: {said}"));
                assert_eq!(output.status.code(), Some(3), "{told}: {run:#?}");
                let message = run.message.as_deref().unwrap_or_default();
                assert!(message.contains(why), "{told}: {run:#?}");
                assert!(run.prepares.iter().all(|node| node.verdict != Verdict::Passed), "{told}");
            }
        }
        assert_eq!(self.tree.nix.take_calls().unwrap(), <[String; 0]>::default(), "{told}: nix was asked");
        assert_eq!((started, self.runs_there()), (Vec::new(), known), "{told}");
        None
    }

    fn runs_there(&self) -> usize {
        fs::read_dir(self.work.join("runs")).map_or(0, Iterator::count)
    }

    /// A combination is in the record as it was meant, and each output has the documents of it.
    fn check(
        &self,
        run: &RunRecord,
        consumer: Consumer,
        invocation: InvocationMode,
        transport: LauncherTransportMode,
        told: &str,
    ) {
        let starts = consumer == Consumer::FulfillRequestCliV1;
        let launches = starts && invocation == InvocationMode::ExternalWrapperCommandV1;
        let over_ssh = launches && transport == LauncherTransportMode::SshLauncherTransportV1;
        assert_eq!(run.verdict, Verdict::Passed, "{told}: {run:#?}");
        assert_eq!(run.prepared_output_consumer, Some(consumer), "{told}");
        assert_eq!(run.prepared_output_invocation_mode, starts.then_some(invocation), "{told}");
        assert_eq!(run.prepared_output_launcher_transport_mode, launches.then_some(transport), "{told}");
        let variable = |name: &str| {
            let name = format!("JERICHOCI_PREPARED_OUTPUT_FULFILL_{name}");
            self.variables.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.clone())
        };
        let of_transport = match transport {
            LauncherTransportMode::CommandTransportV1 => variable("TRANSPORT_BINARY"),
            LauncherTransportMode::SshLauncherTransportV1 => variable("SSH_BINARY"),
            _ => None,
        };
        let [launcher, program] =
            [variable("LAUNCHER_BINARY"), of_transport].map(|it| it.filter(|_| launches));
        assert_eq!(run.prepared_output_invocation_wrapper_program, launcher, "{told}");
        assert_eq!(run.prepared_output_launcher_transport_program, program, "{told}");
        for (field, name) in [
            (&run.prepared_output_launcher_transport_host, "SSH_HOST"),
            (&run.prepared_output_launcher_transport_remote_work_dir, "SSH_REMOTE_WORK_DIR"),
            (&run.prepared_output_launcher_transport_remote_launcher_program, "SSH_REMOTE_LAUNCHER_BINARY"),
            (&run.prepared_output_launcher_transport_remote_helper_program, "SSH_REMOTE_HELPER_BINARY"),
        ] {
            assert_eq!(*field, variable(name).filter(|_| over_ssh), "{told}: {name}");
        }
        let dir = Path::new(run.prepared_outputs_path.as_ref().unwrap()).parent().unwrap();
        assert!(!dir.join("roots").exists(), "{told}: the run still holds its outputs");
        let log = fs::read_to_string(dir.join("jobs/check/host.log")).unwrap();
        assert_eq!(log.lines().last(), Some("checked"), "{told}: {log}");
        let outputs = self.tree.outputs(run).outputs;
        let names: Vec<&str> = outputs.iter().map(|output| &*output.output_name).collect();
        assert_eq!(names, ["ci.x86_64-linux.deps", "ci.x86_64-linux.build"], "{told}");
        for output in &outputs {
            assert_eq!(output.consumer, consumer, "{told}");
            assert!(
                Path::new(&output.realized_path).starts_with(self.tree.nix.store()),
                "{told}: {output:?}"
            );
            assert!(output.payload.is_some(), "{told}: {output:?}");
            let documents = [
                (&output.consumer_request_path, starts),
                (&output.consumer_result_path, starts),
                (&output.consumer_launch_request_path, launches),
                (
                    &output.consumer_transport_request_path,
                    launches && transport != LauncherTransportMode::DirectLauncherExecV1,
                ),
            ];
            for (path, is_there) in documents {
                let found = path.as_ref().is_some_and(|path| Path::new(path).exists());
                assert_eq!((path.is_some(), found), (is_there, is_there), "{told}: {output:?}");
            }
            self.check_documents(output, starts, told);
        }
        let wanted = match self.place {
            Place::Here => Residency::LocalAuthoritative,
            Place::Host => Residency::RemoteAuthoritativeStagedLinux,
        };
        assert!(outputs.iter().all(|output| output.residency == wanted), "{told}: {outputs:?}");
    }

    fn check_documents(&self, output: &PreparedOutputRecord, starts: bool, told: &str) {
        let shown = output.exposures.iter().chain(&output.requested_exposures);
        let shown: Vec<_> = shown.map(|exposure| PathBuf::from(&exposure.path)).collect();
        assert!(!shown.is_empty(), "{told}: {output:?}");
        for link in &shown {
            // Both stores are one here, so that a link is made on this machine as well.
            let target = fs::read_link(link).unwrap_or_else(|error| panic!("{told}: {link:?}: {error}"));
            assert_eq!(target, Path::new(&output.realized_path), "{told}");
        }
        if starts {
            assert_eq!(output.exposures, output.requested_exposures, "{told}");
            let request: PreparedOutputRequestRecord =
                document(output.consumer_request_path.as_ref().unwrap());
            assert_eq!(request.requested_exposures, output.requested_exposures, "{told}");
            assert_eq!(request.realized_path, output.realized_path, "{told}");
        }
        let Some(transport) = &output.consumer_transport_request_path else { return };
        let transport: PreparedOutputTransportRequestRecord = document(transport);
        let there = transport.remote_helper_request_path;
        match transport.path_contract {
            TransportPathContract::SameHostAbsolutePathsV1 => assert_eq!(there, None, "{told}"),
            TransportPathContract::SshRemoteWorkDirTranslationV1 => {
                assert!(Path::new(&there.unwrap()).starts_with(self.work.join("runs")), "{told}");
            }
        }
    }
}

fn every_combination(test: &str, place: Place) {
    let Some(stage) = Stage::set(test, place) else { return };
    let mut count = [0; 2];
    for (consumer_word, consumer) in CONSUMERS {
        for (invocation_word, invocation) in INVOCATIONS {
            for (transport_word, transport) in TRANSPORTS {
                let mut words: Vec<(&str, &str)> = consumer_word.into_iter().collect();
                let named = |name, word: Option<&'static str>| word.map(|word| (name, word));
                words.extend(named("JERICHOCI_PREPARED_OUTPUT_FULFILL_INVOCATION", invocation_word));
                words.extend(named("JERICHOCI_PREPARED_OUTPUT_FULFILL_LAUNCHER_TRANSPORT", transport_word));
                let told = format!("{place:?} {words:?}");
                let expected = end(place, consumer, invocation, transport);
                let run = stage.play(&words, &expected, &told);
                count[usize::from(run.is_none())] += 1;
                let Some(run) = run else { continue };
                stage.check(&run, consumer, invocation, transport, &told);
                let subprocess = consumer_word.is_some_and(|(name, _)| name.ends_with("SUBPROCESS_FULFILL"));
                let mode = subprocess.then(|| SUBPROCESS_MODE.to_owned());
                assert_eq!(run.prepared_output_mode, mode, "{told}");
            }
        }
    }
    let possible = match place {
        Place::Here => [12 + 2 * 8, 2 * 4 + 12],
        Place::Host => [12 + 2, 2 * 11 + 12],
    };
    assert_eq!(count, possible);
}

#[test]
fn every_way_to_hand_outputs_of_this_machine_over_works_or_is_refused() {
    let test = "every_way_to_hand_outputs_of_this_machine_over_works_or_is_refused";
    every_combination(test, Place::Here);
}

#[test]
fn every_way_to_hand_outputs_of_a_host_over_works_or_is_refused() {
    let test = "every_way_to_hand_outputs_of_a_host_over_works_or_is_refused";
    every_combination(test, Place::Host);
}
