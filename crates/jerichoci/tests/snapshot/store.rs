//! The store keeps what it was given, notices damage, and forgets only what nobody needs.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use jerichoci::snapshot::{SnapshotError, materialize};

use crate::rig::{Rig, expected_tree, open_store, oracle};

fn files_in(directory: PathBuf) -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn lay_out(rig: &Rig, name: &str) -> Result<PathBuf> {
    let snapshot = rig.take()?;
    let dest = rig.tmp.path().join(name);
    materialize::write_tree(&rig.store, &snapshot.manifest, &dest, &rig.cancel)?;
    expected_tree(&snapshot.manifest, &dest)?;
    Ok(dest)
}

#[test]
fn every_content_is_stored_once() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    let content = vec![7u8; 700_000];
    for number in 0..120 {
        repo.write(format!("f{number}"), &content)?;
    }
    rig.take()?;
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let stored: u64 = files_in(rig.state().join("store/segments"))?.iter().map(size).sum();
    assert!(stored < 710_000, "{stored}");
    lay_out(&rig, "out")?;
    Ok(())
}

#[test]
fn a_damaged_content_is_noticed_named_and_mended_by_the_next_snapshot() -> Result<()> {
    let (mut rig, repo) = Rig::with_repo()?;
    repo.write("dir/a", "to be damaged")?;
    repo.write("b", vec![1u8; 400_000])?;
    rig.settle()?;
    for segment in files_in(rig.state().join("store/segments"))? {
        // Behind the first line: the content, not the table.
        fs::File::options().write(true).open(segment)?.write_all_at(b"XX", 25)?;
    }
    rig.reopen()?;
    let damaged = lay_out(&rig, "one").unwrap_err().downcast::<SnapshotError>()?;
    assert!(damaged.is_damage() && damaged.to_string().contains("is damaged"), "{damaged}");
    rig.reopen()?;
    lay_out(&rig, "two")?;
    Ok(())
}

#[test]
fn lost_or_torn_segments_are_mended_by_the_next_snapshot() -> Result<()> {
    for tear in [true, false] {
        let (mut rig, repo) = Rig::with_repo()?;
        repo.write("a", "1")?;
        rig.settle()?;
        for segment in files_in(rig.state().join("store/segments"))? {
            if tear {
                fs::File::options().write(true).open(segment)?.set_len(30)?;
            } else {
                fs::remove_file(segment)?;
            }
        }
        rig.reopen()?;
        assert!(lay_out(&rig, "one").is_err());
        lay_out(&rig, "two")?;
        // Another snapshot with the same file notices without laying anything out.
        repo.write("b", "2")?;
        lay_out(&rig, "three")?;
    }
    Ok(())
}

#[test]
fn contents_that_the_stat_cache_speaks_of_but_the_store_lost_are_read_again() -> Result<()> {
    let (mut rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    rig.settle()?;
    for segment in files_in(rig.state().join("store/segments"))? {
        fs::remove_file(segment)?;
    }
    rig.reopen()?;
    repo.write("b", "2")?;
    lay_out(&rig, "out")?;
    Ok(())
}

#[test]
fn a_damaged_manifest_is_an_error_that_names_it_until_it_is_taken_again() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    let hash = rig.settle()?.hash;
    let path = rig.store.snapshot_dir(&hash).join("manifest");
    let bytes = fs::read(&path)?;
    fs::write(&path, bytes.iter().map(|&byte| if byte == b'f' { b'x' } else { byte }).collect::<Vec<_>>())?;
    for _ in 0..2 {
        let error = rig.store.load(&hash).unwrap_err();
        assert!(
            matches!(&error, SnapshotError::DamagedManifest { hash: named, .. } if *named == hash),
            "{error}"
        );
    }
    assert_eq!(rig.take()?.hash, hash);
    assert_eq!(rig.store.load(&hash)?.unwrap().hash(), hash);
    Ok(())
}

#[test]
fn a_damaged_stat_cache_only_costs_hashing() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    let first = rig.settle()?;
    for cache in files_in(rig.state().join("stat"))? {
        let mut bytes = fs::read(&cache)?;
        let last = bytes.len() - 1;
        bytes[last / 2] ^= 1;
        fs::write(cache, bytes)?;
    }
    let again = rig.take()?;
    assert_eq!((again.hash, again.stats.hashed_files), (first.hash, 1));
    Ok(())
}

