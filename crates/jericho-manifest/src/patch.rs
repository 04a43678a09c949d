//! A manifest that is made of another one and a delta: told in pieces, proven without being put together, and put
//! together when there is time for it.

use std::sync::{Arc, OnceLock};

use crate::delta::{Delta, DeltaError};
use crate::encoded::{Encoded, Proof};
use crate::hash::ContentHash;
use crate::manifest::{Entry, HEADER, Manifest, ManifestError, push_record, record_end};
use crate::shown::shown;

/// A manifest that is made of another one: pieces of that, and entries between them.
#[derive(Debug)]
pub struct Patch<'d> {
    base: Option<&'d Encoded>,
    pieces: Vec<Piece>,
    fresh: Vec<u8>,
    set: &'d Manifest,
    /// The paths are those of the base, no more and no fewer.
    same_paths: bool,
}

/// Bytes of one of both.
#[derive(Debug)]
enum Piece {
    Base(std::ops::Range<usize>),
    Fresh(std::ops::Range<usize>),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Base(range) | Self::Fresh(range) => range.len(),
        }
    }
}

impl Delta {
    /// What results of it.
    ///
    /// # Errors
    /// [`DeltaError`] when this is not a delta of `base`, or the result is no sound manifest. Costs as much as
    /// the delta is large, and not as the base.
    pub fn patch<'d>(&'d self, base: Option<&'d Encoded>) -> Result<Patch<'d>, DeltaError> {
        let mut pieces = Pieces { base, ..Pieces::default() };
        pieces.fresh.extend_from_slice(HEADER);
        let mut news = self.set().iter().peekable();
        let mut all_gone: Vec<&[u8]> = Vec::new();
        for gone in self.gone_paths() {
            let found = base.map(|base| base.find(gone));
            let (Some(Ok(position)), true) = (found, all_gone.last().is_none_or(|&before| before < gone))
            else {
                return Err(DeltaError::Gone(shown(gone)));
            };
            all_gone.push(gone);
            while let Some(new) = news.next_if(|new| new.path < gone) {
                pieces.set(&new);
            }
            pieces.keep_until(position);
            pieces.next = position + 1;
        }
        news.for_each(|new| pieces.set(&new));
        pieces.keep_until(base.map_or(0, Encoded::len));
        pieces.end_fresh();
        let Pieces { pieces, fresh, new_paths, .. } = pieces;
        u32::try_from(pieces.iter().map(Piece::len).sum::<usize>()).map_err(|_| ManifestError::TooLarge)?;
        if let Some(base) = base {
            sound(base, &new_paths, &all_gone)?;
        }
        let same_paths = new_paths.is_empty() && all_gone.is_empty();
        Ok(Patch { base, pieces, fresh, set: self.set(), same_paths })
    }
}

/// What was sound stays so; a new path could lie in a file that stays, or one that stays in it.
fn sound(base: &Encoded, new_paths: &[&[u8]], gone: &[&[u8]]) -> Result<(), ManifestError> {
    let stays = |path: &[u8]| gone.binary_search(&path).is_err();
    for &path in new_paths {
        let above = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(end, _)| &path[..end]);
        let file = above.into_iter().find(|above| base.find(above).is_ok() && stays(above));
        let file = file.or_else(|| base.inside(path).any(stays).then_some(path));
        if let Some(file) = file {
            return Err(ManifestError::Conflict(shown(file)));
        }
    }
    Ok(())
}

impl Patch<'_> {
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let base = self.base.map_or(&[][..], Encoded::bytes);
        self.pieces.iter().map(move |piece| match piece {
            Piece::Base(range) => base.get(range.clone()).unwrap_or_default(),
            Piece::Fresh(range) => self.fresh.get(range.clone()).unwrap_or_default(),
        })
    }

    /// How many bytes it becomes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.pieces.iter().map(Piece::len).sum()
    }

    /// The content hash. Reads all of it, or what follows the first change where the base was proven so.
    #[must_use]
    pub fn proof(&self) -> Proof {
        let nothing = Proof::default();
        let (known, same) = match (self.base, self.pieces.get(..2)) {
            // The line that all manifests begin with, and what is kept of the base behind it.
            (Some(base), Some([Piece::Fresh(head), Piece::Base(kept)]))
                if head.len() == HEADER.len() && kept.start == HEADER.len() =>
            {
                (&base.proof, kept.end)
            }
            _ => (&nothing, 0),
        };
        Proof::of(self.pieces(), known, same)
    }

    /// The bytes together, named as is said. [`Patch::proof`] tells whether that is right.
    #[must_use]
    pub fn encoded(&self, hash: ContentHash) -> Encoded {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        let kept = self.base.map_or(0, Encoded::len);
        let mut starts: Vec<u32> = Vec::with_capacity(kept + self.set.len() + 1);
        let mut end = 0;
        for (piece, text) in self.pieces.iter().zip(self.pieces()) {
            // All ends fit: they were added up when this was made.
            let at = bytes.len();
            bytes.extend_from_slice(text);
            match (piece, self.base) {
                (Piece::Base(range), Some(base)) => {
                    let begins = |start: usize| base.starts.partition_point(|&at| (at as usize) < start);
                    let kept = base.starts.get(begins(range.start)..begins(range.end)).unwrap_or_default();
                    starts
                        .extend(kept.iter().map(|&start| start.wrapping_sub(range.start as u32) + at as u32));
                }
                _ => {
                    let mut from = if at == 0 { HEADER.len() } else { 0 };
                    while let Some(length) = text.get(from..).and_then(record_end) {
                        starts.push((at + from) as u32);
                        from += length + 1;
                    }
                }
            }
            end = bytes.len();
        }
        starts.push(end as u32);
        let directories = match self.base.and_then(|base| base.directories.get()) {
            Some(known) if self.same_paths => OnceLock::from(Arc::clone(known)),
            _ => OnceLock::new(),
        };
        Encoded { bytes, starts, hash, proof: Proof::default(), directories, firsts: OnceLock::new() }
    }
}

/// A patch that is being made.
#[derive(Default)]
struct Pieces<'b> {
    base: Option<&'b Encoded>,
    pieces: Vec<Piece>,
    fresh: Vec<u8>,
    /// How much of `fresh` is in a piece.
    told: usize,
    /// The entry of the base that is neither kept nor replaced yet.
    next: usize,
    new_paths: Vec<&'b [u8]>,
}

impl<'b> Pieces<'b> {
    /// Takes a new entry, in the place of one of the same path.
    fn set(&mut self, new: &Entry<'b>) {
        match self.base.map(|base| base.find(new.path)) {
            Some(Ok(position)) => {
                self.keep_until(position);
                self.next = self.next.max(position + 1);
            }
            Some(Err(position)) => {
                self.keep_until(position);
                self.new_paths.push(new.path);
            }
            // A manifest of its own, which was checked.
            None => {}
        }
        push_record(&mut self.fresh, new);
    }

    fn keep_until(&mut self, position: usize) {
        let Some(base) = self.base else { return };
        if position <= self.next {
            return;
        }
        let start = |position: usize| base.starts.get(position).map_or(base.bytes.len(), |&at| at as usize);
        self.end_fresh();
        self.pieces.push(Piece::Base(start(self.next)..start(position)));
        self.next = position;
    }

    fn end_fresh(&mut self) {
        if self.told < self.fresh.len() {
            self.pieces.push(Piece::Fresh(self.told..self.fresh.len()));
            self.told = self.fresh.len();
        }
    }
}
