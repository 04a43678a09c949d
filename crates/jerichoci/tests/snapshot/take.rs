//! What is in a snapshot, and what it costs to take one.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use jericho_testkit::need;
use jericho_testkit::repo::{self, Random, Repo};
use jerichoci::snapshot::{EntryKind, Manifest, Profile, SnapshotError, SnapshotWarning, git_changed_files};
use proptest::prelude::*;

use crate::rig::{self, Rig, SetClock, oracle};

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_is_what_git_and_lstat_say(seed: u64) {
        let rig = Rig::new().unwrap();
        let mut random = Random::new(seed);
        repo::grow(&rig.root, &mut random).unwrap();
        let before = rig::tree_of(&rig.root).unwrap();
        let expected = oracle(&rig.root).unwrap();
        let snapshot = rig.take().unwrap();
        prop_assert_eq!(shown(&snapshot.manifest), shown(&expected));
        prop_assert_eq!(snapshot.hash, expected.hash());
        prop_assert_eq!(rig::tree_of(&rig.root).unwrap(), before, "the tree was changed");

        let mut spec = rig.spec();
        spec.facts = true;
        prop_assert_eq!(rig.store.take(&spec, &rig.cancel).unwrap().hash, expected.hash(), "with facts");
        for _ in 0..3 {
            repo::mutate(&rig.root, &mut random).unwrap();
            let expected = oracle(&rig.root).unwrap();
            let snapshot = rig.take().unwrap();
            prop_assert_eq!(shown(&snapshot.manifest), shown(&expected), "after a change");
        }
        let published = rig.store.load(&rig.take().unwrap().hash).unwrap().unwrap();
        prop_assert_eq!(published.hash(), oracle(&rig.root).unwrap().hash());
    }
}

fn shown(manifest: &Manifest) -> Vec<String> {
    let line = |entry: jerichoci::snapshot::Entry<'_>| {
        format!("{:?} {} {}", entry.kind, entry.path.escape_ascii(), entry.hash)
    };
    manifest.iter().map(line).collect()
}

#[test]
fn the_hash_changes_with_name_kind_mode_or_content_and_nothing_else() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("dir/a", "content")?;
    repo.write("b", "other")?;
    let first = rig.settle()?.hash;

    let path = rig.root.join("dir/a");
    fs::write(&path, "content")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    assert_eq!(rig.take()?.hash, first, "time and other permissions");
    repo.commit("committed")?;
    fs::create_dir(rig.root.join("empty"))?;
    assert_eq!(rig.take()?.hash, first, "index, head, empty directory");

    fs::write(&path, "CONTENT")?;
    assert_ne!(rig.take()?.hash, first, "content of the same size");
    fs::write(&path, "content")?;
    assert_eq!(rig.take()?.hash, first);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    assert_ne!(rig.take()?.hash, first, "executable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    assert_eq!(rig.take()?.hash, first);

    fs::rename(&path, rig.root.join("dir/c"))?;
    assert_ne!(rig.take()?.hash, first, "name");
    symlink("content", &path)?;
    fs::remove_file(rig.root.join("dir/c"))?;
    assert_ne!(rig.take()?.hash, first, "kind");
    Ok(())
}

#[test]
fn nothing_changed_reads_nothing() -> Result<()> {
    let (mut rig, repo) = Rig::with_repo()?;
    for number in 0..200 {
        repo.write(format!("d{}/f{number}", number % 7), format!("{number}"))?;
    }
    let first = rig.settle()?;
    rig.reopen()?;
    let again = rig.take()?;
    assert_eq!((again.hash, again.stats.hashed_files, again.stats.is_new), (first.hash, 0, false));
    repo.write("d3/f3", "changed")?;
    assert_eq!(rig.take()?.stats.hashed_files, 1);
    Ok(())
}

