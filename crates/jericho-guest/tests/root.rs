//! What needs root: another user, a guest's own paths, a disk of its own, a root without anything.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{Outcome, Rig};
use jericho_testkit::built_program;
use jericho_testkit::need::{needs, needs_root};
use pika_cloud::LifecycleState::{Booted, Completed, Failed, Ready, Starting};
use pika_cloud::{RuntimeTerminalResult, read_events};
use serde_json::json;

#[test]
fn a_command_runs_as_the_user_of_the_request_with_a_home_and_a_name() {
    if !needs_root("a_command_runs_as_the_user_of_the_request_with_a_home_and_a_name") {
        return;
    }
    let rig = Rig::new();
    let file = rig.write_environment(&json!({
        "schema_version": 1, "variables": { "KEY": "correct horse" }, "secret_files": ["KEY"],
    }));
    let mut request = rig.request(
        "id -u; id -g; id -G; echo $USER $HOME; cat $KEY_FILE; echo; \
         grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status; echo x > $ARTIFACTS/x; cat ../state/.runner.lock && : > ../state/result.json",
    );
    for (key, value) in [("uid", json!(54321)), ("gid", json!(54322)), ("env_file", json!(file))] {
        request[key] = value;
    }
    // The secret lies beside the environment file, where the user must be able to go.
    assert_eq!(rig.run(&request).code, Some(1), "the lifecycle files are not the command's to write");
    let log = rig.log_text();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..5], ["54321", "54322", "54322", "54321 /", "***"], "{log}");
    for line in &lines[5..8] {
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    assert!(Path::new(&rig.paths.artifacts_dir).join("x").exists());
    assert_eq!(rig.result().exit_code, Some(1));
}

