//! Path filters: the one glob language, `*` within a component, `**` across them, `!` excludes.
//!
//! Patterns are taken in order and the last that matches a file decides, so that an exclusion
//! takes from what stands before it. `dir/**` also means `dir` itself: a submodule changes under
//! its own name. A pattern that by its syntax alone can never have an effect is an error.

use globset::{GlobBuilder, GlobMatcher};

/// Ordered path filters of a target. Without any, every change concerns the target.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    patterns: Vec<String>,
    compiled: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    glob: Glob,
    excludes: bool,
}

/// A compiled glob; the second matcher is the directory of a pattern that ends in `/**`.
#[derive(Debug, Clone)]
struct Glob(GlobMatcher, Option<GlobMatcher>);

/// A pattern that cannot do anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path filter `{}` {problem}", pattern.escape_debug())]
pub struct FilterError {
    /// Which of the patterns, from 0.
    pub index: usize,
    /// Its text.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Filters {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// The first pattern that is no glob, or that by its syntax can never have an effect.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, FilterError> {
        let mut filters = Self::default();
        for (index, text) in patterns.iter().map(AsRef::as_ref).enumerate() {
            let fail = |problem: String| FilterError { index, pattern: text.to_owned(), problem };
            let (body, excludes) = match text.strip_prefix('!') {
                Some(body) => (body, true),
                None => (text, false),
            };
            check_shape(body).map_err(fail)?;
            if excludes && index == 0 {
                return Err(fail("excludes, but nothing stands before it: begin with \"**\"".to_owned()));
            }
            let glob = Glob::new(body).map_err(fail)?;
            filters.compiled.push(Pattern { glob, excludes });
            filters.patterns.push(text.to_owned());
        }
        filters.check_reach()?;
        Ok(filters)
    }

    /// The patterns as they were written.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether there is no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The first of the changed files, relative to the source root, that a pattern selects, with
    /// that pattern.
    pub fn first_match<'a>(&self, changed: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, &str)> {
        changed.into_iter().find_map(|file| self.selects(file).map(|pattern| (file, pattern)))
    }

    /// The pattern that selects a file: the last that matches it, unless that one excludes.
    fn selects(&self, file: &str) -> Option<&str> {
        let last = self.compiled.iter().rposition(|pattern| pattern.glob.matches(file))?;
        (!self.compiled[last].excludes).then(|| self.patterns[last].as_str())
    }

    /// Finds a pattern whose every path a later `!` takes away again.
    fn check_reach(&self) -> Result<(), FilterError> {
        for (index, pattern) in self.compiled.iter().enumerate() {
            if pattern.excludes {
                continue;
            }
            let Some(samples) = samples(&self.patterns[index]) else { continue };
            let eraser = (index + 1..self.compiled.len()).find(|later| {
                let taken = &self.compiled[*later];
                taken.excludes
                    && !self.patterns[*later].contains('[')
                    && samples.iter().all(|sample| taken.glob.matches(sample))
            });
            if let Some(eraser) = eraser {
                return Err(FilterError {
                    index,
                    pattern: self.patterns[index].clone(),
                    problem: format!("can never match: `{}` excludes all of it", self.patterns[eraser]),
                });
            }
        }
        Ok(())
    }
}

impl Glob {
    fn new(body: &str) -> Result<Self, String> {
        let compile = |text: &str| {
            GlobBuilder::new(text)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map(|glob| glob.compile_matcher())
                .map_err(|error| format!("is not a glob: {}", error.kind()))
        };
        let directory = match body.strip_suffix("/**") {
            Some(directory) if directory != "**" => Some(compile(directory)?),
            _ => None,
        };
        Ok(Self(compile(body)?, directory))
    }

    fn matches(&self, file: &str) -> bool {
        self.0.is_match(file) || self.1.as_ref().is_some_and(|directory| directory.is_match(file))
    }
}

