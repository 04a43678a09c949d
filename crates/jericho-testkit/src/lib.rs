//! Repositories, jobs, awkward children and rigs for the tests.
//!
//! | module | subject |
//! |---|---|
//! | [`children`] | programs that misbehave, to be supervised |
//! | [`cluster`] | a real cluster of three members of Incus |
//! | [`incus`] | the real Incus with a project of its own for each test |
//! | [`machine`] | a machine with Incus that nobody has set up yet |
//! | [`need`] | what a test needs of the machine, and who is told when it is not there |
//! | [`nix`] | the real nix with a store of its own |
//! | [`ssh`] | a real sshd on loopback |
//! | [`program`] | where built programs and files of a crate are at run time |
//! | [`repo`] | git repositories |
//! | [`staged_flake`] | a flake with the prepared outputs of all staged targets |
//! | [`tmux`] | a terminal to look at |

pub mod children;
pub mod cluster;
pub mod incus;
pub mod machine;
pub mod need;
pub mod nix;
pub mod program;
pub mod repo;
pub mod ssh;
pub mod staged_flake;
pub mod tmux;
