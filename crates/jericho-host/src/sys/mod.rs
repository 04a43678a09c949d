//! System calls that need unsafe code or exist on Linux only.
//!
//! The rest of the crate is safe code above this module. Nothing here knows about jobs.

pub(crate) mod bound;
mod files;
mod identity;
mod limits;
pub mod memory;
pub(crate) mod namespace;
pub(crate) mod spawn;

pub use files::{make_fifo, reserve};
pub use identity::{ProcessIdentity, is_alive, own_identity};
pub use limits::raise_open_files;
