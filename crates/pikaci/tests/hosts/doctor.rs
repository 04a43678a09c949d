//! `pikaci doctor`: what is well, and each problem, made on purpose.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use jericho_testkit::incus::Rig;
use jericho_testkit::{need, ssh};
use serde_json::{Value, json};

use crate::common::{Ended, steady};
use crate::place::Place;

/// What was told, with what differs from machine to machine taken out.
fn told(place: &Place<'_>, text: &str) -> String {
    let text = steady(text, &place.tree)
        .replace(place.project.dir().to_str().unwrap(), "SHARED")
        .replace(place.project.name(), "PROJECT")
        .replace(place.rig.socket().to_str().unwrap(), "SOCKET")
        .replace(place.rig.image_alias(), "IMAGE")
        .replace(std::env::consts::ARCH, "ARCH");
    let mut out = String::new();
    for line in text.lines() {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let measured = [
            "ok disk ",
            "ok nix ",
            "note nix ",
            "mend: https",
            "ok incus ",
            "ok ssh",
            "ok incus_image IMAGE is",
            "note lxcfs_hook",
        ];
        let known = measured.iter().find(|start| line.starts_with(**start));
        let _ = match known {
            Some(start) => writeln!(out, "{start}…"),
            None => writeln!(out, "{line}"),
        };
    }
    out
}

/// The rows of a host that are no `ok`: check, standing, found, mend.
fn wrong(place: &Place<'_>, ended: &Ended) -> String {
    let json = ended.json();
    let checks = json["hosts"][0]["checks"].as_array().unwrap().clone();
    // Nix and the hook are of the machine that the tests run on.
    let rows = checks.iter().filter(|check| {
        check["standing"] != "ok" && check["check"] != "nix" && check["check"] != "lxcfs_hook"
    });
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let rows = rows.map(|row| {
        let [check, standing, found, mend] =
            ["check", "standing", "found", "mend"].map(|key| text(&row[key]));
        format!("{check} {standing}\n{found}\nmend: {mend}\n")
    });
    told(place, &rows.collect::<String>())
}

/// What is wrong with the host, of which something must be.
#[track_caller]
fn problem(place: &Place<'_>) -> String {
    wrong(place, &place.pikaci(&["doctor", "box", "--json"]).code(3))
}

