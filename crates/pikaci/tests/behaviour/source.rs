//! What is in a snapshot, and what taking one does to the tree: nothing.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::common::{Tree, each_way, listing};

/// Shows every file but directories, with its mode, sorted.
const LIST: &str = r#"
[targets.list.jobs.list]
command = "find . -mindepth 1 ! -type d -printf '%P %y\\n' | LC_ALL=C sort"
"#;

fn listed(tree: &Tree, id: &str) -> Vec<String> {
    let log = tree.host_log(id, "list");
    String::from_utf8_lossy(&log).lines().map(str::to_owned).collect()
}

#[track_caller]
fn list(tree: &Tree, more: &[&str]) -> (serde_json::Value, Vec<String>) {
    let mut args = vec!["run", "list"];
    args.extend(more);
    let record = tree.record_of(&args);
    assert_eq!(record["status"], "passed", "{record:#}");
    let path = std::path::PathBuf::from(record["jobs"][0]["host_log_path"].as_str().unwrap());
    let log = std::fs::read(path).unwrap();
    (record, String::from_utf8_lossy(&log).lines().map(str::to_owned).collect())
}

#[test]
fn ignored_files_stay_out_and_tracked_ones_come_whatever_their_directory_is_called() {
    each_way(|way| {
        let tree = Tree::new(way, LIST);
        tree.write(".gitignore", "*.ignored\n.env\ntarget/\nbuild/\nnode_modules/\n");
        for name in ["src/build/tracked", "target/tracked", "node_modules/tracked", "x.ignored", ".env"] {
            tree.write(name, name);
        }
        tree.git(["add", "-f", "src/build/tracked", "target/tracked", "node_modules/tracked"]);
        tree.repo().commit("forced").unwrap();
        tree.write("target/untracked", "");
        tree.write("untracked", "");
        let (_, seen) = list(&tree, &[]);
        let expected = [
            ".gitignore f",
            "jericho.toml f",
            "node_modules/tracked f",
            "src/build/tracked f",
            "target/tracked f",
            "untracked f",
        ];
        assert_eq!(seen, expected);
    });
}

