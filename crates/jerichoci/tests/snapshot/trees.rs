//! Trees: new, patched, leased, private; and what jobs may do to them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use chrono::TimeDelta;
use jericho_testkit::repo::{self, Random};
use jerichoci::snapshot::metadata::{MARKER, SnapshotMetadata, publish_tree};
use jerichoci::snapshot::{SnapshotError, Store, StoreDirs, materialize, workspace};
use proptest::prelude::*;

use crate::rig::{Rig, SetClock, expected_tree, tree_of};

fn modified(path: &Path) -> Result<i64> {
    let meta = fs::symlink_metadata(path)?;
    Ok(meta.mtime() * 1_000_000_000 + meta.mtime_nsec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn a_patched_tree_equals_a_new_one(seed: u64) {
        let rig = Rig::new().unwrap();
        let mut random = Random::new(seed);
        repo::grow(&rig.root, &mut random).unwrap();
        let dest = rig.tmp.path().join("tree");
        let mut old = rig.take().unwrap();
        materialize::write_tree(&rig.store, &old.manifest, &dest, &rig.cancel).unwrap();
        expected_tree(&old.manifest, &dest).unwrap();
        for step in 0..4 {
            for _ in 0..=step {
                repo::mutate(&rig.root, &mut random).unwrap();
            }
            let new = rig.take().unwrap();
            let before: Vec<_> = tree_of(&dest).unwrap().into_keys().map(|path| {
                let time = modified(&dest.join(std::ffi::OsStr::new(&*String::from_utf8_lossy(&path))));
                (path, time.ok())
            }).collect();
            let stamp = 4_000_000_000_000_000_000 + i64::from(step);
            materialize::patch_tree(&rig.store, &dest, &old.manifest, &new.manifest, stamp, &rig.cancel).unwrap();
            expected_tree(&new.manifest, &dest).unwrap();
            for (path, time) in before {
                let (Some(time), Some(was), Some(is)) = (time, old.manifest.get(&path), new.manifest.get(&path)) else {
                    continue;
                };
                let now = modified(&dest.join(std::ffi::OsStr::new(&*String::from_utf8_lossy(&path)))).unwrap();
                let expected = if (was.kind, was.hash) == (is.kind, is.hash) { time } else { stamp };
                prop_assert_eq!(now, expected);
            }
            old = new;
        }
    }

    #[test]
    fn a_private_copy_repairs_whatever_a_job_did(seed: u64) {
        let rig = Rig::new().unwrap();
        let mut random = Random::new(seed);
        repo::grow(&rig.root, &mut random).unwrap();
        let dir = rig.tmp.path().join("private");
        for _ in 0..4 {
            let snapshot = rig.take().unwrap();
            let copy = workspace::private_copy(&rig.store, &dir, &snapshot.manifest, &rig.cancel).unwrap();
            expected_tree(&snapshot.manifest, &copy.path).unwrap();
            // The job, in the very tick in which the copy was made.
            repo::mutate(&copy.path, &mut random).unwrap();
            repo::mutate(&copy.path, &mut random).unwrap();
            if random.once_in(2) {
                repo::mutate(&rig.root, &mut random).unwrap();
            }
        }
    }
}

/// A source with 300 files in some directories.
fn many(rig: &Rig, repo: &repo::Repo) -> Result<()> {
    for number in 0..300 {
        repo.write(format!("d{}/f{number}", number % 9), format!("content {number}"))?;
    }
    symlink("d1/f1", rig.root.join("link"))?;
    Ok(())
}

#[test]
fn a_private_copy_keeps_what_is_right_and_removes_the_rest() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    many(&rig, &repo)?;
    let snapshot = rig.take()?;
    let dir = rig.tmp.path().join("private");
    let outside = rig.tmp.path().join("outside");
    fs::create_dir(&outside)?;
    fs::write(outside.join("precious"), "x")?;

    let copy = workspace::private_copy(&rig.store, &dir, &snapshot.manifest, &rig.cancel)?;
    assert_eq!(copy.report.written, 301);
    let tree = copy.path.clone();
    drop(copy);
    let again = workspace::private_copy(&rig.store, &dir, &snapshot.manifest, &rig.cancel)?;
    assert_eq!((again.report.kept, again.report.written, again.report.removed), (301, 0, 0));
    drop(again);

    // What a job may leave behind.
    fs::create_dir_all(tree.join("target/debug/deep"))?;
    fs::write(tree.join("target/debug/deep/out"), "x")?;
    fs::set_permissions(tree.join("target/debug/deep"), fs::Permissions::from_mode(0o500))?;
    fs::create_dir(tree.join("d2/locked"))?;
    fs::set_permissions(tree.join("d2/locked"), fs::Permissions::from_mode(0o000))?;
    repo::fifo(&tree.join("fifo"))?;
    symlink(&outside, tree.join("d3/way-out"))?;
    fs::remove_dir_all(tree.join("d4"))?;
    symlink(&outside, tree.join("d4"))?;
    fs::set_permissions(tree.join("d5"), fs::Permissions::from_mode(0o555))?;
    fs::set_permissions(tree.join("d1/f1"), fs::Permissions::from_mode(0o600))?;
    fs::write(tree.join("d1/f10"), "CONTENT 10")?;
    let time = fs::metadata(tree.join("d1/f19"))?.modified()?;
    fs::write(tree.join("d1/f19"), "CONTENT 19")?;
    fs::File::options().write(true).open(tree.join("d1/f19"))?.set_modified(time)?;
    let kept = modified(&tree.join("d1/f28"))?;
    let tampered = modified(&tree.join("d1/f19"))?;

    let mended = workspace::private_copy(&rig.store, &dir, &snapshot.manifest, &rig.cancel)?;
    expected_tree(&snapshot.manifest, &mended.path)?;
    assert_eq!(modified(&tree.join("d1/f28"))?, kept, "what is right keeps its time");
    assert!(modified(&tree.join("d1/f19"))? > tampered, "what is mended is new");
    assert_eq!(fs::read_to_string(outside.join("precious"))?, "x");
    let d4 = snapshot.manifest.iter().filter(|entry| entry.path.starts_with(b"d4/")).count() as u64;
    assert_eq!(mended.report.written, d4 + 3);
    Ok(())
}

