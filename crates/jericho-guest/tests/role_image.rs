//! `scripts/incus-role-image.sh`: what it imports, what it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use jericho_testkit::incus::{Project, Rig};
use jericho_testkit::{crate_dir, need, ssh};

/// How a call ended, and what it printed.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

#[expect(clippy::disallowed_methods, reason = "the script is what is tested")]
fn call(name: &str, args: &[&str], variables: &[(&str, &Path)]) -> Said {
    let mut command = Command::new(crate_dir!().join("../../scripts").join(name));
    command.args(args).stdin(Stdio::null()).env_remove("INCUS_DIR").env_remove("INCUS_SOCKET");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Imports into the project of a test.
fn import(rig: &Rig, project: &Project<'_>, artifact: &Path, more: &[&str]) -> Said {
    let mut args = vec!["import", "--project", project.name(), "--artifact", artifact.to_str().unwrap()];
    args.extend(more);
    call("pikaci-incus-image.sh", &args, &[("INCUS_SOCKET", rig.socket())])
}

/// A small image: as far as an import looks at one, it is whole.
#[expect(clippy::disallowed_methods, reason = "an artifact that no code under test has made")]
fn make_image(dir: &Path, word: &str) {
    let script = r#"set -eu; mkdir -p "$1/root"; echo "$2" >"$1/root/word"
printf 'architecture: x86_64\ncreation_date: 1700000000\nproperties: {description: "%s"}\n' "$2" >"$1/metadata.yaml"
tar -C "$1" -cJf "$1/metadata.tar.xz" metadata.yaml
tar -C "$1/root" -c . | tar2sqfs --quiet --force "$1/rootfs.squashfs""#;
    fs::create_dir_all(dir).unwrap();
    let status = Command::new("sh").args(["-c", script, "sh"]).arg(dir).arg(word).status().unwrap();
    assert!(status.success());
}

fn target(rig: &Rig, alias: &str) -> Option<String> {
    let path = format!("/1.0/images/aliases/{}", alias.replace('/', "%2F"));
    Some(rig.ask("GET", &path, None).ok()?["target"].as_str()?.to_owned())
}

fn is_there(rig: &Rig, fingerprint: &str) -> bool {
    rig.ask("GET", &format!("/1.0/images/{fingerprint}"), None).is_ok()
}

fn forget(rig: &Rig, fingerprint: &str) {
    rig.ask("DELETE", &format!("/1.0/images/{fingerprint}"), None).unwrap();
}

fn fingerprint(said: &Said) -> String {
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    said.stdout.split(' ').next().unwrap().to_owned()
}

#[test]
fn an_image_is_sent_once_and_the_alias_moves_to_the_next_one() {
    let name = "an_image_is_sent_once_and_the_alias_moves_to_the_next_one";
    let Some(rig) = Rig::up(name) else { return };
    let project = rig.project(1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    make_image(&one, &format!("one {}", project.name()));
    make_image(&two, &format!("two {}", project.name()));
    let alias = format!("{}/dev", project.name());
    let more = ["--alias", &alias];

    let first = import(&rig, &project, &one, &more);
    assert!(first.stderr.contains("sending"), "{}", first.stderr);
    let first = fingerprint(&first);
    assert_eq!(target(&rig, &alias).as_ref(), Some(&first));

    let again = import(&rig, &project, &one, &more);
    assert!(!again.stderr.contains("sending"), "{}", again.stderr);
    assert_eq!(fingerprint(&again), first);

    let second = fingerprint(&import(&rig, &project, &two, &more));
    assert_ne!(second, first);
    assert_eq!(target(&rig, &alias).as_ref(), Some(&second));
    assert!(!is_there(&rig, &first), "nothing names it any more");
    forget(&rig, &second);
}

#[test]
fn an_image_that_another_alias_names_stays_when_the_alias_moves_on() {
    let name = "an_image_that_another_alias_names_stays_when_the_alias_moves_on";
    let Some(rig) = Rig::up(name) else { return };
    let project = rig.project(1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    make_image(&one, &format!("a {}", project.name()));
    make_image(&two, &format!("b {}", project.name()));
    let (dev, stable) = (format!("{}/dev", project.name()), format!("{}/stable", project.name()));
    let first = fingerprint(&import(&rig, &project, &one, &["--alias", &dev]));
    import(&rig, &project, &one, &["--alias", &stable]);
    let second = fingerprint(&import(&rig, &project, &two, &["--alias", &dev]));
    assert_eq!(target(&rig, &stable).as_ref(), Some(&first));
    forget(&rig, &first);
    forget(&rig, &second);
}

#[test]
fn a_part_of_an_image_takes_the_place_of_none() {
    let name = "a_part_of_an_image_takes_the_place_of_none";
    let Some(rig) = Rig::up(name) else { return };
    let project = rig.project(1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (whole, part) = (dir.path().join("whole"), dir.path().join("part"));
    make_image(&whole, &format!("whole {}", project.name()));
    let alias = format!("{}/dev", project.name());
    let first = fingerprint(&import(&rig, &project, &whole, &["--alias", &alias]));
    for (file, left) in
        [("rootfs.squashfs", 0), ("rootfs.squashfs", 95), ("rootfs.squashfs", 200), ("metadata.tar.xz", 60)]
    {
        make_image(&part, &format!("part {}", project.name()));
        let file = part.join(file);
        let content = fs::read(&file).unwrap();
        assert!(content.len() > left);
        fs::write(&file, &content[..left]).unwrap();
        let said = import(&rig, &project, &part, &["--alias", &alias]);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        let expected = format!("{} is not a whole image: it has {left} bytes", file.display());
        assert!(said.stderr.contains(&expected), "{}", said.stderr);
        assert_eq!(target(&rig, &alias).as_ref(), Some(&first));
    }
    assert!(is_there(&rig, &first));
    forget(&rig, &first);
}

#[test]
fn an_image_is_imported_over_ssh_and_no_connection_is_left() {
    let name = "an_image_is_imported_over_ssh_and_no_connection_is_left";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let project = rig.project(1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    make_image(&image, &format!("ssh {}", project.name()));
    let program = dir.path().join("ssh");
    fs::write(&program, format!("#!/bin/sh\nexec ssh -F '{}' \"$@\"\n", sshd.config().display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let alias = format!("{}/dev", project.name());
    let at = |host: &str, socket: &Path| {
        let socket = socket.to_str().unwrap();
        let (image, project) = (image.to_str().unwrap(), project.name());
        let args = ["import", "--artifact", image, "--project", project, "--alias", &alias];
        let args = [&args[..], &["--remote-host", host, "--remote-socket", socket]].concat();
        let variables = [("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY", program.as_path())];
        call("pikaci-incus-image.sh", &args, &variables)
    };
    let remote = |host: &str| at(host, rig.socket());
    // Its output ends with its last process: a connection that stayed would keep this from returning.
    let imported = fingerprint(&remote("rig"));
    assert_eq!(target(&rig, &alias).as_ref(), Some(&imported));
    forget(&rig, &imported);

    let refused = remote("rig-wrong-key");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("cannot reach rig-wrong-key"), "{}", refused.stderr);
    let nothing = at("rig", Path::new("/nowhere/unix.socket"));
    assert!(
        nothing.stderr.contains("is there an Incus at /nowhere/unix.socket of rig"),
        "{}",
        nothing.stderr
    );
}

#[test]
fn what_cannot_be_imported_is_told_and_changes_nothing() {
    let name = "what_cannot_be_imported_is_told_and_changes_nothing";
    let Some(rig) = Rig::up(name) else { return };
    let project = rig.project(1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let alias = format!("{}/dev", project.name());
    let more = ["--alias", &alias];

    let nothing = import(&rig, &project, &dir.path().join("nothing"), &more);
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.stderr.contains("no image at"), "{}", nothing.stderr);

    let half = dir.path().join("half");
    make_image(&half, "half");
    fs::remove_file(half.join("rootfs.squashfs")).unwrap();
    let half = import(&rig, &project, &half, &more);
    assert_eq!(half.code, Some(1));
    assert!(half.stderr.contains("rootfs.squashfs or disk.qcow2"), "{}", half.stderr);

    for (metadata, root, told) in [
        ("metadata.tar.xz", "rootfs.squashfs", "is not a whole image"),
        ("metadata.tar", "disk.qcow2", "Incus does not take the image"),
    ] {
        let garbage = dir.path().join(root);
        fs::create_dir(&garbage).unwrap();
        fs::write(garbage.join(metadata), "no archive").unwrap();
        fs::write(garbage.join(root), "no file system").unwrap();
        let garbage = import(&rig, &project, &garbage, &more);
        assert_eq!(garbage.code, Some(1));
        assert!(garbage.stderr.contains(told), "{}", garbage.stderr);
    }
    assert_eq!(target(&rig, &alias), None);

    let args = ["import", "--project", "no-such-project"];
    let project = call("pikaci-incus-image.sh", &args, &[("INCUS_SOCKET", rig.socket())]);
    assert_eq!(project.code, Some(1));
    assert!(project.stderr.contains("has no project no-such-project"), "{}", project.stderr);
    assert!(project.stderr.contains("hint: scripts/setup-build-host"), "{}", project.stderr);
}

#[test]
fn wrong_usage_is_told_before_anything_is_done() {
    let nowhere = tempfile::tempdir().unwrap();
    let socket = nowhere.path().join("unix.socket");
    let said = |name: &str, args: &[&str]| call(name, args, &[("INCUS_SOCKET", &socket)]);
    for (args, expected) in [
        (&["build"][..], "--role is missing"),
        (&["--role", "builder", "build"], "unknown role builder"),
        (&["--role", "jericho-runner"], "build, import or build-import"),
        (&["--role", "jericho-runner", "bild"], "unknown argument bild"),
        (&["--role", "jericho-runner", "import", "--alias"], "--alias has no value"),
        (&["--role", "jericho-runner", "build", "--package", "a;b"], "no name of a package"),
        (&["--role", "jericho-runner", "import", "--remote-host", "-oProxyCommand=x"], "is no host"),
    ] {
        let said = said("incus-role-image.sh", args);
        assert_eq!(said.code, Some(2), "{args:?}: {}", said.stderr);
        assert!(said.stderr.contains(expected), "{args:?}: {}", said.stderr);
    }
    let help = said("incus-role-image.sh", &["--help"]);
    assert!(help.code == Some(0) && help.stdout.starts_with("Usage: "), "{}", help.stderr);
    // A machine without Incus says how to get one, and builds nothing before.
    if need::needs_program("wrong_usage_is_told_before_anything_is_done", "curl") {
        let none = said("pikaci-incus-image.sh", &["build-import"]);
        assert_eq!(none.code, Some(3), "{}", none.stderr);
        assert!(none.stderr.contains("there is no socket"), "{}", none.stderr);
    }
}
