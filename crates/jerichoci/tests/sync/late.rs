//! What goes on after an answer, or beside the next question, and what becomes of it when somebody is killed, the disk is
//! full, or others ask meanwhile.

use std::fs;

use jericho_manifest::Delta;
use jericho_testkit::need::needs_root;
use jerichoci::remote::sync::How;
use jerichoci::snapshot::Snapshot;

use crate::rig::{Mounted, Rig, engine_lease};

const PARTS: [&str; 3] = ["manifest.base", "manifest.delta", "manifest.new"];

/// Few files with so long paths that their manifest is worth a thread.
fn write_long_paths(rig: &Rig) -> String {
    let dir = vec!["d".repeat(200); 10].join("/");
    for number in 0..150 {
        rig.write(&format!("{dir}/f{number}"), &format!("content {number}\n"));
    }
    dir
}

/// Leaves a snapshot as who was killed after the answer has left it, in the middle of writing its manifest.
fn take_apart(rig: &Rig, base: &Snapshot, snapshot: &Snapshot) {
    let dir = rig.dir_of(&snapshot.hash);
    let (old, new) = (base.manifest.encode(), snapshot.manifest.encode());
    let delta = Delta::between(&old[..], &new[..]).unwrap();
    let head = format!("{} {}\n", base.hash, delta.gone().len());
    fs::write(dir.join("manifest.base"), old).unwrap();
    fs::write(dir.join("manifest.delta"), [head.as_bytes(), delta.gone(), &delta.set().encode()].concat())
        .unwrap();
    fs::write(dir.join("manifest.new"), &new[..new.len() / 2]).unwrap();
    fs::remove_file(dir.join("manifest")).unwrap();
}

fn parts(rig: &Rig, snapshot: &Snapshot) -> Vec<&'static str> {
    PARTS.into_iter().filter(|part| rig.dir_of(&snapshot.hash).join(part).exists()).collect()
}

#[test]
fn a_long_manifest_is_whole_when_the_next_question_has_its_answer() {
    let Some(rig) = Rig::start() else { return };
    let dir = write_long_paths(&rig);
    let mut last = rig.take();
    rig.deliver(&last, "j").unwrap();
    for change in ["one\n", "two\n", "three\n"] {
        rig.release(&last, "j");
        rig.write(&format!("{dir}/f7"), change);
        fs::remove_file(rig.root.join(format!("{dir}/f{}", change.len()))).unwrap_or_default();
        rig.write(&format!("{dir}/new/{}", change.trim()), change);
        last = rig.take();
        assert_eq!(rig.deliver(&last, "j").unwrap().how, How::Patched);
        assert_eq!(rig.deliver(&last, "j").unwrap().how, How::AlreadyThere);
        rig.assert_has(&last);
        assert_eq!(parts(&rig, &last), [""; 0]);
        assert_eq!(rig.shelf(), [last.hash.to_string()]);
    }
    // The last thing of a conversation too.
    rig.release(&last, "j");
    rig.write(&format!("{dir}/f7"), "four\n");
    last = rig.take();
    assert_eq!(rig.deliver(&last, "j").unwrap().how, How::Patched);
    rig.disconnect();
    assert_eq!(rig.deliver(&last, "j").unwrap().how, How::AlreadyThere);
    rig.assert_has(&last);
    assert_eq!(parts(&rig, &last), [""; 0]);
}

#[test]
fn a_manifest_that_nobody_had_time_to_put_together_is_as_good_as_a_whole_one() {
    let Some(rig) = Rig::start() else { return };
    for number in 0..50 {
        rig.write(&format!("d{}/f{number}", number % 7), &format!("content {number}\n"));
    }
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    rig.release(&first, "j");
    fs::remove_file(rig.root.join("d1/f1")).unwrap();
    rig.write("d2/f2", "another content\n");
    rig.write("d2/new", "new\n");
    let second = rig.take();
    assert_eq!(rig.deliver(&second, "j").unwrap().how, How::Patched);
    rig.client.line.hang_up();
    take_apart(&rig, &first, &second);
    let (delivered, lines) = rig.deliver_as(&rig.client, &second, &engine_lease("j"));
    assert_eq!((delivered.unwrap().how, lines), (How::AlreadyThere, Vec::new()));
    rig.assert_has(&second);
    assert_eq!(parts(&rig, &second), [""; 0]);
    // To build upon too.
    rig.client.line.hang_up();
    take_apart(&rig, &first, &second);
    rig.release(&second, "j");
    rig.write("d3/f3", "three\n");
    let third = rig.take();
    assert_eq!(rig.deliver(&third, "j").unwrap().how, How::Patched);
    rig.assert_has(&third);
    assert_eq!((rig.shelf(), parts(&rig, &third)), (vec![third.hash.to_string()], Vec::new()));
}

