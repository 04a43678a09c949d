//! Git repositories for tests: made by hand, or grown at random with everything a tree can hold.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A directory in which real git runs, with no configuration but its own.
#[derive(Debug, Clone)]
pub struct Repo {
    root: PathBuf,
}

impl Repo {
    /// Makes an empty repository with the branch `main`; its directory is made when missing.
    ///
    /// # Errors
    /// When git fails.
    pub fn init(root: impl Into<PathBuf>) -> Result<Self> {
        let repo = Self::at(root);
        fs::create_dir_all(&repo.root)?;
        repo.git(["init", "-q", "-b", "main"])?;
        Ok(repo)
    }

    /// A repository that is there already.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its work tree.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What git sees of the environment here, as names and values.
    #[must_use]
    pub fn environment() -> Vec<(&'static str, &'static str)> {
        vec![
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", "/nonexistent"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_AUTHOR_NAME", "Test"),
            ("GIT_AUTHOR_EMAIL", "test@localhost"),
            ("GIT_COMMITTER_NAME", "Test"),
            ("GIT_COMMITTER_EMAIL", "test@localhost"),
            ("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z"),
            ("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z"),
        ]
    }

    /// Runs git in the work tree and returns what it printed.
    ///
    /// # Errors
    /// When it exits with another code than 0, with its words.
    pub fn git<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Vec<u8>> {
        let output = Self::command(&self.root)
            .args([
                "-c",
                "protocol.file.allow=always",
                "-c",
                "gc.auto=0",
                "-c",
                "advice.addEmbeddedRepo=false",
            ])
            .args(args)
            .output()
            .context("git")?;
        ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    /// The same, as one trimmed line.
    ///
    /// # Errors
    /// As [`Repo::git`].
    pub fn line<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<String> {
        Ok(String::from_utf8(self.git(args)?)?.trim_end().to_owned())
    }

    #[expect(clippy::disallowed_methods, reason = "tests prepare their input without the code under test")]
    fn command(dir: &Path) -> std::process::Command {
        let mut command = std::process::Command::new("git");
        command.current_dir(dir).env_clear().envs(Self::environment());
        command
    }

    /// Writes a file, making its directories.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&self, path: impl AsRef<OsStr>, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.root.join(Path::new(path.as_ref()));
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&path, content).with_context(|| path.display().to_string())
    }

    /// Commits everything that is not ignored; returns the commit id.
    ///
    /// # Errors
    /// When git fails.
    pub fn commit(&self, message: &str) -> Result<String> {
        self.git(["add", "-A"])?;
        self.git(["commit", "-q", "--allow-empty", "-m", message])?;
        self.line(["rev-parse", "HEAD"])
    }
}

/// A small generator of numbers: the same seed gives the same tree.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`, or 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % limit.max(1) as u64).unwrap_or(0)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.below(256)).unwrap_or(0)).collect()
    }
}

/// Names that have broken something somewhere.
const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"a-b",
    b"a.b",
    b"a0",
    b"sub",
    b"src",
    b"target",
    b"build",
    b"node_modules",
    b".hidden",
    b"-dash",
    b"--",
    b"sp ace",
    b"new\nline",
    b"tab\t",
    b"quote\"",
    b"back\\slash",
    b"*",
    b"[x]",
    b"!bang",
    b"#hash",
    b"\xc3\xbc",
    b"\xff\xfe",
    b"x.ignored",
    b"secret.env",
    b"Makefile",
    b"CON",
    b"~",
    b"jerichoci-snapshot.json",
];

fn name(random: &mut Random) -> Vec<u8> {
    if random.once_in(40) {
        return vec![b'n'; 255];
    }
    NAMES[random.below(NAMES.len())].to_vec()
}

/// Grows a repository in `root`: tracked, changed, deleted, replaced, untracked and ignored files,
/// links, FIFOs, empty directories, submodule entries and nested repositories.
///
/// # Errors
/// When git or the file system fails.
pub fn grow(root: &Path, random: &mut Random) -> Result<Repo> {
    let repo = Repo::init(root)?;
    scatter(root, random, 30)?;
    if random.once_in(2) {
        fs::write(root.join(".gitignore"), "*.ignored\n/target/\nsecret*\nnode_modules/\n")?;
    }
    if random.once_in(3) {
        nest(root, random, true)?;
    }
    if !random.once_in(5) {
        repo.git(["add", "-A"])?;
        if !random.once_in(4) {
            repo.git(["commit", "-q", "--allow-empty", "-m", "all"])?;
        }
    }
    mutate(root, random)?;
    if random.once_in(3) {
        nest(root, random, false)?;
    }
    Ok(repo)
}

