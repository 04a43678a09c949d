//! `pikaci`, the command.

fn main() -> std::process::ExitCode {
    pikaci::main()
}
