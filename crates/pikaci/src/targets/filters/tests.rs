//! The language of path filters, by example and by property.

use proptest::prelude::*;

use super::cover::Wide;
use super::*;

fn filters(patterns: &[&str]) -> Filters {
    Filters::new(patterns.iter().copied()).unwrap()
}

fn selects(patterns: &[&str], file: &str) -> bool {
    filters(patterns).first_match([file]).is_some()
}

fn refusal(patterns: &[&str]) -> String {
    match Filters::new(patterns.iter().copied()) {
        Ok(_) => "accepted".to_owned(),
        Err(errors) => errors
            .iter()
            .map(|(index, error)| {
                let help = error.help(patterns[*index]).map(|help| format!("; {help}")).unwrap_or_default();
                format!("{}: {error}{help}", patterns[*index])
            })
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

#[test]
fn a_pattern_matches_whole_paths_and_a_star_stays_in_its_component() {
    for (pattern, file, expected) in [
        ("src/main.rs", "src/main.rs", true),
        ("src/main.rs", "a/src/main.rs", false),
        ("src", "src/main.rs", false),
        ("*", "Cargo.toml", true),
        ("*", "src/main.rs", false),
        ("*.rs", "main.rs", true),
        ("*.rs", "src/main.rs", false),
        ("src/*.rs", "src/a/b.rs", false),
        ("src/*", "src/.hidden", true),
        ("src/*/mod.rs", "src/a/mod.rs", true),
        ("src/*/mod.rs", "src/a/b/mod.rs", false),
        ("src/*/mod.rs", "src/mod.rs", false),
        ("**", "a", true),
        ("**", "a/b/c", true),
        ("src/**", "src/a", true),
        ("src/**", "src/a/b/c", true),
        ("src/**", "src", true),
        ("src/**", "srcs/a", false),
        ("**/*.md", "README.md", true),
        ("**/*.md", "docs/a/b.md", true),
        ("src/**/tests/*", "src/tests/a", true),
        ("src/**/tests/*", "src/x/y/tests/a", true),
        ("src/**/tests/*", "src/xtests/a", false),
        ("Cargo.*", "Cargo.lock", true),
        ("Cargo.*", "cargo.lock", false),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("[a-c]x", "bx", true),
        ("[a-c]x", "dx", false),
        ("[!a-c]x", "dx", true),
        ("[^a-c]x", "bx", false),
        ("a[!b]c", "a/c", false),
        ("a[+-9]c", "a/c", false),
        ("a[+-9]c", "a5c", true),
        ("[]]", "]", true),
        ("[!]]", "a", true),
        ("[!]]", "]", false),
        ("[a-]", "-", true),
        ("[-a]", "-", true),
        ("[!-a]", "-", false),
        ("[\\]", "\\", true),
        ("x[\\!^]", "x^", true),
        ("x[a!]", "x!", true),
        ("{src,tests}/**", "tests/a/b", true),
        ("{src,tests}/**", "benches/a", false),
        ("{src/**,*.toml}", "src/a/b", true),
        ("{src/**,*.toml}", "Cargo.toml", true),
        ("{src/**,*.toml}", "a/Cargo.toml", false),
        ("a{,.bak}", "a", true),
        ("a{,.bak}", "a.bak", true),
        ("a{b{c,d},e}", "abd", true),
        ("a{b{c,d},e}", "ae", true),
        ("a{b{c,d},e}", "ab", false),
        ("{a,*}{b,*}", "x", true),
        ("{a,*}{b,*}", "x/b", false),
        ("a,b", "a,b", true),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("\\!important", "!important", true),
        ("\\{a\\}", "{a}", true),
        ("docs/Grüße *.md", "docs/Grüße aus Köln.md", true),
        ("日本/**", "日本/東京/駅.txt", true),
        ("*.txt", "日本.txt", true),
        ("my file.txt", "my file.txt", true),
        (" a", "a", false),
    ] {
        assert_eq!(selects(&[pattern], file), expected, "{pattern} {file}");
    }
}

#[test]
fn the_last_pattern_that_matches_a_file_decides() {
    let list = ["src/**", "Cargo.*", "!**/*.md", "src/keep.md"];
    for (file, expected) in [
        ("src/a.rs", Some("src/**")),
        ("src/a.md", None),
        ("src/keep.md", Some("src/keep.md")),
        ("Cargo.lock", Some("Cargo.*")),
        ("README.md", None),
        ("docs/a.txt", None),
    ] {
        let filters = filters(&list);
        assert_eq!(filters.first_match([file]), expected.map(|pattern| (file, pattern)), "{file}");
    }
    // The same patterns in another order say something else.
    assert!(selects(&["src/**", "!src/gen/**", "src/gen/keep.rs"], "src/gen/keep.rs"));
    assert!(!selects(&["src/**", "src/gen/k*.rs", "!src/gen/*p.rs"], "src/gen/keep.rs"));
}

#[test]
fn the_first_file_that_is_selected_is_told_with_its_pattern() {
    let filters = filters(&["src/**", "{a,b}/*.rs", "!src/gen/**"]);
    let changed = ["README.md", "src/gen/x.rs", "b/x.rs", "src/y.rs"];
    assert_eq!(filters.first_match(changed), Some(("b/x.rs", "{a,b}/*.rs")));
    assert_eq!(filters.first_match(["README.md"]), None);
    assert_eq!(filters.first_match([]), None);
}

#[test]
fn no_patterns_are_empty_and_match_nothing_by_themselves() {
    let none = Filters::default();
    assert!(none.is_empty());
    assert_eq!(none.first_match(["a"]), None);
    assert!(!filters(&["a"]).is_empty());
    assert_eq!(filters(&["b", "a"]).patterns(), ["b", "a"]);
}

#[test]
fn a_pattern_that_cannot_match_is_refused() {
    let bad = [
        "",
        "!",
        "/",
        "/src/**",
        "!/src",
        "./src",
        "../a",
        "a/../b",
        "a/./b",
        "a//b",
        "src/",
        "!target/",
        "**/",
        "src/**.rs",
        "a**",
        "***",
        "[",
        "[]",
        "[!]",
        "a[b",
        "[z-a]",
        "[ä]",
        "[/]",
        "{",
        "{a",
        "a}",
        "{a,/b}",
        "{a,..}/b",
        "{,}",
        "a\\",
        "a\0b",
        "\\.\\./a",
    ];
    let told: Vec<String> = bad.iter().map(|pattern| refusal(&[pattern])).collect();
    insta::assert_snapshot!(told.join("\n").replace('\0', "<NUL>"), @r#"
    : it is empty
    !: it is empty
    /: it starts with `/`, and paths are relative to the root of the source tree; write `**`
    /src/**: it starts with `/`, and paths are relative to the root of the source tree; write `src/**`
    !/src: it starts with `/`, and paths are relative to the root of the source tree; write `!src`
    ./src: it contains `.`, which no path relative to the root of the source tree does; write `src`
    ../a: it contains `..`, which no path relative to the root of the source tree does
    a/../b: it contains `..`, which no path relative to the root of the source tree does
    a/./b: it contains `.`, which no path relative to the root of the source tree does
    a//b: it contains `//`, which no path does
    src/: it ends with `/`, and patterns match files, not directories; write `src/**`
    !target/: it ends with `/`, and patterns match files, not directories; write `!target/**`
    **/: it ends with `/`, and patterns match files, not directories; write `**`
    src/**.rs: `**` stands beside other characters, and crosses `/` only as a component of its own; write `dir/**/*.ext` for all depths, `dir/*.ext` for one
    a**: `**` stands beside other characters, and crosses `/` only as a component of its own; write `dir/**/*.ext` for all depths, `dir/*.ext` for one
    ***: `**` stands beside other characters, and crosses `/` only as a component of its own; write `dir/**/*.ext` for all depths, `dir/*.ext` for one
    [: `[` is never closed
    []: `[` is never closed
    [!]: `[` is never closed
    a[b: `[` is never closed
    [z-a]: the range `z-a` is the wrong way round
    [ä]: `[...]` stands for one byte, and `ä` is not one
    [/]: `[...]` stands for one byte that is not `/`
    {: `{` is never closed
    {a: `{` is never closed
    a}: `}` is never opened
    {a,/b}: it starts with `/`, and paths are relative to the root of the source tree
    {a,..}/b: it contains `..`, which no path relative to the root of the source tree does
    {,}: it is empty
    a\: it ends with `\`, which quotes the character after it
    a<NUL>b: it contains a NUL, which no path does
    \.\./a: it contains `..`, which no path relative to the root of the source tree does
    "#);
}

#[test]
fn braces_are_bounded() {
    let many = "{a,b}".repeat(9);
    let deep = format!("{}a{}", "{".repeat(17), "}".repeat(17));
    let long = "a".repeat(5000);
    for (pattern, error) in
        [(many, PatternError::TooMany), (deep, PatternError::TooDeep), (long, PatternError::TooLong)]
    {
        assert_eq!(Filters::new([pattern]).unwrap_err(), [(0, error)]);
    }
    assert!(Filters::new(["{a,b}".repeat(8)]).is_ok());
}

#[test]
fn a_pattern_whose_neighbours_leave_it_nothing_is_refused() {
    for list in [
        &["src/**", "!src/**"][..],
        &["src/a.rs", "!src/*.rs"],
        &["docs/*.md", "!**/*.md"],
        &["a", "b/**", "!**"],
        &["src/**", "!src/**", "src/a"],
        &["{a,b}/x", "!*/x"],
        &["[ab]", "![ab]"],
        &["[ab]", "!?"],
        &["a/**/b", "!a/**"],
        &["a/**", "!a/**/*"],
        &["!**/*.md"],
        &["!a", "b"],
    ] {
        assert_ne!(refusal(list), "accepted", "{list:?}");
    }
    for list in [
        &["src/**", "!src/*"][..],
        &["src/*", "!src/?"],
        &["src/*", "!src/*.rs"],
        &["src/*.rs", "!src/?*?*?.rs"],
        &["**", "!**/?"],
        &["**", "!*"],
        &["**", "!*/**"],
        &["**/*", "!?/**/*"],
        &["*", "!{a,b}*"],
        &["[ab]", "![bc]"],
        &["?", "![!a]"],
        &["a/**/b", "!a/*/b"],
        &["!a", "a"].as_slice()[1..],
        &["src/**", "!src/gen/**", "src/gen/keep.rs"],
        &["src/gen/keep.rs", "!src/gen/k", "src/**"],
    ] {
        assert_eq!(refusal(list), "accepted", "{list:?}");
    }
    insta::assert_snapshot!(refusal(&["docs/*.md", "src/**", "!**/*.md"]), @"docs/*.md: it selects nothing, since `!**/*.md` comes later and excludes all that it matches");
    insta::assert_snapshot!(refusal(&["!**/*.md"]), @"!**/*.md: it excludes nothing, since no pattern before it selects anything; put `**` first to select everything else");
}

fn pattern_text() -> impl Strategy<Value = String> {
    let part =
        prop::sample::select(vec!["a", "b", "*", "?", "**", "/", "/", ".x", "{a,*}", "[ab]", "[!a]", "c/"]);
    prop::collection::vec(part, 1..7).prop_map(|parts| parts.concat())
}

fn path_text() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc.x]{1,3}", 1..5).prop_map(|components| components.join("/"))
}

