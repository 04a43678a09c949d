//! Hosts without a receiver, a Mac for one: the whole tree as a tar stream, published by rename.
//!
//! Such a host keeps no leases and no manifests, so that every other snapshot is sent whole and nothing is
//! collected. What is there is told by its marker alone.

use std::path::Path;
use std::time::Duration;

use jericho_host::{CancelToken, Command, Conversation, Exit, Host as _, HostError, SshHost};
use jericho_manifest::protocol::{Fault, How};
use jericho_manifest::{Entry, EntryKind, MARKER};

use super::error::SyncError;
use super::{Delivered, Progress, Told, attempts, send};
use crate::snapshot::objects::ObjectReader;
use crate::snapshot::{ContentHash, Manifest, SnapshotError, SnapshotMetadata, Store};

/// What the host does with the stream. Arguments: the directory of the snapshots, the hash, a name that nobody
/// else has.
const UNPACK: &str = include_str!("unpack.sh");

/// A block of a tar stream.
const BLOCK: usize = 512;
/// What is sent at once.
const PIECE: usize = 256 << 10;

/// Makes sure that a host without a receiver has a snapshot. `fresh` is a name that nobody else has.
///
/// # Errors
/// As [`deliver`](super::deliver).
#[expect(clippy::too_many_arguments, reason = "those of `deliver`, without what such a host cannot have")]
pub fn deliver_by_tar(
    ssh: &SshHost,
    work_dir: &Path,
    store: &Store,
    manifest: &Manifest,
    metadata: &SnapshotMetadata,
    fresh: &str,
    tell: &mut dyn FnMut(Told<'_>),
    cancel: &CancelToken,
) -> Result<Delivered, SyncError> {
    let parcel = Parcel { work_dir, store, manifest, metadata, fresh };
    attempts(&manifest.hash(), ssh, store, cancel, tell, |tell| once(ssh, &parcel, tell, cancel))
}

struct Parcel<'p> {
    work_dir: &'p Path,
    store: &'p Store,
    manifest: &'p Manifest,
    metadata: &'p SnapshotMetadata,
    fresh: &'p str,
}

