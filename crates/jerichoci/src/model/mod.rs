//! The nouns of the engine: plain data with serde, no effects.
//!
//! Nothing here opens a file, starts a process or asks for the time. Field names and their
//! order are those that existing readers of the records know; new fields are additions that
//! are left out when empty.

pub mod attempt;
pub mod demands;
pub mod event;
pub mod id;
pub mod job;
pub mod outcome;
pub mod outputs;
pub mod plan;
pub mod record;
pub mod staged;
mod time;
pub mod version;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
pub(crate) fn is_zero(value: &u32) -> bool {
    *value == 0
}
