//! The command line of `jerichoci-incus-run`.

use std::ffi::OsString;
use std::path::PathBuf;

pub use crate::export::ExportLimits;

/// What is printed for `--help`.
pub const HELP: &str = "\
Runs one request of a guest or a remote host and writes its lifecycle files.

Usage: jerichoci-incus-run [--detach [--view FILE]] REQUEST
       jerichoci-incus-run cancel [--force] REQUEST
       jerichoci-incus-run follow [--offset BYTES] [--seq NUMBER] REQUEST
       jerichoci-incus-run export [--files NUMBER] [--bytes BYTES] DIR
       jerichoci-incus-run store WORK_DIR
       jerichoci-incus-run relay --to SOCKET WORK_DIR

  REQUEST     the run request, a JSON file of schema version 2 or 3
  --detach    go on in the background, in a session of its own; print process id and start
              time as one line of JSON once the request is found to be sound
  --view      make the working directory of the request a writable view of a tree, as FILE says
  cancel      end the runner of a request and wait for its result; where the runner is gone,
              end what it has left and write the result it owes
  --force     without grace
  follow      print the log from a byte on, events after a number and the result of a request as
              they come, framed for an engine; ends with standard input
  export      print the files below DIR, framed for an engine, up to so many files and bytes
  store       keep the snapshots of a work dir: answers an engine, line by line, until its
              standard input ends
  relay       listen at a socket below a work dir, whose path is printed, and connect whoever has
              something to say to SOCKET, until standard input ends
  --version   print the version

Exit: the exit code of the command; 124 when its time was up, 128 + n when signal n ended it,
2 when it could not be run. With --detach, 0 once it runs. cancel: 0 when nothing runs any more.
follow, export: 0 when all was printed. store, relay: 0 once their input has ended.
";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run a request here.
    Run(PathBuf),
    /// Run it in the background.
    Detach(Detach),
    /// The background part of [`Action::Detach`].
    Detached(Detach),
    /// End the runner of a request.
    Cancel {
        /// The request.
        request: PathBuf,
        /// Without grace.
        force: bool,
    },
    /// Tell what becomes of a request.
    Follow {
        /// The request.
        request: PathBuf,
        /// Bytes of the log that are known already.
        offset: u64,
        /// Number of the last event that is known already.
        seq: u64,
    },
    /// Tell the files below a directory.
    Export {
        /// The directory.
        dir: PathBuf,
        /// How much is told.
        limits: ExportLimits,
    },
    /// Keep the snapshots of a work dir.
    Store(PathBuf),
    /// Let connections through to a socket.
    Relay {
        /// Where the socket of its own is made.
        work_dir: PathBuf,
        /// The other socket.
        to: PathBuf,
    },
    /// Become the command of a job; started by the runner alone.
    Enter(Vec<OsString>),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// A request that is run in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detach {
    /// The request.
    pub request: PathBuf,
    /// What its working directory is to be.
    pub view: Option<PathBuf>,
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
        DETACHED => {
            let given = Given::read(args.skip(1), &[], &["--view"])?;
            return Ok(Action::Detached(given.into_detach()));
        }
        "store" => {
            let given =
                Given::read(args.skip(1), &[], &[]).map_err(|error| error.replace("request", "work dir"))?;
            return Ok(Action::Store(given.path));
        }
        "relay" => {
            let given = Given::read(args.skip(1), &[], &["--to"])
                .map_err(|error| error.replace("request", "work dir"))?;
            let to = given.get("--to").ok_or("no --to")?.into();
            return Ok(Action::Relay { work_dir: given.path, to });
        }
        "cancel" => {
            let given = Given::read(args.skip(1), &["--force"], &[])?;
            return Ok(Action::Cancel { force: given.has("--force"), request: given.path });
        }
        "follow" => {
            let given = Given::read(args.skip(1), &[], &["--offset", "--seq"])?;
            let (offset, seq) = (given.number("--offset", 0)?, given.number("--seq", 0)?);
            return Ok(Action::Follow { request: given.path, offset, seq });
        }
        "export" => {
            let given = Given::read(args.skip(1), &[], &["--files", "--bytes"])?;
            let files = given.number("--files", u64::MAX)?;
            let limits = ExportLimits { files, bytes: given.number("--bytes", u64::MAX)? };
            return Ok(Action::Export { dir: given.path, limits });
        }
        _ => {}
    }
    let given = Given::read(args, &["--detach"], &["--view"])?;
    if given.has("--detach") {
        return Ok(Action::Detach(given.into_detach()));
    }
    if given.has("--view") {
        return Err("--view goes with --detach".to_owned());
    }
    Ok(Action::Run(given.path))
}

