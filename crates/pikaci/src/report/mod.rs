//! What was planned and what happened, as documents: for people, for other programs.
//!
//! | module | subject |
//! |---|---|
//! | [`plan`] | what a run would do |

pub(crate) mod plan;
