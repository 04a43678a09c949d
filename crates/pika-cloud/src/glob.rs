//! The globs by which a guest's artifacts are chosen.
//!
//! The language is that of the path filters, as globset reads it with `/` never crossed by `*`: `?`, `*`,
//! `**` as a whole component, `[a-z]`, `{a,b}`, `\` before a character. A pattern that starts with `!`
//! takes away what an earlier one chose. Matching is on bytes, since names of files are. It is written out
//! here because the programs in the guest must stay small; a test holds it against globset.

use std::fmt;

/// Ways to resolve the braces of one pattern, at most.
const MOST_ALTERNATIVES: usize = 256;
/// No path is longer than this on Linux.
const LONGEST: usize = 4096;

/// Why a pattern is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobError {
    /// Nothing, or only a `!`.
    #[error("is empty")]
    Empty,
    /// More than 4096 bytes.
    #[error("is longer than any path")]
    TooLong,
    /// A NUL character.
    #[error("has a NUL character")]
    Nul,
    /// Starts with `/`, ends with it, or has two in a row.
    #[error("has a `/` that separates nothing")]
    Slash,
    /// A component `.` or `..`.
    #[error("has a `.` or `..` component")]
    Dots,
    /// `**` beside other characters of its component.
    #[error("has a `**` beside other characters")]
    Stars,
    /// `[` without `]`, a range the wrong way round, or one that names no single byte.
    #[error("has a `[` that is no class of bytes")]
    Class,
    /// `{` without `}` or the other way round, or too many alternatives.
    #[error("has braces that are not closed, not opened, or too many")]
    Braces,
    /// `\` at the end.
    #[error("ends with a `\\` that quotes nothing")]
    Escape,
}

#[derive(Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

#[derive(Clone, PartialEq, Eq)]
enum Component {
    /// `**`: any number of components.
    Any,
    One(Vec<Token>),
}

/// One pattern.
#[derive(Clone, PartialEq, Eq)]
struct Pattern {
    excludes: bool,
    alternatives: Vec<Vec<Component>>,
}

/// A list of patterns; the last one that matches decides.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct GlobSet {
    patterns: Vec<Pattern>,
}

impl fmt::Debug for GlobSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GlobSet({} patterns)", self.patterns.len())
    }
}

impl GlobSet {
    /// Reads patterns.
    ///
    /// # Errors
    ///
    /// The index of each pattern that is refused, and why.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, Vec<(usize, GlobError)>> {
        let mut refused = Vec::new();
        let mut set = Self::default();
        for (index, pattern) in patterns.iter().enumerate() {
            match Pattern::parse(pattern.as_ref()) {
                Ok(pattern) => set.patterns.push(pattern),
                Err(error) => refused.push((index, error)),
            }
        }
        if refused.is_empty() { Ok(set) } else { Err(refused) }
    }

    /// Whether there is no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a relative path, its components separated by `/`, is chosen.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let last = self.patterns.iter().rev().find(|pattern| pattern.matches(&components));
        last.is_some_and(|pattern| !pattern.excludes)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, GlobError> {
        let (excludes, body) = text.strip_prefix('!').map_or((false, text), |body| (true, body));
        if body.is_empty() {
            return Err(GlobError::Empty);
        }
        if body.len() > LONGEST {
            return Err(GlobError::TooLong);
        }
        if body.contains('\0') {
            return Err(GlobError::Nul);
        }
        let alternatives = resolve_braces(body.as_bytes())?;
        let alternatives =
            alternatives.iter().map(|flat| parse_components(flat)).collect::<Result<_, _>>()?;
        Ok(Self { excludes, alternatives })
    }

    fn matches(&self, path: &[&[u8]]) -> bool {
        self.alternatives.iter().any(|components| match_components(components, path))
    }
}

