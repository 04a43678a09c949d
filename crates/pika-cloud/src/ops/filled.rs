//! Volumes that are filled once and then only read: a snapshot for guests of a cluster.
//!
//! A path of one machine is no path of the others, so what guests are to see is sent to their member, as
//! a volume by the name of its content. It is imported under a name of its own and then renamed: under its
//! final name a volume is whole.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use jericho_host::{CancelReason, CancelToken};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::body::label_keys;
use super::client::{Answer, Request, Trouble, quoted};
use super::error::OpsError;
use super::incus::{Ending, Incus};
use super::list::Labels;
use super::tree::TreeWriter;
use super::volume::shared_config;

/// How often an import is tried of which the connection broke.
const IMPORTS: u32 = 3;

/// What is written at once.
const PIECE: usize = 256 * 1024;

/// Where a volume is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeRef {
    /// Its project.
    pub project: String,
    /// Its storage pool.
    pub pool: String,
    /// The member of a cluster that it is on; none without a cluster.
    pub member: Option<String>,
    /// Its name.
    pub name: String,
}

impl VolumeRef {
    pub(crate) fn path(&self) -> String {
        self.sub_path("")
    }

    /// The path of something of it, which begins with `/`.
    pub(crate) fn sub_path(&self, sub: &str) -> String {
        self.pool_path(&format!("/{}{sub}", quoted(&self.name)))
    }

    /// The path of all volumes beside it.
    pub(crate) fn all_path(&self) -> String {
        self.pool_path("")
    }

    fn pool_path(&self, sub: &str) -> String {
        let target = self.member.as_ref().map(|member| format!("&target={}", quoted(member)));
        format!(
            "/1.0/storage-pools/{}/volumes/custom{sub}?project={}{}",
            quoted(&self.pool),
            quoted(&self.project),
            target.unwrap_or_default()
        )
    }
}

/// A volume of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVolume {
    /// Where it is.
    pub volume: VolumeRef,
    /// All its labels, as configuration keys: `user.…`.
    pub labels: BTreeMap<String, String>,
    /// How many instances and profiles use it.
    pub users: usize,
}

