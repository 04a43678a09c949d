//! What a file declares, and what it is told when it is wrong.

use std::fmt::Write as _;
use std::fs;

use jerichoci::model::job::{GuestCommand, JobRuntimeConfig, JobRuntimeKind};

mod fuzz;
mod keys;
mod matrix;

use super::*;
use crate::targets::error::printable;
use crate::targets::{Catalog, Trigger};

fn declared(text: &str) -> Declared {
    parse(text.as_bytes(), &Origin::BuiltIn, &["jericho-smoke"], None).unwrap()
}

fn told(bytes: &[u8]) -> String {
    match parse(bytes, &Origin::BuiltIn, &["jericho-smoke"], None) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The messages of several files, each a job `a` of a target `t` with these lines in it.
fn told_of_jobs(bodies: &[&str]) -> String {
    told_of(bodies, "[targets.t.jobs.a]\n")
}

/// The messages of several whole files.
fn told_of_files(texts: &[&str]) -> String {
    told_of(texts, "")
}

fn told_of(texts: &[&str], before: &str) -> String {
    texts.iter().fold(String::new(), |mut out, text| {
        let told = told(format!("{before}{text}\n").as_bytes());
        let _ = writeln!(out, "{}\n    {}", printable(text), told.replace('\n', "\n    "));
        out
    })
}

#[test]
fn two_lines_are_a_target() {
    let declared = declared("[targets.hello.jobs.greet]\ncommand = \"echo hello\"\n");
    let [target] = declared.targets.as_slice() else { panic!("{declared:?}") };
    let [job] = target.jobs.as_slice() else { panic!("{target:?}") };
    assert_eq!((target.id.as_str(), job.id.as_str()), ("hello", "greet"));
    assert_eq!(job.command, GuestCommand::Script { script: "echo hello".to_owned() });
    assert_eq!(job.timeout_secs, 3600);
    assert_eq!(job.description, "greet");
    assert!(target.filters.is_empty() && !target.default && target.description.is_none());
    assert_eq!(target.trigger, Trigger::None);
}

#[test]
fn every_key_arrives_where_it_belongs() {
    let declared = declared(
        r#"
        version = 1
        [groups]
        db = 2
        [targets.check]
        description = "All of it"
        paths = ["src/**", "!**/*.md"]
        trigger = "branch"
        default = true
        [targets.check.jobs.z-first]
        command = ["cargo", "fmt", ""]
        timeout = "5m"
        nix_shell = "ci"
        [targets.check.jobs.a-second]
        needs = ["z-first"]
        command = """
cd sub
exit 1
"""
        env = { RUST_BACKTRACE = "1", "odd.name" = "" }
        description = "Second"
        group = "db"
        runtime = "incus"
        [targets.nightly]
        trigger = "nightly"
        jobs.one = { command = "true", runtime = "tart" }
        "#,
    );
    let [check, nightly] = declared.targets.as_slice() else { panic!("{declared:?}") };
    assert_eq!(check.description.as_deref(), Some("All of it"));
    assert_eq!(check.filters.patterns(), ["src/**", "!**/*.md"]);
    assert_eq!((check.trigger, nightly.trigger), (Trigger::Branch, Trigger::Nightly));
    assert_eq!((check.default, nightly.default), (true, false));
    let [first, second] = check.jobs.as_slice() else { panic!("{check:?}") };
    assert_eq!((first.id.as_str(), second.id.as_str()), ("z-first", "a-second"));
    assert_eq!(first.command, GuestCommand::Argv { argv: ["cargo", "fmt", ""].map(str::to_owned).to_vec() });
    assert_eq!(first.timeout_secs, 300);
    let JobRuntimeConfig::HostProcess(host) = &first.runtime else { panic!("{first:?}") };
    assert_eq!(host.nix_shell.as_deref(), Some("ci"));
    assert!(first.writable_workspace && !second.writable_workspace);
    assert_eq!(second.needs, ["z-first"]);
    assert_eq!(second.command, GuestCommand::Script { script: "cd sub\nexit 1\n".to_owned() });
    assert_eq!(
        second.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        ["RUST_BACKTRACE=1", "odd.name="]
    );
    assert_eq!(second.description, "Second");
    assert_eq!(second.groups, ["db"]);
    assert_eq!(second.runtime.kind(), JobRuntimeKind::Incus);
    assert_eq!(nightly.jobs[0].runtime.kind(), JobRuntimeKind::Tart);
    assert_eq!(declared.group_widths, BTreeMap::from([("db".to_owned(), 2)]));
}

#[test]
fn targets_and_jobs_keep_the_order_of_the_file() {
    let text: String =
        ["m", "z", "a"].iter().map(|name| format!("[targets.{name}.jobs.x]\ncommand = 'true'\n")).collect();
    let names: Vec<String> = declared(&text).targets.into_iter().map(|target| target.id).collect();
    assert_eq!(names, ["m", "z", "a"]);
}

#[test]
fn a_group_without_a_width_has_one_place() {
    let declared = declared("[targets.t.jobs.a]\ncommand = 'true'\ngroup = 'one-db'\n");
    assert_eq!(declared.group_widths, BTreeMap::from([("one-db".to_owned(), 1)]));
}

#[test]
fn an_empty_file_and_a_byte_order_mark_are_fine() {
    for text in
        ["", "\n# nothing\n", "version = 1", "[targets]", "\u{feff}[targets.t.jobs.a]\r\ncommand = 'x'\r\n"]
    {
        assert_eq!(told(text.as_bytes()), "accepted", "{text}");
    }
}

#[test]
fn columns_count_characters_after_the_byte_order_mark() {
    let text = "\u{feff}targets = { \"grün\" = { } }";
    insta::assert_snapshot!(told(text.as_bytes()), @r#"
    jericho.toml:1:13: `grün` cannot be the name of a target; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200
    jericho.toml:1:13: target `grün` has no jobs; add a table [targets.NAME.jobs.JOB] with a `command`
    "#);
    insta::assert_snapshot!(told("\u{feff}versio = 1".as_bytes()), @"jericho.toml:1:1: unknown key `versio` at the top of the file; did you mean `version`?");
    insta::assert_snapshot!(told("description = \"äöü\" x".as_bytes()), @"jericho.toml:1:21: unexpected key or value, expected newline, `#`");
}

#[test]
fn what_is_not_text_or_not_toml_is_told_with_its_place() {
    insta::assert_snapshot!(told(b"version = 1\n# caf\xe9\n"), @"jericho.toml:2:6: the byte 0xe9 is not UTF-8; save the file as UTF-8");
    insta::assert_snapshot!(told(b"\xff\xfev\0"), @"jericho.toml:1:1: the byte 0xff is not UTF-8; save the file as UTF-8");
    insta::assert_snapshot!(told_of_files(&[
        "version = ",
        "version 1",
        "[targets",
        "[targets.a]\n[targets.a]",
        "version = 1\nversion = 1",
        "a = \"unterminated",
        "a = 1 b = 2",
        "targets.a.jobs.b.command = 'x'\ntargets.a.jobs.b.command = 'y'",
        "a = 'x\u{1}y'",
        "= 1",
    ]), @r#"
    version = 
        jericho.toml:1:11: string values must be quoted, expected literal string
    version 1
        jericho.toml:1:9: key with no value, expected `=`
    [targets
        jericho.toml:1:9: unclosed table, expected `]`
    [targets.a]\n[targets.a]
        jericho.toml:2:10: duplicate key
    version = 1\nversion = 1
        jericho.toml:2:1: duplicate key
    a = "unterminated
        jericho.toml:1:18: invalid basic string, expected `"`
    a = 1 b = 2
        jericho.toml:1:9: unexpected key or value, expected newline, `#`
    targets.a.jobs.b.command = 'x'\ntargets.a.jobs.b.command = 'y'
        jericho.toml:2:18: duplicate key
    a = 'x\u{1}y'
        jericho.toml:1:7: invalid literal string, expected non-single-quote visible characters
    = 1
        jericho.toml:1:1: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
    "#);
    let nested = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_ne!(told(nested.as_bytes()), "accepted");
    let dotted = format!("a{} = 1", ".a".repeat(100_000));
    assert_ne!(told(dotted.as_bytes()), "accepted");
}

#[test]
fn what_a_file_or_a_target_cannot_say_is_told_with_its_place() {
    insta::assert_snapshot!(told_of_files(&[
        "version = 2",
        "version = \"1\"",
        "version = 0x1_0",
        "version = 99999999999999999999",
        "targts = {}",
        "jobs = {}",
        "targets = 1",
        "[[targets]]\nname = 'a'",
        "targets.a = 'x'",
        "[targets.a]",
        "[targets.a]\njobs = {}",
        "[targets.a]\njobs = []",
        "[targets.a]\ncommand = 'x'",
        "[targets.a]\njob.b.command = 'x'",
        "[targets.a]\njobs.b = 'make'",
        "[targets.'a b'.jobs.b]\ncommand = 'x'",
        "[targets.'../x'.jobs.b]\ncommand = 'x'",
        "[targets.''.jobs.b]\ncommand = 'x'",
        "[targets.a.jobs.'b/c']\ncommand = 'x'",
        "[targets.jericho-smoke.jobs.b]\ncommand = 'x'",
        "[targets.a]\ndescription = 1\njobs.b.command = 'x'",
        "[targets.a]\ndescription = \"two\\nlines\"\njobs.b.command = 'x'",
        "[targets.a]\ntrigger = 'nightl'\njobs.b.command = 'x'",
        "[targets.a]\ntrigger = 'push'\njobs.b.command = 'x'",
        "[targets.a]\ntrigger = true\njobs.b.command = 'x'",
        "[targets.a]\ndefault = 'yes'\njobs.b.command = 'x'",
        "[targets.a]\ndefault = true\njobs.b.command = 'x'\n[targets.b]\ndefault = true\njobs.b.command = 'x'",
        "[targets.a]\npaths = 'src/**'\njobs.b.command = 'x'",
        "[targets.a]\npaths = ['src/**', 1]\njobs.b.command = 'x'",
        "[targets.a]\npaths = ['ok', '../x',\n  '/src/**', '', 'a/']\njobs.b.command = 'x'",
        "[targets.a]\npaths = ['src/**', '!src/**']\njobs.b.command = 'x'",
        "[targets.a]\npaths = ['!**/*.md']\njobs.b.command = 'x'",
        "groups = 1",
        "[groups]\na = 0\nb = -1\nc = '1'\n'd e' = 1",
    ]), @r#"
    version = 2
        jericho.toml:1:11: version 2 of this file is not known; write `version = 1`
    version = "1"
        jericho.toml:1:11: `version`: expected an integer, found the string `1`
    version = 0x1_0
        jericho.toml:1:11: version 16 of this file is not known; write `version = 1`
    version = 99999999999999999999
        jericho.toml:1:11: 99999999999999999999 is too large
    targts = {}
        jericho.toml:1:1: unknown key `targts` at the top of the file; did you mean `targets`?
    jobs = {}
        jericho.toml:1:1: unknown key `jobs` at the top of the file; the keys are `version`, `targets`, `groups`, `settings`
    targets = 1
        jericho.toml:1:11: `targets`: expected a table, found the integer 1
    [[targets]]\nname = 'a'
        jericho.toml:1:1: `targets`: expected a table, found an array
    targets.a = 'x'
        jericho.toml:1:13: `a`: expected a table, found the string `x`
    [targets.a]
        jericho.toml:1:10: target `a` has no jobs; add a table [targets.NAME.jobs.JOB] with a `command`
    [targets.a]\njobs = {}
        jericho.toml:1:10: target `a` has no jobs; add a table [targets.NAME.jobs.JOB] with a `command`
    [targets.a]\njobs = []
        jericho.toml:2:8: `jobs`: expected a table, found an array
    [targets.a]\ncommand = 'x'
        jericho.toml:2:1: unknown key `command` in target `a`; the keys are `description`, `paths`, `trigger`, `default`, `jobs`
    [targets.a]\njob.b.command = 'x'
        jericho.toml:2:1: unknown key `job` in target `a`; did you mean `jobs`?
    [targets.a]\njobs.b = 'make'
        jericho.toml:2:10: `b`: expected a table, found the string `make`
    [targets.'a b'.jobs.b]\ncommand = 'x'
        jericho.toml:1:10: `a b` cannot be the name of a target; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200
    [targets.'../x'.jobs.b]\ncommand = 'x'
        jericho.toml:1:10: `../x` cannot be the name of a target; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200
    [targets.''.jobs.b]\ncommand = 'x'
        jericho.toml:1:10: `` cannot be the name of a target; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200
    [targets.a.jobs.'b/c']\ncommand = 'x'
        jericho.toml:1:17: `b/c` cannot be the name of a job; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200
    [targets.jericho-smoke.jobs.b]\ncommand = 'x'
        jericho.toml:1:10: target `jericho-smoke` is built in; choose another name
    [targets.a]\ndescription = 1\njobs.b.command = 'x'
        jericho.toml:2:15: `description`: expected a string, found the integer 1
    [targets.a]\ndescription = "two\nlines"\njobs.b.command = 'x'
        jericho.toml:2:15: `two\nlines` is not one line of text
    [targets.a]\ntrigger = 'nightl'\njobs.b.command = 'x'
        jericho.toml:2:11: `trigger` cannot be `nightl`; did you mean `nightly`?
    [targets.a]\ntrigger = 'push'\njobs.b.command = 'x'
        jericho.toml:2:11: `trigger` cannot be `push`; write one of `none`, `branch`, `nightly`
    [targets.a]\ntrigger = true\njobs.b.command = 'x'
        jericho.toml:2:11: `trigger`: expected a string, found `true`
    [targets.a]\ndefault = 'yes'\njobs.b.command = 'x'
        jericho.toml:2:11: `default`: expected `true` or `false`, found the string `yes`
    [targets.a]\ndefault = true\njobs.b.command = 'x'\n[targets.b]\ndefault = true\njobs.b.command = 'x'
        jericho.toml:5:1: target `b` is a second default, after `a`; keep one of them
    [targets.a]\npaths = 'src/**'\njobs.b.command = 'x'
        jericho.toml:2:9: `paths`: expected an array of strings, found the string `src/**`
    [targets.a]\npaths = ['src/**', 1]\njobs.b.command = 'x'
        jericho.toml:2:20: `paths`: expected a string, found the integer 1
    [targets.a]\npaths = ['ok', '../x',\n  '/src/**', '', 'a/']\njobs.b.command = 'x'
        jericho.toml:2:16: the pattern `../x` cannot match: it contains `..`, which no path relative to the root of the source tree does
        jericho.toml:3:3: the pattern `/src/**` cannot match: it starts with `/`, and paths are relative to the root of the source tree; write `src/**`
        jericho.toml:3:14: the pattern `` cannot match: it is empty
        jericho.toml:3:18: the pattern `a/` cannot match: it ends with `/`, and patterns match files, not directories; write `a/**`
    [targets.a]\npaths = ['src/**', '!src/**']\njobs.b.command = 'x'
        jericho.toml:2:10: the pattern `src/**` cannot match: it selects nothing, since `!src/**` comes later and excludes all that it matches
    [targets.a]\npaths = ['!**/*.md']\njobs.b.command = 'x'
        jericho.toml:2:10: the pattern `!**/*.md` cannot match: it excludes nothing, since no pattern before it selects anything; put `**` first to select everything else
    groups = 1
        jericho.toml:1:10: `groups`: expected a table, found the integer 1
    [groups]\na = 0\nb = -1\nc = '1'\n'd e' = 1
        jericho.toml:2:5: group `a` has 0 places; a group has 1 or more
        jericho.toml:3:5: group `b` has -1 places; a group has 1 or more
        jericho.toml:4:5: `c`: expected an integer, found the string `1`
        jericho.toml:5:1: `d e` cannot be the name of a group; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200
    "#);
}

#[test]
fn what_a_job_cannot_say_is_told_with_its_place() {
    insta::assert_snapshot!(told_of_jobs(&[
        "",
        "comand = 'x'",
        "command = 'x'\nretry = 1",
        "command = 'x'\nretries = 1",
        "command = 'x'\nmatrix = { a = ['b'] }",
        "command = 'x'\nstaged.build = 'x'",
        "command = 'x'\nwidth = 1",
        "run = 'x'",
        "command = 1",
        "command = ''",
        "command = '  '",
        "command = []",
        "command = ['']",
        "command = ['make', 1]",
        "command = \"a\\u0000b\"",
        "command = 'x'\ntimeout = 300",
        "command = 'x'\ntimeout = '5 minutes'",
        "command = 'x'\ntimeout = '500ms'",
        "command = 'x'\ntimeout = '0s'",
        "command = 'x'\ntimeout = '100000h'",
        "command = 'x'\nenv = ['A=1']",
        "command = 'x'\nenv = { A = 1 }",
        "command = 'x'\nenv = { 'A=B' = '1' }",
        "command = 'x'\nenv = { ARTIFACTS = '/a', JERICHOCI_JOB = 'x' }",
        "command = 'x'\nruntime = 'incu'",
        "command = 'x'\nruntime = 'docker'",
        "command = 'x'\nruntime = 'incus'\nnix_shell = 'default'",
        "command = 'x'\nnix_shell = '.#ci'",
        "command = 'x'\nnix_shell = true",
        "command = 'x'\ngroup = 'a b'",
        "command = 'x'\ngroup = 'dbb'\n[groups]\ndb = 1",
        "command = 'x'\ngroup = 'gpu'\n[groups]\ndb = 1",
        "command = 'x'\ndescription = \"\\u001b[2J\"",
    ]), @r#"
        jericho.toml:1:17: job `a` has no `command`
    comand = 'x'
        jericho.toml:2:1: unknown key `comand` in job `a`; did you mean `command`?
    command = 'x'\nretry = 1
        jericho.toml:3:1: unknown key `retry` in job `a`; did you mean `retries`?
    command = 'x'\nretries = 1
        accepted
    command = 'x'\nmatrix = { a = ['b'] }
        accepted
    command = 'x'\nstaged.build = 'x'
        jericho.toml:3:1: `staged` has no `deps`
        jericho.toml:3:1: `staged` has no `prefix`
    command = 'x'\nwidth = 1
        jericho.toml:3:1: unknown key `width` in job `a`; the keys are `command`, `description`, `needs`, `matrix`, `timeout`, `retries`, `env`, `secrets`, `caches`, `artifacts`, `artifacts_when`, `group`, `git`, `runtime`, `on`, `nix_shell`, `image`, `role`, `target`, `writable`, `network`, `cpus`, `memory`, `disk`, `root`, `staged`
    run = 'x'
        jericho.toml:2:1: unknown key `run` in job `a`; did you mean `command`?
    command = 1
        jericho.toml:2:11: `command`: expected a script as a string, or a program and its arguments as an array, found the integer 1
    command = ''
        jericho.toml:2:11: the command is empty
    command = '  '
        jericho.toml:2:11: the command is empty
    command = []
        jericho.toml:2:11: the command is empty
    command = ['']
        jericho.toml:2:12: the program of the command is empty
    command = ['make', 1]
        jericho.toml:2:20: `command`: expected a string, found the integer 1
    command = "a\u0000b"
        jericho.toml:2:11: a NUL cannot be passed to a command
    command = 'x'\ntimeout = 300
        jericho.toml:3:11: expected a duration with its unit, found the integer 300; write whole hours, minutes and seconds, such as `"90s"`, `"5m"`, `"1h30m"`
    command = 'x'\ntimeout = '5 minutes'
        jericho.toml:3:11: `5 minutes` is not a duration; write whole hours, minutes and seconds, such as `"90s"`, `"5m"`, `"1h30m"`
    command = 'x'\ntimeout = '500ms'
        jericho.toml:3:11: `500ms` is not a duration; write whole hours, minutes and seconds, such as `"90s"`, `"5m"`, `"1h30m"`
    command = 'x'\ntimeout = '0s'
        jericho.toml:3:11: `0s` is no time at all; write whole hours, minutes and seconds, such as `"90s"`, `"5m"`, `"1h30m"`
    command = 'x'\ntimeout = '100000h'
        jericho.toml:3:11: `100000h` is longer than a year; write whole hours, minutes and seconds, such as `"90s"`, `"5m"`, `"1h30m"`
    command = 'x'\nenv = ['A=1']
        jericho.toml:3:7: `env`: expected a table, found an array
    command = 'x'\nenv = { A = 1 }
        jericho.toml:3:13: `A`: expected a string, found the integer 1
    command = 'x'\nenv = { 'A=B' = '1' }
        jericho.toml:3:9: `A=B` cannot be the name of a variable; a name has no `=` and at least one letter
    command = 'x'\nenv = { ARTIFACTS = '/a', JERICHOCI_JOB = 'x' }
        jericho.toml:3:27: `JERICHOCI_JOB` is set by Jericho CI for each job; leave it out
    command = 'x'\nruntime = 'incu'
        jericho.toml:3:11: `runtime` cannot be `incu`; did you mean `incus`?
    command = 'x'\nruntime = 'docker'
        jericho.toml:3:11: `runtime` cannot be `docker`; write one of `host_process`, `incus`, `tart`
    command = 'x'\nruntime = 'incus'\nnix_shell = 'default'
        jericho.toml:4:1: `nix_shell` has no meaning where the runtime is `incus`: only a host process enters a dev shell, and a guest has the tools of its image; leave it out
    command = 'x'\nnix_shell = '.#ci'
        jericho.toml:3:13: `.#ci` is not the name of a dev shell; `"default"` is the usual one
    command = 'x'\nnix_shell = true
        jericho.toml:3:13: `nix_shell`: expected a string, found `true`
    command = 'x'\ngroup = 'a b'
        jericho.toml:3:9: `a b` cannot be the name of a group; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200
    command = 'x'\ngroup = 'dbb'\n[groups]\ndb = 1
        jericho.toml:3:9: group `dbb` is not in [groups]; did you mean `db`?
    command = 'x'\ngroup = 'gpu'\n[groups]\ndb = 1
        jericho.toml:3:9: group `gpu` is not in [groups]; add `gpu = 1` there
    command = 'x'\ndescription = "\u001b[2J"
        jericho.toml:3:15: `\u{1b}[2J` is not one line of text
    "#);
}

#[test]
fn needs_name_other_jobs_of_the_target_without_a_circle() {
    let jobs = |needs: &[(&str, &str)]| {
        needs.iter().fold(String::new(), |mut text, (name, needs)| {
            let _ = writeln!(text, "[targets.t.jobs.{name}]\ncommand = 'x'\nneeds = {needs}");
            text
        })
    };
    let cases = [
        jobs(&[("a", "'b'"), ("b", "[]")]),
        jobs(&[("a", "['a']")]),
        jobs(&[("a", "['b']")]),
        jobs(&[("test", "[]"), ("a", "['tset']")]),
        jobs(&[("test", "[]"), ("a", "['build', 'test']")]),
        jobs(&[("b", "['a']"), ("a", "['b']")]),
        jobs(&[("a", "['b']"), ("b", "['c']"), ("c", "['d']"), ("d", "['b']"), ("e", "[]")]),
        jobs(&[("a", "['b', 'b']"), ("b", "[]")]),
    ];
    insta::assert_snapshot!(cases.iter().map(|text| told(text.as_bytes())).collect::<Vec<_>>().join("\n"), @r#"
    jericho.toml:3:9: `needs`: expected an array of strings, found the string `b`
    jericho.toml:3:10: job `a` needs itself; leave it out
    jericho.toml:3:10: job `a` needs `b`, which is not a job of this target; it has no other job
    jericho.toml:6:10: job `a` needs `tset`, which is not a job of this target; did you mean `test`?
    jericho.toml:6:10: job `a` needs `build`, which is not a job of this target; the other jobs are `test`
    jericho.toml:3:10: jobs need each other in a circle: `b` -> `a` -> `b`; leave one of these needs out
    jericho.toml:6:10: jobs need each other in a circle: `b` -> `c` -> `d` -> `b`; leave one of these needs out
    jericho.toml:3:15: job `a` needs `b` twice; leave one out
    "#);
    assert_eq!(
        told(jobs(&[("d", "['b', 'c']"), ("b", "['a']"), ("c", "['a']"), ("a", "[]")]).as_bytes()),
        "accepted"
    );
}

#[test]
fn a_long_chain_of_needs_is_no_circle_and_no_deep_recursion() {
    let mut text = String::from("[targets.t.jobs]\nj0.command = 'x'\n");
    for job in 1..5000 {
        let _ = writeln!(text, "j{job} = {{ command = 'x', needs = ['j{}'] }}", job - 1);
    }
    assert_eq!(told(text.as_bytes()), "accepted");
    let closed = text.replacen("j0.command = 'x'", "j0 = { command = 'x', needs = ['j4999'] }", 1);
    assert!(told(closed.as_bytes()).starts_with("jericho.toml:2:"));
}

#[test]
fn all_problems_of_a_file_are_told_in_its_order() {
    let text = "targts = {}\n[targets.a.jobs.b]\ncomand = 'x'\ntimeout = 5\n[targets.c]\npaths = ['']\n";
    let lines: Vec<String> =
        told(text.as_bytes()).lines().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(
        lines.iter().map(|line| line.trim_start_matches("jericho.toml:")).collect::<Vec<_>>(),
        ["1:1", "3:1", "4:11", "5:10", "6:10"]
    );
}

#[test]
fn more_problems_than_a_person_reads_are_counted() {
    let mut text = String::from("[targets.t.jobs]\n");
    for job in 0..5000 {
        let _ = writeln!(text, "j{job} = {{ command = 'x', needs = ['missing-{job}'] }}");
    }
    let told = told(text.as_bytes());
    assert_eq!(told.lines().count(), 51);
    assert!(told.ends_with("\nand 4950 more problems"), "{told}");
}

#[test]
fn a_problem_is_one_line_without_control_characters() {
    let odd = "\"\\u001b[2J\\n\"";
    for text in [
        format!("{odd} = 1"),
        format!("[targets.{odd}]"),
        format!("[targets.t.jobs.{odd}]\nneeds = [{odd}, 'x']\nenv = {odd}\n{odd} = 1"),
        format!(
            "[targets.t.jobs]\n{odd} = {{ command = 'x', needs = ['b'] }}\nb = {{ command = 'x', needs = [{odd}] }}"
        ),
        format!(
            "[targets.t]\npaths = [{odd}, '!**']\ntrigger = {odd}\njobs.a.timeout = {odd}\njobs.a.group = {odd}"
        ),
        format!("[groups]\n{odd} = 0\n[targets.t.jobs.a]\ncommand = 'x'\ngroup = 'y'"),
        "a = \u{1b}[2J".to_owned(),
    ] {
        let Err(TargetError::Toml { problems, .. }) = parse(text.as_bytes(), &Origin::BuiltIn, &[], None)
        else {
            panic!("accepted: {text}")
        };
        for problem in problems {
            assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
        }
    }
}

#[test]
fn the_recipes_of_the_documentation_are_accepted() {
    let docs = include_str!("../../../../../../docs/targets.md");
    let recipes: Vec<&str> = docs
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|recipe| recipe.starts_with('['))
        .collect();
    assert!(recipes.len() >= 6, "{recipes:?}");
    for recipe in recipes {
        assert_eq!(told(recipe.as_bytes()), "accepted", "{recipe}");
    }
}

#[test]
fn a_tree_without_a_file_has_the_built_in_targets() {
    let root = tempfile::tempdir().unwrap();
    let catalog = Catalog::load(root.path()).unwrap();
    assert_eq!(catalog.iter().map(|target| target.id.as_str()).collect::<Vec<_>>(), ["jericho-smoke"]);
    let error = catalog.find("jericho-smok").unwrap_err();
    assert_eq!(error.to_string(), "no target is called `jericho-smok`");
    assert_eq!(error.hint().unwrap(), "did you mean `pikaci run jericho-smoke`?");
    assert_eq!(catalog.find("x\u{1b}").unwrap_err().to_string(), "no target is called `x\\u{1b}`");
    let error = catalog.default_target().unwrap_err();
    assert_eq!(
        error.hint().unwrap(),
        "declare one: printf '[targets.check.jobs.test]\\ncommand = \"make test\"\\n' > jericho.toml; \
         built in is jericho-smoke"
    );
}

#[test]
fn what_stands_in_place_of_the_file_is_told() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(FILE_NAME);
    let told = || Catalog::load(root.path()).unwrap_err().to_string().replace(path.to_str().unwrap(), "PATH");

    fs::create_dir(&path).unwrap();
    assert_eq!(told(), "PATH is a directory, not a file");
    fs::remove_dir(&path).unwrap();

    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert_eq!(told(), "PATH is a symbolic link to nothing");
    fs::remove_file(&path).unwrap();

    std::os::unix::fs::symlink(FILE_NAME, &path).unwrap();
    assert_eq!(told(), "cannot read PATH");
    fs::remove_file(&path).unwrap();

    #[expect(clippy::disallowed_methods, reason = "the standard library makes no FIFO")]
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert_eq!(told(), "PATH is a FIFO, not a file");
    fs::remove_file(&path).unwrap();

    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert_eq!(told(), "PATH is a device or a socket, not a file");
    fs::remove_file(&path).unwrap();

    fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert_eq!(told(), "PATH is larger than 1 MiB");
    assert!(Catalog::load(root.path()).unwrap_err().hint().unwrap().contains("let jobs call scripts"));
    fs::write(&path, vec![b'#'; 1 << 20]).unwrap();
    assert!(Catalog::load(root.path()).is_ok());
}

#[test]
fn this_repository_has_a_default_target_of_three_jobs() {
    let root = jericho_testkit::crate_dir!().join("../..");
    let catalog = Catalog::load(&root).unwrap();
    let target = catalog.default_target().unwrap();
    assert_eq!(target.id, "pre-merge-jericho");
    assert_eq!(target.origin, Origin::File(root.join(FILE_NAME)));
    let jobs: Vec<(&str, &[String])> =
        target.jobs.iter().map(|job| (job.id.as_str(), job.needs.as_slice())).collect();
    let fmt = ["fmt".to_owned()];
    assert_eq!(jobs, [("fmt", &[][..]), ("clippy", &fmt), ("unit-tests", &fmt)]);
    jerichoci::run::request::RunRequest::new(target.jobs.clone()).check().unwrap();
}

#[test]
fn this_repository_has_a_staged_target_whose_jobs_share_their_outputs() {
    let root = jericho_testkit::crate_dir!().join("../..");
    let catalog = Catalog::load(&root).unwrap();
    let target = catalog.find("pre-merge-jericho-linux").unwrap();
    let staged: Vec<_> = target.jobs.iter().map(|job| job.staged.as_ref().unwrap()).collect();
    assert!(staged.len() > 1);
    for config in &staged {
        assert_eq!(config.prefix, "jericho-linux-rust");
        assert_eq!(config.deps.output_name, "ci.x86_64-linux.workspaceDeps");
        assert_eq!(config.build.output_name, "ci.x86_64-linux.workspaceBuild");
    }
    jerichoci::run::request::RunRequest::new(target.jobs.clone()).check().unwrap();
}
