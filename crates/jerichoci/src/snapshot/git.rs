//! What git says: the files of a work tree, its head, whether it is dirty.
//!
//! Git runs with the caller's environment less every variable that could point it at another
//! repository, takes no optional locks (so it never writes its index), starts no monitor and
//! fetches nothing.

use std::path::Path;

use jericho_host::{CancelToken, Command, Environment, Exit, HostError, LocalHost};

use super::error::SnapshotError;

/// Git variables that only say where configuration lies; all others are dropped.
const KEPT: &[&str] = &["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH"];
/// Configuration given in variables, as build machines do for `safe.directory`.
const KEPT_PREFIXES: &[&str] = &["GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"];

/// Git with a controlled environment.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    env: Environment,
}

/// How a call of git ended that is allowed to fail.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) exit: Exit,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Head and cleanliness of a work tree at the time of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitFacts {
    /// Commit id; absent before the first commit.
    pub head: Option<String>,
    /// Whether anything differs from the head, untracked files included.
    pub dirty: Option<bool>,
    /// Branch; absent when the head is detached.
    pub branch: Option<String>,
}

/// Names of one listing: bytes, and where each name is in them.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) names: Vec<u8>,
    pub(crate) spans: Vec<(u32, u32)>,
}

impl Listing {
    pub(crate) fn push(&mut self, prefix: &[u8], name: &[u8]) -> Result<(), SnapshotError> {
        let start = u32::try_from(self.names.len()).map_err(|_| SnapshotError::TooLarge)?;
        self.names.extend_from_slice(prefix);
        self.names.extend_from_slice(name);
        let len = u32::try_from(prefix.len() + name.len()).map_err(|_| SnapshotError::TooLarge)?;
        self.spans.push((start, len));
        Ok(())
    }

    pub(crate) fn name(&self, span: (u32, u32)) -> &[u8] {
        self.names.get(span.0 as usize..span.0 as usize + span.1 as usize).unwrap_or_default()
    }

    /// Sorts by name and drops what is there twice.
    pub(crate) fn sort(&mut self) {
        let names = &self.names;
        let name = |span: &(u32, u32)| &names[span.0 as usize..span.0 as usize + span.1 as usize];
        if self.spans.is_sorted_by(|a, b| name(a) < name(b)) {
            return;
        }
        self.spans.sort_by(|a, b| name(a).cmp(name(b)));
        self.spans.dedup_by(|a, b| name(a) == name(b));
    }
}

/// Splits NUL-terminated records out of pieces of output.
#[derive(Default)]
pub(crate) struct Records {
    rest: Vec<u8>,
}

impl Records {
    pub(crate) fn feed(&mut self, mut piece: &[u8], mut take: impl FnMut(&[u8])) {
        while let Some(end) = piece.iter().position(|&byte| byte == 0) {
            if self.rest.is_empty() {
                take(&piece[..end]);
            } else {
                self.rest.extend_from_slice(&piece[..end]);
                take(&self.rest);
                self.rest.clear();
            }
            piece = &piece[end + 1..];
        }
        self.rest.extend_from_slice(piece);
    }
}

/// Whether a directory belongs to a git work tree, without asking git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It has a repository of its own.
    Top,
    /// Some directory above has one.
    Below,
    /// Neither.
    Outside,
}

/// Looks for `.git` here and above on the same file system, as git does.
pub(crate) fn place_of(root: &Path) -> Place {
    use std::os::unix::fs::MetadataExt;
    let Ok(here) = std::fs::metadata(root) else { return Place::Outside };
    for (level, directory) in root.ancestors().enumerate() {
        if std::fs::metadata(directory).is_ok_and(|above| above.dev() != here.dev()) {
            return Place::Outside;
        }
        if has_repository(directory) {
            return if level == 0 { Place::Top } else { Place::Below };
        }
    }
    Place::Outside
}

