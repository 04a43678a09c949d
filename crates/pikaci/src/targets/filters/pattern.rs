//! One pattern: its parts, what its syntax forbids, and the globs that it becomes.

use globset::{Glob, GlobBuilder};

use super::super::error::quoted;

/// Ways to resolve the braces of one pattern, at most.
const MOST_ALTERNATIVES: usize = 256;
/// Patterns of one list without braces, at most.
pub(super) const MOST_GLOBS: usize = 4096;
/// No path is longer than this on Linux.
const LONGEST: usize = 4096;
/// Braces in braces, at most.
const DEEPEST: usize = 16;

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Nothing, or only a `!`.
    #[error("it is empty")]
    Empty,
    /// More than 4096 bytes.
    #[error("it is longer than any path")]
    TooLong,
    /// A NUL, which no path contains.
    #[error("it contains a NUL, which no path does")]
    Nul,
    /// It starts with `/`.
    #[error("it starts with `/`, and paths are relative to the root of the source tree")]
    Absolute,
    /// It ends with `/`.
    #[error("it ends with `/`, and patterns match files, not directories")]
    TrailingSlash,
    /// It contains `//`.
    #[error("it contains `//`, which no path does")]
    DoubleSlash,
    /// A component `.` or `..`.
    #[error("it contains {}, which no path relative to the root of the source tree does", quoted(.0))]
    Dots(&'static str),
    /// `**` beside other characters of its component.
    #[error("`**` stands beside other characters, and crosses `/` only as a component of its own")]
    StarsInComponent,
    /// `[` without `]`.
    #[error("`[` is never closed")]
    UnclosedClass,
    /// Something in `[...]` that is not ASCII.
    #[error("`[...]` stands for one byte, and {} is not one", quoted(&.0.to_string()))]
    ClassNotAscii(char),
    /// A range such as `[z-a]`.
    #[error("the range `{0}-{1}` is the wrong way round")]
    ClassRange(char, char),
    /// `[...]` that names `/`, or no byte.
    #[error("`[...]` stands for one byte that is not `/`")]
    ClassSlash,
    /// `{` without `}`.
    #[error("`{{` is never closed")]
    UnclosedBrace,
    /// `}` without `{`.
    #[error("`}}` is never opened")]
    UnopenedBrace,
    /// Braces in braces in braces.
    #[error("its braces are nested deeper than {DEEPEST}")]
    TooDeep,
    /// Braces that multiply.
    #[error("its braces stand for more than {MOST_ALTERNATIVES} patterns")]
    TooMany,
    /// Too many patterns in one list, after their braces are resolved.
    #[error("with those before it, it makes more than {MOST_GLOBS} patterns")]
    LongList,
    /// `\` at the end.
    #[error("it ends with `\\`, which quotes the character after it")]
    DanglingEscape,
    /// A `!` that comes before every pattern without one.
    #[error("it excludes nothing, since no pattern before it selects anything")]
    ExcludesNothing,
    /// A later `!` takes away everything that it matches.
    #[error("it selects nothing, since {} comes later and excludes all that it matches", quoted(.by))]
    Excluded {
        /// The later pattern.
        by: String,
    },
    /// The matcher refused it.
    #[error("it cannot be compiled: {0}")]
    Compile(String),
}

impl PatternError {
    /// What to write in place of `text`.
    #[must_use]
    pub fn help(&self, text: &str) -> Option<String> {
        let write = |better: String| Some(format!("write {}", quoted(&better)));
        let (bang, body) = text.strip_prefix('!').map_or(("", text), |body| ("!", body));
        match self {
            Self::Absolute if body.starts_with('/') => match body.trim_start_matches('/') {
                "" => write(format!("{bang}**")),
                rest => write(format!("{bang}{rest}")),
            },
            Self::TrailingSlash if body == "**/" => write(format!("{bang}**")),
            Self::TrailingSlash if body.ends_with('/') => {
                write(format!("{bang}{}/**", body.trim_end_matches('/')))
            }
            Self::Dots(".") if body.starts_with("./") && body.len() > 2 => {
                write(format!("{bang}{}", &body[2..]))
            }
            Self::StarsInComponent => Some("write `dir/**/*.ext` for all depths, `dir/*.ext` for one".into()),
            Self::ExcludesNothing if text.starts_with('!') => {
                Some("put `**` first to select everything else".into())
            }
            _ => None,
        }
    }
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// A character that stands for itself; `/` only as [`Part::Slash`].
    Char(char),
    /// Between components.
    Slash,
    /// `?`.
    Any,
    /// One `*` or several in a row.
    Stars(usize),
    /// `[...]`.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// `{`.
    Open,
    /// `,` between braces.
    Comma,
    /// `}`.
    Close,
}

