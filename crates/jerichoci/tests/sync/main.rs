//! Snapshots on a host: over a real sshd, with the real receiver.

mod collecting;
mod delivering;
mod late;
mod refusing;
mod rig;
mod sharing;
