//! Collects the files that a job declares as artifacts out of its workspace.
//!
//! Patterns are globs relative to the workspace; `*` does not cross `/`, `**` does, a pattern
//! that matches a directory means everything in it, `!` before one takes out again. What cargo
//! writes counts as `target/…` although it lies elsewhere.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobMatcher};
use jericho_host::{CancelReason, CancelToken};
use rustix::fs::{Mode, OFlags};

use super::merged::{Dir, Node, Roots};
use crate::beneath;
use crate::model::attempt::ArtifactRecord;

/// Names at the top of the artifacts that belong to the engine.
pub(in crate::executor) const ENGINES: [&str; 2] = ["result.json", "guest.log"];

/// After this many bytes is looked whether somebody waits for the end.
const PIECE: u64 = 16 << 20;

/// Of what is left out, this many are named in warnings; the others are counted.
const NAMED: usize = 10;

/// How much one job may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArtifactLimits {
    /// Files.
    pub files: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Default for ArtifactLimits {
    /// 10 000 files, 4 GiB.
    fn default() -> Self {
        Self { files: 10_000, bytes: 4 << 30 }
    }
}

/// What was collected, and what a person should know of it.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) files: Vec<ArtifactRecord>,
    pub(super) warnings: Vec<String>,
}

/// One declared pattern.
#[derive(Debug)]
struct Pattern<'a> {
    text: &'a str,
    matcher: GlobMatcher,
    /// Everything below a directory that matches.
    below: GlobMatcher,
    excludes: bool,
    /// Directories above everything that can match, without wildcards.
    base: Vec<&'a str>,
    matched: bool,
}

/// Checks a pattern without looking at any file.
///
/// # Errors
/// Why it cannot match.
pub(crate) fn check_pattern(text: &str) -> Result<(), String> {
    Pattern::new(text).map(drop)
}

impl<'a> Pattern<'a> {
    fn new(text: &'a str) -> Result<Self, String> {
        let excludes = text.starts_with('!');
        let glob = text.strip_prefix('!').unwrap_or(text);
        let glob = glob.strip_prefix("./").unwrap_or(glob);
        let glob = glob.strip_suffix('/').unwrap_or(glob);
        if glob.is_empty()
            || glob.starts_with('/')
            || glob.split('/').any(|part| matches!(part, "" | "." | ".."))
        {
            return Err("it is not a plain path below the workspace".to_owned());
        }
        let base = glob.split('/').take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).collect();
        let all = |glob: &str| -> Result<Glob, String> {
            GlobBuilder::new(glob).literal_separator(true).build().map_err(|error| error.kind().to_string())
        };
        Ok(Self {
            text,
            matcher: all(glob)?.compile_matcher(),
            below: all(&format!("{glob}/**"))?.compile_matcher(),
            excludes,
            base,
            matched: false,
        })
    }

    fn is_match(&self, path: &Path) -> bool {
        self.matcher.is_match(path) || self.below.is_match(path)
    }

    /// Whether something in this directory, or it itself, may match.
    fn may_match_in(&self, dir: &Path) -> bool {
        let parts = dir.iter().map(OsStr::as_bytes);
        parts.zip(&self.base).all(|(part, base)| part == base.as_bytes())
    }
}

/// Collects into `artifacts`, which is the job's own directory. `elsewhere` are directories that
/// the job saw in its workspace, by their path there.
pub(super) fn collect(
    patterns: &[String],
    roots: &Roots<'_>,
    elsewhere: &[(PathBuf, PathBuf)],
    artifacts: &Path,
    limits: ArtifactLimits,
    cancel: &CancelToken,
) -> Collected {
    let mut this = Collector {
        patterns: Vec::new(),
        roots,
        elsewhere,
        artifacts,
        limits,
        cancel,
        bytes: 0,
        over: false,
        odd: Vec::new(),
        collected: Collected::default(),
    };
    for text in patterns {
        match Pattern::new(text) {
            Ok(pattern) => this.patterns.push(pattern),
            Err(why) => this.warn(format!("artifacts: the pattern `{text}` cannot match: {why}")),
        }
    }
    if this.patterns.iter().all(|pattern| pattern.excludes) {
        return this.collected;
    }
    match roots.open() {
        Ok(dir) => this.walk(&dir, Path::new("")),
        Err(error) => this.warn(format!("artifacts: none could be collected: {error}")),
    }
    this.finish()
}

