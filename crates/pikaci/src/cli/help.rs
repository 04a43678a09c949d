//! `pikaci --help`: the commands by what one wants to do.

use std::fmt::Write as _;

/// Every command is in exactly one group; a test holds that.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run", &["plan", "run", "rerun", "cancel"]),
    ("Look", &["targets", "explain", "list", "status", "logs", "report", "snapshot", "shell"]),
    ("Keep", &["gc", "reap"]),
    ("Set up", &["config", "doctor", "completions", "man"]),
    (
        "For programs",
        &[
            "schema",
            "prepared-outputs",
            "fulfill-prepared-output-request",
            "staged-linux-remote-defaults",
            "staged-linux-target-info",
        ],
    ),
];

const AFTER: &str = "\
Exit codes: 0 passed or skipped, 1 a job failed or timed out, 2 wrong usage,
3 infrastructure, 4 cancelled, 5 run, target, job or log not found.";

/// The same command with its subcommands listed in groups.
pub(super) fn grouped(command: clap::Command) -> clap::Command {
    let mut list = String::new();
    for (title, names) in GROUPS {
        // Writing to a string cannot fail.
        let _ = writeln!(list, "{title}:");
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(list, "  {name:<31} {about}");
        }
        list.push('\n');
    }
    command
        .help_template(format!(
            "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}Options:\n{{options}}{{after-help}}"
        ))
        .after_help(AFTER)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn every_command_is_in_exactly_one_group() {
        let command = super::super::Cli::command();
        let mut known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let mut grouped: Vec<&str> =
            super::GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        known.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(known, grouped);
        command.debug_assert();
    }
}
