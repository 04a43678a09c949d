//! Named caches of a guest: volumes that are kept from run to run.
//!
//! A volume belongs to the state root whose jobs fill it, so that no other one's jobs can put anything
//! into it. A locked cache is one job's at a time: its lock is a file of this machine, and the guest that has it
//! says so in a label. So a guest whose engine was killed, and whose lock went with it, is ended before the next job
//! has its cache.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use jericho_host::lock::FileLock;
use jericho_manifest::shown::shown;
use pika_cloud::ops::{Incus, OpsError, VolumeRef};
use sha2::{Digest, Sha256};

use super::intent::GuestPlace;
use super::labels;
use super::place::Place;
use super::spec::WORKSPACE;
use crate::executor::failure::Failure;
use crate::executor::process::caches::{holder, waiting};
use crate::executor::{JobContext, Tools};
use crate::lock::{self, WaitError};
use crate::model::demands::{CacheSharing, CacheSpec};
use crate::snapshot::Manifest;

/// Ends guests that nobody works on.
pub(crate) trait Undertaker: Send + Sync + std::fmt::Debug {
    /// Ends the guests of this engine that have one of these volumes as a locked cache, but for those that a person
    /// looks at. Whoever calls has the locks of the caches, so that nobody works on such a guest.
    ///
    /// # Errors
    /// Incus does not answer.
    fn end_users(&self, place: &GuestPlace, incus: &Incus, volumes: &[String]) -> Result<Buried, OpsError>;
}

/// What became of guests that nobody works on.
#[derive(Debug, Default)]
pub(crate) struct Buried {
    /// Those that were ended, for people.
    pub(crate) ended: Vec<String>,
    /// Those that were not, one line each.
    pub(crate) problems: Vec<String>,
}

/// The caches of a job, in use until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Caches {
    volumes: BTreeMap<String, String>,
    locked: Vec<String>,
    _locks: Vec<FileLock>,
}

impl Caches {
    /// The volumes by the name of the cache.
    pub(super) fn volumes(&self) -> &BTreeMap<String, String> {
        &self.volumes
    }

    /// What the guest says of them.
    pub(super) fn labels(&self) -> labels::Labels {
        match self.locked.is_empty() {
            true => labels::Labels::new(),
            false => labels::caches(&self.locked),
        }
    }

    /// Ends the guests that have one of the locked caches: nobody else has the lock, so nobody works on them. One that a
    /// person looks at stays, since its job is over.
    pub(super) fn take_from_the_dead(
        &self,
        place: &Place,
        tools: &Tools,
        job: &mut JobContext<'_>,
    ) -> Result<(), Failure> {
        if self.locked.is_empty() {
            return Ok(());
        }
        let reaped = tools
            .undertaker
            .end_users(&place.record(), &place.incus, &self.locked)
            .map_err(|error| place.failed(&error, None, job.cancel))?;
        for guest in reaped.ended {
            let line = format!("ended what a dead engine had left with a cache of the job: {guest}");
            super::place::quietly(job.log, &line);
        }
        match reaped.problems.is_empty() {
            true => Ok(()),
            false => Err(Failure::Errored(format!(
                "a guest of a dead engine has a cache of the job: {}",
                reaped.problems.join("; ")
            ))),
        }
    }

    /// Says that the volumes are used now, for who collects those that are not.
    pub(super) fn note_use(&self, place: &Place, tools: &Tools, member: Option<&str>) {
        if self.volumes.is_empty() {
            return;
        }
        let Ok(pool) = place.incus.root_pool(&place.config.project, &place.config.profile) else { return };
        let used = labels::used(place.now(tools));
        for name in self.volumes.values() {
            let volume = VolumeRef {
                project: place.config.project.clone(),
                pool: pool.clone(),
                member: member.map(str::to_owned),
                name: name.clone(),
            };
            // One that is not noted stays longer.
            let _ = Incus::label_volume(&place.incus, &volume, &used);
        }
    }
}

/// Takes the caches, in the order of their names so that two jobs never wait for each other.
pub(super) fn take(tools: &Tools, job: &mut JobContext<'_>) -> Result<Caches, Failure> {
    let locks = tools.config.state_root.join("cache").join("guest-caches");
    let mut caches = Caches::default();
    for (name, cache) in &job.spec.caches {
        if !cache.path.starts_with('/') {
            return Err(Failure::Errored(format!(
                "the cache `{name}` is at `{}`, and in a guest its path must be absolute",
                cache.path
            )));
        }
        check_place(name, cache, job.source.manifest()).map_err(Failure::Errored)?;
        let volume = volume(tools.hosts.engine_id(), name);
        caches.volumes.insert(name.clone(), volume.clone());
        if cache.sharing == CacheSharing::Shared {
            continue;
        }
        let failed = |error: &dyn std::fmt::Display| Failure::Errored(format!("the cache `{name}`: {error}"));
        std::fs::create_dir_all(&locks).map_err(|error| failed(&error))?;
        let path = locks.join(name);
        let taken = match FileLock::try_exclusive(&path).map_err(|error| failed(&error))? {
            Some(taken) => taken,
            None => wait(name, &path, tools, job)?,
        };
        taken.sign(&holder(job));
        caches.locked.push(volume);
        caches._locks.push(taken);
    }
    Ok(caches)
}

