//! Changed files: against the merge base, plus what is not committed.

use std::fs;

use anyhow::Result;
use jericho_host::CancelToken;
use jericho_testkit::repo::Repo;
use jerichoci::snapshot::{Base, ChangedFiles, git_changed_files};
use tempfile::TempDir;

use crate::rig::environment;

struct Clone {
    _tmp: TempDir,
    upstream: Repo,
    repo: Repo,
}

/// An upstream with three files and a clone of it.
fn cloned() -> Result<Clone> {
    let tmp = TempDir::new()?;
    let upstream = Repo::init(tmp.path().join("upstream"))?;
    for name in ["a", "dir/b", "dir/c"] {
        upstream.write(name, format!("the content of {name}\n").repeat(9))?;
    }
    upstream.commit("first")?;
    let work = tmp.path().join("work");
    upstream.git(["clone", "-q", ".", &work.to_string_lossy()])?;
    Ok(Clone { upstream, repo: Repo::at(work), _tmp: tmp })
}

fn changed(repo: &Repo, base: Option<&str>) -> Result<ChangedFiles> {
    Ok(git_changed_files(repo.root(), base, &environment(), &CancelToken::new()?)?)
}

fn why(changed: &ChangedFiles) -> &str {
    match &changed.base {
        Base::None { why } => why,
        Base::Used { rev, .. } => panic!("a base was found: {rev}"),
    }
}

fn rev(changed: &ChangedFiles) -> &str {
    match &changed.base {
        Base::Used { rev, .. } => rev,
        Base::None { why } => panic!("{why}"),
    }
}

#[test]
fn a_clean_branch_ahead_of_its_base_has_changed_what_its_commits_changed() -> Result<()> {
    let Clone { upstream, repo, .. } = &cloned()?;
    repo.git(["checkout", "-q", "-b", "feature"])?;
    for name in ["one", "two", "three"] {
        repo.write(format!("new/{name}"), name)?;
        repo.commit(name)?;
    }
    // The upstream goes on meanwhile: that is not this branch's change.
    upstream.write("a", "elsewhere")?;
    upstream.commit("upstream")?;
    repo.git(["fetch", "-q"])?;
    let found = changed(repo, None)?;
    assert_eq!(found.files, ["new/one", "new/three", "new/two"]);
    assert_eq!(rev(&found), "refs/remotes/origin/main");
    assert_eq!(changed(repo, Some("HEAD~1"))?.files, ["new/three"]);
    assert_eq!(changed(repo, Some("origin/main"))?.files, found.files);
    Ok(())
}

#[test]
fn dirty_staged_untracked_and_deleted_files_are_changed_and_ignored_ones_are_not() -> Result<()> {
    let Clone { repo, .. } = &cloned()?;
    repo.write(".gitignore", "*.log\n")?;
    repo.commit("ignore")?;
    repo.write("a", "dirty")?;
    repo.write("staged", "1")?;
    repo.git(["add", "staged"])?;
    repo.write("untracked/x", "1")?;
    repo.write("x.log", "1")?;
    fs::remove_file(repo.root().join("dir/b"))?;
    assert_eq!(changed(repo, None)?.files, [".gitignore", "a", "dir/b", "staged", "untracked/x"]);
    Ok(())
}

#[test]
fn a_rename_gives_both_names_committed_or_not() -> Result<()> {
    let Clone { repo, .. } = &cloned()?;
    repo.git(["checkout", "-q", "-b", "feature"])?;
    repo.git(["mv", "a", "renamed"])?;
    assert_eq!(changed(repo, None)?.files, ["a", "renamed"], "staged");
    repo.commit("rename")?;
    assert_eq!(changed(repo, None)?.files, ["a", "renamed"], "committed");
    Ok(())
}

#[test]
fn names_are_relative_to_the_top_of_the_repository_and_never_quoted() -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let Clone { repo, .. } = &cloned()?;
    repo.write("dir/über \"x\"\n", "1")?;
    repo.commit("odd")?;
    repo.write(std::ffi::OsStr::from_bytes(b"dir/\xff"), "1")?;
    repo.write("dir/new", "1")?;
    let inside = Repo::at(repo.root().join("dir"));
    let found = changed(&inside, None)?;
    assert_eq!(found.files, ["dir/new", "dir/über \"x\"\n", "dir/\u{fffd}"]);
    assert!(found.raw.contains(&b"dir/\xff".to_vec()));
    assert_eq!(found.files, changed(repo, None)?.files);
    Ok(())
}

