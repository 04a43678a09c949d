//! A file tree as Incus imports it: the archive of a volume, written while it is sent.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use tar::EntryType;

/// Where the files of a volume lie in the archive.
const ROOT: &str = "backup/volume";

/// The user and group of a guest, whose the files are.
const OWNER: u64 = 1000;

/// Archives are made of blocks.
const BLOCK: u64 = 512;

/// Takes the files and links of a tree for a volume, in any order. Directories are implied. Everything
/// belongs to the guest's user and is readable by everybody.
pub struct TreeWriter<'a> {
    tar: tar::Builder<&'a mut dyn Write>,
    /// Seconds since 1970.
    time: u64,
    made: HashSet<PathBuf>,
}

impl std::fmt::Debug for TreeWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeWriter").field("directories", &self.made.len()).finish_non_exhaustive()
    }
}

impl<'a> TreeWriter<'a> {
    /// Begins an archive of a volume with that configuration. `time` is that of all files.
    pub(crate) fn begin(to: &'a mut dyn Write, config: &Value, time: u64) -> io::Result<Self> {
        let mut writer = Self { tar: tar::Builder::new(to), time, made: HashSet::new() };
        // JSON is YAML too. Incus takes the name from the request, and driver and pool from where the volume goes.
        let index = serde_json::json!({
            "name": "tree",
            "backend": "dir",
            "pool": "tree",
            "optimized": false,
            "optimized_header": false,
            "type": "custom",
            "config": { "volume": {
                "name": "tree",
                "type": "custom",
                "content_type": "filesystem",
                "description": "",
                "config": config,
            } },
        });
        let index = index.to_string();
        let mut header = writer.header(EntryType::Regular, 0o600, index.len() as u64);
        writer.tar.append_data(&mut header, "backup/index.yaml", index.as_bytes())?;
        let mut header = writer.header(EntryType::Directory, 0o755, 0);
        writer.tar.append_data(&mut header, ROOT, io::empty())?;
        Ok(writer)
    }

    /// A file of exactly `size` bytes, which `fill` writes.
    ///
    /// # Errors
    ///
    /// What `fill` says; when it wrote another number of bytes, `path` cannot be one in a tree, or the other side
    /// has gone away. The tree is worthless then.
    pub fn file(
        &mut self,
        path: impl AsRef<Path>,
        is_executable: bool,
        size: u64,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = path.as_ref();
        let place = self.place(path)?;
        let mut header = self.header(EntryType::Regular, if is_executable { 0o755 } else { 0o644 }, size);
        // The header alone: what follows comes in pieces.
        self.tar.append_data(&mut header, place, io::empty())?;
        let mut out = Counted { inner: self.tar.get_mut(), written: 0, size };
        fill(&mut out)?;
        if out.written != size {
            let message = format!("{} has {} bytes, not {size}", path.display(), out.written);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        let padding = (BLOCK - size % BLOCK) % BLOCK;
        io::copy(&mut io::Read::take(io::repeat(0), padding), self.tar.get_mut()).map(drop)
    }

    /// A symbolic link with that text.
    ///
    /// # Errors
    ///
    /// When `path` cannot be one in a tree, or the other side has gone away.
    pub fn link(&mut self, path: impl AsRef<Path>, target: &[u8]) -> io::Result<()> {
        let place = self.place(path.as_ref())?;
        let mut header = self.header(EntryType::Symlink, 0o777, 0);
        self.tar.append_link(&mut header, place, OsStr::from_bytes(target))
    }

    /// The end of the archive; without it nothing is imported.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.tar.finish()?;
        self.tar.get_mut().flush()
    }

    /// The path in the archive, with the directories above it.
    fn place(&mut self, path: &Path) -> io::Result<PathBuf> {
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_plain || path.as_os_str().is_empty() || path.as_os_str().as_bytes().contains(&0) {
            let message = format!("{} is no path in a tree", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut dir = PathBuf::new();
        for part in path.parent().into_iter().flat_map(Path::components) {
            dir.push(part);
            if self.made.insert(dir.clone()) {
                let mut header = self.header(EntryType::Directory, 0o755, 0);
                self.tar.append_data(&mut header, Path::new(ROOT).join(&dir), io::empty())?;
            }
        }
        Ok(Path::new(ROOT).join(path))
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(OWNER);
        header.set_gid(OWNER);
        header.set_mtime(self.time);
        header.set_size(size);
        header
    }
}

/// Lets a file be no longer than was said of it: what is too much would be read as the next one.
struct Counted<'a> {
    inner: &'a mut dyn Write,
    written: u64,
    size: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.size - self.written {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a file is longer than was said of it"));
        }
        let count = self.inner.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn archive(write: impl FnOnce(&mut TreeWriter<'_>) -> io::Result<()>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut tree = TreeWriter::begin(&mut bytes, &serde_json::json!({ "user.a": "1" }), 7)?;
        write(&mut tree)?;
        tree.finish()?;
        Ok(bytes)
    }

    #[test]
    fn files_links_and_their_directories_are_in_the_archive_once() {
        let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
        let bytes = archive(|tree| {
            tree.file("a/b/c", true, 700, |out| out.write_all(&[b'x'; 700]))?;
            tree.file("a/b/d", false, 0, |_| Ok(()))?;
            tree.link("a/link", b"b/c")?;
            tree.file(&long, false, 3, |out| out.write_all(b"abc"))
        })
        .unwrap();
        let mut read = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in read.entries().unwrap() {
            let mut entry = entry.unwrap();
            let (path, mode) = (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap());
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            found.push((path, mode, contents.len()));
        }
        let expected = |path: &str, mode, size| (path.to_owned(), mode, size);
        assert_eq!(found.remove(0).0, "backup/index.yaml");
        assert_eq!(
            found,
            [
                expected("backup/volume", 0o755, 0),
                expected("backup/volume/a", 0o755, 0),
                expected("backup/volume/a/b", 0o755, 0),
                expected("backup/volume/a/b/c", 0o755, 700),
                expected("backup/volume/a/b/d", 0o644, 0),
                expected("backup/volume/a/link", 0o777, 0),
                expected(&format!("backup/volume/{}", "d".repeat(150)), 0o755, 0),
                expected(&format!("backup/volume/{long}"), 0o644, 3),
            ]
        );
    }

    #[test]
    fn a_file_of_another_size_than_was_said_ends_the_tree() {
        let shorter = archive(|tree| tree.file("a", false, 5, |out| out.write_all(b"four"))).unwrap_err();
        assert!(shorter.to_string().contains("4 bytes, not 5"), "{shorter}");
        let longer = archive(|tree| tree.file("a", false, 3, |out| out.write_all(b"four"))).unwrap_err();
        assert!(longer.to_string().contains("longer"), "{longer}");
    }

    #[test]
    fn a_path_that_leaves_the_tree_is_refused() {
        for path in ["", "/etc/passwd", "../a", "a/../../b", "."] {
            assert!(archive(|tree| tree.file(path, false, 0, |_| Ok(()))).is_err(), "{path:?}");
            assert!(archive(|tree| tree.link(path, b"x")).is_err(), "{path:?}");
        }
    }
}
