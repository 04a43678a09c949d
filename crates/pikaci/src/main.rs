//! `pikaci`, the command.

fn main() {}
