//! Clusters: which member a guest goes to, decided before it is made.
//!
//! Incus would choose by itself, but volumes lie on one member: what a guest is to see must be
//! brought to its member first.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::body::is_host_path;
use super::client::Request;
use super::error::OpsError;
use super::incus::Incus;
use super::list::Labels;
use crate::plan::IncusRuntimePlan;
use crate::spec::MountKind;

/// What a target that is a group begins with.
const GROUP: char = '@';

/// A member as a cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Member {
    server_name: String,
    status: String,
    message: String,
    #[serde(default)]
    groups: BTreeSet<String>,
    #[serde(default)]
    config: BTreeMap<String, String>,
}

impl Member {
    fn is_online(&self) -> bool {
        self.status == "Online"
    }

    /// Whether it takes guests of that group, or guests for which nobody said where to.
    fn takes(&self, group: Option<&str>) -> bool {
        match (self.config.get("scheduler.instance").map(String::as_str), group) {
            (Some("manual"), _) | (Some("group"), None) => false,
            (_, Some(group)) => self.groups.contains(group),
            (_, None) => true,
        }
    }
}

#[derive(Deserialize)]
struct Located {
    #[serde(default)]
    location: String,
}

impl Incus {
    /// The member of the cluster for a guest: the one that `target` names, else the one with the fewest
    /// instances that is online, of the group `@GROUP` or of all. Nothing where there is no cluster.
    /// `seed`, a name of the guest say, decides among equals, so that many at once are spread.
    ///
    /// # Errors
    ///
    /// [`OpsError::NotFound`] for a member or group that is not there, [`OpsError::Failed`] for a member
    /// that is offline, a group without any other, or a target where there is no cluster; or Incus does not answer.
    pub fn member(&self, target: Option<&str>, seed: &str) -> Result<Option<String>, OpsError> {
        self.member_with(target, seed, &mut |_| Ok(()))
    }

    /// The member for the guest of a plan with volumes: one that has those that are there already.
    pub(crate) fn member_of_plan(
        &self,
        plan: &IncusRuntimePlan,
        pool: &str,
    ) -> Result<Option<String>, OpsError> {
        let project = &plan.incus.project;
        let seed = &plan.identity.instance_name;
        self.member_with(plan.incus.target.as_deref(), seed, &mut |candidates| {
            let listed = self.list_volumes(project, pool, &Labels::new())?;
            // The others are made where they are missing, and a cache of each member will do.
            let is_needed = |kind| matches!(kind, MountKind::PersistentVolume | MountKind::ReadOnlySnapshot);
            for mount in plan.mounts.iter().filter(|mount| !is_host_path(mount) && is_needed(mount.kind)) {
                let name = mount.source.split('/').next().unwrap_or_default();
                let holders: Vec<&str> = listed
                    .iter()
                    .filter(|listed| listed.volume.name == name)
                    .filter_map(|listed| listed.volume.member.as_deref())
                    .collect();
                if holders.is_empty() {
                    continue;
                }
                candidates.retain(|candidate| holders.contains(&candidate.as_str()));
                if candidates.is_empty() {
                    let message =
                        format!("its volume {name} is on {}, where it cannot go", holders.join(" and "));
                    return Err(OpsError::Failed { action: format!("place instance {seed}"), message });
                }
            }
            Ok(())
        })
    }

    fn member_with(
        &self,
        target: Option<&str>,
        seed: &str,
        narrow: &mut dyn FnMut(&mut Vec<String>) -> Result<(), OpsError>,
    ) -> Result<Option<String>, OpsError> {
        if !self.is_clustered()? {
            return match target {
                None => Ok(None),
                Some(target) => Err(OpsError::Failed {
                    action: format!("place a guest on {target}"),
                    message: "this Incus is no cluster: take the target away from the job or the settings"
                        .to_owned(),
                }),
            };
        }
        let action = "list the members of the cluster";
        let members: Option<Vec<Member>> =
            self.find(action, &Request::get("/1.0/cluster/members?recursion=1"))?;
        let members = members.ok_or_else(|| self.garbled(action, "no list"))?;
        let mut candidates = candidates(&members, target)?;
        narrow(&mut candidates)?;
        if let [only] = candidates.as_slice() {
            return Ok(Some(only.clone()));
        }
        let action = "count the instances of the cluster";
        let request = Request::get("/1.0/instances?all-projects=true&recursion=1");
        let instances: Vec<Located> = self.find(action, &request)?.unwrap_or_default();
        Ok(least(&candidates, instances.iter().map(|one| one.location.as_str()), seed))
    }