struct Collector<'a> {
    patterns: Vec<Pattern<'a>>,
    roots: &'a Roots<'a>,
    elsewhere: &'a [(PathBuf, PathBuf)],
    artifacts: &'a Path,
    limits: ArtifactLimits,
    cancel: &'a CancelToken,
    bytes: u64,
    /// Nothing more is collected; a warning has said why.
    over: bool,
    /// Left out, and why.
    odd: Vec<String>,
    collected: Collected,
}

impl Collector<'_> {
    fn warn(&mut self, line: String) {
        self.collected.warnings.push(line);
    }

    fn leave_out(&mut self, path: &Path, why: impl std::fmt::Display) {
        self.odd.push(format!("artifacts: {} is left out: {why}", path.display()));
    }

    fn walk(&mut self, dir: &Dir, path: &Path) {
        let mut names = match dir.names() {
            Ok(names) => names,
            Err(error) => return self.leave_out(path, error),
        };
        for (place, _) in self.elsewhere {
            if place.parent() == Some(path)
                && let Some(name) = place.file_name()
                && !names.iter().any(|known| known == name.as_bytes())
            {
                names.push(name.as_bytes().to_vec());
            }
        }
        names.sort_unstable();
        for name in names {
            if self.is_over() {
                break;
            }
            let path = path.join(OsStr::from_bytes(&name));
            // The repository that the job asked for is no work of its own.
            if path == Path::new(".git") {
                continue;
            }
            if !self.patterns.iter().any(|pattern| !pattern.excludes && pattern.may_match_in(&path)) {
                continue;
            }
            let node = match self.elsewhere.iter().find(|(place, _)| *place == path) {
                Some((_, dir)) => Roots { upper: None, lower: dir }.open().map(|dir| Some(Node::Dir(dir))),
                None => dir.look(&name, self.roots),
            };
            match node {
                Ok(Some(Node::Dir(dir))) => self.walk(&dir, &path),
                Ok(Some(Node::File(file))) if self.wanted(&path) => self.keep(file, &path),
                Ok(Some(Node::Link)) if self.wanted(&path) || self.is_on_the_way(&path) => {
                    self.leave_out(&path, "it is a symbolic link");
                }
                Ok(Some(Node::Other)) if self.wanted(&path) => self.leave_out(&path, "it is not a file"),
                // What nobody asked for is nobody's loss.
                Err(error)
                    if error.kind() != io::ErrorKind::NotFound
                        && (self.wanted(&path) || self.is_on_the_way(&path)) =>
                {
                    self.leave_out(&path, error);
                }
                _ => {}
            }
        }
    }

    /// Whether nothing more is collected. Who asks twice to end does not wait for copies.
    fn is_over(&mut self) -> bool {
        if !self.over && self.cancel.reason() == Some(CancelReason::Forced) {
            self.over = true;
            self.warn(format!("artifacts: not all are collected: {}", CancelReason::Forced));
        }
        self.over
    }

    /// The last pattern that matches decides.
    fn wanted(&mut self, path: &Path) -> bool {
        let mut wanted = false;
        for pattern in &mut self.patterns {
            if pattern.is_match(path) {
                pattern.matched = true;
                wanted = !pattern.excludes;
            }
        }
        wanted
    }

    /// Whether some pattern only means what lies below this.
    fn is_on_the_way(&mut self, path: &Path) -> bool {
        let depth = path.iter().count();
        let mut patterns = self.patterns.iter().filter(|pattern| !pattern.excludes);
        patterns.any(|pattern| pattern.base.len() >= depth && pattern.may_match_in(path))
    }

    fn keep(&mut self, file: File, path: &Path) {
        if ENGINES.iter().any(|name| path == Path::new(name)) {
            return self.leave_out(path, "the engine writes a file of that name");
        }
        let size = match file.metadata() {
            Ok(meta) => meta.len(),
            Err(error) => return self.leave_out(path, error),
        };
        if self.collected.files.len() >= self.limits.files
            || self.bytes.saturating_add(size) > self.limits.bytes
        {
            self.over = true;
            return self.warn(format!(
                "artifacts: {} and what follows is left out: a job may leave {} files of {} bytes altogether",
                path.display(),
                self.limits.files,
                self.limits.bytes
            ));
        }
        match copy(file, self.artifacts, path, self.cancel) {
            Ok(bytes) => {
                self.bytes += bytes;
                let path = path.to_string_lossy().into_owned();
                self.collected.files.push(ArtifactRecord { path, bytes });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.leave_out(path, "the job has written a file of that name to $ARTIFACTS");
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                self.over = true;
                self.warn(format!("artifacts: {} and what follows is left out: {error}", path.display()));
            }
            // Said once, by whoever looks next.
            Err(_) if self.is_over() => {}
            Err(error) => self.leave_out(path, error),
        }
    }

    fn finish(mut self) -> Collected {
        let odd = std::mem::take(&mut self.odd);
        let more = odd.len().saturating_sub(NAMED);
        self.collected.warnings.extend(odd.into_iter().take(NAMED));
        if more > 0 {
            self.warn(format!("artifacts: {more} more files, links and other things are left out"));
        }
        if !self.over {
            let unmatched: Vec<String> = self
                .patterns
                .iter()
                .filter(|pattern| !pattern.matched && !pattern.excludes)
                .map(|pattern| format!("artifacts: no file matches `{}`", pattern.text))
                .collect();
            self.collected.warnings.extend(unmatched);
        }
        self.collected.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.collected
    }
}

