//! Where in a cluster the guests of jobs go.

use jericho_testkit::cluster::Cluster;

use crate::common::{Ended, Tree};

const TARGETS: &str = "\
[targets.t.jobs.one]
runtime = \"incus\"
target = \"n2\"
command = \"grep ' /workspace/snapshot ' /proc/self/mountinfo\"
[targets.t.jobs.two]
runtime = \"incus\"
command = \"grep ' /workspace/snapshot ' /proc/self/mountinfo\"
";

#[test]
fn a_job_says_which_member_of_a_cluster_it_goes_to_before_the_host_and_after_the_flag() {
    let test = "a_job_says_which_member_of_a_cluster_it_goes_to_before_the_host_and_after_the_flag";
    let Some(programs) = jericho_testkit::program::guest_programs(test) else { return };
    let Some(cluster) = Cluster::up(test) else { return };
    let (project, rig) = (cluster.project(4).unwrap(), cluster.rig());
    let tree = Tree::with_targets(TARGETS);
    let (name, image, socket) = (project.name(), rig.image_alias(), rig.socket().display());
    let user_file = tree.outside().join("config.toml");
    let text = format!(
        "[incus]\nproject = \"{name}\"\nprofile = \"default\"\nimage = \"{image}\"\nsocket = \"{socket}\"\ntarget = \"n3\"\n"
    );
    std::fs::write(&user_file, text).unwrap();
    let state_root = project.dir().join("state");
    let pikaci = |args: &[&str]| {
        let mut pikaci = tree.pikaci(args);
        pikaci
            .env("JERICHOCI_CONFIG", &user_file)
            .env("JERICHOCI_GUEST_RUNNER_DIR", &programs)
            .env("JERICHOCI_STATE_ROOT", &state_root);
        Ended::of(pikaci.output().unwrap())
    };
    // Of each job of the last run: the member that was chosen for it, and the pool that it has seen its source in.
    let members = |args: &[&str]| {
        pikaci(args).code(0);
        let log = |job, kind| pikaci(&["logs", "latest", "--job", job, "--kind", kind]).code(0).stdout;
        let after = |text: &str, words: &str| {
            let rest = text.split_once(words).unwrap_or_else(|| panic!("{words} is not in {text}")).1;
            rest.split([':', ' ']).next().unwrap().to_owned()
        };
        let (mut chosen, mut pools) = (Vec::new(), Vec::new());
        for job in ["one", "two"] {
            chosen.push(after(&log(job, "host"), "snapshot on the cluster member "));
            pools.push(after(&log(job, "guest"), " - btrfs "));
        }
        (chosen.join(" "), pools[0] == pools[1])
    };
    let plan = pikaci(&["plan", "t"]).code(0).stdout;
    assert!(plan.contains(&format!("local incus {image} at n2;")), "{plan}");
    assert_eq!(members(&["run", "t"]), ("n2 n3".to_owned(), false));
    assert_eq!(members(&["rerun", "latest"]), ("n2 n3".to_owned(), false));
    assert_eq!(members(&["run", "t", "--incus-target", "n1"]), ("n1 n1".to_owned(), true));
    // What was said for a run is said for its reruns, unless something else is.
    assert_eq!(members(&["rerun", "latest"]), ("n1 n1".to_owned(), true));
    assert_eq!(members(&["rerun", "latest"]), ("n1 n1".to_owned(), true));
    assert_eq!(members(&["rerun", "latest", "--incus-target", "n2"]), ("n2 n2".to_owned(), true));
    assert_eq!(members(&["rerun", "latest", "--current"]), ("n2 n3".to_owned(), false));
}
