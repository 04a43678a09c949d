//! Path filters: which changed files ask for a target.
//!
//! The language, the same wherever paths are filtered:
//!
//! | written | stands for |
//! |---|---|
//! | `*` | any part of one component; it does not cross `/` |
//! | `**` | any number of components; a component of its own; `x/**` is also `x` itself |
//! | `?`, `[a-z]`, `[!a-z]` | one byte that is not `/` |
//! | `{a,b}` | each of the alternatives, also empty or nested |
//! | `\` | the next character, as it is |
//! | `!` in front | excludes what the rest matches |
//!
//! Patterns are relative to the root of the source tree, match whole paths, and are tried in
//! order: the last one that matches a file decides.

mod cover;
mod pattern;

use globset::{GlobSet, GlobSetBuilder};

use cover::Wide;
pub use pattern::PatternError;
use pattern::{MOST_GLOBS, Pattern};

/// An ordered list of patterns, ready to match.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    texts: Vec<String>,
    /// One glob for each way to resolve the braces of each pattern, in the order of the patterns.
    globs: GlobSet,
    /// For each glob: index in `texts`, and whether it excludes.
    origins: Vec<(usize, bool)>,
}

impl Filters {
    /// Checks and compiles the patterns.
    ///
    /// # Errors
    /// For each pattern that is malformed or that can never decide anything, its index and why.
    pub fn new<P: AsRef<str>>(
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Self, Vec<(usize, PatternError)>> {
        let texts: Vec<String> = patterns.into_iter().map(|pattern| pattern.as_ref().to_owned()).collect();
        let mut parsed = Vec::with_capacity(texts.len());
        let mut errors = Vec::new();
        let mut globs = 0;
        for (index, text) in texts.iter().enumerate() {
            match Pattern::parse(text) {
                Ok(pattern) => {
                    globs += pattern.flats.len();
                    if globs > MOST_GLOBS {
                        errors.push((index, PatternError::LongList));
                        break;
                    }
                    parsed.push(pattern);
                }
                Err(error) => errors.push((index, error)),
            }
        }
        if errors.is_empty() {
            errors = useless(&texts, &parsed);
        }
        if !errors.is_empty() {
            return Err(errors);
        }

        let mut builder = GlobSetBuilder::new();
        let mut origins = Vec::new();
        for (index, pattern) in parsed.iter().enumerate() {
            for glob in pattern.globs() {
                builder.add(glob.map_err(|error| vec![(index, error)])?);
                origins.push((index, pattern.excludes));
            }
        }
        let globs = builder.build().map_err(|error| vec![(0, PatternError::Compile(error.to_string()))])?;
        Ok(Self { texts, globs, origins })
    }

    /// The patterns as they were written.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.texts
    }

    /// Whether there is no pattern: then everything is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The first file that is selected, with the pattern that selected it. Paths are relative to the root of the
    /// source tree, with `/` between components. `None` without patterns.
    pub fn first_match<'f, 's>(
        &'s self,
        changed: impl IntoIterator<Item = &'f str>,
    ) -> Option<(&'f str, &'s str)> {
        let mut hits = Vec::new();
        changed.into_iter().find_map(|file| {
            self.globs.matches_into(file, &mut hits);
            let (pattern, excludes) = *self.origins.get(*hits.iter().max()?)?;
            if excludes { None } else { Some((file, self.texts.get(pattern)?.as_str())) }
        })
    }
}

impl Filters {
    /// The patterns that match none of the files, whether they select or exclude; in their order.
    pub fn without_file<'f>(&self, files: impl IntoIterator<Item = &'f str>) -> Vec<&str> {
        let mut matched = vec![false; self.texts.len()];
        let mut left = matched.len();
        let mut hits = Vec::new();
        for file in files {
            if left == 0 {
                break;
            }
            self.globs.matches_into(file, &mut hits);
            for (pattern, _) in hits.iter().filter_map(|hit| self.origins.get(*hit)) {
                if let Some(matched) = matched.get_mut(*pattern).filter(|matched| !**matched) {
                    *matched = true;
                    left -= 1;
                }
            }
        }
        self.texts
            .iter()
            .zip(matched)
            .filter(|(_, matched)| !matched)
            .map(|(text, _)| text.as_str())
            .collect()
    }
}

/// The patterns that cannot decide anything because of their neighbours.
fn useless(texts: &[String], parsed: &[Pattern]) -> Vec<(usize, PatternError)> {
    let excludes: Vec<(usize, Wide<'_>)> = parsed
        .iter()
        .enumerate()
        .filter(|(_, pattern)| pattern.excludes)
        .map(|(index, pattern)| (index, Wide::new(pattern)))
        .collect();
    let first_include = parsed.iter().position(|pattern| !pattern.excludes).unwrap_or(parsed.len());
    let mut errors = Vec::new();
    for (index, pattern) in parsed.iter().enumerate() {
        if pattern.excludes {
            if index < first_include {
                errors.push((index, PatternError::ExcludesNothing));
            }
            continue;
        }
        if let Some((by, _)) = excludes.iter().find(|(by, wide)| *by > index && wide.covers(pattern)) {
            errors.push((index, PatternError::Excluded { by: texts[*by].clone() }));
        }
    }
    errors
}

#[cfg(test)]
mod tests;
