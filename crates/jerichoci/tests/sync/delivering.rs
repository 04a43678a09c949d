//! What is sent, and what becomes of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::Ordering;

use jericho_host::{Clock as _, SystemClock};
use jerichoci::remote::sync::{How, SyncError};
use jerichoci::snapshot::{Snapshot, SnapshotError};

use crate::rig::Rig;

#[test]
fn a_tree_arrives_whole_and_a_second_delivery_asks_one_question() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a.txt", "one\n");
    rig.write_executable("bin/run", "#!/bin/sh\n");
    rig.write("empty", "");
    rig.write("deep/er/still/x", "x");
    rig.write("large", &"0123456789abcdef".repeat(200_000));
    rig.write("deep/same", "one\n");
    symlink("a.txt", rig.root.join("link")).unwrap();
    symlink("/nowhere/at all", rig.root.join("deep/dangling")).unwrap();
    let snapshot = rig.take();
    let delivered = rig.deliver(&snapshot, "j1").unwrap();
    assert_eq!(delivered.how, How::Full);
    assert_eq!(delivered.path, rig.tree_of(&snapshot.hash));
    // Two files of one content: it is sent once.
    assert_eq!(delivered.sent_files, snapshot.manifest.len() as u64 - 1);
    rig.assert_has(&snapshot);
    assert_eq!(rig.shelf(), [snapshot.hash.to_string()]);
    assert_eq!(fs::metadata(rig.work_dir()).unwrap().mode() & 0o7777, 0o700);

    let turns = rig.client.line.turns();
    let again = rig.deliver(&snapshot, "j2").unwrap();
    assert_eq!((again.how, again.sent_files, again.sent_bytes), (How::AlreadyThere, 0, 0));
    assert_eq!(rig.client.line.turns(), turns + 1);
    rig.assert_has(&snapshot);
}

#[test]
fn a_changed_file_is_all_that_is_sent_and_the_idle_tree_becomes_the_new_one() {
    let Some(rig) = Rig::start() else { return };
    for number in 0..50 {
        rig.write(&format!("d{}/f{number}", number % 7), &format!("content {number}\n"));
    }
    rig.write("goes/away", "x\n");
    rig.write("becomes/a-file", "x\n");
    rig.write("becomes-a-directory", "y\n");
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    rig.release(&first, "j");
    let kept = fs::metadata(rig.tree_of(&first.hash).join("d1/f1")).unwrap();

    rig.write("d3/f3", "another content\n");
    fs::remove_dir_all(rig.root.join("goes")).unwrap();
    fs::remove_dir_all(rig.root.join("becomes")).unwrap();
    rig.write("becomes", "a file now\n");
    fs::remove_file(rig.root.join("becomes-a-directory")).unwrap();
    // A content that the host has is copied there.
    rig.write("becomes-a-directory/with", "content 5\n");
    rig.write_executable("d1/f8", "content 8\n");
    let second = rig.take();
    let turns = rig.client.line.turns();
    let delivered = rig.deliver(&second, "j").unwrap();
    assert_eq!((delivered.how, delivered.sent_files), (How::Patched, 2));
    assert_eq!(rig.client.line.turns(), turns + 2);
    rig.assert_has(&second);
    assert_eq!(rig.shelf(), [second.hash.to_string()]);
    let same = fs::metadata(rig.tree_of(&second.hash).join("d1/f1")).unwrap();
    assert_eq!((same.ino(), same.mtime_nsec()), (kept.ino(), kept.mtime_nsec()), "not written again");
    // And once more over the same conversation, back.
    rig.write("d3/f3", "content 3\n");
    let third = rig.take();
    assert_eq!(rig.deliver(&third, "j").unwrap().how, How::Linked, "the second one is leased");
    rig.assert_has(&second);
    rig.assert_has(&third);
}

