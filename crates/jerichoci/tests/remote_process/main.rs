//! Jobs that are processes of a host over SSH: a real sshd, the real runner, real processes.

mod ready;
mod rig;
