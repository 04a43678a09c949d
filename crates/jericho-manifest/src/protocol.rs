//! What an engine and the receiver on a host say to each other.
//!
//! The receiver (`jerichoci-incus-run store WORK_DIR`) reads lines of JSON on its standard input and
//! answers each with one on its standard output. The first line is a [`Hello`]; it has no answer
//! unless the version is another one. A [`Request::Receive`] is followed at once by bytes: the two parts
//! of a [`Delta`](crate::Delta), then the contents. The end of the input ends the receiver.

use jericho_host::sys::ProcessIdentity;
use serde::{Deserialize, Serialize};

use crate::hash::ContentHash;

/// Of this protocol. Both ends are of one build as a rule; this tells when they are not.
pub const VERSION: u32 = 2;

/// Most bytes of a line.
pub const LONGEST_LINE: usize = 1 << 20;

/// The first line of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// Who asks: an engine id, a plain name.
    pub engine: String,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Is this snapshot there? When it is, it is leased in the same step. Answer: [`Answer::Have`]
    /// or [`Answer::Lacks`].
    Ask(Ask),
    /// Here it comes. Answer: [`Answer::Have`].
    Receive(Receive),
    /// Says who holds a lease from now on. Answer: [`Answer::Done`].
    Hold {
        /// The snapshot.
        hash: ContentHash,
        /// The lease.
        lease: Lease,
    },
    /// Gives a lease back; one that is not there is given back. Answer: [`Answer::Done`].
    Release {
        /// The snapshot.
        hash: ContentHash,
        /// Id of the lease.
        lease: String,
    },
    /// Removes what nobody needs. Answer: [`Answer::Collected`].
    Collect(Collect),
    /// Removes what nobody has used for a while, beside snapshots. Answer: [`Answer::Tidied`].
    Tidy(Tidy),
}

/// Is this snapshot there?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The snapshot.
    pub hash: ContentHash,
    /// Snapshots that the engine could send the difference to, the best first.
    pub bases: Vec<ContentHash>,
    /// What is leased when it is there.
    pub lease: Lease,
    /// Below so many bytes of free space the answer is [`Fault::NoSpace`].
    pub min_free: u64,
}

/// What follows is a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receive {
    /// The snapshot.
    pub hash: ContentHash,
    /// What the delta is to be applied to; none is an empty tree.
    pub base: Option<ContentHash>,
    /// Bytes of the paths that go.
    pub gone_len: u64,
    /// Bytes of the entries that come.
    pub set_len: u64,
    /// Of the hashes of all contents that are sent, [`sent`](crate::delta::sent). A receiver whose base
    /// is another one would wait for others.
    pub contents: ContentHash,
    /// The marker that is written into the tree and beside it, as text.
    pub marker: String,
    /// What is leased with the publication.
    pub lease: Lease,
}

/// A claim on a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// A plain name: letters, digits, `.`, `_`, `-`, not first a `.`; up to 128 of them.
    pub id: String,
    /// Whose it is.
    pub holder: Holder,
}

/// Who keeps a lease alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Holder {
    /// The engine, for as long as it is connected and a while longer.
    Engine,
    /// An instance: alive until the engine gives the lease back, or until a collection hears
    /// that its project has no such instance.
    Instance {
        /// Project.
        project: String,
        /// Name in it.
        name: String,
    },
    /// A process of the host.
    Process(ProcessIdentity),
}

/// Removes what nobody needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    /// How much snapshots may use.
    pub budget: Budget,
    /// Projects whose instances are known, each with all of its instances.
    pub instances: Vec<Instances>,
    /// Only tells.
    pub dry_run: bool,
}

/// Removes what nobody has used for a while: runners, caches, and what jobs have left whose engines never came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tidy {
    /// The while, in seconds.
    pub unused_secs: u64,
    /// Hash of a runner that stays however old it is.
    pub runner: String,
    /// Only tells.
    pub dry_run: bool,
}

/// A limit on disk use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Budget {
    /// A share of the file system, from 0 to 100.
    Percent(u8),
    /// An amount.
    Bytes(u64),
}

/// All instances of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instances {
    /// Project.
    pub project: String,
    /// Names.
    pub names: Vec<String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is there, sound as far as can be seen, and leased.
    Have(Have),
    /// It is not there.
    Lacks(Lacks),
    /// It was done.
    Done,
    /// What was removed.
    Collected(Collected),
    /// What was not used and went.
    Tidied(Tidied),
    /// It was not done.
    Failed {
        /// What kind of failure.
        fault: Fault,
        /// A sentence.
        message: String,
    },
}

/// A snapshot is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// How it got there.
    pub how: How,
    /// Free bytes of the file system, for an ordinary user.
    pub free: u64,
    /// Bytes of the file system.
    pub total: u64,
}

/// How a tree was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was there.
    AlreadyThere,
    /// An idle tree was renamed and changed.
    Patched,
    /// A new tree that shares unchanged files with another one.
    Linked,
    /// A new tree.
    Full,
}

/// A snapshot is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacks {
    /// The first of the bases that is there and sound.
    pub base: Option<ContentHash>,
    /// What was wrong with one that was there: it was set aside.
    pub damaged: Option<String>,
}

/// What a collection removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Snapshots that went.
    pub removed: Vec<ContentHash>,
    /// Bytes that this freed.
    pub freed: u64,
    /// Snapshots that stay.
    pub kept: u64,
    /// Bytes that they use; when that is surely within the budget, no more than this.
    pub used: u64,
    /// Of these, snapshots that somebody has leased.
    pub leased: u64,
    /// Leases that nobody holds any more.
    pub dead_leases: u64,
    /// Projects whose instances would have to be known to tell whether more leases are dead.
    #[serde(default)]
    pub projects: Vec<String>,
    /// What killed receivers and repairs had left.
    pub leftovers: u64,
    /// Free bytes of the file system afterwards.
    pub free: u64,
    /// Bytes of the file system.
    pub total: u64,
}

/// What had not been used for a while and went, or would go: paths below the work dir.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tidied {
    /// Runners.
    pub runners: Vec<String>,
    /// Caches.
    pub caches: Vec<String>,
    /// What jobs had left.
    pub jobs: Vec<String>,
    /// Bytes that this freed.
    pub freed: u64,
    /// What could not be removed, one line each.
    pub problems: Vec<String>,
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The work dir cannot be used: another owner, a link, not writable. Trying again does not help.
    WorkDir,
    /// Too little space. Trying again does not help.
    NoSpace,
    /// The question is not sound. Trying again does not help.
    Request,
    /// The base is gone or not what it should be: to be sent again without it.
    Base,
    /// What was sent is not what it was to be.
    Content,
    /// Another step failed.
    System,
}
