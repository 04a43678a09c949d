//! The fixture flake of the testkit has what every staged target of the catalog asks for, with the real nix.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jericho_host::{CancelToken, LocalHost};
use jericho_testkit::need::{needs, needs_program, needs_root};
use jericho_testkit::nix::Rig;
use jericho_testkit::staged_flake;
use jerichoci::model::outputs::{PayloadManifestRecord, PayloadPathRecord};
use jerichoci::model::staged::StagedLinuxRustPayloadRole as Role;
use jerichoci::run::outputs::payload::{MANIFEST, load_manifest};
use pikaci::catalog::{PikaStagedLinuxLane, PikaStagedLinuxTarget};

/// The flake in a tree, and a nix for it.
struct Tree {
    nix: Rig,
    dir: tempfile::TempDir,
}

impl Tree {
    fn payload(&self, output: &Path) -> Option<PayloadManifestRecord> {
        let env = self.nix.environment().into_iter().collect();
        load_manifest(&LocalHost::new(), &env, output, &CancelToken::new().unwrap()).unwrap()
    }

    fn new(test: &str) -> Option<Self> {
        let met = needs_program(test, "nix-store")
            && needs(
                test,
                "needs a machine that builds for x86_64-linux",
                cfg!(all(target_os = "linux", target_arch = "x86_64")),
            );
        if !met {
            return None;
        }
        let tree = Self { nix: Rig::new().unwrap(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir(tree.root()).unwrap();
        staged_flake::write(&tree.root()).unwrap();
        Some(tree)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn nix(&self, program: &str, arguments: &[&str]) -> Output {
        let program = if program == "nix" { self.nix.program() } else { PathBuf::from(program) };
        self::program(program).args(arguments).envs(self.nix.environment()).output().unwrap()
    }

    /// The flake as it is added to the store, which makes that it is evaluated where it lies.
    fn flake(&self) -> String {
        let root = self.root();
        let store =
            text(&self.nix("nix", &["store", "add-path", "--name", "source", root.to_str().unwrap()]));
        let hash = text(&self.nix("nix", &["hash", "path", &store]));
        let hash = hash.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        format!("path:{store}?narHash={hash}")
    }

    fn evaluate(&self, flake: &str, attribute: &str) -> Output {
        let installable = format!("{flake}#{attribute}");
        self.nix("nix", &["path-info", "--no-update-lock-file", "--derivation", &installable])
    }

    /// Builds an attribute as the engine does, and returns where it is.
    fn realise(&self, attribute: &str) -> PathBuf {
        let derivation = text(&self.evaluate(&self.flake(), attribute));
        self.realise_derivation(&derivation)
    }

    fn realise_derivation(&self, derivation: &str) -> PathBuf {
        let root =
            self.dir.path().join(format!("root-{}", Path::new(derivation).file_name().unwrap().display()));
        let output = self.nix("nix-store", &["--realise", derivation, "--add-root", root.to_str().unwrap()]);
        assert_eq!(text(&output), root.to_str().unwrap());
        fs::canonicalize(root).unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "the commands of this test are its own")]
fn program(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Standard output of a command that succeeded, without the end of its line.
#[track_caller]
fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim_end().to_owned()
}

/// Attribute of each prepared output, its role, and the programs that the lanes of all its targets run in it.
fn outputs() -> BTreeMap<&'static str, (Role, BTreeSet<&'static str>)> {
    let mut outputs = BTreeMap::new();
    for target in PikaStagedLinuxTarget::all() {
        let config = target.config();
        outputs.entry(config.workspace_deps_output_name).or_insert((Role::WorkspaceDeps, BTreeSet::new()));
        let build = outputs
            .entry(config.workspace_build_output_name)
            .or_insert((Role::WorkspaceBuild, BTreeSet::new()));
        build.1.extend(target.lanes().map(PikaStagedLinuxLane::wrapper));
    }
    outputs
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_output_of_every_staged_target_builds_and_its_payload_manifest_obeys_the_contract() {
    let test = "every_output_of_every_staged_target_builds_and_its_payload_manifest_obeys_the_contract";
    let Some(tree) = Tree::new(test) else { return };
    let outputs = outputs();
    let wrappers: usize = outputs.values().map(|(_, wrappers)| wrappers.len()).sum();
    assert_eq!((outputs.len(), wrappers), (14, 27), "14 outputs of 9 targets, 27 lanes");

    let flake = tree.flake();
    for (attribute, (role, wrappers)) in outputs {
        let output = tree.realise_derivation(&text(&tree.evaluate(&flake, attribute)));
        let bytes = fs::read_to_string(output.join(MANIFEST)).unwrap();
        assert_eq!(bytes.lines().count(), 1, "{attribute}");
        assert!(bytes.ends_with('\n') && !bytes.contains(' '), "{attribute}: {bytes}");
        // Sorted keys, at every depth.
        let sorted: BTreeMap<String, serde_json::Value> = serde_json::from_str(&bytes).unwrap();
        assert_eq!(sorted_text(&serde_json::to_value(&sorted).unwrap()) + "\n", bytes, "{attribute}");

        let manifest = tree.payload(&output).unwrap();
        assert_eq!(manifest.kind, role.manifest_kind(), "{attribute}");
        let [mount] = &manifest.mounts[..] else { panic!("{attribute}: {:?}", manifest.mounts) };
        assert_eq!(mount.name, role.manifest_mount_name(), "{attribute}");
        assert_eq!(mount.guest_path, role.guest_mount_path(), "{attribute}");
        assert_eq!((mount.relative_path.as_str(), mount.read_only), (".", true), "{attribute}");

        let entrypoint =
            |name: &String| PayloadPathRecord { name: name.clone(), relative_path: format!("bin/{name}") };
        let programs = names(&output.join("bin"));
        assert_eq!(manifest.entrypoints, programs.iter().map(entrypoint).collect::<Vec<_>>(), "{attribute}");
        assert_eq!(programs.iter().map(String::as_str).collect::<BTreeSet<_>>(), wrappers, "{attribute}");

        let asset_roots: Vec<&str> =
            manifest.asset_roots.iter().map(|root| root.relative_path.as_str()).collect();
        let there: Vec<&str> = ["share/jerichoci", "target", "lib"]
            .into_iter()
            .filter(|name| output.join(name).is_dir())
            .collect();
        assert_eq!(asset_roots, there, "{attribute}");
    }
}

/// JSON without spaces whose objects have their keys in order.
fn sorted_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(fields) => {
            let sorted: BTreeMap<&String, &serde_json::Value> = fields.iter().collect();
            let fields: Vec<String> =
                sorted.iter().map(|(name, value)| format!("{name:?}:{}", sorted_text(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(sorted_text).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

const DEPS: &str = "ci.x86_64-linux.rmpWorkspaceDeps";
const BUILD: &str = "ci.x86_64-linux.rmpWorkspaceBuild";

#[test]
fn a_changed_file_rebuilds_only_what_is_made_from_it() {
    let Some(tree) = Tree::new("a_changed_file_rebuilds_only_what_is_made_from_it") else { return };
    let derivations = || {
        let flake = tree.flake();
        [DEPS, BUILD].map(|attribute| text(&tree.evaluate(&flake, attribute)))
    };
    let first = derivations();
    fs::write(tree.root().join("README.md"), "nobody reads this\n").unwrap();
    staged_flake::turn(&tree.root(), "red = [\"run-pika-actionlint\"]").unwrap();
    assert_eq!(derivations(), first, "neither is made from the file, nor from the knob of another");

    fs::write(tree.root().join("src/greeting.txt"), "good bye\n").unwrap();
    let second = derivations();
    assert_eq!(second[0], first[0]);
    assert_ne!(second[1], first[1]);

    fs::write(tree.root().join("dependencies.txt"), "a-dependency 2.0.0\n").unwrap();
    let third = derivations();
    assert!(third[0] != second[0] && third[1] != second[1]);
}

#[test]
fn the_build_output_does_not_keep_the_deps_output_alive() {
    let Some(tree) = Tree::new("the_build_output_does_not_keep_the_deps_output_alive") else { return };
    let (deps, build) = (tree.realise(DEPS), tree.realise(BUILD));
    let references = text(&tree.nix("nix-store", &["--query", "--requisites", build.to_str().unwrap()]));
    assert_eq!(references, build.to_str().unwrap(), "and not {}", deps.display());
}

#[test]
fn each_knob_makes_one_thing_fail_at_its_own_step() {
    let Some(tree) = Tree::new("each_knob_makes_one_thing_fail_at_its_own_step") else { return };
    let code = |knobs: &str, attribute: &str| {
        staged_flake::turn(&tree.root(), knobs).unwrap();
        let evaluated = tree.evaluate(&tree.flake(), attribute);
        if !evaluated.status.success() {
            return ("evaluate", evaluated.status.code().unwrap());
        }
        let derivation = text(&evaluated);
        ("realise", tree.nix("nix-store", &["--realise", &derivation]).status.code().unwrap())
    };
    assert_eq!(code("throws = [\"rmpWorkspaceBuild\"]", BUILD), ("evaluate", 1));
    assert_eq!(code("throws = [\"rmpWorkspaceBuild\"]", DEPS), ("realise", 0));
    assert_eq!(code("broken = [\"rmpWorkspaceBuild\"]", BUILD), ("realise", 100));
    assert_eq!(code("broken = [\"rmpWorkspaceDeps\"]", BUILD), ("realise", 100), "a dependency");
    assert_eq!(code("broken = [\"workspaceDeps\"]", BUILD), ("realise", 0), "of another target");
    assert_eq!(code("broken = [\"rmpWorkspaceBiuld\"]", BUILD), ("evaluate", 1), "a misspelt output");
    assert_eq!(code("borken = []", BUILD), ("evaluate", 1), "a misspelt knob");

    staged_flake::turn(&tree.root(), "no_manifest = [\"rmpWorkspaceBuild\"]").unwrap();
    assert_eq!(tree.payload(&tree.realise(BUILD)), None);
    staged_flake::turn(&tree.root(), "[manifests]\nrmpWorkspaceBuild = '{\"schema_version\":7}'").unwrap();
    let manifest = fs::read_to_string(tree.realise(BUILD).join(MANIFEST)).unwrap();
    assert_eq!(manifest, "{\"schema_version\":7}\n");
}

/// A root directory of its own with both outputs and the tree where a guest has them, and a command in it.
const GUEST: &str = r#"
set -euo pipefail
root=$1 tree=$2 deps=$3 build=$4 options=$5 command=$6
mount -t tmpfs none "$root"
for dir in /bin /lib /lib64 /usr /proc /dev; do
  if [[ -e $dir ]]; then
    mkdir "$root$dir"
    mount --rbind "$dir" "$root$dir"
  fi
done
mkdir -p "$root"/staged/linux-rust/workspace-{deps,build} "$root/workspace/snapshot"
mount --bind "$deps" "$root/staged/linux-rust/workspace-deps"
mount --bind "$build" "$root/staged/linux-rust/workspace-build"
mount -o "remount,bind,ro" "$root/staged/linux-rust/workspace-deps"
mount -o "remount,bind,$options" "$root/staged/linux-rust/workspace-build"
mount --bind "$tree" "$root/workspace/snapshot"
exec chroot --userspec=1000:100 "$root" /bin/sh -c "$command"
"#;

#[test]
fn a_wrapper_passes_where_it_has_what_a_staged_job_is_promised_and_nowhere_else() {
    let test = "a_wrapper_passes_where_it_has_what_a_staged_job_is_promised_and_nowhere_else";
    if !needs_root(test) || !needs_program(test, "unshare") {
        return;
    }
    let Some(tree) = Tree::new(test) else { return };
    let root = tempfile::tempdir().unwrap();
    let deps = tree.realise(DEPS);
    let run = |options: &str, command: &str| {
        let build = tree.realise(BUILD);
        let output = program("unshare")
            .args(["--mount", "bash", "-c", GUEST, "guest"])
            .args([root.path(), &tree.root(), &deps, &build])
            .args([options, command])
            .output()
            .unwrap();
        let words = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), words(&output.stdout), words(&output.stderr))
    };
    let wrapper = "/staged/linux-rust/workspace-build/bin/run-rmp-init-smoke-ci";
    let command = format!("cd /workspace/snapshot && exec {wrapper}");
    let greeting = "run-rmp-init-smoke-ci: hello from the source tree\n";

    let (code, stdout, stderr) = run("ro", &command);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout, format!("{greeting}run-rmp-init-smoke-ci: ok\n"));

    let wrong = |options: &str, command: &str, reason: &str| {
        let (code, _, stderr) = run(options, command);
        assert_eq!(code, Some(1), "{reason}");
        assert!(stderr.contains(reason), "{stderr}");
    };
    wrong("rw", &command, "/staged/linux-rust/workspace-build is not mounted read-only (mounted: writable)");
    wrong("ro", wrapper, "the working directory is /");
    fs::write(tree.root().join("dependencies.txt"), "a-dependency 2.0.0\n").unwrap();
    wrong("ro", &command, "the dependencies are not those of the source");
    fs::write(tree.root().join("dependencies.txt"), fs::read(deps.join("lib/dependencies.txt")).unwrap())
        .unwrap();

    staged_flake::turn(&tree.root(), "red = [\"run-rmp-init-smoke-ci\"]").unwrap();
    let (code, stdout, stderr) = run("ro", &command);
    assert_eq!((code, stdout.as_str()), (Some(1), greeting), "{stderr}");
    assert_eq!(stderr, "run-rmp-init-smoke-ci: knobs.toml asks for it to fail\n");
}