#[test]
fn a_change_within_one_tick_and_with_the_old_times_put_back_is_seen() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    let path = rig.root.join("f");
    for round in 0..30u32 {
        repo.write("f", format!("{round:08}"))?;
        let times = fs::metadata(&path)?.modified()?;
        rig.take()?;
        rig.store.settle();
        // The same size, the same times, at once.
        fs::write(&path, format!("{:08}", round + 1000))?;
        fs::File::options().write(true).open(&path)?.set_modified(times)?;
        assert_eq!(rig.take()?.hash, oracle(&rig.root)?.hash(), "round {round}");
    }
    Ok(())
}

#[test]
fn a_file_that_changed_just_now_is_read_again_the_next_time() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("f", "1")?;
    let changed: DateTime<Utc> = fs::metadata(rig.root.join("f"))?.modified()?.into();
    let clock = Arc::new(SetClock(Mutex::new(changed + TimeDelta::milliseconds(5))));
    let store = rig::open_store_at(&rig.state(), clock.clone())?;
    let read = || -> Result<u64> {
        let snapshot = store.take(&rig.spec(), &rig.cancel)?;
        store.settle();
        Ok(snapshot.stats.hashed_files)
    };
    assert_eq!([read()?, read()?, read()?], [1, 1, 1], "it could change again without another time");
    *clock.0.lock().unwrap() += TimeDelta::seconds(5);
    assert_eq!([read()?, read()?, read()?], [1, 0, 0]);
    // Also beside files of which enough time has passed to remember them.
    repo.write("g", "2")?;
    let later: DateTime<Utc> = *clock.0.lock().unwrap() + TimeDelta::hours(1);
    fs::File::options().write(true).open(rig.root.join("f"))?.set_modified(later.into())?;
    *clock.0.lock().unwrap() += TimeDelta::minutes(1);
    assert_eq!([read()?, read()?, read()?], [2, 1, 1], "only one of them could not change unseen");
    *clock.0.lock().unwrap() += TimeDelta::hours(2);
    assert_eq!([read()?, read()?], [1, 0]);
    Ok(())
}

#[test]
fn a_rename_of_another_file_over_it_is_seen() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("f", "1111")?;
    repo.write("g", "2222")?;
    let time = fs::metadata(rig.root.join("f"))?.modified()?;
    fs::File::options().write(true).open(rig.root.join("g"))?.set_modified(time)?;
    rig.settle()?;
    fs::rename(rig.root.join("g"), rig.root.join("f"))?;
    assert_eq!(rig.take()?.hash, oracle(&rig.root)?.hash());
    Ok(())
}

#[test]
fn a_fifo_and_a_socket_are_left_out_with_a_warning_that_names_them() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    repo.write("p\n", "tracked, then replaced")?;
    repo.commit("all")?;
    fs::remove_file(rig.root.join("p\n"))?;
    repo::fifo(&rig.root.join("p\n"))?;
    let _socket = std::os::unix::net::UnixListener::bind(rig.root.join("s"))?;
    let snapshot = rig.take()?;
    assert_eq!(rig.paths()?, ["a"]);
    // Git does not list an untracked socket; a tracked name that became a FIFO it does.
    let left_out = SnapshotWarning::LeftOut { file: "p\\n".into(), kind: "FIFO" };
    assert_eq!(snapshot.warnings, [left_out]);

    fs::remove_dir_all(rig.root.join(".git"))?;
    let kinds: Vec<String> = rig.take()?.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(kinds, ["p\\n is left out: it is a FIFO", "s is left out: it is a socket"]);
    Ok(())
}

#[test]
fn ignored_files_stay_out_and_tracked_ones_in_whatever_their_name() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write(".gitignore", "*.env\nout/\n")?;
    repo.write("secret.env", "x")?;
    repo.write("src/build/target/node_modules/kept.rs", "x")?;
    repo.write("out/object", "x")?;
    repo.write("kept.env", "x")?;
    repo.git(["add", "-f", "kept.env"])?;
    assert_eq!(rig.paths()?, [".gitignore", "kept.env", "src/build/target/node_modules/kept.rs"]);
    Ok(())
}