/// The pattern without braces, once for each way to resolve them.
fn resolve_braces(body: &[u8]) -> Result<Vec<Vec<u8>>, GlobError> {
    let mut rest = body;
    let resolved = resolve_sequence(&mut rest, 0)?;
    if rest.is_empty() { Ok(resolved) } else { Err(GlobError::Braces) }
}

/// Reads up to the `,` or `}` of the braces around, or to the end.
fn resolve_sequence(rest: &mut &[u8], depth: usize) -> Result<Vec<Vec<u8>>, GlobError> {
    let mut resolved = vec![Vec::new()];
    let mut after_braces = false;
    while let [first, after @ ..] = *rest {
        let length = match first {
            b'{' => {
                *rest = after;
                resolved = multiply(&resolved, &resolve_alternatives(rest, depth + 1)?)?;
                after_braces = true;
                continue;
            }
            b'}' if depth == 0 => return Err(GlobError::Braces),
            b',' | b'}' if depth > 0 => break,
            b'\\' if after.is_empty() => return Err(GlobError::Escape),
            b'\\' => 2,
            b'[' => class_length(rest)?,
            _ => 1,
        };
        let (now, later) = rest.split_at(length);
        for flat in &mut resolved {
            if after_braces {
                join(flat, now);
            } else {
                flat.extend_from_slice(now);
            }
        }
        after_braces = false;
        *rest = later;
    }
    Ok(resolved)
}

/// Reads the inside of braces and the `}`.
fn resolve_alternatives(rest: &mut &[u8], depth: usize) -> Result<Vec<Vec<u8>>, GlobError> {
    const DEEPEST: usize = 16;
    if depth > DEEPEST {
        return Err(GlobError::Braces);
    }
    let mut all = Vec::new();
    loop {
        all.extend(resolve_sequence(rest, depth)?);
        let [end, after @ ..] = *rest else { return Err(GlobError::Braces) };
        *rest = after;
        if *end == b'}' {
            return Ok(all);
        }
    }
}

