//! Staged jobs in guests, here and on a host over SSH, where everything is built there and nothing comes here.

use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use jericho_host::{CancelToken, Command, Host as _, LocalHost};
use jericho_testkit::incus::Rig;
use jericho_testkit::need::needs_program;
use jericho_testkit::{nix, ssh};
use jerichoci::config::HostConfig;
use jerichoci::model::job::{JobPlacement, JobSpec};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::outputs::{PreparedOutputsRecord, Residency};
use jerichoci::model::record::RunRecord;
use jerichoci::model::staged::{
    StagedLinuxCommandConfig, StagedLinuxRustPayloadRole, StagedLinuxRustTargetPayloadSpec,
    StagedLinuxSnapshotProfile,
};
use jerichoci::run::reap::ReapOptions;
use jerichoci::shell::ShellRequest;
use jerichoci::{Engine, GcPolicy, RunRequest};
use pika_cloud::ops::Console;

use crate::rig::{World, guest, incus, job, on_host};

const FLAKE: &str = r#"{ outputs = { self }: let
  manifest = kind: name: path: builtins.toJSON {
    schema_version = 1; inherit kind;
    mounts = [ { inherit name; relative_path = "."; guest_path = path; read_only = true; } ];
  };
  make = name: script: manifest: derivation {
    inherit name manifest; system = "x86_64-linux"; builder = "@BASH@"; PATH = "@PATH@";
    passAsFile = [ "manifest" ];
    args = [ "-euc" "mkdir -p $out/bin $out/share/jerichoci; cp $manifestPath $out/share/jerichoci/payload-manifest.json; ${script}
:" ];
  };
in { ci.x86_64-linux = {
  deps = make "deps" "echo from the deps > $out/lib" (manifest "staged_linux_workspace_deps_v1" "workspace_deps_root" "/staged/linux-rust/workspace-deps");
  build = make "build" ''
    printf '#!/bin/sh\nid -u\ncat /staged/linux-rust/workspace-deps/lib\ntouch /staged/linux-rust/workspace-build/x 2>/dev/null || echo read-only\n' > $out/bin/run-test
    printf '#!/bin/sh\nexit 1\n' > $out/bin/run-bad
    chmod +x $out/bin/*'' (manifest "staged_linux_workspace_build_v1" "workspace_build_root" "/staged/linux-rust/workspace-build");
}; }; }"#;

fn staged(id: &str) -> JobSpec {
    let payload = |role, name: &str| StagedLinuxRustTargetPayloadSpec { role, output_name: name.into() };
    let mut job = on_host(guest(id, "false"));
    job.staged = Some(StagedLinuxCommandConfig {
        prefix: "t".into(),
        profile: StagedLinuxSnapshotProfile::Rust,
        deps: payload(StagedLinuxRustPayloadRole::WorkspaceDeps, "ci.x86_64-linux.deps"),
        build: payload(StagedLinuxRustPayloadRole::WorkspaceBuild, "ci.x86_64-linux.build"),
        wrapper: "run-test".into(),
    });
    job
}

/// A host with a nix of its own; this machine has none.
fn with_nix<'a>(mut world: World<'a>, nix: &nix::Rig) -> World<'a> {
    world.config.hosts.named.get_mut("box").unwrap().nix_program =
        nix.program_alone().unwrap().to_string_lossy().into_owned();
    world.config.nix_program = "/nonexistent/nix".into();
    let path = nix.environment().into_iter().find(|(name, _)| name == "PATH").unwrap().1;
    let flake = FLAKE.replace("@BASH@", &nix.bash().to_string_lossy());
    let flake = flake.replace("@PATH@", &path.to_string_lossy());
    fs::write(world.root.join("flake.nix"), flake).unwrap();
    world
}

/// The same on this machine.
fn with_local_nix<'a>(mut world: World<'a>, nix: &nix::Rig) -> World<'a> {
    world.config.hosts.named.insert("box".to_owned(), HostConfig::new("nowhere"));
    let mut world = with_nix(world, nix);
    world.config.hosts.named.clear();
    world.config.nix_program = nix.program_alone().unwrap();
    for (name, value) in nix.environment() {
        if name == "XDG_CACHE_HOME" {
            world.config.caller_environment.set(name, value);
        }
    }
    world
}

fn outputs(run: &RunRecord) -> PreparedOutputsRecord {
    serde_json::from_slice(&fs::read(run.prepared_outputs_path.as_ref().unwrap()).unwrap()).unwrap()
}

#[test]
fn a_staged_job_of_a_host_is_built_there_and_runs_in_a_guest_there() {
    let test = "a_staged_job_of_a_host_is_built_there_and_runs_in_a_guest_there";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    if !needs_program(test, "nix") {
        return;
    }
    let project = rig.project(4).unwrap();
    let nix = nix::Rig::below(project.dir()).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let world = with_nix(world.with_host(&sshd), &nix);
    let run = world.run(vec![staged("a"), staged("b")]);
    println!("{}", world.host_log(&run, "a"));
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(world.guest_log(&run, "a"), "1000\nfrom the deps\nread-only\n");

    let record = outputs(&run);
    assert_eq!(record.outputs.len(), 2);
    for output in &record.outputs {
        assert_eq!(output.residency, Residency::RemoteAuthoritativeStagedLinux);
        assert!(Path::new(&output.realized_path).starts_with(nix.store()), "{output:?}");
        assert_eq!(output.payload.as_ref().unwrap().mounts.len(), 1);
    }
    let timed: Vec<&str> = run.prepare_timings.iter().map(|timing| timing.node_id.as_str()).collect();
    for node in
        ["prepare-t-workspace-deps", "prepare-t-workspace-build", "prepare-a-runner", "prepare-b-runner"]
    {
        assert!(timed.contains(&node), "{timed:?}");
    }
    let work = world.config.hosts.named["box"].work_dir.clone();
    assert!(!work.join("runs").join(&run.run_id).join("roots").exists(), "the roots are let go of");
    world.assert_nothing_left();

    // A killed engine of this state root let go of nothing; another one's run may go on.
    let engine = fs::read(world.config.state_root.join("engine.json")).unwrap();
    let engine: serde_json::Value = serde_json::from_slice(&engine).unwrap();
    let root = |run: &str, engine: &str| work.join("runs").join(run).join("roots").join(engine);
    let dead = root("20260101T000000Z-00000000", engine["engine_id"].as_str().unwrap());
    let others = root("20260101T000000Z-00000001", "another");
    fs::create_dir_all(&dead).unwrap();
    fs::create_dir_all(&others).unwrap();

    // The second time nothing is built, although a file has changed that no output uses.
    nix.take_calls().unwrap();
    fs::write(world.root.join("unused"), "x").unwrap();
    let again = world.run(vec![staged("a")]);
    assert_eq!(again.verdict, Verdict::Passed, "{again:#?}");
    let paths = |record: &PreparedOutputsRecord| -> Vec<String> {
        record.outputs.iter().map(|output| output.realized_path.clone()).collect()
    };
    assert_eq!(paths(&outputs(&again)), paths(&record));
    let log = world.config.state_root.join("runs").join(&again.run_id);
    let log = fs::read_to_string(log.join("prepares/prepare-t-workspace-build.log")).unwrap();
    assert!(!log.contains("building"), "{log}");
    assert!(!work.join("runs/20260101T000000Z-00000000").exists() && others.exists());
}

#[test]
fn news_that_there_is_no_image_does_not_wait_for_the_build() {
    let test = "news_that_there_is_no_image_does_not_wait_for_the_build";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    if !needs_program(test, "nix") {
        return;
    }
    let project = rig.project(4).unwrap();
    let nix = nix::Rig::below(project.dir()).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut world = with_nix(world.with_host(&sshd), &nix);
    world.config.hosts.named.get_mut("box").unwrap().incus.image_alias = None;
    let mut job_without_image = staged("a");
    incus(&mut job_without_image).image_alias = Some("no/such".into());
    let run = world.run(vec![job_without_image]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure));
    let message = job(&run, "a").message.as_ref().unwrap();
    assert!(message.contains("prepare-a-runner") && message.contains("no/such"), "{message}");
    world.assert_nothing_left();
}

/// Collects the garbage of the rig's store; whether these paths are still there.
fn survive_a_collection(nix: &nix::Rig, paths: &[String]) -> Vec<bool> {
    let collect = Command::new(nix.program_alone().unwrap().with_file_name("nix-store")).arg("--gc");
    let output = LocalHost::new().run(&collect, &CancelToken::new().unwrap()).unwrap();
    assert!(output.exit.success(), "{output:?}");
    paths.iter().map(|path| Path::new(path).exists()).collect()
}

/// Keeps a guest whose job failed, and collects garbage before and after it has gone.
fn keep_and_collect(rig: &Rig, world: &World<'_>, nix: &nix::Rig, place: &JobPlacement) {
    let fails = || {
        let mut bad = staged("bad");
        bad.placement = place.clone();
        bad.staged.as_mut().unwrap().wrapper = "run-bad".into();
        let mut request = RunRequest::new(vec![bad]);
        request.options.keep_on_failure = true;
        let run = world.run_request(&request);
        let guest = job(&run, "bad").remote_linux_vm_execution.clone().unwrap();
        let paths = outputs(&run).outputs.into_iter().map(|output| output.realized_path).collect();
        (guest.kept.unwrap_or_else(|| panic!("{run:#?}")).instance, paths, run.run_id)
    };
    let reap = || {
        let reaped = world.engine().reap_all(&ReapOptions::default(), &CancelToken::new().unwrap()).unwrap();
        assert_eq!(reaped.problems, Vec::<String>::new());
        reaped
    };
    let (project, cat) = (world.project, "cat /staged/linux-rust/workspace-deps/lib");
    let (kept, paths, run_id): (String, Vec<String>, String) = fails();
    let path = format!("/1.0/instances/{kept}?project={}", project.name());
    // Neither a reaping nor another run of the same engine takes them from the guest.
    assert_eq!(reap().kept.len(), 1);
    let mut next = staged("next");
    next.placement = place.clone();
    assert_eq!(world.run(vec![next]).verdict, Verdict::Passed);
    // Nor does a collection of runs, which leaves this one.
    let all = GcPolicy { keep_runs: 0, max_bytes: Some(0), ..GcPolicy::default() };
    assert_eq!(world.engine().gc(&all).unwrap().kept_guests, [&*run_id]);
    assert_eq!(survive_a_collection(nix, &paths), [true, true]);
    assert_eq!(project.exec(&kept, cat).unwrap(), "from the deps\n");
    assert!(!project.exec(&kept, "ls /workspace/snapshot").unwrap().is_empty());
    let past = serde_json::json!({ "config": { "user.jerichoci.keep_until": "1970-01-01T00:00:00Z" } });
    rig.ask("PATCH", &path, Some(&past)).unwrap();
    assert_eq!(reap().instances.len(), 1);
    assert_eq!(survive_a_collection(nix, &paths), [false, false]);
    let gone = world.engine().gc(&all).unwrap();
    assert_eq!((&*gone.removed_runs, gone.kept_guests.len()), (&[run_id][..], 0), "{gone:?}");

    // The same when somebody removes the guest by hand.
    let (kept, paths, run_id): (String, Vec<String>, String) = fails();
    assert_eq!(survive_a_collection(nix, &paths), [true, true]);
    let instance = format!("/1.0/instances/{kept}");
    let stop = serde_json::json!({ "action": "stop", "force": true });
    rig.ask("PUT", &format!("{instance}/state?project={}", project.name()), Some(&stop)).unwrap();
    rig.ask("DELETE", &format!("{instance}?project={}", project.name()), None).unwrap();
    // Who only asks what would be ended lets go of nothing.
    let only_told = ReapOptions { dry_run: true, ..ReapOptions::default() };
    world.engine().reap_all(&only_told, &CancelToken::new().unwrap()).unwrap();
    assert_eq!(survive_a_collection(nix, &paths), [true, true]);
    reap();
    assert_eq!(survive_a_collection(nix, &paths), [false, false]);

    // Who looks at the job in a fresh guest sees them: they are built once more, and stay until the shell is closed.
    let shell = |engine: &Engine, command: &str, heard: &mut dyn FnMut(&str)| {
        let request = ShellRequest {
            run_id: run_id.parse().unwrap(),
            job_id: None,
            fresh: true,
            command: ["sh", "-c", command].map(str::to_owned).into(),
            term: None,
        };
        let (input, _keys) = std::io::pipe().unwrap();
        let mut console = Heard { input, printed: String::new(), heard };
        let mut told = Vec::new();
        let mut tell = |line: &str| told.push(line.to_owned());
        let code = engine.shell(&request, &mut console, &mut tell, &CancelToken::new().unwrap());
        (code.unwrap(), told.join("\n"))
    };
    let mut survived = None;
    let (code, told) = shell(&world.engine(), &format!("{cat}; exit 7"), &mut |printed| {
        if printed.contains("from the deps") && survived.is_none() {
            survived = Some(survive_a_collection(nix, &paths));
        }
    });
    assert_eq!((code, survived), (7, Some(vec![true, true])), "{told}");
    assert_eq!(survive_a_collection(nix, &paths), [false, false]);
    assert_eq!(project.instances().unwrap(), Vec::<String>::new());

    // Where they cannot be had, that is said before the shell opens.
    let mut config = world.config.clone();
    config.nix_program = "/nonexistent/nix".into();
    config.hosts.named.values_mut().for_each(|host| host.nix_program = "/nonexistent/nix".into());
    let (code, told) = shell(&Engine::new(config), "test -e /staged/linux-rust || exit 8", &mut |_| ());
    assert_eq!(code, 8, "{told}");
    assert!(told.contains("the guest has no prepared outputs") && told.contains("needs nix"), "{told}");
}

/// A terminal of which somebody reads what is printed.
struct Heard<'h> {
    input: std::io::PipeReader,
    printed: String,
    heard: &'h mut dyn FnMut(&str),
}

impl Console for Heard<'_> {
    fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    fn print(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.printed.push_str(&String::from_utf8_lossy(bytes));
        (self.heard)(&self.printed);
        Ok(())
    }

    fn resized(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn size(&mut self) -> (u16, u16) {
        (80, 24)
    }
}

#[test]
fn outputs_outlive_a_collection_for_as_long_as_a_guest_is_kept() {
    let test = "outputs_outlive_a_collection_for_as_long_as_a_guest_is_kept";
    let Some(rig) = Rig::up(test) else { return };
    if !needs_program(test, "nix") {
        return;
    }
    let project = rig.project(4).unwrap();
    let nix = nix::Rig::below(project.dir()).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    keep_and_collect(&rig, &with_local_nix(world, &nix), &nix, &JobPlacement::Local);
}

#[test]
fn outputs_outlive_a_collection_on_a_host_for_as_long_as_a_guest_is_kept() {
    let test = "outputs_outlive_a_collection_on_a_host_for_as_long_as_a_guest_is_kept";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    if !needs_program(test, "nix") {
        return;
    }
    let project = rig.project(4).unwrap();
    let nix = nix::Rig::below(project.dir()).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let world = with_nix(world.with_host(&sshd), &nix);
    let place = JobPlacement::RemoteSsh { host: "box".to_owned() };
    keep_and_collect(&rig, &world, &nix, &place);
    let left = fs::read_dir(world.config.hosts.named["box"].work_dir.join("runs")).unwrap().count();
    assert_eq!(left, 0, "nothing of the runs is left on the host");
    let left = fs::read_dir(world.config.hosts.named["box"].work_dir.join("shells")).unwrap().count();
    assert_eq!(left, 0, "nothing of the shell is left on the host");
}
