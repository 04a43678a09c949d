//! Repositories, jobs, awkward children and rigs for the tests.

pub mod children;
