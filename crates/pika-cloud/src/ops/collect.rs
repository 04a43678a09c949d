//! Brings back what a guest left, as its policy says, from a guest that runs or is stopped.
//!
//! What lies in a guest is somebody else's: names are checked, links are not followed, sizes are
//! limited, and nothing is written outside the directory that was given.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use super::client::Trouble;
use super::ended::Ended;
use super::ensure::InstanceRef;
use super::error::OpsError;
use super::files::Found;
use super::incus::Incus;
use crate::glob::GlobSet;
use crate::plan::IncusRuntimePlan;

/// Directories below directories that are looked into.
const DEEPEST: usize = 64;

/// Files and directories that are looked at, at most.
const MOST: usize = 100_000;

/// Bytes that are brought back at most, all files together.
const LARGEST: u64 = 16 * 1024 * 1024 * 1024;

/// How much of the artifacts is brought back at most; never more than what [`Incus::collect`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectLimits {
    /// Files.
    pub files: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Default for CollectLimits {
    fn default() -> Self {
        Self { files: MOST, bytes: LARGEST }
    }
}

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
    /// - `artifact_globs`: `files/`, with what they choose below the guest's artifact directory: see
    ///   [`crate::glob`]
    ///
    /// At most 100 000 files and directories and 16 GiB.
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
        self.collect_within(plan, ended, into, CollectLimits::default())
    }

    /// The same with other limits on the artifacts.
    ///
    /// # Errors
    ///
    /// As [`collect`](Self::collect).
    pub fn collect_within(
        &self,
        plan: &IncusRuntimePlan,
        ended: &Ended,
        into: &Path,
        limits: CollectLimits,
    ) -> Result<Collected, OpsError> {
        let policy = &plan.policies.output_collection;
        let mut collection = Collection::new(self, InstanceRef::of(plan), into);
        if !policy.mode.collects_after(ended) {
            return Ok(collection.collected);
        }
        let globs = globs(&policy.artifact_globs)?;
        fs::create_dir_all(into).map_err(file_error("make", into))?;
        let paths = &plan.paths;
        if policy.include_result {
            collection.documents(&[
                (&paths.result_path, "result.json"),
                (&paths.status_path, "status.json"),
                (&paths.events_path, "events.jsonl"),
            ])?;
        }
        if policy.include_logs {
            collection.entry(&paths.logs_dir, Path::new("logs"), &|_| true, DEEPEST)?;
        }
        if !policy.artifact_globs.is_empty() {
            // Logs and result do not count.
            collection.bytes = 0;
            collection.others = collection.collected.files.len();
            let files = collection.others.saturating_add(limits.files);
            collection.limits = CollectLimits { files, bytes: limits.bytes.min(LARGEST) };
            let wanted = |path: &Path| {
                path.strip_prefix("files").is_ok_and(|below| globs.matches(below.as_os_str().as_bytes()))
            };
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
    looked_at: usize,
    is_too_much: bool,
    bytes: u64,
    limits: CollectLimits,
    /// Files that are no artifacts.
    others: usize,
}

impl<'a> Collection<'a> {
    /// One that has brought back nothing yet.
    fn new(incus: &'a Incus, instance: InstanceRef, into: &'a Path) -> Self {
        Self {
            incus,
            instance,
            into,
            collected: Collected::default(),
            looked_at: 0,
            is_too_much: false,
            bytes: 0,
            limits: CollectLimits::default(),
            others: 0,
        }
    }

    /// Brings back single files, all at once: each costs a round trip or two, and somebody waits for them.
    fn documents(&mut self, wanted: &[(&str, &str)]) -> Result<(), OpsError> {
        let (incus, instance, into) = (self.incus, &self.instance, self.into);
        let brought = std::thread::scope(|scope| {
            let begun: Vec<_> = wanted
                .iter()
                .map(|(source, name)| {
                    scope.spawn(move || {
                        let mut one = Collection::new(incus, instance.clone(), into);
                        one.entry(source, Path::new(name), &|_| true, 0).map(|()| one)
                    })
                })
                .collect();
            begun.into_iter().map(|one| one.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let brought: Vec<Result<Self, OpsError>> = brought;
        for one in brought {
            let one = one?;
            self.looked_at += one.looked_at;
            self.bytes += one.bytes;
            self.collected.files.extend(one.collected.files);
            self.collected.skipped.extend(one.collected.skipped);
        }
        Ok(())
    }

    /// Brings back what is at `source`, as `name`: a file, or the files of a directory that is
    /// looked into for `depth` levels.
    fn entry(
        &mut self,
        source: &str,
        name: &Path,
        wanted: &dyn Fn(&Path) -> bool,
        depth: usize,
    ) -> Result<(), OpsError> {
        if self.is_too_much {
            return Ok(());
        }
        if self.looked_at >= MOST || self.collected.files.len() >= self.limits.files {
            self.is_too_much = true;
            let most = self.limits.files.saturating_sub(self.others);
            self.skip(source, &format!("and all after it: there are more than {} files", most.min(MOST)));
            return Ok(());
        }
        self.looked_at += 1;
        let action = format!("collect {source} of instance {}", self.instance.name);
        let (incus, instance) = (self.incus, self.instance.clone());
        let path = self.into.join(name);
        let left = self.limits.bytes.saturating_sub(self.bytes);
        // A transfer that breaks begins anew, with the look at what is there.
        let looked = incus.settled(&action, &self.instance, || {
            Ok(match incus.look(&instance, source)? {
                Found::File(response) if wanted(name) => {
                    Looked::Fetched(fetch(incus, response, &path, left)?)
                }
                found => Looked::At(found),
            })
        });
        match looked {
            Ok(Looked::Fetched(Ok(Some(bytes)))) => {
                self.bytes += bytes;
                self.collected.files.push((name.to_owned(), bytes));
            }
            Ok(Looked::Fetched(Ok(None))) => {
                let limit = self.limits.bytes;
                self.skip(source, &format!("all together are more than {limit} bytes"));
            }
            Ok(Looked::Fetched(Err(error))) => return Err(file_error("write", &path)(error)),
            Ok(Looked::At(Found::Directory(_))) if depth == 0 => {
                self.skip(source, "it is a directory, or too deep");
            }
            Ok(Looked::At(Found::Directory(names))) => {
                for child in names {
                    if child.is_empty() || child == "." || child == ".." || child.contains(['/', '\0']) {
                        self.skip(source, &format!("it has an entry of the name {child:?}"));
                        continue;
                    }
                    // What Incus puts in the place of bytes that are no text: by this name nobody finds it.
                    if child.contains('\u{fffd}') {
                        self.skip(
                            source,
                            &format!("the name of its entry {child:?} is not UTF-8, or has U+FFFD"),
                        );
                        continue;
                    }
                    self.entry(&format!("{source}/{child}"), &name.join(&child), wanted, depth - 1)?;
                }
            }
            Ok(Looked::At(Found::Symlink)) if wanted(name) => self.skip(source, "it is a symbolic link"),
            Ok(Looked::At(Found::Other)) if wanted(name) => {
                self.skip(source, "it is neither a file nor a directory");
            }
            Ok(Looked::At(_)) => {}
            Err(trouble) if trouble.is_missing() => {}
            Err(Trouble::Api { message, .. }) => self.skip(source, &message),
            Err(trouble) => return Err(incus.explain(&action, trouble)),
        }
        Ok(())
    }

    fn skip(&mut self, source: &str, reason: &str) {
        self.collected.skipped.push(format!("{source}: {reason}"));
    }
}

/// What came of a look.
enum Looked {
    /// A file that was wanted: its size, or nothing when it is too large.
    Fetched(io::Result<Option<u64>>),
    /// Anything else.
    At(Found),
}

/// Writes a body to a new file, in place of one that an earlier try left; nothing when it is
/// larger than `limit`. The outer error is the guest's, the inner one that of this machine.
fn fetch(
    incus: &Incus,
    response: ureq::http::Response<ureq::Body>,
    path: &Path,
    limit: u64,
) -> Result<io::Result<Option<u64>>, Trouble> {
    let mut file = match create(path) {
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
        total += count as u64;
        if total > limit {
            return Ok(fs::remove_file(path).map(|()| None));
        }
        if let Err(error) = file.write_all(&buffer[..count]) {
            return Ok(Err(error));
        }
    }
    if expected.is_some_and(|expected| expected != total) {
        return Err(Trouble::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(Ok(Some(total)))
}

/// A new file, with its directories. Not through a link that stands in its place.
fn create(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

fn globs(patterns: &[String]) -> Result<GlobSet, OpsError> {
    GlobSet::new(patterns).map_err(|refused| {
        let told: Vec<String> =
            refused.iter().map(|(index, error)| format!("{:?} {error}", patterns[*index])).collect();
        OpsError::Failed { action: "collect artifacts".to_owned(), message: told.join(", ") }
    })
}

fn file_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> OpsError + use<'a> {
    move |source| OpsError::File { action, path: path.to_owned(), source }
}
