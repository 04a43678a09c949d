//! Repositories, jobs, awkward children and rigs for the tests.
//!
//! | module | subject |
//! |---|---|
//! | [`children`] | programs that misbehave, to be supervised |
//! | [`need`] | what a test needs of the machine, and who is told when it is not there |
//! | [`repo`] | random source trees in real repositories |

pub mod children;
pub mod need;
pub mod repo;
