//! `pikaci shell`: in the guest of a job, in a fresh one, and at a real terminal.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use jericho_testkit::incus::Rig;
use jericho_testkit::tmux::Terminal;
use jericho_testkit::{built_program, need, ssh};
use rustix::process::{Pid, Signal};

use crate::place::Place;

const TARGETS: &str = "
[targets.t.jobs.bad]
runtime = \"incus\"
env = { COLOUR = \"green\" }
command = \"echo left > /tmp/left; exit 3\"
";

/// What a command printed at a terminal, without the carriage returns of one.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.trim_end_matches('\r')).collect()
}

#[test]
fn a_command_runs_where_the_job_ran_and_its_exit_code_comes_back() {
    let name = "a_command_runs_where_the_job_ran_and_its_exit_code_comes_back";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, TARGETS) else { return };
    let look = ["--", "sh", "-c", "id -u; pwd; ls jericho.toml; echo $COLOUR; cat /tmp/left; exit 7"];
    for host in ["box", "local"] {
        place.pikaci(&["run", "t", "--on", host, "--keep-on-failure"]).code(1);
        let kept = place.project.instances().unwrap();
        assert_eq!(kept.len(), 1, "{kept:?}");
        let ended = place.pikaci(&[&["shell", "latest"][..], &look].concat()).code(7);
        let told = ["1000", "/workspace/snapshot", "jericho.toml", "green", "left"];
        assert_eq!(lines(&ended.stdout), told, "{ended:#?}");
        assert!(ended.stderr.contains(&kept[0]), "{ended:?}");
        // A fresh one is another, has the same, and goes.
        let ended = place.pikaci(&[&["shell", "latest", "bad", "--fresh"][..], &look].concat()).code(7);
        let fresh = lines(&ended.stdout);
        assert_eq!(fresh[..4], told[..4], "{ended:#?}");
        assert!(fresh[4].contains("No such file"), "{ended:#?}");
        assert_eq!(place.project.instances().unwrap(), kept);
        // So it is made when that of the job is gone.
        rig.ask(
            "PUT",
            &format!("/1.0/instances/{}/state?project={}", kept[0], place.project.name()),
            Some(&serde_json::json!({ "action": "stop", "force": true, "timeout": 20 })),
        )
        .unwrap();
        let instance = format!("/1.0/instances/{}?project={}", kept[0], place.project.name());
        rig.ask("DELETE", &instance, None).unwrap();
        let ended = place.pikaci(&[&["shell", "latest"][..], &look].concat()).code(7);
        assert_eq!(lines(&ended.stdout)[..4], told[..4], "{ended:#?}");
        assert_eq!(place.project.instances().unwrap(), Vec::<String>::new());
    }
    assert_eq!(std::fs::read_dir(place.state_root().join("shells")).unwrap().count(), 0);
}

#[test]
fn a_fresh_guest_of_a_shell_is_nobody_elses_to_end_from_its_first_moment() {
    let name = "a_fresh_guest_of_a_shell_is_nobody_elses_to_end_from_its_first_moment";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, TARGETS) else { return };
    place.pikaci(&["run", "t", "--on", "local"]).code(1);
    assert_eq!(place.project.instances().unwrap(), Vec::<String>::new());
    std::thread::scope(|scope| {
        let shell =
            scope.spawn(|| place.pikaci(&["shell", "latest", "bad", "--fresh", "--", "sh", "-c", "exit 7"]));
        let made = loop {
            assert!(!shell.is_finished(), "no guest was made");
            if let Some(made) = place.project.instances().unwrap().pop() {
                break made;
            }
        };
        let path = format!("/1.0/instances/{made}?project={}", place.project.name());
        let found = rig.ask("GET", &path, None).unwrap();
        assert!(found["config"]["user.jerichoci.keep_until"].is_string(), "{found}");
        place.pikaci(&["reap", "--host", "local"]).code(0);
        shell.join().unwrap().code(7);
    });
    assert_eq!(place.project.instances().unwrap(), Vec::<String>::new());
}

