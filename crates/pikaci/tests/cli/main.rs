//! The real program, with a cleared environment, in repositories of its own.

mod bad_input;
mod browser;
mod common;
mod ending;
mod explain;
mod follow;
mod help;
mod junit;
mod live;
mod page;
mod path_filters;
mod plan;
mod reporting;
mod runs;
mod settings;
mod shells;
mod targets;
mod two_runs;
mod watch;
