//! Replaces secrets in a stream of bytes, wherever its chunks end.
//!
//! One automaton knows all forms of all values: the value, each of its lines, both as base64 in any
//! alignment, percent-encoded, and as the inside of a JSON string. Line ends do not advance it, so that a
//! form which a tool has wrapped is found too. What is held back is the longest end of the stream that may
//! be the beginning of a form, and so nothing at all most of the time.

mod forms;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;

pub use forms::{LEAST_BYTES, is_long_enough};

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// More line ends than this in a row end a form, so that what is held back stays bounded.
const LINE_ENDS: usize = 4;

const ROOT: usize = 0;

/// Knows the forms of some secrets, and shows none of them.
pub struct Masker {
    states: Vec<State>,
    /// Where each byte leads from the start.
    first: [usize; 256],
}

#[derive(Default)]
struct State {
    next: Vec<(u8, usize)>,
    /// The longest end of this state that is another one.
    fallback: usize,
    /// Bytes of a form that it stands for.
    depth: usize,
    /// Bytes of the longest form that ends here.
    ends: usize,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Masker({} states)", self.states.len())
    }
}

impl Masker {
    /// Of these values; nothing when there is nothing to mask. Values that are not
    /// [`is_long_enough`] cannot be masked.
    #[must_use]
    pub fn new<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Arc<Self>> {
        let forms: BTreeSet<Vec<u8>> = values.into_iter().flat_map(forms::forms).collect();
        if forms.is_empty() {
            return None;
        }
        let mut masker = Self { states: vec![State::default()], first: [ROOT; 256] };
        for form in &forms {
            masker.insert(form);
        }
        masker.link();
        Some(Arc::new(masker))
    }

    /// A text with all secrets in it masked.
    #[must_use]
    pub fn text(self: &Arc<Self>, text: &str) -> String {
        let mut masked = Vec::with_capacity(text.len());
        let mut stream = MaskStream::new(Arc::clone(self));
        let mut keep = |bytes: &[u8]| {
            masked.extend_from_slice(bytes);
            Ok(())
        };
        // Into memory, which does not fail.
        let _ = stream.push(text.as_bytes(), &mut keep).and_then(|()| stream.finish(&mut keep));
        String::from_utf8_lossy(&masked).into_owned()
    }

    fn insert(&mut self, form: &[u8]) {
        let mut state = ROOT;
        for (index, byte) in form.iter().enumerate() {
            state = match self.child(state, *byte) {
                Some(child) => child,
                None => {
                    let child = self.states.len();
                    self.states.push(State { depth: index + 1, ..State::default() });
                    self.states[state].next.push((*byte, child));
                    child
                }
            };
        }
        self.states[state].ends = form.len();
    }

    /// Finds the fallback of each state, those of fewer bytes first.
    fn link(&mut self) {
        let mut queue = VecDeque::from([ROOT]);
        while let Some(state) = queue.pop_front() {
            for (byte, child) in self.states[state].next.clone() {
                let fallback = if state == ROOT {
                    self.first[usize::from(byte)] = child;
                    ROOT
                } else {
                    self.step(self.states[state].fallback, byte)
                };
                self.states[child].fallback = fallback;
                self.states[child].ends = self.states[child].ends.max(self.states[fallback].ends);
                queue.push_back(child);
            }
        }
    }

    fn child(&self, state: usize, byte: u8) -> Option<usize> {
        self.states[state].next.iter().find(|(found, _)| *found == byte).map(|(_, child)| *child)
    }

    fn step(&self, mut state: usize, byte: u8) -> usize {
        while state != ROOT {
            if let Some(child) = self.child(state, byte) {
                return child;
            }
            state = self.states[state].fallback;
        }
        self.first[usize::from(byte)]
    }

    /// Where the last `count` bytes before `end` begin, line ends not counted.
    fn back(text: &[u8], end: usize, count: usize) -> usize {
        if count == 0 {
            return end;
        }
        let mut inside = (0..end).rev().filter(|at| !is_line_end(text[*at]));
        inside.nth(count - 1).unwrap_or(0)
    }
}

const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Masks one stream.
#[derive(Debug)]
pub struct MaskStream {
    masker: Arc<Masker>,
    state: usize,
    line_ends: usize,
    /// What was not let by yet: it may be the beginning of a secret.
    held: Vec<u8>,
    /// What of it is known to be secret already: sorted, apart from each other.
    secret: Vec<(usize, usize)>,
    /// The first of these began before, and its mask was written then.
    open: bool,
}

impl MaskStream {
    /// Of a stream that begins now.
    #[must_use]
    pub fn new(masker: Arc<Masker>) -> Self {
        Self { masker, state: ROOT, line_ends: 0, held: Vec::new(), secret: Vec::new(), open: false }
    }