#[test]
fn a_host_process_has_a_shell_in_a_private_copy_of_what_it_saw() {
    let tree = crate::common::Tree::with_targets(
        "[targets.t.jobs.a]\ncommand = \"true\"\nenv = { COLOUR = \"green\" }\n",
    );
    tree.write("seen", "by the job");
    tree.run(&["run", "t"]).code(0);
    tree.write("seen", "later");
    let look = "cat seen; echo; echo $COLOUR; echo mine > seen; echo $SECRET; exit 7";
    let mut pikaci = tree.pikaci(&["shell", "latest", "--", "sh", "-c", look]);
    let ended = crate::common::Ended::of(pikaci.env("SECRET", "hunter22").output().unwrap()).code(7);
    assert_eq!(ended.stdout, "by the job\ngreen\n\n");
    assert_eq!(std::fs::read_to_string(tree.root().join("seen")).unwrap(), "later");
    // The next one finds nothing of it.
    let ended = tree.run(&["shell", "latest", "--", "cat", "seen"]).code(0);
    assert_eq!(ended.stdout, "by the job");
    assert_eq!(std::fs::read_dir(tree.state_root().join("shells")).unwrap().count(), 0);
    let ended = tree.run(&["shell", "latest", "--", "/no/such"]).code(3);
    assert!(ended.stderr.contains("/no/such: not found"), "{ended:?}");
}

const ON_A_HOST: &str = "
[targets.t.jobs.a]
on = \"box\"
env = { COLOUR = \"deep green\" }
command = \"true\"
";

/// A place whose host takes processes, with a run there that saw something else than what there is now.
fn place_with_a_run<'r>(name: &str, rig: &'r Rig, sshd: &'r ssh::Rig) -> Option<Place<'r>> {
    let place = Place::real(name, rig, sshd, ON_A_HOST)?;
    let file = place.tree.outside().join("config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let allow = "[hosts.box]\nallow = [\"host_process\"]\n";
    std::fs::write(&file, text.replacen("[hosts.box]\n", allow, 1)).unwrap();
    place.tree.write("seen", "by the job");
    place.pikaci(&["run", "t"]).code(0);
    place.tree.write("seen", "later");
    Some(place)
}

#[test]
fn a_process_of_a_host_has_a_shell_there_in_a_private_copy_of_what_it_saw() {
    let name = "a_process_of_a_host_has_a_shell_there_in_a_private_copy_of_what_it_saw";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = place_with_a_run(name, &rig, &sshd) else { return };
    let look = "cat seen; echo; echo $COLOUR; ls; pwd; echo mine > seen; echo $SECRET; exit 7";
    let mut pikaci = place.command(&["shell", "latest", "--", "sh", "-c", look]);
    let ended = crate::common::Ended::of(pikaci.env("SECRET", "hunter22").output().unwrap()).code(7);
    let shells = place.work_dir().join("shells");
    let told = ended.stdout.replace(shells.to_str().unwrap(), "SHELLS");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[..4], ["by the job", "deep green", "jericho.toml", "seen"], "{ended:#?}");
    assert!(lines[4].starts_with("SHELLS/") && lines[4].ends_with("/workspace"), "{ended:#?}");
    assert_eq!(lines[5..], [""], "{ended:#?}");
    // Nothing of it is left, and the next one finds nothing of it.
    assert_eq!(std::fs::read_dir(&shells).unwrap().count(), 0);
    let ended = place.pikaci(&["shell", "latest", "--", "cat", "seen"]).code(0);
    assert_eq!(ended.stdout, "by the job");
    place.pikaci(&["shell", "latest", "--", "/no/such"]).code(127);
}

/// Looks until it is so, for at most a minute.
#[expect(clippy::disallowed_methods, reason = "what is waited for gives no sign")]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{what}");
}

/// A shell in the latest run that runs a script, and the two processes that the script names.
fn opened(place: &Place<'_>, script: &str) -> (Child, Vec<u32>) {
    let mut pikaci = place.command(&["shell", "latest", "--", "sh", "-c", script]);
    pikaci.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut pikaci = pikaci.spawn().unwrap();
    let mut told = String::new();
    BufReader::new(pikaci.stdout.take().unwrap()).read_line(&mut told).unwrap();
    let pids: Vec<u32> = told.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "{told}");
    (pikaci, pids)
}

