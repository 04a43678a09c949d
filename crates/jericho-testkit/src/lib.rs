//! Repositories, jobs, awkward children and rigs for the tests.

pub mod need;
pub mod program;
pub mod repo;
