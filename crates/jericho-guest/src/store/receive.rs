//! From a stream to a published tree: what is new is written aside and proven, then a tree is made of it and
//! the base, then it gets its name. Until that moment nothing else is changed.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use jericho_manifest::at::{self, DirCursor};
use jericho_manifest::delta::Content;
use jericho_manifest::protocol::{Fault, How, Receive};
use jericho_manifest::shown::shown;
use jericho_manifest::{ContentHash, Delta, Encoded, MARKER};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::input::Input;
use super::kept::{self, Late, Locked};
use super::look::Looking;
use super::refused::Refused;
use super::shelf;
use super::staging::Staging;
use super::tree::{self, Place, Writer};
use super::work_dir::WorkDir;
use super::{Base, Receiver, check, leases};

/// What came of it.
pub(super) struct Received {
    pub(super) how: How,
    /// What is left to do when that was told.
    pub(super) late: Option<Late>,
}

/// From this length on a manifest is worth a thread, and nobody waits until it is written.
const LONG: usize = 200 << 10;

/// Takes what follows the question, publishes it, and leases it.
pub(super) fn receive(
    receiver: &Receiver,
    wanted: &Receive,
    base: Option<&Base>,
    looking: Option<&mut Looking>,
    input: &mut Input,
) -> Result<Received, Refused> {
    leases::check_name("lease", &wanted.lease.id).map_err(unread)?;
    let base = match wanted.base {
        None => None,
        Some(hash) => Some(base.filter(|base| base.hash == hash).ok_or_else(|| {
            Refused::new(Fault::Base, format!("snapshot {hash} is not claimed by this conversation"))
        })?),
    };
    let base_manifest = base.map(|base| &*base.manifest);
    let gone = part(input, wanted.gone_len)?;
    let set = part(input, wanted.set_len)?;
    let unsound = |why: String| Refused::new(Fault::Content, why);
    let delta = Delta::decode(gone, &set).map_err(|error| unsound(causes(&error)))?;
    drop(set);
    let patch = delta.patch(base_manifest).map_err(|error| unsound(causes(&error)))?;
    if !shelf::is_marker_of(wanted.marker.as_bytes(), &wanted.hash) {
        return Err(unsound("the marker is that of another snapshot".to_owned()));
    }
    let (work_dir, shelf) = (&receiver.work_dir, &receiver.shelf);
    let prepare = || -> Result<Prepared<'_>, Refused> {
        shelf.sweep(work_dir, &receiver.leases, false)?;
        let contents = delta.contents(base_manifest);
        if jericho_manifest::delta::sent(&contents) != wanted.contents {
            return Err(Refused::new(
                Fault::Base,
                "the base is another one here, and so other contents are missing",
            ));
        }
        make_sure_of_space(work_dir, &contents)?;
        let staging = Staging::new(work_dir, shelf)?;
        let Some(base) = base else {
            let tree = staging.sub_dir("snapshot")?;
            let place = Place::Tree(DirCursor::new(tree.as_fd()));
            write_contents(Writer::new(place, delta.set()), &contents, None, input)?;
            let manifest = patch.encoded(wanted.hash);
            staging.write_manifest(&manifest)?;
            staging.write_used(&shelf.fresh_use(&receiver.engine, &manifest))?;
            return Ok(Prepared { staging, manifest: Some(manifest), taken: None });
        };
        let aside = staging.sub_dir("fresh")?;
        let dir = shelf.open_snapshot(&base.hash).map_err(|errno| gone_base(&base.hash, errno))?;
        let old = at::open_dir(&dir, b"snapshot").map_err(|errno| gone_base(&base.hash, errno))?;
        let writer = Writer::new(Place::Aside(aside.as_fd()), delta.set());
        write_contents(writer, &contents, Some(&old), input)?;
        let manifest = if patch.encoded_len() >= LONG && kept::is_whole(&dir) {
            staging.write_delta(&base.hash, &delta)?;
            None
        } else {
            let manifest = patch.encoded(wanted.hash);
            staging.write_manifest(&manifest)?;
            Some(manifest)
        };
        // Nothing of the base was touched so far, nor used but what was proven.
        if let Some(Err(why)) = looking.map(|looking| looking.found()) {
            return Err(Refused::new(Fault::Base, why.clone()));
        }
        let used = match shelf.used(&base.hash) {
            Some(of_base) => shelf.use_of_next(of_base, &receiver.engine, &base.manifest, &delta),
            None => shelf.fresh_use(&receiver.engine, &patch.encoded(wanted.hash)),
        };
        staging.write_used(&used)?;
        Ok(Prepared { staging, manifest, taken: Some(Taken { base, old, aside }) })
    };
    // Nothing is made of it, and nothing of the base is touched, before it is proven to be what was asked for.
    let (proof, prepared) = beside(patch.encoded_len(), || patch.proof(), prepare);
    let Prepared { staging, mut manifest, taken } = prepared?;
    if !proof.is_of(&wanted.hash) {
        return Err(unsound(format!("what was sent is another snapshot than {}", wanted.hash)));
    }
    let how = match &taken {
        None => How::Full,
        Some(Taken { base, old, aside }) => {
            let how = take_over(receiver, &staging, base, manifest.is_none(), old)?;
            if how == How::Patched {
                tree::remove_gone(old.as_fd(), &delta)?;
            } else {
                let manifest = match &manifest {
                    Some(manifest) => manifest,
                    None => {
                        let all = manifest.insert(patch.encoded(wanted.hash));
                        staging.write_manifest(all)?;
                        all
                    }
                };
                let tree = staging.sub_dir("snapshot")?;
                tree::link_kept(old.as_fd(), tree.as_fd(), manifest, delta.set())?;
            }
            let tree = staging.sub_dir("snapshot")?;
            tree::move_in(tree.as_fd(), aside.as_fd(), delta.set())?;
            staging.remove("fresh")?;
            how
        }
    };
    drop(patch);
    staging.finish(wanted)?;
    let lock = work_dir.lock()?;
    let renamed = shelf::publish(shelf, &lock, &staging.name, &wanted.hash)?;
    receiver.leases.write(&lock, &wanted.hash, &wanted.lease)?;
    drop(lock);
    let late = match (manifest, base) {
        (Some(manifest), _) => {
            shelf.remember(&Arc::new(manifest.proven_by(proof)));
            None
        }
        (None, Some(base)) => {
            Some(Late { hash: wanted.hash, base: Arc::clone(&base.manifest), delta, proof })
        }
        (None, None) => None,
    };
    // Somebody else brought the same one meanwhile.
    Ok(Received { how: if renamed { how } else { How::AlreadyThere }, late })
}

