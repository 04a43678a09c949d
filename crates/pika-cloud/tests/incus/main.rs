//! The operations on guests, with the real Incus.
#![cfg(feature = "ops")]

mod bad_input;
mod build_host;
mod cluster;
mod common;
mod cycle;
mod faults;
mod labels;
mod limits;
mod mounts;
mod policies;
mod ssh;
mod terminal;
