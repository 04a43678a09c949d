//! What keeps the outputs of a run in the store, and how long: while the run is worked on, and where one of its
//! guests was left, as long as that is there. A mount is nothing that a collection of the store looks at.
//!
//! | where | links |
//! |---|---|
//! | this machine | `runs/<run>/roots/` below the state root |
//! | a host | `runs/<run>/roots/<engine>/` below the work directory |
//!
//! On a host the directory of an engine is there also when an output is only handed over: by it the engine finds what
//! its dead runs have left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use jericho_host::{CancelToken, Command, Host};

use super::site::remote_env;
use crate::causes::with_causes;
use crate::executor::incus::{GuestIntent, GuestPlace};
use crate::model::id::RunId;
use crate::nix::complaint;
use crate::run::layout::{Layout, RunLayout};
use crate::run::owner::is_alive;

/// Removes what prepare nodes have made in the directory of a run on a host. Others may have something
/// there: what is not empty then stays. Somebody else may do the same at the same time.
const TIDY: &str = r#"cd "$1" 2>/dev/null || exit 0
[ "$2" = keep ] || rm -rf roots || [ ! -e roots ] || exit 1
rm -rf prepared-output-requests prepared-output-results prepared-output-launch-requests || exit 1
for job in jobs/*/; do
  [ -d "$job" ] && [ ! -h "${job%/}" ] || continue
  rm -rf "$job/staged-linux-rust" || exit 1
  rmdir "$job" 2>/dev/null
done
rmdir jobs 2>/dev/null
cd / && rmdir "$1" 2>/dev/null
exit 0"#;

/// Prints the names of the runs of an engine.
const OWN_RUNS: &str = r#"cd "$1" || exit 0
for roots in */roots/"$2"; do
  [ -d "$roots" ] && printf '%s\n' "${roots%%/*}"
done
exit 0"#;

/// A run that nobody works on, and for which outputs are kept on a machine.
pub(crate) struct Rooted {
    run: RunLayout,
    /// Its directory there.
    dir: PathBuf,
    /// Absent for this machine.
    host: Option<Arc<dyn Host>>,
}

impl Rooted {
    /// Forgets the guests at this place that are not among those that are `there`: somebody else has removed them.
    pub(crate) fn forget_all_but(&self, there: &[String], place: &GuestPlace) {
        for (job_dir, guest) in guests(&self.run) {
            if guest.place == *place && !there.contains(&guest.instance) {
                GuestIntent::forget(&job_dir);
            }
        }
    }

    /// Lets the outputs go, unless a guest may still see them. `name` is that of the host.
    pub(crate) fn let_go(&self, name: Option<&str>) -> Result<(), String> {
        if may_have_guest(&self.run, name) {
            return Ok(());
        }
        match &self.host {
            Some(host) => tidy(&**host, &self.dir, false),
            None => {
                let roots = self.run.roots();
                jericho_host::fs::remove_tree(&roots).map_err(|error| format!("{}: {error}", roots.display()))
            }
        }
    }
}

/// Those of this machine.
pub(crate) fn rooted_here(layout: &Layout) -> Vec<Rooted> {
    let entries = std::fs::read_dir(layout.runs()).into_iter().flatten().flatten();
    // A state root may have come with a tree: nothing is removed through a link.
    let real = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let ids = real.filter_map(|entry| entry.file_name().to_str()?.parse::<RunId>().ok());
    ids.map(|id| layout.run(&id))
        .filter(|run| std::fs::symlink_metadata(run.roots()).is_ok_and(|roots| roots.is_dir()))
        .filter(|run| !is_alive(run))
        .map(|run| Rooted { dir: run.dir().to_path_buf(), run, host: None })
        .collect()
}

/// Those of an engine in the directory of runs on a host. What cannot be listed now is found by the next run.
pub(crate) fn rooted_on(host: &Arc<dyn Host>, runs: &Path, engine_id: &str, layout: &Layout) -> Vec<Rooted> {
    let Ok(cancel) = CancelToken::new() else { return Vec::new() };
    let list = Command::new("sh").args(["-c", OWN_RUNS, "sh"]).arg(runs).arg(engine_id);
    let Ok(output) = host.run(&list.env(remote_env()), &cancel) else { return Vec::new() };
    let listed = String::from_utf8_lossy(&output.stdout);
    let ids = listed.lines().filter_map(|name| name.parse::<RunId>().ok());
    ids.map(|id| (layout.run(&id), runs.join(id.as_str())))
        .filter(|(run, _)| !is_alive(run))
        .map(|(run, dir)| Rooted { run, dir, host: Some(Arc::clone(host)) })
        .collect()
}

/// Whether a guest of a run may still be there: one that was kept, or that could not be removed.
pub(crate) fn may_have_guest(run: &RunLayout, host: Option<&str>) -> bool {
    guests(run).iter().any(|(_, guest)| guest.place.host.as_deref() == host)
}

/// Whether a person wants to look at a guest of a run.
pub(crate) fn has_kept_guest(run: &RunLayout, now: DateTime<Utc>) -> bool {
    guests(run).iter().any(|(_, guest)| guest.kept_until.is_some_and(|until| until > now))
}

/// The guests of a run that were written down, each with the directory of its job.
pub(crate) fn guests(run: &RunLayout) -> Vec<(PathBuf, GuestIntent)> {
    let jobs = std::fs::read_dir(run.jobs()).into_iter().flatten().flatten();
    jobs.filter_map(|job| GuestIntent::load(&job.path()).map(|guest| (job.path(), guest))).collect()
}

/// Removes what prepare nodes have made in the directory of a run on a host.
pub(super) fn tidy(host: &dyn Host, run: &Path, keep: bool) -> Result<(), String> {
    // Also when the run was cancelled: what is left there nobody else would remove.
    let cancel = CancelToken::new().map_err(|error| error.to_string())?;
    let keep = if keep { "keep" } else { "" };
    let tidy = Command::new("sh").args(["-c", TIDY, "sh"]).arg(run).arg(keep).env(remote_env());
    let output = host.run(&tidy, &cancel).map_err(|error| with_causes(&error))?;
    match output.exit.success() {
        true => Ok(()),
        false => Err(format!("{} on {}: {}", run.display(), host.label(), complaint(&output.stderr))),
    }
}
