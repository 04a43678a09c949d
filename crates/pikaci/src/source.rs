//! The source root: the top of the git work tree around a directory, or the directory itself.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use jericho_host::{CancelToken, Command, Environment, Host, HostError, find_program};

use crate::error::CliError;
use crate::exit::Exit;
use crate::render::text::{printable, typed};

/// A source tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its top, absolute.
    pub(crate) root: PathBuf,
    /// Why git has no say in it; none when it has.
    pub(crate) without_git: Option<WithoutGit>,
}

/// Why git has no say in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WithoutGit {
    /// It is not installed.
    #[error("there is no git on this machine's PATH")]
    NoProgram,
    /// There is nothing for it to say.
    #[error("it is not in a git repository")]
    NoRepository,
}

/// Finds the source tree that `directory` (absolute, existing) lies in.
pub(crate) fn find(host: &dyn Host, directory: &Path, env: &Environment) -> Result<Source, CliError> {
    let plain = |root: &Path, why: WithoutGit| Source { root: root.to_path_buf(), without_git: Some(why) };
    if let Some(root) = plain_work_tree(directory, env) {
        return Ok(Source { root, without_git: None });
    }
    let mut env = env.clone();
    // The words below are looked for in what git says.
    env.set("LC_ALL", "C").remove("LANGUAGE");
    let command = Command::new("git").args(["rev-parse", "--show-toplevel"]).env(env).cwd(directory);
    let cancel = CancelToken::new().map_err(|error| failed(directory).because(error))?;
    let output = match host.run(&command, &cancel) {
        Ok(output) => output,
        Err(HostError::NotFound { .. }) => {
            let top = directory.ancestors().find(|above| above.join(".git").exists());
            return Ok(plain(top.unwrap_or(directory), WithoutGit::NoProgram));
        }
        Err(error) => return Err(failed(directory).because(error)),
    };
    if output.exit.success() {
        let mut top = output.stdout;
        if top.last() == Some(&b'\n') {
            top.pop();
        }
        return Ok(Source { root: PathBuf::from(OsString::from_vec(top)), without_git: None });
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("not a git repository") {
        return Ok(plain(directory, WithoutGit::NoRepository));
    }
    if said.contains("must be run in a work tree") {
        return Err(CliError::usage(format!(
            "{} is inside a repository, but in no work tree",
            directory.display()
        ))
        .hint("pikaci -C DIR, with a directory of the work tree"));
    }
    let first = said.lines().next().unwrap_or("it said nothing");
    let error = failed(directory).because(printable(first.as_bytes()));
    Err(match said.contains("dubious ownership") {
        true => error.hint(format!("git config --global --add safe.directory {}", typed(directory))),
        false => error.hint(format!("git -C {} status", typed(directory))),
    })
}

/// Beginnings of git's variables that say nothing about where a repository is.
const HARMLESS: &[&[u8]] = &[
    b"GIT_ASKPASS",
    b"GIT_AUTHOR_",
    b"GIT_COMMITTER_",
    b"GIT_CONFIG_GLOBAL",
    b"GIT_CONFIG_NOSYSTEM",
    b"GIT_CONFIG_SYSTEM",
    b"GIT_EDITOR",
    b"GIT_PAGER",
    b"GIT_SSH",
    b"GIT_SSL_",
    b"GIT_TERMINAL_PROMPT",
];

/// The top of a work tree that is like nearly all of them, found without starting git, which
/// would take longer than all the rest of a short command. `None` wherever anything might make
/// git answer otherwise: git is asked then.
fn plain_work_tree(directory: &Path, env: &Environment) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let moves_git =
        |name: &[u8]| name.starts_with(b"GIT_") && !HARMLESS.iter().any(|known| name.starts_with(known));
    if env.iter().any(|(name, _)| moves_git(name.as_encoded_bytes())) {
        return None;
    }
    find_program("git", env)?;
    let here = std::fs::metadata(directory).ok()?;
    let me = rustix::process::geteuid().as_raw();
    for top in directory.ancestors() {
        let found = std::fs::metadata(top).ok()?;
        if found.dev() != here.dev() {
            return None;
        }
        let dot_git = top.join(".git");
        let Ok(repository) = std::fs::symlink_metadata(&dot_git) else {
            // A bare repository is one without a `.git` in it.
            if top.join("HEAD").exists() {
                return None;
            }
            continue;
        };
        // Git works in no repository of another user that it was not told of.
        let mine = found.uid() == me && repository.uid() == me;
        let whole = ["objects", "refs"].iter().all(|name| dot_git.join(name).is_dir());
        if !(repository.is_dir() && mine && whole && dot_git.join("HEAD").is_file()) {
            return None;
        }
        let config = std::fs::read_to_string(dot_git.join("config")).ok()?.to_lowercase();
        let moves = ["worktree", "include", "extensions"];
        let bare = config.lines().any(|line| line.contains("bare") && !line.contains("false"));
        let inside = directory.strip_prefix(top).ok()?.components().next();
        let is_plain = !bare
            && !moves.iter().any(|word| config.contains(word))
            && inside.is_none_or(|first| first.as_os_str() != ".git");
        return is_plain.then(|| top.to_path_buf());
    }
    None
}

