//! System calls that need unsafe code or exist on Linux only.
//!
//! The rest of the crate is safe code above this module. Nothing here knows about jobs.

use std::sync::OnceLock;

pub(crate) mod bound;
mod files;
mod identity;
mod limits;
pub mod memory;
pub(crate) mod namespace;
pub(crate) mod spawn;

pub use files::{make_fifo, reserve};
pub use identity::{ProcessIdentity, ancestor, is_alive, own_identity};
pub use limits::raise_open_files;

/// Processors that this process may use; asked once, since the answer is read from several files.
#[must_use]
pub fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