/// What of the source is at the place of a cache would be copied into that, and stay there for jobs whose source does not
/// have it.
fn check_place(name: &str, cache: &CacheSpec, manifest: &Manifest) -> Result<(), String> {
    let Ok(below) = Path::new(&cache.path).strip_prefix(WORKSPACE) else { return Ok(()) };
    let dir = below.as_os_str().as_bytes();
    let is_in_the_way = |path: &[u8]| {
        let (inner, outer) = if path.len() > dir.len() { (path, dir) } else { (dir, path) };
        inner.strip_prefix(outer).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    };
    match manifest.iter().find(|entry| is_in_the_way(entry.path)) {
        None => Ok(()),
        Some(entry) => Err(format!(
            "the cache `{name}` cannot be at {}: the source tree has {} there",
            cache.path,
            shown(entry.path)
        )),
    }
}

/// Waits for a cache that another job has, and says which.
fn wait(name: &str, path: &Path, tools: &Tools, job: &mut JobContext<'_>) -> Result<FileLock, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Errored(format!("the cache `{name}`: {error}"));
    job.log.engine_line(&waiting(name, path)).map_err(|error| failed(&error))?;
    lock::within(path, false, tools.config.cache_wait, job.cancel).map_err(|error| match error {
        WaitError::Cancelled(reason) => Failure::Cancelled(reason),
        other => failed(&other),
    })
}

/// Name of the volume: 12 digits of the state root's identity, then as much of the cache's own name as fits
/// and is plain, and a hash of it.
fn volume(engine_id: &str, name: &str) -> String {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    let digest = Sha256::digest(name.as_bytes());
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}{plain}-{hash}", volumes_of(engine_id)).to_ascii_lowercase()
}

/// How much of the identity of a state root is in the names of its volumes.
const ENGINE_DIGITS: usize = 12;

/// What the names of all volumes of a state root begin with.
pub(super) fn volumes_of(engine_id: &str) -> String {
    let engine: String = engine_id.chars().take(ENGINE_DIGITS).collect();
    format!("jericho-{engine}-").to_ascii_lowercase()
}

/// Whether a volume is a cache of some state root, by its name.
pub(super) fn is_volume(name: &str) -> bool {
    let rest = name.strip_prefix("jericho-").and_then(|rest| rest.split_at_checked(ENGINE_DIGITS));
    rest.is_some_and(|(engine, rest)| {
        engine.bytes().all(|byte| byte.is_ascii_hexdigit()) && rest.starts_with('-')
    })
}

#[cfg(test)]
mod tests {
    use pika_cloud::RuntimePaths;

    use super::super::{kit, spec};
    use super::{is_volume, volume};
    use crate::model::demands::CacheSpec;

    #[test]
    fn no_cache_covers_what_a_guest_needs_for_its_job() {
        let ours = [spec::WORKSPACE, spec::BESIDE_WORKSPACE, spec::ENV_FILE, kit::IN_GUEST, kit::OF_IMAGE];
        for place in ours.into_iter().chain([RuntimePaths::STATE_DIR]) {
            for above in std::path::Path::new(place).ancestors() {
                let above = above.to_str().unwrap();
                assert!(CacheSpec::problem_in_guest(above).is_some(), "{above}");
            }
        }
        for fine in
            ["/cargo-home", "/cache", "/usr/local/x", "/var/cache/x", "/workspace/snapshot/target", "/lib-x"]
        {
            assert_eq!(CacheSpec::problem_in_guest(fine), None, "{fine}");
        }
    }

    #[test]
    fn a_volume_is_of_one_state_root_and_one_cache() {
        let of = |engine: &str, name: &str| volume(engine, name);
        assert_eq!(of("0123456789abcdef", "cargo-home"), of("0123456789abcdef", "cargo-home"));
        assert!(of("0123456789abcdef", "cargo-home").starts_with("jericho-0123456789ab-cargohome-"));
        assert_ne!(of("0123456789abcdef", "a-b"), of("0123456789abcdef", "ab"));
        assert_ne!(of("0123456789abcdef", "a"), of("1123456789abcdef", "a"));
        assert!(of("0123456789abcdef", &"x".repeat(200)).len() < 60);
        assert!(is_volume(&of("0123456789abcdef", "a")) && is_volume(&of("0123456789ABCDEF", "ä")));
        for other in ["jericho-", "jericho-mine", "jericho-0123456789abc-x", "jericho-0123456789ag-x", "x"] {
            assert!(!is_volume(other), "{other}");
        }
    }
}
