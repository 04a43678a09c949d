//! Replaces secrets in a stream of bytes, wherever its chunks end.
//!
//! One automaton knows all forms of all values. Line ends do not advance it, so a form that a
//! tool has wrapped is found as well. A chunk is let by up to the longest end of it that may
//! be the beginning of a form: what is held back is bounded by the longest form, and is nothing
//! at all most of the time.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::sync::Arc;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, BuildError, MatchKind};

use super::forms::forms;

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// A form may be wrapped by a line end, also of two characters; more line ends than this in a
/// row end it. So what is held back stays bounded.
const LINE_ENDS: usize = 4;

/// Knows the forms of some secrets. Shows none of them.
pub struct Masker {
    automaton: NFA,
    start: StateID,
    /// Bytes that lead away from the start.
    first: [bool; 256],
    /// How many bytes of a form a state stands for.
    depths: HashMap<StateID, usize>,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Masker({} forms)", self.automaton.patterns_len())
    }
}

impl Masker {
    /// Of these values; nothing when there is nothing to mask.
    ///
    /// # Errors
    /// When the values are too large altogether, by orders of magnitude more than a megabyte.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Arc<Self>>, BuildError> {
        let forms: BTreeSet<Vec<u8>> = values.into_iter().flat_map(forms).collect();
        if forms.is_empty() {
            return Ok(None);
        }
        let automaton = NFA::builder().match_kind(MatchKind::Standard).prefilter(false).build(&forms)?;
        let start = automaton.start_state(Anchored::No).unwrap_or_default();
        let mut depths = HashMap::new();
        let mut first = [false; 256];
        for form in &forms {
            first[usize::from(form[0])] = true;
            let mut state = start;
            for (depth, byte) in form.iter().enumerate() {
                state = automaton.next_state(Anchored::No, state, *byte);
                depths.insert(state, depth + 1);
            }
        }
        Ok(Some(Arc::new(Self { automaton, start, first, depths })))
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

    /// Where the last `count` bytes before `end` begin, line ends not counted.
    fn back(text: &[u8], end: usize, count: usize) -> usize {
        if count == 0 {
            return end;
        }
        let mut inside =
            text[..end].iter().enumerate().rev().filter(|(_, byte)| !is_line_end(**byte)).map(|(at, _)| at);
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
    state: StateID,
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
        let state = masker.start;
        Self { masker, state, line_ends: 0, held: Vec::new(), secret: Vec::new(), open: false }
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
        self.state = self.masker.start;
        self.line_ends = 0;
        Ok(())
    }

    /// Finds the secrets that end in `text` from `from` on.
    fn scan(&mut self, text: &[u8], from: usize) {
        let masker = &*self.masker;
        let mut state = self.state;
        let mut at = from;
        while at < text.len() {
            if state == masker.start {
                match text[at..].iter().position(|byte| masker.first[usize::from(*byte)]) {
                    Some(next) => at += next,
                    None => break,
                }
                self.line_ends = 0;
            }
            let byte = text[at];
            at += 1;
            if is_line_end(byte) {
                self.line_ends += 1;
                if self.line_ends > LINE_ENDS {
                    state = masker.start;
                }
                continue;
            }
            self.line_ends = 0;
            state = masker.automaton.next_state(Anchored::No, state, byte);
            if masker.automaton.is_special(state) && masker.automaton.is_match(state) {
                let patterns = (0..masker.automaton.match_len(state))
                    .map(|index| masker.automaton.pattern_len(masker.automaton.match_pattern(state, index)));
                let start = Masker::back(text, at, patterns.max().unwrap_or_default());
                add(&mut self.secret, start, at);
            }
        }
        self.state = state;
    }

    /// Up to where `text` can be let by.
    fn frontier(&self, text: &[u8]) -> usize {
        let depth = self.masker.depths.get(&self.state).copied().unwrap_or_default();
        Masker::back(text, text.len(), depth)
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

    use super::super::encode::{BASE64, base64};
    use super::*;

    fn masker(values: &[&str]) -> Arc<Masker> {
        Masker::new(values.iter().map(|value| value.as_bytes())).unwrap().unwrap()
    }

    fn into(out: &mut Vec<u8>) -> impl FnMut(&[u8]) -> io::Result<()> {
        |bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        }
    }

