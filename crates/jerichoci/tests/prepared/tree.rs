//! A tree whose jobs have prepared outputs, with a real nix of its own.

use std::fs;
use std::path::{Path, PathBuf};

use jericho_host::{CancelToken, Command, Environment, Host as _, LocalHost};
use jericho_testkit::need::needs_program;
use jericho_testkit::nix::Rig;
use jerichoci::model::job::{GuestCommand, JobSpec};
use jerichoci::model::record::{JobRecord, RunRecord};
use jerichoci::model::staged::{
    StagedLinuxCommandConfig, StagedLinuxRustPayloadRole, StagedLinuxRustTargetPayloadSpec,
    StagedLinuxSnapshotProfile,
};
use jerichoci::{Engine, EngineConfig, NoReporter, Reporter, RunRequest};

/// A tree with a flake of prepared outputs, and an engine whose nix is the rig's.
pub(crate) struct Tree {
    pub(crate) engine: Engine,
    pub(crate) root: PathBuf,
    pub(crate) nix: Rig,
    _dir: tempfile::TempDir,
}

/// Builds what a staged target has: a program, and what says what guests see of it.
pub(crate) const DEPS: &str = r#"
    mkdir -p $out/lib $out/share/jerichoci; echo deps > $out/lib/deps
    echo '{"kind":"staged_linux_workspace_deps_v1","mounts":[{"guest_path":"/staged/linux-rust/workspace-deps","name":"workspace_deps_root","read_only":true,"relative_path":"."}],"schema_version":1}' > $out/share/jerichoci/payload-manifest.json"#;
pub(crate) const BUILD: &str = r#"
    mkdir -p $out/bin $out/share/jerichoci
    printf '#!/bin/sh\necho ran from $0; cat %s/lib/deps\n' $deps > $out/bin/run-test
    printf '#!/bin/sh\nexit 7\n' > $out/bin/run-bad; chmod +x $out/bin/*
    echo '{"entrypoints":[{"name":"run-test","relative_path":"bin/run-test"}],"kind":"staged_linux_workspace_build_v1","mounts":[{"guest_path":"/staged/linux-rust/workspace-build","name":"workspace_build_root","read_only":true,"relative_path":"."}],"schema_version":1}' > $out/share/jerichoci/payload-manifest.json"#;

fn config(root: &Path, nix: &Rig) -> EngineConfig {
    let mut config = EngineConfig::new(root.join(".jerichoci"), root);
    config.caller_environment = nix.environment().into_iter().collect();
    config.nix_program = nix.program();
    config
}

impl Tree {
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !needs_program(test, "nix") || !needs_program(test, "bash") {
            return None;
        }
        let nix = Rig::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("tree");
        fs::create_dir(&root).unwrap();
        let tree = Self { engine: Engine::new(config(&root, &nix)), root, nix, _dir: dir };
        tree.flake(DEPS, BUILD);
        Some(tree)
    }

    pub(crate) fn flake(&self, deps: &str, build: &str) {
        let path = self.nix.environment().into_iter().find(|(name, _)| name == "PATH").unwrap().1;
        let text = format!(
            r#"{{ outputs = {{ self }}: let
                sh = attributes: script: derivation ({{
                  system = "{arch}-linux"; builder = "{bash}"; PATH = "{path}";
                  args = [ "-euc" "${{script}}
:" ]; }} // attributes);
              in {{ ci.x86_64-linux = rec {{
                deps = sh {{ name = "deps"; }} ''{deps}'';
                build = sh {{ name = "build"; inherit deps; }} ''{build}'';
              }}; }}; }}"#,
            arch = std::env::consts::ARCH,
            bash = self.nix.bash().display(),
            path = path.to_string_lossy(),
            deps = deps.replace("${", "''${"),
            build = build.replace("${", "''${"),
        );
        fs::write(self.root.join("flake.nix"), text).unwrap();
    }

    pub(crate) fn run(&self, jobs: Vec<JobSpec>) -> RunRecord {
        self.run_with(jobs, false, &CancelToken::new().unwrap(), &mut NoReporter)
    }

    pub(crate) fn run_with(
        &self,
        jobs: Vec<JobSpec>,
        keep_going: bool,
        cancel: &CancelToken,
        reporter: &mut dyn Reporter,
    ) -> RunRecord {
        self.engine.run(&RunRequest::new(jobs).keep_going(keep_going), reporter, cancel).unwrap()
    }

    /// A new directory beside the tree.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        let dir = self.root.with_file_name(name);
        fs::create_dir(&dir).unwrap();
        dir
    }

    /// Another engine of the same state root, after a change of its settings.
    pub(crate) fn set(&mut self, change: impl FnOnce(&mut EngineConfig)) {
        let mut config = config(&self.root, &self.nix);
        change(&mut config);
        self.engine = Engine::new(config);
    }

    pub(crate) fn dir(&self, run: &RunRecord) -> PathBuf {
        self.root.join(".jerichoci/runs").join(&run.run_id)
    }

    pub(crate) fn log(&self, run: &RunRecord, relative: &str) -> String {
        fs::read_to_string(self.dir(run).join(relative)).unwrap()
    }

    /// The steps of nix since this was asked last.
    pub(crate) fn steps(&self) -> Vec<&'static str> {
        let known = ["builtins.path", "hash path", "path-info", "--realise"];
        let calls = self.nix.take_calls().unwrap();
        assert!(!calls.iter().any(|call| call.contains("accept-flake-config")), "{calls:?}");
        calls.iter().map(|call| known.into_iter().find(|step| call.contains(step)).unwrap()).collect()
    }

    pub(crate) fn collect_garbage(&self) {
        let gc = Command::new(self.nix.program().with_file_name("nix-store"))
            .arg("--gc")
            .env(self.nix.environment().into_iter().collect::<Environment>());
        let output = LocalHost::new().run(&gc, &CancelToken::new().unwrap()).unwrap();
        assert!(output.exit.success(), "{output:?}");
    }
}

pub(crate) fn staged(id: &str, wrapper: &str) -> JobSpec {
    let payload = |role, name: &str| StagedLinuxRustTargetPayloadSpec { role, output_name: name.into() };
    let mut job = JobSpec::host_process(id, GuestCommand::HostShellCommand { command: "false".into() });
    job.staged = Some(StagedLinuxCommandConfig {
        prefix: "t".into(),
        profile: StagedLinuxSnapshotProfile::Rust,
        deps: payload(StagedLinuxRustPayloadRole::WorkspaceDeps, "ci.x86_64-linux.deps"),
        build: payload(StagedLinuxRustPayloadRole::WorkspaceBuild, "ci.x86_64-linux.build"),
        wrapper: wrapper.into(),
    });
    job
}

pub(crate) fn shell(id: &str, command: &str) -> JobSpec {
    JobSpec::host_process(id, GuestCommand::HostShellCommand { command: command.into() })
}

pub(crate) fn job<'a>(run: &'a RunRecord, id: &str) -> &'a JobRecord {
    run.jobs.iter().find(|job| job.id == id).unwrap()
}
