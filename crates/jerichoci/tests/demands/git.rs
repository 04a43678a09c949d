//! A `.git` in the workspace.

use std::fs;
use std::path::Path;

use jerichoci::RerunRequest;
use jerichoci::model::demands::WorkspaceGit;
use jerichoci::model::job::JobSpec;
use jerichoci::model::outcome::{FailureKind, Verdict};

use crate::rig::{Rig, git, job, sh};

fn with_git(script: &str, kind: WorkspaceGit) -> JobSpec {
    let mut job = sh("job", script);
    job.git = kind;
    job
}

fn three_commits(rig: &Rig) -> String {
    rig.commit("first");
    git(&rig.root, &["-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "v1", "-m", "one"]);
    fs::write(rig.root.join("b.txt"), "b\n").unwrap();
    rig.commit("second");
    fs::write(rig.root.join("a.txt"), "two\n").unwrap();
    rig.commit("third")
}

/// Everything in a repository with its time, to see that nothing wrote to it.
fn state_of(dir: &Path) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    let mut all = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                open.push(path.clone());
            }
            // Git renews the time of an object that it would write again, wherever it lies. Only where
            // a job has no mounts of its own can it do that to the caller's.
            let is_object = meta.is_file() && path.components().any(|part| part.as_os_str() == "objects");
            let modified = match is_object && !rustix::process::geteuid().is_root() {
                true => std::time::UNIX_EPOCH + std::time::Duration::from_secs(meta.len()),
                false => meta.modified().unwrap(),
            };
            all.push((path, modified));
        }
    }
    all.sort();
    all
}

#[test]
fn a_job_with_full_git_has_the_history_and_sees_what_differs_from_its_head() {
    let rig = Rig::new();
    let head = three_commits(&rig);
    fs::write(rig.root.join("a.txt"), "dirty\n").unwrap();
    fs::write(rig.root.join("new.txt"), "new\n").unwrap();
    let before = state_of(&rig.root.join(".git"));
    let script = "git log --format=%s; git rev-parse HEAD; git symbolic-ref HEAD; git describe; git status --porcelain
        git diff --stat -- a.txt | head -1; git show HEAD~2:a.txt; git stash -q 2>&1 || true
        git -c user.name=a -c user.email=a@b commit -qam mine && git log --format=%s -1; git gc -q; git fsck --strict";
    let run = rig.run(vec![with_git(script, WorkspaceGit::Full)]);
    assert_eq!(run.verdict, Verdict::Passed, "{}", rig.log(&run, "job"));
    let log = rig.log(&run, "job");
    let described = format!("v1-2-g{}", &head[..7]);
    let expected = [
        "third",
        "second",
        "first",
        &head,
        "refs/heads/main",
        &described,
        " M a.txt",
        "?? new.txt",
        " a.txt | 2 +-",
        "one",
    ];
    assert_eq!(log.lines().take(expected.len()).collect::<Vec<_>>(), expected, "{log}");
    assert_eq!(state_of(&rig.root.join(".git")), before, "nothing wrote to the caller's repository");

    // Again, after the branch went on: the commit of the snapshot, not today's.
    rig.commit("fourth");
    let id = run.run_id.parse().unwrap();
    let cancel = jericho_host::CancelToken::new().unwrap();
    let again = rig.engine().rerun(&RerunRequest::new(id), &mut jerichoci::NoReporter, &cancel).unwrap();
    assert_eq!(
        rig.log(&again, "job").lines().take(4).collect::<Vec<_>>(),
        ["third", "second", "first", &head]
    );
}

#[test]
fn a_job_with_shallow_git_has_the_commit_and_nothing_before_it() {
    let rig = Rig::new();
    let head = three_commits(&rig);
    git(&rig.root, &["tag", "v2"]);
    let script =
        "git log --format=%s; git rev-parse HEAD; git status --porcelain; git describe --tags; git tag
        git rev-parse --is-shallow-repository; git fsck --no-dangling";
    let run = rig.run(vec![with_git(script, WorkspaceGit::Shallow)]);
    assert_eq!(run.verdict, Verdict::Passed, "{}", rig.log(&run, "job"));
    assert_eq!(rig.log(&run, "job"), format!("third\n{head}\nv2\nv2\ntrue\n"));
    let run = rig.run(vec![sh("job", "git log")]);
    assert_ne!(run.verdict, Verdict::Passed, "without being asked for, there is none");
}

#[test]
fn a_worktree_a_shallow_clone_a_detached_head_and_left_out_files_are_as_good() {
    let rig = Rig::new();
    fs::write(rig.root.join(".jerichoignore"), "").unwrap();
    three_commits(&rig);
    let linked = rig.outside().join("linked");
    git(&rig.root, &["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    let clone = rig.outside().join("clone");
    let url = format!("file://{}", rig.root.display());
    git(&rig.outside(), &["clone", "-q", "--depth", "2", &url, clone.to_str().unwrap()]);
    let detached = rig.outside().join("detached");
    git(&rig.outside(), &["clone", "-q", rig.root.to_str().unwrap(), detached.to_str().unwrap()]);
    git(&detached, &["checkout", "-q", "--detach", "HEAD~1"]);
    fs::write(detached.join(".jerichociignore"), "b.txt\n").unwrap();
    let script =
        "git log --format=%s; git symbolic-ref -q HEAD || echo detached; git status --porcelain; git fsck";
    for (root, expected) in [
        (&linked, "third\nsecond\nfirst\nrefs/heads/side\n"),
        (&clone, "third\nsecond\nrefs/heads/main\n"),
        (&detached, "second\nfirst\ndetached\n?? .jerichociignore\n"),
    ] {
        let mut other = Rig::new();
        other.config.source_root.clone_from(root);
        let run = other.run(vec![with_git(script, WorkspaceGit::Full)]);
        assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
        assert_eq!(other.log(&run, "job"), expected, "{}", root.display());
    }
}

#[test]
fn a_tree_with_submodules_is_a_work_tree_of_its_own_repository() {
    let rig = Rig::new();
    three_commits(&rig);
    let library = Rig::new();
    library.commit("library");
    let url = library.root.to_str().unwrap();
    git(&rig.root, &["-c", "protocol.file.allow=always", "submodule", "add", "-q", url, "lib"]);
    rig.commit("with library");
    let script =
        "git log --format=%s -1; git status --porcelain; cat lib/a.txt; git -C lib rev-parse --show-toplevel";
    let run = rig.run(vec![with_git(script, WorkspaceGit::Full)]);
    let log = rig.log(&run, "job");
    assert!(log.starts_with("with library\none\n"), "{log}");
    assert!(log.trim_end().ends_with("/workspace") || log.trim_end().ends_with("/tree"), "{log}");
}

#[test]
fn without_a_repository_or_a_commit_a_job_that_asks_for_git_is_errored_and_says_so() {
    let rig = Rig::new();
    let run = rig.run(vec![with_git("true", WorkspaceGit::Full)]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure));
    assert!(job(&run, "job").message.as_ref().unwrap().contains("has no commit"), "{run:#?}");
    let mut plain = Rig::new();
    let dir = plain.outside().join("plain");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), "x").unwrap();
    plain.config.source_root = dir;
    let run = plain.run(vec![with_git("true", WorkspaceGit::Shallow)]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure));
    assert!(job(&run, "job").message.as_ref().unwrap().contains("has no commit"), "{run:#?}");
}
