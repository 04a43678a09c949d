//! Whether guests can be made on a machine: its Incus, and what they are made from.

use std::sync::Arc;
use std::time::Duration;

use jericho_host::HostError;
use pika_cloud::ops::{Incus, OpsError, Patience, Server, SocketHost};
use pika_incus_guest_role::IncusGuestRole;

use super::facts::Facts;
use super::mend::{disk_paths, is_not_forwarded};
use super::{Place, Visit, quoted};
use crate::engine::EngineError;

/// Extensions of its interface without which no job runs.
const NEEDED: [&str; 6] = [
    "container_exec_recording",
    "container_exec_user_group_cwd",
    "projects_restrictions",
    "storage_initial_owner",
    "storage_shifted",
    "container_disk_shift",
];

/// Without it a guest is made in two requests in place of one.
const FASTER: &str = "instance_create_start";

/// The profile that every guest has, below the one of the settings.
const BASE_PROFILE: &str = "default";

/// Drivers that make a guest without copying its image.
const FAST_DRIVERS: [&str; 5] = ["btrfs", "zfs", "lvm", "ceph", "lvmcluster"];

pub(super) fn check(
    visit: &mut Visit<'_>,
    place: &Place,
    facts: &Facts,
    sockets: Arc<dyn SocketHost>,
) -> Result<(), EngineError> {
    if !place.takes_guests {
        return Ok(());
    }
    if !socket(visit, place, facts) {
        return Ok(());
    }
    // Somebody waits and looks: what does not answer soon is told.
    let soon = Duration::from_secs(5);
    let patience = Patience { first_contact: soon, reconnect: soon, request: soon, ..Patience::default() };
    let incus = Incus::new(sockets, &place.incus.socket, visit.cancel).with_patience(patience);
    let server = match incus.server() {
        Ok(server) => server,
        Err(error) if visit.is_remote() && is_not_forwarded(&error, facts) => {
            let mend = place.mend(visit).forwarding(facts);
            let socket = place.incus.socket.display();
            visit.problem("incus", format!("sshd does not forward to {socket}, where Incus listens"), mend);
            return Ok(());
        }
        Err(error) => {
            let mend = match &error {
                OpsError::NoRights { .. } => place.mend(visit).grant(facts),
                _ => place.mend(visit).daemon_is_to("restart", facts),
            };
            return failed(visit, "incus", error, mend);
        }
    };
    visit.ok("incus", format!("Incus {} trusts {}", server.environment.server_version, facts.account()));
    api(visit, facts, &server);
    slow_stop(visit, facts);
    if !project(visit, place, facts, &incus)? {
        return Ok(());
    }
    if let Some(pool) = profile(visit, place, facts, &incus)? {
        storage(visit, place, &incus, &pool)?;
    }
    network(visit, place, &incus)?;
    target(visit, place, &incus)?;
    image(visit, place, &incus)
}

/// Which member of a cluster guests go to: as a run would choose it.
fn target(visit: &mut Visit<'_>, place: &Place, incus: &Incus) -> Result<(), EngineError> {
    const CHECK: &str = "incus_target";
    let target = place.incus.target.as_deref();
    match incus.member(target, "doctor") {
        // No cluster, and nobody wants one.
        Ok(None) => Ok(()),
        Ok(Some(member)) => {
            let found = match target {
                Some(group) if group.starts_with('@') => {
                    format!("a guest for {group} of the cluster would go to its member {member} now")
                }
                Some(_) => format!("guests go to the member {member} of the cluster"),
                None => format!("a guest would go to the member {member} of the cluster now"),
            };
            let allowed = incus.project_config(&place.incus.project).is_ok_and(|config| {
                config.get("restricted.cluster.target").is_some_and(|allowed| allowed == "allow")
            });
            if allowed {
                visit.ok(CHECK, found);
            } else {
                let mend = place.mend(visit).set(&["restricted.cluster.target=allow".to_owned()]);
                let found =
                    format!("the project {} does not let anybody say where guests go", place.incus.project);
                visit.problem(CHECK, found, mend);
            }
            Ok(())
        }
        Err(error) => {
            let mend = place.mend(visit).incus("cluster list");
            failed(visit, CHECK, error, format!("{mend}; then another `target`, or none"))
        }
    }
}