    /// What comes out of chunks that end at `cuts`, and the most that was held back.
    fn masked(masker: &Arc<Masker>, text: &[u8], cuts: &[usize]) -> (Vec<u8>, usize) {
        let (mut out, mut held) = (Vec::new(), 0);
        let mut stream = MaskStream::new(Arc::clone(masker));
        let mut rest = text;
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut % (rest.len() + 1));
            stream.push(chunk, &mut into(&mut out)).unwrap();
            held = held.max(stream.held.len());
            rest = after;
        }
        stream.push(rest, &mut into(&mut out)).unwrap();
        stream.finish(&mut into(&mut out)).unwrap();
        (out, held)
    }

    fn contains(text: &[u8], part: &[u8]) -> bool {
        text.windows(part.len()).any(|window| window == part)
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
        assert_eq!(masker.text("h\nu\n"), "h\nu\n");
        assert_eq!(masker.text("aHVudGVyMjI= YQ=="), "*** YQ==");
    }

    #[test]
    fn lines_of_a_secret_are_masked_however_they_are_indented_or_escaped() {
        let key = "-----BEGIN KEY-----\n  MIIB+/\"a\n}\nend of it\n-----END KEY-----\n";
        let masker = masker(&[key]);
        let shown = masker.text(
            "    -----BEGIN KEY-----\n\tMIIB+/\"a\r\n{\"key\": \"MIIB+/\\\"a\\n\"}\nk=MIIB%2B%2F%22a&x\nend of it",
        );
        assert_eq!(shown, "    ***\n\t***\r\n{\"key\": \"***\\n\"}\nk=***&x\n***");
        let encoded = String::from_utf8(base64(key.as_bytes(), BASE64[0])).unwrap();
        let (head, tail) = encoded.split_at(31);
        assert_eq!(masker.text(&format!("<{head}\n{tail}>")), "<***>");
    }

    #[test]
    fn nothing_is_held_back_but_what_may_be_the_beginning_of_a_secret() {
        let masker = masker(&["hunter22"]);
        let (out, held) = masked(&masker, b"no secret here.\nhunt the snark", &[20, 2, 5]);
        assert_eq!((out.as_slice(), held), (b"no secret here.\nhunt the snark".as_slice(), 4));
        let lines = [b"hunter2".as_slice(), &[b'\n'; 100_000]].concat();
        assert!(masked(&masker, &lines, &[50; 2000]).1 <= 64);
    }

    #[test]
    fn what_shows_a_masker_shows_no_secret() {
        assert!(!format!("{:?}", MaskStream::new(masker(&["hunter22"]))).contains("hunter"));
    }

    /// Texts in which forms and parts of forms come close together.
    fn text() -> impl Strategy<Value = (Vec<String>, Vec<u8>)> {
        let secrets = prop::collection::vec("[ab\"' %é/+\n]{2,6}[a-d]{4,8}", 1..4);
        secrets.prop_flat_map(|secrets| {
            let piece = (0..secrets.len(), 0..8usize, 0..12usize, "[ab\nc\" =]{0,3}");
            let pieces = prop::collection::vec(piece, 0..12);
            (Just(secrets), pieces).prop_map(|(secrets, pieces)| {
                let mut text = Vec::new();
                for (index, how, cut, noise) in pieces {
                    let value = secrets[index].as_bytes();
                    let value = match how {
                        0 => base64(value, BASE64[0]),
                        1 => base64(&[noise.as_bytes(), value].concat(), BASE64[1]),
                        2 => serde_json::to_vec(&secrets[index]).unwrap(),
                        3 => value[..cut.min(value.len())].to_vec(),
                        _ => value.to_vec(),
                    };
                    text.extend(value);
                    text.extend(noise.bytes());
                }
                (secrets, text)
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_form_comes_through_and_chunks_do_not_matter(
            (secrets, text) in text(),
            cuts in prop::collection::vec(0..40usize, 0..20),
        ) {
            let masker = masker(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
            let (whole, _) = masked(&masker, &text, &[]);
            for secret in &secrets {
                for form in forms(secret.as_bytes()) {
                    prop_assert!(!contains(&whole, &form), "{:?} in {:?}", form, whole);
                }
            }
            let (pieces, _) = masked(&masker, &text, &cuts);
            prop_assert_eq!(pieces, whole);
        }

        #[test]
        fn a_text_without_secrets_is_not_changed(
            text in prop::collection::vec(any::<u8>(), 0..300),
            cuts in prop::collection::vec(0..40usize, 0..20),
        ) {
            let masker = masker(&["a secret that random bytes do not have", "multi\nline\n  it is\n"]);
            prop_assume!(!contains(&text, b"mult") && !contains(&text, b"line") && !contains(&text, b"it is"));
            prop_assert_eq!(masked(&masker, &text, &cuts).0, text);
        }
    }
}
