//! Changes of a source tree as they happen: of what a snapshot would take, and of nothing else.
//!
//! Every directory that may hold such files is watched by itself, so that a build in an ignored
//! directory costs nothing. What changed in them is asked about in [`relevant`].

mod relevant;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use jericho_host::{CancelToken, Environment};
use notify::event::{CreateKind, EventKind, RemoveKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::error::CliError;
use crate::exit::Exit;
use crate::render::text::{shorten, typed};
use crate::report::destination::Destination;
use crate::source::Source;
use relevant::Rules;

/// Something happened to files or directories; nothing is known of which matter.
#[derive(Debug)]
pub(crate) enum Touched {
    /// These, absolute. What was a directory ends in a slash.
    Paths(Vec<PathBuf>),
    /// More than the system could tell.
    Anything,
}

/// Watches a source tree until it is dropped.
pub(crate) struct Watcher {
    notify: RecommendedWatcher,
    rules: Rules,
    watched: HashSet<PathBuf>,
}

impl Watcher {
    /// Tells of everything that happens to the tree from now on. `written` is what the runs that follow write
    /// themselves.
    pub(crate) fn start(
        source: &Source,
        state_root: &Path,
        environment: &Environment,
        written: Option<Destination>,
        mut tell: impl FnMut(Touched) + Send + 'static,
    ) -> Result<Self, CliError> {
        let notify = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Some(touched) = touched(event) {
                tell(touched);
            }
        });
        let notify = notify.map_err(|error| failed(&source.root, error))?;
        let rules = Rules::of(source, state_root, environment, written);
        let mut this = Self { notify, rules, watched: HashSet::new() };
        this.add(&source.root)?;
        Ok(this)
    }

    /// How many directories are watched.
    pub(crate) fn directories(&self) -> usize {
        self.watched.len()
    }

    /// Of what was touched, that which a snapshot would have seen change: names relative to the
    /// root. Directories that are new are watched from here on.
    pub(crate) fn changed(
        &mut self,
        touched: Vec<Touched>,
        cancel: &CancelToken,
    ) -> Result<BTreeSet<String>, CliError> {
        let mut paths = BTreeSet::new();
        for touched in touched {
            match touched {
                Touched::Paths(some) => paths.extend(some),
                Touched::Anything => {
                    let root = self.rules.root().to_path_buf();
                    self.add(&root)?;
                    return Ok(BTreeSet::from(["more than the system could tell".to_owned()]));
                }
            }
        }
        let mut files = Vec::new();
        for path in self.rules.relevant(paths, cancel) {
            if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                // What was put there before it was watched was told by nobody.
                files.extend(self.add(&path)?);
            } else {
                if self.rules.is_rule_file(&path) {
                    let root = self.rules.root().to_path_buf();
                    self.add(&root)?;
                }
                files.push(path);
            }
        }
        let root = self.rules.root();
        let names = files.iter().map(|file| file.strip_prefix(root).unwrap_or(file).to_string_lossy());
        Ok(names.map(|name| name.trim_end_matches('/').to_owned()).collect())
    }

    /// Watches the directories from this one down that are not watched yet; returns the files in
    /// them.
    fn add(&mut self, top: &Path) -> Result<Vec<PathBuf>, CliError> {
        let mut files = Vec::new();
        let mut directories = Vec::new();
        for entry in self.walk(top) {
            // What has gone meanwhile is told as such.
            let Ok(entry) = entry else { continue };
            match entry.file_type().is_some_and(|kind| kind.is_dir()) {
                true => directories.push(entry.into_path()),
                false => files.push(entry.into_path()),
            }
        }
        if !self.rules.has_git() {
            files.retain(|file| !self.rules.ignored_by_files(file));
        }
        if top == self.rules.root() {
            directories.extend(self.rules.tracked_directories());
        }
        let mut paths = self.notify.paths_mut();
        for directory in directories {
            // One that went and came back has to be watched anew, so a known one is not left out
            // unless all are looked at.
            if top == self.rules.root() && self.watched.contains(&directory) {
                continue;
            }
            match paths.add(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(directory)),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(failed(&directory, error)),
            }
        }
        paths.commit().map_err(|error| failed(top, error))?;
        Ok(files)
    }

    fn walk(&self, top: &Path) -> ignore::Walk {
        let left_out = self.rules.left_out();
        WalkBuilder::new(top)
            .standard_filters(false)
            // Above the root only git looks, and it stops at its repository.
            .parents(self.rules.has_git())
            .git_ignore(true)
            .git_exclude(self.rules.has_git())
            .git_global(self.rules.has_git())
            .require_git(false)
            .follow_links(false)
            .filter_entry(move |entry| entry.depth() == 0 || !left_out(entry.path()))
            .build()
    }
}

/// What an event is about; nothing when nothing was changed by it.
fn touched(event: notify::Result<notify::Event>) -> Option<Touched> {
    let event = match event {
        Ok(event) if event.need_rescan() => return Some(Touched::Anything),
        Ok(event) => event,
        Err(_) => return Some(Touched::Anything),
    };
    let directory = match event.kind {
        EventKind::Access(_) => return None,
        EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => true,
        _ => false,
    };
    let with_slash = |path: PathBuf| if directory { path.join("") } else { path };
    Some(Touched::Paths(event.paths.into_iter().map(with_slash).collect()))
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => {
            matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
        }
        _ => false,
    }
}