#[test]
fn a_private_copy_shares_no_inode_with_anything() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    let snapshot = rig.take()?;
    let copy =
        workspace::private_copy(&rig.store, &rig.tmp.path().join("p"), &snapshot.manifest, &rig.cancel)?;
    assert_eq!(fs::metadata(copy.path.join("a"))?.nlink(), 1);
    assert_eq!(fs::metadata(rig.root.join("a"))?.nlink(), 1);
    // A job makes a second name and changes the file by it, after the lease.
    fs::hard_link(copy.path.join("a"), rig.tmp.path().join("second"))?;
    drop(copy);
    fs::write(rig.tmp.path().join("second"), "2")?;
    let again =
        workspace::private_copy(&rig.store, &rig.tmp.path().join("p"), &snapshot.manifest, &rig.cancel)?;
    expected_tree(&snapshot.manifest, &again.path)?;
    assert_eq!(fs::read_to_string(rig.tmp.path().join("second"))?, "2", "not written through");
    Ok(())
}

#[test]
fn slots_are_chosen_by_content_then_source_then_age() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    let slots = rig.tmp.path().join("slots");
    let lease = |name: &str, affinity: &str| -> Result<_> {
        repo.write("file", name)?;
        let snapshot = rig.take()?;
        let lease = workspace::lease_tree(&rig.store, &slots, &snapshot.manifest, affinity, &rig.cancel)?;
        expected_tree(&snapshot.manifest, &lease.path)?;
        Ok(lease)
    };
    let (a, b) = (lease("a", "/x")?, lease("b", "/x")?);
    assert_eq!((a.slot, b.slot), (0, 1), "one tree in use is never patched");
    let c = lease("c", "/y")?;
    assert_eq!(c.slot, 2);
    assert_eq!(
        a.hash(),
        Some({
            repo.write("file", "a")?;
            rig.take()?.hash
        })
    );
    drop((a, b, c));
    assert_eq!(lease("b", "/z")?.slot, 1, "the same content");
    assert_eq!(lease("d", "/x")?.slot, 0, "the same source");
    assert_eq!(lease("e", "/y")?.slot, 2, "the same source");
    let (first, second) = (lease("f", "/new")?, lease("g", "/new")?);
    assert_eq!((first.slot, second.slot), (1, 0), "the ones used longest ago");
    Ok(())
}

