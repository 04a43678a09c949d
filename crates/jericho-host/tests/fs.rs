//! Atomic writes, publication, removal.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::tempdir;
use jericho_host::{Host, HostError, LocalHost, Published, sys};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_reader_sees_the_old_or_the_new_content_and_never_a_part() {
    let (_keep, dir) = tempdir();
    let host = LocalHost::new();
    let path = dir.join("record.json");
    host.write_atomic(&path, &vec![b'0'; 300_000], false).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..200u8 {
                host.write_atomic(&path, &vec![b'0' + turn % 10; 300_000 - usize::from(turn)], turn == 7)
                    .unwrap();
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let content = host.read(&path).unwrap();
            assert!(content.len() > 299_000 && content.iter().all(|byte| *byte == content[0]));
        }
    });
    assert_eq!(names(&dir), ["record.json"]);
}

#[test]
fn a_write_that_fails_leaves_the_old_content_and_no_temporary_file() {
    let (_keep, dir) = tempdir();
    let host = LocalHost::new();
    // A directory in the way: only the rename fails.
    fs::create_dir(dir.join("target")).unwrap();
    let error = host.write_atomic(&dir.join("target"), b"x", true).unwrap_err();
    assert!(matches!(error, HostError::File { action: "write", .. }), "{error:?}");
    assert_eq!(names(&dir), ["target"]);
    host.write_atomic(&dir.join("missing/file"), b"x", false).unwrap_err();
    host.write_atomic(Path::new("/"), b"x", false).unwrap_err();
}

#[test]
fn a_name_as_long_as_names_can_be_is_written() {
    let (_keep, dir) = tempdir();
    let name = "n".repeat(255);
    LocalHost::new().write_atomic(&dir.join(&name), b"x", true).unwrap();
    assert_eq!(names(&dir), [name]);
}

#[test]
fn a_published_directory_is_never_replaced() {
    let (_keep, dir) = tempdir();
    let host = LocalHost::new();
    let stage = |content: &str| {
        fs::create_dir(dir.join("staged")).unwrap();
        fs::write(dir.join("staged/file"), content).unwrap();
    };
    stage("first");
    assert_eq!(host.publish_dir(&dir.join("staged"), &dir.join("target")).unwrap(), Published::Renamed);
    stage("second");
    assert_eq!(host.publish_dir(&dir.join("staged"), &dir.join("target")).unwrap(), Published::AlreadyThere);
    assert_eq!(fs::read_to_string(dir.join("target/file")).unwrap(), "first");
    // Also one that is empty.
    fs::create_dir(dir.join("empty")).unwrap();
    stage("third");
    assert_eq!(host.publish_dir(&dir.join("staged"), &dir.join("empty")).unwrap(), Published::AlreadyThere);
    assert_eq!(names(&dir), ["empty", "target"]);
    host.publish_dir(&dir.join("nothing"), &dir.join("target")).unwrap_err();
}

#[test]
fn removal_follows_no_link_and_minds_no_mode() {
    let (_keep, dir) = tempdir();
    let host = LocalHost::new();
    fs::create_dir_all(dir.join("outside/kept")).unwrap();
    fs::create_dir_all(dir.join("tree/a/b/c")).unwrap();
    fs::write(dir.join("tree/a/b/file"), "x").unwrap();
    symlink(dir.join("outside"), dir.join("tree/link")).unwrap();
    symlink("nowhere", dir.join("tree/a/dangling")).unwrap();
    sys::make_fifo(&dir.join("tree/a/fifo")).unwrap();
    for (name, mode) in
        [("tree/a/b/file", 0o000), ("tree/a/b/c", 0o000), ("tree/a/b", 0o500), ("tree/a", 0o000)]
    {
        fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    fs::set_permissions(dir.join("outside"), PermissionsExt::from_mode(0o500)).unwrap();
    host.remove(&dir.join("tree")).unwrap();
    assert_eq!(names(&dir), ["outside"]);
    assert_eq!(names(&dir.join("outside")), ["kept"]);
    assert_eq!(fs::metadata(dir.join("outside")).unwrap().permissions().mode() & 0o777, 0o500);
    // A link is removed, not what it names; what is gone is success.
    symlink(dir.join("outside"), dir.join("link")).unwrap();
    host.remove(&dir.join("link")).unwrap();
    host.remove(&dir.join("link")).unwrap();
    host.remove(&dir.join("no/such/thing")).unwrap();
    assert!(dir.join("outside/kept").exists());
}

#[test]
fn reserved_space_does_not_change_the_size() {
    let (_keep, dir) = tempdir();
    let file = fs::File::create(dir.join("journal")).unwrap();
    match sys::reserve(&file, 1 << 20) {
        Ok(()) => assert!(std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512 >= 1 << 20),
        // Some file systems cannot; that is told and not hidden.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}"),
    }
    assert_eq!(file.metadata().unwrap().len(), 0);
}