fn failed(path: &Path, error: notify::Error) -> CliError {
    let hint = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "sysctl fs.inotify.max_user_watches=524288, or name what no check needs in .jerichociignore"
                .to_owned()
        }
        _ => format!("ls -ld {}", typed(path)),
    };
    let message = format!("cannot watch {}", shorten(&path.to_string_lossy()));
    CliError::new(Exit::Infrastructure, message).because(error).hint(hint)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use jericho_testkit::repo::Repo;

    use super::*;
    use crate::source::WithoutGit;

    struct Rig {
        dir: tempfile::TempDir,
        watcher: Watcher,
        told: Receiver<Touched>,
        cancel: CancelToken,
        marks: usize,
    }

    impl Rig {
        fn new(with_git: bool) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().canonicalize().unwrap();
            for (name, content) in [
                (".gitignore", "ignored/\n*.log\n"),
                (".jerichociignore", "docs/\n"),
                ("src/a.rs", ""),
                ("docs/a.md", ""),
                ("ignored/kept", ""),
                ("ignored/other", ""),
                (".jerichoci/engine.json", ""),
            ] {
                fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
                fs::write(root.join(name), content).unwrap();
            }
            if with_git {
                let repo = Repo::init(&root).unwrap();
                repo.git(["add", "-A"]).unwrap();
                repo.git(["add", "-f", "ignored/kept"]).unwrap();
                repo.git(["rm", "-q", "-r", "--cached", ".jerichoci"]).unwrap();
                repo.commit("first").unwrap();
            }
            let (tell, told) = channel();
            let without_git = (!with_git).then_some(WithoutGit::NoRepository);
            let source = Source { root: root.clone(), without_git };
            let environment =
                Repo::environment().into_iter().map(|(name, value)| (name.into(), value.into()));
            let environment: Vec<(std::ffi::OsString, std::ffi::OsString)> = environment.collect();
            let environment: Environment = environment.into_iter().collect();
            let watcher =
                Watcher::start(&source, &root.join(".jerichoci"), &environment, None, move |touched| {
                    let _ = tell.send(touched);
                });
            Self { dir, watcher: watcher.unwrap(), told, cancel: CancelToken::new().unwrap(), marks: 0 }
        }

        fn root(&self) -> PathBuf {
            self.dir.path().canonicalize().unwrap()
        }

        /// What is told until a new file was made, which is done last.
        fn changed(&mut self, change: impl FnOnce(&Path)) -> Vec<String> {
            change(&self.root());
            self.marks += 1;
            let mark = format!("mark-{}", self.marks);
            fs::write(self.root().join(&mark), "x").unwrap();
            let mut all = BTreeSet::new();
            while !all.contains(&mark) {
                let touched = self.told.recv_timeout(Duration::from_secs(30)).unwrap();
                all.extend(self.watcher.changed(vec![touched], &self.cancel).unwrap());
            }
            all.into_iter().filter(|name| !name.starts_with("mark-")).collect()
        }
    }

    #[test]
    fn what_a_snapshot_leaves_out_is_no_change() {
        for with_git in [true, false] {
            let mut rig = Rig::new(with_git);
            let changed = rig.changed(|root| {
                for name in ["x.log", "src/y.log", "docs/a.md", "ignored/other", ".jerichoci/engine.json"] {
                    fs::write(root.join(name), "changed").unwrap();
                }
                if with_git {
                    fs::write(root.join(".git/anything"), "").unwrap();
                }
                fs::remove_file(root.join("x.log")).unwrap();
                // Only looked at.
                fs::read(root.join("src/a.rs")).unwrap();
            });
            assert_eq!(changed, Vec::<String>::new(), "git: {with_git}");
        }
    }

    #[test]
    fn what_a_snapshot_takes_is_a_change_however_it_came() {
        for with_git in [true, false] {
            let mut rig = Rig::new(with_git);
            let changed = rig.changed(|root| {
                fs::write(root.join("src/a.rs"), "changed").unwrap();
                fs::write(root.join("src/.tmp"), "new").unwrap();
                fs::rename(root.join("src/.tmp"), root.join("src/b.rs")).unwrap();
                fs::create_dir_all(root.join("new/deep")).unwrap();
                fs::write(root.join("new/deep/file"), "").unwrap();
            });
            assert_eq!(changed, ["new/deep/file", "src/.tmp", "src/a.rs", "src/b.rs"], "git: {with_git}");
            // In a directory that was not there at the start.
            let changed = rig.changed(|root| fs::write(root.join("new/deep/other"), "").unwrap());
            assert_eq!(changed, ["new/deep/other"], "git: {with_git}");
            let changed = rig.changed(|root| fs::remove_file(root.join("src/a.rs")).unwrap());
            assert_eq!(changed, ["src/a.rs"], "git: {with_git}");
        }
    }

    #[test]
    fn a_tracked_file_counts_also_where_its_directory_is_ignored() {
        let mut rig = Rig::new(true);
        let changed = rig.changed(|root| fs::write(root.join("ignored/kept"), "changed").unwrap());
        assert_eq!(changed, ["ignored/kept"]);
    }

    #[test]
    fn a_directory_that_is_no_longer_ignored_is_watched() {
        let mut rig = Rig::new(true);
        assert_eq!(rig.changed(|root| fs::write(root.join(".gitignore"), "").unwrap()), [".gitignore"]);
        let changed = rig.changed(|root| fs::write(root.join("ignored/new"), "").unwrap());
        assert_eq!(changed, ["ignored/new"]);
    }
}
