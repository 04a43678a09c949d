//! One attempt of a delivery: ask, then send what the host does not have.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{channel, sync_channel};
use std::time::SystemTime;

use jericho_host::CancelToken;
use jericho_manifest::Delta;
use jericho_manifest::delta::{Content, sent};
use jericho_manifest::protocol::{Answer, Ask, Fault, How, Lease, Receive, Request};
use jericho_manifest::shown::shown;

use super::ahead::{Ahead, Known, asked};
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
    pub(super) manifest: &'p Arc<Manifest>,
    pub(super) metadata: &'p SnapshotMetadata,
    pub(super) lease: &'p Lease,
}

pub(super) fn once(
    remote: &Remote<'_>,
    parcel: &Parcel<'_>,
    tell: &mut dyn FnMut(Told<'_>),
    cancel: &CancelToken,
) -> Result<Delivered, SyncError> {
    let delivered = remote.line.with(remote, cancel, |talk| {
        let hash = parcel.manifest.hash();
        let mut bases = newest(parcel.store, &hash);
        loop {
            let (lease, min_free) = (parcel.lease.clone(), remote.min_free);
            let newest = bases.first().copied();
            let offered = std::mem::take(&mut bases);
            let question = Request::Ask(Ask { hash, bases: offered.clone(), lease, min_free });
            let known = Known { store: parcel.store, last: remote.line.last(), new: parcel.manifest };
            let (answer, ahead) = asked(talk, &question, &known, newest)?;
            let lacks = match answer {
                Answer::Have(have) => return Ok(delivered(remote, &hash, Progress::default(), have.how)),
                Answer::Lacks(lacks) => lacks,
                other => return Err(talk.unexpected(&other)),
            };
            if let Some(damaged) = &lacks.damaged {
                tell(Told::Line(&format!("sync: set aside what is damaged: {damaged}")));
            }
            // One that cannot be read here any more is as good as none, and so is one that nobody spoke of.
            let ahead = lacks.base.filter(|base| offered.contains(base)).and_then(|base| match ahead {
                Some(ahead) if ahead.base == base => Some(ahead),
                _ => Ahead::load(&known, base),
            });
            let whole;
            let (delta, base) = match &ahead {
                Some(ahead) => (&ahead.delta, Some(ahead.base)),
                None => {
                    whole = Delta::whole(Manifest::clone(parcel.manifest));
                    (&whole, None)
                }
            };
            let sent = send(talk, remote, parcel, delta, base, tell, cancel);
            let is_damaged =
                || ahead.as_ref().is_some_and(|ahead| ahead.is_damaged(parcel.store, parcel.manifest));
            let why = match sent {
                // Somebody else changed or removed it in between, or one of both is damaged here.
                Err(SyncError::Refused { fault: Fault::Base, message, .. }) if ahead.is_some() => message,
                Err(SyncError::Refused { fault: Fault::Content, message, .. }) if is_damaged() => message,
                Err(SyncError::Snapshot(error)) if is_damaged() => error.to_string(),
                other => return other,
            };
            // Once more, without a base.
            tell(Told::Line(&format!("sync: sending everything, because {why}")));
        }
    })?;
    remote.line.has(parcel.manifest);
    Ok(delivered)
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
    base: Option<ContentHash>,
    tell: &mut dyn FnMut(Told<'_>),
    cancel: &CancelToken,
) -> Result<Delivered, SyncError> {
    let hash = parcel.manifest.hash();
    let mut contents = match base {
        Some(_) => delta.contents_of(parcel.manifest),
        None => delta.contents(None),
    };
    let set = delta.set().encode();
    let request = Request::Receive(Receive {
        hash,
        base,
        gone_len: delta.gone().len() as u64,
        set_len: set.len() as u64,
        contents: sent(&contents),
        marker: marker(parcel.metadata, &hash, &tree_path(remote, &hash))?,
        lease: parcel.lease.clone(),
    });
    talk.say(&request)?;
    contents.retain(|content| content.base.is_none());
    let head = [delta.gone(), &set].concat();
    let parcels = Contents { parcel, delta, contents: &contents, cancel };
    let mut sent = Progress::default();
    let streamed = parcels.stream(head, |piece, progress| {
        talk.send(piece)?;
        sent = progress;
        tell(Told::Progress(progress));
        Ok(())
    });
    if let Err(error) = streamed {
        talk.abandon();
        return Err(error);
    }
    match talk.answer() {
        Ok(Answer::Have(have)) => Ok(delivered(remote, &hash, sent, have.how)),
        Ok(other) => Err(talk.unexpected(&other)),
        Err(error) => {
            if let SyncError::Refused { fault: Fault::Content, .. } = &error {
                parcels.prove()?;
            }
            Err(error)
        }
    }
}

/// Contents on their way.
struct Contents<'c> {
    parcel: &'c Parcel<'c>,
    delta: &'c Delta,
    contents: &'c [Content<'c>],
    cancel: &'c CancelToken,
}

