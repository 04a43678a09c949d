//! Guests: jobs in them from the command line, those that are kept, and those that nobody owns.

use jericho_testkit::incus::Rig;
use jericho_testkit::ssh;
use serde_json::{Value, json};

use crate::place::Place;

const TARGETS: &str = "
[targets.t.jobs.good]
runtime = \"incus\"
command = \"test -f jericho.toml && id -u\"
[targets.bad.jobs.bad]
runtime = \"incus\"
command = \"echo left > /tmp/left; exit 3\"
";

#[test]
fn a_target_runs_here_and_on_a_host_and_a_guest_that_failed_is_kept() {
    let name = "a_target_runs_here_and_on_a_host_and_a_guest_that_failed_is_kept";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, TARGETS) else { return };
    let passes = |host: &str| {
        let ended = place.pikaci(&["run", "t", "--on", host]).code(0);
        assert!(ended.stdout.ends_with("good passed\n"), "{ended:#?}");
        let log = place.pikaci(&["logs", "latest", "--kind", "guest"]).code(0).stdout;
        assert!(log.contains("1000"), "{log}");
    };
    passes("box");
    let none = place.pikaci(&["reap"]).code(0);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "nothing was left by anybody\n"));
    assert_eq!(place.pikaci(&["list", "--kept"]).code(0).stdout, "");
    place.pikaci(&["run", "bad", "--on", "box", "--keep-on-failure"]).code(1);
    let kept = place.pikaci(&["list", "--kept"]).code(0).stdout;
    let words: Vec<&str> = kept.trim_end().split('\t').collect();
    assert_eq!(kept.lines().count(), 1, "{kept}");
    assert_eq!((words[1], words[2], words[3]), ("bad", "box", place.project.name()), "{kept}");
    assert_eq!(place.project.instances().unwrap(), [words[4]]);
    // Somebody wants to look at it.
    let reaped = place.pikaci(&["reap"]).code(0);
    assert_eq!(reaped.stdout, "");
    assert!(reaped.stderr.contains("1 guest kept"), "{reaped:?}");
    let json = place.pikaci(&["reap", "--json"]).code(0).json();
    assert_eq!((&json["ended"], &json["dry_run"]), (&json!([]), &json!(false)));
    assert_eq!((&json["kept"][0]["instance"], &json["kept"][0]["host"]), (&json!(words[4]), &json!("box")));
    assert_eq!(place.project.instances().unwrap(), [words[4]]);
    // A collection leaves what they look at.
    let collected = place.pikaci(&["gc", "--keep-runs", "0", "--host", "local"]).code(0);
    assert!(collected.stderr.contains(&format!("{} has a guest that is kept", words[0])), "{collected:?}");
    let look = ["shell", words[0], "bad", "--", "sh", "-c", "ls jericho.toml; cat /tmp/left"];
    let seen = place.pikaci(&look).code(0).stdout.replace('\r', "");
    assert_eq!(seen, "jericho.toml\nleft\n");
    passes("local");
}

/// What the line of an entry of `ended` is.
fn line(entry: &Value) -> String {
    format!("{} {}", entry["kind"].as_str().unwrap(), entry["what"].as_str().unwrap())
}

#[test]
fn what_an_engine_that_died_has_left_on_a_host_is_ended() {
    let name = "what_an_engine_that_died_has_left_on_a_host_is_ended";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let targets =
        "[targets.t.jobs.long]\nruntime = \"incus\"\ncommand = \"while echo up; do sleep 0.1; done\"\n";
    let Some(place) = Place::real(name, &rig, &sshd, targets) else { return };
    let mut engine = place.command(&["run", "t", "--on", "box", "--output", "jsonl", "--events", "all"]);
    let mut engine = engine.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let events = std::io::BufReader::new(engine.stdout.take().unwrap());
    let up = std::io::BufRead::lines(events).any(|line| line.unwrap().contains("log_progress"));
    assert!(up, "it never ran");
    engine.kill().unwrap();
    engine.wait().unwrap();
    let left = place.project.instances().unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    // Looked at only, for people and for programs.
    let looked = place.pikaci(&["reap", "--dry-run"]).code(0).stdout;
    let json = place.pikaci(&["reap", "--dry-run", "--json"]).code(0).json();
    let guest = format!("{} in project {} on box", left[0], place.project.name());
    // Which processes there are changes from moment to moment.
    let steady = |line: &String| !line.starts_with("process ");
    let lines: Vec<String> = json["ended"].as_array().unwrap().iter().map(line).filter(steady).collect();
    assert_eq!(looked.lines().map(str::to_owned).filter(steady).collect::<Vec<_>>(), lines);
    assert!(lines[0].starts_with("run 20") && lines.contains(&format!("instance {guest}")), "{lines:?}");
    assert_eq!((&json["schema_version"], &json["dry_run"]), (&json!(1), &json!(true)));
    assert_eq!((&json["kept"], &json["problems"]), (&json!([]), &json!([])));
    assert_eq!(place.project.instances().unwrap(), left);
    // The guests of others are not looked at.
    let ended = place.pikaci(&["reap", "--host", "local"]);
    let all = format!("{}{}", ended.stdout, place.pikaci(&["reap"]).code(0).stdout);
    assert!(all.contains("run 20") && all.contains(&format!("instance {}", left[0])), "{all}");
    assert_eq!(place.project.instances().unwrap(), Vec::<String>::new());
    // A host that cannot be looked at is told.
    place.say("rig-refused", "");
    let ended = place.pikaci(&["reap"]).code(3);
    assert!(ended.stderr.contains("rig-refused"), "{ended:?}");
    let json = place.pikaci(&["reap", "--json"]).code(3).json();
    assert!(json["problems"][0].as_str().unwrap().contains("rig-refused"), "{json}");
}
