//! What Incus knows of projects, images, profiles and instances: its documents, as far as they are used.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use super::body::{Device, Site, needs_nics, needs_root, profiles, profiles_with};
use super::client::{Request, Trouble, quoted};
use super::error::OpsError;
use super::incus::Incus;
use crate::plan::{IncusRuntimePlan, InstanceType};
use crate::spec::RuntimeNetwork;

/// The image a guest is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The alias it was found by.
    pub alias: String,
    /// Its hash, 64 hexadecimal digits.
    pub fingerprint: String,
    /// What it becomes.
    #[serde(rename = "type")]
    pub kind: InstanceType,
}

/// The Incus that answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// Whether this user is trusted: `trusted`, else `untrusted`.
    pub auth: String,
    /// What it can do beyond the first version of its interface.
    #[serde(default)]
    pub api_extensions: Vec<String>,
    /// Facts about its machine and build.
    pub environment: ServerEnvironment,
}

/// Facts about the machine and build of an Incus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerEnvironment {
    /// Version.
    pub server_version: String,
    /// Name in its cluster, or of its machine.
    pub server_name: String,
    /// Whether it is a member of a cluster.
    pub server_clustered: bool,
    /// Drivers of its storage pools, such as `btrfs`, with ` | ` between.
    pub storage: String,
}

#[derive(Deserialize)]
pub(crate) struct Project {
    #[serde(default)]
    pub(crate) config: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Profile {
    #[serde(default)]
    devices: BTreeMap<String, Device>,
}

#[derive(Deserialize)]
struct Alias {
    target: String,
    r#type: InstanceType,
}

/// What the machine of an Incus has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    pub(crate) cpu: Processors,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Processors {
    pub(crate) total: u64,
}

/// An instance as Incus describes it. Of one on a member of a cluster that is away it knows the name and the place, and
/// says null for the rest.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) created_at: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(crate) config: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(crate) devices: BTreeMap<String, Device>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(crate) expanded_config: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(crate) profiles: Vec<String>,
    #[serde(default)]
    pub(crate) location: String,
}

impl Instance {
    pub(crate) fn is_running(&self) -> bool {
        self.status == "Running"
    }

    /// The fingerprint of the image it was made from.
    pub(crate) fn image(&self) -> Option<&str> {
        self.config.get("volatile.base_image").map(String::as_str)
    }
}

impl Incus {
    /// Who answers.
    ///
    /// # Errors
    ///
    /// When nobody does, or this user is not trusted ([`OpsError::NoRights`]).
    pub fn server(&self) -> Result<Server, OpsError> {
        let action = "describe itself";
        let server: Option<Server> = self.find(action, &Request::get("/1.0"))?;
        let server = server.ok_or_else(|| self.garbled(action, "no document"))?;
        if server.auth == "trusted" {
            Ok(server)
        } else {
            Err(OpsError::NoRights {
                host: self.client.host.socket_host().to_owned(),
                socket: self.client.socket.clone(),
                reason: format!("it calls this user {}", server.auth),
            })
        }
    }