#[test]
fn the_state_root_is_left_out_wherever_it_lies() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    repo.write("deep/state/run.json", "{}")?;
    repo.write("deep/state2", "kept")?;
    repo.git(["add", "-A"])?;
    let mut spec = rig.spec();
    let paths = |spec: &_| -> Result<Vec<String>> {
        let snapshot = rig.store.take(spec, &rig.cancel)?;
        Ok(snapshot.manifest.iter().map(|entry| String::from_utf8_lossy(entry.path).into_owned()).collect())
    };
    spec.state_root = Some(rig.root.join("deep/state"));
    assert_eq!(paths(&spec)?, ["a", "deep/state2"]);
    symlink(rig.root.join("deep"), rig.tmp.path().join("way"))?;
    spec.state_root = Some(rig.tmp.path().join("way/state"));
    assert_eq!(paths(&spec)?, ["a", "deep/state2"], "by way of a link");
    spec.state_root = Some(rig.root.join("not/yet"));
    assert_eq!(paths(&spec)?.len(), 3);
    spec.state_root = Some(rig.root.clone());
    assert!(matches!(rig.store.take(&spec, &rig.cancel), Err(SnapshotError::StateRootIsSource { .. })));
    Ok(())
}

#[test]
fn the_profile_and_the_ignore_file_leave_more_out() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    for path in ["ios/a", "android/a", "src/ios/a", "big/data.bin", "big/keep.bin", "docs/x.md"] {
        repo.write(path, "1")?;
    }
    repo.write(".jerichociignore", "/big/*\n!/big/keep.bin\ndocs/\n")?;
    repo.commit("all")?;
    let mut spec = rig.spec();
    spec.profile = Profile::rust();
    let snapshot = rig.store.take(&spec, &rig.cancel)?;
    let paths: Vec<_> = snapshot.manifest.iter().map(|entry| entry.path.escape_ascii().to_string()).collect();
    assert_eq!(paths, [".jerichociignore", "big/keep.bin", "src/ios/a"]);
    Ok(())
}

#[test]
fn without_a_repository_the_gitignore_files_decide() -> Result<()> {
    let rig = Rig::new()?;
    let plain = Repo::at(&rig.root);
    for path in ["a", ".hidden/b", "sub/x.log", "sub/keep.log", "sub/.gitignore", "inner/c", "inner/d"] {
        plain.write(path, if path.ends_with(".gitignore") { "*.log\n!keep.log\n" } else { "1" })?;
    }
    let inner = Repo::init(rig.root.join("inner"))?;
    inner.write(".gitignore", "d\n")?;
    let expected = [".hidden/b", "a", "inner/.gitignore", "inner/c", "sub/.gitignore", "sub/keep.log"];
    assert_eq!(rig.paths()?, expected);
    Ok(())
}

#[test]
fn without_a_git_program_the_walk_is_used_and_says_so() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    repo.write("b.log", "1")?;
    repo.write(".gitignore", "*.log\n")?;
    let mut spec = rig.spec();
    spec.env.set("PATH", "/nonexistent");
    for facts in [false, true] {
        spec.facts = facts;
        let snapshot = rig.store.take(&spec, &rig.cancel)?;
        assert_eq!(snapshot.warnings, [SnapshotWarning::NoGit]);
        assert_eq!(snapshot.hash, rig.take()?.hash);
    }
    Ok(())
}

#[test]
fn a_refusal_of_git_is_an_error_in_its_words_and_never_a_walk() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    repo.commit("all")?;
    fs::write(rig.root.join(".git/index"), "garbage")?;
    let error = rig.take().unwrap_err();
    assert!(matches!(&error, SnapshotError::Git { message, .. } if message.contains("index")), "{error}");
    fs::remove_file(rig.root.join(".git/HEAD"))?;
    let error = rig.take().unwrap_err();
    assert!(
        matches!(&error, SnapshotError::Git { message, .. } if message.contains("not a git repository")),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_repository_of_another_user_is_refused_in_the_words_of_git() -> Result<()> {
    if !need::needs_root("a_repository_of_another_user_is_refused_in_the_words_of_git") {
        return Ok(());
    }
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    for path in [rig.root.clone(), rig.root.join(".git")] {
        std::os::unix::fs::chown(path, Some(12345), None)?;
    }
    let error = rig.take().unwrap_err();
    assert!(
        matches!(&error, SnapshotError::Git { message, .. } if message.contains("dubious ownership")),
        "{error}"
    );
    Ok(())
}

#[test]
fn variables_of_the_caller_do_not_redirect_git() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    let other = Repo::init(rig.tmp.path().join("other"))?;
    other.write("wrong", "1")?;
    let mut spec = rig.spec();
    spec.env.set("GIT_DIR", other.root().join(".git")).set("GIT_WORK_TREE", other.root());
    spec.env.set("GIT_INDEX_FILE", other.root().join(".git/index"));
    assert_eq!(rig.store.take(&spec, &rig.cancel)?.hash, rig.take()?.hash);
    Ok(())
}