/// What is there of a tree that has no name yet.
struct Prepared<'b> {
    staging: Staging<'b>,
    /// Written; nothing when there is time for that later.
    manifest: Option<Encoded>,
    /// Nothing when the tree is complete.
    taken: Option<Taken<'b>>,
}

/// What came for a tree that is made of another one.
struct Taken<'b> {
    base: &'b Base,
    /// The tree of the base.
    old: OwnedFd,
    /// The directory of the new files.
    aside: OwnedFd,
}

/// Does both, at the same time when a manifest has many bytes.
fn beside<A: Send, B>(bytes: usize, other: impl FnOnce() -> A + Send, own: impl FnOnce() -> B) -> (A, B) {
    if bytes < LONG {
        return (other(), own());
    }
    std::thread::scope(|scope| {
        let other = scope.spawn(other);
        let own = own();
        (other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), own)
    })
}

/// A fault after which what was sent with the question is still to be read.
fn unread(refused: Refused) -> Refused {
    Refused { fault: Fault::Content, ..refused }
}

fn causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn gone_base(hash: &ContentHash, errno: Errno) -> Refused {
    let refused = Refused::step(format_args!("open the tree of snapshot {hash}"), errno);
    Refused { fault: Fault::Base, ..refused }
}

fn part(input: &mut Input, length: u64) -> Result<Vec<u8>, Refused> {
    if length > kept::LARGEST {
        return Err(Refused::new(Fault::Content, format!("{length} bytes of entries are too many")));
    }
    let mut bytes = Vec::new();
    let read = input.by_ref().take(length).read_to_end(&mut bytes);
    read.map_err(|error| Refused::io("read what is sent", &error))?;
    if bytes.len() as u64 != length {
        return Err(Refused::new(Fault::System, "the stream ended before its end"));
    }
    Ok(bytes)
}

