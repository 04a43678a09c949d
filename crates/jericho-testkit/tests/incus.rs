//! The rig of the tests with Incus keeps its own promises.

use jericho_testkit::incus::Rig;

#[test]
fn all_users_of_the_rig_have_one_daemon_and_each_a_project_that_goes_with_it() {
    let name = "all_users_of_the_rig_have_one_daemon_and_each_a_project_that_goes_with_it";
    let Some(rig) = Rig::up(name) else { return };
    let again = std::thread::scope(|scope| {
        let others = [(); 3].map(|()| scope.spawn(|| Rig::up(name).unwrap().daemon().unwrap()));
        others.map(|other| other.join().unwrap())
    });
    assert_eq!(again, [rig.daemon().unwrap(); 3]);

    let projects = || rig.ask("GET", "/1.0/projects", None).unwrap().to_string();
    let (project, other) = (rig.project(2).unwrap(), rig.project(2).unwrap());
    assert_ne!(project.name(), other.name());
    assert!(projects().contains(project.name()));
    let body = serde_json::json!({ "name": "left", "type": "container", "profiles": ["default"],
        "source": { "type": "image", "alias": rig.image_alias() }, "start": true });
    rig.ask("POST", &format!("/1.0/instances?project={}", project.name()), Some(&body)).unwrap();
    assert_eq!(project.exec("left", "id -un 1000").unwrap(), "jericho\n");
    let (name, dir) = (project.name().to_owned(), project.dir().to_owned());
    drop(project);
    assert!(!projects().contains(&format!("{name}\"")) && !dir.exists(), "a running guest does not keep it");
    assert_eq!(other.instances().unwrap(), Vec::<String>::new());
}

#[test]
fn a_rig_of_ones_own_is_another_daemon_and_ends_also_after_it_was_killed() {
    let Some(shared) = Rig::up("a_rig_of_ones_own_is_another_daemon_and_ends_also_after_it_was_killed")
    else {
        return;
    };
    let Some(own) = Rig::own("a_rig_of_ones_own_is_another_daemon_and_ends_also_after_it_was_killed") else {
        return;
    };
    let (first, socket) = (own.daemon().unwrap(), own.socket().to_owned());
    assert_ne!(first, shared.daemon().unwrap());
    let project = own.project(2).unwrap();
    let body = serde_json::json!({ "name": "survivor", "type": "container", "profiles": ["default"],
        "source": { "type": "image", "alias": own.image_alias() }, "start": true });
    own.ask("POST", &format!("/1.0/instances?project={}", project.name()), Some(&body)).unwrap();
    let state = format!("/1.0/instances/survivor/state?project={}", project.name());
    let init = own.ask("GET", &state, None).unwrap()["pid"].as_i64().unwrap();
    own.kill_daemon().unwrap();
    // A zombie is gone: whoever is to collect it may take its time.
    let is_there = |pid: i64| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    };
    assert!(is_there(init), "guests survive their daemon");
    drop(project);
    drop(own);
    assert!(!is_there(init) && !is_there(first.into()) && !socket.exists());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(socket.parent().unwrap().to_str().unwrap()), "{mounts}");
}
