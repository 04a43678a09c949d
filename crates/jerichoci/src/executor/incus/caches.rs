//! Named caches of a guest: volumes that are kept from run to run.
//!
//! A volume belongs to the state root whose jobs fill it, so that no other one's jobs can put anything
//! into it. A locked cache is one job's at a time; its lock is a file of this machine.

use std::collections::BTreeMap;
use std::path::Path;

use jericho_host::lock::FileLock;
use sha2::{Digest, Sha256};

use crate::executor::JobContext;
use crate::executor::failure::Failure;
use crate::lock::{self, WaitError};
use crate::model::demands::CacheSharing;

/// The caches of a job, in use until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Caches {
    volumes: BTreeMap<String, String>,
    _locks: Vec<FileLock>,
}

impl Caches {
    /// The volumes by the name of the cache.
    pub(super) fn volumes(&self) -> &BTreeMap<String, String> {
        &self.volumes
    }
}

/// Takes the caches, in the order of their names so that two jobs never wait for each other.
pub(super) fn take(locks: &Path, engine_id: &str, job: &mut JobContext<'_>) -> Result<Caches, Failure> {
    let mut caches = Caches::default();
    for (name, cache) in &job.spec.caches {
        if !cache.path.starts_with('/') {
            return Err(Failure::Errored(format!(
                "the cache `{name}` is at `{}`, and in a guest its path must be absolute",
                cache.path
            )));
        }
        caches.volumes.insert(name.clone(), volume(engine_id, name));
        if cache.sharing == CacheSharing::Shared {
            continue;
        }
        let failed = |error: &dyn std::fmt::Display| Failure::Errored(format!("the cache `{name}`: {error}"));
        std::fs::create_dir_all(locks).map_err(|error| failed(&error))?;
        let path = locks.join(name);
        let taken = match FileLock::try_exclusive(&path).map_err(|error| failed(&error))? {
            Some(taken) => taken,
            None => {
                let line = format!("waiting for the cache `{name}`, which another job has");
                job.log.engine_line(&line).map_err(|error| failed(&error))?;
                lock::exclusive(&path, job.cancel).map_err(|error| match error {
                    WaitError::Cancelled(reason) => Failure::Cancelled(reason),
                    other => failed(&other),
                })?
            }
        };
        caches._locks.push(taken);
    }
    Ok(caches)
}

/// Name of the volume: 12 digits of the state root's identity, then as much of the cache's own name as fits
/// and is plain, and a hash of it.
fn volume(engine_id: &str, name: &str) -> String {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    let digest = Sha256::digest(name.as_bytes());
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let engine: String = engine_id.chars().take(12).collect();
    format!("jericho-{engine}-{plain}-{hash}").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::volume;

    #[test]
    fn a_volume_is_of_one_state_root_and_one_cache() {
        let of = |engine: &str, name: &str| volume(engine, name);
        assert_eq!(of("0123456789abcdef", "cargo-home"), of("0123456789abcdef", "cargo-home"));
        assert!(of("0123456789abcdef", "cargo-home").starts_with("jericho-0123456789ab-cargohome-"));
        assert_ne!(of("0123456789abcdef", "a-b"), of("0123456789abcdef", "ab"));
        assert_ne!(of("0123456789abcdef", "a"), of("1123456789abcdef", "a"));
        assert!(of("0123456789abcdef", &"x".repeat(200)).len() < 60);
    }
}