#[test]
fn a_shell_on_a_host_ends_with_who_asked_for_it_and_leaves_nothing_there() {
    let name = "a_shell_on_a_host_ends_with_who_asked_for_it_and_leaves_nothing_there";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = place_with_a_run(name, &rig, &sshd) else { return };
    let shells = place.work_dir().join("shells");
    // The second one leaves the session of its shell.
    let script = "setsid sleep 1000 >/dev/null 2>&1 & echo $$ $!; exec sleep 1000";
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let (mut pikaci, pids) = opened(&place, script);
        assert_eq!(std::fs::read_dir(&shells).unwrap().count(), 1);
        let pid = Pid::from_raw(pikaci.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        wait_until("pikaci does not end", || pikaci.try_wait().unwrap().is_some());
        if signal != Signal::KILL {
            assert_eq!(pikaci.wait().unwrap().code(), Some(4), "{signal:?}");
        }
        for pid in pids {
            let comm = format!("/proc/{pid}/comm");
            wait_until("a process of the shell goes on", || {
                !std::fs::read_to_string(&comm).is_ok_and(|comm| comm == "sleep\n")
            });
        }
        wait_until("its directory stays", || std::fs::read_dir(&shells).unwrap().count() == 0);
    }
}

#[test]
fn what_a_shell_has_left_on_a_host_that_went_down_goes_with_the_next_reaping_there() {
    let name = "what_a_shell_has_left_on_a_host_that_went_down_goes_with_the_next_reaping_there";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = place_with_a_run(name, &rig, &sshd) else { return };
    let shells = place.work_dir().join("shells");
    let open = || {
        let script = "echo up; exec sleep 1000";
        let mut pikaci = place.command(&["shell", "latest", "--", "sh", "-c", script]);
        pikaci.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut pikaci = pikaci.spawn().unwrap();
        BufReader::new(pikaci.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        pikaci
    };
    // All that there is of it at once, as when the power fails.
    let mut killed = open();
    let everything = sshd.everything();
    for signal in [Signal::STOP, Signal::KILL] {
        for pid in &everything {
            let _ = rustix::process::kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
        }
    }
    killed.wait().unwrap();
    let left: Vec<_> = std::fs::read_dir(&shells).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    // Another boot of the machine had the same numbers for other processes.
    let boot = shells.join("another-boot");
    std::fs::create_dir(&boot).unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let start = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().to_owned();
    std::fs::write(boot.join("leash"), format!("{} of-another-boot {start}\n", std::process::id())).unwrap();
    // One that is just being made, and one that is open.
    let fresh = shells.join("just-made");
    std::fs::create_dir(&fresh).unwrap();
    let mut live = open();
    place.pikaci(&["reap", "--dry-run"]).code(0);
    assert!(left[0].exists() && boot.exists(), "who only looks removes nothing");
    place.pikaci(&["reap"]).code(0);
    assert!(!left[0].exists() && !boot.exists(), "{left:?}");
    assert!(fresh.exists());
    assert!(live.try_wait().unwrap().is_none());
    assert_eq!(std::fs::read_dir(&shells).unwrap().count(), 2);
    rustix::process::kill_process(Pid::from_raw(live.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(live.wait().unwrap().code(), Some(4));
}

const HERE: &str = "
[targets.guest.jobs.a]
runtime = \"incus\"
command = \"true\"
[targets.process.jobs.a]
command = \"true\"
";

/// When a process has started, in the kernel's own count; nothing for one that has ended, also when nobody has waited
/// for it.
fn start_of(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let words: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    (!["Z", "X"].contains(&words[0])).then(|| words[19].to_owned())
}

#[test]
fn a_shell_of_this_machine_ends_with_who_asked_for_it_and_leaves_nothing() {
    let name = "a_shell_of_this_machine_ends_with_who_asked_for_it_and_leaves_nothing";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, HERE) else { return };
    let shells = place.state_root().join("shells");
    // The second one leaves the session of its shell, and the shell does not hear a first word.
    let script = "trap '' TERM; setsid sleep 1000 >/dev/null 2>&1 & echo $$ $!; while :; do sleep 1000; done";
    for target in ["process", "guest"] {
        place.pikaci(&["run", target]).code(0);
        for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::KILL] {
            let (mut pikaci, pids) = opened(&place, script);
            let begun: Vec<_> = pids.iter().map(|pid| start_of(*pid)).collect();
            assert_eq!(std::fs::read_dir(&shells).unwrap().count(), 1);
            let pid = Pid::from_raw(pikaci.id().cast_signed()).unwrap();
            rustix::process::kill_process(pid, signal).unwrap();
            wait_until("pikaci does not end", || pikaci.try_wait().unwrap().is_some());
            if signal == Signal::KILL {
                // Nobody was left to do it.
                place.pikaci(&["reap"]).code(0);
            } else {
                assert_eq!(pikaci.wait().unwrap().code(), Some(4), "{target} {signal:?}");
            }
            // Those of a guest have numbers of their own.
            for (pid, begun) in pids.iter().zip(&begun).filter(|_| target == "process") {
                assert!(begun.is_some(), "{pids:?}");
                // Its number may be another's by now.
                assert_ne!(start_of(*pid), *begun, "{target} {signal:?}: {pid} runs");
            }
            assert_eq!(std::fs::read_dir(&shells).unwrap().count(), 0, "{target} {signal:?}");
            assert_eq!(place.project.instances().unwrap(), Vec::<String>::new(), "{target} {signal:?}");
        }
    }
}

#[test]
fn ctrl_c_at_a_shell_of_this_machine_is_for_what_runs_in_it() {
    let name = "ctrl_c_at_a_shell_of_this_machine_is_for_what_runs_in_it";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, HERE) else { return };
    if !need::needs_program(name, "tmux") {
        return;
    }
    place.pikaci(&["run", "process"]).code(0);
    let terminal = terminal(&place);
    // It shares the group of pikaci, so that the terminal sends the key to both. Each key ends a reading, and so does a
    // terminal that is gone: then it is not to read for ever.
    let script = "trap \"echo heard\" INT; echo begun; for turn in 1 2 3 4 5 6 7 8; do if read -r line; then exit 9; fi; done; exit 8";
    terminal.type_line(&format!("$PIKACI shell latest -- sh -c '{script}'; echo \"code $?\"")).unwrap();
    terminal.wait_for("a shell", |screen| screen.contains("\nbegun")).unwrap();
    for times in 1..=3 {
        terminal.press("C-c").unwrap();
        let heard = |screen: &str| screen.matches("\n^Cheard").count() + screen.matches("\nheard").count();
        terminal.wait_for("the key", |screen| heard(screen) == times).unwrap();
    }
    terminal.type_line("that is all").unwrap();
    let screen = terminal.wait_for("the end", |screen| screen.contains("\ncode ")).unwrap();
    assert!(screen.contains("\ncode 9") && !screen.contains("ending the run"), "{screen}");
}

