//! The two programs of a build host: arguments, what they print, how they end.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use jericho_testkit::built_program;
use jerichoci::model::outputs::{FulfillmentStatus, PreparedOutputResultRecord};
use serde_json::{Value, json};

use crate::rig::document;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.at("run/prepared-output-requests")).unwrap();
        fs::create_dir_all(place.at("store/aaaa-x")).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn request(&self, change: impl FnOnce(&mut Value)) -> PathBuf {
        let mut request = json!({ "schema_version": 1, "node_id": "n", "installable": "path:/s#x",
            "output_name": "x", "protocol": "nix_store_path_v1", "residency": "local_authoritative",
            "realized_path": self.at("store/aaaa-x"), "requested_exposures": [
                { "kind": "host_symlink_mount", "path": self.at("run/jobs/j/m"), "access": "read_only" } ] });
        change(&mut request);
        let path = self.at("run/prepared-output-requests/n.json");
        fs::write(&path, request.to_string()).unwrap();
        path
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the programs under test are started as a user starts them"
    )]
    fn start(&self, program: PathBuf, args: &[&str]) -> Output {
        std::process::Command::new(program)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("NIX_STORE_DIR", self.at("store"))
            .output()
            .unwrap()
    }

    fn fulfill(&self, args: &[&str]) -> Output {
        self.start(built_program!("pikaci-fulfill-prepared-output"), args)
    }

    fn launch(&self, args: &[&str]) -> Output {
        self.start(built_program!("pikaci-launch-fulfill-prepared-output"), args)
    }

    fn launch_request(&self, helper: &str) -> String {
        let launch = json!({ "schema_version": 1, "helper_program": helper,
            "helper_request_path": self.at("run/prepared-output-requests/n.json"),
            "helper_result_path": self.at("run/prepared-output-results/n.json"),
            "node_id": "n", "output_name": "x" });
        let path = self.at("launch.json");
        fs::write(&path, launch.to_string()).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn script(&self, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.at("helper");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_string_lossy().into_owned()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_helper_prints_its_result_as_one_line_and_writes_it_where_it_is_told() {
    let place = Place::new();
    let request = place.request(|_| {});
    let result_path = place.at("deep/er/result.json");
    for _ in 0..2 {
        let output =
            place.fulfill(&["--result-path", result_path.to_str().unwrap(), request.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(text(&output.stdout).lines().count(), 1);
        let printed: PreparedOutputResultRecord = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed.status, FulfillmentStatus::Succeeded);
        assert_eq!(document::<PreparedOutputResultRecord>(&result_path), printed);
        assert_eq!(fs::read_link(place.at("run/jobs/j/m")).unwrap(), place.at("store/aaaa-x"));
    }
}

#[test]
fn a_result_that_cannot_be_written_is_printed_as_one_that_failed() {
    let place = Place::new();
    let request = place.request(|_| {});
    fs::write(place.at("file"), "").unwrap();
    let result_path = place.at("file/result.json");
    let output = place.fulfill(&["--result-path", result_path.to_str().unwrap(), request.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let printed: PreparedOutputResultRecord = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed.status, FulfillmentStatus::Failed);
    assert!(printed.error.as_ref().unwrap().contains("file/result.json"), "{printed:?}");
    assert!(text(&output.stderr).contains(printed.error.as_ref().unwrap()), "{output:?}");
}

#[test]
fn a_request_that_is_not_fulfilled_is_a_result_and_exit_code_1() {
    let place = Place::new();
    let elsewhere = place.at("elsewhere");
    for change in [
        &(|request: &mut Value| request["schema_version"] = json!(2)) as &dyn Fn(&mut Value),
        &|request| request["protocol"] = json!("other"),
        &|request| request["realized_path"] = json!(elsewhere),
        &|request| request["realized_path"] = json!("aaaa-x"),
        &|request| request["realized_path"] = json!(place.at("store/missing")),
        &|request| request["realized_path"] = json!(place.at("store/aaaa-x/../../elsewhere")),
    ] {
        let request = place.request(change);
        let output = place.fulfill(&[request.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let printed: PreparedOutputResultRecord = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed.status, FulfillmentStatus::Failed);
        assert!(text(&output.stderr).contains(printed.error.as_ref().unwrap()), "{output:?}");
        assert!(!place.at("run/jobs").exists());
    }
}

#[test]
fn the_store_of_the_machine_is_nix_store_where_nothing_else_is_said() {
    let place = Place::new();
    let request = place.request(|_| {});
    let program = built_program!("pikaci-fulfill-prepared-output");
    #[expect(
        clippy::disallowed_methods,
        reason = "the programs under test are started as a user starts them"
    )]
    let output = std::process::Command::new(program).env_clear().arg(&request).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("not a path below /nix/store"), "{output:?}");
}

#[test]
fn wrong_usage_of_the_helpers_is_exit_code_1_with_the_usage() {
    let place = Place::new();
    for args in [&[][..], &["a", "b"], &["--result-path"], &["--what", "x"], &["--result-path", "x"]] {
        let output = place.fulfill(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains("Usage: pikaci-fulfill-prepared-output"), "{output:?}");
    }
    for args in [&[][..], &["a", "b"], &["--what"]] {
        let output = place.launch(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains("Usage: pikaci-launch-fulfill-prepared-output"), "{output:?}");
    }
    for output in [place.fulfill(&["--help"]), place.launch(&["--help"])] {
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).starts_with("Usage: "));
    }
}

#[test]
fn the_launcher_gives_the_helper_its_paths_and_ends_as_it_does() {
    let place = Place::new();
    let launch = place.launch_request(&place.script("echo \"$@\"; echo oops >&2; exit 7"));
    let output = place.launch(&[&launch]);
    assert_eq!(output.status.code(), Some(7));
    let (result, request) =
        (place.at("run/prepared-output-results/n.json"), place.at("run/prepared-output-requests/n.json"));
    assert_eq!(text(&output.stdout), format!("--result-path {} {}\n", result.display(), request.display()));
    assert_eq!(text(&output.stderr), "oops\n");
    let launch = place.launch_request(&place.script("kill -9 $$"));
    assert_eq!(place.launch(&[&launch]).status.code(), Some(1));
    let launch = place.launch_request("/nowhere/helper");
    assert_eq!(place.launch(&[&launch]).status.code(), Some(1));
}

#[test]
fn the_launcher_refuses_a_document_of_another_version() {
    let place = Place::new();
    let launch = place.launch_request(&place.script("touch \"$0.started\""));
    let document = fs::read_to_string(&launch).unwrap();
    fs::write(&launch, document.replace("\"schema_version\":1", "\"schema_version\":2")).unwrap();
    let output = place.launch(&[&launch]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("schema_version is 2"), "{output:?}");
    assert!(!place.at("helper.started").exists());
}
