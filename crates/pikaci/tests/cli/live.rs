//! The live view, as it is seen on a real terminal.

use jericho_testkit::built_program;
use jericho_testkit::need::needs_program;
use jericho_testkit::tmux::Terminal;

use crate::common::{Tree, command};

/// A terminal in a tree; its jobs go on until the FIFO `go` is written to.
struct Rig {
    terminal: Terminal,
    tree: Tree,
}

impl Rig {
    /// Nothing where there is no tmux.
    fn new(test: &str, targets: &str, variables: &[(&str, &str)], columns: u16, rows: u16) -> Option<Self> {
        if !needs_program(test, "tmux") {
            return None;
        }
        let tree = Tree::with_targets("");
        let go = tree.outside().join("go");
        assert!(command("mkfifo".as_ref()).arg(&go).status().unwrap().success());
        tree.write("jericho.toml", targets.replace("@GO@", go.to_str().unwrap()));
        let program = built_program!("pikaci");
        let mut all = vec![("PIKACI", program.to_str().unwrap())];
        all.extend(variables);
        let terminal = Terminal::start(tree.root(), &all, columns, rows).unwrap();
        Some(Self { terminal, tree })
    }

    /// Starts it; the command line is wiped from the screen first.
    fn run(&self, args: &str) {
        self.terminal.type_line(&format!("clear; $PIKACI run {args}; echo \"code $?\"")).unwrap();
    }

    fn wait_for(&self, what: &str, seen: impl Fn(&str) -> bool) -> String {
        self.terminal.wait_for(what, seen).unwrap()
    }

    /// Lets a job that waits go on.
    fn go(&self) {
        std::fs::write(self.tree.outside().join("go"), "go\n").unwrap();
    }

    /// Everything since the command line, with what changes from run to run in place of itself.
    fn all(&self) -> String {
        let history = self.terminal.history().unwrap();
        let start = history.rfind("clear; ").and_then(|at| Some(at + history[at..].find('\n')? + 1));
        let text = &history[start.unwrap_or(0)..];
        // The next prompt stands after the exit code.
        let end = text.find("\ncode ").map_or(text.len(), |at| at + "\ncode 0".len());
        crate::common::steady(&text[..end], &self.tree)
    }
}

const WAIT: &str = "read line < @GO@";

fn three_jobs() -> String {
    format!(
        r#"
[targets.mixed.jobs.good]
command = "echo preparing; printf '\\033[31mworking on it\\033]0;title\\007\\n'; {WAIT}"
[targets.mixed.jobs.bad]
command = "for n in 1 2 3; do echo line $n; done; exit 3"
[targets.mixed.jobs.short]
command = "true"
"#
    )
}