fn failed(directory: &Path) -> CliError {
    CliError::new(
        Exit::Infrastructure,
        format!("git cannot say where the source tree of {} begins", directory.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use jericho_host::LocalHost;
    use jericho_testkit::repo::Repo;

    fn env() -> Environment {
        let mut env: Environment = Repo::environment().into_iter().collect();
        env.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        env
    }

    /// What git says, or nothing.
    fn asked(directory: &Path, env: &Environment) -> Option<PathBuf> {
        let command =
            Command::new("git").args(["rev-parse", "--show-toplevel"]).env(env.clone()).cwd(directory);
        let output = LocalHost::new().run(&command, &CancelToken::new().unwrap()).unwrap();
        let top = String::from_utf8(output.stdout).unwrap();
        output.exit.success().then(|| PathBuf::from(top.trim_end_matches('\n')))
    }

    #[test]
    fn the_top_that_is_found_without_git_is_the_one_git_finds() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let repo = Repo::init(dir.join("repo")).unwrap();
        repo.write("a/b/file", "1").unwrap();
        repo.commit("one").unwrap();
        let here = repo.root();
        assert_eq!(plain_work_tree(here, &env()).as_deref(), Some(here), "the plain case is not found");
        assert_eq!(plain_work_tree(&here.join("a/b"), &env()).as_deref(), Some(here));

        repo.git(["worktree", "add", "-q", "../linked"]).unwrap();
        repo.git(["clone", "-q", "--bare", ".", "../bare"]).unwrap();
        repo.git(["init", "-q", "a/nested"]).unwrap();
        repo.git(["clone", "-q", ".", "../moved"]).unwrap();
        Repo::at(dir.join("moved")).git(["config", "core.worktree", "../../linked"]).unwrap();
        repo.git(["clone", "-q", ".", "../broken"]).unwrap();
        std::fs::remove_file(dir.join("broken/.git/HEAD")).unwrap();
        repo.git(["clone", "-q", ".", "../nowhere"]).unwrap();
        Repo::at(dir.join("nowhere")).git(["config", "core.bare", "true"]).unwrap();
        std::fs::create_dir(dir.join("plain")).unwrap();
        let places = [
            "repo",
            "repo/a/b",
            "repo/.git",
            "repo/.git/refs",
            "linked",
            "linked/a",
            "bare",
            "bare/refs",
            "repo/a/nested",
            "moved",
            "moved/a",
            "broken",
            "nowhere",
            "plain",
            "",
        ];
        let mut elsewhere = env();
        elsewhere.set("GIT_DIR", dir.join("repo/.git"));
        let mut ceiling = env();
        ceiling.set("GIT_CEILING_DIRECTORIES", dir.join("repo"));
        for env in [env(), elsewhere, ceiling] {
            for place in places.map(|place| dir.join(place)) {
                if let Some(found) = plain_work_tree(&place, &env) {
                    assert_eq!(Some(found), asked(&place, &env), "{}", place.display());
                }
            }
        }
    }

    #[test]
    fn without_a_git_program_nothing_is_found_without_asking() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::init(dir.path().canonicalize().unwrap()).unwrap();
        let mut env = env();
        env.set("PATH", "/nowhere");
        assert_eq!(plain_work_tree(repo.root(), &env), None);
    }
}