#[test]
fn the_index_of_git_is_not_written() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    repo.commit("all")?;
    // Git would write the index now: the times in it are no longer right.
    let file = fs::File::options().write(true).open(rig.root.join("a"))?;
    file.set_modified(std::time::UNIX_EPOCH)?;
    let index = fs::read(rig.root.join(".git/index"))?;
    let mut spec = rig.spec();
    spec.facts = true;
    assert_eq!(rig.store.take(&spec, &rig.cancel)?.facts.unwrap().dirty, Some(false));
    assert_eq!(fs::read(rig.root.join(".git/index"))?, index);
    Ok(())
}

#[test]
fn a_submodule_that_is_a_link_is_dirty_and_not_an_error() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    let inner = Repo::init(rig.root.join("nested"))?;
    inner.write("a", "1")?;
    inner.commit("inner")?;
    repo.git(["add", "nested"])?;
    repo.commit("all")?;
    let mut spec = rig.spec();
    spec.facts = true;
    let dirty = || -> Result<_> { Ok(rig.store.take(&spec, &rig.cancel)?.facts.unwrap().dirty) };
    assert_eq!(dirty()?, Some(false));
    inner.write("a", "2")?;
    assert_eq!(dirty()?, Some(true), "content of the submodule");
    fs::rename(rig.root.join("nested"), rig.tmp.path().join("elsewhere"))?;
    symlink(rig.tmp.path().join("elsewhere"), rig.root.join("nested"))?;
    assert_eq!(dirty()?, Some(true), "a link");
    assert_eq!(rig.take()?.hash, oracle(&rig.root)?.hash());
    let changed = git_changed_files(&rig.root, None, &rig::environment(), &rig.cancel)?;
    assert_eq!(changed.files, ["nested"]);
    Ok(())
}

#[test]
fn facts_are_what_git_status_says() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    let mut spec = rig.spec();
    spec.facts = true;
    let facts = |spec: &_| -> Result<_> { Ok(rig.store.take(spec, &rig.cancel)?.facts.unwrap()) };
    let unborn = facts(&spec)?;
    assert_eq!((unborn.head, unborn.dirty, unborn.branch.as_deref()), (None, Some(false), Some("main")));
    repo.write("sub/a", "1")?;
    assert_eq!(facts(&spec)?.dirty, Some(true));
    let head = repo.commit("all")?;
    let clean = facts(&spec)?;
    assert_eq!((clean.head.as_ref(), clean.dirty), (Some(&head), Some(false)));
    repo.git(["checkout", "-q", "--detach"])?;
    assert_eq!(facts(&spec)?.branch, None);
    fs::create_dir_all(rig.root.join("state"))?;
    fs::write(rig.root.join("state/x"), "")?;
    spec.state_root = Some(rig.root.join("state"));
    assert_eq!(facts(&spec)?.dirty, Some(false), "the state root does not make it dirty");
    // A part of a repository.
    let mut part = rig::spec(&rig.root.join("sub"));
    part.facts = true;
    let snapshot = rig.store.take(&part, &rig.cancel)?;
    assert_eq!(snapshot.manifest.iter().next().unwrap().path, b"a");
    assert_eq!(snapshot.facts.unwrap().head, Some(head));
    Ok(())
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_names_it() -> Result<()> {
    if !need::needs_ordinary_user("a_file_that_cannot_be_read_is_an_error_that_names_it") {
        return Ok(());
    }
    let (rig, repo) = Rig::with_repo()?;
    repo.write("dir/locked", "1")?;
    repo.write("readable", "1")?;
    fs::set_permissions(rig.root.join("readable"), fs::Permissions::from_mode(0o400))?;
    assert_eq!(rig.take()?.manifest.len(), 2);
    fs::set_permissions(rig.root.join("dir/locked"), fs::Permissions::from_mode(0o000))?;
    let error = rig.take().unwrap_err();
    assert!(matches!(&error, SnapshotError::Unreadable { file, .. } if file == "dir/locked"), "{error}");
    Ok(())
}