#[test]
fn collecting_keeps_the_live_and_forgets_the_rest() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("common", vec![1u8; 300_000])?;
    repo.write("old", vec![2u8; 300_000])?;
    let old = rig.settle()?.hash;
    fs::remove_file(rig.root.join("old"))?;
    repo.write("new", "n")?;
    let new = rig.settle()?.hash;
    let live = HashSet::from([new]);

    let dry = rig.store.collect(|| Ok(live.clone()), true, &rig.cancel)?;
    assert_eq!(dry.snapshots, 1, "{dry:?}");
    assert!(dry.bytes > 200_000);
    assert!(rig.store.load(&old)?.is_some());

    let done = rig.store.collect(|| Ok(live.clone()), false, &rig.cancel)?;
    assert!(done.snapshots == 1 && done.bytes > 200_000, "{done:?}");
    assert!(rig.store.load(&old)?.is_none());
    lay_out(&rig, "out")?;
    let again = rig.store.collect(|| Ok(live.clone()), false, &rig.cancel)?;
    assert_eq!((again.snapshots, again.segments), (0, 0), "{again:?}");

    // The old content comes back with its file.
    repo.write("old", vec![2u8; 300_000])?;
    fs::remove_file(rig.root.join("new"))?;
    assert_eq!(rig.take()?.hash, old);
    lay_out(&rig, "old-again")?;
    Ok(())
}

#[test]
fn a_snapshot_in_use_is_not_collected_by_another_process() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    let snapshot = rig.take()?;
    let other = open_store(&rig.state())?;
    other.collect(|| Ok(HashSet::new()), false, &rig.cancel)?;
    materialize::write_tree(&rig.store, &snapshot.manifest, &rig.tmp.path().join("out"), &rig.cancel)?;
    let pin = rig.store.pin(&snapshot.hash, &rig.cancel)?;
    let hash = snapshot.hash;
    drop(snapshot);
    other.collect(|| Ok(HashSet::new()), false, &rig.cancel)?;
    assert!(other.load(&hash)?.is_some());
    drop(pin);
    let report = other.collect(|| Ok(HashSet::new()), false, &rig.cancel)?;
    assert_eq!((report.snapshots, other.load(&hash)?.is_some()), (1, false));
    assert_eq!(files_in(rig.state().join("store/segments"))?, Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn what_is_unfinished_is_removed_and_source_roots_that_are_gone_are_forgotten() -> Result<()> {
    let (rig, repo) = Rig::with_repo()?;
    repo.write("a", "1")?;
    let live = HashSet::from([rig.settle()?.hash]);
    fs::write(rig.state().join("store/segments/tmp-x"), "half")?;
    fs::write(rig.state().join("store/pins").join(format!("{}.dead", "0".repeat(64))), "")?;
    rig.store.collect(|| Ok(live.clone()), false, &rig.cancel)?;
    assert_eq!(files_in(rig.state().join("store/segments"))?.len(), 1);
    assert_eq!(files_in(rig.state().join("store/pins"))?.len(), 0);
    assert_eq!(files_in(rig.state().join("stat"))?.len(), 1);
    fs::remove_dir_all(&rig.root)?;
    assert_eq!(rig.store.collect(|| Ok(live.clone()), false, &rig.cancel)?.stat_caches, 1);
    Ok(())
}

#[test]
fn many_small_segments_are_joined() -> Result<()> {
    let (mut rig, repo) = Rig::with_repo()?;
    for round in 0..150 {
        repo.write(format!("f{round}"), format!("{round}"))?;
        rig.take()?;
        assert!(files_in(rig.state().join("store/segments"))?.len() <= 130, "while it is open");
    }
    rig.reopen()?;
    assert!(files_in(rig.state().join("store/segments"))?.len() <= 17, "when it is closed");
    lay_out(&rig, "out")?;
    assert_eq!(rig.take()?.hash, oracle(&rig.root)?.hash());
    Ok(())
}

#[test]
fn the_store_is_private() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new()?;
    for directory in ["store/segments", "snapshots", "stat"] {
        let mode = fs::metadata(Path::new(&rig.state()).join(directory))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{directory}");
    }
    Ok(())
}