#[test]
fn a_directory_that_the_user_may_not_enter_is_no_failure_of_the_command() {
    if !needs_root("a_directory_that_the_user_may_not_enter_is_no_failure_of_the_command") {
        return;
    }
    let rig = Rig::new();
    fs::set_permissions(rig.work(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut request = rig.request("true");
    request["uid"] = json!(54321);
    assert_eq!(rig.run(&request).code, Some(2));
    let message = rig.result().message;
    assert!(message.contains("cannot enter the working directory"), "{message}");
    assert_eq!(rig.kinds(), [Booted, Starting, Failed], "it never was ready");
}

#[test]
fn without_the_right_to_make_namespaces_nothing_escapes_either() {
    let name = "without_the_right_to_make_namespaces_nothing_escapes_either";
    if !needs_root(name) {
        return;
    }
    let rig = Rig::new();
    let seconds = common::odd_seconds();
    let script = format!(
        "id -u; s=$(command -v sleep); (setsid env -i $s {seconds} </dev/null >/dev/null 2>&1 & \
         until grep -q {seconds} /proc/$!/cmdline; do :; done); exit 3"
    );
    let mut request = rig.request(&script);
    request["uid"] = json!(54321);
    let mut command = common::command("setpriv");
    command.args(["--bounding-set=-sys_admin", "--"]).arg(built_program!("jerichoci-incus-run"));
    let outcome = common::outcome(command.arg(rig.write_request(&request)));
    assert_eq!((outcome.code, rig.log_text().as_str()), (Some(3), "54321\n"), "{}", outcome.stderr);
    assert_eq!(common::running(&seconds), [""; 0]);
    assert!(rig.detail("leaked").to_string().contains(&seconds));
}

/// Runs a script with the runner as `$1` in a mount namespace of its own, in which `$2` is the rig.
fn in_own_mounts(rig: &Rig, runner: &Path, script: &str) -> Outcome {
    let script = format!("set -e; mount --make-rprivate /; {script}");
    let mut command = common::command("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(runner).arg(rig.dir.path());
    common::outcome(&mut command)
}

/// A root directory with the programs of this machine and nothing else of it.
const OWN_ROOT: &str = "cd $2; for d in usr etc dev proc; do mount --rbind /$d root/$d; done; \
     cp $1 root/runner; ";

fn make_root(rig: &Rig) {
    let root = rig.path("root");
    for dir in ["usr", "etc", "dev", "proc", "run", "var/lib", "workspace/snapshot", "tmp"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        match fs::read_link(Path::new("/").join(name)) {
            Ok(target) => symlink(target, root.join(name)).unwrap(),
            Err(_) => symlink(format!("usr/{name}"), root.join(name)).unwrap(),
        }
    }
}

#[test]
fn a_guest_keeps_its_files_where_the_contract_says_and_runs_as_its_user() {
    let name = "a_guest_keeps_its_files_where_the_contract_says_and_runs_as_its_user";
    if !needs_root(name) || !needs(name, "needs a merged /usr", Path::new("/bin").is_symlink()) {
        return;
    }
    for (version, kinds) in
        [(2, vec![Booted, Starting, Completed]), (3, vec![Booted, Starting, Ready, Completed])]
    {
        let rig = Rig::new();
        make_root(&rig);
        fs::write(rig.path("root/workspace/snapshot/source"), "from the snapshot\n").unwrap();
        let request = json!({
            "schema_version": version, "timeout_secs": 60, "run_as_root": false,
            "command": "id -u; cat source; touch ~/mine; echo $ARTIFACTS; touch $ARTIFACTS/a",
        });
        fs::write(rig.path("root/tmp/request.json"), request.to_string()).unwrap();
        let outcome = in_own_mounts(
            &rig,
            &built_program!("jerichoci-incus-run"),
            &format!("{OWN_ROOT} chroot root /runner /tmp/request.json"),
        );
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        let text = String::from_utf8(outcome.stdout).unwrap();
        assert_eq!(text, "1000\nfrom the snapshot\n/run/pika-cloud/artifacts\n");
        let link = fs::read_link(rig.path("root/run/pika-cloud")).unwrap();
        assert_eq!(link, Path::new("/var/lib/pika-cloud"));
        let kept = rig.path("root/var/lib/pika-cloud");
        let events = read_events(&kept.join("events.jsonl")).unwrap();
        assert_eq!(events.problems, []);
        assert_eq!(events.events.iter().map(|event| event.kind).collect::<Vec<_>>(), kinds);
        let details = json!({ "command": request["command"], "run_as_root": false });
        assert_eq!(events.events[1].details, Some(details));
        assert_eq!(events.events.last().unwrap().details, Some(json!({ "exit_code": 0 })));
        let result = RuntimeTerminalResult::load(&kept.join("result.json")).unwrap();
        assert_eq!(result.exit_code, Some(0));
        assert_eq!(fs::read_to_string(kept.join("logs/guest.log")).unwrap(), text);
        assert!(kept.join("artifacts/a").exists());
    }
}

#[test]
fn a_guest_whose_request_is_bad_says_so_at_the_canonical_paths() {
    let name = "a_guest_whose_request_is_bad_says_so_at_the_canonical_paths";
    if !needs_root(name) || !needs(name, "needs a merged /usr", Path::new("/bin").is_symlink()) {
        return;
    }
    for request in
        ["", "{}", r#"{"schema_version":2,"command":"true","timeout_secs":1,"run_as_root":true,"x":1}"#]
    {
        let rig = Rig::new();
        make_root(&rig);
        fs::write(rig.path("root/tmp/request.json"), request).unwrap();
        let outcome = in_own_mounts(
            &rig,
            &built_program!("jerichoci-incus-run"),
            &format!("{OWN_ROOT} chroot root /runner /tmp/request.json"),
        );
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
        let kept = rig.path("root/var/lib/pika-cloud");
        let result = RuntimeTerminalResult::load(&kept.join("result.json")).unwrap();
        assert_eq!(result.exit_code, Some(2));
        let events = read_events(&kept.join("events.jsonl")).unwrap();
        assert_eq!(events.events.iter().map(|event| event.kind).collect::<Vec<_>>(), [Failed]);
    }
}

#[test]
fn a_full_disk_ends_the_job_and_its_end_is_told_all_the_same() {
    if !needs_root("a_full_disk_ends_the_job_and_its_end_is_told_all_the_same") {
        return;
    }
    for (command, code, kind, told) in [
        (
            "cat /dev/zero",
            2,
            "infrastructure",
            "cannot keep the output: No space left on device (os error 28)",
        ),
        ("cat /dev/zero > file 2>/dev/null; exit 4", 4, "test_failure", "test failed with exit code 4"),
        ("cat /dev/zero > $ARTIFACTS/file 2>/dev/null; exit 0", 0, "", "test passed"),
    ] {
        let rig = Rig::new();
        rig.write_request(&rig.request(command));
        let outcome = in_own_mounts(
            &rig,
            &built_program!("jerichoci-incus-run"),
            "cd $2; mkdir kept state; mount -t tmpfs -o size=2m none state; mkdir state/work; \
             mount --bind state/work work; code=0; $1 request.json >/dev/null || code=$?; \
             cp state/result.json state/events.jsonl state/status.json kept/; exit $code",
        );
        assert_eq!(outcome.code, Some(code), "{command}: {}", outcome.stderr);
        let result = RuntimeTerminalResult::load(&rig.path("kept/result.json")).unwrap();
        assert_eq!((result.exit_code, result.message.as_str()), (Some(code), told));
        let details = result.details.unwrap();
        assert_eq!(details.get("failure_kind").map_or("", |kind| kind.as_str().unwrap()), kind);
        let events = read_events(&rig.path("kept/events.jsonl")).unwrap();
        assert_eq!(events.problems, []);
        let last = if code == 0 { Completed } else { Failed };
        // That it runs is news, for which no room is kept.
        let kinds: Vec<_> = events.events.iter().map(|event| event.kind).collect();
        assert_eq!(
            kinds.into_iter().filter(|kind| *kind != Ready).collect::<Vec<_>>(),
            [Booted, Starting, last]
        );
    }
}

#[test]
fn the_static_program_needs_nothing_but_itself() {
    let name = "the_static_program_needs_nothing_but_itself";
    let place = format!("../guest/{}/jerichoci-incus-run", std::env::consts::ARCH);
    let program = built_program!("jerichoci-incus-run").parent().unwrap().join(place);
    if !needs_root(name) || !needs(name, "needs what scripts/build-guest builds", program.exists()) {
        return;
    }
    let size = fs::metadata(&program).unwrap().len();
    assert!(size < 3 << 20, "{size} bytes");
    let rig = Rig::new();
    fs::create_dir_all(rig.path("root/proc")).unwrap();
    fs::create_dir_all(rig.path("root/workspace/snapshot")).unwrap();
    let request = json!({ "schema_version": 2, "command": "true", "timeout_secs": 1, "run_as_root": true });
    fs::write(rig.path("root/request.json"), request.to_string()).unwrap();
    let enter = "cd $2; cp $1 root/runner; mount -t proc none root/proc; chroot root /runner";
    let version = in_own_mounts(&rig, &program, &format!("{enter} --version"));
    let expected = concat!("jerichoci-incus-run ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(
        (version.code, version.stdout.as_slice()),
        (Some(0), expected.as_bytes()),
        "{}",
        version.stderr
    );
    // Without a shell there is nothing to run, and that is told where it should be.
    let run = in_own_mounts(&rig, &program, &format!("{enter} /request.json"));
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    let result = RuntimeTerminalResult::load(&rig.path("root/var/lib/pika-cloud/result.json")).unwrap();
    assert!(result.message.contains("there is neither bash nor sh"), "{}", result.message);
}