/// A second matcher, written for these tests: one pattern without braces against one path.
fn matches(pattern: &[pattern::Part], path: &[char]) -> bool {
    use pattern::Part;
    match pattern {
        [] => path.is_empty(),
        [Part::Stars(2)] => true,
        [Part::Stars(2), Part::Slash, rest @ ..] => {
            matches(rest, path)
                || path.iter().enumerate().any(|(at, c)| *c == '/' && matches(rest, &path[at + 1..]))
        }
        [Part::Stars(_), rest @ ..] => {
            let reach = path.iter().position(|c| *c == '/').unwrap_or(path.len());
            (0..=reach).any(|at| matches(rest, &path[at..]))
        }
        [part, rest @ ..] => path.split_first().is_some_and(|(c, tail)| {
            let one = match part {
                Part::Char(literal) => literal == c,
                Part::Slash => *c == '/',
                Part::Any => *c != '/',
                Part::Class { negated, ranges } => {
                    *c != '/' && ranges.iter().any(|(first, last)| (first..=last).contains(&c)) != *negated
                }
                Part::Stars(_) | Part::Open | Part::Comma | Part::Close => false,
            };
            one && matches(rest, tail)
        }),
    }
}

proptest! {
    #[test]
    fn any_text_is_a_pattern_or_a_refusal(text in any::<String>(), file in any::<String>()) {
        if let Ok(filters) = Filters::new([text]) {
            let _ = filters.first_match([file.as_str()]);
        }
    }

    #[test]
    fn any_ascii_is_a_pattern_or_a_refusal(text in "[ab*?!/{},.\\[\\]\\\\^-]{0,12}", file in "[ab/!.-]{0,6}") {
        if let Ok(filters) = Filters::new([text]) {
            let _ = filters.first_match([file.as_str()]);
        }
    }

    #[test]
    fn matching_equals_a_matcher_written_by_the_rules(text in pattern_text(), file in path_text()) {
        let Ok(pattern) = Pattern::parse(&text) else { return Ok(()) };
        prop_assume!(!pattern.excludes);
        let path: Vec<char> = file.chars().collect();
        let expected = pattern.flats.iter().any(|flat| {
            let itself = match flat.as_slice() {
                [directory @ .., pattern::Part::Slash, pattern::Part::Stars(2)] => matches(directory, &path),
                _ => false,
            };
            itself || matches(flat, &path)
        });
        prop_assert_eq!(selects(&[&text], &file), expected, "{} {}", text, file);
    }

    #[test]
    fn what_counts_as_covered_is_covered(
        wide in pattern_text(), narrow in pattern_text(), files in prop::collection::vec(path_text(), 40)
    ) {
        let (Ok(wide_pattern), Ok(narrow_pattern)) = (Pattern::parse(&wide), Pattern::parse(&narrow)) else {
            return Ok(());
        };
        if Wide::new(&wide_pattern).covers(&narrow_pattern) {
            for file in &files {
                prop_assert!(!selects(&[&narrow], file) || selects(&[&wide], file), "{wide} {narrow} {file}");
            }
        }
    }
}

#[test]
fn everything_below_a_directory_is_also_the_directory_itself_for_a_submodule_is_one_path() {
    let filters = Filters::new(["vendor/lib/**", "!vendor/lib/docs/**"]).unwrap();
    assert_eq!(filters.first_match(["vendor/lib"]), Some(("vendor/lib", "vendor/lib/**")));
    assert_eq!(filters.first_match(["vendor/lib/docs", "vendor/lib/docs/a", "vendor"]), None);
}
