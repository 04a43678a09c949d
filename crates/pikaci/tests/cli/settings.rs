//! Settings in layers, the user's file, and the secrets that a run may have.

use crate::common::{Ended, Tree, steady};

const HELLO: &str = "[targets.hello.jobs.greet]\ncommand = \"echo hello\"\n";

/// The user's file in a directory for configuration of its own.
fn user_file(tree: &Tree, text: &str) -> String {
    let directory = tree.outside().join("xdg/jerichoci");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), text).unwrap();
    tree.outside().join("xdg").to_str().unwrap().to_owned()
}

fn with(tree: &Tree, args: &[&str], variables: &[(&str, &str)]) -> Ended {
    Ended::of(tree.pikaci(args).envs(variables.iter().copied()).output().unwrap())
}

/// Refused, and nothing was written.
#[track_caller]
fn refused(tree: &Tree, args: &[&str], variables: &[(&str, &str)]) -> String {
    let ended = with(tree, args, variables).code(2);
    assert_eq!(ended.stdout, "", "{ended:#?}");
    assert!(!tree.state_root().exists(), "something was written: {ended:#?}");
    ended.told(tree)
}

#[test]
fn every_setting_is_shown_with_its_value_and_its_origin() {
    let tree = Tree::with_targets(&format!(
        "[settings]\nbase_ref = \"origin/dev\"\n[groups]\ndb = 2\n[targets.t]\ndefault = true\n{}",
        HELLO.replace("targets.hello", "targets.t")
    ));
    let xdg = user_file(
        &tree,
        "[hosts.builder]\nssh = \"ci@b.example\"\nallow = [\"incus\"]\n[secrets]\nallow = [\"TOKEN\"]\n[settings]\nbase_ref = \"origin/main\"\nmax_concurrent_executes = 5\n",
    );
    let variables =
        [("XDG_CONFIG_HOME", xdg.as_str()), ("JERICHOCI_HOST_LOCAL_NIX_SHELL", "ci"), ("TOKEN", "hunter22")];
    let ended = with(&tree, &["config", "--inherit-env"], &variables).code(0);
    let shown: Vec<String> = steady(&ended.stdout, &tree)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    source_root TREE default
    state_root TREE/.jerichoci default
    max_concurrent_executes 5 user (OUTSIDE/xdg/jerichoci/config.toml:8:27)
    host_local_nix_shell ci environment (JERICHOCI_HOST_LOCAL_NIX_SHELL)
    inherit_env true flag (--inherit-env)
    base_ref origin/dev repository (jericho.toml:2:12)
    untrusted false default
    config OUTSIDE/xdg/jerichoci/config.toml default
    secrets.allow TOKEN user (OUTSIDE/xdg/jerichoci/config.toml)
    hosts.builder.ssh ci@b.example user (OUTSIDE/xdg/jerichoci/config.toml)
    hosts.builder.allow incus user (OUTSIDE/xdg/jerichoci/config.toml)
    default_target t repository (jericho.toml)
    groups.db 2 repository (jericho.toml:4:6)
    ");
    let json = with(&tree, &["config", "--json", "--inherit-env"], &variables).code(0).json();
    assert_eq!(json["schema_version"], 1);
    let names = |json: &serde_json::Value| -> Vec<String> {
        json["settings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&json).len(), shown.len());
    let base = json["settings"].as_array().unwrap().iter().find(|row| row["name"] == "base_ref").unwrap();
    assert_eq!(
        (&base["value"], &base["origin"], &base["from"]),
        (&"origin/dev".into(), &"repository".into(), &"jericho.toml:2:12".into())
    );
    assert!(!tree.state_root().exists(), "looking writes nothing");
}

#[test]
fn the_first_layer_that_says_something_decides() {
    let repository = "[settings]\nmax_concurrent_executes = 3\n";
    let xdg = |tree: &Tree| user_file(tree, "[settings]\nmax_concurrent_executes = 4\n");
    let tree = Tree::with_targets(&format!("{repository}{HELLO}"));
    let plain = Tree::with_targets(HELLO);
    let setting = |tree: &Tree, args: &[&str], variables: &[(&str, &str)]| {
        let mut all = vec!["config", "--json"];
        all.extend(args);
        let json = with(tree, &all, variables).code(0).json();
        let rows = json["settings"].as_array().unwrap().clone();
        let row = rows.into_iter().find(|row| row["name"] == "max_concurrent_executes").unwrap();
        format!("{} {} {}", row["value"].as_str().unwrap(), row["origin"].as_str().unwrap(), row["from"])
    };
    let user = xdg(&tree);
    let variable = ("JERICHOCI_MAX_CONCURRENT_EXECUTES", "2");
    let file = ("XDG_CONFIG_HOME", user.as_str());
    assert_eq!(setting(&tree, &["-j", "1"], &[variable, file]), "1 flag \"-j\"");
    assert_eq!(setting(&tree, &[], &[variable, file]), "2 environment \"JERICHOCI_MAX_CONCURRENT_EXECUTES\"");
    assert_eq!(setting(&tree, &[], &[file]), "3 repository \"jericho.toml:2:27\"");
    let from_user = setting(&plain, &[], &[file]);
    assert!(
        from_user.starts_with("4 user ") && from_user.contains("/jerichoci/config.toml:2:27"),
        "{from_user}"
    );
    assert_eq!(setting(&plain, &[], &[]), "processors default null");
    // And a run is told the same.
    let record = with(&tree, &["run", "hello", "--output", "json"], &[file]).code(0).json();
    let settings = record["settings"].as_array().unwrap();
    let row = settings.iter().find(|row| row["name"] == "max_concurrent_executes").unwrap();
    assert_eq!((&row["value"], &row["origin"]), (&"3".into(), &"repository".into()));
}

#[test]
fn the_base_of_the_repository_is_compared_with() {
    let tree = Tree::with_targets(
        "[settings]\nbase_ref = \"stable\"\n[targets.docs]\npaths = [\"docs/**\"]\njobs.a.command = \"true\"\n",
    );
    insta::assert_snapshot!(refused(&tree, &["run", "docs"], &[]), @r"
    error: jericho.toml:2:12: `base_ref` is `stable`, which is no commit in this repository
      hint: git fetch, when a remote has it; or leave it out of jericho.toml, for the upstream's default branch
    ");
    tree.git(&["branch", "stable"]);
    tree.write("src/a", "");
    tree.commit("second");
    let ended = tree.run(&["run", "docs"]).code(0);
    assert!(ended.stderr.contains("1 file changed against stable"), "{ended:#?}");
}

#[test]
fn the_users_file_is_found_by_flag_by_variable_and_at_its_usual_place() {
    let tree =
        Tree::with_targets("[targets.t.jobs.a]\ncommand = \"x\"\nruntime = \"incus\"\non = \"builder\"\n");
    let hosts = "[hosts.builder]\n";
    std::fs::write(tree.outside().join("mine.toml"), hosts).unwrap();
    let targets = |args: &[&str], variables: &[(&str, &str)]| {
        let mut all = vec!["targets"];
        all.extend(args);
        with(&tree, &all, variables)
    };
    targets(&["--config", "../mine.toml"], &[]).code(0);
    targets(&[], &[("JERICHOCI_CONFIG", "../mine.toml")]).code(0);
    let xdg = user_file(&tree, hosts);
    targets(&[], &[("XDG_CONFIG_HOME", &xdg)]).code(0);
    let home = tree.outside().join("home");
    std::fs::create_dir_all(home.join(".config/jerichoci")).unwrap();
    std::fs::write(home.join(".config/jerichoci/config.toml"), hosts).unwrap();
    targets(&[], &[("HOME", home.to_str().unwrap())]).code(0);
    // The flag is stronger than the variable.
    targets(&["--config", "../mine.toml"], &[("JERICHOCI_CONFIG", "/nowhere")]).code(0);
    insta::assert_snapshot!(refused(&tree, &["targets"], &[]), @r#"
    error: jericho.toml:4:6: host `builder` is not in `/nonexistent/.config/jerichoci/config.toml`; add a table [hosts.NAME] there, or write `"local"`
      hint: mend that, and run again; nothing was started
    "#);
    insta::assert_snapshot!(refused(&tree, &["run", "t", "--config", "../none.toml"], &[]), @r"
    error: --config is OUTSIDE/none.toml, which is not there
      hint: ls -l OUTSIDE; or leave --config out
    ");
    insta::assert_snapshot!(refused(&tree, &["run", "t"], &[("JERICHOCI_CONFIG", "../none.toml")]), @r"
    error: JERICHOCI_CONFIG is OUTSIDE/none.toml, which is not there
      hint: ls -l OUTSIDE; or unset JERICHOCI_CONFIG
    ");
    insta::assert_snapshot!(refused(&tree, &["run", "t"], &[("JERICHOCI_CONFIG", "")]), @r"
    error: JERICHOCI_CONFIG is empty; it must be a file
      hint: unset JERICHOCI_CONFIG
    ");
}

#[test]
fn a_home_that_is_none_has_no_file_and_breaks_nothing() {
    let tree = Tree::with_targets(HELLO);
    for home in ["/dev/null", "/nonexistent", "", "relative"] {
        with(&tree, &["targets"], &[("HOME", home)]).code(0);
    }
    with(&tree, &["targets"], &[("XDG_CONFIG_HOME", "/dev/null")]).code(0);
    let named = refused(&tree, &["targets", "--config", "/dev/null/x"], &[]);
    assert!(named.contains("--config is /dev/null/x, which is not there"), "{named}");
}

#[test]
fn a_home_of_somebody_else_is_passed_over_and_a_named_file_is_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let name = "a_home_of_somebody_else_is_passed_over_and_a_named_file_is_not";
    if !jericho_testkit::need::needs_ordinary_user(name) {
        return;
    }
    let tree = Tree::with_targets(HELLO);
    let closed = tree.outside().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    with(&tree, &["targets"], &[("HOME", closed.to_str().unwrap())]).code(0);
    let named = with(&tree, &["targets", "--config", "../closed/x"], &[]).code(3);
    assert!(named.stderr.contains("cannot read"), "{named:#?}");
}

#[test]
fn a_bad_users_file_is_told_with_line_and_column() {
    let tree = Tree::with_targets(HELLO);
    std::fs::write(tree.outside().join("c.toml"), "[hosts.b]\nshs = 1\n[secret]\n").unwrap();
    insta::assert_snapshot!(refused(&tree, &["run", "hello", "--config", "../c.toml"], &[]), @r"
    error: OUTSIDE/c.toml:2:1: unknown key `shs` of host `b`; did you mean `ssh`?
    OUTSIDE/c.toml:3:2: unknown key `secret` at the top of the file; did you mean `secrets`?
      hint: mend that, and run again; nothing was started
    ");
}

#[test]
fn a_job_on_a_host_that_is_not_known_names_the_nearest() {
    let tree =
        Tree::with_targets("[targets.t.jobs.a]\ncommand = \"x\"\nruntime = \"incus\"\non = \"bilder\"\n");
    let xdg = user_file(&tree, "[hosts.builder]\n");
    let told = refused(&tree, &["run", "t"], &[("XDG_CONFIG_HOME", &xdg)]);
    insta::assert_snapshot!(told, @r"
    error: jericho.toml:4:6: host `bilder` is not in `OUTSIDE/xdg/jerichoci/config.toml`; did you mean `builder`?
      hint: mend that, and run again; nothing was started
    ");
}

const SECRET: &str = "[targets.t]\npaths = [\"src/**\"]\n[targets.t.jobs.a]\ncommand = \"true\"\nsecrets = [\"DEPLOY_TOKEN\"]\n";

#[test]
fn a_secret_that_is_not_set_is_an_error_before_anything_runs() {
    let tree = Tree::with_targets(SECRET);
    insta::assert_snapshot!(refused(&tree, &["run", "t"], &[]), @r"
    error: jericho.toml:5:12: the secret `DEPLOY_TOKEN` is not set
      hint: export DEPLOY_TOKEN=..., and run again; nothing was started
    ");
    with(&tree, &["run", "t"], &[("DEPLOY_TOKEN", "hunter22")]).code(0);
    // Its value is in no record, so the shell must have it again.
    let id = tree.run_ids()[0].clone();
    let told = tree.run(&["rerun", &id]).code(2).told(&tree);
    assert!(told.contains("the secret `DEPLOY_TOKEN` is not set"), "{told}");
    assert_eq!(tree.run_ids().len(), 1, "nothing was begun");
    with(&tree, &["rerun", &id], &[("DEPLOY_TOKEN", "hunter22")]).code(0);
}

#[test]
fn a_skipped_run_needs_no_secret() {
    let tree = Tree::with_targets(SECRET);
    tree.git(&["branch", "base"]);
    tree.write("docs/a", "");
    let ended = tree.run(&["run", "t", "--base", "base"]).code(0);
    assert!(ended.stdout.contains(" skipped"), "{ended:#?}");
    let id = tree.run_ids()[0].clone();
    let ended = tree.run(&["rerun", &id]).code(0);
    assert!(ended.stdout.contains(" skipped"), "{ended:#?}");
}

#[test]
fn only_the_jobs_that_run_need_their_secrets() {
    let tree = Tree::with_targets(
        "[targets.t.jobs.a]\ncommand = \"true\"\nsecrets = [\"ONE\"]\n[targets.t.jobs.b]\ncommand = \"test -n \\\"$TWO\\\"\"\nenv = { TWO = \"\" }\nsecrets = [\"OTHER\"]\n",
    );
    tree.run(&["run", "t", "--only", "b"]).code(2);
    with(&tree, &["run", "t", "--only", "a"], &[("ONE", "11111111")]).code(0);
    with(&tree, &["run", "t", "--keep-going"], &[("ONE", "11111111"), ("OTHER", "22222222")]).code(1);
    let id = tree.run_ids()[0].clone();
    let told = with(&tree, &["rerun", &id, "--failed"], &[("ONE", "11111111")]).code(2).told(&tree);
    assert!(told.contains("`OTHER`") && !told.contains("`ONE`"), "{told}");
    with(&tree, &["rerun", &id, "--failed"], &[("OTHER", "22222222")]).code(1);
    let told = tree.run(&["rerun", &id]).code(2).told(&tree);
    assert!(told.contains("`OTHER`") && told.contains("`ONE`"), "all of them at once: {told}");
}

#[test]
fn where_the_caller_is_not_trusted_only_allowed_secrets_are_had() {
    let tree = Tree::with_targets(SECRET);
    let token = ("DEPLOY_TOKEN", "hunter22");
    insta::assert_snapshot!(refused(&tree, &["run", "t"], &[token, ("CI", "true")]), @r"
    error: jericho.toml:5:12: the secret `DEPLOY_TOKEN` is not allowed here
      hint: add it to `allow` of [secrets] in `/nonexistent/.config/jerichoci/config.toml`; without that, only a run without CI and JERICHOCI_UNTRUSTED has it
    ");
    let xdg = user_file(&tree, "[secrets]\nallow = [\"OTHER\"]\n");
    let file = ("XDG_CONFIG_HOME", xdg.as_str());
    insta::assert_snapshot!(refused(&tree, &["run", "t"], &[token, file, ("JERICHOCI_UNTRUSTED", "1")]), @r"
    error: jericho.toml:5:12: the secret `DEPLOY_TOKEN` is not allowed here
      hint: add it to `allow` of [secrets] in `OUTSIDE/xdg/jerichoci/config.toml`; without that, only a run without CI and JERICHOCI_UNTRUSTED has it
    ");
    user_file(&tree, "[secrets]\nallow = [\"OTHER\", \"DEPLOY_TOKEN\"]\n");
    for (name, value) in [("CI", "true"), ("JERICHOCI_UNTRUSTED", "1"), ("CI", "false")] {
        with(&tree, &["run", "t"], &[token, file, (name, value)]).code(0);
    }
    let bad = with(&tree, &["run", "t"], &[token, ("JERICHOCI_UNTRUSTED", "maybe")]).code(2);
    assert!(bad.stderr.contains("JERICHOCI_UNTRUSTED is `maybe`; it must be 1 or 0"), "{bad:#?}");
}