/// One path, and the options that stand before or after it.
struct Given {
    path: PathBuf,
    options: Vec<(&'static str, OsString)>,
}

impl Given {
    fn read(
        mut args: impl Iterator<Item = OsString>,
        flags: &[&'static str],
        valued: &[&'static str],
    ) -> Result<Self, String> {
        let mut path = None;
        let mut options = Vec::new();
        let mut only_paths = false;
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy();
            let known = |names: &[&'static str]| names.iter().copied().find(|name| *name == text);
            if !only_paths && text == "--" {
                only_paths = true;
            } else if let (false, Some(flag)) = (only_paths, known(flags)) {
                options.push((flag, OsString::new()));
            } else if let (false, Some(option)) = (only_paths, known(valued)) {
                let value = args.next().ok_or_else(|| format!("{option} has no value"))?;
                options.push((option, value));
            } else if !only_paths && text.starts_with('-') {
                return Err(format!("unknown option {text}"));
            } else if path.is_some() {
                return Err("more than one request".to_owned());
            } else {
                path = Some(PathBuf::from(&arg));
            }
        }
        let path = path.filter(|path| !path.as_os_str().is_empty()).ok_or("no request")?;
        Ok(Self { path, options })
    }

    fn get(&self, name: &str) -> Option<&OsString> {
        self.options.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn number(&self, name: &str, unless: u64) -> Result<u64, String> {
        let Some(value) = self.get(name) else { return Ok(unless) };
        let number = value.to_str().and_then(|value| value.parse().ok());
        number.ok_or_else(|| format!("{name} {} is no number", value.to_string_lossy()))
    }

    fn into_detach(self) -> Detach {
        let view = self.get("--view").map(PathBuf::from);
        Detach { request: self.path, view }
    }
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
        let detach = |view: Option<&str>| {
            Ok(Action::Detach(Detach { request: "r".into(), view: view.map(Into::into) }))
        };
        assert_eq!(parsed(&["--detach", "r"]), detach(None));
        assert_eq!(parsed(&["r", "--detach"]), detach(None));
        assert_eq!(parsed(&["r", "--view", "v", "--detach"]), detach(Some("v")));
        assert_eq!(
            parsed(&["follow", "--seq", "3", "r", "--offset", "12"]),
            Ok(Action::Follow { request: "r".into(), offset: 12, seq: 3 })
        );
        let limits = ExportLimits { files: u64::MAX, bytes: 7 };
        assert_eq!(parsed(&["export", "--bytes", "7", "d"]), Ok(Action::Export { dir: "d".into(), limits }));
        assert_eq!(parsed(&["--", "--detach"]), Ok(Action::Run("--detach".into())));
        assert_eq!(
            parsed(&["cancel", "--force", "r"]),
            Ok(Action::Cancel { request: "r".into(), force: true })
        );
        let relay = Action::Relay { work_dir: "d".into(), to: "s".into() };
        assert_eq!(parsed(&["relay", "--to", "s", "d"]), Ok(relay));
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
            (&["--view", "v", "r"], "--view goes with --detach"),
            (&["--detach", "r", "--view"], "--view has no value"),
            (&["follow", "r", "--seq", "-1"], "--seq -1 is no number"),
            (&["store"], "no work dir"),
            (&["relay", "--to", "s"], "no work dir"),
            (&["relay", "d"], "no --to"),
            (&["cancel", "--detach", "a"], "unknown option --detach"),
        ] {
            assert_eq!(parsed(args), Err(message.to_owned()), "{args:?}");
        }
    }
}
