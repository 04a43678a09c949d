//! The difference of two manifests that are read side by side: of 100 000 entries one is changed, and what is the same
//! in both is compared and forgotten.

use std::cmp::Ordering;
use std::io::{self, Read};

use crate::delta::Delta;
use crate::manifest::{Entry, HEADER, Manifest, ManifestError, decode_record, push_record, record_end};

/// What is read at once: it stays in the cache of a processor.
const WINDOW: usize = 256 << 10;
/// With less than this more is read.
const LOW: usize = WINDOW / 4;

/// Why two manifests could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BetweenError {
    /// One of them cannot be read.
    #[error("cannot read a manifest")]
    Read(#[from] io::Error),
    /// One of them is not what it should be.
    #[error("a manifest is not sound")]
    Manifest(#[from] ManifestError),
}

impl Delta {
    /// What turns `base` into `new`, both in their format. Costs reading them once, and little more for each
    /// difference.
    ///
    /// # Errors
    /// [`BetweenError`], also when one of them is not what it should be, as far as that is seen.
    pub fn between(base: impl Read, new: impl Read) -> Result<Self, BetweenError> {
        let (mut old, mut new) = (Window::open(base)?, Window::open(new)?);
        let (mut gone, mut set, mut left) = (Vec::new(), HEADER.to_vec(), Vec::new());
        loop {
            old.fill()?;
            new.fill()?;
            // Both are at the start of an entry, and what ends in the same bytes is the same.
            let shared = shared_prefix(old.bytes(), new.bytes());
            let same = old.bytes()[..shared].iter().rposition(|&byte| byte == 0).map_or(0, |nul| nul + 1);
            if same > 0 {
                old.pass(same);
                new.pass(same);
                continue;
            }
            let (before_len, after_len) = (old.record_len()?, new.record_len()?);
            if let (Some(before), Some(after)) = (before_len, after_len)
                && old.bytes()[..before] == new.bytes()[..after]
            {
                // So long that neither was there to its end.
                old.pass(before);
                new.pass(after);
                continue;
            }
            let before = before_len.map(|length| old.entry(length)).transpose()?;
            let after = after_len.map(|length| new.entry(length)).transpose()?;
            let Some(order) = order(before.as_ref(), after.as_ref()) else { break };
            if let (Some(before), Ordering::Less) = (&before, order) {
                gone.extend_from_slice(before.path);
                gone.push(0);
            }
            if let (Some(length), Ordering::Less | Ordering::Equal) = (before_len, order) {
                left.extend_from_slice(&old.bytes()[..length]);
                old.pass(length);
            }
            if let (Some(length), Ordering::Greater | Ordering::Equal) = (after_len, order) {
                set.extend_from_slice(&new.bytes()[..length]);
                new.pass(length);
            }
        }
        Ok(Self { gone, set: Manifest::decode(&set)?, left })
    }
}

/// Which of two next entries comes first; nothing at the end of both.
fn order(before: Option<&Entry<'_>>, after: Option<&Entry<'_>>) -> Option<Ordering> {
    match (before, after) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(before), Some(after)) => Some(before.path.cmp(after.path)),
    }
}

impl Delta {
    /// The same of two that are in memory.
    ///
    /// # Errors
    /// None that a sound manifest has.
    pub fn of(base: &Manifest, new: &Manifest) -> Result<Self, ManifestError> {
        let (mut gone, mut set, mut left) = (Vec::new(), HEADER.to_vec(), Vec::new());
        let (mut at_base, mut at_new) = (0, 0);
        loop {
            let same = base.same_from(at_base, new, at_new);
            (at_base, at_new) = (at_base + same, at_new + same);
            let (before, after) = (base.at(at_base), new.at(at_new));
            let Some(order) = order(before.as_ref(), after.as_ref()) else { break };
            if let (Some(before), Ordering::Less) = (&before, order) {
                gone.extend_from_slice(before.path);
                gone.push(0);
            }
            if let (Some(before), Ordering::Less | Ordering::Equal) = (&before, order) {
                push_record(&mut left, before);
                at_base += 1;
            }
            if let (Some(after), Ordering::Greater | Ordering::Equal) = (&after, order) {
                push_record(&mut set, after);
                at_new += 1;
            }
        }
        Ok(Self { gone, set: Manifest::decode(&set)?, left })
    }
}

/// A part of a manifest that begins with an entry, and moves on.
struct Window<R> {
    from: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Nothing follows what is in the buffer.
    ended: bool,
}

impl<R: Read> Window<R> {
    fn open(from: R) -> Result<Self, BetweenError> {
        let mut window = Self { from, buffer: vec![0; WINDOW], start: 0, end: 0, ended: false };
        window.read_more()?;
        if !window.bytes().starts_with(HEADER) {
            return Err(ManifestError::Version.into());
        }
        window.pass(HEADER.len());
        Ok(window)
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn pass(&mut self, count: usize) {
        self.start += count;
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.ended || self.end - self.start >= LOW { Ok(()) } else { self.read_more() }
    }

    /// Fills what is free of the buffer, which grows when all of it is one entry.
    fn read_more(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.buffer.len() {
            self.buffer.resize(self.end * 2, 0);
        }
        while self.end < self.buffer.len() {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The length of the first entry with its NUL; nothing at the end.
    fn record_len(&mut self) -> Result<Option<usize>, BetweenError> {
        loop {
            match record_end(self.bytes()) {
                Some(end) => return Ok(Some(end + 1)),
                None if !self.ended => self.read_more()?,
                None if self.start == self.end => return Ok(None),
                None => return Err(ManifestError::Form.into()),
            }
        }
    }

    /// The first entry, which has this length.
    fn entry(&self, length: usize) -> Result<Entry<'_>, ManifestError> {
        self.bytes().get(..length - 1).and_then(decode_record).ok_or(ManifestError::Form)
    }
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let blocks = a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK)).take_while(|(a, b)| a == b).count() * BLOCK;
    blocks + a[blocks..].iter().zip(&b[blocks..]).take_while(|(a, b)| a == b).count()
}