#[test]
fn a_change_that_is_taken_back_in_the_work_tree_is_still_one() -> Result<()> {
    let Clone { repo, .. } = &cloned()?;
    let before = fs::read(repo.root().join("a"))?;
    repo.write("a", "committed")?;
    repo.commit("a")?;
    repo.write("a", before)?;
    assert_eq!(changed(repo, None)?.files, ["a"]);
    Ok(())
}

#[test]
fn the_head_is_never_its_own_base() -> Result<()> {
    let Clone { repo, .. } = &cloned()?;
    repo.write("a", "2")?;
    for base in ["HEAD", "@", "main", "refs/heads/main"] {
        let found = changed(repo, Some(base))?;
        assert!(why(&found).contains("the head itself"), "{base}");
    }
    // The upstream's branch is another one, also when both are the same commit.
    let found = changed(repo, None)?;
    assert_eq!(
        (found.files.as_slice(), rev(&found)),
        (["a".to_owned()].as_slice(), "refs/remotes/origin/main")
    );
    Ok(())
}

#[test]
fn a_detached_head_is_compared_with_the_default_branch() -> Result<()> {
    let Clone { repo, .. } = &cloned()?;
    repo.git(["checkout", "-q", "--detach"])?;
    repo.write("a", "2")?;
    repo.commit("detached")?;
    assert_eq!(changed(repo, None)?.files, ["a"]);
    Ok(())
}

#[test]
fn the_remote_of_the_branch_decides_and_its_head_may_have_to_be_guessed() -> Result<()> {
    let Clone { upstream, repo, .. } = &cloned()?;
    repo.git(["remote", "rename", "origin", "company"])?;
    repo.git(["remote", "set-head", "company", "--delete"])?;
    repo.write("a", "2")?;
    repo.commit("a")?;
    let found = changed(repo, None)?;
    assert_eq!(
        (rev(&found), found.files.as_slice()),
        ("refs/remotes/company/main", ["a".to_owned()].as_slice())
    );
    upstream.git(["branch", "-q", "-m", "main", "trunk"])?;
    repo.git(["fetch", "-q", "--prune"])?;
    assert!(why(&changed(repo, None)?).contains("default branch of the remote \"company\""));
    repo.git(["config", "init.defaultBranch", "trunk"])?;
    assert_eq!(rev(&changed(repo, None)?), "refs/remotes/company/trunk");
    Ok(())
}

#[test]
fn a_shallow_clone_without_the_common_history_says_so() -> Result<()> {
    let Clone { upstream, _tmp: tmp, .. } = &cloned()?;
    upstream.git(["checkout", "-q", "-b", "feature"])?;
    for name in ["x", "y"] {
        upstream.write(name, "1")?;
        upstream.commit(name)?;
    }
    upstream.git(["checkout", "-q", "main"])?;
    upstream.write("z", "1")?;
    upstream.commit("z")?;
    let work = tmp.path().join("shallow");
    let url = format!("file://{}", upstream.root().display());
    upstream.git([
        "clone",
        "-q",
        "--depth",
        "1",
        "--no-single-branch",
        "-b",
        "feature",
        &url,
        &work.to_string_lossy(),
    ])?;
    let repo = Repo::at(work);
    repo.write("dirty", "1")?;
    let found = changed(&repo, None)?;
    assert!(why(&found).contains("shallow"), "{}", why(&found));
    assert_eq!(found.files, ["dirty"]);
    Ok(())
}

#[test]
fn without_a_base_there_is_a_reason() -> Result<()> {
    let tmp = TempDir::new()?;
    let repo = Repo::at(tmp.path().join("x"));
    fs::create_dir(repo.root())?;
    assert_eq!(why(&changed(&repo, None)?), "this is not a git repository");
    Repo::init(repo.root())?;
    repo.write("a", "1")?;
    let unborn = changed(&repo, None)?;
    assert_eq!(
        (why(&unborn), unborn.files.as_slice()),
        ("there is no commit yet", ["a".to_owned()].as_slice())
    );
    repo.commit("a")?;
    assert_eq!(why(&changed(&repo, None)?), "the repository has no remote");
    assert_eq!(why(&changed(&repo, Some("gone"))?), "the base revision \"gone\" is not known here");
    assert_eq!(why(&changed(&repo, Some("--help"))?), "the base revision \"--help\" is not known here");
    repo.git(["checkout", "-q", "--orphan", "other"])?;
    repo.commit("unrelated")?;
    assert!(why(&changed(&repo, Some("main"))?).contains("no common history"));
    Ok(())
}
