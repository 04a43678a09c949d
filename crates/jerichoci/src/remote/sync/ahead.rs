//! What will most likely be needed once a host has answered, read while it looks.

use std::sync::atomic::{AtomicBool, Ordering};

use jericho_manifest::protocol::{Answer, Request};
use jericho_manifest::{Delta, Encoded};

use super::error::SyncError;
use super::line::Talk;
use crate::snapshot::{ContentHash, Manifest, Store};

/// From this many entries on, reading two manifests takes longer than starting a thread.
const MANY: usize = 4000;

/// The two manifests between which the difference is wanted.
pub(super) struct Ahead {
    /// As it lies in the store, which may have become damaged: what is made of it has a hash of its own.
    pub(super) base: Encoded,
    /// The bytes of the new one.
    new: Vec<u8>,
}

impl Ahead {
    /// Nothing when the base cannot be read here.
    pub(super) fn load(store: &Store, new: &Manifest, base: ContentHash) -> Option<Self> {
        Self::load_unless(store, new, base, &AtomicBool::new(false))
    }

    fn load_unless(store: &Store, new: &Manifest, base: ContentHash, enough: &AtomicBool) -> Option<Self> {
        let bytes = std::fs::read(store.manifest_path(&base)).ok()?;
        if enough.load(Ordering::Relaxed) {
            return None;
        }
        let base = Encoded::unproven(bytes, base).ok()?;
        if enough.load(Ordering::Relaxed) {
            return None;
        }
        // Reading them again costs less than encoding them.
        let published = std::fs::read(store.manifest_path(&new.hash())).ok();
        let published = published.filter(|bytes| bytes.len() as u64 == new.encoded_len());
        Some(Self { base, new: published.unwrap_or_else(|| new.encode()) })
    }

    /// What turns the one into the other; nothing when one of them is seen to be damaged.
    pub(super) fn delta(&self) -> Option<Delta> {
        Delta::between(&self.base, &self.new).ok()
    }
}

/// Asks, and reads the newest base meanwhile.
pub(super) fn asked(
    talk: &mut Talk<'_>,
    question: &Request,
    store: &Store,
    new: &Manifest,
    newest: Option<ContentHash>,
) -> Result<(Answer, Option<Ahead>), SyncError> {
    talk.say(question)?;
    let Some(newest) = newest.filter(|_| new.len() >= MANY) else { return Ok((talk.answer()?, None)) };
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| Ahead::load_unless(store, new, newest, &enough));
        let answer = talk.answer();
        if !matches!(answer, Ok(Answer::Lacks(_))) {
            enough.store(true, Ordering::Relaxed);
        }
        // A fault of it costs the difference, and is told where it is read again.
        let ahead = reading.join().ok().flatten();
        Ok((answer?, ahead))
    })
}
