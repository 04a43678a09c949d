//! Prepared outputs: links where they belong, nowhere else, and results that do not lie.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelToken, Host, LocalHost, SshConfig, SshHost};
use jerichoci::model::outputs::{
    FulfillmentStatus, PayloadManifestRecord, PayloadMountRecord, PreparedOutputRequestRecord,
    PreparedOutputResultRecord,
};
use jerichoci::model::record::RunRecord;
use jerichoci::model::staged::StagedLinuxRustPayloadRole;
use jerichoci::run::layout::RunLayout;
use jerichoci::run::outputs::expose::expose;
use jerichoci::run::outputs::fulfill::{check_result, load_ssh_transport_request};
use jerichoci::run::outputs::mode::{Invocation, Mode, Transport};
use jerichoci::run::outputs::payload::{MANIFEST, check_manifest, load_manifest, mounts};
use jerichoci::run::outputs::realize::{Locks, NixOnHost};
use jerichoci::run::outputs::transport::{Route, check_remote_result};
use jerichoci::run::outputs::{
    OutputsError, fulfill_prepared_output_request, fulfill_prepared_output_request_result,
    load_prepared_output_fulfillment_launch_request, staged_linux_remote_defaults,
};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Rig {
    dir: TempDir,
    run: PathBuf,
    store: PathBuf,
    output: PathBuf,
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (run, store) = (root.join("runs/r"), root.join("store"));
    let output = store.join("aaaa-x");
    fs::create_dir_all(run.join("prepared-output-requests")).unwrap();
    fs::create_dir_all(&output).unwrap();
    Rig { dir, run, store, output }
}

impl Rig {
    fn request(&self, exposures: &[PathBuf]) -> Value {
        let exposures: Vec<Value> = exposures
            .iter()
            .map(|path| json!({ "kind": "host_symlink_mount", "path": path, "access": "read_only" }))
            .collect();
        json!({ "schema_version": 1, "node_id": "n", "installable": "path:/s#x", "output_name": "x",
            "protocol": "nix_store_path_v1", "residency": "local_authoritative",
            "realized_path": self.output, "requested_exposures": exposures })
    }

    fn write(&self, request: &Value) -> PathBuf {
        let path = self.run.join("prepared-output-requests/n.json");
        fs::write(&path, request.to_string()).unwrap();
        path
    }

    fn fulfill(&self, request: &Value) -> PreparedOutputResultRecord {
        fulfill_prepared_output_request_result(&self.write(request), None, &self.store).unwrap()
    }

    fn manifest(&self, host: &dyn Host) -> Result<Option<PayloadManifestRecord>, OutputsError> {
        let env = [("PATH", "/usr/bin:/bin")].into_iter().collect();
        load_manifest(host, &env, &self.output, &CancelToken::new().unwrap())
    }
}

#[test]
fn a_request_is_fulfilled_by_links_and_again_with_the_same_result() {
    let rig = rig();
    let mount = rig.run.join("jobs/j/staged-linux-rust/workspace-deps");
    let request = rig.write(&rig.request(std::slice::from_ref(&mount)));
    let result_path = rig.run.join("prepared-output-results/n.json");
    for _ in 0..2 {
        let result =
            fulfill_prepared_output_request_result(&request, Some(&result_path), &rig.store).unwrap();
        assert_eq!(result.status, FulfillmentStatus::Succeeded, "{:?}", result.error);
        assert_eq!(result.fulfilled_exposures_count, 1);
        assert_eq!(fs::read_link(&mount).unwrap(), rig.output);
        let written: PreparedOutputResultRecord =
            serde_json::from_slice(&fs::read(&result_path).unwrap()).unwrap();
        assert_eq!(written, result);
        let document: PreparedOutputRequestRecord =
            serde_json::from_slice(&fs::read(&request).unwrap()).unwrap();
        check_result(&result, &request, &document, true, false).unwrap();
    }
    let left: Vec<_> = fs::read_dir(mount.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary names");
}

#[test]
fn a_link_replaces_whatever_was_there() {
    let rig = rig();
    let mount = rig.run.join("jobs/j/m");
    fs::create_dir_all(rig.run.join("jobs/j")).unwrap();
    let outside = rig.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "").unwrap();
    let put: [&dyn Fn(); 5] = [
        &|| symlink("/nowhere", &mount).unwrap(),
        &|| symlink(&outside, &mount).unwrap(),
        &|| fs::write(&mount, "file").unwrap(),
        &|| fs::create_dir(&mount).unwrap(),
        &|| fs::create_dir_all(mount.join("a/b")).unwrap(),
    ];
    for put in put {
        put();
        expose(Some(&rig.run), &mount, &rig.output).unwrap();
        assert_eq!(fs::read_link(&mount).unwrap(), rig.output);
        fs::remove_file(&mount).unwrap();
        assert_eq!(fs::read_dir(rig.run.join("jobs/j")).unwrap().count(), 0);
    }
    assert!(outside.join("precious").exists(), "links are replaced, not followed");
}