#[test]
fn a_file_that_moved_is_new_for_whoever_looks_at_times() {
    let Some(rig) = Rig::start() else { return };
    rig.write("old", "content\n");
    rig.write("here", "x\n");
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    rig.release(&first, "j");
    let before = fs::metadata(rig.tree_of(&first.hash).join("old")).unwrap();
    fs::rename(rig.root.join("old"), rig.root.join("here")).unwrap();
    let second = rig.take();
    let delivered = rig.deliver(&second, "j").unwrap();
    assert_eq!((delivered.how, delivered.sent_files), (How::Patched, 0));
    rig.assert_has(&second);
    let after = fs::metadata(rig.tree_of(&second.hash).join("here")).unwrap();
    assert!((after.mtime(), after.mtime_nsec()) > (before.mtime(), before.mtime_nsec()));
    assert_ne!(after.ino(), before.ino());
}

#[test]
fn what_is_damaged_on_the_host_is_sent_again() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    rig.write("d/b", "two\n");
    rig.write_executable("d/e/c", "three\n");
    let snapshot = rig.take();
    rig.deliver(&snapshot, "j").unwrap();
    let (dir, tree) = (rig.dir_of(&snapshot.hash), rig.tree_of(&snapshot.hash));
    let damages: [(&str, &dyn Fn()); 10] = [
        ("a file is missing", &|| fs::remove_file(tree.join("d/b")).unwrap()),
        ("a directory is missing", &|| fs::remove_dir_all(tree.join("d")).unwrap()),
        ("a file was written to", &|| fs::write(tree.join("a"), "eno\n").unwrap()),
        ("a file was cut off", &|| fs::write(tree.join("a"), "").unwrap()),
        ("a file is a directory", &|| {
            fs::remove_file(tree.join("a")).unwrap();
            fs::create_dir(tree.join("a")).unwrap();
        }),
        ("a file came", &|| fs::write(tree.join("d/e/more"), "").unwrap()),
        ("another mode", &|| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("no marker", &|| fs::remove_file(dir.join("jerichoci-snapshot.json")).unwrap()),
        ("another marker", &|| {
            fs::write(dir.join("jerichoci-snapshot.json"), r#"{"schema_version":1}"#).unwrap();
        }),
        ("no manifest", &|| fs::write(dir.join("manifest"), "jericho-manifest-v1\n").unwrap()),
    ];
    for (damage, make) in damages {
        make();
        let lease = crate::rig::engine_lease("j");
        let (delivered, lines) = rig.deliver_as(&rig.client, &snapshot, &lease);
        assert_eq!(delivered.unwrap().how, How::Full, "{damage}");
        assert!(lines.len() == 1 && lines[0].contains("damaged"), "{damage}: {lines:?}");
        rig.assert_has(&snapshot);
        rig.release(&snapshot, "j");
    }
}

#[test]
fn a_damaged_base_is_not_built_upon() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    rig.write("b", "two\n");
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    rig.release(&first, "j");
    fs::remove_file(rig.tree_of(&first.hash).join("b")).unwrap();
    rig.write("a", "changed\n");
    let second = rig.take();
    assert_eq!(rig.deliver(&second, "j").unwrap().how, How::Full);
    rig.assert_has(&second);
    assert_eq!(rig.shelf(), [second.hash.to_string()]);
}