#[test]
fn a_leased_tree_again_costs_nothing_and_a_patch_touches_only_what_changed() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    many(&rig, &repo)?;
    let slots = rig.tmp.path().join("slots");
    let lease = || -> Result<_> {
        Ok(workspace::lease_tree(&rig.store, &slots, &rig.take()?.manifest, "/x", &rig.cancel)?)
    };
    let first = lease()?;
    let (path, kept) = (first.path.clone(), modified(&first.path.join("d1/f1"))?);
    assert_eq!(first.report.written, 301);
    drop(first);
    assert_eq!(lease()?.report.written, 0);
    repo.write("d2/f2", "changed")?;
    fs::remove_file(rig.root.join("d3/f3"))?;
    let patched = lease()?;
    assert_eq!((patched.path.clone(), patched.report.written, patched.report.removed), (path, 1, 1));
    assert_eq!(modified(&patched.path.join("d1/f1"))?, kept);
    assert!(modified(&patched.path.join("d2/f2"))? > kept);
    Ok(())
}

#[test]
fn a_tree_that_was_being_changed_or_is_from_another_boot_is_not_trusted() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    many(&rig, &repo)?;
    let slots = rig.tmp.path().join("slots");
    let snapshot = rig.take()?;
    let lease = || workspace::lease_tree(&rig.store, &slots, &snapshot.manifest, "/x", &rig.cancel);
    drop(lease()?);
    let (tree, state) = (slots.join("0/tree"), slots.join("0/state"));
    for edit in [
        |text: &str| text.replace("\"changing\": false", "\"changing\": true"),
        |text: &str| text.replace("\"boot_id\": \"", "\"boot_id\": \"not "),
        |_: &str| "torn".to_owned(),
    ] {
        fs::write(tree.join("d1/f1"), "half")?;
        fs::remove_file(tree.join("d2/f2"))?;
        fs::write(tree.join("left"), "over")?;
        fs::write(&state, edit(&fs::read_to_string(&state)?))?;
        let lease = lease()?;
        expected_tree(&snapshot.manifest, &lease.path)?;
        assert_eq!((lease.report.written, lease.report.removed), (2, 1));
    }
    Ok(())
}

#[test]
fn a_tree_can_be_patched_after_its_old_snapshot_was_collected() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    many(&rig, &repo)?;
    let slots = rig.tmp.path().join("slots");
    drop(workspace::lease_tree(&rig.store, &slots, &rig.take()?.manifest, "/x", &rig.cancel)?);
    repo.write("d2/f2", "changed")?;
    let snapshot = rig.take()?;
    rig.store.collect(|| Ok([snapshot.hash].into()), false, &rig.cancel)?;
    let lease = workspace::lease_tree(&rig.store, &slots, &snapshot.manifest, "/x", &rig.cancel)?;
    assert_eq!(lease.report.written, 1);
    expected_tree(&snapshot.manifest, &lease.path)
}

#[test]
fn times_in_one_tree_only_go_forward_even_when_the_clock_goes_back() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    // In the future of the file system, so that only this clock and its own past count.
    let clock = Arc::new(SetClock(Mutex::new("2100-01-01T00:00:00Z".parse()?)));
    let dirs = StoreDirs {
        store: rig.state().join("store"),
        snapshots: rig.state().join("snapshots"),
        stat_cache: rig.state().join("stat"),
    };
    let store = Store::open(dirs, clock.clone())?;
    let slots = rig.tmp.path().join("slots");
    let private = rig.tmp.path().join("private");
    let (mut last, mut last_private) = (0, 0);
    for step in [0, 1, 0, -1000, 0, -10_000_000] {
        repo.write("file", format!("{step} {last}"))?;
        *clock.0.lock().unwrap() += TimeDelta::seconds(step);
        let snapshot = store.take(&rig.spec(), &rig.cancel)?;
        let lease = workspace::lease_tree(&store, &slots, &snapshot.manifest, "/x", &rig.cancel)?;
        let copy = workspace::private_copy(&store, &private, &snapshot.manifest, &rig.cancel)?;
        let (time, time_private) = (modified(&lease.path.join("file"))?, modified(&copy.path.join("file"))?);
        assert!(time > last && time_private > last_private, "{time} {last}");
        (last, last_private) = (time, time_private);
    }
    Ok(())
}

