//! What cannot be done is an error that names the thing, and leaves nothing behind.

use jericho_testkit::incus::{Project, Rig};
use pika_cloud::ops::{Incus, InstanceRef, Labels, Launch, OpsError, Silence};
use pika_cloud::{RuntimeMount, RuntimeSpec};

use crate::common::{assert_nothing_left, incus, script, spec};

#[track_caller]
fn refused(incus: &Incus, project: &Project<'_>, spec: &RuntimeSpec, names: &str) -> OpsError {
    let error = incus.ensure(&spec.plan().unwrap(), &mut Silence).unwrap_err();
    assert!(error.to_string().contains(names), "{error}");
    assert_nothing_left(project);
    error
}

#[test]
fn what_is_missing_is_named() {
    let Some(rig) = Rig::up("what_is_missing_is_named") else { return };
    let project = rig.project(4).unwrap();
    let incus = incus(&rig);
    let good = spec(&rig, &project, "unlucky");

    let mut spec = good.clone();
    spec.incus.project = "no-such-project".into();
    let error = refused(&incus, &project, &spec, "no-such-project");
    assert!(matches!(error, OpsError::ProjectMissing { .. }), "{error:?}");
    let error = incus.list("no-such-project", &Labels::new()).unwrap_err();
    assert!(matches!(error, OpsError::ProjectMissing { .. }), "{error:?}");

    let mut spec = good.clone();
    spec.incus.image_alias = "no/such-image".into();
    let error = refused(&incus, &project, &spec, "no/such-image");
    assert!(matches!(error, OpsError::ImageMissing { .. }), "{error:?}");

    let mut spec = good.clone();
    spec.incus.profile = "no-such-profile".into();
    let error = refused(&incus, &project, &spec, "no-such-profile");
    assert!(matches!(error, OpsError::ProfileMissing { .. }), "{error:?}");

    let source = project.dir().join("no-such-dir");
    let spec =
        good.clone().with_mount(RuntimeMount::read_only_snapshot(source.to_str().unwrap(), "/s").require());
    let error = refused(&incus, &project, &spec, "no-such-dir");
    assert!(matches!(error, OpsError::NotFound { what: "mount source", .. }), "{error:?}");

    let nobody = InstanceRef { project: project.name().into(), name: "nobody".into() };
    assert!(incus.start(&nobody).unwrap_err().is_not_found());
    assert!(incus.set_labels(&nobody, &Labels::from([("a".into(), "b".into())])).unwrap_err().is_not_found());
    let error = incus.start_detached(&good.plan().unwrap(), &script("true")).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("unlucky"), "{error}");
    assert_eq!(incus.read_file(&nobody, "/etc/passwd").unwrap(), None);

    let error = pika_cloud::ops::role("no-such-role").unwrap_err();
    assert!(matches!(&error, OpsError::RoleUnknown { role } if role == "no-such-role"), "{error:?}");
}

#[test]
fn what_the_project_forbids_is_refused_with_the_words_of_incus() {
    let Some(rig) = Rig::up("what_the_project_forbids_is_refused_with_the_words_of_incus") else { return };
    let project = rig.project(4).unwrap();
    let incus = incus(&rig);
    let good = spec(&rig, &project, "greedy");

    // A path outside the work directory.
    let outside = good.clone().with_mount(RuntimeMount::read_only_snapshot("/etc", "/s").require());
    let error = refused(&incus, &project, &outside, "/etc");
    assert!(matches!(error, OpsError::Refused { .. }), "{error:?}");

    // A privilege, and a device, by a profile that asks for them.
    for (profile, body) in [
        (
            "privileged",
            serde_json::json!({ "name": "privileged", "config": { "security.privileged": "true" } }),
        ),
        (
            "device",
            serde_json::json!({ "name": "device", "devices": { "k": { "type": "unix-char", "path": "/dev/kmsg" } } }),
        ),
    ] {
        let path = format!("/1.0/profiles?project={}", project.name());
        rig.ask("POST", &path, Some(&body)).unwrap();
        let mut spec = good.clone();
        spec.incus.profile = profile.into();
        let error = refused(&incus, &project, &spec, "greedy");
        assert!(matches!(error, OpsError::Refused { .. }), "{error:?}");
        // While it is there the project refuses everything.
        rig.ask("DELETE", &format!("/1.0/profiles/{profile}?project={}", project.name()), None).unwrap();
    }
    // A label cannot become a setting.
    let sly = good.clone().with_label("security.privileged", "true");
    let ensured = incus.ensure(&sly.plan().unwrap(), &mut Silence).unwrap();
    let seen = incus.inspect(&ensured.instance, &sly.paths).unwrap();
    assert_eq!(seen.labels["user.security.privileged"], "true");
    incus.destroy(&ensured.instance).unwrap();
    assert_nothing_left(&project);
}

#[test]
fn an_instance_that_was_made_and_does_not_start_is_removed() {
    let Some(rig) = Rig::up("an_instance_that_was_made_and_does_not_start_is_removed") else { return };
    let project = rig.project(4).unwrap();
    let source = project.make_dir("source").unwrap();
    // Below a file there is no place for a mount, which shows at the start.
    let mount = RuntimeMount::read_only_snapshot(source.to_str().unwrap(), "/etc/passwd/below").require();
    let spec = spec(&rig, &project, "stillborn").with_mount(mount);
    let error = refused(&incus(&rig), &project, &spec, "stillborn");
    assert!(matches!(error, OpsError::Failed { .. }), "{error:?}");
}

#[test]
fn names_are_never_parts_of_a_path() {
    let Some(rig) = Rig::up("names_are_never_parts_of_a_path") else { return };
    let project = rig.project(4).unwrap();
    let incus = incus(&rig);
    for name in ["../../..", "a/b", "x?project=default", "%2e%2e", "a b", "ü"] {
        assert!(incus.list(name, &Labels::new()).is_err(), "{name}");
        let odd = InstanceRef { project: project.name().into(), name: name.into() };
        assert!(!matches!(incus.start(&odd), Ok(())), "{name}");
    }
    let error = incus.image(project.name(), "../aliases").unwrap_err();
    assert!(matches!(error, OpsError::ImageMissing { .. }), "{error:?}");
}

#[test]
fn a_launch_that_cannot_be_is_refused_before_it_is_asked_for() {
    let Some(rig) = Rig::up("a_launch_that_cannot_be_is_refused_before_it_is_asked_for") else { return };
    let project = rig.project(4).unwrap();
    let incus = incus(&rig);
    let mut spec = spec(&rig, &project, "nothing");
    let large = Launch { request: Some("x".repeat(100_000)), ..Launch::default() };
    let error = incus.start_detached(&spec.plan().unwrap(), &large).unwrap_err();
    assert!(error.to_string().contains("at most 98304 can be handed over"), "{error}");
    spec.entry_command = None;
    let error = incus.start_detached(&spec.plan().unwrap(), &Launch::default()).unwrap_err();
    assert!(error.to_string().contains("no entry command"), "{error}");
    assert_nothing_left(&project);
}
