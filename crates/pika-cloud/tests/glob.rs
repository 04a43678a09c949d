//! The globs of artifacts: the same language as globset with literal separators.

use globset::GlobBuilder;
use pika_cloud::glob::{GlobError, GlobSet};
use proptest::prelude::*;

fn matches(pattern: &str, path: &str) -> bool {
    GlobSet::new(&[pattern]).unwrap().matches(path.as_bytes())
}

#[test]
fn stars_stay_within_a_name_and_two_cross_directories() {
    for (pattern, path, expected) in [
        ("*.xml", "a.xml", true),
        ("*.xml", "d/a.xml", false),
        ("**/*.xml", "a.xml", true),
        ("**/*.xml", "d/e/a.xml", true),
        ("d/**", "d/e/f", true),
        ("d/**", "d", false),
        ("**/**", "d", true),
        ("d/**", "dd/e", false),
        ("**", "a/b", true),
        ("a/**/b", "a/b", true),
        ("a/**/b/**/c", "a/b/x/b/y/c", true),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("[a-c]x", "bx", true),
        ("[!a-c]x", "bx", false),
        ("[]]x", "]x", true),
        ("{a,b/c}.{x,y}", "b/c.y", true),
        ("{a,b/c}.{x,y}", "b/c.z", false),
        ("{,x}a", "a", true),
        (r"\*", "*", true),
        (r"\*", "a", false),
        ("{a,*}*", "bc", true),
        ("{a,*}*", "b/c", false),
        ("*{*,a}", "b/c", false),
        (r"{\*,b}*", "*c", true),
        (r"{\*,b}*", "ac", false),
        ("a*b*c", "a-b-b-c", true),
    ] {
        assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
    }
    assert!(GlobSet::new(&["*"]).unwrap().matches(b"\xff\xfe"));
}

#[test]
fn the_last_pattern_that_matches_decides() {
    let set = GlobSet::new(&["out/**", "!out/tmp/**", "out/tmp/keep"]).unwrap();
    let chosen = ["out/a", "out/tmp/a", "out/tmp/keep", "other"].map(|path| set.matches(path.as_bytes()));
    assert_eq!(chosen, [true, false, true, false]);
    assert!(!GlobSet::default().matches(b"a"));
}

#[test]
fn patterns_that_can_match_nothing_are_refused_with_their_index() {
    for (pattern, error) in [
        ("", GlobError::Empty),
        ("!", GlobError::Empty),
        ("a\0", GlobError::Nul),
        ("/a", GlobError::Slash),
        ("a/", GlobError::Slash),
        ("a//b", GlobError::Slash),
        ("../a", GlobError::Dots),
        ("a/./b", GlobError::Dots),
        ("{a,..}/b", GlobError::Dots),
        ("a**", GlobError::Stars),
        ("***", GlobError::Stars),
        ("[a", GlobError::Class),
        ("[z-a]", GlobError::Class),
        ("{a", GlobError::Braces),
        ("a}", GlobError::Braces),
        ("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", GlobError::Braces),
        ("a\\", GlobError::Escape),
        (&"a".repeat(4097), GlobError::TooLong),
    ] {
        assert_eq!(GlobSet::new(&["fine", pattern]).unwrap_err(), [(1, error)], "{pattern}");
    }
    let deep = "{".repeat(5000);
    assert!(GlobSet::new(&[&deep[..4000]]).is_err());
}

#[test]
fn many_stars_take_no_time() {
    let pattern = "a*".repeat(200) + "b";
    assert!(!matches(&pattern, &"a".repeat(2000)));
    let pattern = "**/a/".repeat(200) + "b";
    assert!(!matches(&pattern, &"a/".repeat(400)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_is_what_globset_says(
        pattern in prop::collection::vec("[ab]|\\*|\\?|[*][*]/|/|/[*][*]|\\[a-b\\]|\\[!a\\]|\\{a,b[*]\\}|\\\\[*]", 1..7),
        path in "[ab*]{1,3}(/[ab]{1,3}){0,3}",
    ) {
        let pattern = pattern.concat();
        if let Ok(set) = GlobSet::new(&[&pattern]) {
            // There a class that excludes takes a slash, which no name has.
            let whole = pattern.replace("[!a]", "[!a/]");
            let glob = GlobBuilder::new(&whole).literal_separator(true).backslash_escape(true).build().unwrap();
            prop_assert_eq!(set.matches(path.as_bytes()), glob.compile_matcher().is_match(&path), "{} {}", pattern, path);
        }
    }
}
