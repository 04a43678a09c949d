//! `pikaci-launch-fulfill-prepared-output`, the launcher.

fn main() -> std::process::ExitCode {
    pikaci::helpers::launch()
}
