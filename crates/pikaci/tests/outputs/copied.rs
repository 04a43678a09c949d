//! An output of this machine is copied to a host with a store of its own, by the real nix over the real ssh.

use std::fs;
use std::path::{Path, PathBuf};

use jericho_testkit::need::needs_root;
use jericho_testkit::{built_program, ssh};
use jerichoci::model::outcome::{FailureKind, Verdict};

use crate::handover::{borrowed, over_ssh};
use crate::rig::Tree;

/// A host that sees another directory in the place of the store: what is here is not there.
struct FarHost {
    tree: Tree,
    sshd: ssh::Rig,
    store: PathBuf,
    /// What its nix-store was asked.
    calls: PathBuf,
    nix: PathBuf,
}

impl FarHost {
    fn new(test: &str) -> Option<Self> {
        if !needs_root(test) {
            return None;
        }
        let tree = Tree::new(test)?;
        let far = tree.beside().join("far");
        let store = far.join("store");
        fs::create_dir_all(&store).unwrap();
        let enter = tree.script(
            "enter",
            &format!(
                "exec unshare -m sh -c 'mount --bind \"$0\" \"$1\" && exec sh -c \"$SSH_ORIGINAL_COMMAND\"' '{}' '{}'",
                store.display(),
                tree.nix.store().display()
            ),
        );
        let sshd = ssh::Rig::start_with(test, &[&format!("ForceCommand {enter}")])?;
        let calls = far.join("calls");
        fs::write(&calls, "").unwrap();
        // As the store here, with a database of its own.
        let alone = tree.nix.program_alone().unwrap();
        for name in ["nix", "nix-store"] {
            let real = fs::read_to_string(alone.with_file_name(name)).unwrap();
            let own: String = real
                .lines()
                .filter_map(|line| line.strip_prefix("export "))
                .map(|line| match line.split_once('=').unwrap() {
                    (name @ ("NIX_STATE_DIR" | "NIX_LOG_DIR" | "XDG_CACHE_HOME"), _) => {
                        format!("export {name}='{}'\n", far.join(name).display())
                    }
                    _ => format!("export {line}\n"),
                })
                .collect();
            let text = format!("{own}echo \"{name} $*\" >> {}\nexec {name} \"$@\"", calls.display());
            let script = tree.script(&format!("far-{name}"), &text);
            fs::rename(script, far.join(name)).unwrap();
        }
        Some(Self { nix: far.join("nix"), tree, sshd, store, calls })
    }

    fn copies(&self) -> usize {
        let calls = fs::read_to_string(&self.calls).unwrap();
        fs::write(&self.calls, "").unwrap();
        calls.lines().filter(|call| call.starts_with("nix-store --serve --write")).count()
    }

    /// The arguments and variables of a run whose outputs are handed over there.
    fn words(&self) -> (Vec<String>, Vec<(&'static str, String)>) {
        let launcher = built_program!("pikaci-launch-fulfill-prepared-output");
        let work = self.tree.beside().join("work");
        let launcher = format!("exec '{}' \"$@\"", launcher.display());
        let variables = over_ssh(&self.tree, &self.sshd, &work, &launcher);
        // Only the program that is set knows this host, and only by another name.
        let ssh = "exec ssh -F CONFIG \"$@\"".replace("CONFIG", &self.sshd.config().display().to_string());
        self.tree.script("ssh", &ssh);
        let variables = variables.into_iter().map(|(name, value)| match name {
            "JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST" => (name, "far".to_owned()),
            _ => (name, value),
        });
        let config = self.tree.beside().join("config.toml");
        let host = format!("[hosts.far]\nssh = \"rig\"\nnix = \"{}\"\n", self.nix.display());
        fs::write(&config, host).unwrap();
        let config = config.to_string_lossy().into_owned();
        let args = ["--config", &config, "run", "--no-git", "--output", "json"].map(str::to_owned);
        (args.into(), variables.collect())
    }

    fn run(&self) -> (Option<i32>, jerichoci::model::record::RunRecord) {
        let (args, variables) = self.words();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = self.tree.pikaci(&args, &borrowed(&variables));
        let run = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code(), run)
    }
}

#[test]
fn an_output_of_this_machine_is_copied_once_to_a_host_that_does_not_have_it() {
    let test = "an_output_of_this_machine_is_copied_once_to_a_host_that_does_not_have_it";
    let Some(far) = FarHost::new(test) else { return };
    let (code, run) = far.run();
    assert_eq!(code, Some(0), "{run:#?}");
    assert_eq!(far.copies(), 2, "each output, by the nix-store beside the nix of the host");
    for output in far.tree.outputs(&run).outputs {
        let there = far.store.join(Path::new(&output.realized_path).file_name().unwrap());
        let manifest = "share/jerichoci/payload-manifest.json";
        let [here, there] =
            [Path::new(&output.realized_path), &*there].map(|path| fs::read(path.join(manifest)));
        assert_eq!(here.unwrap(), there.unwrap());
        assert_eq!(output.exposures, output.requested_exposures);
    }
    let left = |dir: &Path| {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("copy-")).count()
    };
    assert_eq!(left(&far.tree.root.join(".jerichoci/runs").join(&run.run_id)), 0);
    let (code, run) = far.run();
    assert_eq!(code, Some(0), "{run:#?}");
    assert_eq!(far.copies(), 0, "it is there");
}

#[test]
fn a_copy_that_fails_names_the_output_and_the_host_and_what_nix_says() {
    let test = "a_copy_that_fails_names_the_output_and_the_host_and_what_nix_says";
    let Some(far) = FarHost::new(test) else { return };
    let broken = far.tree.script("broken", "echo 'the far store is closed' >&2; exit 1");
    fs::rename(broken, far.nix.with_file_name("nix-store")).unwrap();
    let (code, run) = far.run();
    assert_eq!((code, run.verdict), (Some(3), Verdict::Failed(FailureKind::Infrastructure)));
    let message = run.jobs[0].message.as_deref().unwrap();
    for part in ["-deps could not be copied to far", "the far store is closed"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(fs::read_dir(far.tree.beside().join("work/runs")).unwrap().count(), 0);
}