#[test]
fn a_list_that_is_damaged_here_costs_a_whole_delivery_and_nothing_else() {
    let Some(rig) = Rig::start() else { return };
    for number in 0..20 {
        rig.write(&format!("d/f{number}"), &format!("content {number}\n"));
    }
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    rig.release(&first, "j");
    let mut last = first;
    let hash_of_f7 = jerichoci::snapshot::ContentHash::of(b"content 7\n").to_string();
    let other_hash = jerichoci::snapshot::ContentHash::of(b"any").to_string();
    let damages: [(&str, &dyn Fn(String) -> String); 4] = [
        ("another content", &|text| text.replace(&hash_of_f7, &other_hash)),
        ("another name", &|text| text.replace("d/f7\0", "d/f8a\0")),
        ("cut off", &|text| text[..text.len() - 30].to_owned()),
        ("empty", &|_| String::new()),
    ];
    for (damage, make) in damages {
        rig.write("d/f3", &format!("{damage}\n"));
        let next = rig.take();
        let list = rig.outside().join("state/snapshots").join(last.hash.to_string()).join("manifest");
        let text = fs::read_to_string(&list).unwrap();
        let damaged = make(text.clone());
        assert_ne!(damaged, text);
        fs::remove_file(&list).unwrap();
        fs::write(&list, damaged).unwrap();
        // The base that the host offers is this one; a conversation that has delivered it does not read it.
        rig.client.line.hang_up();
        let (delivered, lines) = rig.deliver_as(&rig.client, &next, &crate::rig::engine_lease("j"));
        assert_eq!(delivered.unwrap().how, How::Full, "{damage}: {lines:?}");
        rig.assert_has(&next);
        rig.release(&next, "j");
        last = next;
    }
    // The new list, too, whose length says that it is there.
    for (from, to) in [(hash_of_f7.as_str(), other_hash.as_str()), ("d/f7\0", "d/f6\0")] {
        rig.write("d/f3", &format!("for {to}\n"));
        let next = rig.take();
        rig.store.settle();
        let list = rig.outside().join("state/snapshots").join(next.hash.to_string()).join("manifest");
        let text = fs::read_to_string(&list).unwrap();
        fs::remove_file(&list).unwrap();
        fs::write(&list, text.replace(from, to)).unwrap();
        // Else nobody reads it.
        rig.client.line.hang_up();
        let (delivered, lines) = rig.deliver_as(&rig.client, &next, &crate::rig::engine_lease("j"));
        assert_eq!(delivered.unwrap().how, How::Full, "{to:?}: {lines:?}");
        rig.assert_has(&next);
        rig.release(&next, "j");
        // What follows is not made of a damaged list.
        fs::remove_file(&list).unwrap();
        fs::write(&list, text).unwrap();
    }
}

/// When every file of a snapshot was looked at last, as the host notes it, and a way to note another time.
fn checked_at(rig: &Rig, snapshot: &Snapshot, another: Option<i64>) -> i64 {
    let path = rig.dir_of(&snapshot.hash).join("used");
    let mut used: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    if let Some(another) = another {
        used["checked_at"] = another.into();
        fs::write(&path, used.to_string()).unwrap();
    }
    used["checked_at"].as_i64().unwrap()
}

#[test]
fn a_tree_that_became_another_one_is_looked_at_when_it_would_have_been_before() {
    let Some(rig) = Rig::start_in_memory() else { return };
    // So many that a host does not look at each of them again within a minute.
    for number in 0..20_001 {
        rig.write(&format!("d{}/f{number}", number % 10), "the same\n");
    }
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    rig.release(&first, "j");
    rig.write("d1/f1", "another content\n");
    let second = rig.take();
    let before = SystemClock.now().timestamp() - 2;
    checked_at(&rig, &first, Some(before));
    assert_eq!(rig.deliver(&second, "j").unwrap().how, How::Patched);
    assert_eq!(checked_at(&rig, &second, None), before, "all but one file was not looked at since");
    // A minute later it is.
    fs::write(rig.tree_of(&second.hash).join("d2/f2"), "damaged\n").unwrap();
    rig.release(&second, "j");
    let lease = crate::rig::engine_lease("j");
    checked_at(&rig, &second, Some(before - 60));
    let (delivered, lines) = rig.deliver_as(&rig.client, &second, &lease);
    assert_eq!(delivered.unwrap().how, How::Full);
    assert!(lines.len() == 1 && lines[0].contains("damaged"), "{lines:?}");
    rig.assert_has(&second);
}

