//! The real program with the real sshd and the real Incus.

mod ahead;
mod cluster;
#[path = "../cli/common.rs"]
#[expect(dead_code, reason = "shared with the tests of the command line")]
mod common;
mod deleted;
mod doctor;
mod kept;
mod place;
mod readme;
mod rights;
mod shell;
mod silent;
