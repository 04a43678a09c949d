//! What the user's file says, and what it is told when it is wrong.

use std::fmt::Write as _;
use std::fs;

use jericho_host::Environment;
use jerichoci::model::demands::{SecretDelivery, SecretSpec};
use jerichoci::model::job::{GuestCommand, JobRuntimeKind, JobSpec};
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Operator {
    Operator::parse("config.toml", text.as_bytes()).unwrap()
}

fn told(texts: &[&str]) -> String {
    texts.iter().fold(String::new(), |mut out, text| {
        let told = match Operator::parse("config.toml", text.as_bytes()) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        let _ = writeln!(out, "{}\n    {}", text.replace('\n', "\\n"), told.replace('\n', "\n    "));
        out
    })
}

#[test]
fn every_key_arrives_where_it_belongs() {
    let operator = read(
        r#"
        [hosts.builder]
        ssh = "ci@builder.example"
        work_dir = "/var/tmp/jerichoci-prepared-output"
        incus = { project = "jericho-ci", profile = "default", target = "@builders" }
        nix = "/run/current-system/sw/bin/nix"
        allow = ["incus", "host_process"]
        disk_budget = "20%"
        [hosts.mac]
        disk_budget = "200GiB"
        [incus]
        image = "debian/12"
        network = "ci-bridge"
        socket = "/run/incus/unix.socket"
        [secrets]
        allow = ["REGISTRY_TOKEN"]
        [settings]
        max_concurrent_executes = 3
        "#,
    );
    let builder = &operator.hosts["builder"];
    assert_eq!(builder.ssh, "ci@builder.example");
    assert_eq!(builder.work_dir.as_deref(), Some(Path::new("/var/tmp/jerichoci-prepared-output")));
    let incus = |text: &str| Some(text.to_owned());
    assert_eq!(
        builder.incus,
        IncusHostConfig {
            project: incus("jericho-ci"),
            profile: incus("default"),
            target: incus("@builders"),
            ..IncusHostConfig::default()
        }
    );
    assert!(builder.allows(JobRuntimeKind::HostProcess) && !builder.allows(JobRuntimeKind::Tart));
    assert_eq!(builder.disk_budget, Some(DiskBudget::Percent(20)));
    let mac = &operator.hosts["mac"];
    assert_eq!((mac.ssh.as_str(), mac.disk_budget), ("mac", Some(DiskBudget::Bytes(200 << 30))));
    assert_eq!((operator.incus.image, operator.incus.network), (incus("debian/12"), incus("ci-bridge")));
    assert_eq!(operator.incus.socket.as_deref(), Some(Path::new("/run/incus/unix.socket")));
    assert_eq!(operator.allowed_secrets, ["REGISTRY_TOKEN"]);
    assert_eq!(operator.settings.max_concurrent_executes.unwrap().value.get(), 3);
}

#[test]
fn a_host_takes_host_processes_only_when_it_says_so() {
    let host = &read("[hosts.h]").hosts["h"];
    assert_eq!(host.allowed_words(), ["incus", "tart"]);
}

