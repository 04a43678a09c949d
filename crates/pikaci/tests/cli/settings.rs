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
    let variables = [
        ("XDG_CONFIG_HOME", xdg.as_str()),
        ("JERICHOCI_HOST_LOCAL_NIX_SHELL", "ci"),
        ("JERICHOCI_GUEST_RUNNER_DIR", "/programs"),
        ("TOKEN", "hunter22"),
    ];
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
    cache_wait_secs 7200 default
    prepared_output_consumer this process default
    incus.guest_role that of the job default
    incus.project pika-managed-agents default
    incus.profile pika-agent-dev default
    incus.image that of the role default
    incus.target chosen by Incus default
    incus.network that of the profile default
    incus.socket /var/lib/incus/unix.socket default
    ssh_program ssh default
    build_host pika-build default
    reconnect_secs 300 default
    guest_runner_dirs /programs environment (JERICHOCI_GUEST_RUNNER_DIR)
    hosts.builder.ssh ci@b.example user (OUTSIDE/xdg/jerichoci/config.toml)
    hosts.builder.work_dir /var/tmp/jerichoci-prepared-output default
    hosts.builder.incus.project pika-managed-agents default
    hosts.builder.incus.profile pika-agent-dev default
    hosts.builder.incus.image that of the role default
    hosts.builder.incus.target chosen by Incus default
    hosts.builder.incus.network that of the profile default
    hosts.builder.incus.socket /var/lib/incus/unix.socket default
    hosts.builder.nix nix default
    hosts.builder.allow incus user (OUTSIDE/xdg/jerichoci/config.toml)
    hosts.builder.disk_budget 20% default
    hosts.*.work_dir /var/tmp/jerichoci-prepared-output default
    hosts.*.nix nix default
    hosts.*.allow incus, tart default
    hosts.*.disk_budget 20% default
    untrusted false default
    config OUTSIDE/xdg/jerichoci/config.toml default
    secrets.allow TOKEN user (OUTSIDE/xdg/jerichoci/config.toml)
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

/// A row of `pikaci config --json` as its value, its layer and what of the layer.
fn shown(tree: &Tree, name: &str, args: &[&str], variables: &[(&str, &str)]) -> String {
    let json = with(tree, &[&["config", "--json"], args].concat(), variables).code(0).json();
    let rows = json["settings"].as_array().unwrap().clone();
    let row = rows.into_iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
    steady(&format!("{} {} {}", text("value"), text("origin"), text("from")), tree)
}

#[test]
fn what_is_said_about_incus_and_hosts_has_the_same_layers() {
    let tree = Tree::with_targets(HELLO);
    let xdg = user_file(
        &tree,
        "[incus]\nproject = \"mine\"\nsocket = \"/run/incus.sock\"\n[hosts.b]\nwork_dir = \"/srv/ci\"\nincus = { project = \"theirs\", target = \"@fast\" }\n",
    );
    let user = ("XDG_CONFIG_HOME", xdg.as_str());
    let project = ("JERICHOCI_REMOTE_LINUX_VM_INCUS_PROJECT", " env ");
    let place = "OUTSIDE/xdg/jerichoci/config.toml";
    for (name, of_user) in [("incus.project", "mine"), ("hosts.b.incus.project", "theirs")] {
        let shown = |args: &[&str], variables: &[(&str, &str)]| shown(&tree, name, args, variables);
        assert_eq!(shown(&["--incus-project", "p"], &[project, user]), "p flag --incus-project");
        assert_eq!(shown(&[], &[project, user]), "env environment JERICHOCI_REMOTE_LINUX_VM_INCUS_PROJECT");
        assert_eq!(shown(&[], &[user]), format!("{of_user} user {place}"));
        assert_eq!(shown(&[], &[(project.0, "  "), user]), format!("{of_user} user {place}"));
    }
    assert_eq!(shown(&tree, "incus.project", &[], &[]), "pika-managed-agents default -");
    assert_eq!(shown(&tree, "hosts.b.incus.target", &[], &[user]), format!("@fast user {place}"));
    let work_dir = ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR", "/var/env");
    for name in ["hosts.b.work_dir", "hosts.*.work_dir"] {
        let by_variable = format!("/var/env environment {}", work_dir.0);
        assert_eq!(shown(&tree, name, &[], &[work_dir, user]), by_variable);
        let by_flag = shown(&tree, name, &["--remote-work-dir", "/var/flag"], &[work_dir, user]);
        assert_eq!(by_flag, "/var/flag flag --remote-work-dir");
    }
    // As for the client of Incus: the socket, else its directory, else what the file says.
    let socket = |variables: &[(&str, &str)]| shown(&tree, "incus.socket", &[], variables);
    let by = "environment INCUS_SOCKET or INCUS_DIR";
    assert_eq!(socket(&[("INCUS_SOCKET", "/s"), ("INCUS_DIR", "/d"), user]), format!("/s {by}"));
    assert_eq!(socket(&[("INCUS_DIR", "/d"), user]), format!("/d/unix.socket {by}"));
    assert_eq!(socket(&[user]), format!("/run/incus.sock user {place}"));
    // Whatever names another backend, there is one.
    let backend = with(&tree, &["config"], &[("JERICHOCI_REMOTE_LINUX_VM_BACKEND", "microvm")]).code(0);
    insta::assert_snapshot!(backend.stderr, @"warning: JERICHOCI_REMOTE_LINUX_VM_BACKEND is `microvm`; it is always incus");
    for fine in ["", " incus ", "auto"] {
        let ended = with(&tree, &["config"], &[("JERICHOCI_REMOTE_LINUX_VM_BACKEND", fine)]).code(0);
        assert_eq!(ended.stderr, "", "{fine:?}");
    }
    // And a run is told the same.
    let record = with(&tree, &["run", "hello", "--output", "json"], &[project, user]).code(0).json();
    let settings = record["settings"].as_array().unwrap();
    let row = settings.iter().find(|row| row["name"] == "hosts.b.incus.project").unwrap();
    assert_eq!((&row["value"], &row["origin"]), (&"env".into(), &"environment".into()));
}