/// Whether there is a socket that can be tried.
fn socket(visit: &mut Visit<'_>, place: &Place, facts: &Facts) -> bool {
    const CHECK: &str = "incus";
    let path = place.incus.socket.to_string_lossy();
    match (facts.get("socket"), facts.is("socket_usable", "yes")) {
        (Some("there"), true) => true,
        (Some(_), _) => {
            let mend = place.mend(visit).grant(facts);
            visit.problem(CHECK, format!("{} has no right to use Incus at {path}", facts.account()), mend);
            false
        }
        (None, _) => {
            let (found, mend) = match facts.is("incusd", "yes") {
                true => {
                    let start = place.mend(visit).daemon_is_to("start", facts);
                    (format!("Incus does not listen at {path}"), start)
                }
                false => {
                    (format!("there is no Incus: nothing is at {path}"), place.mend(visit).set_up(facts))
                }
            };
            match visit.is_remote() || facts.is("incusd", "yes") {
                true => visit.problem(CHECK, found, mend),
                // A machine that only sends jobs away needs none.
                false => visit.note(CHECK, format!("{found}; guests run on other hosts only"), mend),
            }
            false
        }
    }
}

fn api(visit: &mut Visit<'_>, facts: &Facts, server: &Server) {
    const CHECK: &str = "incus_api";
    let has = |name: &str| server.api_extensions.iter().any(|known| known == name);
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !has(name)).collect();
    let upgrade = visit.as_root(facts, "apt-get install -t bookworm-backports incus");
    if !missing.is_empty() {
        visit.problem(CHECK, format!("it lacks {}", missing.join(", ")), upgrade);
        return;
    }
    match has(FASTER) {
        true => {
            visit.ok(CHECK, format!("all of the {} extensions that are used are there", NEEDED.len() + 1));
        }
        false => visit.note(CHECK, format!("without {FASTER} each guest takes a request more"), upgrade),
    }
}

/// A hook of Debian's lxcfs waits whenever a guest stops.
fn slow_stop(visit: &mut Visit<'_>, facts: &Facts) {
    const CHECK: &str = "lxcfs_hook";
    match facts.get("slow_stop") {
        None => visit.ok(CHECK, "nothing makes guests stop late"),
        Some(file) => {
            let found = format!("a hook of lxcfs, named in {file}, waits 0.5 s whenever a guest stops");
            let mend = visit.as_root(facts, &format!("sed -i '/post-stop/s/^/#/' {}", quoted(file)));
            visit.note(CHECK, found, mend);
        }
    }
}

/// Whether it is there.
fn project(visit: &mut Visit<'_>, place: &Place, facts: &Facts, incus: &Incus) -> Result<bool, EngineError> {
    const CHECK: &str = "incus_project";
    let name = &place.incus.project;
    let dir = place.dir.to_string_lossy();
    let config = match incus.project_config(name) {
        Ok(config) => config,
        Err(error) => {
            let mend = place.mend(visit).set_up(facts);
            return failed(visit, CHECK, error, mend).map(|()| false);
        }
    };
    let set = |visit: &Visit<'_>, settings: &[String]| place.mend(visit).set(settings);
    let is = |key: &str, value: &str| config.get(key).is_some_and(|found| found == value);
    let paths = format!("restricted.devices.disk.paths={dir}");
    if !is("restricted", "true") {
        let mend =
            set(visit, &["restricted=true".to_owned(), "restricted.devices.disk=allow".to_owned(), paths]);
        visit.problem(
            CHECK,
            format!("the project {name} is not restricted, so a job could be root of the host"),
            mend,
        );
        return Ok(true);
    }
    if is("restricted.containers.privilege", "allow") {
        let mend = set(visit, &["restricted.containers.privilege=unprivileged".to_owned()]);
        visit.problem(
            CHECK,
            format!("the project {name} allows privileged containers, which are root of the host"),
            mend,
        );
        return Ok(true);
    }
    if let Some(mend) = disk_paths(&config, &place.dir) {
        let mend = set(visit, &mend);
        let found = format!("the project {name} does not let guests see {dir}, where their sources lie");
        visit.problem(CHECK, found, mend);
        return Ok(true);
    }
    let limit = match config.get("limits.instances").filter(|limit| !limit.is_empty()) {
        Some(limit) => format!("at most {limit} instances"),
        None => "no limit of instances".to_owned(),
    };
    visit.ok(CHECK, format!("{name} is restricted and lets guests see {dir}; {limit}"));
    Ok(true)
}

