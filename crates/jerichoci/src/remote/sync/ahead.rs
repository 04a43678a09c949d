//! What will most likely be needed once a host has answered, read while it looks.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jericho_manifest::Delta;
use jericho_manifest::protocol::{Answer, Request};

use super::error::SyncError;
use super::line::Talk;
use crate::snapshot::{ContentHash, Manifest, Store};

/// From this many entries on, reading two manifests takes longer than starting a thread.
const MANY: usize = 4000;

/// The difference to what the host most likely has. What was read of the store was not proven, and may have become
/// damaged there: what is made of it has a hash of its own.
pub(super) struct Ahead {
    pub(super) base: ContentHash,
    pub(super) delta: Delta,
}

/// What it is made of.
pub(super) struct Known<'k> {
    pub(super) store: &'k Store,
    /// What was delivered last over this line, by its hash; a conversation that was replaced knows no other.
    pub(super) last: Option<Arc<Manifest>>,
    /// What is to be delivered.
    pub(super) new: &'k Manifest,
}

impl Ahead {
    /// Nothing when the base cannot be read here.
    pub(super) fn load(known: &Known<'_>, base: ContentHash) -> Option<Self> {
        Self::load_unless(known, base, &AtomicBool::new(false))
    }

    fn load_unless(known: &Known<'_>, base: ContentHash, enough: &AtomicBool) -> Option<Self> {
        let Known { store, last, new } = known;
        if let Some(last) = last.as_ref().filter(|last| last.hash() == base) {
            return Some(Self { base, delta: Delta::of(last, new).ok()? });
        }
        let old = Until { file: File::open(store.manifest_path(&base)).ok()?, enough };
        // Reading it again costs less than encoding it.
        let length = new.encoded_len();
        let published = File::open(store.manifest_path(&new.hash())).ok();
        let published = published.filter(|file| file.metadata().is_ok_and(|found| found.len() == length));
        let delta = match published {
            Some(published) => Delta::between(old, published),
            None => Delta::between(old, &new.encode()[..]),
        };
        Some(Self { base, delta: delta.ok()? })
    }

    /// Whether what it was made of is damaged here.
    pub(super) fn is_damaged(&self, store: &Store, new: &Manifest) -> bool {
        let is = |hash: &ContentHash| is_sound(&store.manifest_path(hash), hash);
        !is(&self.base) || !is(&new.hash())
    }
}

fn is_sound(manifest: &Path, hash: &ContentHash) -> bool {
    std::fs::read(manifest).is_ok_and(|bytes| ContentHash::of(&bytes) == *hash)
}

/// A file that ends with an error as soon as nobody needs it any more.
struct Until<'e> {
    file: File,
    enough: &'e AtomicBool,
}

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.enough.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.file.read(into)
    }
}

/// Asks, and reads the newest base meanwhile, also while a channel is opened.
pub(super) fn asked(
    talk: &mut Talk<'_>,
    question: &Request,
    known: &Known<'_>,
    newest: Option<ContentHash>,
) -> Result<(Answer, Option<Ahead>), SyncError> {
    let Some(newest) = newest.filter(|_| known.new.len() >= MANY) else {
        return Ok((talk.ask(question)?, None));
    };
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| Ahead::load_unless(known, newest, &enough));
        let answer = talk.ask(question);
        if !matches!(answer, Ok(Answer::Lacks(_))) {
            enough.store(true, Ordering::Relaxed);
        }
        // A fault of it costs the difference, and is told where it is read again.
        let ahead = reading.join().ok().flatten();
        Ok((answer?, ahead))
    })
}
