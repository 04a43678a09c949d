//! The manifest of a snapshot on the disk: `manifest`; or, until there was time to write that, the one of the tree that
//! it was made of and the difference.
//!
//! Of 12 MB one line has changed, and who asked for the tree need not wait until all of them are written again. Both
//! files together are as good as the whole: what results of them is proven by its hash like any manifest. Nothing is
//! taken away before `manifest` is complete, so that whoever is killed meanwhile costs the next one some
//! milliseconds and nobody a tree.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use jericho_manifest::encoded::Proof;
use jericho_manifest::{ContentHash, Delta, Encoded, at};
use rustix::fs::{AtFlags, FlockOperation};
use rustix::io::Errno;

use super::work_dir;

/// Most bytes of a manifest.
pub(super) const LARGEST: u64 = 1 << 30;
/// The whole.
pub(super) const WHOLE: &str = "manifest";
/// That of the tree that this one was made of.
pub(super) const BASE: &str = "manifest.base";
/// A line with the hash of that and the length of the paths that go, those, and the entries that come.
const DELTA: &str = "manifest.delta";
/// The whole while it is written.
const NEW: &str = "manifest.new";

/// A manifest that is told by a base and a difference, proven, and not put together yet.
pub(super) struct Late {
    pub(super) hash: ContentHash,
    pub(super) base: Arc<Encoded>,
    pub(super) delta: Delta,
    pub(super) proof: Proof,
}

impl Late {
    /// In memory.
    pub(super) fn manifest(self) -> Option<Encoded> {
        // It was made of the same two before.
        let patch = self.delta.patch(Some(&self.base)).ok()?;
        Some(patch.encoded(self.hash).proven_by(self.proof))
    }
}

/// Writes a manifest, which takes the place of a difference.
pub(super) fn write(dir: impl AsFd, manifest: &Encoded) -> rustix::io::Result<()> {
    work_dir::write_new(&dir, WHOLE, manifest.bytes())?;
    remove(dir, DELTA)
}

fn remove(dir: impl AsFd, part: &str) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(dir, part, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether there is one that is not told in two parts.
pub(super) fn is_whole(dir: impl AsFd) -> bool {
    at::lstat(dir, WHOLE.as_bytes()).is_ok()
}

/// Writes the difference. Its base is to be moved beside it.
pub(super) fn write_delta(dir: impl AsFd, base: &ContentHash, delta: &Delta) -> rustix::io::Result<()> {
    let head = format!("{base} {}\n", delta.gone().len());
    work_dir::write_new(dir, DELTA, &[head.as_bytes(), delta.gone(), &delta.set().encode()].concat())
}

/// Whether a manifest that is known is still there. `dir` is the directory of the snapshot.
pub(super) fn look(dir: impl AsFd, known: &Encoded) -> Result<(), String> {
    let length = |name: &str| at::lstat(&dir, name.as_bytes()).map(|stat| u64::try_from(stat.st_size));
    match length(WHOLE) {
        Ok(Ok(length)) if length == known.bytes().len() as u64 => Ok(()),
        Ok(_) => Err("its manifest has another length".to_owned()),
        Err(Errno::NOENT) if length(BASE).and(length(DELTA)).is_ok() => Ok(()),
        // Put together since.
        Err(Errno::NOENT) if length(WHOLE) == Ok(Ok(known.bytes().len() as u64)) => Ok(()),
        Err(errno) => Err(format!("its manifest is missing ({errno})")),
    }
}

/// Reads and proves a manifest. One in two parts is put together for the next one.
pub(super) fn read(dir: &OwnedFd, hash: &ContentHash) -> Result<Encoded, String> {
    let whole = || match work_dir::read(dir, WHOLE, LARGEST) {
        Err(error) => Err(format!("its manifest cannot be read ({error})")),
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => match Encoded::own(bytes, *hash) {
            Some(manifest) => Ok(Some(manifest)),
            None => Err("its manifest is another one".to_owned()),
        },
    };
    if let Some(manifest) = whole()? {
        return Ok(manifest);
    }
    if let Some(manifest) = of_parts(dir, hash)? {
        // As good as it is where there is no room for more.
        let _ = put_together(dir, &manifest);
        return Ok(manifest);
    }
    // Whoever made it may have put it together in between.
    whole()?.ok_or_else(|| "its manifest is missing".to_owned())
}

/// Nothing where one of both is missing.
fn of_parts(dir: &OwnedFd, hash: &ContentHash) -> Result<Option<Encoded>, String> {
    let part = |name| {
        let bytes = work_dir::read(dir, name, LARGEST);
        bytes.map_err(|error| format!("a part of its manifest cannot be read ({error})"))
    };
    let Some((base, delta)) = part(BASE)?.zip(part(DELTA)?) else { return Ok(None) };
    let manifest = split(delta).and_then(|(base_hash, delta)| {
        let base = Encoded::own(base, base_hash)?;
        let patch = delta.patch(Some(&base)).ok()?;
        let proof = patch.proof();
        proof.is_of(hash).then(|| patch.encoded(*hash).proven_by(proof))
    });
    manifest.map(Some).ok_or_else(|| "its manifest is another one".to_owned())
}

fn split(mut delta: Vec<u8>) -> Option<(ContentHash, Delta)> {
    let end = delta.iter().position(|&byte| byte == b'\n')?;
    let (base, length) = std::str::from_utf8(delta.get(..end)?).ok()?.split_once(' ')?;
    let (base, length) = (base.parse().ok()?, length.parse::<usize>().ok()?);
    let rest = delta.split_off(end + 1);
    let (gone, set) = rest.split_at_checked(length)?;
    Some((base, Delta::decode(gone.to_vec(), set).ok()?))
}

/// Writes the whole, and removes what it was told by until now. One at a time does it, and nobody moves or removes the
/// directory meanwhile.
pub(super) fn put_together(dir: &OwnedFd, manifest: &Encoded) -> rustix::io::Result<()> {
    let _locked = Locked::wait(dir)?;
    match at::lstat(dir, WHOLE.as_bytes()) {
        Ok(_) => {}
        Err(Errno::NOENT) => {
            let written = work_dir::write_new(dir, NEW, manifest.bytes())
                .and_then(|()| rustix::fs::renameat(dir, NEW, dir, WHOLE));
            if written.is_err() {
                let _ = rustix::fs::unlinkat(dir, NEW, AtFlags::empty());
                return written;
            }
        }
        Err(errno) => return Err(errno),
    }
    remove(dir, DELTA)?;
    remove(dir, BASE)
}

/// The directory of a snapshot while its manifest is put together or moved.
pub(super) struct Locked<'d>(&'d OwnedFd);

impl<'d> Locked<'d> {
    /// Waits for whoever has it.
    pub(super) fn wait(dir: &'d OwnedFd) -> rustix::io::Result<Self> {
        work_dir::flock(dir.as_fd(), FlockOperation::LockExclusive)?;
        Ok(Self(dir))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // It ends with the descriptor at the latest.
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}
