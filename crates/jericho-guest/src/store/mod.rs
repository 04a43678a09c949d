//! `jerichoci-incus-run store`: receives snapshots on a host, keeps who uses them, and removes the others.
//!
//! It is talked to over its standard input and output (`jericho_manifest::protocol`) and ends with its
//! input. Everything it does lies below one work dir, and is reached by descriptors, name by name, so that
//! no link leads out of it.
//!
//! | path below the work dir | what |
//! |---|---|
//! | `snapshots/.lock` | flock: a tree appears, is claimed, renamed or set aside; held for moments |
//! | `snapshots/<hash>/snapshot` | the tree |
//! | `snapshots/<hash>/manifest` | what is in it; for a moment `manifest.base` and `manifest.delta`, which make it |
//! | `snapshots/<hash>/jerichoci-snapshot.json` | the marker; its time is that of publication |
//! | `snapshots/<hash>/used` | by which engine last, in which boot; its time says when |
//! | `snapshots/tmp-*` | what is being received; a lock on it says that its receiver lives |
//! | `snapshots/old-<hash>-*` | set aside: removed once nobody has leased that snapshot |
//! | `leases/<hash>/<id>` | who uses a snapshot |
//!
//! | module | subject |
//! |---|---|
//! | `input` | reading what is sent, until a signal ends it |
//! | `work_dir` | the work dir and the lock |
//! | `leases` | who uses a snapshot, and whether they live |
//! | `shelf` | snapshots that are there: found, checked, set aside |
//! | `check` | whether a tree still is what its manifest says |
//! | `kept` | manifests on the disk, and what of that waits until an answer was given |
//! | `look` | a look at a tree, at once or meanwhile |
//! | `used` | who used a snapshot last |
//! | `receive` | from a stream to a published tree |
//! | `staging` | a directory that becomes a snapshot |
//! | `tree` | files, links, directories of a tree that is being made |
//! | `collect` | what nobody needs |
//! | `tidy` | what nobody has used for a while, beside snapshots |

mod check;
mod collect;
mod input;
mod kept;
mod leases;
mod look;
mod receive;
mod refused;
mod shelf;
mod staging;
mod tidy;
mod tree;
mod used;
mod work_dir;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use jericho_host::CancelToken;
use jericho_manifest::protocol::{Answer, Ask, Fault, Have, Hello, How, Lacks, Lease, Request, VERSION};
use jericho_manifest::{ContentHash, Encoded};
use serde::de::DeserializeOwned;

use crate::runner::complain;
use crate::{BOOTSTRAP_ERROR, signals};
use input::Input;
use kept::Late;
use leases::Leases;
use look::Looking;
use refused::Refused;
use shelf::{Found, Shelf};
use work_dir::WorkDir;

/// Serves one engine until its input ends. Returns the exit code of the process.
pub(crate) fn serve(work_dir: &Path) -> u8 {
    // A tree may be deeper than a usual limit; the lower one does as well for all others.
    let _ = jericho_host::sys::raise_open_files();
    // Exactly the modes that are asked for.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let token = match CancelToken::new().and_then(|token| signals::listen(&token, false).map(|()| token)) {
        Ok(token) => token,
        Err(error) => {
            complain(&format!("cannot hear signals: {error}"));
            return BOOTSTRAP_ERROR;
        }
    };
    match talk(work_dir, &mut Input::new(token), &mut io::stdout().lock()) {
        Ok(()) => 0,
        Err(error) => {
            complain(&error.to_string());
            BOOTSTRAP_ERROR
        }
    }
}

