//! The scripts of the smoke target, run by a real `sh` with a cleared environment.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use super::*;

/// Directories as a job has them.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["workspace", "artifacts", "target"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        Self { root }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    fn command(&self, job: &str) -> Command {
        let target = target();
        let spec = target.jobs.iter().find(|spec| spec.id == job).unwrap();
        let GuestCommand::Argv { argv } = &spec.command else { panic!("{:?}", spec.command) };
        let mut command = program(&argv[0]);
        command
            .args(&argv[1..])
            .current_dir(self.path("workspace"))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("ARTIFACTS", self.path("artifacts"))
            .env("CARGO_TARGET_DIR", self.path("target"))
            .env("GIT_CEILING_DIRECTORIES", self.root.path());
        command
    }

    fn run(&self, job: &str) -> Output {
        self.command(job).output().unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "the scripts are tried without the engine")]
fn program(name: &str) -> Command {
    Command::new(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn source_reads_and_counts_any_tree() {
    let place = Place::new();
    let output = place.run("source");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("read 0 files "), "{}", text(&output.stdout));

    let workspace = place.path("workspace");
    fs::create_dir_all(workspace.join("-a/b c")).unwrap();
    for name in ["-a/b c/new\nline", "-rf", "Grüße", "$(exit 1)", "-a/'\"", "empty"] {
        fs::write(workspace.join(name), name).unwrap();
    }
    symlink("nowhere", workspace.join("dangling")).unwrap();
    let output = place.run("source");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("read 6 files "), "{}", text(&output.stdout));
}

#[test]
fn source_fails_when_a_file_cannot_be_read() {
    let place = Place::new();
    // A directory in place of `cat`'s file cannot be made, and root reads everything: a `cat` that
    // refuses stands for the file system that does.
    let bin = place.path("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("cat"), "#!/bin/sh\necho 'cat: unreadable' >&2\nexit 1\n").unwrap();
    fs::set_permissions(bin.join("cat"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(place.path("workspace/file"), "x").unwrap();
    let output =
        place.command("source").env("PATH", format!("{}:/usr/bin:/bin", bin.display())).output().unwrap();
    assert!(!output.status.success());
    assert!(!text(&output.stdout).contains("read"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("unreadable"));
}

#[test]
fn workspace_leaves_one_file_and_only_in_the_workspace() {
    let place = Place::new();
    let output = place.run("workspace");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(entries(&place.path("workspace")), [".jericho-smoke-mark"]);
    assert_eq!(entries(&place.path("artifacts")), [""; 0]);
    assert_eq!(entries(&place.path("target")), [""; 0]);
}

#[test]
fn workspace_fails_in_a_workspace_that_was_not_cleaned() {
    let place = Place::new();
    assert!(place.run("workspace").status.success());
    let second = place.run("workspace");
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("an earlier run left it"));
}

#[test]
fn workspace_fails_without_its_directories() {
    for (name, value, message) in [
        ("ARTIFACTS", "", "ARTIFACTS is not set"),
        ("CARGO_TARGET_DIR", "", "CARGO_TARGET_DIR is not set"),
        ("ARTIFACTS", "/nowhere/at/all", "is not a directory"),
    ] {
        let place = Place::new();
        let output = place.command("workspace").env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}={value}");
        assert!(text(&output.stderr).contains(message), "{}", text(&output.stderr));
    }
}

#[test]
fn isolation_fails_in_the_workspace_of_another_job() {
    let place = Place::new();
    let output = place.run("isolation");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(place.run("workspace").status.success());
    let shared = place.run("isolation");
    assert_eq!(shared.status.code(), Some(1));
    assert!(text(&shared.stderr).contains("shared with the job that wrote it"));
}

#[test]
fn isolation_fails_when_git_looks_above_the_workspace() {
    let place = Place::new();
    let made = program("git").args(["init", "-q"]).current_dir(place.root.path()).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let bounded = place.run("isolation");
    assert!(bounded.status.success(), "{}", text(&bounded.stderr));
    let unbounded = place.command("isolation").env_remove("GIT_CEILING_DIRECTORIES").output().unwrap();
    assert_eq!(unbounded.status.code(), Some(1));
    assert!(text(&unbounded.stderr).contains("above this workspace"));
}

#[test]
fn the_smoke_target_meets_the_rules_of_a_request() {
    let target = target();
    jerichoci::run::request::RunRequest::new(target.jobs).check().unwrap();
    assert!(jerichoci::model::id::check_name(&target.id).is_ok());
}