    /// Whether it is a cluster; asked once.
    fn is_clustered(&self) -> Result<bool, OpsError> {
        if let Some(known) = self.client.clustered.get() {
            return Ok(*known);
        }
        let is_clustered = self.server()?.environment.server_clustered;
        Ok(*self.client.clustered.get_or_init(|| is_clustered))
    }
}

/// The names of the members that a guest may go to: at least one.
fn candidates(members: &[Member], target: Option<&str>) -> Result<Vec<String>, OpsError> {
    let failed = |message: String| OpsError::Failed {
        action: target
            .map_or_else(|| "place a guest".to_owned(), |target| format!("place a guest on {target}")),
        message,
    };
    if let Some(name) = target.filter(|target| !target.starts_with(GROUP)) {
        let found = members.iter().find(|member| member.server_name == name);
        let found =
            found.ok_or_else(|| OpsError::NotFound { what: "cluster member", name: name.to_owned() })?;
        return if found.is_online() {
            Ok(vec![found.server_name.clone()])
        } else {
            Err(failed(format!("it is {}: {}", found.status.to_lowercase(), found.message)))
        };
    }
    let group = target.map(|target| target.trim_start_matches(GROUP));
    if let Some(group) = group
        && !members.iter().any(|member| member.groups.contains(group))
    {
        return Err(OpsError::NotFound { what: "cluster group with members", name: group.to_owned() });
    }
    let found: Vec<String> = members
        .iter()
        .filter(|member| member.is_online() && member.takes(group))
        .map(|member| member.server_name.clone())
        .collect();
    if found.is_empty() {
        return Err(failed("no member that takes guests is online".to_owned()));
    }
    Ok(found)
}

/// The candidate with the fewest instances; among equals one that the seed decides.
fn least<'a>(candidates: &[String], locations: impl Iterator<Item = &'a str>, seed: &str) -> Option<String> {
    let mut count: BTreeMap<&str, usize> = candidates.iter().map(|name| (name.as_str(), 0)).collect();
    for location in locations {
        if let Some(count) = count.get_mut(location) {
            *count += 1;
        }
    }
    let fewest = *count.values().min()?;
    let equal: Vec<&str> =
        count.into_iter().filter(|(_, count)| *count == fewest).map(|(name, _)| name).collect();
    // FNV-1a, as for the names of devices: any spread will do.
    let hash = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let index = usize::try_from(hash % equal.len() as u64).unwrap_or(0);
    equal.get(index).map(|name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, status: &str, groups: &[&str], scheduler: &str) -> Member {
        Member {
            server_name: name.to_owned(),
            status: status.to_owned(),
            message: "no heartbeat".to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            config: [("scheduler.instance".to_owned(), scheduler.to_owned())].into(),
        }
    }

    fn members() -> [Member; 4] {
        [
            member("a", "Online", &["default", "big"], "all"),
            member("b", "Online", &["default"], "all"),
            member("c", "Offline", &["default", "big", "gone"], "all"),
            member("d", "Online", &["default", "big", "manual"], "manual"),
        ]
    }

    #[test]
    fn a_guest_goes_to_members_that_are_online_and_take_guests() {
        assert_eq!(candidates(&members(), None).unwrap(), ["a", "b"]);
        assert_eq!(candidates(&members(), Some("@big")).unwrap(), ["a"]);
        assert_eq!(candidates(&members(), Some("d")).unwrap(), ["d"], "who names it means it");
        let only_groups = [member("a", "Online", &["x"], "group"), member("b", "Online", &[], "all")];
        assert_eq!(candidates(&only_groups, None).unwrap(), ["b"]);
        assert_eq!(candidates(&only_groups, Some("@x")).unwrap(), ["a"]);
    }

    #[test]
    fn what_is_missing_or_offline_is_named() {
        let text = |target| candidates(&members(), Some(target)).unwrap_err().to_string();
        assert_eq!(text("e"), "there is no cluster member e");
        assert_eq!(text("@small"), "there is no cluster group with members small");
        assert!(text("c").contains("place a guest on c") && text("c").contains("offline: no heartbeat"));
        assert!(text("@gone").contains("no member that takes guests is online"));
        assert!(text("@manual").contains("no member that takes guests is online"));
    }

    #[test]
    fn the_emptiest_member_is_taken_and_many_at_once_are_spread() {
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(least(&names[..2], ["a", "z", ""].into_iter(), "x").unwrap(), "b");
        let spread: BTreeSet<String> = (0..16)
            .filter_map(|n| least(&names, std::iter::empty(), &format!("jerichoci-{n:012x}")))
            .collect();
        assert_eq!(spread.len(), 3);
    }
}