#[test]
fn a_file_that_keeps_changing_is_an_error_that_names_it() -> Result<()> {
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    let (rig, repo) = Rig::with_repo()?;
    // Large, so that every reading takes longer than the pause between two writes.
    repo.write("busy.db", vec![b'x'; 64 << 20])?;
    let stop = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::options().write(true).open(rig.root.join("busy.db")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                // In place: its size says nothing.
                file.write_all_at(b"y", 0).unwrap();
                std::thread::yield_now();
            }
        });
        let result = rig.take();
        stop.store(true, Ordering::Relaxed);
        result
    });
    let error = result.unwrap_err();
    let named = matches!(&error, SnapshotError::Unsteady { file, tries: 3 } if file == "busy.db");
    assert!(named, "{error}");
    assert_eq!(rig.take()?.hash, oracle(&rig.root)?.hash(), "quiet again");
    Ok(())
}

#[test]
fn a_tracked_directory_replaced_by_a_link_does_not_lead_out() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("dir/file", "inside")?;
    repo.commit("all")?;
    rig.settle()?;
    fs::create_dir(rig.tmp.path().join("outside"))?;
    fs::write(rig.tmp.path().join("outside/file"), "outside")?;
    fs::remove_dir_all(rig.root.join("dir"))?;
    symlink(rig.tmp.path().join("outside"), rig.root.join("dir"))?;
    let snapshot = rig.take()?;
    let entries: Vec<_> = snapshot.manifest.iter().map(|entry| (entry.path, entry.kind)).collect();
    assert_eq!(entries, [(&b"dir"[..], EntryKind::Symlink)]);
    Ok(())
}

#[test]
fn submodules_are_plain_directories() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    let library = Repo::init(rig.tmp.path().join("library"))?;
    library.write("lib.rs", "1")?;
    library.write("ignored.log", "1")?;
    library.write(".gitignore", "*.log\n")?;
    library.commit("lib")?;
    let url = library.root().as_os_str().as_bytes().to_vec();
    repo.git(["submodule", "-q", "add", std::str::from_utf8(&url)?, "vendor/lib"])?;
    repo.commit("with a submodule")?;
    repo.write("vendor/lib/new.rs", "untracked in the submodule")?;
    repo.write("vendor/lib/other.log", "ignored in the submodule")?;
    let expected = [".gitmodules", "vendor/lib/.gitignore", "vendor/lib/lib.rs", "vendor/lib/new.rs"];
    assert_eq!(rig.paths()?, expected);
    repo.git(["submodule", "-q", "deinit", "-f", "vendor/lib"])?;
    assert_eq!(rig.paths()?, [".gitmodules"]);
    Ok(())
}

#[test]
fn a_tree_that_git_ignores_as_a_whole_says_it_is_empty() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write(".gitignore", "out/\n")?;
    repo.write("out/a", "1")?;
    let snapshot = rig.store.take(&rig::spec(&rig.root.join("out")), &rig.cancel)?;
    assert_eq!((snapshot.manifest.len(), snapshot.warnings), (0, vec![SnapshotWarning::Empty]));
    Ok(())
}

#[test]
fn a_cancelled_token_ends_it() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    rig.cancel.cancel(jericho_host::CancelReason::Signal);
    assert!(matches!(rig.take(), Err(SnapshotError::Cancelled(_))));
    Ok(())
}
