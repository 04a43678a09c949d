//! A source tree of its own for each test, and the real program in a cleared environment.
#![expect(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A directory with a source tree `src` in it, a home, and nothing else.
pub(crate) struct Sandbox {
    dir: TempDir,
}

/// What a command has said, and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
}

impl Sandbox {
    /// A git work tree with this `jericho.toml`, committed.
    pub(crate) fn with(targets: &str) -> Self {
        let sandbox = Self::without_git(targets);
        sandbox.git(&["init", "--quiet", "--initial-branch=main"]);
        sandbox.commit("first");
        sandbox
    }

    /// The same without git.
    pub(crate) fn without_git(targets: &str) -> Self {
        let sandbox = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        std::fs::create_dir(sandbox.tree()).expect("a directory");
        std::fs::create_dir(sandbox.root().join("home")).expect("a directory");
        if !targets.is_empty() {
            sandbox.write("jericho.toml", targets);
        }
        sandbox
    }

    /// Canonical, as git prints it.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().expect("it is there")
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.root().join("src")
    }

    pub(crate) fn state_root(&self) -> PathBuf {
        self.tree().join(".jerichoci")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.tree().join(name);
        std::fs::create_dir_all(path.parent().expect("a file in the tree")).expect("directories");
        std::fs::write(path, content).expect("a file");
    }

    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example",
            "commit",
            "--quiet",
            "--allow-empty",
            "-m",
            message,
        ]);
    }

    pub(crate) fn git(&self, args: &[&str]) {
        let done = self.command("git").args(args).output().expect("git runs");
        assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// A program in the tree, with nothing in its environment but what it needs.
    #[expect(clippy::disallowed_methods, reason = "tests start the real program")]
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.tree())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("tests have a PATH"))
            .env("HOME", self.root().join("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1");
        command
    }

    pub(crate) fn pikaci(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_pikaci"))
    }

    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.run_with(&[], args)
    }

    pub(crate) fn run_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Said {
        let mut command = self.pikaci();
        command.args(args).envs(variables.iter().copied());
        self.said(command.output().expect("pikaci starts"))
    }

    /// The record that `run` or `rerun` with these arguments prints.
    pub(crate) fn record(&self, args: &[&str]) -> (serde_json::Value, Said) {
        let mut all = args.to_vec();
        all.extend(["--output", "json"]);
        let said = self.run(&all);
        let record = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        (record, said)
    }

    /// Paths of this sandbox are `$ROOT` in what is returned.
    pub(crate) fn said(&self, output: Output) -> Said {
        let root = self.root().display().to_string();
        let text = |bytes| String::from_utf8(bytes).expect("text").replace(&root, "$ROOT");
        Said { out: text(output.stdout), err: text(output.stderr), code: output.status.code() }
    }

    /// All paths below the sandbox but those of git itself.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        fn walk(dir: &Path, found: &mut BTreeSet<PathBuf>) {
            for entry in std::fs::read_dir(dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.ends_with(".git") {
                    continue;
                }
                if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                    walk(&path, found);
                }
                found.insert(path);
            }
        }
        let mut found = BTreeSet::new();
        walk(&self.root(), &mut found);
        found
    }
}

/// The id in the first word of what a human-readable run prints.
pub(crate) fn run_id(said: &Said) -> String {
    said.out.split_whitespace().next().unwrap_or_else(|| panic!("no run id in {said:?}")).to_owned()
}
