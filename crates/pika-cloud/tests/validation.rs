//! The rules of a runtime spec: one test each, and all of them at once.

use pika_cloud::{
    RuntimeIdentity, RuntimeIncus, RuntimeMount, RuntimePaths, RuntimeSpec, ValidationError, ValidationErrors,
};

fn spec() -> RuntimeSpec {
    RuntimeSpec::new(RuntimeIdentity::named("guest-1"), RuntimeIncus::new("project", "profile", "image/dev"))
        .with_mount(RuntimeMount::read_only_snapshot("/srv/snapshot", "/workspace/snapshot"))
        .with_mount(RuntimeMount::cache("cargo-home", "/cargo-home"))
}

/// The problems of a sound spec after one change, as lines of text.
fn problems(change: impl FnOnce(&mut RuntimeSpec)) -> Vec<String> {
    let mut spec = spec();
    change(&mut spec);
    lines(spec.validate())
}

fn lines(checked: Result<(), ValidationErrors>) -> Vec<String> {
    checked.err().iter().flatten().map(ValidationError::to_string).collect()
}

const NONE: [&str; 0] = [];

#[test]
fn a_sound_spec_has_no_problems() {
    assert_eq!(problems(|_| ()), NONE);
}

#[test]
fn blank_names_are_problems() {
    for blank in ["", " ", "\t\n", "\u{a0}"] {
        let shown = serde_json::to_string(blank).unwrap();
        let text = "(allowed: some text)";
        let set =
            |field: fn(&mut RuntimeSpec) -> &mut String| problems(|spec| *field(spec) = blank.to_owned());
        assert_eq!(
            set(|s| &mut s.identity.runtime_id),
            [format!("identity.runtime_id: {shown} is blank {text}")]
        );
        assert_eq!(
            set(|s| &mut s.identity.instance_name),
            [format!(
                "identity.instance_name: {shown} is blank (allowed: 1 to 63 ASCII letters, digits and `-`, first a letter, last no `-`)"
            )]
        );
        assert_eq!(set(|s| &mut s.incus.project), [format!("incus.project: {shown} is blank {text}")]);
        assert_eq!(set(|s| &mut s.incus.profile), [format!("incus.profile: {shown} is blank {text}")]);
        assert_eq!(
            set(|s| &mut s.incus.image_alias),
            [format!("incus.image_alias: {shown} is blank {text}")]
        );
        assert_eq!(set(|s| &mut s.mounts[1].source), [format!("mounts[1].source: {shown} is blank {text}")]);
        assert_eq!(
            problems(|s| s.entry_command = Some(blank.to_owned())),
            [format!("entry_command: {shown} is blank {text}")]
        );
    }
}

#[test]
fn an_instance_name_that_incus_would_refuse_is_a_problem() {
    let longest = "a".repeat(63);
    for good in ["a", "A-1", "jerichoci-1fac30581f5b", &longest] {
        assert_eq!(problems(|s| s.identity.instance_name = good.into()), NONE, "{good}");
    }
    let too_long = "a".repeat(64);
    for bad in ["1a", "-a", "a-", "a_b", "a b", "a/b", "../a", "a.b", "é", " a", "a\n", &too_long] {
        let found = problems(|s| s.identity.instance_name = bad.into());
        assert!(found.len() == 1 && found[0].contains("is no Incus instance name"), "{bad:?}: {found:?}");
    }
}

#[test]
fn control_characters_in_names_are_problems() {
    for (field, found) in [
        ("identity.runtime_id", problems(|s| s.identity.runtime_id = "a\nb".into())),
        ("incus.project", problems(|s| s.incus.project = "a\u{7f}".into())),
        ("incus.profile", problems(|s| s.incus.profile = "a\u{9b}31m".into())),
        ("incus.image_alias", problems(|s| s.incus.image_alias = "a\u{1b}[0m".into())),
        ("mounts[0].source", problems(|s| s.mounts[0].source = "/a\0b".into())),
        ("entry_command", problems(|s| s.entry_command = Some("a\0b".into()))),
    ] {
        assert!(found.len() == 1 && found[0].starts_with(field), "{field}: {found:?}");
        assert!(found[0].contains("has a control character") || found[0].contains("has a NUL character"));
        assert!(!found[0].contains(char::is_control), "{found:?}");
    }
}

#[test]
fn resources_of_0_are_problems() {
    assert_eq!(
        problems(|s| {
            s.resources.vcpu_count = Some(0);
            s.resources.memory_mib = Some(0);
            s.resources.root_disk_gib = Some(0);
        }),
        ["vcpu_count", "memory_mib", "root_disk_gib"].map(|field| format!(
            "resources.{field}: 0 is no amount (allowed: a number above 0, or nothing)"
        ))
    );
}

