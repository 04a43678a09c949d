//! A tree with a flake of prepared outputs, and the real programs in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jericho_testkit::built_program;
use jericho_testkit::need::needs_program;
use jericho_testkit::nix;
use jerichoci::model::outputs::PreparedOutputsRecord;
use jerichoci::model::record::RunRecord;
use serde::de::DeserializeOwned;

pub(crate) struct Tree {
    dir: tempfile::TempDir,
    pub(crate) root: PathBuf,
    pub(crate) nix: nix::Rig,
}

const TARGETS: &str = r#"
[targets.staged]
default = true
[targets.staged.jobs.check]
command = "run-check"
staged = { deps = "ci.x86_64-linux.deps", build = "ci.x86_64-linux.build", prefix = "t" }
"#;

const FLAKE: &str = r#"{ outputs = { self }: let
  manifest = kind: name: path: builtins.toJSON {
    schema_version = 1; inherit kind;
    mounts = [ { inherit name; relative_path = "."; guest_path = path; read_only = true; } ];
  };
  make = name: script: manifest: derivation {
    inherit name manifest; system = "@SYSTEM@"; builder = "@BASH@"; PATH = "@PATH@";
    passAsFile = [ "manifest" ];
    args = [ "-euc" "mkdir -p $out/bin $out/share/jerichoci; cp $manifestPath $out/share/jerichoci/payload-manifest.json; ${script}
:" ];
  };
in { ci.x86_64-linux = {
  deps = make "deps" "true" (manifest "staged_linux_workspace_deps_v1" "workspace_deps_root" "/staged/linux-rust/workspace-deps");
  build = make "build" ''
    printf '#!/bin/sh\necho checked\n' > $out/bin/run-check
    chmod +x $out/bin/run-check'' (manifest "staged_linux_workspace_build_v1" "workspace_build_root" "/staged/linux-rust/workspace-build");
}; }; }"#;

impl Tree {
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !needs_program(test, "nix") || !needs_program(test, "bash") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("tree");
        fs::create_dir(&root).unwrap();
        let nix = nix::Rig::new().unwrap();
        let path = nix.environment().into_iter().find(|(name, _)| name == "PATH").unwrap().1;
        let flake = FLAKE
            .replace("@SYSTEM@", &format!("{}-linux", std::env::consts::ARCH))
            .replace("@BASH@", &nix.bash().to_string_lossy())
            .replace("@PATH@", &path.to_string_lossy());
        fs::write(root.join("flake.nix"), flake).unwrap();
        fs::write(root.join("jericho.toml"), TARGETS).unwrap();
        Some(Self { dir, root, nix })
    }

    /// A directory beside the tree.
    pub(crate) fn beside(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// A script beside the tree.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.beside().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_string_lossy().into_owned()
    }

    pub(crate) fn pikaci(&self, args: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut pikaci = command(&built_program!("pikaci"), &self.nix);
        pikaci.current_dir(&self.root).args(args).envs(variables.iter().copied());
        pikaci.output().unwrap()
    }

    /// Runs the target, which has to pass.
    pub(crate) fn run(&self, variables: &[(&str, &str)]) -> RunRecord {
        let output = self.pikaci(&["run", "--no-git", "--output", "json"], variables);
        assert!(output.status.success(), "{output:?}\n{}", self.prepare_logs());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The same, which must not pass; its record.
    pub(crate) fn fails(&self, variables: &[(&str, &str)]) -> (i32, RunRecord) {
        let output = self.pikaci(&["run", "--no-git", "--output", "json"], variables);
        let record = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code().unwrap(), record)
    }

    pub(crate) fn outputs(&self, run: &RunRecord) -> PreparedOutputsRecord {
        document(run.prepared_outputs_path.as_ref().unwrap())
    }

    fn prepare_logs(&self) -> String {
        let find = command("sh".as_ref(), &self.nix)
            .args(["-c", "cat .jerichoci/runs/*/prepares/*.log"])
            .current_dir(&self.root)
            .output()
            .unwrap();
        String::from_utf8_lossy(&find.stdout).into_owned()
    }
}

#[expect(clippy::disallowed_methods, reason = "the programs under test are started as a user starts them")]
pub(crate) fn command(program: &Path, nix: &nix::Rig) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(nix.environment()).stdin(Stdio::null());
    let path = nix.program();
    let mut search = path.parent().unwrap().as_os_str().to_owned();
    search.push(":/usr/local/bin:/usr/bin:/bin");
    command.env("PATH", search);
    command
}

pub(crate) fn document<T: DeserializeOwned>(path: impl AsRef<Path>) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
