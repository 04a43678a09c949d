//! An engine of another process, which is killed while it works.

use std::path::PathBuf;
use std::process::Child;

use jericho_host::CancelToken;
use jerichoci::config::HostConfig;
use jerichoci::model::demands::{CacheSharing, CacheSpec};
use jerichoci::{Engine, EngineConfig, NoReporter, RunRequest};

use crate::rig::{World, again, guest, on_host, variable};

/// Starts one that works on a job in a guest, of the host `box` when the world has one, until it is killed.
pub(crate) fn doomed_engine(world: &World<'_>) -> Child {
    doomed_engine_with(world, "echo begun; sleep 300", "")
}

/// The same with this script, and this cache at a path of its name.
pub(crate) fn doomed_engine_with(world: &World<'_>, script: &str, cache: &str) -> Child {
    let host = world.config.hosts.named.get("box");
    let incus = host.map_or(&world.config.incus, |host| &host.incus);
    let work_dir = host.map(|host| host.work_dir.clone()).unwrap_or_default();
    let variables = [
        ("JERICHO_TEST_ROOT", world.root.as_os_str()),
        ("JERICHO_TEST_PROJECT", incus.project.as_ref()),
        ("JERICHO_TEST_SOCKET", incus.socket.as_os_str()),
        ("JERICHO_TEST_IMAGE", incus.image_alias.as_ref().unwrap().as_ref()),
        ("JERICHO_TEST_RUNNERS", world.config.hosts.runner_dirs[0].as_os_str()),
        ("JERICHO_TEST_SSH", world.config.hosts.ssh_program.as_os_str()),
        ("JERICHO_TEST_WORK_DIR", work_dir.as_os_str()),
        ("JERICHO_TEST_SCRIPT", script.as_ref()),
        ("JERICHO_TEST_CACHE", cache.as_ref()),
    ];
    again("doomed::child_runs_a_job_for_ever", &variables).spawn().unwrap()
}

#[test]
fn child_runs_a_job_for_ever() {
    let Some(root) = variable("JERICHO_TEST_ROOT") else { return };
    let given = |name: &str| variable(name).unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let mut config = EngineConfig::new(root.join(".jerichoci"), &root);
    config.caller_environment =
        [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/nonexistent")].into_iter().collect();
    config.incus.socket = given("JERICHO_TEST_SOCKET");
    config.incus.project = text(given("JERICHO_TEST_PROJECT"));
    config.incus.profile = "default".to_owned();
    config.incus.image_alias = Some(text(given("JERICHO_TEST_IMAGE")));
    config.hosts.runner_dirs = vec![given("JERICHO_TEST_RUNNERS")];
    config.hosts.ssh_program = given("JERICHO_TEST_SSH").into();
    let mut endless = guest("endless", &text(given("JERICHO_TEST_SCRIPT")));
    let cache = text(given("JERICHO_TEST_CACHE"));
    if !cache.is_empty() {
        let spec = CacheSpec { path: format!("/{cache}"), sharing: CacheSharing::Locked };
        endless.caches.insert(cache, spec);
    }
    let work_dir = given("JERICHO_TEST_WORK_DIR");
    if work_dir.is_absolute() {
        let mut host = HostConfig::new("rig");
        host.work_dir = work_dir;
        host.incus = config.incus.clone();
        config.hosts.named.insert("box".to_owned(), host);
        endless = on_host(endless);
    }
    let cancel = CancelToken::new().unwrap();
    drop(Engine::new(config).run(&RunRequest::new(vec![endless]), &mut NoReporter, &cancel));
}