    /// The image behind an alias, as instances of the project see it.
    ///
    /// # Errors
    ///
    /// [`OpsError::ImageMissing`], [`OpsError::ProjectMissing`], or when Incus does not answer.
    pub fn image(&self, project: &str, alias: &str) -> Result<Image, OpsError> {
        let path = format!("/1.0/images/aliases/{}?project={}", quoted(alias), quoted(project));
        match self.find::<Alias>(&format!("look up image {alias}"), &Request::get(path))? {
            Some(found) => {
                Ok(Image { alias: alias.to_owned(), fingerprint: found.target, kind: found.r#type })
            }
            None => {
                self.project(project)?;
                Err(OpsError::ImageMissing { project: project.to_owned(), alias: alias.to_owned() })
            }
        }
    }

    pub(crate) fn project(&self, project: &str) -> Result<Project, OpsError> {
        let request = Request::get(format!("/1.0/projects/{}", quoted(project)));
        self.find(&format!("look up project {project}"), &request)?
            .ok_or_else(|| OpsError::ProjectMissing { project: project.to_owned() })
    }

    fn profile(&self, project: &str, profile: &str) -> Result<Profile, OpsError> {
        let path = format!("/1.0/profiles/{}?project={}", quoted(profile), quoted(project));
        self.find(&format!("look up profile {profile}"), &Request::get(path))?.ok_or_else(|| {
            OpsError::ProfileMissing { project: project.to_owned(), profile: profile.to_owned() }
        })
    }

    /// What must be known of the place where a plan is carried out.
    pub(crate) fn site(&self, plan: &IncusRuntimePlan) -> Result<Site, OpsError> {
        let project = self.project(&plan.incus.project)?;
        let is_set = |key: &str| project.config.get(key).is_some_and(|value| !value.is_empty());
        let is_restricted = project.config.get("restricted").is_some_and(|value| value == "true");
        let mut site =
            Site { shift: !(is_restricted && is_set("restricted.devices.disk.paths")), ..Site::default() };
        if needs_root(plan) || needs_nics(plan) {
            for profile in profiles(plan) {
                for (name, device) in self.profile(&plan.incus.project, profile)?.devices {
                    // The later profile counts, also when it takes a device away.
                    site.nics.remove(&name);
                    if is_root(&device) {
                        site.root = Some(device);
                    } else if is_nic(&device) {
                        site.nics.insert(name, device);
                    }
                }
            }
        }
        if plan.network == (RuntimeNetwork::On { network: None }) && site.nics.is_empty() {
            site.bridge = self.bridge(&plan.incus.project)?;
        }
        Ok(site)
    }

    /// The first managed bridge that instances of a project can be attached to, by name.
    fn bridge(&self, project: &str) -> Result<Option<String>, OpsError> {
        #[derive(Deserialize)]
        struct Network {
            name: String,
            #[serde(default)]
            managed: bool,
            r#type: String,
        }
        let request = Request::get(format!("/1.0/networks?project={}&recursion=1", quoted(project)));
        let found: Option<Vec<Network>> =
            self.find(&format!("list the networks of project {project}"), &request)?;
        let bridges = found.unwrap_or_default().into_iter();
        Ok(bridges.filter(|one| one.managed && one.r#type == "bridge").map(|one| one.name).min())
    }

    /// What time it is on the machine of this Incus, to the second; nothing when it does not say so. Leases
    /// in labels are by this clock.
    ///
    /// # Errors
    ///
    /// When Incus does not answer.
    pub fn time(&self) -> Result<Option<DateTime<Utc>>, OpsError> {
        let action = "tell the time";
        let request = Request::get("/1.0");
        let response = self
            .repeat(action, Trouble::is_transient, || self.client.fetch(&request))
            .map_err(|trouble| self.explain(action, trouble))?;
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        let time = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        Ok(time.map(|time| time.with_timezone(&Utc)))
    }

    /// The storage pool of guests with that profile, and of their volumes: that of the root disk.
    ///
    /// # Errors
    ///
    /// [`OpsError::ProfileMissing`], [`OpsError::NotFound`] when the profiles have no root disk, or Incus does
    /// not answer.
    pub fn root_pool(&self, project: &str, profile: &str) -> Result<String, OpsError> {
        let mut pool = None;
        for profile in profiles_with(profile) {
            let profile = self.profile(project, profile)?;
            let root = profile.devices.into_values().find(is_root);
            pool = root.and_then(|mut root| root.remove("pool")).or(pool);
        }
        pool.ok_or_else(|| OpsError::NotFound { what: "root disk in the profile", name: profile.to_owned() })
    }

    /// Checks that the plan's profiles are there.
    pub(crate) fn check_profiles(&self, plan: &IncusRuntimePlan) -> Result<(), OpsError> {
        profiles(plan)
            .into_iter()
            .try_for_each(|profile| self.profile(&plan.incus.project, profile).map(drop))
    }

    /// The instance, as Incus describes it; nothing when there is none.
    pub(crate) fn instance(&self, project: &str, name: &str) -> Result<Option<Instance>, OpsError> {
        self.find(&format!("look up instance {name}"), &Request::get(instance_path(project, name, "")))
    }
}

/// Null is nothing.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

fn is_nic(device: &Device) -> bool {
    device.get("type").is_some_and(|found| found == "nic")
}

pub(crate) fn is_root(device: &Device) -> bool {
    let has = |key: &str, value: &str| device.get(key).is_some_and(|found| found == value);
    has("type", "disk") && has("path", "/")
}

/// The path of something of an instance: `sub` is empty, or begins with `/`.
pub(crate) fn instance_path(project: &str, name: &str, sub: &str) -> String {
    format!("/1.0/instances/{}{sub}?project={}", quoted(name), quoted(project))
}
