//! The one door to processes, file trees on a host, time and randomness.
//!
//! This crate knows no CI words: no run, no job, no record. What a placement means is a
//! [`Host`]: the same trait for this machine ([`LocalHost`]) and for one over SSH ([`SshHost`]).
//!
//! | module | subject |
//! |---|---|
//! | [`command`] | what to start: program, arguments, environment, directory |
//! | [`host`] | the trait, and what a finished command looks like |
//! | [`local`] | this machine |
//! | [`ssh`] | a machine that ssh(1) reaches |
//! | [`cancel`] | one token, ordered reasons |
//! | [`clock`] | now, and fresh ids |
//! | [`quote`] | shell quoting |
//! | [`fs`] | atomic writes, publication by rename, removal |
//! | [`secrets`] | secrets in a stream of bytes, in every form that tools print them in |
//! | [`slots`] | how many may do something at once |
//! | [`lock`] | file locks that say who is alive |
//! | [`sys`] | process identity, and what Linux alone offers |

pub mod cancel;
pub mod clock;
pub mod command;
pub mod fs;
pub mod host;
pub mod local;
pub mod lock;
mod process;
pub mod quote;
pub mod secrets;
pub mod slots;
pub mod ssh;
pub mod sys;
mod wait;

pub use cancel::{CancelReason, CancelToken};
pub use clock::{Clock, IdSource, SystemClock, SystemIds};
pub use command::{Command, Environment};
pub use host::{
    EndedBy, Entry, EntryKind, Exit, Finished, Host, HostError, Isolation, Leaked, Mount, Output, OutputSink,
    Published, Supervision,
};
pub use local::{LocalHost, PrivateMounts, find_program};
pub use ssh::{Conversation, FailedAttempt, Forward, SshConfig, SshError, SshHost};
