//! Gives a workspace a `.git` of its own: the commit of the snapshot as its head, the history of
//! the caller's repository behind it or not.
//!
//! The caller's repository is only read: its objects are borrowed by path (`alternates`), never
//! linked or copied, and its references are written anew. So it takes milliseconds at any size,
//! and holds as long as the caller's repository keeps the commit, which `git gc` does for weeks
//! even when no branch has it any more. Configuration is not taken over, but for how content
//! is compared: a remote's address may hold a password.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use jericho_host::{CancelToken, Environment};

use super::at::path_of;
use super::error::SnapshotError;
use super::git::{Git, Place, failure, place_of};
use super::{Manifest, walk};

/// What of the caller's repository is given.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    /// The caller's work tree.
    pub(crate) source: &'a Path,
    /// The caller's environment.
    pub(crate) env: &'a Environment,
    /// The commit that the snapshot was taken on.
    pub(crate) head: &'a str,
    /// The branch that was checked out.
    pub(crate) branch: Option<&'a str>,
    /// With its history.
    pub(crate) full: bool,
    /// The snapshot.
    pub(crate) manifest: &'a Manifest,
}

/// Settings that decide whether a file differs from its commit.
const COMPARING: &str =
    "^core\\.(autocrlf|eol|safecrlf|ignorecase|precomposeunicode|filemode|symlinks|longpaths)$";

