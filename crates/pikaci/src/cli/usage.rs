//! What the parser of the command line refuses, in the words of every other error: one line and a
//! hint.

use std::num::NonZeroUsize;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;
use crate::error::CliError;
use crate::render::text::{printable, shorten};
use crate::targets::nearest;

/// The value of an option that counts and cannot be none.
pub(crate) fn from_one(text: &str) -> Result<NonZeroUsize, String> {
    text.trim().parse().map_err(|_| "a whole number from 1".to_owned())
}

/// The value of an option that counts.
pub(crate) fn from_zero(text: &str) -> Result<usize, String> {
    text.trim().parse().map_err(|_| "a whole number from 0".to_owned())
}

/// What a refusal says; nothing where the parser does not refuse but explains: help and version.
pub(super) fn refusal(error: &clap::Error) -> Option<CliError> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (option, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let message = match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return None,
        ErrorKind::InvalidSubcommand => {
            return Some(unknown_command(text(ContextKind::InvalidSubcommand)));
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if !option.is_empty() => {
            bad_value(error, option, value)
        }
        ErrorKind::MissingSubcommand => "no command was named".to_owned(),
        ErrorKind::MissingRequiredArgument => match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::Strings(missing)) => format!("{} is missing", missing.join(" ")),
            _ => "an argument is missing".to_owned(),
        },
        // The rest of its words is advice, which comes as the hint.
        _ => {
            let words = error.to_string();
            let paragraph: Vec<&str> = words.lines().take_while(|line| !line.is_empty()).collect();
            let line = paragraph.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
            printable(line.strip_prefix("error: ").unwrap_or(&line).as_bytes())
        }
    };
    Some(CliError::usage(message).hint(format!("{} --help", command_of(error))))
}

fn bad_value(error: &clap::Error, option: &str, value: &str) -> String {
    // `--jobs <N>`, `-C <DIR>`: what is wrong is told by the option alone.
    let option = option.split(' ').next().unwrap_or(option);
    let expected = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) if !words.is_empty() => {
            Some(format!("one of {}", words.join(", ")))
        }
        _ => std::error::Error::source(error).map(ToString::to_string),
    };
    match (value.is_empty(), expected) {
        (true, None) => format!("{option} is empty; it must have a value"),
        (true, Some(expected)) => format!("{option} is empty; it must be {expected}"),
        (false, Some(expected)) => format!("{option} is `{}`; it must be {expected}", shorten(value)),
        (false, None) => format!("{option} cannot be `{}`", shorten(value)),
    }
}

fn unknown_command(name: &str) -> CliError {
    let command = Cli::command();
    let known = command.get_subcommands().map(clap::Command::get_name);
    let hint = match nearest(name, known) {
        Some(nearest) => format!("did you mean `pikaci {nearest}`?"),
        None => "pikaci --help".to_owned(),
    };
    CliError::usage(format!("no command is called `{}`", shorten(name))).hint(hint)
}

/// The command that was typed, `pikaci run` for example: the usage line of the error has it. An
/// error about a value has none; then it is the first command that knows the option.
fn command_of(error: &clap::Error) -> String {
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) if usage.is_empty() => option.as_str(),
        _ => "",
    };
    // Several commands have an option of this name, each with words of its own.
    let words = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) => words.as_slice(),
        _ => &[],
    };
    let takes = |argument: &clap::Arg| {
        let possible = argument.get_possible_values();
        words.is_empty() || possible.iter().map(clap::builder::PossibleValue::get_name).eq(words)
    };
    let mut command = Cli::command();
    // Before that, an option has no text.
    command.build();
    let knows = |command: &clap::Command| {
        let mut arguments = command.get_arguments();
        arguments.any(|argument| !option.is_empty() && argument.to_string() == option && takes(argument))
    };
    let meant = command
        .get_subcommands()
        .find(|command| usage.split_whitespace().any(|word| word == command.get_name()) || knows(command));
    match meant.filter(|_| !knows(&command)) {
        Some(command) => format!("pikaci {}", command.get_name()),
        None => "pikaci".to_owned(),
    }
}