#[test]
fn links_modes_and_odd_names_come_as_they_are() {
    each_way(|way| {
        let tree = Tree::new(
            way,
            "[targets.list.jobs.list]\ncommand = \"find . -mindepth 1 -printf '%P %y %l %m\\\\0'; test -x run; test ! -x plain\"\n",
        );
        tree.write("run", "#!/bin/sh\n");
        std::fs::set_permissions(tree.root().join("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
        tree.write("plain", "");
        symlink("nowhere/at all", tree.root().join("dangling")).unwrap();
        let odd = std::ffi::OsStr::from_bytes(b"new\nline \xff\xfe -x");
        tree.write(odd, "");
        let record = tree.record_of(&["run", "list"]);
        assert_eq!(record["status"], "passed", "{record:#}");
        let log = tree.host_log(record["run_id"].as_str().unwrap(), "list");
        let names: Vec<&[u8]> = log.split(|byte| *byte == 0).collect();
        assert!(names.iter().any(|name| name.starts_with(odd.as_bytes())), "{names:?}");
        assert!(names.iter().any(|name| name.starts_with(b"dangling l nowhere/at all")), "{names:?}");
    });
}

#[test]
fn a_run_changes_nothing_in_the_tree_not_even_the_index_of_git() {
    each_way(|way| {
        let tree = Tree::new(way, LIST);
        tree.write("tracked", "same content");
        tree.repo().commit("more").unwrap();
        // The index knows another time of it now: `git status` would write that down.
        tree.write("tracked", "same content");
        tree.write("untracked", "");
        let (dirty, before) = ("?? untracked\n", listing(tree.root()));
        let before_index = before[&tree.root().join(".git/index")].clone();
        for args in [&["run", "list"][..], &["run", "jericho-smoke"], &["run", "list", "--base", "main"]] {
            tree.run(args).code(0);
        }
        let state = tree.state_root();
        let mut after = listing(tree.root());
        after.retain(|path, _| !path.starts_with(&state));
        // The top itself has one entry more.
        let without_top = |mut all: std::collections::BTreeMap<_, _>| {
            all.remove(tree.root());
            all
        };
        assert_eq!(without_top(after), without_top(before));
        let index = listing(tree.root())[&tree.root().join(".git/index")].clone();
        assert_eq!(index, before_index);
        assert_eq!(tree.git(["status", "--porcelain"]), dirty, "the state root is not in it");
    });
}

#[test]
fn the_state_root_is_never_in_the_snapshot_wherever_it_lies() {
    each_way(|way| {
        let tree = Tree::new(way, LIST);
        let (first, seen) = list(&tree, &[]);
        assert_eq!(seen, ["jericho.toml f"]);
        for place in ["state", "deep/below/state", ".jerichoci"] {
            for _ in 0..2 {
                let (record, seen) = list(&tree, &["--state-root", place]);
                assert_eq!(seen, ["jericho.toml f"], "{place}");
                assert_eq!(record["snapshot_hash"], first["snapshot_hash"], "{place}");
            }
            assert_eq!(tree.git(["status", "--porcelain"]), "", "{place}");
            if place != ".jerichoci" {
                std::fs::remove_dir_all(tree.root().join(place.split('/').next().unwrap())).unwrap();
            }
        }
        // Its own `.gitignore` does not hide what somebody has committed of it.
        tree.git(["add", "-f", ".jerichoci/engine.json"]);
        tree.repo().commit("by mistake").unwrap();
        let (record, seen) = list(&tree, &[]);
        assert_eq!(seen, ["jericho.toml f"]);
        assert_eq!(record["snapshot_hash"], first["snapshot_hash"]);
    });
}

#[test]
fn fifos_and_sockets_are_left_out_with_a_warning_that_names_them() {
    let tree = Tree::with(LIST);
    tree.write("was a file", "");
    tree.write("was another", "");
    tree.repo().commit("files").unwrap();
    for name in ["was a file", "was another"] {
        std::fs::remove_file(tree.root().join(name)).unwrap();
    }
    jericho_testkit::repo::fifo(&tree.root().join("was a file")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.root().join("was another")).unwrap();
    // git itself does not see this one.
    jericho_testkit::repo::fifo(&tree.root().join("untracked pipe")).unwrap();
    let both = |tree: &Tree| {
        let ended = tree.run(&["run", "list"]).code(0);
        let record = tree.stored(&tree.run_ids()[0]);
        let warnings = record["warnings"].to_string();
        for name in ["was a file", "was another"] {
            assert!(warnings.contains(name) && ended.stderr.contains(name), "{warnings} {ended:?}");
        }
        assert_eq!(listed(tree, &tree.run_ids()[0]), ["jericho.toml f"]);
        warnings
    };
    both(&tree);
    std::fs::remove_dir_all(tree.root().join(".git")).unwrap();
    assert!(both(&tree).contains("untracked pipe"), "without git everything is seen");
}

#[test]
fn the_source_root_is_the_top_of_the_work_tree_and_c_overrides_where_to_look() {
    let tree = Tree::with(LIST);
    tree.write("sub/file", "");
    tree.repo().commit("sub").unwrap();
    let mut below = tree.pikaci(&["run", "list"]);
    assert!(below.current_dir(tree.root().join("sub")).output().unwrap().status.success());
    assert_eq!(listed(&tree, &tree.run_ids()[0]), ["jericho.toml f", "sub/file f"]);
    let mut elsewhere = tree.pikaci(&["-C", tree.root().join("sub").to_str().unwrap(), "run", "list"]);
    assert!(elsewhere.current_dir("/").output().unwrap().status.success());
    assert_eq!(tree.run_ids().len(), 2);
}

#[test]
fn the_snapshot_of_a_run_can_be_written_out_and_is_what_its_jobs_saw() {
    let tree = Tree::with(LIST);
    tree.write("seen", "before");
    let (record, _) = list(&tree, &[]);
    tree.write("seen", "after");
    let id = record["run_id"].as_str().unwrap();
    let path = tree.run(&["snapshot", id]).code(0).text();
    let dir = std::path::Path::new(path.trim_end());
    assert_eq!(std::fs::read_to_string(dir.join("seen")).unwrap(), "before");
    assert!(dir.join("jerichoci-snapshot.json").is_file());
}
