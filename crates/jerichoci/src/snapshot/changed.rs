//! Which files a branch changed: since the merge base with its base revision, and not yet
//! committed.

use std::collections::BTreeSet;
use std::path::Path;

use jericho_host::{CancelToken, Environment};

use super::error::SnapshotError;
use super::git::{self, Git, Place, Records};

/// What differs, and from what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFiles {
    /// Relative to the top of the repository, sorted, each once; both names of a renamed file.
    /// Names that are not UTF-8 have U+FFFD for what is not. Without a base only what is not
    /// committed: then this must not decide what to leave out.
    pub files: Vec<String>,
    /// The same names as bytes.
    pub raw: Vec<Vec<u8>>,
    /// Compared with what.
    pub base: Base,
    /// Commit id of the head; absent before the first commit or outside a repository.
    pub head: Option<String>,
}

impl ChangedFiles {
    fn new(names: BTreeSet<Vec<u8>>, base: Base, head: Option<String>) -> Self {
        let raw: Vec<Vec<u8>> = names.into_iter().collect();
        let mut files: Vec<String> = raw.iter().map(|name| text(name)).collect();
        files.sort();
        files.dedup();
        Self { files, raw, base, head }
    }
}

/// What the head was compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A base was found.
    Used {
        /// The revision, as given or as found, such as `refs/remotes/origin/main`.
        rev: String,
        /// Commit id that the head and it have in common.
        merge_base: String,
    },
    /// There is none; the caller must assume that everything changed.
    None {
        /// A sentence for people.
        why: String,
    },
}

/// Finds the changed files of the work tree that `root` is in. `base` is a revision; without
/// one it is the default branch of the upstream, as the last fetch saw it. `env` is what git
/// sees of the environment.
///
/// # Errors
/// [`SnapshotError`] when git refuses or fails. No repository, no git, no commit, no remote, no
/// common history: all that is [`Base::None`].
pub fn git_changed_files(
    root: &Path,
    base: Option<&str>,
    env: &Environment,
    cancel: &CancelToken,
) -> Result<ChangedFiles, SnapshotError> {
    let repository = Repository { git: Git::new(env), root, cancel };
    repository.changed(base)
}

/// Finds the files that the commit `head` changed since the merge base with `base`, whatever the work tree holds.
/// Without a base it is the default branch of the upstream.
///
/// # Errors
/// As [`git_changed_files`]. That `head` is no commit is [`Base::None`].
pub fn git_changed_between(
    root: &Path,
    base: Option<&str>,
    head: &str,
    env: &Environment,
    cancel: &CancelToken,
) -> Result<ChangedFiles, SnapshotError> {
    let repository = Repository { git: Git::new(env), root, cancel };
    repository.between(base, head)
}

/// All files that path filters can match, as names relative to `root`, the top of the repository: those of a
/// commit, or without one what git sees in the work tree. Nothing outside a repository or without git.
///
/// # Errors
/// [`SnapshotError`] when git fails, also because `rev` is no commit.
pub fn git_file_names(
    root: &Path,
    rev: Option<&str>,
    env: &Environment,
    cancel: &CancelToken,
) -> Result<Option<Vec<String>>, SnapshotError> {
    let git = Git::new(env);
    let mut names = Vec::new();
    let Some(rev) = rev else {
        let listing = git.list(root, b"", cancel)?;
        return Ok(
            listing.map(|listing| listing.spans.iter().map(|span| text(listing.name(*span))).collect())
        );
    };
    let args = ["ls-tree", "-r", "-z", "--name-only", "--full-tree", "--end-of-options", rev];
    let Some(ended) = git.run(root, &args, cancel)? else { return Ok(None) };
    if !ended.success {
        return Err(git::failure(root, &args, &ended));
    }
    Records::default().feed(&ended.stdout, |name| names.push(text(name)));
    Ok(Some(names))
}

/// The commit that a revision stands for in the repository that `root` is in; nothing when it
/// stands for none, or there is no git.
///
/// # Errors
/// [`SnapshotError`] when git cannot be run.
pub fn git_commit_of(
    root: &Path,
    rev: &str,
    env: &Environment,
    cancel: &CancelToken,
) -> Result<Option<String>, SnapshotError> {
    Repository { git: Git::new(env), root, cancel }.commit_of(rev)
}

struct Repository<'a> {
    git: Git,
    root: &'a Path,
    cancel: &'a CancelToken,
}

/// A revision that can be compared with, and the commit it is; or why there is none.
type Chosen = Result<(String, String), String>;