#[test]
fn a_content_that_is_damaged_here_is_named_and_nothing_is_made_of_it() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    rig.write("b", &"precious ".repeat(300_000));
    let snapshot = rig.take();
    let mut damaged = 0;
    for file in fs::read_dir(rig.outside().join("state/store/segments")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(8).position(|text| text == b"precious") {
            bytes[at] = b'P';
            fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
    let error = rig.deliver(&snapshot, "j").unwrap_err();
    assert!(
        matches!(&error, SyncError::Snapshot(SnapshotError::DamagedObject { file, .. }) if file == "b"),
        "{error}"
    );
    assert_eq!(rig.shelf(), [""; 0]);
    // It was noted, so that the next snapshot reads the file again.
    let again = rig.take();
    assert_eq!(again.hash, snapshot.hash);
    rig.deliver(&again, "j").unwrap();
    rig.assert_has(&again);
}

#[test]
fn a_file_that_has_the_name_of_the_marker_stays_the_users_own() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    rig.release(&first, "j");
    rig.write("jerichoci-snapshot.json", "mine\n");
    let second = rig.take();
    assert_eq!(rig.deliver(&second, "j").unwrap().how, How::Patched);
    let inside = rig.tree_of(&second.hash).join("jerichoci-snapshot.json");
    assert_eq!(fs::read_to_string(inside).unwrap(), "mine\n");
    assert_eq!(rig.deliver(&second, "j").unwrap().how, How::AlreadyThere);
    rig.release(&second, "j");
    fs::remove_file(rig.root.join("jerichoci-snapshot.json")).unwrap();
    let third = rig.take();
    assert_eq!(third.hash, first.hash);
    assert_eq!(rig.deliver(&third, "j").unwrap().how, How::Patched);
    rig.assert_has(&third);
}

/// As versions of the past have left it: with the marker in the tree too.
fn put_marker_into(rig: &Rig, snapshot: &jerichoci::snapshot::Snapshot) {
    let (tree, beside) =
        (rig.tree_of(&snapshot.hash), rig.dir_of(&snapshot.hash).join("jerichoci-snapshot.json"));
    let before = fs::metadata(&tree).unwrap().modified().unwrap();
    fs::copy(beside, tree.join("jerichoci-snapshot.json")).unwrap();
    fs::File::open(&tree).unwrap().set_modified(before).unwrap();
}

#[test]
fn nobody_sees_the_marker_that_an_earlier_version_has_left_in_a_tree() {
    let Some(rig) = Rig::start() else { return };
    rig.write("d/a", "one\n");
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    rig.release(&first, "j");
    put_marker_into(&rig, &first);
    for _ in 0..2 {
        let (delivered, lines) = rig.deliver_as(&rig.client, &first, &crate::rig::engine_lease("j"));
        assert_eq!((delivered.unwrap().how, lines), (How::AlreadyThere, Vec::new()));
        rig.assert_has(&first);
    }
    // One that somebody has is left to them as it is.
    put_marker_into(&rig, &first);
    let (delivered, lines) = rig.deliver_as(&rig.client, &first, &crate::rig::engine_lease("other"));
    assert_eq!(delivered.unwrap().how, How::Full);
    assert!(lines.len() == 1 && lines[0].contains("earlier version"), "{lines:?}");
    rig.assert_has(&first);
    let aside = rig.shelf().into_iter().find(|name| name.starts_with("old-")).unwrap();
    assert!(rig.work_dir().join("snapshots").join(aside).join("snapshot/jerichoci-snapshot.json").exists());
    rig.release(&first, "j");
    rig.release(&first, "other");
    // One to build upon.
    put_marker_into(&rig, &first);
    rig.write("d/a", "two\n");
    let second = rig.take();
    assert_eq!(rig.deliver(&second, "j").unwrap().how, How::Patched);
    rig.assert_has(&second);
}