fn nest(root: &Path, random: &mut Random, with_commit: bool) -> Result<()> {
    let directory = root.join(if random.once_in(2) { "nested" } else { "sub/nested" });
    if directory.parent().is_none_or(|parent| !parent.is_dir()) || fs::symlink_metadata(&directory).is_ok() {
        return Ok(());
    }
    let inner = Repo::init(&directory)?;
    scatter(&directory, random, 6)?;
    fs::write(directory.join(".gitignore"), "a\n")?;
    if with_commit {
        inner.commit("inner")?;
    }
    if random.once_in(2) {
        let deep = Repo::init(directory.join("deep"))?;
        deep.write("file", "deep")?;
        if with_commit {
            deep.commit("deep")?;
        }
    }
    Ok(())
}

/// Changes a tree: writes, removes and replaces files and directories of every kind.
///
/// # Errors
/// When the file system fails.
pub fn mutate(root: &Path, random: &mut Random) -> Result<()> {
    let mut paths = Vec::new();
    collect(root, &mut paths)?;
    let changes = random.below(8);
    for _ in 0..changes.min(paths.len()) {
        let path = paths.swap_remove(random.below(paths.len()));
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        // Git opens this one: it would wait for the writer of a FIFO for ever.
        if path.file_name().is_some_and(|name| name == ".gitignore") {
            continue;
        }
        match random.below(4) {
            // A new mode, where there is one.
            0 if found.is_file() => fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?,
            1 if found.is_file() => {
                let size = random.below(3000);
                fs::write(&path, random.bytes(size))?;
            }
            kind => {
                if found.is_dir() {
                    fs::remove_dir_all(&path)?;
                } else {
                    fs::remove_file(&path)?;
                }
                if kind != 2 {
                    plant(&path, random)?;
                }
            }
        }
    }
    let more = random.below(8);
    scatter(root, random, more)
}

/// Everything below a directory but repositories' own directories.
fn collect(directory: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let mut here: Vec<_> = fs::read_dir(directory)?.collect::<std::io::Result<_>>()?;
    here.sort_by_key(fs::DirEntry::file_name);
    for entry in here {
        if entry.file_name() == ".git" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), paths)?;
        }
        paths.push(entry.path());
    }
    Ok(())
}

fn scatter(root: &Path, random: &mut Random, count: usize) -> Result<()> {
    for _ in 0..count {
        let mut directory = root.to_path_buf();
        for _ in 0..random.below(4) {
            let next = directory.join(OsStr::from_bytes(&name(random)));
            match fs::symlink_metadata(&next) {
                Ok(found) if !found.is_dir() => break,
                Ok(_) => {}
                Err(_) => fs::create_dir(&next)?,
            }
            directory = next;
        }
        let path = directory.join(OsStr::from_bytes(&name(random)));
        if fs::symlink_metadata(&path).is_err() {
            plant(&path, random)?;
        }
    }
    Ok(())
}

/// Makes one new thing.
fn plant(path: &Path, random: &mut Random) -> Result<()> {
    match random.below(12) {
        0 => {
            let target: &[u8] =
                [&b"a"[..], b"../..", b"/nonexistent", b"\xff", b"sub/b", b"."][random.below(6)];
            symlink(OsStr::from_bytes(target), path)?;
        }
        1 => fs::create_dir(path)?,
        2 => {
            fs::create_dir(path)?;
            plant(&path.join("inside"), random)?;
        }
        3 if random.once_in(2) => fifo(path)?,
        _ => {
            let size = if random.once_in(30) { 300_000 } else { random.below(2000) };
            let content = if random.once_in(4) { b"the same".to_vec() } else { random.bytes(size) };
            fs::write(path, content)?;
            let mode = [0o644, 0o644, 0o755, 0o600, 0o711, 0o654][random.below(6)];
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// Makes a FIFO.
///
/// # Errors
/// When something has the name.
pub fn fifo(path: &Path) -> Result<()> {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let kind = rustix::fs::FileType::Fifo;
    Ok(rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0)?)
}