impl Incus {
    /// Makes sure that a volume is there and whole, filled with what `fill` writes, readable by guests and
    /// owned by their user. What is there is not sent again. Returns whether it was sent.
    ///
    /// Of several threads that ask for one volume at once, one sends it and the others wait. Another process may send
    /// it too; one of the two stays. `fill` is called again when the connection broke.
    ///
    /// # Errors
    ///
    /// [`OpsError::Failed`] with what `fill` or Incus said, or Incus does not answer. No part of the volume
    /// is left then, unless this process is killed: then one with these labels, and `-part-` in its name.
    pub fn ensure_filled_volume(
        &self,
        volume: &VolumeRef,
        labels: &Labels,
        fill: &mut (dyn FnMut(&mut TreeWriter<'_>) -> io::Result<()> + Send),
    ) -> Result<bool, OpsError> {
        let action = format!("bring volume {} to {}", volume.name, place(volume));
        if self.has_volume(volume)? {
            return Ok(false);
        }
        let _turn = self.turn(volume)?;
        if self.has_volume(volume)? {
            return Ok(false);
        }
        let nonce: String = self.ids.fresh().chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let part = VolumeRef { name: format!("{}-part-{nonce}", volume.name), ..volume.clone() };
        self.import(&action, &part, labels, fill)?;
        let rename = Request::new(Method::POST, part.path()).json(&json!({ "name": volume.name }));
        let renamed = self.carry_out(&action, &rename)?;
        if renamed.is_ok() && self.has_volume(volume)? {
            return Ok(true);
        }
        // Somebody else was faster.
        let removed = self.delete_volume_at(&part);
        match renamed {
            _ if self.has_volume(volume)? => removed.map(|()| false),
            Err(message) => Err(OpsError::Failed { action, message }),
            Ok(()) => Err(OpsError::Failed {
                action,
                message: "it is not there although it was renamed".to_owned(),
            }),
        }
    }

    /// Waits until no other thread of this process sends that volume.
    fn turn(&self, volume: &VolumeRef) -> Result<Turn, OpsError> {
        let key = (self.client.host.socket_host().to_owned(), self.client.socket.clone(), volume.clone());
        let token = || {
            CancelToken::new().map_err(|error| OpsError::Failed {
                action: format!("wait for volume {}", volume.name),
                message: error.to_string(),
            })
        };
        let mine = token()?;
        loop {
            let other = match lock(&SENDING).entry(key.clone()) {
                Entry::Vacant(free) => {
                    free.insert(mine.clone());
                    return Ok(Turn { key, over: mine });
                }
                Entry::Occupied(other) => other.get().clone(),
            };
            let mut fds = [
                PollFd::from_borrowed_fd(other.fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.client.cancel.fd(), PollFlags::IN),
            ];
            // An interruption by a signal makes it look once more, which nobody minds.
            let _ = poll(&mut fds, None);
            if let Some(reason) = self.client.cancel.reason() {
                return Err(OpsError::Cancelled(reason));
            }
        }
    }

    fn import(
        &self,
        action: &str,
        part: &VolumeRef,
        labels: &Labels,
        fill: &mut (dyn FnMut(&mut TreeWriter<'_>) -> io::Result<()> + Send),
    ) -> Result<(), OpsError> {
        let mut config: Value = shared_config();
        for (key, value) in label_keys(labels)? {
            config[key] = value.into();
        }
        let request = Request::new(Method::POST, part.all_path())
            .header("Content-Type", "application/octet-stream")
            .header("X-Incus-name", part.name.clone())
            .patient(self.patience().operation);
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.send_tree(&request, &config, fill) {
                Ok(Answer::Begun(id)) => match self.wait(action, &id, self.patience().operation) {
                    Ok(Ending::Success(_)) => return Ok(()),
                    Ok(Ending::Vanished) if self.has_volume(part)? => return Ok(()),
                    Ok(Ending::Vanished) if attempt < IMPORTS => {}
                    Ok(Ending::Failure(message)) => {
                        return Err(OpsError::Failed { action: action.to_owned(), message });
                    }
                    Ok(Ending::Vanished | Ending::Pending) => {
                        return self.undone_import(
                            part,
                            OpsError::TimedOut {
                                action: action.to_owned(),
                                after: self.patience().operation,
                            },
                        );
                    }
                    Err(error) => return self.undone_import(part, error),
                },
                Ok(Answer::Done(_)) => {
                    return Err(self.garbled(action, "a document in place of an operation"));
                }
                Err(Upload::Fill(error)) => {
                    return Err(OpsError::Failed { action: action.to_owned(), message: error.to_string() });
                }
                Err(Upload::Trouble(trouble)) if attempt < IMPORTS && trouble.is_transient(true) => {
                    self.client.pause(std::time::Duration::from_secs(2)).map_err(OpsError::Cancelled)?;
                }
                Err(Upload::Trouble(trouble)) => return Err(self.explain(action, trouble)),
            }
            // Of an attempt that nobody knows the end of.
            self.delete_volume_at(part)?;
        }
    }

    fn undone_import(&self, part: &VolumeRef, error: OpsError) -> Result<(), OpsError> {
        // Still being imported, it cannot be removed; then its labels tell whose it is.
        let _ = self.cleaner(error.is_connection()).delete_volume_at(part);
        Err(error)
    }

    /// Sends a tree while another thread writes it.
    fn send_tree(
        &self,
        request: &Request,
        config: &Value,
        fill: &mut (dyn FnMut(&mut TreeWriter<'_>) -> io::Result<()> + Send),
    ) -> Result<Answer, Upload> {
        let (reader, writer) = io::pipe().map_err(Upload::Fill)?;
        let time = u64::try_from(self.clock.now().timestamp()).unwrap_or(0);
        std::thread::scope(|scope| {
            let (told, end) = mpsc::sync_channel(1);
            scope.spawn(move || {
                let mut out = io::BufWriter::with_capacity(PIECE, writer);
                let written = TreeWriter::begin(&mut out, config, time).and_then(|mut tree| {
                    fill(&mut tree)?;
                    tree.finish()
                });
                let written = written.and_then(|()| out.flush());
                // Nobody listens when sending has failed; that is what is told then.
                let _ = told.send(written);
                // Only now the reader sees an end, which it takes for one only after it was told so.
                drop(out);
            });
            let mut body = Body { reader, end, is_whole: false, failure: None };
            let sent = self.client.upload(request, &mut body);
            match body.failure {
                Some(error) => Err(Upload::Fill(error)),
                None => sent.map_err(Upload::Trouble),
            }
        })
    }

    fn has_volume(&self, volume: &VolumeRef) -> Result<bool, OpsError> {
        let action = format!("look up volume {}", volume.name);
        Ok(self.find::<Value>(&action, &Request::get(volume.path()))?.is_some())
    }

    /// The volumes of a project in a pool, of all members, that carry all these labels; sorted.
    ///
    /// # Errors
    ///
    /// [`OpsError::NotFound`] when there is no such pool, [`OpsError::ProjectMissing`], or Incus does not answer.
    pub fn list_volumes(
        &self,
        project: &str,
        pool: &str,
        labels: &Labels,
    ) -> Result<Vec<ListedVolume>, OpsError> {
        #[derive(Deserialize)]
        struct Volume {
            name: String,
            #[serde(default)]
            config: BTreeMap<String, String>,
            #[serde(default)]
            location: String,
            #[serde(default)]
            used_by: Vec<String>,
        }
        self.project(project)?;
        let asked = label_keys(labels)?;
        let all = VolumeRef {
            project: project.to_owned(),
            pool: pool.to_owned(),
            member: None,
            name: String::new(),
        };
        let request = Request::get(format!("{}&recursion=1", all.all_path()));
        let found: Option<Vec<Volume>> = self.find(&format!("list the volumes of pool {pool}"), &request)?;
        let found =
            found.ok_or_else(|| OpsError::NotFound { what: "storage pool", name: pool.to_owned() })?;
        let mut listed: Vec<ListedVolume> = found
            .into_iter()
            .filter(|volume| asked.iter().all(|(key, value)| volume.config.get(key) == Some(value)))
            .map(|volume| ListedVolume {
                volume: VolumeRef {
                    member: Some(volume.location).filter(|at| !at.is_empty() && at != "none"),
                    name: volume.name,
                    ..all.clone()
                },
                labels: volume.config.into_iter().filter(|(key, _)| key.starts_with("user.")).collect(),
                users: volume.used_by.len(),
            })
            .collect();
        listed.sort_by(|a, b| (&a.volume.name, &a.volume.member).cmp(&(&b.volume.name, &b.volume.member)));
        Ok(listed)
    }

    /// Sets labels of a volume, beside those it has: to say that it was used.
    ///
    /// # Errors
    ///
    /// [`OpsError::Failed`] when it is gone, or Incus does not answer.
    pub fn label_volume(&self, volume: &VolumeRef, labels: &Labels) -> Result<(), OpsError> {
        let action = format!("label volume {}", volume.name);
        let body = json!({ "config": label_keys(labels)? });
        let request = Request::new(Method::PATCH, volume.path()).json(&body);
        self.carry_out(&action, &request)?.map_err(|message| OpsError::Failed { action, message })
    }

    /// Removes a volume with all that is in it. One that is gone is success.
    ///
    /// # Errors
    ///
    /// [`OpsError::Failed`] while an instance uses it, or Incus does not answer.
    pub fn delete_volume_at(&self, volume: &VolumeRef) -> Result<(), OpsError> {
        let action = format!("delete volume {}", volume.name);
        let request = Request::new(Method::DELETE, volume.path());
        match self.carry_out(&action, &request)? {
            Ok(()) => Ok(()),
            Err(_) if !self.has_volume(volume)? => Ok(()),
            Err(message) => Err(OpsError::Failed { action, message }),
        }
    }
}

/// Where a volume is, for people.
fn place(volume: &VolumeRef) -> String {
    match &volume.member {
        Some(member) => format!("member {member}"),
        None => format!("pool {}", volume.pool),
    }
}

/// A socket of a host, and a volume there.
type Key = (String, PathBuf, VolumeRef);

/// What threads of this process send, each with what ends when it is over.
static SENDING: Mutex<BTreeMap<Key, CancelToken>> = Mutex::new(BTreeMap::new());

fn lock(sending: &Mutex<BTreeMap<Key, CancelToken>>) -> MutexGuard<'_, BTreeMap<Key, CancelToken>> {
    // Nothing that panics can leave it half-changed.
    sending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to send a volume, until it is dropped.
struct Turn {
    key: Key,
    over: CancelToken,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&SENDING).remove(&self.key);
        self.over.cancel(CancelReason::Requested);
    }
}

/// Why a tree was not sent.
enum Upload {
    /// It could not be written.
    Fill(io::Error),
    Trouble(Trouble),
}

/// The archive as it is read for sending. It has an end only when its writer says so: a half would be imported
/// as a whole.
struct Body {
    reader: io::PipeReader,
    end: mpsc::Receiver<io::Result<()>>,
    is_whole: bool,
    failure: Option<io::Error>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count > 0 || buffer.is_empty() || self.is_whole {
            return Ok(count);
        }
        let error = match self.end.recv() {
            Ok(Ok(())) => {
                self.is_whole = true;
                return Ok(0);
            }
            Ok(Err(error)) => error,
            Err(mpsc::RecvError) => io::ErrorKind::BrokenPipe.into(),
        };
        let told = io::Error::new(error.kind(), error.to_string());
        self.failure = Some(error);
        Err(told)
    }
}
