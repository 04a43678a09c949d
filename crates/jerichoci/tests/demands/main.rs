//! What jobs ask of their surroundings, and what runs are asked beside their jobs: real
//! repositories, real processes.

mod artifacts;
mod caches;
mod chosen;
mod follow;
mod gc;
mod git;
mod retries;
mod rig;
mod secrets;
