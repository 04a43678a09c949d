//! Brings back what a guest left, as its policy says, from a guest that runs or is stopped.
//!
//! What lies in a guest is somebody else's: names are checked, links are not followed, sizes are
//! limited, and nothing is written outside the directory that was given.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::client::Trouble;
use super::ended::Ended;
use super::ensure::InstanceRef;
use super::error::OpsError;
use super::files::Found;
use super::incus::Incus;
use crate::plan::IncusRuntimePlan;

/// Directories below directories that are looked into.
const DEEPEST: usize = 64;

/// Files that are brought back at most.
const MOST: usize = 100_000;

/// What was brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files below the directory that was given, with their sizes in bytes, in the order they came.
    pub files: Vec<(PathBuf, u64)>,
    /// What was not brought back, and why, one line each.
    pub skipped: Vec<String>,
}

impl Incus {
    /// Brings back what a guest left, into a directory that is made when it is not there:
    ///
    /// - `include_result`: `result.json`, `status.json`, `events.jsonl`
    /// - `include_logs`: `logs/`, with everything in the guest's log directory
    /// - `artifact_globs`: `files/`, with what matches below the guest's artifact directory; `*`
    ///   does not cross `/`, `**` does
    ///
    /// What is not there is left out. Nothing at all when the policy's mode says so.
    ///
    /// # Errors
    ///
    /// [`OpsError::File`] when it cannot be written, [`OpsError::Failed`] for a glob that is none,
    /// or Incus does not answer. Files that came before stay.
    pub fn collect(
        &self,
        plan: &IncusRuntimePlan,
        ended: &Ended,
        into: &Path,
    ) -> Result<Collected, OpsError> {
        let policy = &plan.policies.output_collection;
        let mut collection = Collection {
            incus: self,
            instance: InstanceRef::of(plan),
            into,
            collected: Collected::default(),
        };
        if !policy.mode.collects_after(ended) {
            return Ok(collection.collected);
        }
        let globs = globs(&policy.artifact_globs)?;
        fs::create_dir_all(into).map_err(file_error("make", into))?;
        let paths = &plan.paths;
        if policy.include_result {
            for (source, name) in [
                (&paths.result_path, "result.json"),
                (&paths.status_path, "status.json"),
                (&paths.events_path, "events.jsonl"),
            ] {
                collection.entry(source, Path::new(name), &|_| true, 0)?;
            }
        }
        if policy.include_logs {
            collection.entry(&paths.logs_dir, Path::new("logs"), &|_| true, DEEPEST)?;
        }
        if !policy.artifact_globs.is_empty() {
            let wanted = |path: &Path| path.strip_prefix("files").is_ok_and(|below| globs.is_match(below));
            collection.entry(&paths.artifacts_dir, Path::new("files"), &wanted, DEEPEST)?;
        }
        Ok(collection.collected)
    }
}

/// A collection under way.
struct Collection<'a> {
    incus: &'a Incus,
    instance: InstanceRef,
    into: &'a Path,
    collected: Collected,
}

impl Collection<'_> {
    /// Brings back what is at `source`, as `name`: a file, or the files of a directory that is
    /// looked into for `depth` levels.
    fn entry(
        &mut self,
        source: &str,
        name: &Path,
        wanted: &dyn Fn(&Path) -> bool,
        depth: usize,
    ) -> Result<(), OpsError> {
        let action = format!("collect {source} of instance {}", self.instance.name);
        let looked =
            self.incus.repeat(&action, Trouble::is_transient, || self.incus.look(&self.instance, source));
        match looked {
            Ok(Found::File(_)) if !wanted(name) => {}
            Ok(Found::File(_)) if self.collected.files.len() >= MOST => {
                self.skip(source, &format!("there are more than {MOST} files"));
            }
            Ok(Found::File(response)) => {
                drop(response);
                self.file(&action, source, name)?;
            }
            Ok(Found::Directory(_)) if depth == 0 => self.skip(source, "it is a directory, or too deep"),
            Ok(Found::Directory(names)) => {
                for child in names {
                    if child.is_empty() || child == "." || child == ".." || child.contains(['/', '\0']) {
                        self.skip(source, &format!("it has an entry of the name {child:?}"));
                        continue;
                    }
                    self.entry(&format!("{source}/{child}"), &name.join(&child), wanted, depth - 1)?;
                }
            }
            Ok(Found::Symlink) if wanted(name) => self.skip(source, "it is a symbolic link"),
            Ok(Found::Other) if wanted(name) => self.skip(source, "it is neither a file nor a directory"),
            Ok(Found::Symlink | Found::Other) => {}
            Err(trouble) if trouble.is_missing() => {}
            Err(Trouble::Api { message, .. }) => self.skip(source, &message),
            Err(trouble) => return Err(self.incus.explain(&action, trouble)),
        }
        Ok(())
    }

    fn file(&mut self, action: &str, source: &str, name: &Path) -> Result<(), OpsError> {
        let path = self.into.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(file_error("make", parent))?;
        }
        let mut written = Err(io::Error::from(io::ErrorKind::NotFound));
        let fetched = self.incus.repeat(action, Trouble::is_transient, || {
            match self.incus.look(&self.instance, source)? {
                Found::File(response) => {
                    written = fetch(self.incus, response, &path)?;
                    Ok(())
                }
                _ => Err(Trouble::Api { code: 404, message: "it is no file any more".to_owned() }),
            }
        });
        match fetched {
            Ok(()) => {
                let bytes = written.map_err(file_error("write", &path))?;
                self.collected.files.push((name.to_owned(), bytes));
                Ok(())
            }
            Err(trouble @ Trouble::Api { .. }) => {
                let Trouble::Api { message, .. } = trouble else { return Ok(()) };
                self.skip(source, &message);
                Ok(())
            }
            Err(trouble) => Err(self.incus.explain(action, trouble)),
        }
    }

    fn skip(&mut self, source: &str, reason: &str) {
        self.collected.skipped.push(format!("{source}: {reason}"));
    }
}

/// Writes a body to a new file, in place of one that an earlier try left. The outer error is the
/// guest's, the inner one that of this machine.
fn fetch(
    incus: &Incus,
    response: ureq::http::Response<ureq::Body>,
    path: &Path,
) -> Result<io::Result<u64>, Trouble> {
    use std::io::Read;
    // Not through a link that stands there.
    let opened = fs::remove_file(path)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o644).open(path));
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    let expected = response.body().content_length();
    let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        let count = reader.read(&mut buffer).map_err(|error| incus.client.broken(error))?;
        if count == 0 {
            break;
        }
        if let Err(error) = file.write_all(&buffer[..count]) {
            return Ok(Err(error));
        }
        total += count as u64;
    }
    if expected.is_some_and(|expected| expected != total) {
        return Err(Trouble::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(Ok(total))
}

fn globs(patterns: &[String]) -> Result<GlobSet, OpsError> {
    let bad = |error: globset::Error| OpsError::Failed {
        action: "collect artifacts".to_owned(),
        message: error.to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).literal_separator(true).build().map_err(bad)?);
    }
    set.build().map_err(bad)
}

fn file_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> OpsError + use<'a> {
    move |source| OpsError::File { action, path: path.to_owned(), source }
}
