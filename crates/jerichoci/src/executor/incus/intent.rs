//! What is written down before a guest is made, so that whoever comes later finds it: in the directory of
//! its job which instance it is, and under the state root where guests were ever made.
//!
//! | path below the state root | what |
//! |---|---|
//! | `runs/<run>/jobs/<job>/instance.json` | the guest of the job; there as long as the guest may be |
//! | `guests/<16 hex>.json` | a place where guests were made: a reaper looks nowhere else. It goes when there can be none |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::version;

/// Name of the file in the directory of a job.
const INSTANCE: &str = "instance.json";

/// An Incus project on a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GuestPlace {
    /// [`version::GUESTS`].
    pub schema_version: u32,
    /// The host, by the name that jobs use; absent for this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Socket of Incus there.
    pub socket: PathBuf,
    /// Project.
    pub project: String,
}

/// The guest of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestIntent {
    /// Where it is.
    #[serde(flatten)]
    pub place: GuestPlace,
    /// Its name.
    pub instance: String,
    /// Until when a person wants to look at it, by the clock of this machine: until then nobody collects its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<DateTime<Utc>>,
}

impl GuestPlace {
    pub(crate) fn new(host: Option<String>, socket: PathBuf, project: String) -> Self {
        Self { schema_version: version::GUESTS, host, socket, project }
    }

    /// For messages.
    pub(crate) fn host_name(&self) -> &str {
        self.host.as_deref().unwrap_or("this machine")
    }

    /// The file that says that guests were made here.
    pub(crate) fn file(&self, guests: &Path) -> io::Result<PathBuf> {
        let digest = Sha256::digest(serde_json::to_vec_pretty(self)?);
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(guests.join(format!("{name}.json")))
    }

    /// Writes down that guests are made here.
    pub(crate) fn store(&self, guests: &Path) -> io::Result<()> {
        let path = self.file(guests)?;
        if !path.exists() {
            fs::create_dir_all(guests)?;
            jericho_host::fs::write_atomic(&path, &serde_json::to_vec_pretty(self)?, false)?;
        }
        Ok(())
    }
}

impl GuestIntent {
    /// Writes down that a guest is about to be made.
    pub(super) fn store(&self, guests: &Path, job_dir: &Path) -> io::Result<()> {
        // In this order: who forgets a place looks for guests of it once more afterwards.
        self.write(job_dir)?;
        self.place.store(guests)
    }

    fn write(&self, job_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        jericho_host::fs::write_atomic(&job_dir.join(INSTANCE), &text, false)
    }

    /// Writes down that the guest of a job is kept for a person.
    pub(super) fn keep(job_dir: &Path, until: DateTime<Utc>) -> io::Result<()> {
        let Some(intent) = Self::load(job_dir) else { return Err(io::ErrorKind::NotFound.into()) };
        Self { kept_until: Some(until), ..intent }.write(job_dir)
    }

    /// The guest that was written down for a job; nothing where it is gone, or was written by a later version.
    pub(crate) fn load(job_dir: &Path) -> Option<Self> {
        let text = fs::read(job_dir.join(INSTANCE)).ok()?;
        let intent: Self = serde_json::from_slice(&text).ok()?;
        (intent.place.schema_version <= version::GUESTS).then_some(intent)
    }

    /// The guest is gone.
    pub(crate) fn forget(job_dir: &Path) {
        // Left behind it only makes a reaper look once more.
        let _ = fs::remove_file(job_dir.join(INSTANCE));
    }
}

/// All places where guests were ever made from this state root. What cannot be read is left out: it was not
/// written by this program.
pub(crate) fn places(guests: &Path) -> io::Result<Vec<GuestPlace>> {
    let entries = match fs::read_dir(guests) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut places = Vec::new();
    for entry in entries {
        let text = fs::read(entry?.path())?;
        if let Ok(place) = serde_json::from_slice::<GuestPlace>(&text)
            && place.schema_version <= version::GUESTS
        {
            places.push(place);
        }
    }
    places.sort();
    places.dedup();
    Ok(places)
}