#[test]
fn the_umask_does_not_show_in_a_tree() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    many(&rig, &repo)?;
    repo.write("z/run", "x")?;
    fs::set_permissions(rig.root.join("z/run"), fs::Permissions::from_mode(0o700))?;
    let snapshot = rig.take()?;
    let out = rig.tmp.path().join("out");
    fs::create_dir(&out)?;
    // The umask belongs to the whole process, so another one does this.
    let child = crate::rig::again(
        "trees::child_writes_with_a_narrow_umask",
        &[
            ("JERICHO_TEST_STATE", &rig.state()),
            ("JERICHO_TEST_OUT", &out),
            ("JERICHO_TEST_HASH", Path::new(&snapshot.hash.to_string())),
        ],
    )?
    .output()?;
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    expected_tree(&snapshot.manifest, &out)
}

#[test]
fn child_writes_with_a_narrow_umask() -> Result<()> {
    let (Some(state), Some(out)) =
        (crate::rig::variable("JERICHO_TEST_STATE"), crate::rig::variable("JERICHO_TEST_OUT"))
    else {
        return Ok(());
    };
    let hash = crate::rig::variable("JERICHO_TEST_HASH").unwrap();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let store = crate::rig::open_store(&state)?;
    let manifest = store.load(&hash.to_string_lossy().parse()?)?.unwrap();
    materialize::write_tree(&store, &manifest, &out, &jericho_host::CancelToken::new()?)?;
    Ok(())
}

#[test]
fn a_laid_out_snapshot_has_its_marker_last_and_the_users_file_of_that_name_is_kept() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    let mut spec = rig.spec();
    spec.facts = true;
    for users_own in [false, true] {
        if users_own {
            repo.write(MARKER, "mine")?;
        }
        repo.commit("all")?;
        let snapshot = rig.store.take(&spec, &rig.cancel)?;
        let lay_out = || {
            let metadata = |dir: &Path| SnapshotMetadata::new(&snapshot, dir);
            publish_tree(&rig.store, &snapshot.manifest, metadata, &rig.cancel)
        };
        let dir = lay_out()?;
        let marker = SnapshotMetadata::load(&dir)?.unwrap();
        assert_eq!((marker.content_hash, marker.git_dirty), (Some(snapshot.hash), Some(false)));
        assert_eq!(marker.snapshot_dir, dir.to_string_lossy());
        assert!(serde_json::to_string(&marker)?.contains("+00:00\""));
        let found = fs::read_to_string(dir.join(MARKER))?;
        assert_eq!(found == "mine", users_own);
        assert_eq!(lay_out()?, dir, "once");
        if !users_own {
            fs::remove_file(dir.join(MARKER))?;
            expected_tree(&snapshot.manifest, &dir)?;
        }
    }
    let old = r#"{ "source_root": "/home/dev/pika", "snapshot_dir": "/s/runs/r/snapshot", "git_head": null,
        "git_dirty": null, "created_at": "2026-04-01T12:00:00+00:00",
        "content_hash": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" }"#;
    let read: SnapshotMetadata = serde_json::from_str(old)?;
    assert_eq!(read.git_branch, None);
    Ok(())
}

#[test]
fn a_tree_in_a_place_that_is_taken_is_an_error() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("d/a", "1")?;
    let snapshot = rig.take()?;
    let dest = rig.tmp.path().join("dest");
    fs::write(&dest, "a file")?;
    let error = materialize::write_tree(&rig.store, &snapshot.manifest, &dest, &rig.cancel).unwrap_err();
    assert!(matches!(error, SnapshotError::Io { .. }), "{error}");
    Ok(())
}