impl Contents<'_> {
    /// Hands them over in large pieces, behind the `head`, each with how far that is. Much is read on a thread of its own,
    /// while what was read before is on its way. The host proves all of them.
    fn stream(
        &self,
        head: Vec<u8>,
        mut take: impl FnMut(&[u8], Progress) -> Result<(), SyncError>,
    ) -> Result<(), SyncError> {
        let of_bytes = self.contents.iter().map(|content| content.size).sum();
        let progress = Progress { of_files: self.contents.len() as u64, of_bytes, ..Progress::default() };
        if of_bytes < 4 * PIECE as u64 {
            return self.read(head, progress, |piece, progress| take(&piece, progress).map(|()| piece));
        }
        let (hand_over, pieces) = sync_channel(4);
        // Fresh memory costs more than what is copied to it.
        let (give_back, emptied) = channel();
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                self.read(head, progress, |piece, progress| {
                    // Nobody takes more once something went wrong there, which is what is told.
                    let gone =
                        |_| SyncError::System("nobody sends any more", io::ErrorKind::BrokenPipe.into());
                    hand_over.send((piece, progress)).map_err(gone)?;
                    Ok(emptied.try_recv().unwrap_or_default())
                })
            });
            let taken = pieces.into_iter().try_for_each(|(piece, progress): (Vec<u8>, _)| {
                take(&piece, progress)?;
                // Not when all is read.
                drop(give_back.send(piece));
                Ok(())
            });
            let read = reading.join().unwrap_or(Err(SnapshotError::Panicked.into()));
            taken.and(read)
        })
    }

    fn read(
        &self,
        head: Vec<u8>,
        mut progress: Progress,
        mut take: impl FnMut(Vec<u8>, Progress) -> Result<Vec<u8>, SyncError>,
    ) -> Result<(), SyncError> {
        let Parcel { store, .. } = self.parcel;
        // Nothing is collected while it is read.
        let _lock = store.lock_shared(self.cancel)?;
        let objects = store.objects()?;
        let mut reader = ObjectReader::new(&objects, &store.marks_dir());
        let mut buffer = head;
        for content in self.contents {
            let path = self.path_of(content);
            let mut length = 0;
            reader.read_unproven(&content.hash, path, |piece| {
                length += piece.len() as u64;
                progress.bytes += piece.len() as u64;
                buffer.extend_from_slice(piece);
                if buffer.len() < PIECE {
                    return Ok(());
                }
                buffer = take(std::mem::take(&mut buffer), progress)?;
                buffer.clear();
                Ok::<_, SyncError>(())
            })?;
            if length != content.size {
                let why = "its length is not that of its name";
                let (object, file) = (content.hash, shown(path));
                return Err(SnapshotError::DamagedObject { object, file, why }.into());
            }
            progress.files += 1;
        }
        take(buffer, progress).map(drop)
    }

    /// An error that names what is damaged in the store here, and notes it for the next snapshot to mend.
    fn prove(&self) -> Result<(), SyncError> {
        let Parcel { store, .. } = self.parcel;
        let _lock = store.lock_shared(self.cancel)?;
        let objects = store.objects()?;
        let mut reader = ObjectReader::new(&objects, &store.marks_dir());
        self.contents.iter().try_for_each(|content| {
            reader.read(&content.hash, self.path_of(content), |_| Ok::<_, SyncError>(()))
        })
    }

    /// Where a content is found first.
    fn path_of(&self, content: &Content<'_>) -> &[u8] {
        let first = content.entries.first().and_then(|&position| self.delta.set().at(position));
        first.map_or(b"", |entry| entry.path)
    }
}