#[test]
fn a_host_that_is_well_is_ok_in_every_line() {
    let name = "a_host_that_is_well_is_ok_in_every_line";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let place = Place::new(&rig, &sshd, "");
    let ended = place.pikaci(&["doctor", "box"]).code(0);
    insta::assert_snapshot!(told(&place, &ended.stdout), @r"
    ok ssh…
    ok ssh…
    ok work_dir SHARED/work belongs to root alone
    ok disk …
    ok clock its clock and this one agree
    ok runner OUTSIDE/programs/ARCH/jerichoci-incus-run is there for ARCH
    ok nix …
    ok incus …
    ok incus_api all of the 7 extensions that are used are there
    ok lxcfs_hook nothing makes guests stop late
    ok incus_project PROJECT is restricted and lets guests see SHARED/work; at most 4 instances
    ok incus_profile default of PROJECT: root disk in the pool jericho
    ok incus_storage the pool jericho is btrfs: guests are made without a copy of their image
    ok incus_image IMAGE is…
    ");
    assert_eq!(ended.stderr, "");
    let json = place.pikaci(&["doctor", "box", "--json"]).code(0).json();
    assert_eq!((&json["schema_version"], &json["ok"]), (&json!(1), &json!(true)));
    assert_eq!(json["hosts"][0]["host"], "box");
    assert_eq!(place.project.instances().unwrap(), Vec::<String>::new(), "a doctor only looks");
    // A host that has no table is what ssh makes of it.
    let ended = place.pikaci(&["doctor", "rig"]);
    insta::assert_snapshot!(told(&place, &ended.stderr), @r"
    rig is not in `OUTSIDE/config.toml`, so it is what ssh makes of it, with the defaults
    ");
    assert!(ended.stdout.contains("connected to rig"), "{ended:?}");
}

#[test]
fn what_keeps_ssh_out_is_told_apart() {
    let name = "what_keeps_ssh_out_is_told_apart";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let place = Place::new(&rig, &sshd, "");
    let mut all = String::new();
    for host in ["rig-wrong-key", "rig-unknown", "rig-changed", "rig-refused", "rig-nowhere"] {
        place.say(host, "");
        all += &problem(&place);
    }
    let mut steady = String::new();
    for line in all.lines() {
        let mut line = line.replace(sshd.config().parent().unwrap().to_str().unwrap(), "SSHD");
        for port in [" port ", "[127.0.0.1]:"] {
            if let Some((before, after)) = line.split_once(port) {
                line = format!("{before}{port}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()));
            }
        }
        steady += &(line + "\n");
    }
    insta::assert_snapshot!(steady, @r#"
    ssh problem
    rig-wrong-key refuses to let this user in: root@127.0.0.1: Permission denied (publickey).
    mend: ssh-copy-id rig-wrong-key
    ssh problem
    the key of rig-unknown is not known: No ED25519 host key is known for [127.0.0.1]: and you have requested strict checking.
    mend: ssh rig-unknown once by hand, compare the key that it shows with the host's, and accept it
    ssh problem
    the key of rig-changed has changed: Offending ED25519 key in SSHD/changed_hosts:1
    mend: ssh-keygen -f "SSHD/changed_hosts" -R "[127.0.0.1]:", when the host has a new key for a reason; then ssh rig-changed
    ssh problem
    cannot connect to rig-refused: ssh: connect to host 127.0.0.1 port : Connection refused
    mend: ssh -v rig-refused true
    ssh problem
    cannot connect to rig-nowhere: ssh: Could not resolve hostname no-such-host.invalid: Name or service not known
    mend: ssh -v rig-nowhere true
    "#);
    // Without the program there is nothing to try, and to install another one does not help.
    let mut pikaci = place.command(&["doctor", "box", "--json"]);
    pikaci.env("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY", "/no/such/ssh");
    insta::assert_snapshot!(wrong(&place, &Ended::of(pikaci.output().unwrap()).code(3)), @r"
    ssh problem
    /no/such/ssh: not found
    mend: unset JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY, or name a program that is there
    ");
}

/// A file system, as large as a run wants it; gone when it is dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn at(dir: &'a Path, flags: rustix::mount::MountFlags, options: &std::ffi::CStr) -> Self {
        rustix::mount::mount("tmpfs", dir, "tmpfs", flags, options).unwrap();
        Self(dir)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_work_directory_that_is_not_the_accounts_own_is_a_problem() {
    let name = "a_work_directory_that_is_not_the_accounts_own_is_a_problem";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let place = Place::new(&rig, &sshd, "");
    let dir = place.work_dir();
    let mut all = String::new();
    let mode = |mode| std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o755);
    all += &problem(&place);
    mode(0o700);
    std::os::unix::fs::chown(&dir, Some(65534), None).unwrap();
    all += &problem(&place);
    std::fs::remove_dir(&dir).unwrap();
    std::os::unix::fs::symlink("/tmp", &dir).unwrap();
    all += &problem(&place);
    std::fs::remove_file(&dir).unwrap();
    std::fs::write(&dir, "").unwrap();
    all += &problem(&place);
    std::fs::remove_file(&dir).unwrap();
    std::fs::create_dir(&dir).unwrap();
    let mounted = Mounted::at(&dir, rustix::mount::MountFlags::NOEXEC, c"size=8g,mode=0700");
    all += &problem(&place);
    drop(mounted);
    let mounted = Mounted::at(&dir, rustix::mount::MountFlags::empty(), c"size=8g,mode=0700,nr_inodes=100");
    all += &problem(&place);
    drop(mounted);
    std::fs::remove_dir(&dir).unwrap();
    std::fs::write(&dir, "").unwrap();
    insta::assert_snapshot!(all, @r"
    work_dir problem
    the work directory SHARED/work has mode 755, so others see sources in it
    mend: ssh rig 'chmod 0700 SHARED/work'
    work_dir problem
    the work directory SHARED/work belongs to nobody, and not to root
    mend: ssh rig 'rm -r SHARED/work'; or another directory: work_dir of the host in the user's file
    work_dir problem
    the work directory SHARED/work is a symbolic link, which anybody may have put there
    mend: ssh rig 'rm SHARED/work'
    work_dir problem
    the work directory SHARED/work is no directory
    mend: ssh rig 'rm SHARED/work'
    work_dir problem
    the file system of the work directory SHARED/work is mounted noexec, and jobs are run by a program in it
    mend: ssh rig 'mount -o remount,exec SHARED/work'; or another directory: work_dir of the host in the user's file
    disk problem
    8.0 GiB of 8.0 GiB are free for the work directory, but only 99 files more fit there (inodes)
    mend: ssh rig 'df -i SHARED/work'
    ");
    // One that is not there yet is made by the first run.
    std::fs::remove_file(&dir).unwrap();
    place.pikaci(&["doctor", "box"]).code(0);
    assert!(!dir.exists(), "a doctor only looks");
}

#[test]
fn what_guests_lack_is_told_with_the_command_that_mends_it() {
    let name = "what_guests_lack_is_told_with_the_command_that_mends_it";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let place = Place::new(&rig, &sshd, "");
    let project = format!("/1.0/projects/{}", place.project.name());
    let set = |key: &str, value: &str| {
        let mut body = rig.ask("GET", &project, None).unwrap();
        body["config"][key] = json!(value);
        let body = json!({ "config": body["config"], "description": "" });
        rig.ask("PUT", &project, Some(&body)).unwrap();
    };
    let mut all = String::new();
    let shared = place.project.dir().to_str().unwrap();
    set("restricted.devices.disk.paths", "/srv/elsewhere");
    all += &problem(&place);
    set("restricted.devices.disk.paths", shared);
    set("restricted.containers.privilege", "allow");
    all += &problem(&place);
    set("restricted.containers.privilege", "unprivileged");
    set("restricted", "false");
    all += &problem(&place);
    set("restricted", "true");
    let well = place.pikaci(&["doctor", "box", "--json"]);
    assert_eq!(wrong(&place, &well), "");
    let profile = format!("/1.0/profiles/default?project={}", place.project.name());
    let root = rig.ask("GET", &profile, None).unwrap();
    rig.ask("PUT", &profile, Some(&json!({ "config": {}, "devices": {} }))).unwrap();
    all += &problem(&place);
    rig.ask("PUT", &profile, Some(&json!({ "config": {}, "devices": root["devices"] }))).unwrap();
    place.write_user_file("rig", "no-such-project", rig.image_alias(), "");
    all += &problem(&place);
    place.write_user_file("rig", place.project.name(), "no/such", "network = \"no-such\"\n");
    all += &problem(&place);
    let ended = place.pikaci(&["doctor", "box", "--json", "--incus-profile", "no-such"]).code(3);
    all += &wrong(&place, &ended);
    insta::assert_snapshot!(all, @r"
    incus_project problem
    the project PROJECT does not let guests see SHARED/work, where their sources lie
    mend: ssh rig 'INCUS_SOCKET=SOCKET incus project set PROJECT restricted.devices.disk=allow restricted.devices.disk.paths=/srv/elsewhere,SHARED/work'
    incus_project problem
    the project PROJECT allows privileged containers, which are root of the host
    mend: ssh rig 'INCUS_SOCKET=SOCKET incus project set PROJECT restricted.containers.privilege=unprivileged'
    incus_project problem
    the project PROJECT is not restricted, so a job could be root of the host
    mend: ssh rig 'INCUS_SOCKET=SOCKET incus project set PROJECT restricted=true restricted.devices.disk=allow restricted.devices.disk.paths=SHARED/work'
    incus_profile problem
    default of PROJECT: no root disk, so there is no pool for guests
    mend: ssh rig env INCUS_SOCKET=SOCKET bash -s -- --account root --project PROJECT --profile default --work-dir SHARED/work <scripts/setup-build-host
    incus_project problem
    there is no Incus project no-such-project
    mend: ssh rig env INCUS_SOCKET=SOCKET bash -s -- --account root --project no-such-project --profile default --work-dir SHARED/work <scripts/setup-build-host
    incus_network problem
    there is no network no-such for jobs that have one
    mend: ssh rig 'INCUS_SOCKET=SOCKET incus network create no-such --project PROJECT'
    incus_image problem
    no image has the alias no/such in the Incus project PROJECT
    mend: scripts/incus-role-image.sh --role jericho-runner build-import --remote-host rig --remote-socket SOCKET --project PROJECT --alias no/such
    incus_profile problem
    there is no profile no-such in the Incus project PROJECT
    mend: ssh rig env INCUS_SOCKET=SOCKET bash -s -- --account root --project PROJECT --profile no-such --work-dir SHARED/work <scripts/setup-build-host
    incus_network problem
    there is no network no-such for jobs that have one
    mend: ssh rig 'INCUS_SOCKET=SOCKET incus network create no-such --project PROJECT'
    incus_image problem
    no image has the alias no/such in the Incus project PROJECT
    mend: scripts/incus-role-image.sh --role jericho-runner build-import --remote-host rig --remote-socket SOCKET --project PROJECT --alias no/such
    ");
}

#[test]
fn a_pool_that_copies_images_is_named() {
    let name = "a_pool_that_copies_images_is_named";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let place = Place::new(&rig, &sshd, "");
    let pool = format!("slow-{}", place.project.name());
    rig.ask("POST", "/1.0/storage-pools", Some(&json!({ "name": pool, "driver": "dir", "config": {} })))
        .unwrap();
    let profile = format!("/1.0/profiles/default?project={}", place.project.name());
    let body = |pool: &str| json!({ "config": {}, "devices": { "root": { "type": "disk", "path": "/", "pool": pool } } });
    rig.ask("PUT", &profile, Some(&body(&pool))).unwrap();
    let ended = place.pikaci(&["doctor", "box", "--json"]);
    rig.ask("PUT", &profile, Some(&body(rig.pool()))).unwrap();
    rig.ask("DELETE", &format!("/1.0/storage-pools/{pool}"), None).unwrap();
    // Slow is no problem.
    insta::assert_snapshot!(wrong(&place, &ended.code(0)).replace(&pool, "POOL"), @r"
    incus_storage note
    the pool slow-PROJECT is dir: each guest copies its image, which takes 0.5 to TIME
    mend: ssh rig 'sh -c '\''incus storage create fast btrfs size=50GiB && incus profile device set default root pool=fast --project PROJECT'\'''
    ");
}

#[test]
fn incus_that_cannot_be_asked_is_told_with_the_reason() {
    let name = "incus_that_cannot_be_asked_is_told_with_the_reason";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let place = Place::new(&rig, &sshd, "");
    let socket = |path: &Path| {
        let text = std::fs::read_to_string(place.tree.outside().join("config.toml")).unwrap();
        let known = text.lines().find(|line| line.starts_with("socket")).unwrap().to_owned();
        let text = text.replace(&known, &format!("socket = \"{}\"", path.display()));
        std::fs::write(place.tree.outside().join("config.toml"), text).unwrap();
    };
    let mut all = String::new();
    socket(&place.tree.outside().join("nothing"));
    all += &problem(&place);
    // A socket where nobody listens any more.
    let dead = place.tree.outside().join("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    socket(&dead);
    // Which of the two it is depends on who is faster.
    all += &problem(&place).replace("Broken pipe (os error 32)", "Connection reset by peer (os error 104)");
    insta::assert_snapshot!(all, @r"
    incus problem
    Incus does not listen at OUTSIDE/nothing
    mend: ssh rig 'systemctl start incus'
    incus problem
    no Incus answers at OUTSIDE/dead on rig: Connection reset by peer (os error 104)
    mend: ssh rig 'systemctl restart incus'
    ");
    // Of this machine, as a user without rights.
    if !need::needs_program(name, "setpriv") {
        return;
    }
    let mut as_nobody = crate::common::command("setpriv".as_ref());
    as_nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    as_nobody.arg(jericho_testkit::built_program!("pikaci").as_os_str());
    as_nobody.args(["--state-root", "/tmp/none-of-this-user", "doctor", "--json"]).current_dir("/tmp");
    as_nobody.env("INCUS_SOCKET", rig.socket()).env("JERICHOCI_GUEST_RUNNER_DIR", place.programs());
    insta::assert_snapshot!(wrong(&place, &Ended::of(as_nobody.output().unwrap()).code(3)), @r"
    incus problem
    nobody has no right to use Incus at SOCKET
    mend: sudo usermod -aG incus-admin nobody; then log in anew
    ");
}

#[test]
fn an_sshd_that_does_not_forward_to_incus_is_told_and_not_an_incus_that_is_well() {
    let name = "an_sshd_that_does_not_forward_to_incus_is_told_and_not_an_incus_that_is_well";
    let options = &["AllowStreamLocalForwarding no"];
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start_with(name, options)) else { return };
    let targets = "[targets.t.jobs.j]\nruntime = \"incus\"\ncommand = \"true\"\n";
    let Some(place) = Place::real(name, &rig, &sshd, targets) else { return };
    insta::assert_snapshot!(problem(&place), @r"
    incus problem
    sshd does not forward to SOCKET, where Incus listens
    mend: ssh rig 'sed -i '\''/^AllowStreamLocalForwarding/d; /^DisableForwarding/d'\'' /etc/ssh/sshd_config'; then reload sshd there, and see that no `restrict` stands before the key in ~/.ssh/authorized_keys
    ");
    let ended = place.pikaci(&["run", "t", "--on", "box"]).code(3);
    assert!(ended.stderr.contains("j: errored: sshd on box does not forward to "), "{ended:?}");
    assert!(!ended.stderr.contains("restart"), "{ended:?}");
}