    /// Takes a chunk, and hands on what can be let by.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn push(&mut self, chunk: &[u8], sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.held.is_empty() {
            self.scan(chunk, 0);
            let frontier = self.frontier(chunk);
            self.emit(chunk, frontier, sink)?;
            self.held.extend_from_slice(&chunk[frontier..]);
            return Ok(());
        }
        let mut text = std::mem::take(&mut self.held);
        let new = text.len();
        text.extend_from_slice(chunk);
        self.scan(&text, new);
        let frontier = self.frontier(&text);
        self.emit(&text, frontier, sink)?;
        text.drain(..frontier);
        self.held = text;
        Ok(())
    }

    /// Hands on what was held back: the stream ends here, or is cut by something else.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn finish(&mut self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let rest = std::mem::take(&mut self.held);
        self.emit(&rest, rest.len(), sink)?;
        self.state = ROOT;
        self.line_ends = 0;
        Ok(())
    }

    /// Finds the secrets that end in `text` from `from` on.
    fn scan(&mut self, text: &[u8], from: usize) {
        let masker = Arc::clone(&self.masker);
        let mut at = from;
        while at < text.len() {
            if self.state == ROOT {
                let next = text[at..].iter().position(|byte| masker.first[usize::from(*byte)] != ROOT);
                let Some(next) = next else { break };
                at += next;
                self.line_ends = 0;
            }
            let byte = text[at];
            at += 1;
            if is_line_end(byte) {
                self.line_ends += 1;
                if self.line_ends > LINE_ENDS {
                    self.state = ROOT;
                }
                continue;
            }
            self.line_ends = 0;
            self.state = masker.step(self.state, byte);
            let ends = masker.states[self.state].ends;
            if ends > 0 {
                add(&mut self.secret, Masker::back(text, at, ends), at);
            }
        }
    }

    /// Up to where `text` can be let by.
    fn frontier(&self, text: &[u8]) -> usize {
        Masker::back(text, text.len(), self.masker.states[self.state].depth)
    }

    /// Hands on `text` up to `frontier`; what is secret behind it stays known.
    fn emit(
        &mut self,
        text: &[u8],
        frontier: usize,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        let mut open = false;
        for (start, end) in self.secret.iter().copied().take_while(|(start, _)| *start < frontier) {
            if start > done {
                sink(&text[done..start])?;
            }
            if !(start == 0 && self.open) {
                sink(MASK.as_bytes())?;
            }
            done = end.min(frontier);
            open = end > frontier;
        }
        if frontier > done {
            sink(&text[done..frontier])?;
        }
        if frontier > 0 {
            self.open = open;
            self.secret.retain(|(_, end)| *end > frontier);
            for (start, end) in &mut self.secret {
                *start = start.saturating_sub(frontier);
                *end -= frontier;
            }
        }
        Ok(())
    }
}

/// Adds what was found last, and so ends last; what it overlaps becomes one with it.
fn add(secret: &mut Vec<(usize, usize)>, mut start: usize, end: usize) {
    while let Some((last_start, last_end)) = secret.last().copied()
        && last_end > start
    {
        start = start.min(last_start);
        secret.pop();
    }
    secret.push((start, end));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masker(values: &[&str]) -> Arc<Masker> {
        Masker::new(values.iter().map(|value| value.as_bytes())).unwrap()
    }

    /// What comes out of chunks that end at `cuts`.
    fn masked(masker: &Arc<Masker>, text: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut keep = |bytes: &[u8]| io::Write::write_all(&mut out, bytes);
        let mut stream = MaskStream::new(Arc::clone(masker));
        let mut rest = text;
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut % (rest.len() + 1));
            stream.push(chunk, &mut keep).unwrap();
            assert!(stream.held.len() < 400);
            rest = after;
        }
        stream.push(rest, &mut keep).unwrap();
        stream.finish(&mut keep).unwrap();
        out
    }

    #[test]
    fn values_are_masked_and_everything_else_is_as_it_was() {
        let masker = masker(&["hunter22", "abcd", "bcdefg"]);
        assert_eq!(masker.text("user=hunter22; ok\n"), "user=***; ok\n");
        assert_eq!(masker.text("hunter2 hunter222"), "hunter2 ***2");
        assert_eq!(masker.text("xabcdefgx"), "x***x", "what overlaps is one");
        assert_eq!(masker.text("abcdabcd"), "******");
        assert_eq!(masker.text("hunt\ner22 hunt\r\ner22"), "*** ***", "a wrapped one is found");
        assert_eq!(masker.text("hunt\n\n\n\n\ner22"), "hunt\n\n\n\n\ner22");
        assert_eq!(masker.text("aHVudGVyMjI= YQ=="), "*** YQ==");
        assert!(Masker::new([b"abc".as_slice(), b" \n "]).is_none());
        assert!(!format!("{masker:?}").contains("hunter"));
    }

    #[test]
    fn what_is_held_back_comes_at_the_end() {
        let masker = masker(&["hunter22"]);
        assert_eq!(masked(&masker, b"it is hunter2", &[8, 2]), b"it is hunter2");
        let lines = [b"hunter2".as_slice(), &[b'\n'; 10_000]].concat();
        assert_eq!(masked(&masker, &lines, &[50; 200]), lines);
    }

    proptest! {
        #[test]
        fn no_value_comes_through_and_chunks_do_not_matter(
            secrets in prop::collection::vec("[ab\"\n]{0,3}[a-d]{4,8}", 1..4),
            pieces in prop::collection::vec((0..4_usize, 0..12_usize, "[ab\nc]{0,3}"), 0..12),
            cuts in prop::collection::vec(0..40_usize, 0..20),
        ) {
            let masker = masker(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
            let mut text = Vec::new();
            for (index, cut, noise) in pieces {
                let value = secrets[index % secrets.len()].as_bytes();
                text.extend_from_slice(if cut > 8 { &value[..value.len() / 2] } else { value });
                text.extend_from_slice(noise.as_bytes());
            }
            let whole = masked(&masker, &text, &[]);
            for secret in &secrets {
                let value = secret.as_bytes();
                prop_assert!(!whole.windows(value.len()).any(|window| window == value), "{:?}", whole);
            }
            prop_assert_eq!(masked(&masker, &text, &cuts), whole);
        }

        #[test]
        fn a_text_without_secrets_is_not_changed(
            text in prop::collection::vec(any::<u8>(), 0..300),
            cuts in prop::collection::vec(0..40_usize, 0..20),
        ) {
            let masker = masker(&["a secret that random bytes do not have"]);
            prop_assert_eq!(masked(&masker, &text, &cuts), text);
        }
    }
}