/// An empty `.git` directory is nothing to git, and so to us; any other is a repository, whole
/// or broken.
pub(crate) fn has_repository(directory: &Path) -> bool {
    let dot_git = directory.join(".git");
    match std::fs::metadata(&dot_git) {
        Ok(found) if found.is_dir() => {
            std::fs::read_dir(&dot_git).map_or(true, |mut inside| inside.next().is_some())
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

impl Git {
    /// Takes what git may see of the caller's environment.
    pub(crate) fn new(env: &Environment) -> Self {
        let mut own: Environment = env
            .iter()
            .filter(|(name, _)| {
                let name = name.to_string_lossy();
                !name.starts_with("GIT_")
                    || KEPT.contains(&&*name)
                    || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            })
            .collect();
        own.set("LC_ALL", "C").set("LANGUAGE", "C");
        own.set("GIT_OPTIONAL_LOCKS", "0").set("GIT_TERMINAL_PROMPT", "0").set("GIT_NO_LAZY_FETCH", "1");
        own.set("GIT_LITERAL_PATHSPECS", "1");
        Self { env: own }
    }

    /// The same git, which looks for a repository in this directory only, not above.
    fn confined(&self, directory: &Path) -> Self {
        let mut env = self.env.clone();
        if let Some(parent) = directory.parent() {
            env.set("GIT_CEILING_DIRECTORIES", parent);
        }
        Self { env }
    }

    /// Runs git and hands over its output in pieces. `None`: there is no git program.
    fn stream(
        &self,
        dir: &Path,
        args: &[&str],
        cancel: &CancelToken,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<Ended>, SnapshotError> {
        let command = Command::new("git")
            .args(["--no-optional-locks", "-c", "core.fsmonitor=false"])
            .args(args)
            .env(self.env.clone())
            .cwd(dir);
        match LocalHost::new().stream(&command, cancel, take) {
            Ok(output) => Ok(Some(Ended {
                success: output.exit.success(),
                exit: output.exit,
                stdout: Vec::new(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })),
            Err(HostError::NotFound { .. }) if dir.is_dir() => Ok(None),
            Err(HostError::Cancelled(reason)) => Err(SnapshotError::Cancelled(reason)),
            Err(source) => Err(SnapshotError::GitStart { dir: dir.to_path_buf(), source }),
        }
    }

    /// Runs git and collects its output. `None`: there is no git program.
    pub(crate) fn run(
        &self,
        dir: &Path,
        args: &[&str],
        cancel: &CancelToken,
    ) -> Result<Option<Ended>, SnapshotError> {
        let mut stdout = Vec::new();
        let ended = self.stream(dir, args, cancel, &mut |piece| stdout.extend_from_slice(piece))?;
        Ok(ended.map(|ended| Ended { stdout, ..ended }))
    }

    /// Streams records; a failure of git is an error in its own words. `false`: no git program.
    fn records(
        &self,
        dir: &Path,
        args: &[&str],
        cancel: &CancelToken,
        mut take: impl FnMut(&[u8]),
    ) -> Result<bool, SnapshotError> {
        let mut records = Records::default();
        let ended = self.stream(dir, args, cancel, &mut |piece| records.feed(piece, &mut take))?;
        match ended {
            None => Ok(false),
            Some(ended) if ended.success => Ok(true),
            Some(ended) => Err(failure(dir, args, &ended)),
        }
    }

    /// Everything in the git view of `dir`: tracked, and untracked but not ignored. A name that
    /// ends in `/` is a nested repository; a submodule looks like a file. `None`: no git program.
    pub(crate) fn list(
        &self,
        dir: &Path,
        prefix: &[u8],
        cancel: &CancelToken,
    ) -> Result<Option<Listing>, SnapshotError> {
        let git = if prefix.is_empty() { self.clone() } else { self.confined(dir) };
        let args = ["ls-files", "-z", "-c", "-o", "--exclude-standard", "--deduplicate"];
        let mut listing = Listing::default();
        let mut pushed = Ok(());
        let ran = git.records(dir, &args, cancel, |name| {
            if pushed.is_ok() {
                pushed = listing.push(prefix, name);
            }
        })?;
        pushed?;
        listing.sort();
        Ok(ran.then_some(listing))
    }

    /// The same as [`Git::list`], with the facts: git looks for untracked files in one process
    /// and for changed ones in another. Untracked files that are `left_out` make nothing dirty.
    pub(crate) fn list_with_facts(
        &self,
        dir: &Path,
        left_out: &(dyn Fn(&[u8]) -> bool + Sync),
        cancel: &CancelToken,
    ) -> Result<Option<(Listing, GitFacts)>, SnapshotError> {
        let mut listing = Listing::default();
        let mut pushed = Ok(());
        let mut untracked = false;
        let (facts, ran) = std::thread::scope(|scope| {
            let facts = scope.spawn(|| self.status(dir, cancel));
            // -t: each name has a letter before it, `?` for untracked files.
            let args = ["ls-files", "-z", "-t", "-c", "-o", "--exclude-standard"];
            let ran = self.records(dir, &args, cancel, |record| {
                let (tag, name) = record.split_at_checked(2).unwrap_or((record, b""));
                untracked |= tag == b"? " && !left_out(name);
                if pushed.is_ok() {
                    pushed = listing.push(b"", name);
                }
            });
            (facts.join(), ran)
        });
        if !ran? {
            return Ok(None);
        }
        pushed?;
        let Some(mut facts) = facts.map_err(|_| SnapshotError::Panicked)?? else { return Ok(None) };
        if untracked {
            facts.dirty = Some(true);
        }
        listing.sort();
        Ok(Some((listing, facts)))
    }

    /// Head, branch, and whether tracked files differ. `None`: no git program.
    fn status(&self, dir: &Path, cancel: &CancelToken) -> Result<Option<GitFacts>, SnapshotError> {
        let mut facts = GitFacts { dirty: Some(false), ..GitFacts::default() };
        let ran = self.status_records(dir, &["-uno", "--no-ahead-behind"], cancel, |record| {
            if let Some(head) = record.strip_prefix(b"# branch.oid ") {
                facts.head = (head != b"(initial)").then(|| String::from_utf8_lossy(head).into_owned());
            } else if let Some(branch) = record.strip_prefix(b"# branch.head ") {
                facts.branch =
                    (branch != b"(detached)").then(|| String::from_utf8_lossy(branch).into_owned());
            } else if !record.starts_with(b"#") {
                facts.dirty = Some(true);
            }
        })?;
        Ok(ran.then_some(facts))
    }

    /// The records of `git status`. `false`: no git program.
    ///
    /// Git looks into each submodule, and fails as a whole where one is replaced by a symbolic
    /// link or is damaged. Then it is asked once more not to look, and reports what stands
    /// there now. A record may come twice.
    pub(crate) fn status_records(
        &self,
        dir: &Path,
        options: &[&str],
        cancel: &CancelToken,
        mut take: impl FnMut(&[u8]),
    ) -> Result<bool, SnapshotError> {
        let mut args = vec!["status", "--porcelain=v2", "--branch", "-z", "--no-renames"];
        args.extend(options);
        match self.records(dir, &args, cancel, &mut take) {
            Err(SnapshotError::Git { .. }) => {
                args.push("--ignore-submodules=dirty");
                self.records(dir, &args, cancel, &mut take)
            }
            other => other,
        }
    }
}

/// Whether a path is `directory` or lies in it.
pub(crate) fn is_inside(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

/// Git's failure in git's words.
pub(crate) fn failure(dir: &Path, args: &[&str], ended: &Ended) -> SnapshotError {
    let words = ended.stderr.trim();
    let message = match (words, ended.exit) {
        ("", Exit::Code(code)) => format!("exit code {code}"),
        ("", Exit::Signal(number)) => format!("ended by signal {number}"),
        (words, _) => words.to_owned(),
    };
    let command = args.iter().find(|arg| !arg.starts_with('-')).map_or("", |command| command);
    SnapshotError::Git { command: command.to_owned(), dir: dir.to_path_buf(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_any_cut() {
        let text = b"one\0two\0\0three\0";
        for cut in 0..text.len() {
            let mut records = Records::default();
            let mut seen = Vec::new();
            for piece in [&text[..cut], &text[cut..]] {
                records.feed(piece, |record| seen.push(record.to_vec()));
            }
            assert_eq!(seen, [&b"one"[..], b"two", b"", b"three"]);
        }
    }

    #[test]
    fn variables_that_point_git_elsewhere_are_dropped() {
        let mut env = Environment::empty();
        env.set("GIT_DIR", "/x").set("GIT_WORK_TREE", "/x").set("GIT_INDEX_FILE", "/x").set("PATH", "/bin");
        env.set("GIT_CONFIG_COUNT", "0").set("GIT_CONFIG_PARAMETERS", "'core.worktree'='/x'");
        let git = Git::new(&env);
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CONFIG_PARAMETERS"] {
            assert_eq!(git.env.get(name), None, "{name}");
        }
        assert_eq!(git.env.get("PATH").unwrap(), "/bin");
        assert_eq!(git.env.get("GIT_CONFIG_COUNT").unwrap(), "0");
    }
}
