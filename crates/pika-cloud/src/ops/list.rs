//! Finds the instances of an owner by their labels, and removes those that nobody needs any more.

use std::collections::BTreeMap;

use serde_json::json;
use ureq::http::Method;

use super::body::label_key;
use super::client::{Request, quoted};
use super::ensure::InstanceRef;
use super::error::OpsError;
use super::facts::Instance;
use super::incus::Incus;
use super::state::{infrastructure, labels_of};
use crate::lifecycle::LifecycleState;

/// Names and values that an instance must carry, all of them. `run` is `user.run`.
pub type Labels = BTreeMap<String, String>;

/// An instance of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub instance: InstanceRef,
    /// What the host sees of it.
    pub infrastructure: LifecycleState,
    /// All its labels, as configuration keys: `user.…`. None of an instance on a member of a cluster that is
    /// away: see [`Listed::is_away`].
    pub labels: BTreeMap<String, String>,
    /// When it was created, as Incus writes it.
    pub created_at: String,
    /// Fingerprint of its image.
    pub image: Option<String>,
    /// The member of a cluster that it is on; `none` without a cluster.
    pub location: String,
}

impl Listed {
    /// The value of a label, given with or without `user.`.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(&label_key(name)).map(String::as_str)
    }

    /// Whether it is on a member of a cluster that is away: nothing can be done with it, and nobody knows whose it is.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.infrastructure == LifecycleState::Unreachable && self.labels.is_empty()
    }
}

/// What a reaping did.
#[derive(Debug, Default)]
pub struct Reaped {
    /// Those that are gone.
    pub destroyed: Vec<Listed>,
    /// Those that were to be spared.
    pub spared: Vec<Listed>,
    /// Those that are still there, and why.
    pub failed: Vec<(Listed, OpsError)>,
}

impl Incus {
    /// Whether there is no such instance.
    ///
    /// # Errors
    ///
    /// When Incus does not answer.
    pub fn is_gone(&self, instance: &InstanceRef) -> Result<bool, OpsError> {
        Ok(self.instance(&instance.project, &instance.name)?.is_none())
    }

    /// The instances of a project that carry all these labels, sorted by name; all instances when
    /// none are given. Those on a member of a cluster that is away are only in the list of all.
    ///
    /// # Errors
    ///
    /// [`OpsError::ProjectMissing`] (Incus itself would answer with an empty list), or Incus does
    /// not answer.
    pub fn list(&self, project: &str, labels: &Labels) -> Result<Vec<Listed>, OpsError> {
        self.project(project)?;
        let labels: Labels = labels.iter().map(|(name, value)| (label_key(name), value.clone())).collect();
        let mut path = format!("/1.0/instances?project={}&recursion=1", quoted(project));
        if let Some((key, value)) = labels.iter().find(|(key, value)| is_plain(key) && is_plain(value)) {
            // Only to make the answer shorter: what follows decides.
            path.push_str(&format!("&filter={}", quoted(&format!("config.{key} eq {value}"))));
        }
        let action = format!("list the instances of project {project}");
        let found: Option<Vec<Instance>> = self.find(&action, &Request::get(path))?;
        let carries =
            |found: &Instance| labels.iter().all(|(key, value)| found.config.get(key) == Some(value));
        let mut listed: Vec<Listed> = found
            .unwrap_or_default()
            .into_iter()
            .filter(carries)
            .map(|found| Listed {
                instance: InstanceRef { project: project.to_owned(), name: found.name.clone() },
                infrastructure: infrastructure(&found),
                labels: labels_of(&found),
                image: found.image().map(str::to_owned),
                created_at: found.created_at,
                location: found.location,
            })
            .collect();
        listed.sort_by(|a, b| a.instance.name.cmp(&b.instance.name));
        Ok(listed)
    }

    /// Stops and removes the instances of a project that carry all these labels, but for those that
    /// `spare` names. One that cannot be removed does not keep the others.
    ///
    /// # Errors
    ///
    /// [`OpsError::Failed`] without any label, which would end everybody's instances; as
    /// [`list`](Self::list).
    pub fn reap(
        &self,
        project: &str,
        labels: &Labels,
        spare: &dyn Fn(&Listed) -> bool,
    ) -> Result<Reaped, OpsError> {
        if labels.is_empty() {
            return Err(OpsError::Failed {
                action: format!("reap project {project}"),
                message: "without a label every instance would be removed".to_owned(),
            });
        }
        let mut reaped = Reaped::default();
        for listed in self.list(project, labels)? {
            if spare(&listed) {
                reaped.spared.push(listed);
                continue;
            }
            match self.destroy(&listed.instance) {
                Ok(()) => reaped.destroyed.push(listed),
                Err(OpsError::Cancelled(reason)) => return Err(OpsError::Cancelled(reason)),
                Err(error) => reaped.failed.push((listed, error)),
            }
        }
        Ok(reaped)
    }

    /// Sets labels of an instance, beside those it has: to renew a lease, or to keep it for longer.
    ///
    /// # Errors
    ///
    /// [`OpsError::NotFound`] when there is no such instance, or Incus does not answer.
    pub fn set_labels(&self, instance: &InstanceRef, labels: &Labels) -> Result<(), OpsError> {
        let config: Labels = labels.iter().map(|(name, value)| (label_key(name), value.clone())).collect();
        let action = format!("label instance {}", instance.name);
        let request = Request::new(Method::PATCH, instance.path("")).json(&json!({ "config": config }));
        match self.carry_out(&action, &request)? {
            Ok(()) => Ok(()),
            Err(_) if self.instance(&instance.project, &instance.name)?.is_none() => {
                Err(OpsError::NotFound { what: "instance", name: instance.name.clone() })
            }
            Err(message) => Err(OpsError::Failed { action, message }),
        }
    }
}

/// Whether a filter of Incus can hold it without quoting.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}
