//! Jobs in real guests on Incus.

mod local;
mod rig;