#[test]
fn parts_of_a_manifest_that_are_damaged_are_found_and_cost_the_tree() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    rig.write("b", "one\n");
    let first = rig.take();
    rig.write("a", "two\n");
    let second = rig.take();
    rig.deliver(&second, "j").unwrap();
    let dir = rig.dir_of(&second.hash);
    let change = |part: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(dir.join(part)).unwrap();
        change(&mut bytes);
        fs::write(dir.join(part), bytes).unwrap();
    };
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() - 30;
        bytes[middle] ^= 1;
    };
    let damages: [(&str, &dyn Fn()); 8] = [
        ("no difference", &|| fs::remove_file(dir.join("manifest.delta")).unwrap()),
        ("no base", &|| fs::remove_file(dir.join("manifest.base")).unwrap()),
        ("the base is cut off", &|| change("manifest.base", &|bytes| bytes.truncate(30))),
        ("the base is another one", &|| change("manifest.base", &flip)),
        ("the difference is another one", &|| change("manifest.delta", &flip)),
        ("the difference is cut off", &|| change("manifest.delta", &|bytes| bytes.truncate(70))),
        ("the difference has another length", &|| change("manifest.delta", &|bytes| bytes[65] = b'9')),
        ("the difference is empty", &|| change("manifest.delta", &Vec::clear)),
    ];
    for (what, damage) in damages {
        rig.client.line.hang_up();
        take_apart(&rig, &first, &second);
        damage();
        let (delivered, lines) = rig.deliver_as(&rig.client, &second, &engine_lease("j"));
        assert_eq!(delivered.unwrap().how, How::Full, "{what}: {lines:?}");
        assert!(lines.len() == 1 && lines[0].contains("manifest"), "{what}: {lines:?}");
        rig.assert_has(&second);
    }
}

#[test]
fn receivers_that_find_a_manifest_in_parts_at_once_all_have_the_tree() {
    let Some(rig) = Rig::start() else { return };
    let dir = write_long_paths(&rig);
    let first = rig.take();
    rig.write(&format!("{dir}/f7"), "another content\n");
    let second = rig.take();
    rig.deliver(&second, "j").unwrap();
    let clients = ["engine-2", "engine-3", "engine-4"].map(|name| rig.another_client(name));
    for _ in 0..3 {
        clients.iter().for_each(|client| client.line.hang_up());
        take_apart(&rig, &first, &second);
        std::thread::scope(|scope| {
            for client in &clients {
                let (rig, second) = (&rig, &second);
                scope.spawn(move || {
                    let (delivered, lines) = rig.deliver_as(client, second, &engine_lease(&client.engine_id));
                    assert_eq!((delivered.unwrap().how, lines), (How::AlreadyThere, Vec::new()));
                });
            }
        });
        rig.assert_has(&second);
        assert_eq!(parts(&rig, &second), [""; 0]);
    }
}