fn once(
    ssh: &SshHost,
    parcel: &Parcel<'_>,
    tell: &mut dyn FnMut(Told<'_>),
    cancel: &CancelToken,
) -> Result<Delivered, SyncError> {
    let hash = parcel.manifest.hash();
    let shelf = parcel.work_dir.join("snapshots");
    let dir = shelf.join(hash.to_string());
    let path = dir.join("snapshot");
    if is_there(ssh, &dir, &hash)? {
        return Ok(Delivered { path, sent_files: 0, sent_bytes: 0, how: How::AlreadyThere });
    }
    let marker = send::marker(parcel.metadata, &hash, &path)?;
    let command = Command::new("sh")
        .args(["-c", UNPACK, "sh"])
        .arg(parcel.work_dir)
        .arg(hash.to_string())
        .arg(parcel.fresh)
        .grace(Duration::from_secs(10));
    let conversation = ssh.converse(&command, cancel)?;
    let total = Progress {
        of_files: parcel.manifest.len() as u64,
        of_bytes: parcel.manifest.total_size(),
        ..Progress::default()
    };
    let mut out = Out { conversation, buffer: Vec::with_capacity(2 * PIECE), progress: total, tell };
    let time = parcel.metadata.created_at.timestamp();
    stream(&mut out, parcel, time, cancel)?;
    // The last: a stream that is cut off has none.
    out.file(MARKER.as_bytes(), marker.as_bytes(), time)?;
    out.push(&[0; 2 * BLOCK])?;
    out.flush()?;
    let sent = out.progress;
    let output = out.conversation.finish()?;
    if output.exit != Exit::Code(0) {
        return Err(refused(ssh, &String::from_utf8_lossy(&output.stderr)));
    }
    Ok(Delivered { path, sent_files: sent.files, sent_bytes: sent.bytes, how: How::Full })
}

fn refused(ssh: &SshHost, said: &str) -> SyncError {
    let fault = match said {
        said if said.contains("No space left") || said.contains("quota") => Fault::NoSpace,
        said if said.contains("work dir") => Fault::WorkDir,
        _ => Fault::System,
    };
    let lines: Vec<&str> = said.lines().rev().take(3).map(str::trim).collect();
    let message = lines.into_iter().rev().collect::<Vec<_>>().join("; ");
    SyncError::Refused { host: ssh.label().to_owned(), fault, message }
}

/// By its marker, which is written last.
fn is_there(ssh: &SshHost, dir: &Path, hash: &ContentHash) -> Result<bool, SyncError> {
    match ssh.read(&dir.join(MARKER)) {
        Ok(text) => {
            let marker = serde_json::from_slice::<SnapshotMetadata>(&text);
            Ok(marker.is_ok_and(|marker| marker.content_hash == Some(*hash)))
        }
        Err(HostError::File { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn stream(
    out: &mut Out<'_, '_>,
    parcel: &Parcel<'_>,
    time: i64,
    cancel: &CancelToken,
) -> Result<(), SyncError> {
    // Nothing is collected while it is read.
    let _lock = parcel.store.lock_shared(cancel)?;
    let objects = parcel.store.objects()?;
    let mut reader = ObjectReader::new(&objects, &parcel.store.marks_dir());
    for entry in parcel.manifest.iter() {
        let name = [b"snapshot/", entry.path].concat();
        if entry.kind == EntryKind::Symlink {
            let target = reader.read_all(&entry.hash, entry.path)?;
            out.header(&name, 0o777, 0, time, Kind::Link(&target))?;
        } else {
            out.header(&name, mode_of(&entry), entry.size, time, Kind::File)?;
            let mut length = 0;
            reader.read(&entry.hash, entry.path, |piece| {
                length += piece.len() as u64;
                out.push(piece)
            })?;
            if length != entry.size {
                let why = "its length is not that of its name";
                let file = jericho_manifest::shown::shown(entry.path);
                return Err(SnapshotError::DamagedObject { object: entry.hash, file, why }.into());
            }
            out.pad(entry.size)?;
        }
        out.progress.files += 1;
        out.progress.bytes += entry.size;
    }
    Ok(())
}

fn mode_of(entry: &Entry<'_>) -> u32 {
    if entry.kind == EntryKind::Executable { 0o755 } else { 0o644 }
}

enum Kind<'k> {
    File,
    Link(&'k [u8]),
}

/// Bytes on their way, in large pieces.
struct Out<'o, 'c> {
    conversation: Conversation<'c>,
    buffer: Vec<u8>,
    progress: Progress,
    tell: &'o mut dyn FnMut(Told<'_>),
}

impl Out<'_, '_> {
    fn file(&mut self, name: &[u8], content: &[u8], time: i64) -> Result<(), SyncError> {
        self.header(name, 0o644, content.len() as u64, time, Kind::File)?;
        self.push(content)?;
        self.pad(content.len() as u64)
    }

    fn header(
        &mut self,
        name: &[u8],
        mode: u32,
        size: u64,
        time: i64,
        kind: Kind<'_>,
    ) -> Result<(), SyncError> {
        let (flag, target) = match kind {
            Kind::File => (b'0', &b""[..]),
            Kind::Link(target) => (b'2', target),
        };
        // What does not fit into a header goes before it, as both GNU tar and bsdtar read it.
        for (long, flag) in [(target, b'K'), (name, b'L')] {
            if long.len() > 100 {
                let text = [long, b"\0"].concat();
                self.push(&block(b"././@LongLink", 0, text.len() as u64, 0, flag, b""))?;
                self.push(&text)?;
                self.pad(text.len() as u64)?;
            }
        }
        self.push(&block(name, mode, size, time, flag, target))
    }

    fn pad(&mut self, size: u64) -> Result<(), SyncError> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        self.push(&[0; BLOCK][..(BLOCK - over) % BLOCK])
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), SyncError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SyncError> {
        self.conversation.send(&self.buffer)?;
        self.buffer.clear();
        (self.tell)(Told::Progress(self.progress));
        Ok(())
    }
}

/// One header.
fn block(name: &[u8], mode: u32, size: u64, time: i64, flag: u8, target: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(0, &name[..name.len().min(100)]);
    put(100, format!("{mode:07o}\0{:07o}\0{:07o}\0", 0, 0).as_bytes());
    if size < 1 << 33 {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        // In binary, with the highest bit set.
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    }
    put(136, format!("{:011o}\0        ", time.max(0)).as_bytes());
    put(156, &[flag]);
    put(157, &target[..target.len().min(100)]);
    put(257, b"ustar  \0");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    for (to, from) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").into_bytes()) {
        *to = from;
    }
    block
}
