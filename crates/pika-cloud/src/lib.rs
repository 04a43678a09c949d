//! What a guest is: RuntimeSpec, mounts, policies, lifecycle files, run request.
//!
//! These are contracts, shared by everyone who creates guests (CI, managed agents) and by the
//! programs inside them. Without the feature `ops` nothing here talks to Incus: a few plain
//! documents, their rules, and the writers and readers that keep them whole on disk.
//!
//! | module | subject |
//! |---|---|
//! | [`spec`] | what is asked: [`RuntimeSpec`], with validation that reports every problem at once |
//! | [`plan`] | what Incus is told: [`IncusRuntimePlan`], made from a valid spec |
//! | [`names`] | instance and device names, derived so that all parties agree on them |
//! | [`lifecycle`] | what a guest tells: events, status, result |
//! | [`request`] | what a CI guest is told to run: [`IncusGuestRunRequest`] |
//! | [`environment`] | the environment of that command, and which of it is secret |
//! | [`glob`] | the globs by which artifacts are chosen |
//! | [`document`] | errors of reading and writing these files |
//! | `ops` | guests on Incus, with the feature `ops`: created, followed, collected from, removed |
//! | [`validation`] | problems of a document, each with field, value and what is allowed |
//! | [`version`] | the schema version as a type |
//!
//! Conventions of every document: JSON in UTF-8; unknown keys are ignored (but not in the guest
//! run request), unknown enum values are errors; times are RFC 3339 with a numeric offset.

mod atomic;
pub mod document;
pub mod environment;
pub mod glob;
pub mod lifecycle;
pub mod names;
#[cfg(feature = "ops")]
pub mod ops;
pub mod plan;
pub mod request;
pub mod spec;
mod time;
pub mod validation;
pub mod version;

pub use document::{LoadError, ParseError, WriteError};
pub use environment::GuestEnvironment;
pub use lifecycle::{
    EventLog, EventLogContents, EventLogError, EventProblem, EventProblemKind, LifecycleEvent,
    LifecycleState, NewEvent, RuntimeResultStatus, RuntimeStatusSnapshot, RuntimeTerminalResult,
    parse_events, read_events,
};
pub use names::{instance_name, mount_device_name, payload_device_name};
pub use pika_incus_guest_role::IncusGuestRole;
pub use plan::{IncusMountPlan, IncusRuntimePlan, InstanceType};
pub use request::{GuestRunOptions, GuestRuntime, IncusGuestRunRequest};
pub use spec::{
    MountKind, MountMode, OutputCollectionMode, OutputCollectionPolicy, RestartPolicy, RetentionPolicy,
    RuntimeIdentity, RuntimeIncus, RuntimeMount, RuntimeNetwork, RuntimePaths, RuntimePolicies,
    RuntimeResources, RuntimeSpec,
};
pub use time::Timestamp;
pub use validation::{ValidationError, ValidationErrors};
pub use version::SchemaVersion;
