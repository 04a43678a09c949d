//! The real program, with a cleared environment, in repositories of its own.

mod bad_input;
mod common;
mod ending;
mod help;
mod path_filters;
mod runs;
mod settings;
mod targets;
