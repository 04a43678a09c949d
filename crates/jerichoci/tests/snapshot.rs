//! Snapshots, the store and the trees made from it, with real git and real processes.

#[path = "snapshot/changed.rs"]
mod changed;
#[path = "snapshot/crash.rs"]
mod crash;
#[path = "snapshot/rig.rs"]
mod rig;
#[path = "snapshot/store.rs"]
mod store;
#[path = "snapshot/take.rs"]
mod take;
#[path = "snapshot/trees.rs"]
mod trees;
