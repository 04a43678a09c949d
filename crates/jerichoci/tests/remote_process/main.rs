//! Jobs that are processes of a host over SSH: a real sshd, the real runner, real processes.

mod faults;
mod garbage;
mod jobs;
mod ready;
mod rig;
