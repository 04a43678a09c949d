//! Brings home what a job has left on its host.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use jericho_host::HostError;
use rustix::fs::{Mode, OFlags};

use super::frames::{FrameError, Frames, Head};
use super::{Failure, JobContext, Run};
use crate::beneath;
use crate::causes::with_causes;
use crate::executor::process::ENGINES;
use crate::model::attempt::ArtifactRecord;

/// How often it is tried.
const ATTEMPTS: u32 = 3;
/// Of what is left out, this many are named in warnings; the others are counted.
const NAMED: usize = 10;

/// What was brought home.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    /// Those that the job has declared.
    pub(super) files: Vec<ArtifactRecord>,
    pub(super) warnings: Vec<String>,
}

/// Fetches `$ARTIFACTS`, and what was collected by the patterns of the job when that is `wanted`.
pub(super) fn fetch(run: &Run<'_>, job: &mut JobContext<'_>, wanted: bool) -> Fetched {
    let limits = run.tools.config.artifact_limits;
    let mut taker = Taker {
        to: job.artifacts,
        own: BTreeSet::new(),
        left: (limits.files as u64, limits.bytes),
        odd: Vec::new(),
        files: Vec::new(),
    };
    let mut fetched = Fetched::default();
    let collected = run.place.state.join("artifacts");
    let declared = wanted && !job.spec.artifacts.is_empty();
    for (dir, is_declared) in [(&run.place.artifacts, false), (&collected, true)] {
        if is_declared && !declared {
            continue;
        }
        if let Err(why) = taker.fetch(run, job, dir, is_declared) {
            fetched.warnings.push(format!("artifacts: not all could be brought home: {why}"));
            break;
        }
    }
    let more = taker.odd.len().saturating_sub(NAMED);
    fetched.warnings.extend(taker.odd.into_iter().take(NAMED));
    if more > 0 {
        fetched.warnings.push(format!("artifacts: {more} more files, links and other things are left out"));
    }
    taker.files.sort_by(|a, b| a.path.cmp(&b.path));
    fetched.files = taker.files;
    fetched
}

struct Taker<'a> {
    to: &'a Path,
    /// Paths that were written by this, and may be written again.
    own: BTreeSet<PathBuf>,
    /// Files and bytes that may still come.
    left: (u64, u64),
    odd: Vec<String>,
    files: Vec<ArtifactRecord>,
}

impl Taker<'_> {
    fn fetch(
        &mut self,
        run: &Run<'_>,
        job: &mut JobContext<'_>,
        dir: &Path,
        is_declared: bool,
    ) -> Result<(), String> {
        let mut attempt = 1;
        loop {
            // Another attempt begins anew.
            let (left, odd) = (self.left, self.odd.len());
            let mut mine = BTreeSet::new();
            let mut files = Vec::new();
            let error = match self.once(run, job, dir, is_declared, &mut mine, &mut files) {
                Ok(()) => {
                    self.own.append(&mut mine);
                    self.files.append(&mut files);
                    return Ok(());
                }
                Err(error) => error,
            };
            for path in mine {
                // A part of a file would be taken for the whole.
                let _ = std::fs::remove_file(self.to.join(path));
            }
            self.left = left;
            self.odd.truncate(odd);
            attempt += 1;
            match error {
                FrameError::Host(HostError::Ssh(error)) if error.is_transient() && attempt <= ATTEMPTS => {
                    run.lost(&HostError::Ssh(error), "bringing artifacts home", job).map_err(|failure| {
                        match failure {
                            Failure::Cancelled(reason) => format!("cancelled: {reason}"),
                            Failure::Errored(why) => why,
                        }
                    })?;
                }
                FrameError::Host(error) | FrameError::Taker(error) => return Err(with_causes(&error)),
                FrameError::Ended(said) | FrameError::Unreadable(said) => return Err(said),
            }
        }
    }

    fn once(
        &mut self,
        run: &Run<'_>,
        job: &JobContext<'_>,
        dir: &Path,
        is_declared: bool,
        mine: &mut BTreeSet<PathBuf>,
        files: &mut Vec<ArtifactRecord>,
    ) -> Result<(), FrameError> {
        let (most_files, most_bytes) = (self.left.0.to_string(), self.left.1.to_string());
        let command = run.runner(&["export", "--files", &most_files, "--bytes", &most_bytes]).arg(dir);
        let mut frames = Frames::new(run.host.ssh().converse(&command, job.cancel)?);
        let mut sums = (0, 0);
        loop {
            let (head, rest) = frames.head()?;
            frames = match head.kind.as_str() {
                "file" => {
                    let (path, rest) = rest.body(head.number(1).min(head.bytes))?;
                    let size = head.bytes - path.len() as u64;
                    sums = (sums.0 + 1, sums.1 + size);
                    let path = PathBuf::from(OsStr::from_bytes(&path));
                    self.one(&path, &head, size, is_declared, mine, files, rest)?
                }
                "warning" => {
                    let (body, rest) = rest.body(head.bytes)?;
                    self.odd.push(format!("artifacts: {}", String::from_utf8_lossy(&body)));
                    rest
                }
                "end" if (head.number(0), head.number(1)) == sums => return Ok(()),
                _ => return Err(FrameError::Unreadable(format!("{head:?} after {sums:?}"))),
            };
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one file, with what is known of it")]
    fn one<'host>(
        &mut self,
        path: &Path,
        head: &Head,
        size: u64,
        is_declared: bool,
        mine: &mut BTreeSet<PathBuf>,
        files: &mut Vec<ArtifactRecord>,
        frames: Frames<'host>,
    ) -> Result<Frames<'host>, FrameError> {
        let opened = if ENGINES.iter().any(|name| path == Path::new(name)) {
            Err("the engine writes a file of that name".to_owned())
        } else {
            create(self.to, path, head.number(0)).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    "the job has written a file of that name to $ARTIFACTS".to_owned()
                }
                _ => error.to_string(),
            })
        };
        match opened {
            Ok(mut file) => {
                mine.insert(path.to_path_buf());
                let frames = frames.take(size, &mut |piece| {
                    file.write_all(piece).map_err(|source| HostError::File {
                        action: "write",
                        path: path.to_path_buf(),
                        source,
                    })
                })?;
                self.left = (self.left.0.saturating_sub(1), self.left.1.saturating_sub(size));
                if is_declared {
                    files.push(ArtifactRecord { path: path.to_string_lossy().into_owned(), bytes: size });
                }
                Ok(frames)
            }
            Err(why) => {
                self.odd.push(format!("artifacts: {} is left out: {why}", path.display()));
                frames.take(size, &mut |_| Ok(()))
            }
        }
    }
}

/// A new file below `dir`. Nothing that is there is replaced or written through.
fn create(dir: &Path, path: &Path, mode: u64) -> io::Result<File> {
    let (parent, name) = beneath::split(path)?;
    let parent = beneath::walk(dir, parent, true)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(u32::try_from(mode & 0o777).unwrap_or(0) | 0o600);
    Ok(File::from(rustix::fs::openat(&parent, name, flags, mode)?))
}
