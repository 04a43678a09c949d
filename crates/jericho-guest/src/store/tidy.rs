//! What nobody has used for a while: runners, caches, and what jobs have left whose engines never came back.
//!
//! | below the work dir | its time | stays while |
//! |---|---|---|
//! | `bin/<sha256>/` | of the directory, set by each engine that finds its runner there | it is the runner of the engine that asks |
//! | `cache/named/<engine>/<name>/` | of `lock` | a job has it |
//! | `cache/cargo-home/` | of the directory, set by each job | a job is at work |
//! | `cache/workspace/<engine>/<target>/<job>/workspace/` | of the directory, set by each job | a job is at work |
//! | `shells/<id>/` | of the directory | |
//! | `runs/<run>/jobs/<job>/` | of `state/result.json`, else of the directory | its runner is at work |
//! | `runs/<run>/` with roots in the store and requests | of its directories | one of its jobs stays |

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use jericho_host::lock::FileLock;
use jericho_host::{Clock as _, SystemClock};
use jericho_manifest::at;
use jericho_manifest::protocol::{Tidied, Tidy};

use super::collect::disk_use;
use super::refused::Refused;
use super::work_dir::WorkDir;
use crate::state::lock_path;
use crate::verdict::one_line;

/// A hash in hexadecimal digits.
const HASH_LEN: usize = 64;

pub(super) fn tidy(work_dir: &WorkDir, wanted: &Tidy) -> Result<Tidied, Refused> {
    let limit = i64::try_from(wanted.unused_secs).unwrap_or(i64::MAX);
    let before = SystemClock.now().timestamp().saturating_sub(limit);
    let mut this = Tidying {
        work_dir,
        wanted,
        before,
        report: Tidied::default(),
        counted: HashSet::new(),
        at_work: false,
    };
    this.jobs();
    this.shells();
    this.runners();
    this.named_caches();
    if !this.at_work {
        this.cargo_home();
        this.workspaces();
    }
    Ok(this.report)
}

struct Tidying<'a> {
    work_dir: &'a WorkDir,
    wanted: &'a Tidy,
    /// What was used last before this second is to go.
    before: i64,
    report: Tidied,
    /// Files that were counted.
    counted: HashSet<(u64, u64)>,
    /// Whether a job may be at work.
    at_work: bool,
}

/// Where something is told.
type List = fn(&mut Tidied) -> &mut Vec<String>;

