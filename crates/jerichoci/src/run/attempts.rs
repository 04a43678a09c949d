//! The files of a job that is tried again.
//!
//! | path below the job | what |
//! |---|---|
//! | `host.log`, `artifacts/` | of the last attempt, always |
//! | `attempts/<n>/host.log`, `attempts/<n>/artifacts/` | of attempt n; made when a second one starts |
//!
//! The log of a later attempt has both names (a hard link), `artifacts` of the last one is a link
//! to the job's own. A job that passes at its first attempt has no `attempts`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::layout::JobLayout;

/// Puts the files of the attempt before `attempt` away and makes room for it. Returns where its
/// log goes.
pub(super) fn next(job: &JobLayout, attempt: u32) -> io::Result<PathBuf> {
    let (old, new) = (job.attempt(attempt - 1), job.attempt(attempt));
    for dir in [&old, &new] {
        fs::create_dir_all(dir.dir())?;
    }
    if attempt == 2 {
        fs::hard_link(job.host_log(), old.host_log())?;
    } else {
        fs::remove_file(old.artifacts())?;
    }
    match fs::rename(job.artifacts(), old.artifacts()) {
        // The job owns the directory, and may have removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    fs::create_dir(job.artifacts())?;
    std::os::unix::fs::symlink("../../artifacts", new.artifacts())?;
    Ok(new.host_log())
}

/// Makes the job's own log the one at `path`. An offset of the earlier one is none of this one:
/// it is another file.
pub(super) fn show(job: &JobLayout, path: &Path) -> io::Result<()> {
    let own = job.host_log();
    if path == own {
        return Ok(());
    }
    let staged = job.dir().join(".host.log.new");
    fs::hard_link(path, &staged)?;
    fs::rename(&staged, &own)
}
