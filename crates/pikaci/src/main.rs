//! `pikaci`, the command.

use std::process::ExitCode;

fn main() -> ExitCode {
    pikaci::main()
}