impl Tidying<'_> {
    fn jobs(&mut self) {
        for run in self.dirs_in(&["runs"]) {
            // Before what goes now changes it.
            let used = self.used_by_run(&run);
            let mut stays = false;
            for job in self.dirs_in(&["runs", &run, "jobs"]) {
                let names = ["runs", run.as_str(), "jobs", job.as_str()];
                let dir = self.path(&names);
                if is_at_work(&dir) {
                    (self.at_work, stays) = (true, true);
                    continue;
                }
                let ended = fs::symlink_metadata(dir.join("state/result.json"));
                let used = ended.ok().map(|result| seconds(&result)).or_else(|| self.used(&names));
                if !self.is_old(used) {
                    // It may be about to start, or its engine about to come for it.
                    (self.at_work, stays) = (true, true);
                } else if self.remove(&names, |report| &mut report.jobs) {
                    // The directories above go with the last job.
                    let _ = fs::remove_dir(self.path(&names[..3]));
                    let _ = fs::remove_dir(self.path(&names[..2]));
                }
            }
            // What an engine that never came back has there beside its jobs: roots in the store, requests.
            let names = ["runs", run.as_str()];
            let has_more = self.dirs_in(&names).iter().any(|name| name != "jobs");
            if !stays && has_more && self.is_old(used) {
                self.remove(&names, |report| &mut report.jobs);
            }
        }
    }

    /// When something was last made in the directory of a run, but for its jobs.
    fn used_by_run(&self, run: &str) -> Option<i64> {
        let mut newest = self.used(&["runs", run])?;
        for name in self.dirs_in(&["runs", run]).iter().filter(|name| *name != "jobs") {
            newest = newest.max(self.used(&["runs", run, name])?);
            for below in self.dirs_in(&["runs", run, name]) {
                newest = newest.max(self.used(&["runs", run, name, &below])?);
            }
        }
        Some(newest)
    }

    /// Of shells whose host went down under them.
    fn shells(&mut self) {
        for id in self.dirs_in(&["shells"]) {
            let names = ["shells", id.as_str()];
            if self.is_old(self.used(&names)) {
                self.remove(&names, |report| &mut report.jobs);
            }
        }
    }

    fn runners(&mut self) {
        for hash in self.dirs_in(&["bin"]) {
            let is_one = hash.len() == HASH_LEN && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            let names = ["bin", hash.as_str()];
            if is_one && hash != self.wanted.runner && self.is_old(self.used(&names)) {
                self.remove(&names, |report| &mut report.runners);
            }
        }
    }

    fn named_caches(&mut self) {
        for engine in self.dirs_in(&["cache", "named"]) {
            for name in self.dirs_in(&["cache", "named", &engine]) {
                let names = ["cache", "named", engine.as_str(), name.as_str(), "data"];
                let dir = self.path(&names[..4]);
                let lock = dir.join("lock");
                let used = fs::symlink_metadata(&lock).ok().map(|meta| seconds(&meta));
                if !self.is_old(used) || !self.path(&names).is_dir() {
                    continue;
                }
                match FileLock::try_exclusive(&lock) {
                    // The lock stays, so that nobody waits for one that is no longer there.
                    Ok(Some(_held)) => {
                        if self.remove(&names, |report| &mut report.caches) && !self.wanted.dry_run {
                            // Which source it has met.
                            let _ = fs::remove_file(dir.join("lock.source"));
                        }
                    }
                    Ok(None) => {}
                    Err(error) => self.report.problems.push(one_line(&error)),
                }
            }
        }
    }

    fn cargo_home(&mut self) {
        let names = ["cache", "cargo-home"];
        if self.is_old(self.used(&names)) {
            self.remove(&names, |report| &mut report.caches);
        }
    }

    fn workspaces(&mut self) {
        let top = ["cache", "workspace"];
        for engine in self.dirs_in(&top) {
            for target in self.dirs_in(&[top[0], top[1], &engine]) {
                for job in self.dirs_in(&[top[0], top[1], &engine, &target]) {
                    let names = [top[0], top[1], &engine, &target, &job, "workspace"];
                    // What is not empty is none.
                    if !self.is_old(self.used(&names))
                        || self.work_dir.find(&names).and_then(|dir| at::names_in(dir).ok())
                            != Some(Vec::new())
                        || !self.remove(&names, |report| &mut report.caches)
                    {
                        continue;
                    }
                    for above in (3..=5).rev() {
                        let _ = fs::remove_dir(self.path(&names[..above]));
                    }
                }
            }
        }
    }

    /// Removes a directory, or says that it would go.
    fn remove(&mut self, names: &[&str], list: List) -> bool {
        let (path, told) = (self.path(names), names.join("/"));
        let bytes = disk_use(self.work_dir.find(names), &mut self.counted);
        if !self.wanted.dry_run
            && let Err(error) = jericho_host::fs::remove_tree(&path)
        {
            self.report.problems.push(format!("{told} was not removed: {error}"));
            return false;
        }
        list(&mut self.report).push(told);
        self.report.freed += bytes;
        true
    }

    fn path(&self, names: &[&str]) -> PathBuf {
        names.iter().fold(self.work_dir.path().to_path_buf(), |path, name| path.join(name))
    }

    /// Names of directories in a directory, sorted; none where it is not there or a link.
    fn dirs_in(&self, names: &[&str]) -> Vec<String> {
        let Some(dir) = self.work_dir.find(names) else { return Vec::new() };
        let found = at::names_in(&dir).unwrap_or_default().into_iter();
        let is_dir = |name: &Vec<u8>| {
            at::lstat(&dir, name).is_ok_and(|stat| at::kind_of(&stat) == rustix::fs::FileType::Directory)
        };
        let mut found: Vec<String> =
            found.filter(is_dir).filter_map(|name| String::from_utf8(name).ok()).collect();
        found.sort();
        found
    }

    /// The time of a directory.
    fn used(&self, names: &[&str]) -> Option<i64> {
        rustix::fs::fstat(self.work_dir.find(names)?).ok().map(|stat| stat.st_mtime)
    }

    fn is_old(&self, used: Option<i64>) -> bool {
        used.is_some_and(|used| used < self.before)
    }
}

fn seconds(metadata: &fs::Metadata) -> i64 {
    std::os::unix::fs::MetadataExt::mtime(metadata)
}

/// Whether a runner works on the job with this directory. What cannot be told is at work.
fn is_at_work(dir: &Path) -> bool {
    let lock = lock_path(&dir.join("state"));
    lock.exists() && !matches!(FileLock::try_exclusive(&lock), Ok(Some(_)))
}
