//! A repository, and the real program run in it with a cleared environment.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jericho_testkit::built_program;
use tempfile::TempDir;

/// A source tree in a directory of its own.
pub(crate) struct Tree {
    dir: TempDir,
    root: PathBuf,
}

impl Tree {
    /// Without git.
    pub(crate) fn plain() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("tree");
        std::fs::create_dir(&root).unwrap();
        Self { dir, root }
    }

    /// A repository with these targets, committed on `main`.
    pub(crate) fn with_targets(targets: &str) -> Self {
        let tree = Self::plain();
        tree.write("jericho.toml", targets);
        tree.git(&["init", "-q", "-b", "main"]);
        tree.commit("first");
        tree
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A directory beside the tree.
    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        let mut git = command("git".as_ref());
        git.current_dir(&self.root).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(args);
        let output = git.output().unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
    }

    /// `pikaci` with these arguments, in this tree, not started yet.
    pub(crate) fn pikaci(&self, args: &[&str]) -> Command {
        let mut pikaci = command(built_program!("pikaci").as_os_str());
        pikaci.current_dir(&self.root).args(args).stdin(Stdio::null());
        pikaci
    }

    /// `pikaci` with these arguments, to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::of(self.pikaci(args).output().unwrap())
    }

    /// The tree's own state root.
    pub(crate) fn state_root(&self) -> PathBuf {
        self.root.join(".jerichoci")
    }

    /// Ids of all runs, newest first.
    pub(crate) fn run_ids(&self) -> Vec<String> {
        let list = self.run(&["list"]);
        list.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }
}

/// What a finished `pikaci` left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Checks the exit code, and shows everything when it is another.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Standard error with what changes from run to run in place of itself.
    pub(crate) fn told(&self, tree: &Tree) -> String {
        steady(&self.stderr, tree)
    }
}

/// Text with the tree's place, run ids and durations taken out.
pub(crate) fn steady(text: &str, tree: &Tree) -> String {
    let text = text
        .replace(tree.root().to_str().unwrap(), "TREE")
        .replace(tree.outside().to_str().unwrap(), "OUTSIDE");
    text.lines().map(steady_line).collect::<Vec<_>>().join("\n")
}

fn steady_line(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let number = words.last().is_some_and(|last| last.trim_start_matches('(').parse::<f64>().is_ok());
        if words.is_empty() && is_time_of_day(word) {
            words.push("AT".to_owned());
        } else if is_run_id(bare) {
            words.push(word.replace(bare, "RUN"));
        } else if number && ["ms", "s"].contains(&bare) {
            let opening = if words.pop().unwrap().starts_with('(') { "(" } else { "" };
            words.push(format!("{opening}{}", word.replace(bare, "TIME")));
        } else {
            words.push(word.to_owned());
        }
    }
    words.join(" ")
}

/// `12:00:00Z`, which lines begin with where nothing is redrawn.
fn is_time_of_day(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    word.len() == 9 && digits == 6 && word.ends_with('Z') && word.matches(':').count() == 2
}

fn is_run_id(word: &str) -> bool {
    word.len() == 25 && word.as_bytes()[15] == b'Z' && word.as_bytes()[16] == b'-'
}

/// A program with nothing in its environment but what it cannot do without.
#[expect(clippy::disallowed_methods, reason = "tests start the real programs")]
pub(crate) fn command(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", "/nonexistent");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}