fn multiply(heads: &[Vec<u8>], tails: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, GlobError> {
    if heads.len() * tails.len() > MOST_ALTERNATIVES {
        return Err(GlobError::Braces);
    }
    let joined = heads.iter().flat_map(|head| {
        tails.iter().map(move |tail| {
            let mut flat = head.clone();
            join(&mut flat, tail);
            flat
        })
    });
    Ok(joined.collect())
}

/// Puts two parts of a pattern together that braces have kept apart: `{a,*}*` has no `**`.
fn join(head: &mut Vec<u8>, tail: &[u8]) {
    let quotes = head.iter().rev().skip(1).take_while(|byte| **byte == b'\\').count();
    let star = head.last() == Some(&b'*') && quotes % 2 == 0;
    head.extend_from_slice(if star { tail.strip_prefix(b"*").unwrap_or(tail) } else { tail });
}

/// The bytes of the class that `text` starts with.
fn class_length(text: &[u8]) -> Result<usize, GlobError> {
    let start = if matches!(text.get(1), Some(b'!' | b'^')) { 2 } else { 1 };
    // A `]` that comes first is one of the class.
    let inside = text.get(start + 1..).ok_or(GlobError::Class)?;
    inside.iter().position(|byte| *byte == b']').map(|end| start + 1 + end + 1).ok_or(GlobError::Class)
}

fn parse_components(flat: &[u8]) -> Result<Vec<Component>, GlobError> {
    let mut components = Vec::new();
    let mut tokens = Vec::new();
    let (mut start, mut at) = (0, 0);
    loop {
        // A quoted slash separates too: no name has one.
        let slash = match &flat[at..] {
            [] | [b'/', ..] => 1,
            [b'\\', b'/', ..] => 2,
            _ => 0,
        };
        if slash > 0 {
            components.push(finish_component(&flat[start..at], std::mem::take(&mut tokens))?);
            if at == flat.len() {
                // `x/**` is all that is below x and not x itself, as globset has it.
                if components.len() > 1 && components.last() == Some(&Component::Any) {
                    components.push(Component::One(vec![Token::Star]));
                }
                return Ok(components);
            }
            at += slash;
            start = at;
            continue;
        }
        let (token, length) = next_token(&flat[at..])?;
        tokens.push(token);
        at += length;
    }
}

fn finish_component(raw: &[u8], tokens: Vec<Token>) -> Result<Component, GlobError> {
    match raw {
        b"" => Err(GlobError::Slash),
        b"." | b".." | b"\\." | b"\\.\\." | b".\\." | b"\\.." => Err(GlobError::Dots),
        b"**" => Ok(Component::Any),
        _ if has_two_stars(raw) => Err(GlobError::Stars),
        _ => Ok(Component::One(tokens)),
    }
}

/// Whether two stars stand side by side, outside classes and not quoted.
fn has_two_stars(raw: &[u8]) -> bool {
    let mut at = 0;
    let mut before = false;
    while let Some(byte) = raw.get(at) {
        let star = *byte == b'*';
        if star && before {
            return true;
        }
        before = star;
        at += match byte {
            b'\\' => 2,
            b'[' => class_length(&raw[at..]).unwrap_or(1),
            _ => 1,
        };
    }
    false
}

/// The first token of a text that is not empty, and how long it is.
fn next_token(text: &[u8]) -> Result<(Token, usize), GlobError> {
    match text[0] {
        b'?' => Ok((Token::Any, 1)),
        b'*' => Ok((Token::Star, 1)),
        b'[' => {
            let length = class_length(text)?;
            Ok((class(&text[1..length - 1])?, length))
        }
        b'\\' => text.get(1).map(|byte| (Token::Byte(*byte), 2)).ok_or(GlobError::Escape),
        byte => Ok((Token::Byte(byte), 1)),
    }
}

/// The class between `[` and `]`.
fn class(inside: &[u8]) -> Result<Token, GlobError> {
    let (negated, mut rest) = match inside {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut ranges = Vec::new();
    while let [from, after @ ..] = rest {
        let (range, after) = match after {
            [b'-', to, after @ ..] => ((*from, *to), after),
            after => ((*from, *from), after),
        };
        if range.0 > range.1 || !range.0.is_ascii() || !range.1.is_ascii() {
            return Err(GlobError::Class);
        }
        ranges.push(range);
        rest = after;
    }
    if ranges.contains(&(b'/', b'/')) {
        return Err(GlobError::Class);
    }
    Ok(Token::Class { negated, ranges })
}

/// `**` matches any run of components, so going back to the last one is enough.
fn match_components(pattern: &[Component], path: &[&[u8]]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < path.len() {
        match pattern.get(p) {
            Some(Component::Any) => {
                back = Some((p, n));
                p += 1;
                continue;
            }
            Some(Component::One(tokens)) if match_name(tokens, path[n]) => {
                p += 1;
                n += 1;
                continue;
            }
            _ => {}
        }
        let Some((any, from)) = back else { return false };
        back = Some((any, from + 1));
        p = any + 1;
        n = from + 1;
    }
    pattern[p..].iter().all(|component| *component == Component::Any)
}

fn match_name(tokens: &[Token], name: &[u8]) -> bool {
    let (mut t, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        match tokens.get(t) {
            Some(Token::Star) => {
                back = Some((t, n));
                t += 1;
                continue;
            }
            Some(token) if match_byte(token, name[n]) => {
                t += 1;
                n += 1;
                continue;
            }
            _ => {}
        }
        let Some((star, from)) = back else { return false };
        back = Some((star, from + 1));
        t = star + 1;
        n = from + 1;
    }
    tokens[t..].iter().all(|token| *token == Token::Star)
}

fn match_byte(token: &Token, byte: u8) -> bool {
    match token {
        Token::Byte(wanted) => *wanted == byte,
        Token::Any => true,
        Token::Star => false,
        Token::Class { negated, ranges } => {
            ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *negated
        }
    }
}
