//! Which paths a snapshot would take: git's word where there is git, with the rules of
//! `.jerichociignore`.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use ignore::gitignore::Gitignore;
use jericho_host::{CancelToken, Command, Environment, Exit, Host as _, LocalHost};

use crate::report::destination::Destination;
use crate::source::Source;

/// The file with exclusions beyond those of git, directly under the root.
const OWN_RULES: &str = ".jerichociignore";
/// Git's own directory, or the file in place of one.
const GIT: &str = ".git";

/// What is left out of a tree.
pub(super) struct Rules {
    root: PathBuf,
    state_root: PathBuf,
    git: bool,
    environment: Environment,
    written: Option<Destination>,
}

impl Rules {
    pub(super) fn of(
        source: &Source,
        state_root: &Path,
        environment: &Environment,
        written: Option<Destination>,
    ) -> Self {
        Self {
            root: source.root.clone(),
            state_root: state_root.to_path_buf(),
            git: source.without_git.is_none(),
            environment: environment.clone(),
            written,
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) const fn has_git(&self) -> bool {
        self.git
    }

    /// Whether a change of this file changes what is left out.
    pub(super) fn is_rule_file(&self, path: &Path) -> bool {
        let name = path.file_name();
        name == Some(OsStr::new(".gitignore")) || name == Some(OsStr::new(OWN_RULES))
    }

    /// Says of an absolute path whether it is left out whatever git says.
    pub(super) fn left_out(&self) -> impl Fn(&Path) -> bool + Send + Sync + 'static {
        let (root, state_root) = (self.root.clone(), self.state_root.clone());
        let written = self.written.clone();
        // A file with mistakes in it is told by the run; here it leaves out what it can.
        let own = Gitignore::new(root.join(OWN_RULES)).0;
        move |path: &Path| {
            let Ok(relative) = path.strip_prefix(&root) else { return true };
            path.starts_with(&state_root)
                // Or the end of each run would begin the next.
                || written.as_ref().is_some_and(|written| written.touches(path))
                || relative.components().any(|part| part.as_os_str() == GIT)
                || own.matched_path_or_any_parents(relative, ends_in_slash(path)).is_ignore()
        }
    }

    /// Those of the paths that matter. In doubt one does: a run too many is better than one too
    /// few.
    pub(super) fn relevant(&self, paths: BTreeSet<PathBuf>, cancel: &CancelToken) -> Vec<PathBuf> {
        let left_out = self.left_out();
        let mut paths: Vec<PathBuf> = paths.into_iter().filter(|path| !left_out(path)).collect();
        if paths.is_empty() {
            return paths;
        }
        if self.git {
            if let Some(ignored) = self.ignored_by_git(&paths, cancel) {
                paths.retain(|path| !ignored.contains(path.as_os_str().as_bytes()));
            }
        } else {
            paths.retain(|path| !self.ignored_by_files(path));
        }
        paths
    }

    /// Which of the paths git ignores; nothing when it does not say. What is tracked is never
    /// ignored.
    fn ignored_by_git(&self, paths: &[PathBuf], cancel: &CancelToken) -> Option<HashSet<Vec<u8>>> {
        let asked: Vec<u8> =
            paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect();
        let command = self.git(["check-ignore", "-z", "--stdin"]).stdin(asked);
        let output = LocalHost::new().run(&command, cancel).ok()?;
        // 1 says that none is.
        let answered = output.exit.success() || output.exit == Exit::Code(1);
        answered.then(|| output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
    }

    /// By the ignore files from the path's directory up to the root, the nearest first.
    pub(super) fn ignored_by_files(&self, path: &Path) -> bool {
        let is_dir = ends_in_slash(path);
        for directory in path.ancestors().skip(1).take_while(|above| above.starts_with(&self.root)) {
            let rules = Gitignore::new(directory.join(".gitignore")).0;
            let matched =
                rules.matched_path_or_any_parents(path.strip_prefix(directory).unwrap_or(path), is_dir);
            if !matched.is_none() {
                return matched.is_ignore();
            }
        }
        false
    }

    /// Directories of tracked files that the rules would leave out.
    pub(super) fn tracked_directories(&self) -> BTreeSet<PathBuf> {
        if !self.git {
            return BTreeSet::new();
        }
        let command = self.git(["ls-files", "-z", "--cached", "--ignored", "--exclude-standard"]);
        let listed = CancelToken::new().ok().and_then(|cancel| LocalHost::new().run(&command, &cancel).ok());
        let left_out = self.left_out();
        let names = listed.map(|output| output.stdout).unwrap_or_default();
        let files = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let files = files.map(|name| self.root.join(std::ffi::OsString::from_vec(name.to_vec())));
        files.filter(|file| !left_out(file)).filter_map(|file| Some(file.parent()?.to_path_buf())).collect()
    }

    fn git<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        // Nothing is written, not even what git has found out about the tree.
        let mut environment = self.environment.clone();
        environment.set("GIT_OPTIONAL_LOCKS", "0");
        Command::new("git").args(args).env(environment).cwd(&self.root)
    }
}

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}