fn talk(work_dir: &Path, input: &mut Input, output: &mut impl Write) -> io::Result<()> {
    let mut tell = |answer: &Answer| -> io::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        output.write_all(&line)?;
        output.flush()
    };
    let Some(line) = input.line()? else { return Ok(()) };
    let opened = parse::<Hello>(&line).and_then(|hello| Receiver::open(work_dir, hello));
    let mut receiver = match opened {
        Ok(receiver) => receiver,
        Err(refused) => return tell(&refused.into()),
    };
    while let Some(line) = input.line()? {
        let answer = parse(&line).and_then(|request| receiver.answer(request, input));
        let answer = answer.unwrap_or_else(Answer::from);
        let told = tell(&answer);
        receiver.after_answer();
        told?;
        if let Answer::Failed { fault, .. } = answer
            && fault != Fault::Request
        {
            // What was sent with the question was not read to its end.
            break;
        }
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, Refused> {
    let sorry = |error| Refused::new(Fault::Request, format!("the question cannot be read: {error}"));
    serde_json::from_slice(line).map_err(sorry)
}

/// One conversation.
struct Receiver {
    engine: String,
    work_dir: WorkDir,
    shelf: Shelf,
    leases: Leases,
    /// A snapshot that an engine was told it can send the difference to.
    base: Option<Base>,
    /// What there is to do when the engine has its answer.
    late: Option<Late>,
}

/// A base that is claimed until the next question.
struct Base {
    hash: ContentHash,
    manifest: Arc<Encoded>,
    /// A look at its tree that goes on, while the engine hears that it is there and sends the difference.
    looking: Option<Looking>,
}

impl Receiver {
    fn open(path: &Path, hello: Hello) -> Result<Self, Refused> {
        if hello.version != VERSION {
            let message = format!("this receiver speaks version {VERSION}, not {}", hello.version);
            return Err(Refused::new(Fault::WorkDir, message));
        }
        leases::check_name("engine id", &hello.engine)
            .map_err(|refused| Refused { fault: Fault::WorkDir, ..refused })?;
        let work_dir = WorkDir::open(path)?;
        let shelf = Shelf::open(&work_dir)?;
        let leases = Leases::open(&work_dir, &hello.engine)?;
        Ok(Self { engine: hello.engine, work_dir, shelf, leases, base: None, late: None })
    }

    fn answer(&mut self, request: Request, input: &mut Input) -> Result<Answer, Refused> {
        match request {
            Request::Ask(ask) => {
                self.drop_base();
                self.ask(&ask)
            }
            Request::Receive(receive) => {
                let mut base = self.base.take();
                let mut looking = base.as_mut().and_then(|base| base.looking.take());
                let received = receive::receive(self, &receive, base.as_ref(), looking.as_mut(), input);
                let found = base.map_or(Ok(()), |base| self.give_up(Base { looking, ..base }));
                // A base that is damaged is why, whatever failed first; and no reason where nothing was made of it.
                let received = received.map_err(|refused| match found {
                    Err(damaged) if receive.base.is_some() => damaged,
                    _ => refused,
                })?;
                self.late = received.late;
                Ok(Answer::Have(self.have(received.how)?))
            }
            Request::Hold { hash, lease } => {
                leases::check_name("lease", &lease.id)?;
                let lock = self.work_dir.lock()?;
                if !self.shelf.has(&hash)? {
                    let message = format!("snapshot {hash} is not there any more");
                    return Err(Refused::new(Fault::Request, message));
                }
                self.leases.write(&lock, &hash, &lease)?;
                Ok(Answer::Done)
            }
            Request::Release { hash, lease } => {
                leases::check_name("lease", &lease)?;
                self.leases.release(&self.work_dir.lock()?, &hash, &lease)?;
                Ok(Answer::Done)
            }
            Request::Collect(wanted) => {
                self.drop_base();
                Ok(Answer::Collected(collect::collect(self, &wanted)?))
            }
            Request::Tidy(wanted) => Ok(Answer::Tidied(tidy::tidy(&self.work_dir, &wanted)?)),
        }
    }

    /// What nobody waits for.
    fn after_answer(&mut self) {
        if let Some(late) = self.late.take() {
            self.shelf.begin_late(late);
        }
    }

    fn have(&self, how: How) -> Result<Have, Refused> {
        let space = self.work_dir.space()?;
        Ok(Have { how, free: space.free, total: space.total })
    }

    fn ask(&mut self, ask: &Ask) -> Result<Answer, Refused> {
        leases::check_name("lease", &ask.lease.id)?;
        let space = self.work_dir.space()?;
        if space.free < ask.min_free {
            let message = format!(
                "{} has {} MiB of free space left and needs {}; make room there, or choose a work dir on another disk",
                self.work_dir.path().display(),
                space.free >> 20,
                ask.min_free >> 20
            );
            return Err(Refused::new(Fault::NoSpace, message));
        }
        let mut damaged = None;
        let lock = self.work_dir.lock()?;
        if self.shelf.has(&ask.hash)? {
            // Claimed first, so that it stays as it is found.
            self.leases.write(&lock, &ask.hash, &ask.lease)?;
            drop(lock);
            match self.shelf.check(&ask.hash)? {
                Found::Sound(manifest) => {
                    if self.hide_marker(&manifest, &ask.lease)? {
                        self.shelf.note_use(&manifest, &self.engine)?;
                        return Ok(Answer::Have(self.have(How::AlreadyThere)?));
                    }
                    let why = "an earlier version put its marker into the tree, and somebody uses that";
                    damaged = Some(format!("snapshot {}: {why}", ask.hash));
                }
                Found::Damaged(why) => {
                    let lock = self.work_dir.lock()?;
                    self.leases.release(&lock, &ask.hash, &ask.lease.id)?;
                    self.shelf.set_aside(&lock, &ask.hash)?;
                    damaged = Some(format!("snapshot {}: {why}", ask.hash));
                }
                Found::Nothing => {}
            }
        } else {
            drop(lock);
        }
        for hash in &ask.bases {
            let lock = self.work_dir.lock()?;
            if !self.shelf.has(hash)? {
                continue;
            }
            self.leases.claim_own(&lock, hash)?;
            drop(lock);
            let found = self.shelf.begin_check(hash).map(|found| match found {
                Found::Sound(look) => {
                    let manifest = Arc::clone(&look.manifest);
                    match look.go_on() {
                        Ok(looking) => Found::Sound(Base { hash: *hash, manifest, looking }),
                        Err(why) => Found::Damaged(why),
                    }
                }
                Found::Damaged(why) => Found::Damaged(why),
                Found::Nothing => Found::Nothing,
            });
            match found {
                Ok(Found::Sound(base)) => {
                    self.base = Some(base);
                    break;
                }
                Ok(Found::Damaged(why)) => {
                    let lock = self.work_dir.lock()?;
                    self.leases.release_own(hash);
                    self.shelf.set_aside(&lock, hash)?;
                    damaged.get_or_insert(format!("snapshot {hash}: {why}"));
                }
                Ok(Found::Nothing) => self.leases.release_own(hash),
                Err(refused) => {
                    self.leases.release_own(hash);
                    return Err(refused);
                }
            }
        }
        Ok(Answer::Lacks(Lacks { base: self.base.as_ref().map(|base| base.hash), damaged }))
    }

    /// Takes the marker out of a tree that an earlier version has made. One that others use stays as it is, and is set
    /// aside: false.
    fn hide_marker(&self, manifest: &Encoded, lease: &Lease) -> Result<bool, Refused> {
        let hash = manifest.hash();
        let failed = |errno| Refused::step(format_args!("hide the marker of snapshot {hash}"), errno);
        let shows = || {
            let dir = self.shelf.open_snapshot(&hash).map_err(failed)?;
            Ok(check::shows_marker(&dir, manifest).map_err(failed)?.then_some(dir))
        };
        if shows()?.is_none() {
            return Ok(true);
        }
        let lock = self.work_dir.lock()?;
        // Somebody else may have been faster.
        let Some(dir) = shows()? else { return Ok(true) };
        self.leases.release(&lock, &hash, &lease.id)?;
        if self.leases.in_use(&hash)? {
            self.shelf.set_aside(&lock, &hash)?;
            return Ok(false);
        }
        check::hide_marker(&dir).map_err(failed)?;
        self.leases.write(&lock, &hash, lease)?;
        Ok(true)
    }

    /// Gives up the base that was offered with the last answer.
    fn drop_base(&mut self) {
        if let Some(base) = self.base.take() {
            // It was set aside.
            let _ = self.give_up(base);
        }
    }

    /// Waits for the end of the look at a base, sets it aside when it is damaged, and lets it go.
    fn give_up(&self, mut base: Base) -> Result<(), Refused> {
        let found = match base.looking.as_mut().map(Looking::found) {
            Some(Err(why)) => {
                if let Ok(lock) = self.work_dir.lock() {
                    // What cannot be set aside is found by the next one too.
                    let _ = self.shelf.set_aside(&lock, &base.hash);
                }
                Err(Refused::new(Fault::Base, format!("snapshot {} is damaged: {why}", base.hash)))
            }
            _ => Ok(()),
        };
        self.leases.release_own(&base.hash);
        found
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.drop_base();
    }
}
