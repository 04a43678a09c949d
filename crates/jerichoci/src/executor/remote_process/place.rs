//! Where a job lies on its host.
//!
//! | below the work directory | what |
//! |---|---|
//! | `runs/<run>/jobs/<job>/` | the job, while it is there |
//! | `… /owner.json` | whose it is |
//! | `… /request.json`, `view.json` | what the runner was asked |
//! | `… /env_file` | path of the file with the variables, on a tmpfs |
//! | `… /state/` | lifecycle files, log, collected artifacts |
//! | `… /artifacts/` | `$ARTIFACTS` |
//! | `… /cargo-target/` | `$CARGO_TARGET_DIR` |
//! | `… /workspace/` | the workspace, for an account that may not mount |
//! | `cache/workspace/<engine>/<target>/<job>/` | as root with mounts: where the job sees its workspace; empty for all others |
//! | `cache/named/<engine>/<name>/` | a cache that jobs name: `data/` and its `lock` |
//! | `cache/cargo-home/` | `$CARGO_HOME` of all jobs |

use std::path::{Path, PathBuf};

use super::JobContext;
use crate::model::id::check_name;
use crate::remote::Ready;

/// Paths on the host, all absolute.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) run_id: String,
    /// What no other job has, of no other attempt.
    pub(super) nonce: String,
    pub(super) job: PathBuf,
    pub(super) request: PathBuf,
    pub(super) state: PathBuf,
    pub(super) artifacts: PathBuf,
    pub(super) cargo_target: PathBuf,
    pub(super) workspace: PathBuf,
    pub(super) env_file: PathBuf,
    cache: PathBuf,
    engine_id: String,
}

impl Place {
    pub(super) fn new(ready: &Ready, engine_id: &str, job: &JobContext<'_>) -> Result<Self, String> {
        let mut parts = job.tag.split('/');
        let (Some(run_id), Some(nonce)) = (parts.next(), parts.next_back()) else {
            return Err(format!("the job has a tag without a run: {}", job.tag));
        };
        for name in [run_id, job.spec.id.as_str(), nonce] {
            check_name(name).map_err(|error| error.to_string())?;
        }
        let dir = ready.work_dir.join("runs").join(run_id).join("jobs").join(&job.spec.id);
        let cache = ready.work_dir.join("cache");
        let shared = shared_workspace(ready, job.cache_dir);
        let workspace = shared.map_or_else(
            || dir.join("workspace"),
            |scope| cache.join("workspace").join(engine_id).join(scope),
        );
        Ok(Self {
            run_id: run_id.to_owned(),
            nonce: nonce.to_owned(),
            request: dir.join("request.json"),
            state: dir.join("state"),
            artifacts: dir.join("artifacts"),
            cargo_target: dir.join("cargo-target"),
            workspace,
            env_file: PathBuf::from(format!("/dev/shm/jerichoci-{nonce}.json")),
            job: dir,
            cache,
            engine_id: engine_id.to_owned(),
        })
    }

    pub(super) fn cargo_home(&self) -> PathBuf {
        self.cache.join("cargo-home")
    }

    /// The directory of a named cache.
    pub(super) fn cache(&self, name: &str) -> PathBuf {
        self.cache.join("named").join(&self.engine_id).join(name)
    }
}

/// The workspace by the same path in every run, which only a job with mounts of its own may use: a copy would
/// meet what the one before it has left, and those beside it.
fn shared_workspace(ready: &Ready, cache_dir: &Path) -> Option<PathBuf> {
    let scope = ready.mounts.then(|| cache_scope(cache_dir))??;
    Some(scope.join("workspace"))
}

/// `<target>/<job>`: the same in every run of the job.
fn cache_scope(cache_dir: &Path) -> Option<PathBuf> {
    let job = cache_dir.file_name()?;
    let scope = cache_dir.parent()?.file_name()?;
    Some(Path::new(scope).join(job))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_with_mounts_of_its_own_has_one_workspace_for_all_runs() {
        let mut ready = Ready {
            work_dir: "/w".into(),
            runner: "/w/bin/x/runner".into(),
            runner_sha256: "x".to_owned(),
            arch: "x86_64".to_owned(),
            uid: 0,
            gid: 0,
            mounts: true,
            boot_id: None,
        };
        let cache = Path::new("/state/cache/host-local/target-t/job");
        assert_eq!(shared_workspace(&ready, cache).unwrap(), Path::new("target-t/job/workspace"));
        ready.mounts = false;
        assert_eq!(shared_workspace(&ready, cache), None);
    }
}