#[test]
fn a_variable_or_flag_that_can_be_no_host_or_name_is_refused() {
    let tree = Tree::with_targets(HELLO);
    let mut told = String::new();
    for variable in [
        ("JERICHOCI_REMOTE_LINUX_VM_INCUS_GUEST_ROLE", "agent"),
        ("JERICHOCI_REMOTE_LINUX_VM_INCUS_PROJECT", "-p"),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST", "-oProxyCommand=touch x"),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR", "/var/../etc"),
        ("JERICHOCI_RECONNECT_SECS", "1.5"),
        ("JERICHOCI_RECONNECT_SECS", "86401"),
        ("JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES", "x"),
    ] {
        told += &(refused(&tree, &["run", "hello"], &[variable]) + "\n");
    }
    for args in [["--on", "-x"], ["--on", "a b"], ["--incus-project", ""], ["--remote-work-dir", "work"]]
        .map(|two| [two[0].to_owned() + "=" + two[1]])
    {
        told += &(refused(&tree, &["run", "hello", &args[0]], &[]) + "\n");
    }
    insta::assert_snapshot!(told, @r"
    error: JERICHOCI_REMOTE_LINUX_VM_INCUS_GUEST_ROLE is `agent`; it must be `managed-openclaw` or `jericho-runner`
      hint: unset JERICHOCI_REMOTE_LINUX_VM_INCUS_GUEST_ROLE
    error: JERICHOCI_REMOTE_LINUX_VM_INCUS_PROJECT is `-p`; it must be one word that does not start with `-`
      hint: unset JERICHOCI_REMOTE_LINUX_VM_INCUS_PROJECT
    error: JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST is `-oProxyCommand=touch x`; it must be one word that does not start with `-`
      hint: unset JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST
    error: JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR is `/var/../etc`; it must be an absolute path, without `..`
      hint: unset JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR
    error: JERICHOCI_RECONNECT_SECS is `1.5`; it must be a whole number of seconds, at most a day
      hint: unset JERICHOCI_RECONNECT_SECS
    error: JERICHOCI_RECONNECT_SECS is `86401`; it must be a whole number of seconds, at most a day
      hint: unset JERICHOCI_RECONNECT_SECS
    error: JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES is set, and no longer exists: which jobs run in Incus is said by the jobs
      hint: unset JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES
    error: --on is `-x`; it must be one word that does not start with `-`
      hint: pikaci run --help
    error: --on is `a b`; it must be one word that does not start with `-`
      hint: pikaci run --help
    error: --incus-project is empty; it must be one word that does not start with `-`
      hint: pikaci run --help
    error: --remote-work-dir is `work`; it must be an absolute path, without `..`
      hint: pikaci run --help
    ");
}

