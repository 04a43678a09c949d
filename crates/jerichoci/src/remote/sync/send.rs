//! One attempt of a delivery: ask, then send what the host does not have.

use std::time::SystemTime;

use jericho_host::CancelToken;
use jericho_manifest::delta::{Content, sent};
use jericho_manifest::protocol::{Answer, Ask, Fault, How, Lease, Receive, Request};
use jericho_manifest::shown::shown;
use jericho_manifest::{Delta, Encoded};

use super::ahead::{Ahead, asked};
use super::error::SyncError;
use super::line::Talk;
use super::{Delivered, Progress, Remote, Told};
use crate::snapshot::objects::ObjectReader;
use crate::snapshot::{ContentHash, Manifest, SnapshotError, SnapshotMetadata, Store};

/// Most bases that a host is asked about.
const BASES: usize = 16;
/// What is sent at once.
const PIECE: usize = 256 << 10;

/// What is delivered.
pub(super) struct Parcel<'p> {
    pub(super) store: &'p Store,
    pub(super) manifest: &'p Manifest,
    pub(super) metadata: &'p SnapshotMetadata,
    pub(super) lease: &'p Lease,
}

pub(super) fn once(
    remote: &Remote<'_>,
    parcel: &Parcel<'_>,
    tell: &mut dyn FnMut(Told<'_>),
    cancel: &CancelToken,
) -> Result<Delivered, SyncError> {
    remote.line.with(remote, cancel, |talk| {
        let hash = parcel.manifest.hash();
        let mut bases = newest(parcel.store, &hash);
        loop {
            let (lease, min_free) = (parcel.lease.clone(), remote.min_free);
            let newest = bases.first().copied();
            let question = Request::Ask(Ask { hash, bases: std::mem::take(&mut bases), lease, min_free });
            let (answer, ahead) = asked(talk, &question, parcel.store, parcel.manifest, newest)?;
            let lacks = match answer {
                Answer::Have(have) => return Ok(delivered(remote, &hash, Progress::default(), have.how)),
                Answer::Lacks(lacks) => lacks,
                other => return Err(talk.unexpected(&other)),
            };
            if let Some(damaged) = &lacks.damaged {
                tell(Told::Line(&format!("sync: set aside what is damaged: {damaged}")));
            }
            // One that cannot be read here any more is as good as none.
            let ahead = lacks.base.and_then(|base| match ahead {
                Some(ahead) if ahead.base.hash() == base => Some(ahead),
                _ => Ahead::load(parcel.store, parcel.manifest, base),
            });
            let delta = ahead.and_then(|ahead| Some((ahead.delta()?, ahead.base)));
            let (delta, base) = match delta {
                Some((delta, base)) => (delta, Some(base)),
                None => (Delta::whole(parcel.manifest.clone()), None),
            };
            match send(talk, remote, parcel, &delta, base.as_ref(), tell, cancel) {
                // Somebody else changed or removed it in between, or it is damaged here: once more, without one.
                Err(SyncError::Refused { fault, message, .. })
                    if base.as_ref().is_some_and(|base| {
                        fault == Fault::Base || fault == Fault::Content && !base.is_proven()
                    }) =>
                {
                    tell(Told::Line(&format!("sync: sending everything, because {message}")));
                }
                other => return other,
            }
        }
    })
}

fn delivered(remote: &Remote<'_>, hash: &ContentHash, sent: Progress, how: How) -> Delivered {
    let path = tree_path(remote, hash);
    Delivered { path, sent_files: sent.files, sent_bytes: sent.bytes, how }
}

fn tree_path(remote: &Remote<'_>, hash: &ContentHash) -> std::path::PathBuf {
    remote.work_dir.join("snapshots").join(hash.to_string()).join("snapshot")
}

/// The marker of a tree that lies in `dir`.
pub(super) fn marker(
    metadata: &SnapshotMetadata,
    hash: &ContentHash,
    dir: &std::path::Path,
) -> Result<String, SyncError> {
    let metadata = SnapshotMetadata {
        snapshot_dir: dir.to_string_lossy().into_owned(),
        content_hash: Some(*hash),
        tree: None,
        ..metadata.clone()
    };
    serde_json::to_string_pretty(&metadata)
        .map_err(|error| SyncError::System("cannot encode the marker of a snapshot", error.into()))
}

/// What was snapshotted here last, the newest first: what is sent is the difference to one of these.
fn newest(store: &Store, but: &ContentHash) -> Vec<ContentHash> {
    let Ok(entries) = std::fs::read_dir(&store.dirs().snapshots) else { return Vec::new() };
    let mut found: Vec<(SystemTime, ContentHash)> = entries
        .flatten()
        .filter_map(|entry| {
            let hash = entry.file_name().to_str()?.parse().ok()?;
            let manifest = std::fs::metadata(entry.path().join("manifest")).ok()?;
            Some((manifest.modified().ok()?, hash))
        })
        .filter(|(_, hash)| hash != but)
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.truncate(BASES);
    found.into_iter().map(|(_, hash)| hash).collect()
}

fn send(
    talk: &mut Talk<'_>,
    remote: &Remote<'_>,
    parcel: &Parcel<'_>,
    delta: &Delta,
    base: Option<&Encoded>,
    tell: &mut dyn FnMut(Told<'_>),
    cancel: &CancelToken,
) -> Result<Delivered, SyncError> {
    let hash = parcel.manifest.hash();
    let mut contents = delta.contents(base);
    let set = delta.set().encode();
    let request = Request::Receive(Receive {
        hash,
        base: base.map(Encoded::hash),
        gone_len: delta.gone().len() as u64,
        set_len: set.len() as u64,
        contents: sent(&contents),
        marker: marker(parcel.metadata, &hash, &tree_path(remote, &hash))?,
        lease: parcel.lease.clone(),
    });
    talk.say(&request)?;
    contents.retain(|content| content.base.is_none());
    let of_bytes = contents.iter().map(|content| content.size).sum();
    let progress = Progress { of_files: contents.len() as u64, of_bytes, ..Progress::default() };
    let mut out = Out { talk, buffer: Vec::with_capacity(2 * PIECE), progress, tell };
    let streamed = stream(&mut out, &[delta.gone(), &set], parcel, delta, &contents, cancel);
    let sent = out.progress;
    if let Err(error) = streamed {
        talk.abandon();
        return Err(error);
    }
    match talk.answer()? {
        Answer::Have(have) => Ok(delivered(remote, &hash, sent, have.how)),
        other => Err(talk.unexpected(&other)),
    }
}

fn stream(
    out: &mut Out<'_, '_>,
    head: &[&[u8]],
    parcel: &Parcel<'_>,
    delta: &Delta,
    contents: &[Content<'_>],
    cancel: &CancelToken,
) -> Result<(), SyncError> {
    for part in head {
        out.push(part)?;
    }
    // Nothing is collected while it is read.
    let _lock = parcel.store.lock_shared(cancel)?;
    let objects = parcel.store.objects()?;
    let mut reader = ObjectReader::new(&objects, &parcel.store.marks_dir());
    for content in contents {
        let entry = content.entries.first().and_then(|&position| delta.set().at(position));
        let path = entry.map_or(&b""[..], |entry| entry.path);
        let mut length = 0;
        reader.read(&content.hash, path, |piece| {
            length += piece.len() as u64;
            out.progress.bytes += piece.len() as u64;
            out.push(piece)
        })?;
        if length != content.size {
            let why = "its length is not that of its name";
            let (object, file) = (content.hash, shown(path));
            return Err(SnapshotError::DamagedObject { object, file, why }.into());
        }
        out.progress.files += 1;
    }
    out.flush()
}

/// Bytes on their way, in large pieces.
struct Out<'o, 't> {
    talk: &'o mut Talk<'t>,
    buffer: Vec<u8>,
    progress: Progress,
    tell: &'o mut dyn FnMut(Told<'_>),
}

impl Out<'_, '_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), SyncError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SyncError> {
        self.talk.send(&self.buffer)?;
        self.buffer.clear();
        (self.tell)(Told::Progress(self.progress));
        Ok(())
    }
}
