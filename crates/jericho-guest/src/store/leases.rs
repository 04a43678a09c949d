//! Leases: one file per user of a snapshot, and whether that user still lives.

use std::os::fd::{AsFd, OwnedFd};

use jericho_host::sys::{ProcessIdentity, ancestor, is_alive, own_identity};
use jericho_host::{Clock as _, SystemClock};
use jericho_manifest::protocol::{Fault, Holder, Instances, Lease};
use jericho_manifest::{ContentHash, at};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::refused::Refused;
use super::work_dir::{self, Lock, WorkDir};

/// Most bytes of a lease.
const LARGEST: u64 = 64 << 10;
/// How long a lease of an engine, or of an instance that is not seen, counts after the connection that wrote it
/// has gone: the engine may be on another one by then.
const GRACE: i64 = 600;
/// How long a lease counts that cannot be read.
const UNREADABLE_GRACE: i64 = 24 * 3600;

/// All leases below a work dir.
pub(super) struct Leases {
    dir: OwnedFd,
    engine: String,
    own: ProcessIdentity,
    /// What ends with the connection of the engine, and not with one conversation over it.
    connection: ProcessIdentity,
}

/// A lease as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    schema_version: u32,
    engine: String,
    /// The connection of the engine at the host.
    connection: ProcessIdentity,
    holder: Holder,
}

/// Whether a lease is worth anything.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Life {
    Alive,
    /// Alive, unless the instances of this project are known and its own is not among them.
    Unsure(String),
    Dead,
}

/// What is left when the dead leases of a snapshot are gone.
#[derive(Debug, Default)]
pub(super) struct Tidied {
    /// Whether any is left.
    pub(super) leased: bool,
    /// How many went.
    pub(super) dead: u64,
    /// Projects of instances that would have to be known.
    pub(super) projects: Vec<String>,
}

impl Leases {
    pub(super) fn open(work_dir: &WorkDir, engine: &str) -> Result<Self, Refused> {
        let own = own_identity().map_err(|error| Refused::io("tell which process this is", &error))?;
        let connection = ancestor(&["sshd", "dropbear"]).ok().flatten().unwrap_or_else(|| own.clone());
        Ok(Self { dir: work_dir.sub_dir("leases")?, engine: engine.to_owned(), own, connection })
    }

    /// Claims a snapshot, or changes who has claimed it.
    pub(super) fn write(&self, _lock: &Lock<'_>, hash: &ContentHash, lease: &Lease) -> Result<(), Refused> {
        let kept = Kept {
            schema_version: 1,
            engine: self.engine.clone(),
            connection: self.connection.clone(),
            holder: lease.holder.clone(),
        };
        let text = serde_json::to_vec(&kept)
            .map_err(|error| Refused::new(Fault::Request, format!("the lease cannot be kept: {error}")))?;
        let dir = work_dir::sub_dir(&self.dir, &hash.to_string())?;
        work_dir::replace(&dir, &lease.id, &text)
            .map_err(|errno| Refused::step(format_args!("write the lease {}", lease.id), errno))
    }

