//! From a stream to a published tree: what is new is written aside and proven, then a tree is made of it and
//! the base, then it gets its name. Until that moment nothing else is changed.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jericho_manifest::at::{self, DirCursor};
use jericho_manifest::delta::Content;
use jericho_manifest::protocol::{Fault, How, Receive};
use jericho_manifest::shown::shown;
use jericho_manifest::{ContentHash, Delta, Encoded, MARKER};
use rustix::fs::{AtFlags, FlockOperation, Mode};
use rustix::io::Errno;

use super::input::Input;
use super::refused::Refused;
use super::shelf::{self, LARGEST_MANIFEST, Shelf};
use super::tree::{self, Place, Writer};
use super::work_dir::{self, WorkDir};
use super::{Base, Receiver, check, leases};

/// Takes what follows the question, publishes it, and leases it.
pub(super) fn receive(
    receiver: &Receiver,
    wanted: &Receive,
    base: Option<&Base>,
    input: &mut Input,
) -> Result<How, Refused> {
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
        let manifest = patch.encoded(wanted.hash).map_err(|error| unsound(causes(&error)))?;
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
        let taken = match base {
            None => {
                let tree = staging.sub_dir("snapshot")?;
                let place = Place::Tree(DirCursor::new(tree.as_fd()));
                write_contents(Writer::new(place, delta.set()), &contents, None, input)?;
                None
            }
            Some(base) => {
                let aside = staging.sub_dir("fresh")?;
                let old = shelf.open_snapshot(&base.hash).and_then(|dir| at::open_dir(dir, b"snapshot"));
                let old = old.map_err(|errno| gone_base(&base.hash, errno))?;
                let writer = Writer::new(Place::Aside(aside.as_fd()), delta.set());
                write_contents(writer, &contents, Some(&old), input)?;
                Some(Taken { base, old, aside })
            }
        };
        staging.write_manifest(&manifest)?;
        let used = match base.and_then(|base| shelf.used(&base.hash).zip(Some(base))) {
            Some((of_base, base)) => shelf.use_of_next(of_base, &receiver.engine, &base.manifest, &delta),
            None => shelf.fresh_use(&receiver.engine, &manifest),
        };
        shelf::write_used(&staging.dir, &used)
            .map_err(|errno| Refused::step("write who uses the snapshot", errno))?;
        Ok(Prepared { manifest, staging, taken })
    };
    // Nothing is made of it, and nothing of the base is touched, before it is proven to be what was asked for.
    let (proof, prepared) = beside(patch.encoded_len(), || patch.proof(), prepare);
    let Prepared { manifest, staging, taken } = prepared?;
    if !proof.is_of(&wanted.hash) {
        return Err(unsound(format!("what was sent is another snapshot than {}", wanted.hash)));
    }
    let how = match taken {
        None => How::Full,
        Some(Taken { base, old, aside }) => {
            let how = take_over(receiver, &staging, base, &manifest, &delta, &old)?;
            let move_in = || -> Result<(), Refused> {
                if how == How::Patched {
                    tree::remove_gone(old.as_fd(), &delta)?;
                }
                let tree = staging.sub_dir("snapshot")?;
                tree::move_in(tree.as_fd(), aside.as_fd(), delta.set())?;
                staging.remove("fresh")
            };
            // A list of many megabytes takes a while to go.
            let (removed, moved) = beside(patch.encoded_len(), || staging.remove("old"), move_in);
            moved.and(removed)?;
            how
        }
    };
    drop(patch);
    let manifest = Arc::new(manifest.proven_by(proof));
    staging.finish(wanted)?;
    let lock = work_dir.lock()?;
    let renamed = shelf::publish(shelf, &lock, &staging.name, &wanted.hash)?;
    receiver.leases.write(&lock, &wanted.hash, &wanted.lease)?;
    shelf.remember(&manifest);
    // Somebody else brought the same one meanwhile.
    Ok(if renamed { how } else { How::AlreadyThere })
}