#[test]
fn a_file_that_is_not_there_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let operator = Operator::load(&path).unwrap();
    assert!(operator.file.is_none() && operator.hosts.is_empty());
    fs::write(&path, "[hosts.h]").unwrap();
    assert_eq!(Operator::load(&path).unwrap().file, Some(path));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    insta::assert_snapshot!(told(&[
        "hots = {}",
        "[host.x]",
        "[hosts.'a b']",
        "[hosts.local]",
        "[hosts]\nh = 'ssh'",
        "[hosts.h]\nsh = 'x'\nhostname = 'x'",
        "[hosts.h]\nssh = '-oProxyCommand=x'",
        "[hosts.h]\nssh = ''\nnix = 'a b'",
        "[hosts.h]\nssh = 1\nwork_dir = 1\nincus = 'x'\nnix = []\nallow = 'incus'\ndisk_budget = 20",
        "[hosts.h]\nwork_dir = 'tmp'",
        "[hosts.h]\nwork_dir = '/a/../b'",
        "[hosts.h]\nwork_dir = '/'",
        "[hosts.h]\nincus = { projekt = 'x', profile = '', target = '-x' }",
        "[incus]\ntarget = '@'",
        "[incus]\nimage_alias = 'x'",
        "[incus]\nsocket = 'incus.sock'",
        "[hosts.h]\nallow = ['incu', 'docker', 1]",
        "[hosts.h]\ndisk_budget = '20'",
        "[hosts.h]\ndisk_budget = '0%'",
        "[hosts.h]\ndisk_budget = '101%'",
        "[hosts.h]\ndisk_budget = '+5%'",
        "[secrets]\nallowed = []",
        "[secrets]\nallow = 'A'",
        "[secrets]\nallow = ['A B', 1]",
        "secrets = 1",
        "[settings]\nbase_ref = '--all'",
        "[hosts.h\n",
    ]), @r#"
    hots = {}
        config.toml:1:1: unknown key `hots` at the top of the file; did you mean `hosts`?
    [host.x]
        config.toml:1:2: unknown key `host` at the top of the file; did you mean `hosts`?
    [hosts.'a b']
        config.toml:1:8: `a b` cannot be the name of a host; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200
    [hosts.local]
        config.toml:1:8: `local` is this machine; choose another name
    [hosts]\nh = 'ssh'
        config.toml:2:5: `h`: expected a table, found the string `ssh`
    [hosts.h]\nsh = 'x'\nhostname = 'x'
        config.toml:2:1: unknown key `sh` of host `h`; did you mean `ssh`?
        config.toml:3:1: unknown key `hostname` of host `h`; did you mean `ssh`?
    [hosts.h]\nssh = '-oProxyCommand=x'
        config.toml:2:7: `-oProxyCommand=x` is not a host for ssh; write one word that does not start with `-`
    [hosts.h]\nssh = ''\nnix = 'a b'
        config.toml:2:7: `` is not a host for ssh; write one word that does not start with `-`
        config.toml:3:7: `a b` is not a program; write one word that does not start with `-`
    [hosts.h]\nssh = 1\nwork_dir = 1\nincus = 'x'\nnix = []\nallow = 'incus'\ndisk_budget = 20
        config.toml:2:7: `ssh`: expected a string, found the integer 1
        config.toml:3:12: `work_dir`: expected a string, found the integer 1
        config.toml:4:9: `incus`: expected a table, found the string `x`
        config.toml:5:7: `nix`: expected a string, found an array
        config.toml:6:9: `allow`: expected an array of runtimes, found the string `incus`
        config.toml:7:15: `disk_budget`: expected a string, found the integer 20
    [hosts.h]\nwork_dir = 'tmp'
        config.toml:2:12: `tmp` is not the absolute path of a directory to work in; write a path that starts with `/`, without `..`, and is not `/` itself
    [hosts.h]\nwork_dir = '/a/../b'
        config.toml:2:12: `/a/../b` is not the absolute path of a directory to work in; write a path that starts with `/`, without `..`, and is not `/` itself
    [hosts.h]\nwork_dir = '/'
        config.toml:2:12: `/` is not the absolute path of a directory to work in; write a path that starts with `/`, without `..`, and is not `/` itself
    [hosts.h]\nincus = { projekt = 'x', profile = '', target = '-x' }
        config.toml:2:11: unknown key `projekt` in `incus`; did you mean `project`?
        config.toml:2:36: `` is not a name in Incus; write one word that does not start with `-`
        config.toml:2:49: `-x` is not a name in Incus; write one word that does not start with `-`
    [incus]\ntarget = '@'
        config.toml:2:10: `@` is not a name in Incus; write one word that does not start with `-`
    [incus]\nimage_alias = 'x'
        config.toml:2:1: unknown key `image_alias` in `incus`; did you mean `image`?
    [incus]\nsocket = 'incus.sock'
        config.toml:2:10: `incus.sock` is not the absolute path of a socket; the usual one is `"/var/lib/incus/unix.socket"`
    [hosts.h]\nallow = ['incu', 'docker', 1]
        config.toml:2:10: `allow` cannot be `incu`; did you mean `incus`?
        config.toml:2:18: `allow` cannot be `docker`; write one of `host_process`, `incus`, `tart`
        config.toml:2:28: `allow`: expected a string, found the integer 1
    [hosts.h]\ndisk_budget = '20'
        config.toml:2:15: `20` is not a size; write a share such as `"20%"`, or a size such as `"200GiB"`
    [hosts.h]\ndisk_budget = '0%'
        config.toml:2:15: `0%` is not a share from 1% to 100%; write a share such as `"20%"`, or a size such as `"200GiB"`
    [hosts.h]\ndisk_budget = '101%'
        config.toml:2:15: `101%` is not a share from 1% to 100%; write a share such as `"20%"`, or a size such as `"200GiB"`
    [hosts.h]\ndisk_budget = '+5%'
        config.toml:2:15: `+5%` is not a share from 1% to 100%; write a share such as `"20%"`, or a size such as `"200GiB"`
    [secrets]\nallowed = []
        config.toml:2:1: unknown key `allowed` in [secrets]; did you mean `allow`?
    [secrets]\nallow = 'A'
        config.toml:2:9: `allow`: expected an array of strings, found the string `A`
    [secrets]\nallow = ['A B', 1]
        config.toml:2:10: `A B` is not the name of a variable; name each secret as it is called in the environment
        config.toml:2:17: `allow`: expected a string, found the integer 1
    secrets = 1
        config.toml:1:11: `secrets`: expected a table, found the integer 1
    [settings]\nbase_ref = '--all'
        config.toml:2:12: `--all` is not the name of a revision
    [hosts.h\n
        config.toml:1:9: unclosed table, expected `]`
    "#);
}

fn job(secrets: &[&str]) -> JobSpec {
    let mut job = JobSpec::host_process("j", GuestCommand::Argv { argv: vec!["true".to_owned()] });
    job.secrets = secrets
        .iter()
        .map(|name| SecretSpec { name: (*name).to_owned(), delivery: SecretDelivery::Env })
        .collect();
    job
}

#[test]
fn jobs_get_the_secrets_that_they_name_and_that_are_set() {
    let environment: Environment = [("A", "1"), ("B", "2"), ("C", "3")].into_iter().collect();
    let operator = read("");
    let secrets = operator.secrets(&[job(&["B"]), job(&["A", "B"]), job(&[])], &environment).unwrap();
    assert_eq!(secrets.names().collect::<Vec<_>>(), ["A", "B"]);
    let errors = operator.secrets(&[job(&["Y", "A", "X"])], &environment).unwrap_err();
    assert_eq!(errors, ["X", "Y"].map(|name| SecretError::Missing { name: name.to_owned() }));
}

#[test]
fn an_untrusted_caller_gets_only_what_the_user_allows() {
    let environment: Environment = [("A", "1"), ("B", "2")].into_iter().collect();
    let mut operator = read("[secrets]\nallow = ['A']");
    assert!(operator.secrets(&[job(&["A", "B"])], &environment).is_ok(), "the caller is the user");
    operator.untrusted = true;
    assert!(operator.secrets(&[job(&["A"])], &environment).is_ok());
    // Also one that is not set: what is set there is nobody's business.
    for name in ["B", "X"] {
        let errors = operator.secrets(&[job(&["A", name])], &environment).unwrap_err();
        assert_eq!(errors, [SecretError::NotAllowed { name: name.to_owned() }]);
    }
}

proptest! {
    #[test]
    fn any_words_are_a_file_or_problems_with_a_place_in_it(
        words in prop::collection::vec(prop::sample::select(vec![
            "[hosts.a]\n", "[hosts]\n", "[secrets]\n", "[settings]\n", "ssh", "allow", "incus", "nix", "work_dir",
            "disk_budget", "base_ref", " = ", " = ", " = ", "'x'\n", "1\n", "['incus']\n", "'20%'\n", "{ project = 'x' }\n",
            "'ü\u{1b}'\n", ".", "\"", "\n",
        ]), 0..20),
    ) {
        let text = words.concat();
        if let Err(error) = Operator::parse("config.toml", text.as_bytes()) {
            let TargetError::Toml { problems, .. } = error else { panic!("{error}") };
            prop_assert!(!problems.is_empty());
            for problem in problems {
                let line = text.split('\n').nth(problem.line - 1);
                prop_assert!(line.is_some_and(|line| problem.column <= line.chars().count() + 1), "{problem}");
                prop_assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
            }
        }
    }
}
