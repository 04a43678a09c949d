//! Help texts, as people see them.

mod common;

use common::Sandbox;

fn help(args: &[&str]) -> String {
    let sandbox = Sandbox::without_git("");
    let said = sandbox.run(args);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(!said.out.contains('\u{1b}'), "no escape codes in {:?}", said.out);
    // The parser pads empty lines.
    said.out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn the_help_names_every_command_and_the_exit_codes() {
    insta::assert_snapshot!(help(&["--help"]), @r"
    Runs the checks of a source tree, the same way everywhere.

    A target is a set of jobs; `pikaci run TARGET` runs them against a snapshot of the tree and records
    everything under the state root. Targets come from jericho.toml at the top of the tree;
    `jericho-smoke` is always there.

    Usage: pikaci [OPTIONS] <COMMAND>

    Commands:
      run               Run a target against a snapshot of the tree as it is now
      rerun             Repeat a run: its recorded jobs against its recorded snapshot, byte for byte
      list              List the runs, newest first
      status            Show what is known about a run
      logs              Show the logs of a job
      cancel            End a run that goes on in another process
      gc                Remove old runs, and what only they needed
      snapshot          Write out the source tree that a run saw, and print where it is
      prepared-outputs  Show the prepared outputs of a run

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Global options:
      -C <DIR>
              Work as if started in this directory

          --state-root <DIR>
              Directory of all records and caches [default: .jerichoci at the top of the source tree]

    Exit codes: 0 passed or skipped, 1 a job failed or timed out, 2 wrong usage, 3 not the fault of
    a job (errored, interrupted), 4 cancelled, 5 no such run, job, log or target.
    ");
}

#[test]
fn the_help_of_run() {
    insta::assert_snapshot!(help(&["run", "--help"]), @r"
    Run a target against a snapshot of the tree as it is now

    The tree may change while the run goes on; the jobs do not see it. A target with path filters runs
    when a file that differs from the base matches one of them; otherwise a skipped run is recorded.

    Usage: pikaci run [OPTIONS] [TARGET]

    Arguments:
      [TARGET]
              What to run [default: the target that jericho.toml calls default]

    Options:
          --output <FORM>
              What standard output carries

              Possible values:
              - human: A line a job as it ends; messages, and the last lines of what failed, on standard
                error
              - json:  The record of the run, after its end
              - jsonl: An event a line, as it happens

              [default: human]

          --events <WHICH>
              Which events `--output jsonl` shows

              Possible values:
              - classic: run_started, job_started, job_finished, run_finished
              - all:     Also prepare, phase, log progress and warning events

              [default: classic]

      -j, --jobs <N>
              Jobs that run at once [default: number of processors]

          --inherit-env
              Let host jobs see the whole environment of this command

      -k, --keep-going
              After a failure, go on with the jobs that do not need what failed

          --base <REV>
              Revision that changed files are counted from [default: where the branch left upstream's]

      -h, --help
              Print help (see a summary with '-h')

    Global options:
      -C <DIR>
              Work as if started in this directory

          --state-root <DIR>
              Directory of all records and caches [default: .jerichoci at the top of the source tree]
    ");
}

#[test]
fn the_help_of_rerun() {
    insta::assert_snapshot!(help(&["rerun", "-h"]), @r"
    Repeat a run: its recorded jobs against its recorded snapshot, byte for byte

    Usage: pikaci rerun [OPTIONS] <RUN>

    Arguments:
      <RUN>  The run to repeat; `pikaci list` shows them

    Options:
          --output <FORM>   What standard output carries [default: human] [possible values: human, json,
                            jsonl]
          --events <WHICH>  Which events `--output jsonl` shows [default: classic] [possible values:
                            classic, all]
      -j, --jobs <N>        Jobs that run at once [default: number of processors]
          --inherit-env     Let host jobs see the whole environment of this command
      -h, --help            Print help (see more with '--help')

    Global options:
      -C <DIR>                Work as if started in this directory
          --state-root <DIR>  Directory of all records and caches [default: .jerichoci at the top of the
                              source tree]
    ");
}

#[test]
fn the_help_of_the_commands_that_read() {
    insta::assert_snapshot!(help(&["list", "--help"]), @r"
    List the runs, newest first

    A line a run, tab separated: run id, status, target (else its first job, else `-`), start. A run
    whose record is damaged is a warning on standard error.

    Usage: pikaci list [OPTIONS]

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Global options:
      -C <DIR>
              Work as if started in this directory

          --state-root <DIR>
              Directory of all records and caches [default: .jerichoci at the top of the source tree]
    ");
    insta::assert_snapshot!(help(&["status", "-h"]), @r"
    Show what is known about a run

    Usage: pikaci status [OPTIONS] <RUN>

    Arguments:
      <RUN>  The run; `pikaci list` shows them

    Options:
          --json  The record of the run as JSON
      -h, --help  Print help

    Global options:
      -C <DIR>                Work as if started in this directory
          --state-root <DIR>  Directory of all records and caches [default: .jerichoci at the top of the
                              source tree]
    ");
    insta::assert_snapshot!(help(&["logs", "--help"]), @r"
    Show the logs of a job

    Each log follows its heading, `== host ==` or `== guest ==`, byte for byte.

    Usage: pikaci logs [OPTIONS] <RUN>

    Arguments:
      <RUN>
              The run; `pikaci list` shows them

    Options:
          --job <JOB>
              The job [default: the first of the run; with --metadata-json all]

          --kind <KIND>
              Which log

              Possible values:
              - host:  What the engine and a host process wrote
              - guest: What was written inside a guest
              - both:  Those that are there

              [default: both]

          --raw
              Leave the headings out

          --metadata-json
              Where the logs are and how long, as JSON, in place of the logs; --kind makes no difference

      -h, --help
              Print help (see a summary with '-h')

    Global options:
      -C <DIR>
              Work as if started in this directory

          --state-root <DIR>
              Directory of all records and caches [default: .jerichoci at the top of the source tree]
    ");
    insta::assert_snapshot!(help(&["prepared-outputs", "-h"]), @r"
    Show the prepared outputs of a run

    Usage: pikaci prepared-outputs [OPTIONS] <RUN>

    Arguments:
      <RUN>  The run; `pikaci list` shows them

    Options:
          --json  The record as JSON
      -h, --help  Print help

    Global options:
      -C <DIR>                Work as if started in this directory
          --state-root <DIR>  Directory of all records and caches [default: .jerichoci at the top of the
                              source tree]
    ");
    insta::assert_snapshot!(help(&["snapshot", "--help"]), @r"
    Write out the source tree that a run saw, and print where it is

    The tree stays as long as the run is kept. Do not change it.

    Usage: pikaci snapshot [OPTIONS] <RUN>

    Arguments:
      <RUN>
              The run; `pikaci list` shows them

    Options:
      -h, --help
              Print help (see a summary with '-h')

    Global options:
      -C <DIR>
              Work as if started in this directory

          --state-root <DIR>
              Directory of all records and caches [default: .jerichoci at the top of the source tree]
    ");
}

#[test]
fn the_help_of_the_commands_that_change_something() {
    insta::assert_snapshot!(help(&["cancel", "--help"]), @r"
    End a run that goes on in another process

    Prints `<run> ended`, `<run> not_running`, or `<run> requested` when it has not ended in the given
    time: then the exit code is 3, unless that time is 0.

    Usage: pikaci cancel [OPTIONS] <RUN>

    Arguments:
      <RUN>
              The run; `pikaci list` shows them

    Options:
          --wait <SECONDS>
              How long to wait for its end

              [default: 30]

      -h, --help
              Print help (see a summary with '-h')

    Global options:
      -C <DIR>
              Work as if started in this directory

          --state-root <DIR>
              Directory of all records and caches [default: .jerichoci at the top of the source tree]
    ");
    insta::assert_snapshot!(help(&["gc", "--help"]), @r"
    Remove old runs, and what only they needed

    Prints `removed_runs=<count>` and a run id a line. A run that goes on is never touched.

    Usage: pikaci gc [OPTIONS]

    Options:
          --keep-runs <N>
              Runs that stay, the newest

              [default: 10]

          --dry-run
              Remove nothing: print what would be, as `would_remove_runs=<count>`

      -h, --help
              Print help (see a summary with '-h')

    Global options:
      -C <DIR>
              Work as if started in this directory

          --state-root <DIR>
              Directory of all records and caches [default: .jerichoci at the top of the source tree]
    ");
}

#[test]
fn the_version_is_one_line() {
    assert_eq!(help(&["--version"]), format!("pikaci {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn no_command_at_all_is_wrong_usage() {
    let said = Sandbox::without_git("").run(&[]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    assert!(said.err.contains("Usage: pikaci"), "{}", said.err);
}