/// Copies below `artifacts`, with the mode of the file. What the job put there is never written
/// through, and never replaced.
fn copy(from: File, artifacts: &Path, path: &Path, cancel: &CancelToken) -> io::Result<u64> {
    use std::os::unix::fs::PermissionsExt as _;
    let (parent, name) = beneath::split(path)?;
    let parent = beneath::walk(artifacts, parent, true)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = from.metadata()?.permissions().mode() & 0o777 | 0o600;
    let mut to = File::from(rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(mode))?);
    let copied = copy_all(&from, &mut to, cancel);
    if copied.is_err() {
        // A part of a file would be taken for the whole.
        let _ = rustix::fs::unlinkat(&parent, name, rustix::fs::AtFlags::empty());
    }
    copied
}

fn copy_all(mut from: &File, to: &mut File, cancel: &CancelToken) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        match io::copy(&mut io::Read::take(&mut from, PIECE), to)? {
            0 => return Ok(copied),
            count => copied += count,
        }
        if cancel.reason() == Some(CancelReason::Forced) {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_twice_to_end_does_not_wait_for_copies() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, artifacts) = (dir.path().join("tree"), dir.path().join("artifacts"));
        for dir in [&tree, &artifacts] {
            std::fs::create_dir(dir).unwrap();
        }
        std::fs::write(tree.join("a"), "a").unwrap();
        let cancel = CancelToken::new().unwrap();
        let roots = Roots { upper: None, lower: &tree };
        let collect = || {
            collect(&["a".into(), "b".into()], &roots, &[], &artifacts, ArtifactLimits::default(), &cancel)
        };
        cancel.cancel(CancelReason::Signal);
        assert_eq!(collect().files.len(), 1);
        std::fs::remove_file(artifacts.join("a")).unwrap();
        cancel.cancel(CancelReason::Forced);
        let collected = collect();
        assert_eq!(collected.files, []);
        assert_eq!(collected.warnings.len(), 1, "{:?}", collected.warnings);
        // In the middle of a file too: no part of it is taken for the whole.
        let file = File::open(tree.join("a")).unwrap();
        assert!(copy(file, &artifacts, Path::new("a"), &cancel).is_err());
        assert!(!artifacts.join("a").exists());
    }
}
