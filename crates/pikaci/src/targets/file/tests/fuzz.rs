//! Whatever stands in a file: it is targets that can be planned, or problems with a place in it.

use proptest::prelude::*;
use toml::{Table, Value};

use super::super::keys::{CACHE, JOB, SECRET, STAGED, TARGET, TableSpec};
use super::*;

/// Holds what every text holds.
fn check(text: &str) -> Result<(), TestCaseError> {
    match parse(text.as_bytes(), &Origin::BuiltIn, &["jericho-smoke"], None) {
        Ok(declared) => {
            for target in declared.targets {
                prop_assert!(!target.jobs.is_empty());
                let request = jerichoci::run::request::RunRequest::new(target.jobs.clone());
                prop_assert!(request.check().is_ok());
                let plan = jerichoci::run::plan::plan(&target.jobs);
                prop_assert!(plan.is_ok(), "{:?}\n{text}", plan.err());
            }
        }
        Err(TargetError::Toml { problems, .. }) => {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                let line = text.split('\n').nth(problem.line - 1);
                let fits = line.is_some_and(|line| problem.column <= line.chars().count() + 1);
                prop_assert!(fits, "{problem}\n{text}");
                prop_assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
            }
        }
        Err(other) => prop_assert!(false, "{other}"),
    }
    Ok(())
}

/// Words that mean something somewhere.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "x", "a", "b", "a.1", "", "true", "1h", "5m", "90s", "4GiB", "20GiB", "incus", "tart", "host_process", "local",
            "builder", "default", "TOKEN", "env", "file", "shared", "locked", "always", "never", "shallow", "full",
            "jericho/dev", "jericho-runner", "/cache", "cache", "ci.x.y", "run-tests", "src/**", "!**/*.md", "**",
            "${a}", "${b}", "${os}", "x${a}y", "$a", "${HOME}", "branch", "nightly", "rust", "../x", "ü", "\u{1b}[2J", "a\nb",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

/// A value of any type, as deep as the format goes and a bit deeper.
fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        6 => word().prop_map(Value::String),
        2 => prop_oneof![-2..300_i64, any::<i64>()].prop_map(Value::Integer),
        1 => any::<f64>().prop_map(Value::Float),
        2 => any::<bool>().prop_map(Value::Boolean),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            table_of(vec![&CACHE, &SECRET, &STAGED], inner).prop_map(Value::Table),
        ]
    })
    .boxed()
}

/// A table whose keys are mostly known.
fn table_of(
    specs: Vec<&'static TableSpec>,
    values: impl Strategy<Value = Value> + Clone,
) -> impl Strategy<Value = Table> {
    let known: Vec<String> =
        specs.iter().flat_map(|spec| spec.keys.iter().map(|key| key.name.to_owned())).collect();
    let key = prop_oneof![9 => prop::sample::select(known), 2 => word()];
    prop::collection::vec((key, values), 0..7).prop_map(|entries| entries.into_iter().collect())
}

/// A value that the key is likely to take.
fn likely(name: &str) -> Option<BoxedStrategy<Value>> {
    let words = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        prop::sample::select(words).prop_map(Value::String).boxed()
    };
    Some(match name {
        "command" => words(&["x", "run-tests", "x ${a} ${b}"]),
        "runtime" => words(&["incus", "tart", "host_process", "${a}"]),
        "needs" => {
            prop::collection::vec(words(&["a", "b", "c", "a.1", "b.2"]), 0..3).prop_map(Value::Array).boxed()
        }
        "matrix" => {
            let values =
                prop::collection::vec(words(&["incus", "x", "y", "1h", "a"]), 1..3).prop_map(Value::Array);
            let names = prop::sample::select(vec!["a".to_owned(), "b".to_owned(), "os".to_owned()]);
            prop::collection::btree_map(names, values, 1..3)
                .prop_map(|map| Value::Table(map.into_iter().collect()))
                .boxed()
        }
        "staged" => (words(&["o.a", "o.b"]), words(&["o.c", "o.d"]), words(&["p", "q"]))
            .prop_map(|(deps, build, prefix)| {
                let pairs = [("deps", deps), ("build", build), ("prefix", prefix)];
                Value::Table(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            })
            .boxed(),
        "timeout" => words(&["1h", "5m"]),
        "git" => words(&["none", "shallow", "full"]),
        "artifacts_when" => words(&["always", "failure"]),
        "description" | "image" | "group" | "on" => words(&["x", "local", "${a}"]),
        "secrets" | "artifacts" => {
            prop::collection::vec(words(&["A", "B", "c_${a}"]), 0..3).prop_map(Value::Array).boxed()
        }
        "retries" | "cpus" => (0..3_i64).prop_map(Value::Integer).boxed(),
        "root" | "writable" | "network" => any::<bool>().prop_map(Value::Boolean).boxed(),
        _ => return None,
    })
}