    /// Gives a lease back, and removes the directory that is left empty.
    pub(super) fn release(&self, _lock: &Lock<'_>, hash: &ContentHash, id: &str) -> Result<(), Refused> {
        let name = hash.to_string();
        let dir = match at::open_dir(&self.dir, name.as_bytes()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Refused::step("open the leases of a snapshot", errno)),
        };
        match rustix::fs::unlinkat(&dir, id, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Refused::step(format_args!("remove the lease {id}"), errno)),
        }
        // Not when others are left.
        let _ = rustix::fs::unlinkat(&self.dir, name.as_str(), AtFlags::REMOVEDIR);
        Ok(())
    }

    /// Claims a snapshot for this process itself.
    pub(super) fn claim_own(&self, lock: &Lock<'_>, hash: &ContentHash) -> Result<(), Refused> {
        self.write(lock, hash, &Lease { id: self.own_id(), holder: Holder::Process(self.own.clone()) })
    }

    /// Gives that back. It ends with this process at the latest.
    pub(super) fn release_own(&self, hash: &ContentHash) {
        if let Ok(dir) = at::open_dir(&self.dir, hash.to_string().as_bytes()) {
            let _ = rustix::fs::unlinkat(&dir, self.own_id().as_str(), AtFlags::empty());
            let _ = rustix::fs::unlinkat(&self.dir, hash.to_string().as_str(), AtFlags::REMOVEDIR);
        }
    }

    fn own_id(&self) -> String {
        format!("receiver-{}-{}", self.own.pid, self.own.start_time_ticks)
    }

    /// Whether anybody but this process uses a snapshot. A lease that says so or cannot be asked
    /// about counts.
    pub(super) fn in_use(&self, hash: &ContentHash) -> Result<bool, Refused> {
        Ok(self.of(hash, None)?.iter().any(|(id, life)| *life != Life::Dead && *id != self.own_id()))
    }

    /// The same by what is known of instances. Removes the leases of the dead, unless it only looks.
    pub(super) fn tidy(
        &self,
        lock: &Lock<'_>,
        hash: &ContentHash,
        instances: &[Instances],
        dry_run: bool,
    ) -> Result<Tidied, Refused> {
        let mut tidied = Tidied::default();
        if !dry_run {
            // What a killed receiver has left of it; not when there are leases.
            let _ = rustix::fs::unlinkat(&self.dir, hash.to_string().as_str(), AtFlags::REMOVEDIR);
        }
        for (id, life) in self.of(hash, Some(instances))? {
            match life {
                Life::Alive => tidied.leased = true,
                Life::Unsure(project) => {
                    tidied.leased = true;
                    tidied.projects.push(project);
                }
                Life::Dead => {
                    tidied.dead += 1;
                    if !dry_run {
                        self.release(lock, hash, &id)?;
                    }
                }
            }
        }
        Ok(tidied)
    }

    /// The snapshots that have leases, there or not.
    pub(super) fn hashes(&self) -> Result<Vec<ContentHash>, Refused> {
        let names = at::names_in(&self.dir).map_err(|errno| Refused::step("list the leases", errno))?;
        Ok(names.iter().filter_map(|name| std::str::from_utf8(name).ok()?.parse().ok()).collect())
    }

    fn of(
        &self,
        hash: &ContentHash,
        instances: Option<&[Instances]>,
    ) -> Result<Vec<(String, Life)>, Refused> {
        let failed = |errno| Refused::step("look at the leases of a snapshot", errno);
        let dir = match at::open_dir(&self.dir, hash.to_string().as_bytes()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(failed(errno)),
        };
        let mut found = Vec::new();
        for name in at::names_in(&dir).map_err(failed)? {
            let stat = match at::lstat(&dir, &name) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            let age = SystemClock.now().timestamp().saturating_sub(stat.st_mtime);
            let Ok(id) = String::from_utf8(name) else { continue };
            let life = life(&dir, &id, age, instances);
            found.push((id, life));
        }
        Ok(found)
    }
}

fn life(dir: impl AsFd, id: &str, age: i64, instances: Option<&[Instances]>) -> Life {
    let text = work_dir::read(dir, id, LARGEST).ok().flatten();
    let Some(kept) = text.and_then(|text| serde_json::from_slice::<Kept>(&text).ok()) else {
        // Of a killed writer, or of a later version.
        return if age > UNREADABLE_GRACE { Life::Dead } else { Life::Alive };
    };
    // What cannot be asked lives.
    let lives = |process: &ProcessIdentity| is_alive(process).unwrap_or(true);
    let alive = match &kept.holder {
        Holder::Process(process) => lives(process),
        Holder::Engine | Holder::Instance { .. } if lives(&kept.connection) || age <= GRACE => true,
        Holder::Engine => false,
        Holder::Instance { project, name } => {
            let known = instances.and_then(|all| all.iter().find(|known| known.project == *project));
            let Some(known) = known else { return Life::Unsure(project.clone()) };
            known.names.contains(name)
        }
    };
    if alive { Life::Alive } else { Life::Dead }
}

/// Names become names of files.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), Refused> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(plain) {
        let message = format!("{what} {name:?} is no plain name (letters, digits, `.`, `_`, `-`)");
        return Err(Refused::new(Fault::Request, message));
    }
    Ok(())
}
