//! Jobs in real guests on Incus.

mod local;
mod over_ssh;
mod rig;
mod staged;