impl Repository<'_> {
    fn changed(&self, base: Option<&str>) -> Result<ChangedFiles, SnapshotError> {
        let nothing = |why: &str| ChangedFiles {
            files: Vec::new(),
            raw: Vec::new(),
            base: Base::None { why: why.to_owned() },
            head: None,
        };
        let top = std::fs::canonicalize(self.root)
            .map_err(|source| SnapshotError::BadRoot { path: self.root.to_path_buf(), source })?;
        if git::place_of(&top) == Place::Outside {
            return Ok(nothing("this is not a git repository"));
        }
        let mut head = None;
        let mut branch = None;
        let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
        let ran = self.git.status_records(self.root, &["-uall"], self.cancel, |record| {
            if let Some(id) = record.strip_prefix(b"# branch.oid ") {
                head = (id != b"(initial)").then(|| text(id));
            } else if let Some(name) = record.strip_prefix(b"# branch.head ") {
                branch = (name != b"(detached)").then(|| text(name));
            } else if let Some(name) = name_in(record) {
                names.insert(name.strip_suffix(b"/").unwrap_or(name).to_vec());
            }
        })?;
        if !ran {
            return Ok(nothing("there is no git program"));
        }
        let base = match &head {
            None => Base::None { why: "there is no commit yet".to_owned() },
            Some(head) => match self.choose(base, head, branch.as_deref())? {
                Err(why) => Base::None { why },
                Ok((rev, commit)) => match self.merge_base(head, &commit, &rev)? {
                    Err(why) => Base::None { why },
                    Ok(merge_base) => {
                        self.committed(&merge_base, head, &mut names)?;
                        Base::Used { rev, merge_base }
                    }
                },
            },
        };
        Ok(ChangedFiles::new(names, base, head))
    }

    fn between(&self, base: Option<&str>, head: &str) -> Result<ChangedFiles, SnapshotError> {
        let nothing = |why: String| ChangedFiles::new(BTreeSet::new(), Base::None { why }, None);
        let Some(commit) = self.commit_of(head)? else {
            return Ok(nothing(format!("the head revision {head:?} is not known here")));
        };
        let mut names = BTreeSet::new();
        let base = match self.choose(base, &commit, None)? {
            Err(why) => Base::None { why },
            Ok((rev, base)) => match self.merge_base(&commit, &base, &rev)? {
                Err(why) => Base::None { why },
                Ok(merge_base) => {
                    self.committed(&merge_base, &commit, &mut names)?;
                    Base::Used { rev, merge_base }
                }
            },
        };
        Ok(ChangedFiles::new(names, base, Some(commit)))
    }

    /// One line that git prints; `None` when it says no.
    fn line(&self, args: &[&str]) -> Result<Option<String>, SnapshotError> {
        let ended = self.git.run(self.root, args, self.cancel)?;
        let words = ended.filter(|ended| ended.success).map(|ended| text(ended.stdout.trim_ascii_end()));
        Ok(words.filter(|words| !words.is_empty()))
    }

    fn commit_of(&self, rev: &str) -> Result<Option<String>, SnapshotError> {
        self.line(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{rev}^{{commit}}")])
    }

    fn choose(&self, base: Option<&str>, head: &str, branch: Option<&str>) -> Result<Chosen, SnapshotError> {
        let Some(rev) = base else { return self.default_branch(branch) };
        let Some(commit) = self.commit_of(rev)? else {
            return Ok(Err(format!("the base revision {rev:?} is not known here")));
        };
        let name = self.line(&["rev-parse", "--symbolic-full-name", "--end-of-options", rev])?;
        // `--end-of-options` is printed too.
        let name = name.and_then(|name| name.lines().last().map(str::to_owned)).unwrap_or_default();
        let is_head = name == "HEAD" || branch.is_some_and(|branch| name == format!("refs/heads/{branch}"));
        if is_head && commit == head {
            return Ok(Err(format!("the base revision {rev:?} is the head itself")));
        }
        Ok(Ok((rev.to_owned(), commit)))
    }

    /// The branch that the upstream calls its default, as far as is known here.
    fn default_branch(&self, branch: Option<&str>) -> Result<Chosen, SnapshotError> {
        let remotes = self.line(&["remote"])?.unwrap_or_default();
        let remotes: Vec<&str> = remotes.lines().collect();
        let of_branch = match branch {
            Some(branch) => self.line(&["config", "--get", &format!("branch.{branch}.remote")])?,
            None => None,
        };
        let of_branch = of_branch.filter(|remote| remotes.contains(&remote.as_str()));
        let remote = match (of_branch, remotes.as_slice()) {
            (Some(remote), _) => remote,
            (None, []) => return Ok(Err("the repository has no remote".to_owned())),
            (None, [only]) => (*only).to_owned(),
            (None, several) if several.contains(&"origin") => "origin".to_owned(),
            (None, _) => return Ok(Err("none of the remotes is called origin".to_owned())),
        };
        let mut candidates = vec![format!("refs/remotes/{remote}/HEAD")];
        let preferred = self.line(&["config", "--get", "init.defaultBranch"])?;
        for name in preferred.as_deref().into_iter().chain(["main", "master"]) {
            candidates.push(format!("refs/remotes/{remote}/{name}"));
        }
        for candidate in candidates {
            if let Some(commit) = self.commit_of(&candidate)? {
                let name = self.line(&["symbolic-ref", "--quiet", &candidate])?.unwrap_or(candidate);
                return Ok(Ok((name, commit)));
            }
        }
        Ok(Err(format!("the default branch of the remote {remote:?} is not known here")))
    }

    fn merge_base(
        &self,
        head: &str,
        commit: &str,
        rev: &str,
    ) -> Result<Result<String, String>, SnapshotError> {
        if let Some(found) = self.line(&["merge-base", head, commit])? {
            return Ok(Ok(found));
        }
        let shallow = self.line(&["rev-parse", "--is-shallow-repository"])?.as_deref() == Some("true");
        Ok(Err(if shallow {
            format!("this clone is shallow: the history that HEAD and {rev} share is not in it")
        } else {
            format!("HEAD and {rev} have no common history")
        }))
    }

    fn committed(&self, base: &str, head: &str, names: &mut BTreeSet<Vec<u8>>) -> Result<(), SnapshotError> {
        let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-commit-id", base, head];
        let Some(ended) = self.git.run(self.root, &args, self.cancel)? else { return Ok(()) };
        if !ended.success {
            return Err(git::failure(self.root, &args, &ended));
        }
        Records::default().feed(&ended.stdout, |name| {
            names.insert(name.to_vec());
        });
        Ok(())
    }
}

/// The path in a line of `status --porcelain=v2`.
fn name_in(record: &[u8]) -> Option<&[u8]> {
    let fields = match record.first()? {
        b'?' => 1,
        b'1' => 8,
        b'u' => 10,
        _ => return None,
    };
    record.splitn(fields + 1, |&byte| byte == b' ').nth(fields)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