/// Refuses what no path relative to the source root looks like.
fn check_shape(body: &str) -> Result<(), String> {
    if body.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    if body.contains('\0') {
        return Err("has a NUL, which no file name has".to_owned());
    }
    if body.starts_with('/') {
        return Err(
            "can never match: paths are relative to the source root, without a `/` in front".to_owned()
        );
    }
    if let Some(directory) = body.strip_suffix('/') {
        return Err(format!("names a directory: write \"{directory}/**\" for the files in it"));
    }
    for component in body.split('/') {
        match component {
            "" => return Err("can never match: it has an empty component".to_owned()),
            "." => return Err("can never match: leave out `.` components".to_owned()),
            ".." => return Err("can never match: no path has a `..` component".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

/// Paths that stand for all that the pattern matches: each wildcard once short and once longer
/// than any wildcard of fixed length. None when the pattern is too rich to be sure.
fn samples(body: &str) -> Option<Vec<String>> {
    // A character that no sensible pattern names, so that only wildcards match it.
    const ODD: &str = "\u{1}";
    if body.contains(['[', '{', '\\']) || body.matches('*').count() > 12 {
        return None;
    }
    let mut samples: Vec<Vec<String>> = vec![Vec::new()];
    for component in body.split('/') {
        let forms = match component {
            "**" => vec![Vec::new(), vec![ODD.to_owned()], vec![ODD.to_owned(); 9]],
            _ => vec![
                vec![component.replace('*', ODD).replace('?', ODD)],
                vec![component.replace('*', &ODD.repeat(99)).replace('?', ODD)],
            ],
        };
        samples = samples
            .iter()
            .flat_map(|sample| forms.iter().map(move |form| [sample.as_slice(), form].concat()))
            .collect();
        samples.dedup();
    }
    let samples =
        samples.into_iter().filter(|sample| !sample.is_empty()).map(|sample| sample.join("/")).collect();
    Some(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(patterns: &[&str], file: &str) -> bool {
        Filters::new(patterns).unwrap().first_match([file]).is_some()
    }

    #[test]
    fn a_star_stays_within_a_component_and_two_cross_them() {
        assert!(matches(&["src/*.rs"], "src/a.rs"));
        assert!(!matches(&["src/*.rs"], "src/a/b.rs"));
        assert!(matches(&["src/**"], "src/a/b.rs"));
        assert!(matches(&["crates/**/Cargo.toml"], "crates/a/b/Cargo.toml"));
        assert!(matches(&["crates/**/Cargo.toml"], "crates/Cargo.toml"));
        assert!(matches(&["**"], "anything/at/all"));
        assert!(!matches(&["*.md"], "docs/a.md"));
        assert!(matches(&["Cargo.*"], "Cargo.lock"));
        assert!(matches(&["{a,b}/**"], "b/x"));
        assert!(matches(&["päth/**"], "päth/ü"));
        assert!(matches(&[".github/**"], ".github/workflows/x.yml"));
    }

    #[test]
    fn everything_below_a_directory_includes_its_own_name_for_submodules() {
        assert!(matches(&["vendor/lib/**"], "vendor/lib"));
        assert!(!matches(&["vendor/lib/**"], "vendor/library"));
        assert!(!matches(&["**", "!vendor/lib/**"], "vendor/lib"));
    }

    #[test]
    fn exclusions_are_taken_in_order_and_the_last_match_decides() {
        let patterns = ["src/**", "!**/*.md", "src/keep/*.md"];
        assert!(matches(&patterns, "src/a.rs"));
        assert!(!matches(&patterns, "src/a.md"));
        assert!(matches(&patterns, "src/keep/a.md"));
        assert!(!matches(&patterns, "other.rs"));
    }

    #[test]
    fn the_first_match_names_file_and_pattern() {
        let filters = Filters::new(&["a/**", "b/**", "!b/x"]).unwrap();
        assert_eq!(filters.first_match(["c", "b/x", "b/y", "a/z"]), Some(("b/y", "b/**")));
        assert_eq!(filters.first_match(["c", "b/x"]), None);
    }

    #[test]
    fn a_pattern_that_can_never_match_is_an_error() {
        let table: &[(&[&str], usize, &str)] = &[
            (&[""], 0, "is empty"),
            (&["a", " "], 1, "is empty"),
            (&["a", "!"], 1, "is empty"),
            (&["/a"], 0, "without a `/` in front"),
            (&["../a"], 0, "`..` component"),
            (&["a/../b"], 0, "`..` component"),
            (&["./a"], 0, "leave out `.`"),
            (&["a//b"], 0, "empty component"),
            (&["a/"], 0, "write \"a/**\""),
            (&["[a"], 0, "is not a glob"),
            (&["!a/**"], 0, "begin with \"**\""),
            (&["a/b", "!a/**"], 0, "`!a/**` excludes all of it"),
            (&["**", "a/*.md", "!**/*.md"], 1, "`!**/*.md` excludes all of it"),
            (&["a/**", "!**"], 0, "`!**` excludes all of it"),
            (&["a", "!a"], 0, "`!a` excludes all of it"),
            (&["a/?/**", "!a/**", "a/x"], 0, "`!a/**` excludes all of it"),
        ];
        for (patterns, index, problem) in table {
            let error = Filters::new(patterns).expect_err(&format!("{patterns:?}"));
            assert_eq!(error.index, *index, "{patterns:?}");
            assert!(error.problem.contains(problem), "{patterns:?}: {error}");
        }
    }

    #[test]
    fn a_pattern_that_can_still_match_something_is_none() {
        for patterns in [
            &["src/**", "!src/*"][..],
            &["src/**", "!**/*.md"],
            &["src/*.md", "!src/?.md"],
            &["src/*", "!src/[!a]*"],
            &["**", "!src/**"],
            &["a/*/b", "!a/?/b"],
            &["**/x", "!*/x"],
            &["src/*", "!src/*/*"],
            &["**/x", "!*/**/x"],
        ] {
            assert!(Filters::new(patterns).is_ok(), "{patterns:?}");
        }
    }
}
