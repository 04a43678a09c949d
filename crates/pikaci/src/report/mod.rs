//! What was planned and what happened, as documents: for people, for other programs.
//!
//! | module | subject |
//! |---|---|
//! | [`plan`] | what a run would do |
//! | [`recorded`] | a run as it is recorded, with what lies beside its record |
//! | [`junit`] | JUnit XML |
//! | [`page`] | a page of HTML |
//! | [`trace`] | a trace for Perfetto |
//! | [`spans`] | when everything happened, by lane |
//! | [`diff`] | what differs between two runs |
//! | [`excerpt`] | head and tail of a long log |
//! | [`destination`] | where a document goes |

pub(crate) mod destination;
pub(crate) mod diff;
pub(crate) mod excerpt;
pub(crate) mod junit;
pub(crate) mod page;
pub(crate) mod plan;
pub(crate) mod recorded;
mod spans;
pub(crate) mod trace;
