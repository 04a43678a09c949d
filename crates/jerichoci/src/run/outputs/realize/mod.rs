//! Builds one output of a flake on a host, by the same steps on this machine and over SSH.
//!
//! ```text
//! nix eval --expr 'builtins.path { TREE }'            into the store, once a content hash; remembered
//! nix hash path SOURCE                               the same
//! nix path-info --derivation 'path:SOURCE?narHash=HASH#OUTPUT'    the same, for each output
//! nix-store --realise DRV --add-root ROOT            under the lock of DRV; its output is the log
//! readlink ROOT
//! ```
//!
//! A tree is given to nix as a store path, because nix would copy a `path:` of another place at
//! every evaluation. Nothing keeps source and derivation from being collected between two steps:
//! the steps are then done again, once. The output has a root from before the last step ends.
//!
//! Flakes are evaluated purely: the same source gives the same derivation, which is not asked for twice.

mod error;
mod probe;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jericho_host::lock::FileLock;
use jericho_host::{
    CancelToken, Command, EndedBy, Environment, Finished, Host, HostError, Output, OutputSink, Supervision,
};
use serde::{Deserialize, Serialize};

use error::Asked;
pub use error::RealizeError;

use super::answer;
use crate::executor::JobLog;
use crate::nix::{percent_encode, store_program};
use crate::snapshot::MARKER;

/// What is kept of the end of a build log, for the message.
const TAIL_BYTES: usize = 16 << 10;

/// Nix on one host.
#[derive(Debug, Clone)]
pub struct NixOnHost {
    /// The host.
    pub host: Arc<dyn Host>,
    /// Nix there, a path or a name; `nix-store` lies beside it.
    pub program: PathBuf,
    /// What it is run with.
    pub env: Environment,
    /// Directory there for what is remembered of sources.
    pub sources: PathBuf,
    /// Where realisations of one derivation wait for each other.
    pub locks: Locks,
    /// Between TERM and KILL: killed, nix would leave its builders behind.
    pub grace: Duration,
    /// How long an answer is waited for that is no build.
    pub answer_limit: Duration,
}

/// Two realisations of one derivation would poll each other for seconds: one at a time. A file
/// serves several derivations, so that there are not more and more of them.
#[derive(Debug, Clone)]
pub enum Locks {
    /// Files below this directory of this machine.
    Here(PathBuf),
    /// Files below this directory of the host, held by flock(1).
    OnHost(PathBuf),
}

/// Becomes the command when the lock is free, and holds it until that has ended. Directories are made
/// on the way: each would be a round trip of its own.
const LOCKED: &str = r#"umask 077
mkdir -p "${1%/*}" "$2" || exit 74
exec 9>"$1" || exit 74
shift 2
flock -n 9 || { echo '[jerichoci] waiting for another run that builds the same'; flock 9 || exit 74; }
exec "$@""#;

/// What is to be realised.
pub struct Wanted<'a> {
    /// Content hash of the source tree.
    pub content_hash: &'a str,
    /// The source tree on the host, made when nix does not have it yet.
    pub tree: &'a dyn Fn(&CancelToken) -> Result<SourceTree, String>,
    /// Flake attribute.
    pub output_name: &'a str,
    /// Where the GC root is made on the host.
    pub root: &'a Path,
    /// Name and value that mark every process of it.
    pub tag: (&'a str, &'a str),
}

/// A directory on a host, and what keeps it as it is.
pub struct SourceTree {
    /// Where it is.
    pub path: PathBuf,
    /// Held while it is read.
    pub held: Box<dyn std::any::Any + Send>,
}

/// An output that is in the store, and stays there as long as its root does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realized {
    /// Path of its derivation.
    pub derivation: String,
    /// Path of the output.
    pub path: PathBuf,
}

/// A source in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Added {
    store_path: String,
    nar_hash: String,
    /// Of its outputs, as far as they were asked for.
    #[serde(default)]
    derivations: BTreeMap<String, String>,
}

impl Added {
    /// As nix is told of it.
    fn flake(&self) -> String {
        format!("path:{}?narHash={}", self.store_path, percent_encode(&self.nar_hash))
    }