/// Every path field, with a way to set it.
type SetPath = fn(&mut RuntimePaths) -> &mut String;
const PATHS: [(&str, SetPath); 8] = [
    ("state_dir", |p| &mut p.state_dir),
    ("events_path", |p| &mut p.events_path),
    ("status_path", |p| &mut p.status_path),
    ("result_path", |p| &mut p.result_path),
    ("guest_request_path", |p| &mut p.guest_request_path),
    ("logs_dir", |p| &mut p.logs_dir),
    ("guest_log_path", |p| &mut p.guest_log_path),
    ("artifacts_dir", |p| &mut p.artifacts_dir),
];

#[test]
fn each_path_that_is_blank_relative_or_climbs_is_a_problem() {
    for (field, path) in PATHS {
        for (bad, problem) in [
            ("", "is blank"),
            ("  ", "is blank"),
            ("run/pika-cloud/x", "is relative"),
            (" /run/pika-cloud/x", "is relative"),
            ("/run/pika-cloud/../x", "has a `..` component"),
            ("/run/pika-cloud/x/..", "has a `..` component"),
            ("/run/pika-cloud/a\0", "has a NUL character"),
        ] {
            let shown = serde_json::to_string(bad).unwrap();
            assert_eq!(
                problems(|s| *path(&mut s.paths) = bad.to_owned()),
                [format!("paths.{field}: {shown} {problem} (allowed: an absolute path without `..`)")]
            );
        }
        let both = problems(|s| *path(&mut s.paths) = "../x".to_owned());
        assert_eq!(both.len(), 2, "{both:?}");
    }
}

#[test]
fn dots_that_do_not_climb_are_no_problem() {
    for good in ["/run/pika-cloud/a..b", "/run/pika-cloud/...", "/run/pika-cloud/.x", "/run/pika-cloud/./x"] {
        for (field, path) in &PATHS[1..] {
            assert_eq!(problems(|s| *path(&mut s.paths) = good.to_owned()), NONE, "{field} {good}");
        }
    }
}

#[test]
fn each_path_outside_the_state_directory_is_a_problem() {
    for (field, path) in &PATHS[1..] {
        for outside in
            ["/run/x", "/run/pika-cloudy", "/run/pika-cloudy/x", "/", "/run", "/x/run/pika-cloud/x"]
        {
            assert_eq!(
                problems(|s| *path(&mut s.paths) = outside.to_owned()),
                [format!(
                    "paths.{field}: {outside:?} is outside state_dir (allowed: a path inside state_dir, \"/run/pika-cloud\")"
                )]
            );
        }
    }
}

#[test]
fn a_state_directory_is_compared_by_components() {
    for same in ["/run/pika-cloud/", "//run//pika-cloud", "/run/./pika-cloud/.", "/run", "/"] {
        assert_eq!(problems(|s| s.paths.state_dir = same.to_owned()), NONE, "{same}");
    }
    // Without a sound state directory only that is told.
    assert_eq!(problems(|s| s.paths.state_dir = "relative".to_owned()).len(), 1);
    assert_eq!(problems(|s| s.paths.state_dir = "/run/pika".to_owned()).len(), 7);
}

#[test]
fn a_file_at_the_path_of_another_file_or_directory_is_a_problem() {
    assert_eq!(
        problems(|s| s.paths.result_path = "/run/pika-cloud//status.json".into()),
        [
            "paths.result_path: \"/run/pika-cloud//status.json\" is the path of paths.status_path too (allowed: a path of its own)"
        ]
    );
    assert_eq!(
        problems(|s| s.paths.status_path = "/run/pika-cloud".into()),
        [
            "paths.status_path: \"/run/pika-cloud\" is the path of paths.state_dir too (allowed: a path of its own)"
        ]
    );
    assert_eq!(
        problems(|s| s.paths.events_path = s.paths.artifacts_dir.clone()),
        [
            "paths.events_path: \"/run/pika-cloud/artifacts\" is the path of paths.artifacts_dir too (allowed: a path of its own)"
        ]
    );
    // Directories may be one.
    assert_eq!(problems(|s| s.paths.logs_dir = s.paths.state_dir.clone()), NONE);
    assert_eq!(problems(|s| s.paths.artifacts_dir = s.paths.logs_dir.clone()), NONE);
}

#[test]
fn a_mount_that_is_blank_relative_climbing_or_the_root_is_a_problem() {
    let path = "(allowed: an absolute path without `..`)";
    for (bad, problem) in [
        ("", format!("\"\" is blank {path}")),
        ("data", format!("\"data\" is relative {path}")),
        ("/data/../etc", format!("\"/data/../etc\" has a `..` component {path}")),
        ("/", "\"/\" is the root of the guest (allowed: a path below `/`)".to_owned()),
        ("//.", "\"//.\" is the root of the guest (allowed: a path below `/`)".to_owned()),
    ] {
        assert_eq!(
            problems(|s| s.mounts[1].guest_path = bad.into()),
            [format!("mounts[1].guest_path: {problem}")]
        );
    }
}

