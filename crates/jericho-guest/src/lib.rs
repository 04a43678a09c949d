//! The programs that live in a guest or on a remote host: they run one request and write the lifecycle
//! files.
//!
//! They are delivered as files and started by somebody else's system, so they are small, static, and need
//! nothing but a kernel with `/proc`. What they read and write is `docs/guest-contract.md`.
//!
//! | module | subject |
//! |---|---|
//! | [`args`] | the command line of `jerichoci-incus-run` |
//! | [`runner`] | one request, from its file to its result |
//! | [`lifecycle`] | `pika-cloud-lifecycle`: one status, event or result |

pub mod args;
mod artifacts;
mod cancel;
mod detach;
mod enter;
mod environment;
mod export;
mod follow;
mod frame;
pub mod lifecycle;
mod log;
mod orphans;
mod plan;
mod relay;
pub mod runner;
mod signals;
mod start;
mod state;
mod store;
mod tee;
mod user;
mod verdict;
mod view;

/// Exit code of a runner that could not do its part.
pub const BOOTSTRAP_ERROR: u8 = 2;