#[test]
fn the_jobs_run_on_the_host_that_was_asked_for() {
    let tree = Tree::with_targets(
        "[targets.t.jobs.guest]\ncommand = \"true\"\nruntime = \"incus\"\n[targets.t.jobs.here]\ncommand = \"true\"\n",
    );
    let xdg = user_file(
        &tree,
        "[incus]\nimage = \"mine\"\n[hosts.all]\nallow = [\"incus\", \"host_process\"]\nincus = { image = \"theirs\" }\n[hosts.none]\nallow = []\n",
    );
    let user = ("XDG_CONFIG_HOME", xdg.as_str());
    let plan = |args: &[&str]| {
        let args = [&["plan", "t", "--output", "json"], args].concat();
        let json = with(&tree, &args, &[user]).code(0).json();
        let jobs = json["jobs"].as_array().unwrap().clone();
        let job = |job: &serde_json::Value| {
            let host = job["placement"]["host"].as_str().unwrap_or("here").to_owned();
            format!("{host} {}", job["runtime"]["image_alias"].as_str().unwrap_or("-"))
        };
        jobs.iter().map(job).collect::<Vec<_>>()
    };
    assert_eq!(plan(&[]), ["here mine", "here -"]);
    assert_eq!(plan(&["--on", "local"]), ["here mine", "here -"]);
    assert_eq!(plan(&["--on", "all"]), ["all theirs", "all -"]);
    insta::assert_snapshot!(refused(&tree, &["run", "t", "--on", "ci@b.example"], &[user]), @r#"
    error: job `here` has the runtime `host_process`, and host `ci@b.example` takes only incus and tart
      hint: allow = ["incus", "host_process"] in [hosts.NAME] of the user's file; or --only JOB
    "#);
    insta::assert_snapshot!(refused(&tree, &["run", "t", "--on", "none"], &[user]), @r#"
    error: job `guest` has the runtime `incus`, and host `none` takes no jobs
      hint: add "incus" to `allow` of the host in the user's file; or --only JOB
    "#);
}

#[test]
fn another_build_host_takes_the_place_of_the_one_that_is_built_in() {
    let tree = Tree::plain();
    let host = |variables: &[(&str, &str)]| {
        let args = ["plan", "pre-merge-agent-contracts", "--catalog", "pika", "--output", "json"];
        let json = with(&tree, &args, variables).code(0).json();
        json["jobs"][0]["placement"]["host"].as_str().unwrap().to_owned()
    };
    assert_eq!(host(&[]), "pika-build");
    assert_eq!(host(&[("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST", "ci@b.example")]), "ci@b.example");
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
fn what_a_flag_said_of_the_member_of_a_cluster_is_said_for_reruns_too() {
    let tree = Tree::with_targets(HELLO);
    let file = "[incus]\ntarget = \"n3\"\n";
    let xdg = user_file(&tree, file);
    // Of the newest run: the member, and who had named it.
    let target = |args: &[&str]| {
        with(&tree, args, &[("XDG_CONFIG_HOME", &xdg)]).code(0);
        let record = tree.run(&["status", "latest", "--json"]).code(0).json();
        let settings = record["settings"].as_array().unwrap().clone();
        let found = settings.iter().find(|setting| setting["name"] == "incus.target").unwrap().clone();
        [&found["value"], &found["origin"]].map(|word| word.as_str().unwrap().to_owned()).join(" ")
    };
    assert_eq!(target(&["run", "hello"]), "n3 user");
    assert_eq!(target(&["rerun", "latest"]), "n3 user");
    assert_eq!(target(&["run", "hello", "--incus-target", "@fast"]), "@fast flag");
    assert_eq!(target(&["rerun", "latest"]), "@fast flag");
    assert_eq!(target(&["rerun", "latest", "--incus-target", "n1"]), "n1 flag");
    assert_eq!(target(&["rerun", "latest"]), "n1 flag");
    assert_eq!(target(&["rerun", "latest", "--current"]), "n3 user");
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
    // Neither of the two variables takes back what the other one says.
    for (untrusted, ci) in [("0", "true"), ("1", "false")] {
        let both = [token, ("JERICHOCI_UNTRUSTED", untrusted), ("CI", ci)];
        let told = refused(&tree, &["run", "t"], &both);
        assert!(told.contains("the secret `DEPLOY_TOKEN` is not allowed here"), "{both:?}: {told}");
    }
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