/// A pattern without braces: parts that are none of [`Part::Open`], [`Part::Comma`], [`Part::Close`].
pub(super) type Flat = Vec<Part>;

/// A pattern that is well formed.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// It had a `!` in front.
    pub(super) excludes: bool,
    /// Its alternatives.
    pub(super) flats: Vec<Flat>,
}

impl Pattern {
    /// Checks everything that the syntax of this one pattern decides.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let (excludes, body) = text.strip_prefix('!').map_or((false, text), |body| (true, body));
        if body.is_empty() {
            return Err(PatternError::Empty);
        }
        if body.len() > LONGEST {
            return Err(PatternError::TooLong);
        }
        if body.contains('\0') {
            return Err(PatternError::Nul);
        }
        let parts = parts(body)?;
        let mut flats = alternatives(&mut parts.into_iter())?;
        // `{a,*}*` has two stars side by side, which is not what `**` says.
        for flat in &mut flats {
            flat.dedup_by(|next, part| [next, part].iter().all(|part| **part == Part::Stars(1)));
        }
        flats.iter().try_for_each(|flat| check_components(flat))?;
        Ok(Self { excludes, flats })
    }

    /// The globs of each alternative. `x/**` is also `x` itself: a submodule that changed is one
    /// path, the directory's own.
    pub(super) fn globs(&self) -> impl Iterator<Item = Result<Glob, PatternError>> {
        self.flats.iter().flat_map(|flat| {
            let itself = match flat.as_slice() {
                [above @ .., Part::Slash, Part::Stars(2..)] if !above.is_empty() => Some(glob(above)),
                _ => None,
            };
            std::iter::once(glob(flat)).chain(itself)
        })
    }
}

/// Compiles a pattern without braces.
pub(super) fn glob(flat: &[Part]) -> Result<Glob, PatternError> {
    GlobBuilder::new(&written(flat))
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| PatternError::Compile(error.kind().to_string()))
}

fn parts(body: &str) -> Result<Vec<Part>, PatternError> {
    let mut out: Vec<Part> = Vec::new();
    let mut depth = 0_usize;
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        let part = match c {
            '\\' => match chars.next().ok_or(PatternError::DanglingEscape)? {
                '/' => Part::Slash,
                c => Part::Char(c),
            },
            '/' => Part::Slash,
            '?' => Part::Any,
            '*' => {
                let mut stars = 1;
                while chars.next_if_eq(&'*').is_some() {
                    stars += 1;
                }
                Part::Stars(stars)
            }
            '[' => class(&mut chars)?,
            '{' => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(PatternError::TooDeep);
                }
                Part::Open
            }
            '}' => {
                depth = depth.checked_sub(1).ok_or(PatternError::UnopenedBrace)?;
                Part::Close
            }
            ',' if depth > 0 => Part::Comma,
            c => Part::Char(c),
        };
        out.push(part);
    }
    if depth > 0 { Err(PatternError::UnclosedBrace) } else { Ok(out) }
}

/// The rest of a class, after its `[`. As in a shell, `]` stands for itself when it comes first,
/// and so does `-` at either end.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Part, PatternError> {
    let negated = chars.next_if(|c| matches!(c, '!' | '^')).is_some();
    let mut members = Vec::new();
    loop {
        match chars.next().ok_or(PatternError::UnclosedClass)? {
            ']' if !members.is_empty() => break,
            c if c.is_ascii() => members.push(c),
            c => return Err(PatternError::ClassNotAscii(c)),
        }
    }
    let mut ranges = Vec::new();
    let mut rest = members.as_slice();
    while let [first, tail @ ..] = rest {
        let (last, tail) = match tail {
            ['-', last, tail @ ..] => (last, tail),
            _ => (first, tail),
        };
        if first > last {
            return Err(PatternError::ClassRange(*first, *last));
        }
        ranges.push((*first, *last));
        rest = tail;
    }
    let only_slash = ranges.iter().all(|range| *range == ('/', '/'));
    if only_slash && !negated { Err(PatternError::ClassSlash) } else { Ok(Part::Class { negated, ranges }) }
}

