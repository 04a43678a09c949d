//! The command line of `jerichoci-incus-run`.

use std::ffi::OsString;
use std::path::PathBuf;

/// What is printed for `--help`.
pub const HELP: &str = "\
Runs one request of a guest or a remote host and writes its lifecycle files.

Usage: jerichoci-incus-run [--detach] REQUEST
       jerichoci-incus-run cancel [--force] REQUEST
       jerichoci-incus-run store WORK_DIR

  REQUEST     the run request, a JSON file of schema version 2 or 3
  --detach    go on in the background, in a session of its own; print process id and start
              time as one line of JSON once the request is found to be sound
  cancel      end the runner of a request and wait for its result; where the runner is gone,
              end what it has left and write the result it owes
  --force     without grace
  store       keep the snapshots of a work dir: answers an engine, line by line, until its
              standard input ends
  --version   print the version

Exit: the exit code of the command; 124 when its time was up, 128 + n when signal n ended it,
2 when it could not be run. With --detach, 0 once it runs. cancel: 0 when nothing runs any more. store: 0 once its input has ended.
";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run a request here.
    Run(PathBuf),
    /// Run it in the background.
    Detach(PathBuf),
    /// The background part of [`Action::Detach`].
    Detached(PathBuf),
    /// End the runner of a request.
    Cancel {
        /// The request.
        request: PathBuf,
        /// Without grace.
        force: bool,
    },
    /// Keep the snapshots of a work dir.
    Store(PathBuf),
    /// Become the command of a job; started by the runner alone.
    Enter(Vec<OsString>),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Name of the internal subcommand that becomes a job's command.
pub(crate) const ENTER: &str = "__enter";
/// Name of the internal option of a runner in the background.
pub(crate) const DETACHED: &str = "__detached";

/// Reads the arguments, without the name of the program.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, String> {
    let mut args = args.into_iter().peekable();
    let first = args.peek().and_then(|first| first.to_str()).unwrap_or_default();
    match first {
        "-h" | "--help" => return Ok(Action::Help),
        "-V" | "--version" => return Ok(Action::Version),
        ENTER => return Ok(Action::Enter(args.skip(1).collect())),
        DETACHED => return one_path(args.skip(1), &[]).map(|(path, _)| Action::Detached(path)),
        "store" => {
            return one_path(args.skip(1), &[])
                .map(|(path, _)| Action::Store(path))
                .map_err(|error| error.replace("request", "work dir"));
        }
        "cancel" => {
            let (request, force) = one_path(args.skip(1), &["--force"])?;
            return Ok(Action::Cancel { request, force });
        }
        _ => {}
    }
    let (request, detach) = one_path(args, &["--detach"])?;
    Ok(if detach { Action::Detach(request) } else { Action::Run(request) })
}

/// One path, and whether the known option stands before or after it.
fn one_path(args: impl Iterator<Item = OsString>, options: &[&str]) -> Result<(PathBuf, bool), String> {
    let mut path = None;
    let mut given = false;
    let mut only_paths = false;
    for arg in args {
        let text = arg.to_string_lossy();
        if !only_paths && text == "--" {
            only_paths = true;
        } else if !only_paths && options.contains(&&*text) {
            given = true;
        } else if !only_paths && text.starts_with('-') {
            return Err(format!("unknown option {text}"));
        } else if path.is_some() {
            return Err("more than one request".to_owned());
        } else {
            path = Some(PathBuf::from(&arg));
        }
    }
    let path = path.filter(|path| !path.as_os_str().is_empty()).ok_or("no request")?;
    Ok((path, given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Action, String> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn a_request_is_one_path_and_options_stand_on_either_side() {
        assert_eq!(parsed(&["r"]), Ok(Action::Run("r".into())));
        assert_eq!(parsed(&["--detach", "r"]), Ok(Action::Detach("r".into())));
        assert_eq!(parsed(&["r", "--detach"]), Ok(Action::Detach("r".into())));
        assert_eq!(parsed(&["--", "--detach"]), Ok(Action::Run("--detach".into())));
        assert_eq!(
            parsed(&["cancel", "--force", "r"]),
            Ok(Action::Cancel { request: "r".into(), force: true })
        );
        assert_eq!(parsed(&["-h"]), Ok(Action::Help));
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for (args, message) in [
            (&[][..], "no request"),
            (&[""], "no request"),
            (&["a", "b"], "more than one request"),
            (&["--force", "a"], "unknown option --force"),
            (&["cancel"], "no request"),
            (&["store"], "no work dir"),
            (&["cancel", "--detach", "a"], "unknown option --detach"),
        ] {
            assert_eq!(parsed(args), Err(message.to_owned()), "{args:?}");
        }
    }
}
