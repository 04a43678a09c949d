//! Looking at what guests will meet, before there is one: project, profile, pool, network.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::client::{Request, quoted};
use super::error::OpsError;
use super::facts::is_root;
use super::incus::Incus;

#[derive(Deserialize)]
struct Pool {
    driver: String,
}

/// What a profile gives to its instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ProfileFacts {
    /// Devices by name, each with its keys, such as `type` and `path`.
    #[serde(default)]
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
}

impl ProfileFacts {
    /// The pool of its root disk, when it has one.
    #[must_use]
    pub fn root_pool(&self) -> Option<&str> {
        let root = self.devices.values().find(|device| is_root(device))?;
        root.get("pool").map(String::as_str)
    }
}

impl Incus {
    /// The configuration of a project: limits, restrictions.
    ///
    /// # Errors
    ///
    /// [`OpsError::ProjectMissing`], or when Incus does not answer.
    pub fn project_config(&self, project: &str) -> Result<BTreeMap<String, String>, OpsError> {
        Ok(self.project(project)?.config)
    }

    /// What a profile of a project gives to its instances.
    ///
    /// # Errors
    ///
    /// [`OpsError::ProfileMissing`], or when Incus does not answer.
    pub fn profile_facts(&self, project: &str, profile: &str) -> Result<ProfileFacts, OpsError> {
        let path = format!("/1.0/profiles/{}?project={}", quoted(profile), quoted(project));
        self.find(&format!("look up profile {profile}"), &Request::get(path))?.ok_or_else(|| {
            OpsError::ProfileMissing { project: project.to_owned(), profile: profile.to_owned() }
        })
    }

    /// The driver of a storage pool, such as `btrfs`.
    ///
    /// # Errors
    ///
    /// [`OpsError::NotFound`], or when Incus does not answer.
    pub fn pool_driver(&self, pool: &str) -> Result<String, OpsError> {
        let request = Request::get(format!("/1.0/storage-pools/{}", quoted(pool)));
        let found: Option<Pool> = self.find(&format!("look up storage pool {pool}"), &request)?;
        let missing = || OpsError::NotFound { what: "storage pool", name: pool.to_owned() };
        found.map(|found| found.driver).ok_or_else(missing)
    }

    /// Whether a network is there, as instances of the project see it.
    ///
    /// # Errors
    ///
    /// When Incus does not answer.
    pub fn has_network(&self, project: &str, network: &str) -> Result<bool, OpsError> {
        let path = format!("/1.0/networks/{}?project={}", quoted(network), quoted(project));
        let found: Option<serde_json::Value> =
            self.find(&format!("look up network {network}"), &Request::get(path))?;
        Ok(found.is_some())
    }
}