fn job() -> impl Strategy<Value = Value> {
    let names: Vec<&'static str> = JOB.keys.iter().map(|key| key.name).collect();
    let entry = prop::sample::select(names).prop_flat_map(|name| {
        let values = match likely(name) {
            Some(likely) => prop_oneof![12 => likely, 1 => value()].boxed(),
            None => value().boxed(),
        };
        values.prop_map(move |value| (name.to_owned(), value))
    });
    // Mostly few keys, so that some are right as a whole.
    (prop::collection::vec(entry, 0..5), prop::bool::weighted(0.9)).prop_map(|(entries, has_command)| {
        let mut table: Table = entries.into_iter().collect();
        if has_command {
            table.entry("command".to_owned()).or_insert_with(|| Value::String("x".to_owned()));
        }
        Value::Table(table)
    })
}

fn file() -> impl Strategy<Value = String> {
    let jobs = prop::collection::btree_map(
        prop::sample::select(vec!["a", "b", "c", "a.1", "b", "c", "d", "e e"]),
        job(),
        1..4,
    );
    let rest = table_of(vec![&TARGET], value());
    (jobs, prop_oneof![4 => Just(Table::new()), 1 => rest]).prop_map(|(jobs, mut target)| {
        let jobs: Table = jobs.into_iter().map(|(name, job)| (name.to_owned(), job)).collect();
        target.insert("jobs".to_owned(), Value::Table(jobs));
        let targets = Table::from_iter([("t".to_owned(), Value::Table(target))]);
        let root = Table::from_iter([("targets".to_owned(), Value::Table(targets))]);
        toml::to_string(&root).unwrap_or_default()
    })
}

proptest! {
    #[test]
    fn any_bytes_are_targets_or_problems(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = told(&bytes);
    }

    #[test]
    fn any_file_of_the_format_is_jobs_that_can_be_planned_or_problems_with_a_place_in_it(text in file()) {
        check(&text)?;
    }

    #[test]
    fn any_words_of_the_format_are_targets_or_problems_with_a_place_in_the_file(
        words in prop::collection::vec(prop::sample::select(vec![
            "[targets.a]\n", "[targets.a.jobs.b]\n", "[targets.a.jobs.c]\n", "[groups]\n", "version", "command",
            "needs", "paths", "timeout", "env", "group", "runtime", "nix_shell", "default", "trigger", "jobs",
            "matrix", "caches", "secrets", "staged", "[settings]\n", "on", "${a}", "'${a}'\n", "{ a = ['b'] }\n",
            " = ", " = ", " = ", "1\n", "true\n", "'x'\n", "['b']\n", "['c']\n", "'1h'\n", "'db'\n", "{ a = 'b' }\n",
            "'ü'\n", "['!a', '**']\n", ".", "b", "\"", "\n",
        ]), 0..24),
    ) {
        check(&words.concat())?;
    }
}

#[test]
fn a_good_part_of_the_files_is_accepted() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let accepted = (0..400)
        .filter(|_| {
            let text = file().new_tree(&mut runner).unwrap().current();
            parse(text.as_bytes(), &Origin::BuiltIn, &[], None).is_ok()
        })
        .count();
    // Otherwise the property above would say little about plans.
    assert!(accepted > 40, "{accepted} of 400");
}