/// Told before anything is written; the disk may still be filled by others meanwhile.
fn make_sure_of_space(work_dir: &WorkDir, contents: &[Content<'_>]) -> Result<(), Refused> {
    let files = |content: &Content<'_>| content.entries.len() as u64;
    let of = |content: &Content<'_>| {
        content.size.div_ceil(4096).saturating_mul(4096).saturating_mul(files(content))
    };
    let needed = contents.iter().map(of).fold(0, u64::saturating_add);
    let free = work_dir.space()?.free;
    if needed > free {
        let path = work_dir.path().display();
        let message =
            format!("the snapshot needs {} MiB and {path} has {} MiB left", needed >> 20, free >> 20);
        return Err(Refused::new(Fault::NoSpace, message));
    }
    Ok(())
}

/// Those that the base has are copied from it, the others read from the stream.
fn write_contents(
    mut writer: Writer<'_>,
    contents: &[Content<'_>],
    base: Option<&OwnedFd>,
    input: &mut Input,
) -> Result<(), Refused> {
    for content in contents {
        match (content.base, base) {
            (Some(path), Some(base)) => {
                let (dir, name) = at::split(path);
                let mut cursor = DirCursor::new(base.as_fd());
                let opened = cursor.enter(dir).map_err(Into::into);
                let opened = opened.and_then(|parent| check::open_file(parent, name));
                let mut file = opened.map_err(|error| {
                    let refused = Refused::io(format_args!("read {} of the base", shown(path)), &error);
                    Refused { fault: Fault::Base, ..refused }
                })?;
                writer.write(content, &mut file).map_err(|refused| match refused.fault {
                    // It may be there and short of what it had.
                    Fault::System => {
                        let message = format!("cannot copy {} of the base: {}", shown(path), refused.message);
                        Refused::new(Fault::Base, message)
                    }
                    _ => refused,
                })?;
            }
            _ => writer.write(content, input)?,
        }
    }
    Ok(())
}

/// Takes the tree of the base when nobody else wants it, and its manifest where that is to be a part of the new one.
/// Else nothing: links to its files will do.
fn take_over(
    receiver: &Receiver,
    staging: &Staging<'_>,
    base: &Base,
    with_manifest: bool,
    tree: &OwnedFd,
) -> Result<How, Refused> {
    let shelf = &receiver.shelf;
    let lock = receiver.work_dir.lock()?;
    let idle = !receiver.leases.in_use(&base.hash)?
        && shelf.used(&base.hash).is_some_and(|used| used.engine == receiver.engine);
    if !idle {
        return Ok(How::Linked);
    }
    let gone = |errno| gone_base(&base.hash, errno);
    let name = base.hash.to_string();
    rustix::fs::renameat(shelf.dir(), name.as_str(), &staging.dir, "old").map_err(gone)?;
    drop(lock);
    let old = at::open_dir(&staging.dir, b"old").map_err(gone)?;
    let locked =
        Locked::wait(&old).map_err(|errno| Refused::step("wait for the manifest of the base", errno))?;
    rustix::fs::renameat(&old, "snapshot", &staging.dir, "snapshot").map_err(gone)?;
    if with_manifest {
        rustix::fs::renameat(&old, kept::WHOLE, &staging.dir, kept::BASE).map_err(gone)?;
    }
    staging.remove("old")?;
    drop(locked);
    if !check::shadows_marker(&base.manifest) {
        // Of an earlier version.
        match rustix::fs::unlinkat(tree, MARKER, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Refused::step("remove the marker of the base", errno)),
        }
    }
    Ok(How::Patched)
}
