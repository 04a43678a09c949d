//! `pikaci-fulfill-prepared-output`, the helper.

fn main() -> std::process::ExitCode {
    pikaci::helpers::fulfill()
}
