//! What a job's command is as arguments, and as one line for people.

use jericho_host::quote::{self, NulInArgument};

use crate::model::job::GuestCommand;

/// A command that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Program first; never empty but for an empty [`GuestCommand::Argv`].
    pub argv: Vec<String>,
    /// Needs root. Only guests offer it.
    pub run_as_root: bool,
    /// `argv` as a line that a shell reads back as `argv`: for plans, start lines, and guests
    /// that take a line.
    pub line: String,
}

enum Word<'a> {
    /// Part of a template: as it is.
    Fixed(&'a str),
    /// Filled in: always in quotes, so that a line shows what was filled in.
    Given(&'a str),
    /// In quotes where it must be.
    Plain(&'a str),
}

/// Turns a command into arguments.
///
/// # Errors
/// [`NulInArgument`]: no program can be given a NUL byte.
pub fn compile(command: &GuestCommand) -> Result<Compiled, NulInArgument> {
    compile_with(command, &[])
}

/// The same with arguments that the caller gives for this run: more arguments of a program,
/// positional parameters (`"$@"`) of a line or a script.
///
/// # Errors
/// [`NulInArgument`].
pub fn compile_with(command: &GuestCommand, args: &[String]) -> Result<Compiled, NulInArgument> {
    use Word::{Fixed, Given, Plain};
    let mut run_as_root = false;
    let mut words = match command {
        GuestCommand::HostShellCommand { command } | GuestCommand::ShellCommand { command } => {
            login_shell(command)
        }
        GuestCommand::ShellCommandAsRoot { command } => {
            run_as_root = true;
            login_shell(command)
        }
        GuestCommand::Script { script } => {
            let mut words: Vec<_> =
                ["bash", "--noprofile", "--norc", "-euo", "pipefail", "-c"].map(Fixed).into();
            words.push(Given(script));
            words
        }
        GuestCommand::ExactCargoTest { package, test_name } => {
            let mut words = cargo_test(package);
            words.push(Given(test_name));
            words.extend(["--", "--exact", "--nocapture"].map(Fixed));
            words
        }
        GuestCommand::PackageUnitTests { package } => {
            let mut words = cargo_test(package);
            words.extend(["--lib", "--", "--nocapture"].map(Fixed));
            words
        }
        GuestCommand::PackageTests { package } => {
            let mut words = cargo_test(package);
            words.extend(["--", "--nocapture"].map(Fixed));
            words
        }
        GuestCommand::FilteredCargoTests { package, filter } => {
            let mut words = cargo_test(package);
            words.extend([Fixed("--"), Given(filter), Fixed("--nocapture")]);
            words
        }
        GuestCommand::Argv { argv } => argv.iter().map(|word| Plain(word)).collect(),
    };
    if !args.is_empty() {
        if is_shell_text(command) {
            // What a shell takes for its own name comes first.
            words.push(Fixed("bash"));
        }
        words.extend(args.iter().map(|arg| Plain(arg)));
    }
    let mut argv = Vec::with_capacity(words.len());
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        match word {
            Fixed(text) => line.push_str(text),
            Given(text) => line.push_str(&in_quotes(text)?),
            Plain(text) => line.push_str(&quoted(text)?),
        }
        let (Fixed(text) | Given(text) | Plain(text)) = word;
        argv.push(text.to_owned());
    }
    Ok(Compiled { argv, run_as_root, line })
}

/// A program by its path, without arguments: the wrapper of a staged job. Its path is shown as
/// it is when a shell takes it so.
///
/// # Errors
/// [`NulInArgument`].
pub fn compile_program(path: &str) -> Result<Compiled, NulInArgument> {
    Ok(Compiled { argv: vec![path.to_owned()], run_as_root: false, line: quoted(path)? })
}

const fn is_shell_text(command: &GuestCommand) -> bool {
    matches!(
        command,
        GuestCommand::HostShellCommand { .. }
            | GuestCommand::ShellCommand { .. }
            | GuestCommand::ShellCommandAsRoot { .. }
            | GuestCommand::Script { .. }
    )
}

fn login_shell(command: &str) -> Vec<Word<'_>> {
    vec![
        Word::Fixed("bash"),
        Word::Fixed("--noprofile"),
        Word::Fixed("--norc"),
        Word::Fixed("-lc"),
        Word::Given(command),
    ]
}