#[test]
fn jobs_that_run_have_a_line_each_and_a_failure_is_told_at_once_above_them() {
    const NAME: &str = "jobs_that_run_have_a_line_each_and_a_failure_is_told_at_once_above_them";
    let Some(rig) = Rig::new(NAME, &three_jobs(), &[("NO_COLOR", "1")], 100, 24) else { return };
    rig.run("mixed -j 3 --keep-going");
    let screen = rig.wait_for("the job that goes on", |screen| {
        screen.contains("running good") && screen.contains("2 of 3 jobs done") && screen.contains("working")
    });
    // What the job prints cannot steer the terminal.
    assert!(screen.contains("working on it\\u{1b}]0;title\\u{7}"), "{screen}");
    let failure = screen.find("bad: failed: the command exited with code 3").unwrap();
    let live = screen.find("running good").unwrap();
    assert!(
        failure < screen.find("  | line 3").unwrap() && screen.find("  | line 3").unwrap() < live,
        "{screen}"
    );
    assert!(screen.contains("1 running, 2 of 3 jobs done, 1 failed, "), "{screen}");
    // Elapsed time goes on by itself.
    rig.wait_for("a second", |screen| screen.contains("running good    1 s  working"));
    rig.go();
    rig.wait_for("the end", |screen| screen.contains("code 1"));
    let all = rig.all();
    assert!(!all.contains("running"), "the live view stayed: {all}");
    let mut lines: Vec<&str> = all.lines().collect();
    // Two jobs end in any order.
    lines.retain(|line| *line != "RUN short passed");
    insta::assert_snapshot!(lines.join("\n"), @r"
    run RUN: mixed
    RUN bad failed
    bad: failed: the command exited with code 3 (TIME)
      | line 1
      | line 2
      | line 3
      all of it: pikaci logs RUN --job bad
    RUN good passed
    mixed failed: 1 failed, 2 passed in TIME
      bad failed: pikaci logs RUN --job bad
      repeat it: pikaci rerun RUN --failed
    code 1
    ");
}

#[test]
fn two_hundred_jobs_at_once_are_a_bounded_number_of_lines() {
    const NAME: &str = "two_hundred_jobs_at_once_are_a_bounded_number_of_lines";
    let many: String = (0..200)
        .map(|n| {
            format!("[targets.many.jobs.job-{n:03}]\ncommand = \"echo hello from {n}; exec sleep 600\"\n")
        })
        .collect();
    let Some(rig) = Rig::new(NAME, &many, &[("NO_COLOR", "1")], 80, 24) else { return };
    rig.run("many -j 200");
    let screen = rig.wait_for("all of them", |screen| screen.contains("200 running, 0 of 200 jobs done"));
    assert!(screen.contains("and 190 more\n200 running"), "{screen}");
    assert!(screen.lines().filter(|line| line.starts_with("running job-")).count() == 10, "{screen}");
    rig.wait_for("their output", |screen| screen.contains("s  hello from 7\n"));
    // Steady: one frame, in place.
    let last = |screen: &str| screen.trim_end().lines().last().unwrap_or_default().to_owned();
    let before = last(&rig.terminal.screen().unwrap());
    rig.wait_for("time", |screen| last(screen) != before && last(screen).starts_with("200 running"));
    let history = rig.terminal.history().unwrap();
    assert_eq!(history.matches("200 running").count(), 1, "{history}");
    rig.terminal.press("C-c").unwrap();
    let end = rig.wait_for("the end", |screen| screen.contains("code 4"));
    assert!(end.contains("many cancelled: "), "{end}");
    let all = rig.all();
    assert!(all.contains("\nending the run; once more ends it at once\n"), "{all}");
    assert_eq!(all.matches(" failed\n").count(), 200, "a line for each job: {all}");
    assert!(!all.contains("running") && !all.contains("more\n"), "the live view stayed: {all}");
}

#[test]
fn a_narrow_terminal_has_the_names_and_the_times() {
    const NAME: &str = "a_narrow_terminal_has_the_names_and_the_times";
    let Some(rig) = Rig::new(NAME, &three_jobs(), &[("NO_COLOR", "1")], 20, 24) else { return };
    rig.run("mixed -j 3 --keep-going");
    let screen = rig.wait_for("the job that goes on", |screen| {
        screen.contains("\ngood 0 s\n1 running, 2 of 3 j…\n")
            || screen.contains("\ngood 1 s\n1 running, 2 of 3 j…\n")
    });
    assert_eq!(screen.matches("1 running").count(), 1, "{screen}");
    rig.go();
    rig.wait_for("the end", |screen| screen.contains("code 1"));
    assert!(!rig.all().contains("running"), "{}", rig.all());
}

#[test]
fn another_size_of_the_terminal_leaves_nothing_behind_and_takes_nothing_away() {
    const NAME: &str = "another_size_of_the_terminal_leaves_nothing_behind_and_takes_nothing_away";
    let Some(rig) = Rig::new(NAME, &three_jobs(), &[("NO_COLOR", "1")], 100, 24) else { return };
    rig.run("mixed -j 3 --keep-going");
    rig.wait_for("the job that goes on", |screen| screen.contains("2 of 3 jobs done"));
    for (columns, rows) in [(50, 24), (21, 24), (90, 12), (60, 30), (120, 24), (30, 10), (100, 24)] {
        rig.terminal.resize(columns, rows).unwrap();
        let width = usize::from(columns);
        rig.wait_for("the view at this width", |screen| {
            let last = screen.lines().rev().find(|line| !line.is_empty()).unwrap_or_default();
            last.starts_with("1 running") && last.chars().count() <= width
        });
    }
    let history = rig.terminal.history().unwrap();
    assert_eq!(history.matches("1 running").count(), 1, "{history}");
    assert_eq!(history.matches("working on it").count(), 1, "{history}");
    for line in ["  | line 1\n", "  | line 2\n", "  | line 3\n", "  all of it: "] {
        assert_eq!(history.matches(line).count(), 1, "{line:?}: {history}");
    }
    rig.go();
    rig.wait_for("the end", |screen| screen.contains("code 1"));
}

#[test]
fn words_have_colours_unless_somebody_minds() {
    const NAME: &str = "words_have_colours_unless_somebody_minds";
    let red = "\x1b[1m\x1b[31mfailed";
    let one = "[targets.one.jobs.bad]\ncommand = \"exit 3\"\n";
    for (variables, flag, colored) in [
        (&[][..], "", true),
        (&[("NO_COLOR", "1")], "", false),
        (&[("CLICOLOR", "0")], "", false),
        (&[("NO_COLOR", "1")], "--color always", true),
        (&[], "--color never", false),
    ] {
        let Some(rig) = Rig::new(NAME, one, variables, 100, 24) else { return };
        rig.run(&format!("one {flag}"));
        rig.wait_for("the end", |screen| screen.contains("code 1"));
        let screen = rig.terminal.colored().unwrap();
        assert_eq!(screen.contains(red), colored, "{variables:?} {flag}: {screen:?}");
        assert!(colored || !screen.contains("\x1b[3"), "{screen:?}");
    }
}

#[test]
fn a_terminal_that_is_too_simple_has_plain_lines() {
    const NAME: &str = "a_terminal_that_is_too_simple_has_plain_lines";
    let one = "[targets.one.jobs.good]\ncommand = \"true\"\n";
    let Some(rig) = Rig::new(NAME, one, &[], 100, 24) else { return };
    rig.terminal.type_line("clear; TERM=dumb $PIKACI run one; echo \"code $?\"").unwrap();
    rig.wait_for("the end", |screen| screen.contains("code 0"));
    insta::assert_snapshot!(rig.all(), @r"
    AT run RUN: one
    AT good: started
    RUN good passed
    AT good: passed (TIME)
    AT one passed: 1 passed in TIME
    code 0
    ");
}

#[test]
fn a_watch_shows_one_run_after_the_other() {
    const NAME: &str = "a_watch_shows_one_run_after_the_other";
    let targets = "[targets.long.jobs.job]\ncommand = \"cat seen; exec sleep 600\"\n";
    let Some(rig) = Rig::new(NAME, targets, &[("NO_COLOR", "1")], 100, 24) else { return };
    rig.tree.write("seen", "first\n");
    rig.run("long --watch");
    rig.wait_for("the first run", |screen| screen.contains("running job    0 s  first"));
    rig.tree.write("seen", "second\n");
    let screen = rig.wait_for("the second run", |screen| screen.contains("running job    0 s  second"));
    assert!(
        screen.contains("long cancelled: 1 cancelled in") && screen.contains("\nchanged: seen\n"),
        "{screen}"
    );
    assert!(!screen.contains("first\n"), "{screen}");
    rig.terminal.press("C-c").unwrap();
    rig.wait_for("the end", |screen| screen.contains("code 4"));
}
