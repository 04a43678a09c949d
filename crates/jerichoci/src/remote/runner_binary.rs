//! The runner as this side has it: one static program per kind of processor.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use sha2::{Digest, Sha256};

/// Its name, on both sides.
pub(crate) const NAME: &str = "jerichoci-incus-run";

/// A runner for one kind of processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runner {
    /// As `uname -m` says it.
    pub(super) arch: String,
    pub(super) path: PathBuf,
    /// Of its content, 64 hexadecimal digits.
    pub(super) sha256: String,
}

impl Runner {
    /// Its content, which is that of the hash.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let content = fs::read(&self.path)?;
        if sha256(&content) == self.sha256 {
            return Ok(content);
        }
        Err(io::Error::other("it was replaced while the run went on; start another one"))
    }
}

/// The runners that this side has. They are looked for once.
#[derive(Debug)]
pub(super) struct Runners {
    dirs: Vec<PathBuf>,
    found: OnceLock<Vec<Runner>>,
    /// Of those that were there and could not be read.
    problems: Mutex<Vec<String>>,
}

impl Runners {
    /// Of these directories, each of which may hold `<arch>/jerichoci-incus-run`; the first counts.
    pub(super) fn new(dirs: Vec<PathBuf>) -> Self {
        Self { dirs, found: OnceLock::new(), problems: Mutex::default() }
    }

    pub(super) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// One for each kind of processor.
    pub(super) fn all(&self) -> &[Runner] {
        self.found.get_or_init(|| self.look())
    }

    /// What could not be read, one line each.
    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look(&self) -> Vec<Runner> {
        let mut found: Vec<Runner> = Vec::new();
        for dir in &self.dirs {
            // One that is not there has none.
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let Ok(arch) = entry.file_name().into_string() else { continue };
                let path = entry.path().join(NAME);
                if !is_arch(&arch) || found.iter().any(|known| known.arch == arch) || !path.is_file() {
                    continue;
                }
                match fs::read(&path) {
                    Ok(content) => found.push(Runner { arch, sha256: sha256(&content), path }),
                    Err(error) => self.complain(&path, &error),
                }
            }
        }
        found
    }

    fn complain(&self, path: &Path, error: &io::Error) {
        let line = format!("cannot read {}: {error}", path.display());
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// What `uname -m` says is such a word, so that it is one for a shell too.
pub(super) fn is_arch(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_that_has_a_runner_for_an_architecture_counts() {
        let dir = tempfile::tempdir().unwrap();
        let put = |place: &str, text: &str| {
            let path = dir.path().join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("one/x86_64/jerichoci-incus-run", "first");
        put("two/x86_64/jerichoci-incus-run", "second");
        put("two/aarch64/jerichoci-incus-run", "third");
        put("two/riscv64/another", "none");
        let runners = Runners::new(["none", "one", "two"].map(|name| dir.path().join(name)).into());
        let mut found: Vec<_> = runners.all().iter().map(|r| (r.arch.as_str(), r.read().unwrap())).collect();
        found.sort();
        assert_eq!(found, [("aarch64", b"third".to_vec()), ("x86_64", b"first".to_vec())]);
        put("one/x86_64/jerichoci-incus-run", "changed");
        let x86 = runners.all().iter().find(|r| r.arch == "x86_64").unwrap();
        assert!(x86.read().unwrap_err().to_string().contains("replaced"));
    }
}