fn cargo_test(package: &str) -> Vec<Word<'_>> {
    vec![Word::Fixed("cargo"), Word::Fixed("test"), Word::Fixed("-p"), Word::Given(package)]
}

fn quoted(text: &str) -> Result<String, NulInArgument> {
    let quoted = quote::quote(text.as_ref())?;
    // Quoting adds ASCII to a UTF-8 text, so nothing is lost here.
    Ok(quoted.into_string().unwrap_or_else(|other| other.to_string_lossy().into_owned()))
}

fn in_quotes(text: &str) -> Result<String, NulInArgument> {
    let quoted = quoted(text)?;
    // A word that needs no quotes holds none, so it can be put into them as it is.
    Ok(if quoted == text { format!("'{text}'") } else { quoted })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(command: &GuestCommand) -> String {
        compile(command).unwrap().line
    }

    #[test]
    fn known_templates_give_known_lines() {
        let (package, command) = (|| "pika_core".to_owned(), || "echo \"a b\"".to_owned());
        let cases = [
            (
                GuestCommand::HostShellCommand { command: command() },
                "bash --noprofile --norc -lc 'echo \"a b\"'",
            ),
            (GuestCommand::ShellCommand { command: "true".into() }, "bash --noprofile --norc -lc 'true'"),
            (
                GuestCommand::ExactCargoTest { package: package(), test_name: "a::b".into() },
                "cargo test -p 'pika_core' 'a::b' -- --exact --nocapture",
            ),
            (
                GuestCommand::PackageUnitTests { package: package() },
                "cargo test -p 'pika_core' --lib -- --nocapture",
            ),
            (GuestCommand::PackageTests { package: package() }, "cargo test -p 'pika_core' -- --nocapture"),
            (
                GuestCommand::FilteredCargoTests { package: package(), filter: "x y".into() },
                "cargo test -p 'pika_core' -- 'x y' --nocapture",
            ),
            (
                GuestCommand::Script { script: "a\nb".into() },
                "bash --noprofile --norc -euo pipefail -c 'a\nb'",
            ),
            (GuestCommand::Argv { argv: vec!["ls".into(), "a b".into()] }, "ls 'a b'"),
        ];
        for (command, expected) in cases {
            assert_eq!(line(&command), expected);
            assert!(!compile(&command).unwrap().run_as_root);
        }
        let root = compile(&GuestCommand::ShellCommandAsRoot { command: "id".into() }).unwrap();
        assert!(root.run_as_root);
        assert_eq!(root.argv, ["bash", "--noprofile", "--norc", "-lc", "id"]);
    }

    #[test]
    fn a_nul_byte_in_a_command_is_an_error() {
        assert!(compile(&GuestCommand::Script { script: "a\0b".into() }).is_err());
    }

    #[expect(clippy::disallowed_methods, reason = "the shell that lines are for")]
    fn words_of(line: &str) -> Vec<String> {
        let script = format!("set -- {line}\nfor word do printf '%s\\0' \"$word\"; done");
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_shell_reads_the_line_back_as_the_arguments(
            text in "[^\0]{0,20}",
            package in "[a-z'\" $-]{1,8}",
            argv in proptest::collection::vec("[^\0]{0,8}", 1..4),
        ) {
            for command in [
                GuestCommand::Script { script: text.clone() },
                GuestCommand::ShellCommand { command: text.clone() },
                GuestCommand::ExactCargoTest { package, test_name: text },
                GuestCommand::Argv { argv },
            ] {
                let compiled = compile(&command).unwrap();
                prop_assert_eq!(words_of(&compiled.line), compiled.argv);
            }
        }
    }
}
