//! Whether one pattern matches everything that another one matches, by their syntax alone.
//!
//! The narrow pattern is turned into sample paths: every wildcard once as short as it can be and
//! once longer than the wide pattern, spelled in a letter that the wide pattern does not contain,
//! so that only a wildcard of the same reach can take it. When all of them match, every path does.
//! What cannot be decided so (a class, many wildcards) counts as not covered: the answer refuses a
//! user's pattern, so it has to be right when it is yes.

use globset::{GlobSet, GlobSetBuilder};

use super::pattern::{Flat, Part, Pattern, glob};

/// Wildcards of one narrow pattern, at most; there are 2ⁿ samples.
const MOST_WILDCARDS: usize = 8;
/// Parts of a wide pattern, at most; a sample has up to n² bytes for each wildcard.
const MOST_PARTS: usize = 100;

/// A pattern that takes away what it matches.
pub(super) struct Wide<'p> {
    flats: Vec<(&'p Flat, Option<GlobSet>)>,
}

impl<'p> Wide<'p> {
    pub(super) fn new(pattern: &'p Pattern) -> Self {
        Self { flats: pattern.flats.iter().map(|flat| (flat, matcher(flat))).collect() }
    }

    /// Whether each alternative of `narrow` is covered by one of this pattern.
    pub(super) fn covers(&self, narrow: &Pattern) -> bool {
        narrow.flats.iter().all(|narrow| {
            self.flats.iter().any(|(wide, matcher)| {
                narrow == *wide || matcher.as_ref().is_some_and(|matcher| covers(wide, matcher, narrow))
            })
        })
    }
}

/// `None` when samples would prove nothing.
fn matcher(wide: &Flat) -> Option<GlobSet> {
    if wide.len() > MOST_PARTS || wide.iter().any(|part| matches!(part, Part::Class { .. })) {
        return None;
    }
    GlobSetBuilder::new().add(glob(wide).ok()?).build().ok()
}

fn covers(wide: &Flat, matcher: &GlobSet, narrow: &Flat) -> bool {
    let wildcards = narrow.iter().filter(|part| matches!(part, Part::Stars(_))).count();
    if wildcards > MOST_WILDCARDS {
        return false;
    }
    let unused = |letter: &char| !wide.contains(&Part::Char(*letter));
    let Some(letter) = ('\u{1}'..='\u{7f}').filter(|c| *c != '/').find(unused) else {
        return false;
    };
    (0..1_u32 << wildcards).all(|long| matcher.is_match(sample(narrow, letter, wide.len() + 1, long)))
}

/// A path that `narrow` matches. The n-th wildcard is long where bit n of `long` is set.
fn sample(narrow: &Flat, letter: char, length: usize, long: u32) -> String {
    let word = |length: usize| String::from_iter(std::iter::repeat_n(letter, length));
    let mut bits = (0..32).map(|bit| long & (1 << bit) != 0);
    let mut is_long = || bits.next().unwrap_or(false);
    let components: Vec<&[Part]> = narrow.split(|part| *part == Part::Slash).collect();
    let mut out: Vec<String> = Vec::new();
    for (index, component) in components.iter().enumerate() {
        if *component == [Part::Stars(2)] {
            if is_long() {
                out.extend(std::iter::repeat_n(word(length), length));
            } else if index + 1 == components.len() {
                // A path does not end with `/`, so here it stands for one component at least.
                out.push(word(1));
            }
            continue;
        }
        let mut name = String::new();
        for part in *component {
            match part {
                Part::Char(c) => name.push(*c),
                Part::Any | Part::Class { .. } => name.push(letter),
                Part::Stars(_) if is_long() => name.push_str(&word(length)),
                _ => {}
            }
        }
        out.push(if name.is_empty() { word(1) } else { name });
    }
    out.join("/")
}