/// Resolves braces up to the end of the parts, or of the brace that is open.
fn alternatives(parts: &mut std::vec::IntoIter<Part>) -> Result<Vec<Flat>, PatternError> {
    let mut finished: Vec<Flat> = Vec::new();
    let mut current: Vec<Flat> = vec![Flat::new()];
    while let Some(part) = parts.next() {
        match part {
            Part::Open => {
                let inner = alternatives(parts)?;
                if current.len() * inner.len() > MOST_ALTERNATIVES {
                    return Err(PatternError::TooMany);
                }
                current = current
                    .iter()
                    .flat_map(|head| inner.iter().map(move |tail| [head.as_slice(), tail].concat()))
                    .collect();
            }
            Part::Comma => finished.append(&mut std::mem::replace(&mut current, vec![Flat::new()])),
            Part::Close => break,
            part => current.iter_mut().for_each(|flat| flat.push(part.clone())),
        }
        if finished.len() + current.len() > MOST_ALTERNATIVES {
            return Err(PatternError::TooMany);
        }
    }
    finished.append(&mut current);
    Ok(finished)
}

/// Refuses components that no path relative to the root of the tree has.
fn check_components(flat: &[Part]) -> Result<(), PatternError> {
    let components: Vec<&[Part]> = flat.split(|part| *part == Part::Slash).collect();
    let last = components.len() - 1;
    for (index, component) in components.iter().enumerate() {
        match component {
            [] if last == 0 => return Err(PatternError::Empty),
            [] if index == 0 => return Err(PatternError::Absolute),
            [] if index == last => return Err(PatternError::TrailingSlash),
            [] => return Err(PatternError::DoubleSlash),
            [Part::Char('.')] => return Err(PatternError::Dots(".")),
            [Part::Char('.'), Part::Char('.')] => return Err(PatternError::Dots("..")),
            [Part::Stars(2)] => {}
            parts if parts.iter().any(|part| matches!(part, Part::Stars(2..))) => {
                return Err(PatternError::StarsInComponent);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A pattern without braces in the syntax of globset.
fn written(flat: &[Part]) -> String {
    let mut out = String::new();
    for part in flat {
        match part {
            Part::Char(c) => {
                if c.is_ascii_punctuation() {
                    out.push('\\');
                }
                out.push(*c);
            }
            Part::Slash => out.push('/'),
            Part::Any => out.push('?'),
            Part::Stars(stars) => out.extend(std::iter::repeat_n('*', *stars)),
            Part::Class { negated, ranges } => write_class(&mut out, *negated, ranges),
            Part::Open | Part::Comma | Part::Close => {}
        }
    }
    out
}

/// Writes a class byte by byte, so that no range reaches `/`, and a negated one excludes it.
fn write_class(out: &mut String, negated: bool, ranges: &[(char, char)]) {
    let holds = |c: char| match c {
        '/' => negated,
        c => ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)),
    };
    let members: Vec<char> = ('\0'..='\x7f').filter(|c| holds(*c)).collect();
    if !negated && members.iter().all(|c| matches!(c, '!' | '^')) {
        // Neither may come first in a class that is not negated.
        out.push('{');
        out.push_str(&members.iter().map(|c| format!("\\{c}")).collect::<Vec<_>>().join(","));
        out.push('}');
        return;
    }
    out.push_str(if negated { "[!" } else { "[" });
    let special = |c: &char| matches!(c, ']' | '-' | '!' | '^');
    out.extend(members.iter().filter(|c| **c == ']'));
    out.extend(members.iter().filter(|c| !special(c)));
    out.extend(members.iter().filter(|c| matches!(c, '!' | '^')));
    out.extend(members.iter().filter(|c| **c == '-'));
    out.push(']');
}