#[test]
fn a_shell_on_a_host_has_the_size_of_the_terminal_and_its_keys() {
    let name = "a_shell_on_a_host_has_the_size_of_the_terminal_and_its_keys";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = place_with_a_run(name, &rig, &sshd) else { return };
    if !need::needs_program(name, "tmux") {
        return;
    }
    let terminal = terminal(&place);
    terminal.type_line("stty -g | md5sum > ../before; $PIKACI shell latest; echo \"code $?\"").unwrap();
    terminal.wait_for("a shell", |screen| screen.contains("goes with the shell")).unwrap();
    terminal.type_line("cat seen; stty size").unwrap();
    terminal.wait_for("its size", |screen| screen.contains("30 100")).unwrap();
    terminal.resize(90, 20).unwrap();
    terminal.type_line("sleep 1000").unwrap();
    terminal.wait_for("the command", |screen| screen.contains("sleep 1000")).unwrap();
    terminal.press("C-c").unwrap();
    terminal.type_line("stty size; exit 9").unwrap();
    let screen = terminal.wait_for("the end", |screen| screen.contains("code 9")).unwrap();
    assert!(screen.contains("20 90") && screen.contains("by the job"), "{screen}");
    terminal.type_line("stty -g | md5sum | cmp - ../before && echo the terminal is 'as before'").unwrap();
    terminal.wait_for("the terminal", |screen| screen.contains("the terminal is as before")).unwrap();
    assert_eq!(std::fs::read_dir(place.work_dir().join("shells")).unwrap().count(), 0);
}

