//! Atomic writes, publication, removal, directories, on every host.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Place, hosts, tempdir};
use jericho_host::{Entry, EntryKind, HostError, Published, sys};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_reader_sees_the_old_or_the_new_content_and_never_a_part() {
    for Place { host, .. } in &hosts() {
        let (_keep, dir) = tempdir();
        let path = dir.join("record.json");
        host.write_atomic(&path, &vec![b'0'; 300_000], false).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Over ssh each costs a process or ten.
                let turns = if host.label() == "local" { 200 } else { 30 };
                for turn in 0..turns {
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
}

#[test]
fn a_write_that_fails_leaves_the_old_content_and_no_temporary_file() {
    for Place { host, .. } in &hosts() {
        let (_keep, dir) = tempdir();
        // A directory in the way: only the rename fails.
        fs::create_dir(dir.join("target")).unwrap();
        let error = host.write_atomic(&dir.join("target"), b"x", true).unwrap_err();
        assert!(matches!(error, HostError::File { action: "write", .. }), "{error:?}");
        assert_eq!(names(&dir), ["target"]);
        host.write_atomic(&dir.join("missing/file"), b"x", false).unwrap_err();
        host.write_atomic(Path::new("/"), b"x", false).unwrap_err();
    }
}

#[test]
fn a_name_as_long_as_names_can_be_is_written() {
    for Place { host, .. } in &hosts() {
        let (_keep, dir) = tempdir();
        let name = "n".repeat(255);
        host.write_atomic(&dir.join(&name), b"x", true).unwrap();
        assert_eq!(names(&dir), [name]);
    }
}

#[test]
fn a_published_directory_is_never_replaced() {
    for Place { host, .. } in &hosts() {
        let (_keep, dir) = tempdir();
        let stage = |content: &str| {
            fs::create_dir(dir.join("staged")).unwrap();
            fs::write(dir.join("staged/file"), content).unwrap();
        };
        stage("first");
        assert_eq!(host.publish_dir(&dir.join("staged"), &dir.join("target")).unwrap(), Published::Renamed);
        stage("second");
        assert_eq!(
            host.publish_dir(&dir.join("staged"), &dir.join("target")).unwrap(),
            Published::AlreadyThere
        );
        assert_eq!(fs::read_to_string(dir.join("target/file")).unwrap(), "first");
        // Also one that is empty.
        fs::create_dir(dir.join("empty")).unwrap();
        stage("third");
        assert_eq!(
            host.publish_dir(&dir.join("staged"), &dir.join("empty")).unwrap(),
            Published::AlreadyThere
        );
        assert_eq!(names(&dir), ["empty", "target"]);
        host.publish_dir(&dir.join("nothing"), &dir.join("target")).unwrap_err();
    }
}

#[test]
fn removal_follows_no_link_and_minds_no_mode() {
    for Place { host, .. } in &hosts() {
        let (_keep, dir) = tempdir();
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
}

#[test]
fn a_part_of_a_file_is_read_and_behind_its_end_there_is_nothing() {
    for Place { host, .. } in &hosts() {
        let (_keep, dir) = tempdir();
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let path = dir.join("-odd name\n\u{e4}");
        fs::write(&path, &content).unwrap();
        assert!(host.read(&path).unwrap() == content);
        for (offset, limit) in [(0, 10), (399_990, 100), (7, 300_000), (400_000, 5), (500_000, 5), (3, 0)] {
            let part = host.read_range(&path, offset, limit).unwrap();
            let expected: Vec<u8> = content
                .iter()
                .skip(usize::try_from(offset).unwrap())
                .take(usize::try_from(limit).unwrap())
                .copied()
                .collect();
            assert!(part == expected, "{offset} {limit} on {}", host.label());
        }
        assert_eq!(host.read_range(&path, 1, u64::MAX).unwrap().len(), 399_999);
        for missing in [dir.join("missing"), path.join("below")] {
            let kinds = [host.read(&missing).unwrap_err(), host.read_range(&missing, 1, 1).unwrap_err()];
            for error in kinds {
                let HostError::File { action: "read", source, .. } = &error else { panic!("{error:?}") };
                let expected = fs::read(&missing).unwrap_err().kind();
                assert_eq!(source.kind(), expected, "on {}", host.label());
            }
        }
        for error in [host.read(&dir).unwrap_err(), host.read_range(&dir, 0, 1).unwrap_err()] {
            let HostError::File { source, .. } = &error else { panic!("{error:?}") };
            assert_eq!(source.kind(), std::io::ErrorKind::IsADirectory, "on {}", host.label());
        }
    }
}

#[test]
fn a_directory_is_listed_with_names_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    for Place { host, .. } in &hosts() {
        let (_keep, dir) = tempdir();
        assert_eq!(host.list(&dir).unwrap(), []);
        let mut expected = Vec::new();
        for byte in (1..=255).filter(|byte| *byte != b'/') {
            let name = std::ffi::OsStr::from_bytes(&[b'n', byte, b'*']).to_os_string();
            fs::write(dir.join(&name), "").unwrap();
            expected.push(Entry { name, kind: EntryKind::File });
        }
        fs::create_dir(dir.join("*")).unwrap();
        expected.push(Entry { name: "*".into(), kind: EntryKind::Directory });
        symlink("*", dir.join(".link")).unwrap();
        symlink("nowhere", dir.join("..dangling")).unwrap();
        expected.push(Entry { name: ".link".into(), kind: EntryKind::Link });
        expected.push(Entry { name: "..dangling".into(), kind: EntryKind::Link });
        sys::make_fifo(&dir.join("-fifo")).unwrap();
        expected.push(Entry { name: "-fifo".into(), kind: EntryKind::Other });
        expected.sort();
        let listed = host.list(&dir).unwrap();
        assert!(listed == expected, "on {}: {listed:?}", host.label());
        for (path, kind) in [
            (dir.join("missing"), std::io::ErrorKind::NotFound),
            (dir.join("-fifo"), std::io::ErrorKind::NotADirectory),
        ] {
            let error = host.list(&path).unwrap_err();
            let HostError::File { action: "list", source, .. } = &error else { panic!("{error:?}") };
            assert_eq!(source.kind(), kind, "on {}", host.label());
        }
    }
}

#[test]
fn a_directory_is_made_with_what_is_missing_above_it_for_this_user_alone() {
    for Place { host, .. } in &hosts() {
        let (_keep, dir) = tempdir();
        host.make_dirs(&dir.join("a/b")).unwrap();
        host.make_dirs(&dir.join("a/b")).unwrap();
        for name in ["a", "a/b"] {
            let mode = fs::metadata(dir.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{name} on {}", host.label());
        }
        fs::write(dir.join("file"), "").unwrap();
        let error = host.make_dirs(&dir.join("file/below")).unwrap_err();
        assert!(matches!(error, HostError::File { action: "make", .. }), "{error:?}");
    }
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
