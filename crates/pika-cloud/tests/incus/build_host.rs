//! `scripts/setup-build-host`: what it makes is what jobs need, and no more.

use std::path::Path;
use std::process::{Command, Stdio};

use jericho_testkit::crate_dir;
use jericho_testkit::incus::Rig;
use pika_cloud::ops::OpsError;
use pika_cloud::{IncusRuntimePlan, RuntimeIdentity, RuntimeIncus, RuntimeMount, RuntimeSpec};

use crate::common::{Record, incus};

/// A project that the script makes; it goes with the value.
struct Made<'a> {
    rig: &'a Rig,
    name: String,
    dir: tempfile::TempDir,
}

impl<'a> Made<'a> {
    fn new(rig: &'a Rig, number: u32) -> Self {
        // A name by which the rig knows it as one of a test.
        let name = format!("test-{}-90{number}", std::process::id());
        Self { rig, name, dir: tempfile::tempdir().unwrap() }
    }

    fn work_dir(&self) -> String {
        self.dir.path().join("work").to_string_lossy().into_owned()
    }

    /// Runs the script; its code, and what it printed.
    #[expect(clippy::disallowed_methods, reason = "the script is what is tested")]
    fn set_up(&self, more: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(crate_dir!().join("../../scripts/setup-build-host"))
            .args(["--account", "root", "--project", &self.name, "--pool", self.rig.pool()])
            .args(["--work-dir", &self.work_dir(), "--network", "none", "--instances", "2"])
            .args(more)
            .env("INCUS_SOCKET", self.rig.socket())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    fn plan(&self, mount: &Path) -> IncusRuntimePlan {
        RuntimeSpec::new(
            RuntimeIdentity::named("guest"),
            RuntimeIncus::new(&self.name, "pika-agent-dev", self.rig.image_alias()),
        )
        .with_mount(
            RuntimeMount::read_only_snapshot(mount.to_str().unwrap(), "/workspace/snapshot").require(),
        )
        .plan()
        .unwrap()
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        let _ = self.rig.ask("DELETE", &format!("/1.0/projects/{}?force=1", self.name), None);
    }
}

#[test]
fn a_machine_is_set_up_for_guests_from_its_work_directory_and_for_nothing_else() {
    let name = "a_machine_is_set_up_for_guests_from_its_work_directory_and_for_nothing_else";
    let Some(rig) = Rig::up(name) else { return };
    let made = Made::new(&rig, 0);
    let (code, text) = made.set_up(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("pikaci doctor root@"), "{text}");

    let inside = Path::new(&made.work_dir()).join("snapshot");
    std::fs::create_dir(&inside).unwrap();
    let incus = incus(&rig);
    let ensured = incus.ensure(&made.plan(&inside), &mut Record::default()).unwrap();
    incus.destroy(&ensured.instance).unwrap();

    let outside = incus.ensure(&made.plan(Path::new("/etc")), &mut Record::default()).unwrap_err();
    assert!(matches!(outside, OpsError::Refused { .. }), "{outside:?}");
    assert_eq!(incus.list(&made.name, &std::collections::BTreeMap::new()).unwrap(), []);
}

#[test]
fn a_machine_that_is_set_up_is_left_as_it_is() {
    let name = "a_machine_that_is_set_up_is_left_as_it_is";
    let Some(rig) = Rig::up(name) else { return };
    let made = Made::new(&rig, 1);
    let path = format!("/1.0/projects/{}", made.name);

    let (code, text) = made.set_up(&["--dry-run"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("none of them done"), "{text}");
    assert!(rig.ask("GET", &path, None).is_err() && !Path::new(&made.work_dir()).exists(), "{text}");

    assert_eq!(made.set_up(&[]).0, Some(0));
    let before = rig.ask("GET", &path, None).unwrap();
    let (code, text) = made.set_up(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("all of it is there\n"), "{text}");
    assert_eq!(rig.ask("GET", &path, None).unwrap(), before);

    // What an operator has allowed beside stays.
    let mut config = before["config"].clone();
    config["restricted.devices.disk.paths"] = format!("/srv/more,{}", made.work_dir()).into();
    rig.ask("PUT", &path, Some(&serde_json::json!({ "config": config }))).unwrap();
    assert_eq!(made.set_up(&[]).0, Some(0));
    let paths = rig.ask("GET", &path, None).unwrap()["config"]["restricted.devices.disk.paths"].clone();
    assert!(paths.as_str().unwrap().starts_with(&format!("/srv/more,{}", made.work_dir())), "{paths}");

    // One thing that is asked for is one step.
    let (code, text) = made.set_up(&["--instances", "5"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("limits.instances=5\n") && text.contains("steps done: 1"), "{text}");
}

#[test]
fn a_work_directory_of_somebody_else_is_refused() {
    let name = "a_work_directory_of_somebody_else_is_refused";
    let Some(rig) = Rig::up(name) else { return };
    let made = Made::new(&rig, 2);
    std::os::unix::fs::symlink("/etc", made.work_dir()).unwrap();
    let (code, text) = made.set_up(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is a link"), "{text}");
    std::fs::remove_file(made.work_dir()).unwrap();

    std::fs::create_dir(made.work_dir()).unwrap();
    std::os::unix::fs::chown(made.work_dir(), Some(1), Some(1)).unwrap();
    let (code, text) = made.set_up(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not a directory of root") && text.contains("hint: chown"), "{text}");
}