#[test]
fn what_has_no_shell_is_told() {
    let name = "what_has_no_shell_is_told";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let place = Place::new(
        &rig,
        &sshd,
        "[targets.t.jobs.a]\ncommand = \"true\"\n[targets.two.jobs.a]\ncommand = \"true\"\n[targets.two.jobs.b]\ncommand = \"true\"\n",
    );
    let told = |args: &[&str], code| {
        let ended = place.pikaci(args).code(code);
        let told = crate::common::steady(&ended.stderr, &place.tree);
        told.replace(place.state_root().to_str().unwrap(), "STATE")
    };
    insta::assert_snapshot!(told(&["shell", "latest"], 5), @r"
    error: there is no run in STATE
      hint: pikaci run
    ");
    place.pikaci(&["run", "two"]).code(0);
    insta::assert_snapshot!(told(&["shell", "latest", "--", "true"], 2), @r"
    error: run RUN has several jobs, so one has to be named; it has: a, b
      hint: pikaci shell RUN JOB
    ");
    insta::assert_snapshot!(told(&["shell", "latest", "c", "--", "true"], 5), @r"
    error: run RUN has no job `c`; it has: a, b
      hint: pikaci status RUN
    ");
    insta::assert_snapshot!(told(&["shell", "latest", "a"], 2), @r"
    error: standard input is no terminal, so nobody can type at a shell
      hint: pikaci shell RUN JOB -- COMMAND...
    ");
    insta::assert_snapshot!(told(&["run", "two", "--shell-on-failure"], 2), @r"
    error: standard input is no terminal, so nobody can type at a shell
      hint: pikaci run --keep-on-failure; then pikaci shell RUN JOB -- COMMAND...
    ");
}

#[test]
fn a_shell_opens_after_a_failure_and_the_terminal_is_as_before() {
    let name = "a_shell_opens_after_a_failure_and_the_terminal_is_as_before";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, TARGETS) else { return };
    if !need::needs_program(name, "tmux") {
        return;
    }
    let terminal = terminal(&place);
    let run = "stty -g | md5sum > ../before; $PIKACI run t --on box --shell-on-failure; echo \"code $?\"";
    terminal.type_line(run).unwrap();
    terminal.wait_for("a shell", |screen| screen.contains("a shell where bad failed")).unwrap();
    // The job left something, and keys arrive as they are typed: Ctrl-C ends the command there, not the shell.
    terminal.type_line("cat /tmp/left; stty size").unwrap();
    terminal.wait_for("its size", |screen| screen.contains("\nleft") && screen.contains("30 100")).unwrap();
    terminal.resize(90, 20).unwrap();
    terminal.type_line("sleep 1000").unwrap();
    terminal.wait_for("the command", |screen| screen.contains("sleep 1000")).unwrap();
    terminal.press("C-c").unwrap();
    terminal.type_line("stty size; exit 9").unwrap();
    let screen = terminal.wait_for("the end", |screen| screen.contains("code 1")).unwrap();
    assert!(screen.contains("20 90") && screen.contains("the shell ended with 9"), "{screen}");
    terminal.type_line("stty -g | md5sum | cmp - ../before && echo the terminal is 'as before'").unwrap();
    terminal.wait_for("the terminal", |screen| screen.contains("the terminal is as before")).unwrap();
}

/// A terminal of 100 by 30 in which `$PIKACI` is the program with the settings of the place.
fn terminal(place: &Place<'_>) -> Terminal {
    let program = built_program!("pikaci");
    let command = place.command(&[]);
    let variables: Vec<(String, String)> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned())))
        .filter(|(name, _)| name.starts_with("JERICHOCI_"))
        .chain([("PIKACI".to_owned(), program.to_str().unwrap().to_owned())])
        .collect();
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Terminal::start(place.tree.root(), &variables, 100, 30).unwrap()
}
