//! `pikaci`, the command.

fn main() -> std::process::ExitCode {
    jericho_host::sys::memory::keep_large_blocks_apart();
    pikaci::main()
}