impl Given<'_> {
    /// Makes `<workspace>/.git`. Returns the directory of objects that it borrows.
    ///
    /// # Errors
    /// [`SnapshotError::History`] and those of git.
    pub(crate) fn make(&self, workspace: &Path, cancel: &CancelToken) -> Result<PathBuf, SnapshotError> {
        if place_of(self.source) != Place::Top {
            return Err(self.no("the source tree is not the top of a git work tree"));
        }
        let git = Git::new(self.env);
        let facts = self.ask(
            &git,
            &[
                "rev-parse",
                "--show-object-format",
                "--path-format=absolute",
                "--git-path",
                "objects",
                "--git-path",
                "shallow",
                "--git-path",
                "info",
            ],
            cancel,
        )?;
        let mut facts = facts.split(|byte| *byte == b'\n');
        let mut fact = || facts.next().unwrap_or_default();
        let (format, objects, shallow, info) =
            (fact(), path_of(fact()).to_path_buf(), path_of(fact()).to_path_buf(), path_of(fact()));
        let commit = format!("{}^{{commit}}", self.head);
        if self.ask(&git, &["cat-file", "-e", &commit], cancel).is_err() {
            return Err(self.no(&format!("its repository has no commit {} any more", self.head)));
        }

        let dir = workspace.join(".git");
        let write = |name: &str, content: &[u8]| {
            let path = dir.join(name);
            let parent = path.parent().unwrap_or(&dir);
            let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, content));
            written.map_err(SnapshotError::io("write", &path))
        };
        let mut borrowed = objects.as_os_str().as_bytes().to_vec();
        borrowed.push(b'\n');
        write("objects/info/alternates", &borrowed)?;
        write("config", &self.config(&git, format, cancel)?)?;
        let head = match self.branch {
            Some(branch) => {
                write(&format!("refs/heads/{branch}"), format!("{}\n", self.head).as_bytes())?;
                format!("ref: refs/heads/{branch}\n")
            }
            None => format!("{}\n", self.head),
        };
        write("HEAD", head.as_bytes())?;
        write("packed-refs", &self.references(&git, cancel)?)?;
        write("refs/tags/.keep", b"").and_then(|()| {
            let keep = dir.join("refs/tags/.keep");
            fs::remove_file(&keep).map_err(SnapshotError::io("remove", &keep))
        })?;
        match self.full {
            // Where the caller's history ends early, this one must not look for more.
            true => copy_if_there(&shallow, &dir.join("shallow"))?,
            false => write("shallow", format!("{}\n", self.head).as_bytes())?,
        }
        for name in ["attributes", "exclude"] {
            copy_if_there(&info.join(name), &dir.join("info").join(name))?;
        }
        self.index(&git, &dir, cancel)?;
        Ok(objects)
    }

    fn config(&self, git: &Git, format: &[u8], cancel: &CancelToken) -> Result<Vec<u8>, SnapshotError> {
        let mut text = String::from("[core]\n\tbare = false\n\tlogallrefupdates = true\n");
        let _ = match format {
            b"sha1" | b"" => writeln!(text, "\trepositoryformatversion = 0"),
            other => writeln!(
                text,
                "\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = {}\n[core]",
                String::from_utf8_lossy(other)
            ),
        };
        // None is no failure, but is told by the exit code.
        let args = ["config", "-z", "--local", "--get-regexp", COMPARING];
        let ended = git.run(self.source, &args, cancel)?;
        for entry in ended.iter().flat_map(|ended| ended.stdout.split(|byte| *byte == 0)) {
            let entry = String::from_utf8_lossy(entry);
            // `core.` was asked for; a value of these is one word.
            if let Some((name, value)) = entry.strip_prefix("core.").and_then(|entry| entry.split_once('\n'))
                && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
            {
                let _ = writeln!(text, "\t{name} = {value}");
            }
        }
        Ok(text.into_bytes())
    }

    /// The references, as git keeps them in one file.
    fn references(&self, git: &Git, cancel: &CancelToken) -> Result<Vec<u8>, SnapshotError> {
        let format = "--format=%(objectname) %(refname)";
        let at = format!("--points-at={}", self.head);
        match self.full {
            true => self.ask(git, &["for-each-ref", format], cancel),
            false => self.ask(git, &["for-each-ref", format, &at, "refs/tags"], cancel),
        }
    }

    /// The index is the commit; what the snapshot left out on purpose is not missing in it.
    fn index(&self, git: &Git, dir: &Path, cancel: &CancelToken) -> Result<(), SnapshotError> {
        let of_dir = format!("--git-dir={}", dir.display());
        let ask = |args: &[&str]| {
            let args: Vec<&str> = [of_dir.as_str()].iter().chain(args).copied().collect();
            match git.run(dir, &args, cancel)? {
                Some(ended) if ended.success => Ok(ended.stdout),
                Some(ended) => Err(failure(dir, &args[1..], &ended)),
                None => Err(self.no("there is no git program")),
            }
        };
        ask(&["read-tree", self.head])?;
        let rules = walk::own_rules(self.source)?;
        let sparse = self.ask(git, &["ls-files", "-z", "-t"], cancel).unwrap_or_default();
        let mut absent: Vec<&[u8]> =
            sparse.split(|byte| *byte == 0).filter_map(|record| record.strip_prefix(b"S ")).collect();
        let names = if rules.is_some() { ask(&["ls-files", "-z"])? } else { Vec::new() };
        if let Some(rules) = &rules {
            let names = names.split(|byte| *byte == 0);
            absent.extend(names.filter(|name| walk::is_left_out(rules, name)));
        }
        absent.retain(|name| !name.is_empty() && self.manifest.get(name).is_none());
        // As many at a time as fit into a command line.
        for some in absent.chunks(200) {
            let names: Vec<String> =
                some.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
            let mut args = vec!["update-index", "--skip-worktree", "--"];
            args.extend(names.iter().map(String::as_str));
            // One that is new since the commit cannot be marked: then it only shows as missing.
            let _ = ask(&args);
        }
        Ok(())
    }

    fn ask(&self, git: &Git, args: &[&str], cancel: &CancelToken) -> Result<Vec<u8>, SnapshotError> {
        match git.run(self.source, args, cancel)? {
            Some(ended) if ended.success => Ok(ended.stdout),
            Some(ended) => Err(failure(self.source, args, &ended)),
            None => Err(self.no("there is no git program")),
        }
    }

    fn no(&self, why: &str) -> SnapshotError {
        SnapshotError::History { source_root: self.source.to_path_buf(), why: why.to_owned() }
    }
}

fn copy_if_there(from: &Path, to: &Path) -> Result<(), SnapshotError> {
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(SnapshotError::io("create", parent))?;
    match fs::copy(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map(drop).map_err(SnapshotError::io("copy", from)),
    }
}