    /// Whether it looks like what nix says.
    fn is_plausible(&self) -> bool {
        let hash = self.nar_hash.strip_prefix("sha256-");
        let is_base64 = |hash: &str| {
            hash.len() == 44 && hash.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
        };
        hash.is_some_and(is_base64)
            && self.store_path.starts_with('/')
            && self.store_path.ends_with("-source")
            && self.derivations.values().all(|path| is_derivation(path))
    }
}

/// Realises outputs of one source tree on one host.
#[derive(Debug)]
pub struct Realizer {
    nix: NixOnHost,
    /// Taken while a source is added: all outputs of a run have the same one.
    added: Mutex<Option<(String, Added)>>,
}

impl Realizer {
    /// On this host. Nothing is asked of it yet.
    #[must_use]
    pub fn new(nix: NixOnHost) -> Self {
        Self { nix, added: Mutex::default() }
    }

    /// Nix as it is used.
    #[must_use]
    pub fn nix(&self) -> &NixOnHost {
        &self.nix
    }

    /// Realises an output, building what is missing. What nix says while it builds goes to `log`
    /// as it comes.
    ///
    /// # Errors
    /// [`RealizeError`]; nothing of it runs any more then.
    pub fn realize(
        &self,
        wanted: &Wanted<'_>,
        log: &mut dyn JobLog,
        cancel: &CancelToken,
    ) -> Result<Realized, RealizeError> {
        if let Some(derivation) = self.remembered(wanted) {
            match self.build(wanted, &derivation, log, cancel) {
                Ok(path) => return Ok(Realized { derivation, path }),
                // Collected since, or of another store.
                Err(error @ RealizeError::Nix { .. }) => {
                    say(log, wanted, &format!("what is remembered is of no use, once more: {error}"))?;
                }
                Err(error) => return Err(error),
            }
        }
        let mut again = true;
        loop {
            let derivation = self.derivation(wanted, log, cancel)?;
            match self.build(wanted, &derivation, log, cancel) {
                Ok(path) => return Ok(Realized { derivation, path }),
                Err(error) if again && self.is_gone(&derivation, cancel) => {
                    say(log, wanted, &format!("the derivation was collected, once more: {error}"))?;
                    again = false;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Which derivation the output of the source is.
    fn derivation(
        &self,
        wanted: &Wanted<'_>,
        log: &mut dyn JobLog,
        cancel: &CancelToken,
    ) -> Result<String, RealizeError> {
        let added = self.added(wanted, None, log, cancel)?;
        let derivation = match self.evaluate(wanted, &added, cancel) {
            Err(error) if self.is_gone(&added.store_path, cancel) => {
                say(log, wanted, &format!("the source was collected, once more: {error}"))?;
                let added = self.added(wanted, Some(&added), log, cancel)?;
                self.evaluate(wanted, &added, cancel)
            }
            other => other,
        }?;
        if let Some((hash, added)) = &mut *self.known()
            && hash == wanted.content_hash
        {
            added.derivations.insert(wanted.output_name.to_owned(), derivation.clone());
            self.remember(wanted, added, log)?;
        }
        Ok(derivation)
    }

    /// Which derivation it was when this source was asked for it before.
    fn remembered(&self, wanted: &Wanted<'_>) -> Option<String> {
        let mut known = self.known();
        if known.as_ref().is_none_or(|(hash, _)| hash != wanted.content_hash) {
            let text = self.nix.host.read(&self.memory(wanted)).ok()?;
            let added = serde_json::from_slice(&text).ok().filter(Added::is_plausible)?;
            *known = Some((wanted.content_hash.to_owned(), added));
        }
        known.as_ref().and_then(|(_, added)| added.derivations.get(wanted.output_name).cloned())
    }

    fn evaluate(
        &self,
        wanted: &Wanted<'_>,
        added: &Added,
        cancel: &CancelToken,
    ) -> Result<String, RealizeError> {
        let installable = format!("{}#{}", added.flake(), wanted.output_name);
        let said = self.ask(wanted, "evaluate", true, cancel, |nix| {
            nix.args(["path-info", "--no-update-lock-file", "--derivation"]).arg(&installable)
        });
        let said = said.map_err(|error| self.whose_fault(error, wanted, added, cancel))?;
        let path = last_line(&said);
        if !is_derivation(&path) {
            let (output, said) = (wanted.output_name.to_owned(), format!("it is no derivation: `{path}`"));
            return Err(RealizeError::Evaluate { output, said });
        }
        Ok(path)
    }

    /// A failed evaluation is only the source's fault when nix can evaluate other things; and it is, whatever the words
    /// are, when the flake throws them.
    fn whose_fault(
        &self,
        error: RealizeError,
        wanted: &Wanted<'_>,
        added: &Added,
        cancel: &CancelToken,
    ) -> RealizeError {
        let (output, host) = (wanted.output_name, self.nix.host.label());
        let other = match &error {
            RealizeError::Evaluate { said, .. } => probe::probe(&self.nix, cancel).map(|why| {
                let said = format!("{said}; {}", why?);
                let (output, host) = (output.to_owned(), host.to_owned());
                Some(RealizeError::Nix { step: "evaluate", output, host, said })
            }),
            RealizeError::Nix { said, .. } | RealizeError::DiskFull { said, .. } => {
                let flake = added.flake();
                probe::throws(&self.nix, &flake, output, self.nix.answer_limit, cancel).map(|throws| {
                    throws.then(|| RealizeError::Evaluate { output: output.to_owned(), said: said.clone() })
                })
            }
            _ => Ok(None),
        };
        match other {
            Ok(other) => other.unwrap_or(error),
            Err(error) => self.asked(wanted).host_error(error),
        }
    }

    /// The source in the store. `gone` is one that is there no more.
    fn added(
        &self,
        wanted: &Wanted<'_>,
        gone: Option<&Added>,
        log: &mut dyn JobLog,
        cancel: &CancelToken,
    ) -> Result<Added, RealizeError> {
        let mut known = self.known();
        let sound = |added: &Added| gone.is_none_or(|gone| gone.store_path != added.store_path);
        if let Some((hash, added)) = &*known
            && hash == wanted.content_hash
            && sound(added)
        {
            return Ok(added.clone());
        }
        let remembered = self.nix.host.read(&self.memory(wanted)).ok();
        let remembered = remembered.and_then(|text| serde_json::from_slice(&text).ok());
        let added = match remembered.filter(|added| sound(added) && added.is_plausible()) {
            Some(added) => added,
            None => {
                let added = self.add(wanted, cancel)?;
                self.remember(wanted, &added, log)?;
                added
            }
        };
        *known = Some((wanted.content_hash.to_owned(), added.clone()));
        Ok(added)
    }

    fn known(&self) -> MutexGuard<'_, Option<(String, Added)>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is remembered what nix knows of a source.
    fn memory(&self, wanted: &Wanted<'_>) -> PathBuf {
        self.nix.sources.join(format!("{}.json", wanted.content_hash))
    }

    fn remember(&self, wanted: &Wanted<'_>, added: &Added, log: &mut dyn JobLog) -> Result<(), RealizeError> {
        let written = serde_json::to_vec(added)
            .map_err(|error| HostError::System("cannot write a document", error.into()))
            .and_then(|text| {
                self.nix.host.make_dirs(&self.nix.sources)?;
                self.nix.host.write_atomic(&self.memory(wanted), &text, false)
            });
        match written {
            Ok(()) => Ok(()),
            // The next run asks again, which takes longer and is right.
            Err(error) => {
                let error = crate::causes::with_causes(&error);
                say(log, wanted, &format!("the source is not remembered: {error}"))
            }
        }
    }

    fn add(&self, wanted: &Wanted<'_>, cancel: &CancelToken) -> Result<Added, RealizeError> {
        let hash = |store_path: &str| {
            self.ask(wanted, "hash the source of", false, cancel, |nix| {
                nix.args(["hash", "path"]).arg(store_path)
            })
        };
        let mut store_path = self.put(wanted, cancel)?;
        let said = match hash(&store_path) {
            // Collected before it was hashed.
            Err(_) if self.is_gone(&store_path, cancel) => {
                store_path = self.put(wanted, cancel)?;
                hash(&store_path)
            }
            said => said,
        }?;
        let added = Added { store_path, nar_hash: last_line(&said), derivations: BTreeMap::new() };
        match added.is_plausible() {
            true => Ok(added),
            // It would be remembered, and believed by every later run.
            false => Err(RealizeError::Nix {
                step: "say the hash of the source of",
                output: wanted.output_name.to_owned(),
                host: self.nix.host.label().to_owned(),
                said: format!("`{}` and `{}`", added.store_path, added.nar_hash),
            }),
        }
    }

    /// Has the tree in the store.
    fn put(&self, wanted: &Wanted<'_>, cancel: &CancelToken) -> Result<String, RealizeError> {
        let tree = (wanted.tree)(cancel).map_err(|problem| match cancel.reason() {
            Some(reason) => RealizeError::Cancelled(reason),
            None => RealizeError::Tree(problem),
        })?;
        let expression = add_expression(&tree.path)?;
        let said = self.ask(wanted, "add the source of", false, cancel, |nix| {
            nix.args(["eval", "--impure", "--raw", "--expr"]).arg(&expression)
        })?;
        drop(tree.held);
        Ok(last_line(&said))
    }

    fn build(
        &self,
        wanted: &Wanted<'_>,
        derivation: &str,
        log: &mut dyn JobLog,
        cancel: &CancelToken,
    ) -> Result<PathBuf, RealizeError> {
        let store = store_program(&self.nix.program);
        let realise = [OsString::from("--realise"), derivation.into(), "--add-root".into()];
        let args = realise.into_iter().chain([wanted.root.as_os_str().to_owned()]);
        let lock = lock_name(derivation);
        let roots = wanted.root.parent().unwrap_or(wanted.root);
        // Held until the output is built, by this process or by flock(1).
        let mut _held = None;
        let command = match &self.nix.locks {
            Locks::Here(dir) => {
                self.nix.host.make_dirs(roots).map_err(|error| self.asked(wanted).host_error(error))?;
                _held = Some(wait_for(&dir.join(lock), wanted, log, cancel)?);
                Command::new(store).args(args)
            }
            Locks::OnHost(dir) => {
                let sh = Command::new("sh").args(["-c", LOCKED, "sh"]).arg(dir.join(lock)).arg(roots);
                sh.arg(store).args(args)
            }
        };
        let command = command.env(self.nix.env.clone()).cwd("/");
        let (name, value) = wanted.tag;
        let supervision = Supervision { grace: self.nix.grace, ..Supervision::new(name, value) };
        let mut sink = Tail { log, end: Vec::new() };
        let finished = self.nix.host.supervise(&command, &supervision, &mut sink, cancel);
        let said = sink.end;
        let Finished { exit, ended_by, .. } =
            finished.map_err(|error| self.asked(wanted).host_error(error))?;
        if let EndedBy::Cancelled(reason) = ended_by {
            return Err(RealizeError::Cancelled(reason));
        }
        if !exit.success() {
            return Err(self.asked(wanted).not_built(exit, &said));
        }
        let read = Command::new("readlink").arg(wanted.root).env(self.nix.env.clone());
        let read = self.nix.host.run(&read, cancel).map_err(|error| self.asked(wanted).host_error(error))?;
        let path = read.stdout.strip_suffix(b"\n").unwrap_or(&read.stdout);
        match read.exit.success() && path.starts_with(b"/") {
            true => Ok(PathBuf::from(std::ffi::OsStr::from_bytes(path))),
            // Nix calls the roots of other outputs by other names, and says them.
            false if says_root(&said, wanted.root) => Err(RealizeError::Build {
                output: wanted.output_name.to_owned(),
                said: "its derivation has no output of the name `out`".to_owned(),
            }),
            false => Err(self.asked(wanted).refused("root", false, read.exit, &read.stderr)),
        }
    }

    /// Whether a store path that was there is there no more.
    fn is_gone(&self, path: &str, cancel: &CancelToken) -> bool {
        let test = Command::new("test").args(["-e", path]).env(self.nix.env.clone());
        self.nix.host.run(&test, cancel).is_ok_and(|output| !output.exit.success())
    }

    /// One short call of nix.
    fn ask(
        &self,
        wanted: &Wanted<'_>,
        step: &'static str,
        by_source: bool,
        cancel: &CancelToken,
        args: impl FnOnce(Command) -> Command,
    ) -> Result<Output, RealizeError> {
        let nix = Command::new(&self.nix.program)
            .args(["--extra-experimental-features", "nix-command flakes"])
            .env(self.nix.env.clone())
            // A relative file name means nothing to it.
            .cwd("/")
            .grace(self.nix.grace);
        let (nix, limit) = (args(nix), self.nix.answer_limit);
        let output = answer::within(limit, cancel, |cancel| self.nix.host.run(&nix, cancel));
        let output = output.map_err(|error| self.asked(wanted).host_error(error))?;
        let Some(output) = output else {
            return Err(RealizeError::Nix {
                step,
                output: wanted.output_name.to_owned(),
                host: self.nix.host.label().to_owned(),
                said: answer::no_answer(limit),
            });
        };
        match output.exit.success() {
            true => Ok(output),
            false => Err(self.asked(wanted).refused(step, by_source, output.exit, &output.stderr)),
        }
    }

    fn asked<'a>(&'a self, wanted: &Wanted<'a>) -> Asked<'a> {
        Asked { output: wanted.output_name, host: self.nix.host.label() }
    }
}

/// Puts a tree into the store under the name that flakes expect, without the marker: that says
/// when and where a snapshot was taken, and what is built must not depend on it.
fn add_expression(tree: &Path) -> Result<String, RealizeError> {
    let path = tree.to_str().ok_or_else(|| RealizeError::Tree(format!("{} is no text", tree.display())))?;
    let path = path.replace('\\', r"\\").replace('"', "\\\"").replace('$', "\\$");
    Ok(format!(
        "let tree = \"{path}\"; in builtins.path {{ path = tree; name = \"source\"; \
         filter = path: type: path != \"${{tree}}/{MARKER}\"; }}"
    ))
}

fn is_derivation(path: &str) -> bool {
    path.starts_with('/') && path.ends_with(".drv")
}

/// A line of the engine in the log.
fn say(log: &mut dyn JobLog, wanted: &Wanted<'_>, line: &str) -> Result<(), RealizeError> {
    log.engine_line(line).map_err(|error| RealizeError::Host {
        output: wanted.output_name.to_owned(),
        source: HostError::Sink(error),
    })
}

/// Derivations whose hashes begin alike share a file.
fn lock_name(derivation: &str) -> String {
    let name = derivation.rsplit('/').next().unwrap_or(derivation);
    let begin: String = name.chars().take(2).filter(char::is_ascii_alphanumeric).collect();
    format!("nix-{begin}.lock")
}

fn wait_for(
    path: &Path,
    wanted: &Wanted<'_>,
    log: &mut dyn JobLog,
    cancel: &CancelToken,
) -> Result<FileLock, RealizeError> {
    let failed = |source| RealizeError::Lock { path: path.to_path_buf(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let free = FileLock::try_exclusive(path).map_err(|error| failed(std::io::Error::other(error)))?;
    if let Some(lock) = free {
        return Ok(lock);
    }
    say(log, wanted, "waiting for another run that builds the same")?;
    crate::lock::exclusive(path, cancel).map_err(|error| RealizeError::of_wait(error, path))
}

/// Whether nix has made a root beside this one.
fn says_root(said: &[u8], root: &Path) -> bool {
    let beside = [root.as_os_str().as_encoded_bytes(), b"-"].concat();
    said.split(|byte| *byte == b'\n').any(|line| line.starts_with(&beside))
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// Passes everything on to the log, and keeps its end.
struct Tail<'a> {
    log: &'a mut dyn JobLog,
    end: Vec<u8>,
}

impl OutputSink for Tail<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.end.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        if self.end.len() > 2 * TAIL_BYTES {
            self.end.drain(..self.end.len() - TAIL_BYTES);
        }
        self.log.write(bytes)
    }
}