/// What is there of a tree that has no name yet.
struct Prepared<'b> {
    manifest: Encoded,
    staging: Staging<'b>,
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
    /// Below this a thread costs more than it brings.
    const MANY: usize = 200 << 10;
    if bytes < MANY {
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
    if length > LARGEST_MANIFEST {
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
                writer.write(content, &mut file)?;
            }
            _ => writer.write(content, input)?,
        }
    }
    Ok(())
}

/// What stays of the base, and perhaps `old`: the tree itself when nobody else wants it, else links to its files.
fn take_over(
    receiver: &Receiver,
    staging: &Staging<'_>,
    base: &Base,
    manifest: &Encoded,
    delta: &Delta,
    old: &OwnedFd,
) -> Result<How, Refused> {
    let shelf = &receiver.shelf;
    let lock = receiver.work_dir.lock()?;
    let idle = !receiver.leases.in_use(&base.hash)?
        && shelf.used(&base.hash).is_some_and(|used| used.engine == receiver.engine);
    if !idle {
        drop(lock);
        let tree = staging.sub_dir("snapshot")?;
        tree::link_kept(old.as_fd(), tree.as_fd(), manifest, delta.set())?;
        return Ok(How::Linked);
    }
    let name = base.hash.to_string();
    rustix::fs::renameat(shelf.dir(), name.as_str(), &staging.dir, "old")
        .map_err(|errno| gone_base(&base.hash, errno))?;
    drop(lock);
    let moved = at::open_dir(&staging.dir, b"old")
        .and_then(|dir| rustix::fs::renameat(dir, "snapshot", &staging.dir, "snapshot"));
    moved.map_err(|errno| gone_base(&base.hash, errno))?;
    if !check::shadows_marker(&base.manifest) {
        // Of an earlier version.
        match rustix::fs::unlinkat(old, MARKER, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Refused::step("remove the marker of the base", errno)),
        }
    }
    Ok(How::Patched)
}

/// A directory that becomes a snapshot. Dropped, it is removed, unless it got its name.
struct Staging<'s> {
    shelf: &'s Shelf,
    name: String,
    /// Locked for as long as this process lives.
    dir: OwnedFd,
}

impl<'s> Staging<'s> {
    fn new(work_dir: &WorkDir, shelf: &'s Shelf) -> Result<Self, Refused> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let failed = |errno| Refused::step("make a directory for what is received", errno);
        // Nobody sweeps up between the two steps.
        let _lock = work_dir.lock()?;
        loop {
            let name = format!("tmp-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            match rustix::fs::mkdirat(shelf.dir(), name.as_str(), Mode::from_raw_mode(0o755)) {
                // Of a killed process with the same number.
                Err(Errno::EXIST) => continue,
                other => other.map_err(failed)?,
            }
            let dir = at::open_dir(shelf.dir(), name.as_bytes()).map_err(failed)?;
            work_dir::flock(dir.as_fd(), FlockOperation::NonBlockingLockExclusive).map_err(failed)?;
            return Ok(Self { shelf, name, dir });
        }
    }

    fn sub_dir(&self, name: &str) -> Result<OwnedFd, Refused> {
        work_dir::sub_dir(&self.dir, name)
    }

    fn remove(&self, name: &str) -> Result<(), Refused> {
        at::remove_all(self.dir.as_fd(), name.as_bytes())
            .map_err(|errno| Refused::step(format_args!("remove {name} of what is received"), errno))
    }

    fn write_manifest(&self, manifest: &Encoded) -> Result<(), Refused> {
        work_dir::write_new(&self.dir, "manifest", manifest.bytes())
            .map_err(|errno| Refused::step("write the manifest", errno))
    }

    /// The marker, last of all. Beside the tree: a job sees what the source has, and nothing else.
    fn finish(&self, wanted: &Receive) -> Result<(), Refused> {
        work_dir::write_new(&self.dir, MARKER, wanted.marker.as_bytes())
            .map_err(|errno| Refused::step("write the marker", errno))
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // Not there any more once it is published.
        let _ = at::remove_all(self.shelf.dir(), self.name.as_bytes());
    }
}