#[test]
fn progress_ends_with_everything_that_was_to_be_sent() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", &"a".repeat(700_000));
    rig.write("b", &"b".repeat(300));
    let snapshot = rig.take();
    let last = std::sync::Mutex::new(jerichoci::remote::sync::Progress::default());
    let told = std::sync::atomic::AtomicUsize::new(0);
    jerichoci::remote::sync::deliver(
        &rig.client.remote(),
        &rig.store,
        &snapshot.manifest,
        &jerichoci::snapshot::SnapshotMetadata::new(&snapshot, std::path::Path::new("")),
        &crate::rig::engine_lease("j"),
        &mut |news| {
            if let jerichoci::remote::sync::Told::Progress(progress) = news {
                *last.lock().unwrap() = progress;
                told.fetch_add(1, Ordering::Relaxed);
            }
        },
        &rig.cancel,
    )
    .unwrap();
    let last = last.lock().unwrap();
    assert_eq!((last.files, last.of_files, last.bytes, last.of_bytes), (2, 2, 700_300, 700_300));
    assert!(told.load(Ordering::Relaxed) >= 3);
}

fn by_tar(
    rig: &Rig,
    snapshot: &jerichoci::snapshot::Snapshot,
    tell: &mut dyn FnMut(jerichoci::remote::sync::Told<'_>),
    cancel: &jericho_host::CancelToken,
) -> Result<jerichoci::remote::sync::Delivered, jerichoci::remote::sync::SyncError> {
    jerichoci::remote::sync::tar::deliver_by_tar(
        &rig.client.ssh,
        rig.work_dir(),
        &rig.store,
        &snapshot.manifest,
        &jerichoci::snapshot::SnapshotMetadata::new(snapshot, std::path::Path::new("")),
        "fresh",
        tell,
        cancel,
    )
}

#[test]
fn a_host_without_a_receiver_gets_the_same_tree_by_tar() {
    let Some(rig) = Rig::start() else { return };
    if !jericho_testkit::need::needs_program(
        "delivering::a_host_without_a_receiver_gets_the_same_tree_by_tar",
        "tar",
    ) {
        return;
    }
    let long = format!("{}/{}/{}", "d".repeat(90), "e".repeat(120), "f".repeat(200));
    rig.write("a", "one\n");
    rig.write(&long, "long\n");
    rig.write_executable(&format!("{}-x", "n".repeat(99)), "#!/bin/sh\n");
    rig.write("block", &"b".repeat(1024));
    rig.write("large", &"0123456789".repeat(100_000));
    symlink(&long, rig.root.join("to-long")).unwrap();
    symlink("a", rig.root.join("link")).unwrap();
    let snapshot = rig.take();
    let delivered = by_tar(&rig, &snapshot, &mut |_| (), &rig.cancel).unwrap();
    assert_eq!((delivered.how, delivered.sent_files), (How::Full, snapshot.manifest.len() as u64));
    let manifest = rig.dir_of(&snapshot.hash).join("manifest");
    assert!(!manifest.exists());
    fs::write(manifest, snapshot.manifest.encode()).unwrap();
    rig.assert_has(&snapshot);
    assert_eq!(by_tar(&rig, &snapshot, &mut |_| (), &rig.cancel).unwrap().how, How::AlreadyThere);
    // One without its marker is replaced.
    fs::remove_file(rig.dir_of(&snapshot.hash).join("jerichoci-snapshot.json")).unwrap();
    fs::remove_file(rig.tree_of(&snapshot.hash).join("a")).unwrap();
    assert_eq!(by_tar(&rig, &snapshot, &mut |_| (), &rig.cancel).unwrap().how, How::Full);
    fs::write(rig.dir_of(&snapshot.hash).join("manifest"), snapshot.manifest.encode()).unwrap();
    rig.assert_has(&snapshot);
    assert_eq!(rig.shelf(), [snapshot.hash.to_string()]);
    // A host that gets a receiver later finds nothing wrong with it.
    assert_eq!(rig.deliver(&snapshot, "j").unwrap().how, How::AlreadyThere);
}
