//! Help texts, as people see them.

use std::collections::BTreeSet;

use jericho_testkit::crate_dir;

use crate::common::{Ended, Tree};

#[test]
fn the_commands_are_listed_by_what_one_wants_to_do() {
    insta::assert_snapshot!(Tree::plain().run(&["--help"]).code(0).stdout, @r"
    Runs the checks of a source tree the same way everywhere

    Usage: pikaci [OPTIONS] <COMMAND>

    Run:
      plan                            Shows what a run would do, and does nothing
      run                             Runs a target against a snapshot of the source tree
      rerun                           Repeats a run: the same bytes of source, the same job definitions
      cancel                          Ends a run that goes on, from another terminal

    Look:
      targets                         Lists the targets of the source tree, and the built-in ones
      explain                         Says of each lane and target why it would run or be skipped
      list                            Lists runs, newest first: run id, status, target, start
      status                          Shows what is recorded about a run
      logs                            Prints the logs of a job, byte for byte
      report                          Makes a page of a run that opens in any browser, JUnit XML, a trace
      snapshot                        Writes out the source tree that a run saw, and prints where it is
      shell                           Opens a shell where a job ran: in its guest, or in a fresh one like it

    Keep:
      gc                              Removes old runs, and what only they needed
      reap                            Ends what nobody owns any more: what engines that died have left running

    Set up:
      config                          Shows each setting, its value, and where it comes from
      doctor                          Looks whether jobs can run on this machine or on a host, and tells what mends it
      completions                     Prints the completions of bash, zsh or fish
      man                             Prints the manual page, or writes the pages of all commands

    For programs:
      schema                          Prints the JSON schema of jericho.toml, for editors
      prepared-outputs                Shows the prepared outputs of a run
      fulfill-prepared-output-request Makes the links that a request for a prepared output asks for
      staged-linux-remote-defaults    Prints the built-in settings of the build host
      staged-linux-target-info        Prints the prepared outputs of a staged target

    Options:
          --state-root <DIR>  Directory of all records and caches [default: .jerichoci at the top of the
                              source tree]
      -C <DIR>                As if started in this directory
          --config <FILE>     File of hosts and allowed secrets [default: jerichoci/config.toml in
                              $XDG_CONFIG_HOME or ~/.config]
      -h, --help              Print help
      -V, --version           Print version

    Exit codes: 0 passed or skipped, 1 a job failed or timed out, 2 wrong usage,
    3 infrastructure, 4 cancelled, 5 run, target, job or log not found.
    ");
}

#[test]
fn every_command_has_its_help() {
    let tree = Tree::plain();
    insta::assert_snapshot!(tree.run(&["run", "-h"]).code(0).stdout, @r#"
    Runs a target against a snapshot of the source tree

    Usage: pikaci run [OPTIONS] [TARGET] [-- <ARGS>...]

    Arguments:
      [TARGET]   A target of jericho.toml, or jericho-smoke [default: the target with `default = true`]
      [ARGS]...  Appended to the command of the job: arguments of a program, "$@" of a script

    Options:
          --output <FORM>   What goes to standard output [default: human] [possible values: human, json,
                            jsonl]
          --events <KINDS>  Which events `--output jsonl` prints [default: classic] [possible values:
                            classic, all]
      -q, --quiet           Only what went wrong: failures, and a summary when there are any
          --color <WHEN>    When words on standard error have colours [default: auto] [possible values:
                            auto, always, never]
      -j, --jobs <N>        At most this many jobs at once [default: the number of processors]
          --inherit-env     Jobs see the whole environment of this shell, not only what is known to be
                            harmless
          --catalog <NAME>  Also the targets of this catalog, whatever ci/forge-lanes.toml says
                            [possible values: pika]
          --junit <FILE>    Write JUnit XML here at the end, however the run ends
          --keep-going      After a failure, go on with what does not depend on it
          --base <REV>      Revision that changes are counted from [default: the upstream's default
                            branch]
          --no-git          Take a tree that is in no git repository, or on a machine without git: all
                            of it but what .gitignore and .jerichociignore name
          --only <JOB>      Only this job and what it needs; can be given several times
          --watch           Run again whenever a file of the tree changes, until Ctrl-C; a run that goes
                            on is cancelled
      -h, --help            Print help (see more with '--help')

    Where jobs run:
          --incus-project <NAME>       Project of Incus for the instances of jobs, on every machine
          --incus-profile <NAME>       Profile of Incus for the instances of jobs, on every machine
          --incus-image-alias <ALIAS>  Image in place of those that jobs name
          --incus-target <MEMBER>      Cluster member for instances, or group of members as @GROUP
          --remote-work-dir <DIR>      Directory on other hosts for snapshots and outputs, absolute
          --on <HOST>                  Run the jobs on this host, whatever they say: `local`, a host of
                                       the user's file, or anything that ssh takes as a destination
          --keep-on-failure            Keep the guest of a job that did not pass for two hours, to look
                                       at: pikaci shell RUN JOB
          --shell-on-failure           After the run, open a shell in the guest of the first job that
                                       failed; it is kept as well

    Global options:
          --state-root <DIR>  Directory of all records and caches [default: .jerichoci at the top of the
                              source tree]
      -C <DIR>                As if started in this directory
          --config <FILE>     File of hosts and allowed secrets [default: jerichoci/config.toml in
                              $XDG_CONFIG_HOME or ~/.config]
    "#);
    insta::assert_snapshot!(tree.run(&["logs", "-h"]).code(0).stdout, @r"
    Prints the logs of a job, byte for byte

    Usage: pikaci logs [OPTIONS] <RUN_ID>

    Arguments:
      <RUN_ID>  The run; `latest` is the newest one

    Options:
          --job <ID>       The job [default: the first one; all of them with --metadata-json]
          --kind <KIND>    Which log [default: both] [possible values: host, guest, both]
      -f, --follow         Go on with what is added, until the job has ended; waits for one that has not
                           started
          --tail <N>       Only the last lines of each log
          --metadata-json  Where the logs are and how long, in place of the logs
      -h, --help           Print help (see more with '--help')

    Global options:
          --state-root <DIR>  Directory of all records and caches [default: .jerichoci at the top of the
                              source tree]
      -C <DIR>                As if started in this directory
          --config <FILE>     File of hosts and allowed secrets [default: jerichoci/config.toml in
                              $XDG_CONFIG_HOME or ~/.config]
    ");
    insta::assert_snapshot!(tree.run(&["gc", "-h"]).code(0).stdout, @r"
    Removes old runs, and what only they needed

    Usage: pikaci gc [OPTIONS]

    Options:
          --keep-runs <N>    Keep this many of the newest runs [default: 10, when there is no other
                             limit]
          --max-age <AGE>    Keep the runs of this time, for example 14d or 36h
          --max-size <SIZE>  Keep runs, snapshots and caches below this size, for example 20GiB. What
                             was used longest ago goes first
          --dry-run          Say what would go, and remove nothing
          --host <HOST>      Of the hosts only this one, as in the user's file or for ssh; `local` for
                             none. Can be given several times
      -h, --help             Print help (see more with '--help')

    Where jobs run:
          --incus-project <NAME>       Project of Incus for the instances of jobs, on every machine
          --incus-profile <NAME>       Profile of Incus for the instances of jobs, on every machine
          --incus-image-alias <ALIAS>  Image in place of those that jobs name
          --incus-target <MEMBER>      Cluster member for instances, or group of members as @GROUP
          --remote-work-dir <DIR>      Directory on other hosts for snapshots and outputs, absolute

    Global options:
          --state-root <DIR>  Directory of all records and caches [default: .jerichoci at the top of the
                              source tree]
      -C <DIR>                As if started in this directory
          --config <FILE>     File of hosts and allowed secrets [default: jerichoci/config.toml in
                              $XDG_CONFIG_HOME or ~/.config]
    ");
    insta::assert_snapshot!(tree.run(&["reap", "-h"]).code(0).stdout, @r"
    Ends what nobody owns any more: what engines that died have left running

    Usage: pikaci reap [OPTIONS]

    Options:
          --host <HOST>  Of the hosts only this one, as in the user's file or for ssh; `local` for none.
                         Can be given several times
          --expired      Also guests of other state roots whose time is up: that of their job, and an
                         hour more
          --dry-run      Say what would be ended, and end nothing
          --json         As JSON
      -h, --help         Print help (see more with '--help')

    Where jobs run:
          --incus-project <NAME>       Project of Incus for the instances of jobs, on every machine
          --incus-profile <NAME>       Profile of Incus for the instances of jobs, on every machine
          --incus-image-alias <ALIAS>  Image in place of those that jobs name
          --incus-target <MEMBER>      Cluster member for instances, or group of members as @GROUP
          --remote-work-dir <DIR>      Directory on other hosts for snapshots and outputs, absolute

    Global options:
          --state-root <DIR>  Directory of all records and caches [default: .jerichoci at the top of the
                              source tree]
      -C <DIR>                As if started in this directory
          --config <FILE>     File of hosts and allowed secrets [default: jerichoci/config.toml in
                              $XDG_CONFIG_HOME or ~/.config]
    ");
    insta::assert_snapshot!(tree.run(&["completions", "-h"]).code(0).stdout, @r"
    Prints the completions of bash, zsh or fish

    Usage: pikaci completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>  The shell [possible values: bash, zsh, fish]

    Options:
      -h, --help  Print help (see more with '--help')

    Global options:
          --state-root <DIR>  Directory of all records and caches [default: .jerichoci at the top of the
                              source tree]
      -C <DIR>                As if started in this directory
          --config <FILE>     File of hosts and allowed secrets [default: jerichoci/config.toml in
                              $XDG_CONFIG_HOME or ~/.config]
    ");
    insta::assert_snapshot!(tree.run(&["man", "-h"]).code(0).stdout, @r"
    Prints the manual page, or writes the pages of all commands

    Usage: pikaci man [OPTIONS] [DIR]

    Arguments:
      [DIR]  Directory for the pages, made when it is missing [default: the first page, on standard
             output]

    Options:
      -h, --help  Print help (see more with '--help')

    Global options:
          --state-root <DIR>  Directory of all records and caches [default: .jerichoci at the top of the
                              source tree]
          --config <FILE>     File of hosts and allowed secrets [default: jerichoci/config.toml in
                              $XDG_CONFIG_HOME or ~/.config]
    ");
    for command in commands(&tree) {
        let help = tree.run(&[&command, "--help"]).code(0).stdout;
        assert!(help.contains("Usage: pikaci ") && help.contains("--state-root"), "{help}");
        // Nothing is left of a doc comment's own form.
        assert!(!help.contains("[`") && help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
}

/// The commands that the help lists.
fn commands(tree: &Tree) -> Vec<String> {
    let all = tree.run(&["--help"]).code(0).stdout;
    let lines = all.lines().skip_while(|line| *line != "Run:").take_while(|line| *line != "Options:");
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    assert!(commands.len() > 15, "{commands:?}");
    commands
}

/// The words of a text that are long options.
fn options(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words
        .filter(|word| word.strip_prefix("--").is_some_and(|name| name.starts_with(char::is_alphabetic)))
        .collect()
}

#[test]
fn the_page_of_the_command_line_has_each_option_at_its_command_and_no_other() {
    let tree = Tree::plain();
    let page = std::fs::read_to_string(crate_dir!().join("../../docs/cli.md")).unwrap();
    // What the page says of a command: its line of the table, and the sections that name it.
    let of = |command: &str| -> String {
        let mut named = false;
        let lines = page.lines().filter(|line| {
            if let Some(heading) = line.strip_prefix('#') {
                named = heading.split([' ', ',']).any(|word| word == command);
            }
            let row = line.strip_prefix("| `").and_then(|row| row.split([' ', '`']).next());
            named || row == Some(command)
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let mut known = BTreeSet::from(["--help".to_owned(), "--version".to_owned()]);
    for command in commands(&tree) {
        let help = tree.run(&[&command, "-h"]).code(0).stdout;
        let defined = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let defined: Vec<&str> = defined.filter_map(|line| options(line).pop_first()).collect();
        let (said, everywhere) = (of(&command), options(&page));
        let own = help.split("Global options:").next().unwrap();
        for option in defined {
            let place = if own.contains(option) { options(&said) } else { everywhere.clone() };
            assert!(option == "--help" || place.contains(option), "{option} of `{command}` is not described");
            known.insert(option.to_owned());
        }
    }
    let unknown: Vec<&str> = options(&page).into_iter().filter(|option| !known.contains(*option)).collect();
    assert!(unknown.is_empty(), "no command has {unknown:?}");
}

#[test]
fn the_defaults_of_the_build_host_are_machine_readable() {
    let tree = Tree::plain();
    insta::assert_snapshot!(tree.run(&["staged-linux-remote-defaults"]).code(0).stdout, @r"
    default_ssh_binary='/usr/bin/ssh'
    default_ssh_nix_binary='nix'
    default_ssh_host='pika-build'
    default_remote_work_dir='/var/tmp/jerichoci-prepared-output'
    default_remote_launcher_binary='/run/current-system/sw/bin/pikaci-launch-fulfill-prepared-output'
    default_remote_helper_binary='/run/current-system/sw/bin/pikaci-fulfill-prepared-output'
    default_store_uri='ssh://pika-build'
    ");
    let json = tree.run(&["staged-linux-remote-defaults", "--json"]).code(0).json();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "ssh_binary",
            "ssh_nix_binary",
            "ssh_host",
            "remote_work_dir",
            "remote_launcher_binary",
            "remote_helper_binary",
            "store_uri",
        ]
    );
}

#[test]
fn nothing_is_coloured_also_when_that_is_asked_for() {
    let tree = Tree::plain();
    let many = [&["--help"][..], &["run", "--help"], &["run", "-h"], &["bogus"], &["run", "--bogus"], &[]];
    for args in many {
        let mut pikaci = tree.pikaci(args);
        pikaci.envs([("CLICOLOR_FORCE", "1"), ("CLICOLOR", "1"), ("FORCE_COLOR", "1"), ("TERM", "xterm")]);
        let ended = Ended::of(pikaci.output().unwrap());
        assert!(!ended.stdout.contains('\x1b') && !ended.stderr.contains('\x1b'), "{ended:?}");
    }
}
