//! What is refused, and that nothing comes of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use jericho_host::{Command, Host, LocalHost};
use jericho_manifest::protocol::{Answer, Ask, Fault, Hello, Holder, How, Lease, Receive, Request, VERSION};
use jericho_testkit::need::needs_root;
use jerichoci::remote::sync::SyncError;
use jerichoci::snapshot::ContentHash;

use crate::rig::{Mounted, Rig, engine_lease, environment, token};

fn refused(delivered: Result<jerichoci::remote::sync::Delivered, SyncError>) -> (Fault, String) {
    match delivered {
        Err(SyncError::Refused { fault, message, .. }) => (fault, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_work_dir_of_others_or_behind_a_link_is_refused_at_once() {
    let Some(mut rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    let snapshot = rig.take();
    let outside = rig.outside();
    fs::create_dir(outside.join("real")).unwrap();
    symlink(outside.join("real"), outside.join("link")).unwrap();
    fs::create_dir(outside.join("open")).unwrap();
    fs::set_permissions(outside.join("open"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    for (dir, said) in [
        (outside.join("link"), "symbolic link"),
        (outside.join("open"), "chmod 700"),
        (outside.join("file"), "no directory"),
        (outside.join("real/../real"), "no plain absolute path"),
        ("relative/dir".into(), "no plain absolute path"),
        ("/".into(), "no plain absolute path"),
        ("/proc/nothing/here".into(), "cannot be made"),
    ] {
        rig.client.work_dir = dir.clone();
        let (delivered, lines) = rig.deliver_as(&rig.client, &snapshot, &engine_lease("j"));
        let (fault, message) = refused(delivered);
        assert!(fault == Fault::WorkDir && message.contains(said), "{dir:?}: {message}");
        assert_eq!(lines, Vec::<String>::new(), "no attempt mends it");
    }
    assert_eq!(fs::read_dir(outside.join("real")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(outside.join("open")).unwrap().count(), 0);
}

#[test]
fn a_work_dir_of_another_user_is_refused_with_the_way_out() {
    if !needs_root("refusing::a_work_dir_of_another_user_is_refused_with_the_way_out") {
        return;
    }
    let Some(mut rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    let dir = rig.outside().join("theirs");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(12345), None).unwrap();
    rig.client.work_dir = dir;
    let (fault, message) = refused(rig.deliver(&rig.take(), "j"));
    assert!(fault == Fault::WorkDir && message.contains("chown 0 "), "{message}");
}

#[test]
fn a_work_dir_that_cannot_be_written_to_is_refused_at_once() {
    if !needs_root("refusing::a_work_dir_that_cannot_be_written_to_is_refused_at_once") {
        return;
    }
    let Some(rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    let snapshot = rig.take();
    fs::create_dir(rig.work_dir()).unwrap();
    let _mounted = Mounted::tmpfs(rig.work_dir(), "size=4m,mode=0700", rustix::mount::MountFlags::RDONLY);
    let (delivered, lines) = rig.deliver_as(&rig.client, &snapshot, &engine_lease("j"));
    assert_eq!((refused(delivered).0, lines.len()), (Fault::WorkDir, 0));
}

#[test]
fn links_where_directories_should_be_lead_nowhere() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    let snapshot = rig.take();
    let outside = rig.outside().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(rig.work_dir()).unwrap();
    fs::set_permissions(rig.work_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["snapshots", "leases"] {
        symlink(&outside, rig.work_dir().join(name)).unwrap();
        let delivered = rig.deliver_as(&rig.client, &snapshot, &engine_lease("j")).0;
        assert!(delivered.is_err(), "{name}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name}");
        fs::remove_file(rig.work_dir().join(name)).unwrap();
    }
    rig.deliver(&snapshot, "j").unwrap();
    rig.release(&snapshot, "j");
    // A snapshot that is a link is damaged, and it is the link that goes.
    fs::remove_dir_all(rig.dir_of(&snapshot.hash)).unwrap();
    fs::write(outside.join("untouched"), "").unwrap();
    symlink(&outside, rig.dir_of(&snapshot.hash)).unwrap();
    assert_eq!(rig.deliver(&snapshot, "j").unwrap().how, How::Full);
    rig.assert_has(&snapshot);
    assert!(outside.join("untouched").exists());
}

#[test]
fn a_link_of_the_base_is_not_written_through() {
    let Some(rig) = Rig::start() else { return };
    let outside = rig.outside().join("outside");
    fs::create_dir(&outside).unwrap();
    rig.write("same", "x\n");
    symlink(&outside, rig.root.join("d")).unwrap();
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    for lease in [false, true] {
        if !lease {
            rig.release(&first, "j");
        }
        fs::remove_file(rig.root.join("d")).unwrap_or_default();
        rig.write("d/x", if lease { "leased\n" } else { "idle\n" });
        let second = rig.take();
        rig.deliver(&second, "k").unwrap();
        rig.assert_has(&second);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}

/// What the receiver answers to these questions and bytes.
fn answers(rig: &Rig, input: &[u8]) -> Vec<Answer> {
    let command =
        Command::new(&rig.client.runner).arg("store").arg(rig.work_dir()).env(environment()).stdin(input);
    let output = LocalHost::new().run(&command, &token()).unwrap();
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn line(document: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(document).unwrap();
    line.push(b'\n');
    line
}

fn hello() -> Vec<u8> {
    line(&Hello { version: VERSION, engine: "engine-1".to_owned() })
}

fn fault(answers: &[Answer]) -> (Fault, String) {
    match answers {
        [Answer::Failed { fault, message }] => (*fault, message.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_sent_under_a_bad_name_is_refused() {
    let Some(rig) = Rig::start() else { return };
    let hash = ContentHash::of(b"any");
    let ask = |id: &str| {
        let lease = Lease { id: id.to_owned(), holder: Holder::Engine };
        line(&Request::Ask(Ask { hash, bases: Vec::new(), lease, min_free: 0 }))
    };
    for id in ["", ".", "..", "../x", "a/b", ".hidden", "a\0b", "ä", &"x".repeat(129)] {
        let (fault, message) = fault(&answers(&rig, &[hello(), ask(id)].concat()));
        assert!(fault == Fault::Request && message.contains("plain name"), "{id:?} {message}");
    }
    // The conversation goes on after a question that makes no sense.
    let input = [hello(), b"{\"ask\":{}}\n".to_vec(), b"nonsense\n".to_vec(), ask("j")].concat();
    let all = answers(&rig, &input);
    assert!(matches!(all[..], [Answer::Failed { .. }, Answer::Failed { .. }, Answer::Lacks(_)]), "{all:?}");
    for hello in [
        line(&Hello { version: 7, engine: "e".to_owned() }),
        line(&Hello { version: VERSION, engine: "../e".to_owned() }),
    ] {
        assert_eq!(fault(&answers(&rig, &hello)).0, Fault::WorkDir);
    }
    let text = String::from_utf8(ask("j")).unwrap().replace(&hash.to_string(), "../../etc");
    assert_eq!(fault(&answers(&rig, &[hello(), text.into_bytes()].concat())).0, Fault::Request);
}

#[test]
fn a_manifest_that_leads_out_of_its_tree_is_refused_before_anything_is_written() {
    let Some(rig) = Rig::start() else { return };
    let content = ContentHash::of(b"evil");
    for path in ["../x", "a/../../x", "/etc/x", "a//b", "./x", "a/.", "x/", ""] {
        let set = format!("jericho-manifest-v1\nf {content} 4 {path}\0");
        refuse(&rig, &set, "", b"evil");
    }
    // Out of order, a file in a file, a link with something below it.
    for pair in [["b", "a"], ["a", "a/b"]] {
        let entries = pair.map(|path| format!("l {content} 4 {path}\0")).concat();
        refuse(&rig, &format!("jericho-manifest-v1\n{entries}"), "", b"evil");
    }
    // Another content than the one it is named by; another snapshot than the one that was told.
    refuse(&rig, &format!("jericho-manifest-v1\nf {content} 4 x\0"), "", b"good");
    refuse(&rig, &format!("jericho-manifest-v1\nf {content} 4 x\0"), "", b"ev");
    refuse(&rig, &format!("jericho-manifest-v1\nf {content} 4 x\0"), "y\0", b"evil");
    assert!(!rig.outside().join("x").exists());
}

/// A whole conversation that must fail, and leave nothing.
fn refuse(rig: &Rig, set: &str, gone: &str, contents: &[u8]) {
    let hash = ContentHash::of(set.as_bytes());
    let receive = Request::Receive(Receive {
        hash,
        base: None,
        gone_len: gone.len() as u64,
        set_len: set.len() as u64,
        contents: ContentHash::of(&ContentHash::of(b"evil").0),
        marker: format!(r#"{{"content_hash":"{hash}"}}"#),
        lease: engine_lease("j"),
    });
    let input = [hello(), line(&receive), gone.into(), set.into(), contents.to_vec()].concat();
    let (fault, message) = fault(&answers(rig, &input));
    assert!(matches!(fault, Fault::Content | Fault::System), "{set:?}: {fault:?} {message}");
    assert_eq!(rig.shelf(), Vec::<String>::new(), "{set:?}");
}

#[test]
fn a_host_that_has_no_receiver_at_that_path_is_told_at_once() {
    let Some(mut rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    let snapshot = rig.take();
    rig.client.runner = "/nonexistent/jerichoci-incus-run".into();
    let (delivered, lines) = rig.deliver_as(&rig.client, &snapshot, &engine_lease("j"));
    let error = delivered.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/jerichoci-incus-run: not found"), "{error:?}");
    assert_eq!(lines, Vec::<String>::new());
}

#[test]
fn too_little_free_space_is_told_before_anything_is_sent() {
    let Some(mut rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    let snapshot = rig.take();
    rig.client.min_free = u64::MAX;
    let (delivered, lines) = rig.deliver_as(&rig.client, &snapshot, &engine_lease("j"));
    let error = delivered.unwrap_err();
    assert!(error.is_no_space() && !error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(lines, Vec::<String>::new());
    assert_eq!(rig.shelf(), Vec::<String>::new());
}

#[test]
fn a_disk_that_is_full_ends_it_at_once_and_nothing_is_left() {
    if !needs_root("refusing::a_disk_that_is_full_ends_it_at_once_and_nothing_is_left") {
        return;
    }
    let Some(rig) = Rig::start() else { return };
    fs::create_dir(rig.work_dir()).unwrap();
    let mounted =
        Mounted::tmpfs(rig.work_dir(), "size=4m,nr_inodes=60,mode=0700", rustix::mount::MountFlags::empty());
    rig.write("small", "one\n");
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    // Told by size before, and by the number of files on the way.
    rig.write("large", &"x".repeat(10_000_000));
    let large = rig.take();
    fs::remove_file(rig.root.join("large")).unwrap();
    for number in 0..100 {
        rig.write(&format!("f{number}"), &format!("{number}\n"));
    }
    for snapshot in [large, rig.take()] {
        let (delivered, lines) = rig.deliver_as(&rig.client, &snapshot, &engine_lease("k"));
        let error = delivered.unwrap_err();
        assert!(error.is_no_space(), "{error:?}");
        assert_eq!(lines, Vec::<String>::new());
        assert_eq!(rig.shelf(), [first.hash.to_string()]);
    }
    rig.assert_has(&first);
    drop(rig);
    drop(mounted);
}
