//! The real program, with a cleared environment, in repositories of its own.

mod bad_input;
mod common;
mod ending;
mod help;
mod live;
mod path_filters;
mod reporting;
mod runs;
mod watch;
