//! Owners find their own instances, and end no others.

use std::collections::BTreeMap;

use jericho_testkit::incus::Rig;
use pika_cloud::LifecycleState;
use pika_cloud::ops::{Labels, OpsError, Silence};

use crate::common::{assert_nothing_left, incus, spec};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn reaping_ends_ones_own_instances_and_leaves_those_of_others_alone() {
    let Some(rig) = Rig::up("reaping_ends_ones_own_instances_and_leaves_those_of_others_alone") else {
        return;
    };
    let project = rig.project(8).unwrap();
    let incus = incus(&rig);
    for (name, owner, run) in [
        ("mine-1", "a's \"engine\", no. 1", "1"),
        ("mine-2", "a's \"engine\", no. 1", "2"),
        ("theirs", "b", "1"),
    ] {
        let spec = spec(&rig, &project, name).with_label("engine", owner).with_label("user.run", run);
        incus.ensure(&spec.plan().unwrap(), &mut Silence).unwrap();
    }
    let mine = labels(&[("engine", "a's \"engine\", no. 1")]);
    let names = |labels: &Labels| {
        let listed = incus.list(project.name(), labels).unwrap();
        listed.into_iter().map(|listed| listed.instance.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&mine), ["mine-1", "mine-2"]);
    assert_eq!(names(&labels(&[("user.engine", "b")])), ["theirs"]);
    assert_eq!(names(&labels(&[("engine", "b"), ("run", "2")])), Vec::<String>::new());
    assert_eq!(names(&BTreeMap::new()), ["mine-1", "mine-2", "theirs"]);

    let listed = incus.list(project.name(), &mine).unwrap().remove(0);
    assert_eq!((listed.label("run"), listed.infrastructure), (Some("1"), LifecycleState::Booted));
    incus.set_labels(&listed.instance, &labels(&[("keep_until", "tomorrow")])).unwrap();

    let reaped = incus.reap(project.name(), &mine, &|listed| listed.label("keep_until").is_some()).unwrap();
    let gone: Vec<_> = reaped.destroyed.iter().map(|listed| listed.instance.name.as_str()).collect();
    assert_eq!((gone, reaped.spared.len(), reaped.failed.len()), (vec!["mine-2"], 1, 0));
    assert_eq!(project.instances().unwrap(), ["mine-1", "theirs"]);

    let reaped = incus.reap(project.name(), &mine, &|_| false).unwrap();
    assert_eq!(reaped.destroyed.len(), 1);
    assert_eq!(project.instances().unwrap(), ["theirs"]);

    let error = incus.reap(project.name(), &Labels::new(), &|_| false).unwrap_err();
    assert!(matches!(error, OpsError::Failed { .. }), "{error:?}");
    assert_eq!(project.instances().unwrap(), ["theirs"], "no label, no reaping");
    incus.reap(project.name(), &labels(&[("engine", "b")]), &|_| false).unwrap();
    assert_nothing_left(&project);
}

#[test]
fn an_instance_of_that_name_that_is_anothers_is_left_alone() {
    let Some(rig) = Rig::up("an_instance_of_that_name_that_is_anothers_is_left_alone") else { return };
    let project = rig.project(8).unwrap();
    let incus = incus(&rig);
    let theirs = spec(&rig, &project, "taken").with_label("engine", "b").plan().unwrap();
    let ensured = incus.ensure(&theirs, &mut Silence).unwrap();
    let mine = spec(&rig, &project, "taken").with_label("engine", "a").plan().unwrap();
    let error = incus.ensure(&mine, &mut Silence).unwrap_err();
    assert!(matches!(&error, OpsError::Conflict { name, .. } if name == "taken"), "{error:?}");
    assert!(error.to_string().contains("user.engine"), "{error}");
    // The same owner, with other limits.
    let larger = spec(&rig, &project, "taken").with_label("engine", "b").with_cpus(2).plan().unwrap();
    assert!(matches!(incus.ensure(&larger, &mut Silence), Err(OpsError::Conflict { .. })));
    assert_eq!(project.instances().unwrap(), ["taken"]);

    // A stopped one that is what was asked for is started.
    incus.stop(&ensured.instance).unwrap();
    assert!(!incus.ensure(&theirs, &mut Silence).unwrap().created);
    let seen = incus.inspect(&ensured.instance, &theirs.paths).unwrap();
    assert_eq!(seen.infrastructure, LifecycleState::Booted);
    incus.destroy(&ensured.instance).unwrap();
    assert_nothing_left(&project);
}

#[test]
fn many_that_create_one_name_at_once_get_one_instance() {
    let Some(rig) = Rig::up("many_that_create_one_name_at_once_get_one_instance") else { return };
    let project = rig.project(8).unwrap();
    let plan = spec(&rig, &project, "one").plan().unwrap();
    let created = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| {
            let incus = incus(&rig);
            let plan = &plan;
            scope.spawn(move || incus.ensure(plan, &mut Silence))
        });
        threads.map(|thread| thread.join().unwrap())
    });
    let made = created.iter().filter(|ensured| ensured.as_ref().is_ok_and(|ensured| ensured.created)).count();
    assert_eq!(made, 1, "{created:?}");
    assert!(created.iter().all(Result::is_ok), "{created:?}");
    assert_eq!(project.instances().unwrap(), ["one"]);
    incus(&rig).destroy(&pika_cloud::ops::InstanceRef::of(&plan)).unwrap();
    assert_nothing_left(&project);
}