#[test]
fn a_disk_that_is_full_after_the_answer_costs_neither_the_tree_nor_its_manifest() {
    let test = "late::a_disk_that_is_full_after_the_answer_costs_neither_the_tree_nor_its_manifest";
    if !needs_root(test) {
        return;
    }
    let Some(rig) = Rig::start() else { return };
    fs::create_dir(rig.work_dir()).unwrap();
    let mounted = Mounted::tmpfs(rig.work_dir(), "size=6m,mode=0700", rustix::mount::MountFlags::empty());
    let dir = write_long_paths(&rig);
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    rig.release(&first, "j");
    // Room for the difference, and not for the manifest.
    let (filler, manifest) = (rig.work_dir().join("filler"), first.manifest.encode().len() as u64);
    let free = rustix::fs::statvfs(rig.work_dir()).unwrap();
    let free = free.f_bavail * free.f_frsize;
    assert!(free > manifest && manifest > 300_000, "{free} {manifest}");
    fs::write(&filler, vec![1; usize::try_from(free - manifest / 2).unwrap()]).unwrap();
    rig.write(&format!("{dir}/f7"), "another content\n");
    let second = rig.take();
    assert_eq!(rig.deliver(&second, "j").unwrap().how, How::Patched);
    // In the same conversation, which knows it, and in another one, which reads it.
    for _ in 0..2 {
        let (delivered, lines) = rig.deliver_as(&rig.client, &second, &engine_lease("j"));
        assert_eq!((delivered.unwrap().how, lines), (How::AlreadyThere, Vec::new()));
        assert_eq!(parts(&rig, &second), ["manifest.base", "manifest.delta"]);
        assert!(!rig.dir_of(&second.hash).join("manifest").exists());
        rig.client.line.hang_up();
    }
    // What follows needs the room, and says so before it touches anything.
    rig.release(&second, "j");
    rig.write(&format!("{dir}/f8"), "another content\n");
    let third = rig.take();
    let error = rig.deliver(&third, "j").unwrap_err();
    assert!(error.is_no_space(), "{error:?}");
    assert_eq!(rig.deliver(&second, "j").unwrap().how, How::AlreadyThere);
    fs::remove_file(&filler).unwrap();
    rig.client.line.hang_up();
    assert_eq!(rig.deliver(&second, "j").unwrap().how, How::AlreadyThere);
    rig.assert_has(&second);
    assert_eq!(parts(&rig, &second), [""; 0]);
    rig.release(&second, "j");
    assert_eq!(rig.deliver(&third, "j").unwrap().how, How::Patched);
    drop(rig);
    drop(mounted);
}

#[test]
fn a_base_that_turns_out_to_be_damaged_while_the_difference_comes_is_not_used() {
    let Some(rig) = Rig::start_in_memory() else { return };
    // So many that a host does not wait for the end of its look.
    for number in 0..2500 {
        rig.write(&format!("d{}/f{number}", number % 10), "the same\n");
    }
    let mut last = rig.take();
    rig.deliver(&last, "j").unwrap();
    let damages: [&dyn Fn(&Snapshot); 3] = [
        &|last| fs::write(rig.tree_of(&last.hash).join("d2/f2"), "damaged\n").unwrap(),
        &|last| fs::write(rig.tree_of(&last.hash).join("d3/more"), "").unwrap(),
        &|last| fs::remove_dir_all(rig.tree_of(&last.hash).join("d4")).unwrap(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        rig.release(&last, "j");
        damage(&last);
        rig.write("d1/f1", &format!("change {number}\n"));
        let next = rig.take();
        let (delivered, lines) = rig.deliver_as(&rig.client, &next, &engine_lease("j"));
        assert_eq!(delivered.unwrap().how, How::Full, "{number}: {lines:?}");
        assert!(lines.len() == 1 && lines[0].contains("is damaged: "), "{number}: {lines:?}");
        rig.assert_has(&next);
        assert_eq!(rig.shelf(), [next.hash.to_string()], "what was damaged is gone");
        last = next;
    }
    // And when what is short of its content was to be copied from it.
    rig.release(&last, "j");
    rig.write("d5/alone", "only here\n");
    last = rig.take();
    rig.deliver(&last, "j").unwrap();
    rig.release(&last, "j");
    fs::write(rig.tree_of(&last.hash).join("d5/alone"), "only").unwrap();
    fs::rename(rig.root.join("d5/alone"), rig.root.join("d6/moved")).unwrap();
    let next = rig.take();
    let (delivered, lines) = rig.deliver_as(&rig.client, &next, &engine_lease("j"));
    assert_eq!(delivered.unwrap().how, How::Full, "{lines:?}");
    assert!(lines.len() == 1 && lines[0].contains("is damaged: "), "{lines:?}");
    assert_eq!(rig.shelf(), [next.hash.to_string()]);
    last = next;
    // Found by a look that nothing was made of, too.
    rig.release(&last, "j");
    fs::write(rig.tree_of(&last.hash).join("d2/f2"), "damaged\n").unwrap();
    let (delivered, lines) = rig.deliver_as(&rig.client, &last, &engine_lease("j"));
    assert_eq!(delivered.unwrap().how, How::Full);
    assert!(lines.len() == 1 && lines[0].contains("damaged"), "{lines:?}");
    rig.assert_has(&last);
}
