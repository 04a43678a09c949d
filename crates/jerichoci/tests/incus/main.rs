//! Jobs in real guests on Incus.

mod cluster;
mod cluster_care;
mod demands;
mod doomed;
mod ending;
mod input;
mod local;
mod many;
mod network;
mod over_ssh;
mod placements;
mod rig;
mod staged;
mod stopped;