/// Looks at both profiles; returns the pool of the root disk.
fn profile(
    visit: &mut Visit<'_>,
    place: &Place,
    facts: &Facts,
    incus: &Incus,
) -> Result<Option<String>, EngineError> {
    const CHECK: &str = "incus_profile";
    let (project, own) = (&place.incus.project, place.incus.profile.as_str());
    let mut pool = None;
    let names = if own == BASE_PROFILE { vec![own] } else { vec![BASE_PROFILE, own] };
    for name in &names {
        match incus.profile_facts(project, name) {
            Ok(found) => pool = found.root_pool().map(str::to_owned).or(pool),
            Err(error) => {
                let mend = place.mend(visit).set_up(facts);
                return failed(visit, CHECK, error, mend).map(|()| None);
            }
        }
    }
    match pool {
        Some(pool) => {
            visit.ok(CHECK, format!("{} of {project}: root disk in the pool {pool}", names.join(" and ")));
            Ok(Some(pool))
        }
        None => {
            let found =
                format!("{} of {project}: no root disk, so there is no pool for guests", names.join(" and "));
            let mend = place.mend(visit).set_up(facts);
            visit.problem(CHECK, found, mend);
            Ok(None)
        }
    }
}

fn storage(visit: &mut Visit<'_>, place: &Place, incus: &Incus, pool: &str) -> Result<(), EngineError> {
    const CHECK: &str = "incus_storage";
    let driver = match incus.pool_driver(pool) {
        Ok(driver) => driver,
        Err(error) => {
            let mend = place.mend(visit).incus("storage list");
            return failed(visit, CHECK, error, mend);
        }
    };
    if FAST_DRIVERS.contains(&driver.as_str()) {
        visit
            .ok(CHECK, format!("the pool {pool} is {driver}: guests are made without a copy of their image"));
        return Ok(());
    }
    let command = format!(
        "sh -c 'incus storage create fast btrfs size=50GiB && incus profile device set {} root pool=fast --project {}'",
        quoted(&place.incus.profile),
        quoted(&place.incus.project)
    );
    let mend = visit.ssh(&command);
    let found = format!("the pool {pool} is {driver}: each guest copies its image, which takes 0.5 to 9 s");
    visit.note(CHECK, found, mend);
    Ok(())
}

fn network(visit: &mut Visit<'_>, place: &Place, incus: &Incus) -> Result<(), EngineError> {
    const CHECK: &str = "incus_network";
    let Some(network) = &place.incus.network else { return Ok(()) };
    let project = &place.incus.project;
    match incus.has_network(project, network) {
        Ok(true) => visit.ok(CHECK, format!("{network} is there for jobs that have a network")),
        Ok(false) => {
            let mend = place.mend(visit).network(network);
            visit.problem(CHECK, format!("there is no network {network} for jobs that have one"), mend);
        }
        Err(error) => {
            let mend = place.mend(visit).incus("network list");
            return failed(visit, CHECK, error, mend);
        }
    }
    Ok(())
}

fn image(visit: &mut Visit<'_>, place: &Place, incus: &Incus) -> Result<(), EngineError> {
    const CHECK: &str = "incus_image";
    let role = place.incus.guest_role.unwrap_or(IncusGuestRole::JerichoRunner);
    let alias = place.incus.image_alias.as_deref().unwrap_or_else(|| role.image_alias());
    match incus.image(&place.incus.project, alias) {
        Ok(image) => {
            let short: String = image.fingerprint.chars().take(12).collect();
            let kind = match image.kind {
                pika_cloud::InstanceType::Container => "a container",
                pika_cloud::InstanceType::VirtualMachine => "a virtual machine",
            };
            visit.ok(CHECK, format!("{alias} is {short}, {kind}"));
            Ok(())
        }
        Err(error) => {
            let mend = place.mend(visit).image(role, alias);
            failed(visit, CHECK, error, mend)
        }
    }
}

/// Tells why something could not be looked at, or is not there.
fn failed(
    visit: &mut Visit<'_>,
    check: &'static str,
    error: OpsError,
    mend: String,
) -> Result<(), EngineError> {
    if let OpsError::Cancelled(reason) = error {
        return Err(HostError::Cancelled(reason).into());
    }
    visit.problem(check, crate::causes::with_causes(&error), mend);
    Ok(())
}
