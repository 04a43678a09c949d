//! What can go wrong between a caller and Incus, each with the thing it is about.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jericho_host::CancelReason;

use crate::document::ParseError;
use crate::validation::ValidationErrors;

/// Why an operation on Incus did not succeed. Never the verdict of what ran in a guest: that is
/// an [`Ended`](super::Ended).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpsError {
    /// The spec breaks rules; nothing was asked of Incus.
    #[error(transparent)]
    Invalid(#[from] ValidationErrors),
    /// There is no socket of Incus at that path, or nobody listens.
    #[error("no Incus answers at {} on {host}", socket.display())]
    Unreachable {
        /// The host.
        host: String,
        /// The socket on that host.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// This user may not use the socket, or may not do this with it.
    #[error("no right to use Incus at {} on {host}: {reason}", socket.display())]
    NoRights {
        /// The host.
        host: String,
        /// The socket on that host.
        socket: PathBuf,
        /// What was said.
        reason: String,
    },
    /// The connection was lost and did not come back in time. What was asked may have happened.
    #[error("lost the connection to Incus on {host} while it was to {action}, and did not get it back within {} s", after.as_secs())]
    Lost {
        /// The host.
        host: String,
        /// What was being done, with its object: `create instance agent-7`.
        action: String,
        /// How long it was tried.
        after: Duration,
        /// The last failure.
        #[source]
        source: io::Error,
    },
    /// It took too long, with the connection in order.
    #[error("{action} took longer than {} s", after.as_secs())]
    TimedOut {
        /// What was being done, with its object.
        action: String,
        /// The limit.
        after: Duration,
    },
    /// The caller's token was cancelled.
    #[error("cancelled: {0}")]
    Cancelled(CancelReason),
    /// There is no such project.
    #[error("there is no Incus project {project}")]
    ProjectMissing {
        /// Its name.
        project: String,
    },
    /// There is no such profile in the project.
    #[error("there is no profile {profile} in the Incus project {project}")]
    ProfileMissing {
        /// Its project.
        project: String,
        /// Its name.
        profile: String,
    },
    /// No image has that alias in the project.
    #[error("no image has the alias {alias} in the Incus project {project}")]
    ImageMissing {
        /// Its project.
        project: String,
        /// The alias.
        alias: String,
    },
    /// There is no such network in the project.
    #[error("there is no network {network} in the Incus project {project}")]
    NetworkMissing {
        /// Its project.
        project: String,
        /// Its name.
        network: String,
    },
    /// A network is asked for, and nothing says which.
    #[error("a network is asked for, and neither the profiles {profiles} nor the project {project} have one")]
    NoNetwork {
        /// The project.
        project: String,
        /// Their names.
        profiles: String,
    },
    /// A guest role nobody knows.
    #[error("unknown guest role {role:?} (known: managed-openclaw, jericho-runner)")]
    RoleUnknown {
        /// What was given.
        role: String,
    },
    /// There is no such thing: an instance, a volume, a file of a guest, a source on the host.
    #[error("there is no {what} {name}")]
    NotFound {
        /// Its kind: `instance`, `volume`, `file`, `mount source`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The restrictions of the project forbid it. Nothing was created.
    #[error("the Incus project {project} does not allow instance {instance}: {reason}")]
    Refused {
        /// The project.
        project: String,
        /// The instance that was asked for.
        instance: String,
        /// What Incus said.
        reason: String,
    },
    /// There is an instance of that name that is not the one asked for. It was left alone.
    #[error("there is another instance {name}: {difference}")]
    Conflict {
        /// Its name.
        name: String,
        /// In what it differs.
        difference: String,
    },
    /// A limit of the project was reached all the time that was given for waiting.
    #[error("the Incus project {project} was full for {} s: {reason}", after.as_secs())]
    Full {
        /// The project.
        project: String,
        /// How long was waited.
        after: Duration,
        /// What Incus said.
        reason: String,
    },
    /// Incus tried and failed.
    #[error("Incus could not {action}: {message}")]
    Failed {
        /// What it was to do, with its object.
        action: String,
        /// Its words.
        message: String,
    },
    /// The answer was not one that Incus gives.
    #[error("could not {action}: the answer is not one of Incus: {problem}")]
    Garbled {
        /// What was being done, with its object.
        action: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of the guest is not the document it should be.
    #[error("{path} of instance {instance} is damaged")]
    Document {
        /// The instance.
        instance: String,
        /// The file in the guest.
        path: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// A file of this machine could not be written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// A verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It failed, and what had been created for it could not be removed either.
    #[error("{error}; instance {instance} is left behind: {cleanup}")]
    LeftBehind {
        /// The instance that is still there.
        instance: String,
        /// Why it could not be removed.
        cleanup: Box<OpsError>,
        /// What had failed.
        #[source]
        error: Box<OpsError>,
    },
}

impl OpsError {
    /// Whether the thing asked about is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the connection was the problem, so that the same may succeed later.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Lost { .. })
    }
}