#[test]
fn two_mounts_at_one_guest_path_are_a_problem_however_it_is_written() {
    for same in ["/workspace/snapshot", "/workspace/snapshot/", "//workspace/./snapshot"] {
        assert_eq!(
            problems(|s| s.mounts[1].guest_path = same.into()),
            [format!(
                "mounts[1].guest_path: {same:?} is the guest path of mounts[0] too (allowed: a guest path of its own)"
            )]
        );
    }
    let third = problems(|s| s.mounts.push(s.mounts[1].clone()));
    assert!(
        third.len() == 1 && third[0].contains("mounts[2]") && third[0].contains("mounts[1] too"),
        "{third:?}"
    );
    for other in ["/workspace", "/workspace/snapshot/x", "/workspace/snapshot2", "/Workspace/snapshot"] {
        assert_eq!(problems(|s| s.mounts[1].guest_path = other.into()), NONE, "{other}");
    }
}

#[test]
fn a_label_without_a_name_is_a_problem() {
    let found = problems(|s| drop(s.labels.insert(" ".into(), "v".into())));
    assert_eq!(found, ["labels[\" \"]: \"v\" has a blank name (allowed: a name)"]);
    assert_eq!(problems(|s| drop(s.labels.insert("user.x".into(), String::new()))), NONE);
}

#[test]
fn canonical_paths_are_a_check_of_their_own() {
    let mut spec = spec();
    spec.paths.events_path = "/run/pika-cloud/e.jsonl".into();
    spec.paths.status_path = "/run/pika-cloud//status.json".into();
    spec.paths.guest_log_path = "/run/pika-cloud/guest.log".into();
    assert_eq!(lines(spec.validate()), NONE);
    assert_eq!(
        lines(spec.validate_canonical_paths()),
        [
            "paths.events_path: \"/run/pika-cloud/e.jsonl\" is not the canonical path (allowed: \"/run/pika-cloud/events.jsonl\")",
            "paths.status_path: \"/run/pika-cloud//status.json\" is not the canonical path (allowed: \"/run/pika-cloud/status.json\")",
        ]
    );
    spec.paths.result_path = "/elsewhere".into();
    assert_eq!(lines(spec.validate_canonical_paths()).len(), 3);
}

#[test]
fn all_problems_are_told_at_once_with_field_value_and_what_is_allowed() {
    let mut spec = spec().with_entry_command(" ").with_cpus(0);
    spec.identity = RuntimeIdentity { runtime_id: String::new(), instance_name: "no_good".into() };
    spec.incus.image_alias = "  ".into();
    spec.mounts[0].source = String::new();
    spec.mounts[1].guest_path = "../cargo-home".into();
    spec.mounts.push(RuntimeMount::cache("x", "/workspace/snapshot/"));
    spec.paths.events_path = "/run/pika-cloudy/events.jsonl".into();
    let errors = spec.validate().unwrap_err();
    assert_eq!(errors.len(), 10);
    insta::assert_snapshot!(errors, @r#"
    the runtime spec has 10 problems:
      identity.runtime_id: "" is blank (allowed: some text)
      identity.instance_name: "no_good" is no Incus instance name (allowed: 1 to 63 ASCII letters, digits and `-`, first a letter, last no `-`)
      incus.image_alias: "  " is blank (allowed: some text)
      resources.vcpu_count: 0 is no amount (allowed: a number above 0, or nothing)
      mounts[0].source: "" is blank (allowed: some text)
      mounts[1].guest_path: "../cargo-home" is relative (allowed: an absolute path without `..`)
      mounts[1].guest_path: "../cargo-home" has a `..` component (allowed: an absolute path without `..`)
      mounts[2].guest_path: "/workspace/snapshot/" is the guest path of mounts[0] too (allowed: a guest path of its own)
      paths.events_path: "/run/pika-cloudy/events.jsonl" is outside state_dir (allowed: a path inside state_dir, "/run/pika-cloud")
      entry_command: " " is blank (allowed: some text)
    "#);
    assert_eq!(errors, spec.plan().unwrap_err(), "a plan is made from a sound spec only");
}

#[test]
fn a_long_value_is_cut_and_stays_on_one_line() {
    let found = problems(|s| s.paths.logs_dir = "é\n".repeat(100_000));
    assert!(found[0].len() < 400 && !found[0].contains('\n'), "{}", found[0].len());
    assert!(found[0].contains("… (") && found[0].contains(" bytes)"), "{}", found[0]);
}

#[test]
fn an_artifact_glob_that_is_none_is_a_problem_before_there_is_a_guest() {
    let globs = ["**/*.xml", "!secret/**", "../x", "[", ""].map(str::to_owned);
    let told = problems(|spec| spec.policies.output_collection.artifact_globs = globs.to_vec());
    let line = |index: usize, value: &str, problem: &str| {
        format!(
            "policies.output_collection.artifact_globs[{index}]: {value} {problem} (allowed: a glob of files below the \
             artifact directory)"
        )
    };
    let expected = [
        line(2, "\"../x\"", "has a `.` or `..` component"),
        line(3, "\"[\"", "has a `[` that is no class of bytes"),
        line(4, "\"\"", "is empty"),
    ];
    assert_eq!(told, expected);
}
