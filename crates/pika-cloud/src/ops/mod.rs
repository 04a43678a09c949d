//! Guests on Incus: created, started, followed, collected from and removed, over any host.
//!
//! Every call is an HTTP request to the Incus socket of a host; nothing here starts a program or
//! reads its words. [`Incus`] is the door; [`Incus::run`] is a whole life by the policies of a
//! [`RuntimeSpec`](crate::RuntimeSpec), and its steps can be called one by one:
//!
//! | step | what |
//! |---|---|
//! | [`ensure`](Incus::ensure) | the guest is there and runs |
//! | [`start_detached`](Incus::start_detached) | its entry program runs, whoever started it may go |
//! | [`follow`](Incus::follow) | output and events as they come, and how it ended |
//! | [`inspect`](Incus::inspect) | what host and guest say of it now |
//! | [`collect`](Incus::collect) | what it left, brought back |
//! | [`attach`](Incus::attach) | somebody works in it at a terminal |
//! | [`destroy`](Incus::destroy) | it is gone |
//! | [`list`](Incus::list), [`reap`](Incus::reap) | the instances of an owner, by label |
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use jericho_host::{CancelToken, LocalHost};
//! use pika_cloud::ops::{Course, DEFAULT_SOCKET, Incus, Silence};
//! use pika_cloud::{RuntimeIdentity, RuntimeIncus, RuntimeSpec};
//!
//! let cancel = CancelToken::new()?;
//! let incus = Incus::new(Arc::new(LocalHost::new()), DEFAULT_SOCKET, &cancel);
//! let spec = RuntimeSpec::new(
//!     RuntimeIdentity::named("agent-7"),
//!     RuntimeIncus::new("pika-managed-agents", "pika-agent-dev", "pika-agent/dev"),
//! )
//! .with_entry_command("/run/current-system/sw/bin/agent")
//! .with_label("owner", "pika");
//! let outcome = incus.run(&spec.plan()?, &Course::default(), &mut Silence)?;
//! println!("{}", outcome.ended);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What must not go wrong, whatever happens: nothing is created twice, nothing half-made is left
//! behind, nothing that carries other labels is touched, and what happened to a guest is never
//! told as a verdict on its work.

mod body;
mod client;
mod cluster;
mod collect;
mod ended;
mod ensure;
mod error;
mod facts;
mod files;
mod filled;
mod follow;
mod incus;
mod launch;
mod list;
mod observer;
mod patience;
mod role;
mod run;
mod socket;
mod state;
mod survey;
mod terminal;
mod transport;
mod tree;
mod volume;

pub use collect::{CollectLimits, Collected};
pub use ended::Ended;
pub use ensure::{Ensured, InstanceRef};
pub use error::OpsError;
pub use facts::{Image, Server, ServerEnvironment};
pub use files::FileOwner;
pub use filled::{ListedVolume, VolumeRef};
pub use follow::{Limits, Progress, Watchdog};
pub use incus::{DEFAULT_SOCKET, Incus};
pub use launch::{Launch, Started};
pub use list::{Labels, Listed, Reaped};
pub use observer::{Note, Observer, Silence, Stream};
pub use patience::Patience;
pub use role::role;
pub use run::{Course, Outcome};
pub use socket::{SocketHost, SshSockets};
pub use state::Inspection;
pub use survey::ProfileFacts;
pub use terminal::{Attach, Console};
pub use tree::TreeWriter;