#[test]
fn outside_of_a_run_directory_no_tree_is_removed() {
    let rig = rig();
    let mount = rig.dir.path().canonicalize().unwrap().join("elsewhere/m");
    expose(None, &mount, &rig.output).unwrap();
    assert_eq!(fs::read_link(&mount).unwrap(), rig.output);
    fs::remove_file(&mount).unwrap();
    fs::create_dir(&mount).unwrap();
    expose(None, &mount, &rig.output).unwrap();
    fs::remove_file(&mount).unwrap();
    fs::create_dir_all(mount.join("full")).unwrap();
    expose(None, &mount, &rig.output).unwrap_err();
    assert!(mount.join("full").is_dir());
}

#[test]
fn an_exposure_never_leaves_its_run_directory() {
    let rig = rig();
    let outside = rig.dir.path().canonicalize().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(rig.run.join("jobs")).unwrap();
    symlink(&outside, rig.run.join("jobs/link")).unwrap();
    for path in [
        outside.join("m"),
        rig.run.join("jobs/../../../outside/m"),
        rig.run.join("jobs/link/m"),
        rig.run.clone(),
        PathBuf::from("relative/m"),
    ] {
        let result = rig.fulfill(&rig.request(std::slice::from_ref(&path)));
        assert_eq!(result.status, FulfillmentStatus::Failed, "{}", path.display());
        assert_eq!(result.fulfilled_exposures_count, 0);
        assert!(result.error.is_some());
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn what_is_no_store_path_is_not_exposed() {
    let rig = rig();
    let mount = rig.run.join("m");
    let outside = rig.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    for (bad, why) in [
        (outside.clone(), "not a path below"),
        (rig.store.clone(), "not a path below"),
        (rig.store.join("../outside"), "not an absolute path"),
        (rig.store.join("missing"), "cannot find"),
        (rig.store.with_file_name("store2/x"), "not a path below"),
        (PathBuf::from("aaaa-x"), "not an absolute path"),
    ] {
        let mut request = rig.request(std::slice::from_ref(&mount));
        request["realized_path"] = json!(bad);
        let result = rig.fulfill(&request);
        let error = result.error.unwrap();
        assert_eq!(result.status, FulfillmentStatus::Failed, "{}", bad.display());
        assert!(error.contains(why), "{}: {error}", bad.display());
    }
    for (key, value, why) in [
        ("schema_version", json!(2), "schema_version is 2"),
        ("protocol", json!("other"), "other"),
        ("schema_version", json!(null), "schema_version is missing"),
    ] {
        let mut request = rig.request(std::slice::from_ref(&mount));
        request[key] = value;
        let result = rig.fulfill(&request);
        assert_eq!((result.status, result.node_id), (FulfillmentStatus::Failed, None));
        let error = result.error.unwrap();
        assert!(error.contains(why), "{key}: {error}");
    }
    assert!(fs::symlink_metadata(&mount).is_err());
    // Without a word about the store it is the real one.
    fulfill_prepared_output_request(&rig.write(&rig.request(&[mount]))).unwrap_err();
}

#[test]
fn a_result_that_differs_in_anything_is_refused() {
    let rig = rig();
    let mount = rig.run.join("m");
    let request_path = rig.write(&rig.request(std::slice::from_ref(&mount)));
    let request: PreparedOutputRequestRecord =
        serde_json::from_slice(&fs::read(&request_path).unwrap()).unwrap();
    let good = rig.fulfill(&rig.request(&[mount]));
    check_result(&good, &request_path, &request, true, false).unwrap();
    let refused = |change: &dyn Fn(&mut PreparedOutputResultRecord)| {
        let mut result = good.clone();
        change(&mut result);
        check_result(&result, &request_path, &request, true, false).unwrap_err().to_string()
    };
    assert!(refused(&|r| r.status = FulfillmentStatus::Failed).contains("the helper failed"));
    assert!(refused(&|r| r.schema_version = 2).contains("schema_version"));
    assert!(refused(&|r| r.request_path = "/x".into()).contains("another request"));
    assert!(refused(&|r| r.fulfilled_exposures_count = 2).contains("counts 2"));
    assert!(refused(&|r| r.fulfilled_exposures[0].path = "/x".into()).contains("other exposures"));
    assert!(refused(&|r| r.node_id = None).contains("node_id"));
    assert!(refused(&|r| r.output_name = Some("y".into())).contains("output_name"));
    assert!(refused(&|r| r.realized_path = Some("/y".into())).contains("realized_path"));
    let exited = check_result(&good, &request_path, &request, false, false).unwrap_err().to_string();
    assert!(exited.contains("did not exit with 0"), "{exited}");
    // Of two differences the first is told: what a helper says of itself comes before what it says of others.
    let failed = |r: &mut PreparedOutputResultRecord| r.status = FulfillmentStatus::Failed;
    let version = |r: &mut PreparedOutputResultRecord| r.schema_version = 2;
    let request_of = |r: &mut PreparedOutputResultRecord| r.request_path = "/x".into();
    let count = |r: &mut PreparedOutputResultRecord| r.fulfilled_exposures_count = 2;
    let exposures = |r: &mut PreparedOutputResultRecord| {
        r.fulfilled_exposures.clear();
        r.fulfilled_exposures_count = 0;
    };
    let node = |r: &mut PreparedOutputResultRecord| r.node_id = None;
    let output = |r: &mut PreparedOutputResultRecord| r.output_name = None;
    let realized = |r: &mut PreparedOutputResultRecord| r.realized_path = None;
    type Change<'a> = &'a dyn Fn(&mut PreparedOutputResultRecord);
    let rules: [(Change<'_>, &str); 7] = [
        (&failed, "the helper failed"),
        (&version, "schema_version"),
        (&request_of, "another request"),
        (&count, "counts 2"),
        (&node, "node_id"),
        (&output, "output_name"),
        (&realized, "realized_path"),
    ];
    for pair in rules.windows(2) {
        let [(first, told), (second, _)] = pair else { continue };
        let both = |r: &mut PreparedOutputResultRecord| {
            second(r);
            first(r);
        };
        let told_of = refused(&both);
        assert!(told_of.contains(told), "{told}: {told_of}");
    }
    let both = |r: &mut PreparedOutputResultRecord| {
        exposures(r);
        node(r);
    };
    assert!(refused(&both).contains("other exposures"));
    let mut empty = good.clone();
    empty.fulfilled_exposures.clear();
    empty.fulfilled_exposures_count = 0;
    check_result(&empty, &request_path, &request, true, true).unwrap();
    check_result(&empty, &request_path, &request, true, false).unwrap_err();
}

fn fixture(name: &str) -> PathBuf {
    jericho_testkit::crate_dir!().join("tests/fixtures/v0").join(name)
}

#[test]
fn launch_and_transport_requests_are_checked_when_read() {
    let launch = load_prepared_output_fulfillment_launch_request(&fixture("launch-request.json")).unwrap();
    assert_eq!(launch.helper_request_path, "/s/req.json");
    load_ssh_transport_request(&fixture("transport-request.json")).unwrap();
    let error = load_ssh_transport_request(&fixture("transport-request-minimal.json")).unwrap_err();
    assert!(error.to_string().contains("path_contract"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let mut document: Value =
        serde_json::from_slice(&fs::read(fixture("transport-request.json")).unwrap()).unwrap();
    let path = dir.path().join("t.json");
    for name in [
        "remote_host",
        "local_run_dir",
        "remote_work_dir",
        "remote_launcher_program",
        "remote_helper_program",
    ] {
        let mut without = document.clone();
        without[name] = Value::Null;
        fs::write(&path, without.to_string()).unwrap();
        let error = load_ssh_transport_request(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("{name} is missing")), "{error}");
    }
    document["schema_version"] = json!(2);
    fs::write(&path, document.to_string()).unwrap();
    assert!(load_ssh_transport_request(&path).unwrap_err().to_string().contains("schema_version is 2"));
}

#[test]
fn a_payload_manifest_stays_in_its_output() {
    let rig = rig();
    assert_eq!(rig.manifest(&LocalHost::new()).unwrap(), None);
    fs::create_dir_all(rig.output.join("share/jerichoci")).unwrap();
    fs::copy(fixture("payload-manifest.json"), rig.output.join(MANIFEST)).unwrap();
    let good = rig.manifest(&LocalHost::new()).unwrap().unwrap();
    let refused = |change: &dyn Fn(&mut PayloadManifestRecord)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        check_manifest(&manifest).unwrap_err();
    };
    refused(&|m| m.schema_version = 2);
    refused(&|m| m.mounts[0].name = " ".into());
    refused(&|m| m.mounts[0].relative_path = "../x".into());
    refused(&|m| m.mounts[0].relative_path = "/x".into());
    refused(&|m| m.mounts[0].guest_path = "x".into());
    refused(&|m| m.mounts[0].guest_path = "/x/../y".into());
    refused(&|m| m.entrypoints[0].relative_path = "bin/../../x".into());
}

#[test]
fn a_payload_manifest_is_a_short_file_of_the_store_here_and_on_a_host() {
    let test = "a_payload_manifest_is_a_short_file_of_the_store_here_and_on_a_host";
    let Some(sshd) = jericho_testkit::ssh::Rig::start(test) else { return };
    let ssh = SshHost::new(SshConfig {
        config_file: Some(sshd.config()),
        control_dir: sshd.control_dir(),
        env: [("PATH", "/usr/bin:/bin")].into_iter().collect(),
        ..SshConfig::new("rig")
    })
    .unwrap();
    let rig = rig();
    fs::create_dir_all(rig.output.join("share/jerichoci")).unwrap();
    let manifest = rig.output.join(MANIFEST);
    let to = |target: &Path| {
        let _ = fs::remove_file(&manifest);
        symlink(target, &manifest).unwrap();
    };
    let outside = rig.dir.path().canonicalize().unwrap().join("outside");
    fs::copy(fixture("payload-manifest.json"), &outside).unwrap();
    let fifo = rig.store.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let other = rig.store.join("bbbb-other");
    fs::copy(&outside, &other).unwrap();
    let long = rig.store.join("cccc-long");
    fs::write(&long, vec![b' '; (1 << 20) + 1]).unwrap();
    for host in [&LocalHost::new() as &dyn Host, &ssh] {
        let refused = || rig.manifest(host).unwrap_err().to_string();
        to(&outside);
        assert!(refused().contains(&format!("{} outside of the store", outside.display())));
        // Neither is opened: the first would never end, the second would never stop.
        to(&fifo);
        assert!(refused().contains("not a regular file"), "{}", refused());
        to(Path::new("/dev/zero"));
        assert!(refused().contains("/dev/zero outside of the store"), "{}", refused());
        to(&long);
        assert!(refused().contains("longer than"), "{}", refused());
        to(Path::new("/nowhere"));
        assert_eq!(rig.manifest(host).unwrap(), None);
        to(&other);
        assert!(rig.manifest(host).unwrap().is_some(), "of another output of the same store");
    }
}

#[test]
fn a_mode_survives_its_eight_fields() {
    let mut run: RunRecord =
        serde_json::from_slice(&fs::read(fixture("run-fulfilled-over-ssh.json")).unwrap()).unwrap();
    let ssh = Mode::from_record(&run).unwrap().unwrap();
    let before = run.clone();
    ssh.write_to(&mut run);
    assert_eq!(run, before);
    let launcher = |transport| Mode::Fulfill {
        subprocess: false,
        invocation: Invocation::Launcher { program: Some("/l".into()), transport },
    };
    for mode in [
        Mode::HostLocalSymlinks,
        Mode::RemoteRequest,
        Mode::Fulfill { subprocess: true, invocation: Invocation::Direct },
        launcher(Transport::Direct),
        launcher(Transport::Command { program: "/t".into() }),
        ssh,
    ] {
        mode.write_to(&mut run);
        assert_eq!(Mode::from_record(&run).unwrap(), Some(mode));
    }
    run.prepared_output_mode = Some("other".into());
    Mode::from_record(&run).unwrap_err();
    run.prepared_output_mode = None;
    run.prepared_output_launcher_transport_program = None;
    run.prepared_output_launcher_transport_mode =
        Some(jerichoci::model::outputs::LauncherTransportMode::CommandTransportV1);
    Mode::from_record(&run).unwrap_err();
}

#[test]
fn the_built_in_settings_have_their_documented_keys() {
    assert_eq!(
        serde_json::to_string(&staged_linux_remote_defaults()).unwrap(),
        r#"{"ssh_binary":"/usr/bin/ssh","ssh_nix_binary":"nix","ssh_host":"pika-build","remote_work_dir":"/var/tmp/jerichoci-prepared-output","remote_launcher_binary":"/run/current-system/sw/bin/pikaci-launch-fulfill-prepared-output","remote_helper_binary":"/run/current-system/sw/bin/pikaci-fulfill-prepared-output","store_uri":"ssh://pika-build"}"#
    );
}

#[test]
fn a_hosts_result_that_differs_in_anything_is_refused() {
    let rig = rig();
    let mount = rig.run.join("m");
    let request_path = rig.write(&rig.request(std::slice::from_ref(&mount)));
    let request: PreparedOutputRequestRecord =
        serde_json::from_slice(&fs::read(&request_path).unwrap()).unwrap();
    let good = rig.fulfill(&rig.request(&[mount]));
    check_remote_result(&good, &request_path, &request).unwrap();
    let refused = |change: &dyn Fn(&mut PreparedOutputResultRecord)| {
        let mut result = good.clone();
        change(&mut result);
        check_remote_result(&result, &request_path, &request).unwrap_err().to_string()
    };
    assert!(refused(&|r| r.schema_version = 2).contains("schema_version"));
    assert!(refused(&|r| r.status = FulfillmentStatus::Failed).contains("it failed"));
    let failed_of_another_version = refused(&|r| {
        r.schema_version = 2;
        r.status = FulfillmentStatus::Failed;
    });
    assert!(failed_of_another_version.contains("it failed"));
    assert!(refused(&|r| r.request_path = "/x".into()).contains("another request"));
    assert!(refused(&|r| r.node_id = None).contains("node_id"));
    assert!(refused(&|r| r.output_name = Some("y".into())).contains("output_name"));
    assert!(refused(&|r| r.realized_path = Some("/y".into())).contains("realized_path"));
    assert!(refused(&|r| r.fulfilled_exposures_count = 2).contains("counts 2"));
    assert!(refused(&|r| r.fulfilled_exposures[0].path = "/x".into()).contains("other exposures"));
    // Empty is no answer: a host that has the output makes the links.
    let empty = refused(&|r| {
        r.fulfilled_exposures.clear();
        r.fulfilled_exposures_count = 0;
    });
    assert!(empty.contains("other exposures"));
}

fn ssh() -> Transport {
    let some = |text: &str| Some(text.to_owned());
    Transport::Ssh {
        program: None,
        host: some("box"),
        remote_launcher_program: some("/l"),
        remote_helper_program: some("/h"),
        remote_work_dir: some("/work"),
    }
}

#[test]
fn only_paths_below_the_run_directory_go_over_to_a_host() {
    let run = RunLayout::at("/s/runs/r");
    let route = Route::new(&ssh(), &run).unwrap();
    let there = |path: &str| route.translate(Path::new(path));
    assert_eq!(there("/s/runs/r/jobs/j/m").unwrap(), Path::new("/work/runs/r/jobs/j/m"));
    for bad in ["/s/runs/r", "/s/runs/rr/x", "/s/runs/r/../x", "/s/runs", "/elsewhere", "jobs/j"] {
        assert!(there(bad).unwrap_err().to_string().contains("not below the run directory"), "{bad}");
    }
}

#[test]
fn a_route_needs_all_of_its_parts() {
    let run = RunLayout::at("/s/runs/r");
    let without = |change: &dyn Fn(&mut Transport)| {
        let mut transport = ssh();
        change(&mut transport);
        Route::new(&transport, &run).unwrap_err().to_string()
    };
    let part = |name: &'static str| {
        move |transport: &mut Transport| {
            let Transport::Ssh {
                host, remote_launcher_program, remote_helper_program, remote_work_dir, ..
            } = transport
            else {
                return;
            };
            match name {
                "host" => *host = None,
                "launcher" => *remote_launcher_program = Some(String::new()),
                "helper" => *remote_helper_program = None,
                _ => *remote_work_dir = None,
            }
        }
    };
    assert!(without(&part("host")).contains("host"));
    assert!(without(&part("launcher")).contains("remote launcher program"));
    assert!(without(&part("helper")).contains("remote helper program"));
    assert!(without(&part("work dir")).contains("remote work directory"));
    assert!(without(&|transport| *transport = Transport::Direct).contains("not SSH"));
    let relative = without(&|transport| {
        if let Transport::Ssh { remote_work_dir, .. } = transport {
            *remote_work_dir = Some("work/../x".into());
        }
    });
    assert!(relative.contains("not an absolute path"), "{relative}");
}

#[test]
fn what_a_job_sees_of_an_output_stays_in_the_store_also_after_links() {
    let rig = rig();
    let cancel = CancelToken::new().unwrap();
    let nix = NixOnHost {
        host: Arc::new(LocalHost::new()),
        program: "nix".into(),
        env: [("PATH", "/usr/bin:/bin")].into_iter().collect(),
        sources: rig.run.join("sources"),
        locks: Locks::Here(rig.run.join("locks")),
        grace: Duration::from_secs(1),
        answer_limit: Duration::from_secs(60),
    };
    let role = StagedLinuxRustPayloadRole::WorkspaceDeps;
    let mount = |relative: &str, guest: &str| PayloadMountRecord {
        name: "m".into(),
        relative_path: relative.into(),
        guest_path: guest.into(),
        read_only: true,
    };
    let manifest = |mounts: Vec<PayloadMountRecord>| PayloadManifestRecord {
        schema_version: 1,
        kind: role.manifest_kind().to_owned(),
        entrypoints: Vec::new(),
        asset_roots: Vec::new(),
        mounts,
    };
    let guest = role.guest_mount_path();
    let of = |manifest: &PayloadManifestRecord| mounts(&nix, &rig.output, manifest, Some(role), &cancel);
    let other = rig.store.join("bbbb-other");
    fs::create_dir_all(other.join("lib")).unwrap();
    symlink(other.join("lib"), rig.output.join("lib")).unwrap();
    let seen = of(&manifest(vec![mount(".", guest), mount("lib", "/staged/lib")])).unwrap();
    assert_eq!(seen[0].source, rig.output);
    assert_eq!(seen[1].source, other.join("lib"), "another output of the same store");

    let refused = |manifest: PayloadManifestRecord| of(&manifest).unwrap_err().to_string();
    symlink("/etc", rig.output.join("out")).unwrap();
    symlink("../..", rig.output.join("up")).unwrap();
    for link in ["out", "up"] {
        assert!(refused(manifest(vec![mount(link, guest)])).contains("outside of the store"), "{link}");
    }
    assert!(refused(manifest(vec![mount("missing", guest)])).contains("not there"));
    assert!(refused(manifest(vec![mount("../bbbb-other", guest)])).contains("not a path in the output"));
    assert!(refused(manifest(vec![mount(".", "/elsewhere")])).contains(guest));
    assert!(refused(manifest(vec![mount(".", guest), mount("lib", guest)])).contains("two things"));
    assert!(refused(manifest(Vec::new())).contains("shows nothing"));
    let mut writable = manifest(vec![mount(".", guest)]);
    writable.mounts[0].read_only = false;
    assert!(refused(writable).contains("writable"));
    let mut kind = manifest(vec![mount(".", guest)]);
    kind.kind = "staged_linux_workspace_build_v1".into();
    assert!(refused(kind).contains("in place of"));
}
