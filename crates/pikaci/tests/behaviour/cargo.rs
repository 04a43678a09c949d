//! cargo as a host job: nothing is compiled twice, and nothing stale is ever run.

use jericho_testkit::need::needs_program;

use crate::common::{Ended, Tree, Way, each_way, variable};

const TARGETS: &str = r#"
[targets.build.jobs.build]
command = "pwd; echo $CARGO_TARGET_DIR; cargo run --offline --locked 2>&1"

[targets.kept.jobs.build]
command = "pwd; echo; CARGO_TARGET_DIR=$JERICHO_CACHE_TARGET cargo run --offline --locked 2>&1"
caches.target = { path = "target" }

[targets.hold.jobs.hold]
command = "touch @OUT@/held; until [ -e @OUT@/go ]; do sleep 0.05; done; rm @OUT@/go @OUT@/held"
"#;

fn tree(way: Way) -> Tree {
    let tree = Tree::new(way, TARGETS);
    tree.write("Cargo.toml", "[workspace]\nmembers = [\"base\", \"top\"]\nresolver = \"2\"\n");
    tree.write("base/Cargo.toml", "[package]\nname = \"base\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    tree.write(
        "top/Cargo.toml",
        "[package]\nname = \"top\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nbase = { path = \"../base\" }\n",
    );
    tree.write(
        "Cargo.lock",
        "version = 3\n\n[[package]]\nname = \"base\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"top\"\nversion = \"0.1.0\"\ndependencies = [\n \"base\",\n]\n",
    );
    base(&tree, "1");
    top(&tree, "1");
    tree.repo().commit("crates").unwrap();
    tree
}

fn base(tree: &Tree, says: &str) {
    tree.write("base/src/lib.rs", format!("pub const WORD: &str = \"base {says}\";\n"));
}

fn top(tree: &Tree, says: &str) {
    tree.write("top/src/main.rs", format!("fn main() {{ println!(\"{{}} top {says}\", base::WORD); }}\n"));
}

/// What a run printed.
#[derive(Debug)]
struct Built {
    id: String,
    places: Vec<String>,
    compiled: Vec<String>,
    said: String,
}

#[track_caller]
fn built(tree: &Tree, args: &[&str]) -> Built {
    let mut all = args.to_vec();
    all.extend(["--output", "json"]);
    let mut pikaci = tree.pikaci(&all);
    for name in ["HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = variable(name) {
            pikaci.env(name, value);
        }
    }
    let record = Ended::of(pikaci.output().unwrap()).json();
    let id = record["run_id"].as_str().unwrap().to_owned();
    let log = String::from_utf8(tree.host_log(&id, "build")).unwrap();
    assert_eq!(record["status"], "passed", "{log}");
    let lines: Vec<&str> = log.lines().collect();
    let compiled = lines.iter().filter_map(|line| line.trim().strip_prefix("Compiling "));
    let compiled = compiled.map(|rest| rest.split(' ').next().unwrap().to_owned()).collect();
    let places = lines[..2].iter().map(ToString::to_string).collect();
    Built { id, places, compiled, said: (*lines.last().unwrap()).to_owned() }
}

#[test]
fn cargo_compiles_what_changed_and_nothing_else_and_never_runs_a_stale_binary() {
    const NAME: &str = "cargo_compiles_what_changed_and_nothing_else_and_never_runs_a_stale_binary";
    if !needs_program(NAME, "cargo") {
        return;
    }
    each_way(|way| {
        let tree = tree(way);
        let first = built(&tree, &["run", "build"]);
        assert_eq!(first.compiled, ["base", "top"], "{way:?} {first:?}");
        assert_eq!(first.said, "base 1 top 1");

        let second = built(&tree, &["run", "build"]);
        assert_eq!(second.compiled, Vec::<String>::new(), "{way:?}: nothing has changed");
        assert_eq!(second.said, "base 1 top 1");
        assert_eq!(second.places, first.places, "{way:?}: one place in every run");

        tree.write("README", "not of any crate");
        tree.repo().commit("another commit").unwrap();
        let unrelated = built(&tree, &["run", "build"]);
        assert_eq!(unrelated.compiled, Vec::<String>::new(), "{way:?}: no crate has changed");

        top(&tree, "2");
        let edited = built(&tree, &["run", "build"]);
        assert_eq!(edited.compiled, ["top"], "{way:?}: only this crate has changed");
        assert_eq!(edited.said, "base 1 top 2");

        base(&tree, "2");
        let below = built(&tree, &["run", "build"]);
        assert_eq!(below.compiled, ["base", "top"], "{way:?}");
        assert_eq!(below.said, "base 2 top 2");

        // Times in the user's tree say nothing: these are the old bytes under new times.
        tree.git(["checkout", "-q", "--", "base", "top"]);
        assert_eq!(built(&tree, &["run", "build"]).said, "base 1 top 1", "{way:?}: reverted");

        let newer = built(&tree, &["rerun", &below.id]);
        assert_eq!(newer.said, "base 2 top 2", "{way:?}");
        let older = built(&tree, &["rerun", &first.id]);
        assert_eq!(older.said, "base 1 top 1", "{way:?}: an older snapshot after a newer one");
        assert_eq!(built(&tree, &["rerun", &edited.id]).said, "base 1 top 2", "{way:?}");
        assert_eq!(older.places, first.places, "{way:?}");
    });
}

#[test]
fn a_cache_never_passes_off_what_was_built_of_another_source() {
    const NAME: &str = "a_cache_never_passes_off_what_was_built_of_another_source";
    if !needs_program(NAME, "cargo") {
        return;
    }
    each_way(|way| {
        let tree = tree(way);
        let first = built(&tree, &["run", "kept"]);
        assert_eq!((first.compiled.len(), first.said.as_str()), (2, "base 1 top 1"), "{way:?} {first:?}");
        let second = built(&tree, &["run", "kept"]);
        assert_eq!(second.compiled, Vec::<String>::new(), "{way:?}: nothing has changed");
        assert_eq!(second.places, first.places, "{way:?}: one place in every run");
        // While somebody has the tree of this source, another one is written out in another tree.
        let hold = tree.start(&["run", "hold"]);
        tree.wait_for_file("held");
        top(&tree, "2");
        assert_eq!(built(&tree, &["run", "kept"]).said, "base 1 top 2", "{way:?}");
        tree.make_file("go");
        hold.end().code(0);
        // The first tree again, with the times that it had before the other one was built.
        top(&tree, "1");
        assert_eq!(built(&tree, &["run", "kept"]).said, "base 1 top 1", "{way:?}");
        let again = built(&tree, &["run", "kept"]);
        assert_eq!((again.compiled, again.said.as_str()), (Vec::new(), "base 1 top 1"), "{way:?}");
    });
}
