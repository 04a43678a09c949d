//! The work directory of a host: made, checked, and what the host says of itself on the way.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelToken, Command, Conversation, Host, HostError, SshHost};

use super::error::WorkDirProblem;
use super::runner_binary::{NAME, Runner};

/// The programs for the shell of a host.
const LOOK: &str = include_str!("look.sh");
const DELIVER: &str = include_str!("deliver.sh");
/// More than what a look says.
const LONGEST: usize = 64 << 10;

/// What a host says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The work directory, without links.
    pub(super) work_dir: PathBuf,
    /// `uname -s`.
    pub(super) system: String,
    /// `uname -m`.
    pub(super) arch: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether the account may mount what nobody else sees.
    pub(super) mounts: bool,
    /// Free for this account at the work directory, in bytes.
    pub(super) free_bytes: u64,
    /// Of its kernel; nothing where there is none.
    pub(super) boot_id: Option<String>,
    /// Hash of the runner that is there under the name of one of the hashes it was asked about.
    pub(super) runner: Option<String>,
    /// The socket of a relay before Incus, which ends with the conversation.
    pub(super) relay: Option<PathBuf>,
}

/// What came of a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Facts(Facts),
    Problem(WorkDirProblem),
    /// Not what the program prints.
    Unreadable(String),
}

/// Whether a directory may be one's work directory, by its name alone.
pub(super) fn is_plain(dir: &Path) -> bool {
    let names = dir.components().skip(1);
    dir.is_absolute()
        && dir.components().count() > 1
        && names.clone().all(|part| matches!(part, Component::Normal(_)))
        && !dir.as_os_str().as_encoded_bytes().contains(&b'\n')
}

/// Makes and checks the directory. One command.
pub(super) fn look(
    host: &dyn Host,
    dir: &Path,
    runners: &[Runner],
    cancel: &CancelToken,
) -> Result<Look, HostError> {
    let output = host.run(&command(dir, runners, None), cancel)?;
    Ok(seen(&output.stdout, &output.stderr))
}

/// The same, and where the runner is there, a conversation with it as the receiver of snapshots, which is told
/// `hello`: a session less than when it is asked for afterwards. With what it has said already. A relay before
/// `socket` goes with it.
pub(super) fn look_and_stay(
    host: &Arc<SshHost>,
    dir: &Path,
    runners: &[Runner],
    (hello, grace, socket): (Vec<u8>, Duration, Option<&Path>),
    cancel: &CancelToken,
) -> Result<(Look, Option<Stayed>), HostError> {
    let command = command(dir, runners, Some(socket)).grace(grace).stdin(hello);
    let mut conversation = host.converse_kept(&command, cancel)?;
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    let end = loop {
        if let Some(end) = end_of_facts(&heard) {
            break end;
        }
        match conversation.receive(&mut buffer)? {
            0 => {
                let output = conversation.finish()?;
                return Ok((seen(&heard, &output.stderr), None));
            }
            count => heard.extend_from_slice(&buffer[..count]),
        }
        if heard.len() > LONGEST {
            return Ok((seen(&heard, &[]), None));
        }
    };
    let rest = heard.split_off(end);
    let look = seen(&heard, &[]);
    let wanted = |facts: &Facts| runners.iter().any(|runner| Some(&runner.sha256) == facts.runner.as_ref());
    let stays = matches!(&look, Look::Facts(facts) if wanted(facts));
    Ok((look, stays.then_some(Stayed { conversation, heard: rest })))
}

/// A receiver of snapshots that went on from a look.
pub(super) struct Stayed {
    pub(super) conversation: Conversation<'static>,
    /// What it has said.
    pub(super) heard: Vec<u8>,
}

fn command(dir: &Path, runners: &[Runner], stays: Option<Option<&Path>>) -> Command {
    let (stays, socket) = stays.map_or(("", None), |socket| ("stay", socket));
    let command = Command::new("sh").args(["-c", LOOK, "sh"]).arg(dir).args([NAME, stays]);
    let command = command.arg(socket.unwrap_or(Path::new("")));
    runners.iter().fold(command, |command, runner| command.arg(&runner.arch).arg(&runner.sha256))
}

/// Where what comes after the facts begins.
fn end_of_facts(heard: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\nend\n";
    heard.windows(END.len()).position(|window| window == END).map(|at| at + END.len())
}

fn seen(stdout: &[u8], stderr: &[u8]) -> Look {
    let said = String::from_utf8_lossy(stdout);
    read(&said).unwrap_or_else(|| {
        let words = if said.trim().is_empty() { String::from_utf8_lossy(stderr) } else { said };
        Look::Unreadable(words.trim().chars().take(300).collect())
    })
}

fn read(said: &str) -> Option<Look> {
    let mut facts = Facts::default();
    let mut is_whole = false;
    let mut lines = said.lines();
    while let Some(line) = lines.next() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        let text = || value.to_owned();
        match name {
            "problem" => {
                let rest: Vec<&str> = std::iter::once(value).chain(lines).collect();
                return problem(&rest.join(" ")).map(Look::Problem);
            }
            "path" => facts.work_dir = PathBuf::from(value),
            "system" => facts.system = text(),
            "arch" => facts.arch = text(),
            "uid" => facts.uid = value.parse().ok()?,
            "gid" => facts.gid = value.parse().ok()?,
            "mounts" => facts.mounts = value == "yes",
            "free_kib" => facts.free_bytes = value.parse::<u64>().ok()?.saturating_mul(1024),
            "boot_id" => facts.boot_id = Some(text()),
            "runner" => facts.runner = Some(text()),
            "relay" => facts.relay = Some(PathBuf::from(value)),
            "end" => is_whole = true,
            _ => return None,
        }
    }
    (is_whole && super::runner_binary::is_arch(&facts.arch) && facts.work_dir.is_absolute())
        .then_some(Look::Facts(facts))
}

fn problem(words: &str) -> Option<WorkDirProblem> {
    let (kind, rest) = words.split_once(' ').unwrap_or((words, ""));
    Some(match kind {
        "link" => WorkDirProblem::Link,
        "no_directory" => WorkDirProblem::NoDirectory,
        "owner" => {
            let (owner, account) = rest.split_once(' ')?;
            WorkDirProblem::Owner { owner: owner.to_owned(), account: account.to_owned() }
        }
        "open" => WorkDirProblem::Open,
        "read_only" => WorkDirProblem::ReadOnly(rest.to_owned()),
        "missing" => WorkDirProblem::Missing(rest.to_owned()),
        _ => return None,
    })
}

/// Puts a runner there. One command.
///
/// # Errors
/// In the middle, what the host had against it.
pub(super) fn deliver(
    host: &dyn Host,
    dir: &Path,
    hash: &str,
    content: Vec<u8>,
    fresh: &str,
    cancel: &CancelToken,
) -> Result<Result<(), String>, HostError> {
    let mut command = Command::new("sh").args(["-c", DELIVER, "sh"]).arg(dir).args([NAME, hash, fresh]);
    command.stdin = Some(content);
    let output = host.run(&command, cancel)?;
    if output.exit.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Ok(Err(if said.is_empty() { "the host did not say why".to_owned() } else { said }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_says_is_read_and_half_of_it_is_nothing() {
        let said = "path /w\nsystem Linux\narch x86_64\nuid 0\ngid 0\nfree_kib 12\nmounts yes\nboot_id b\nrunner ab\nend\n";
        let Some(Look::Facts(facts)) = read(said) else { panic!("{said}") };
        assert_eq!((facts.free_bytes, facts.runner.as_deref()), (12 << 10, Some("ab")));
        assert!(facts.mounts);
        let Some(Look::Facts(facts)) = read(&said.replace("yes", "no")) else { panic!("{said}") };
        assert!(!facts.mounts);
        assert_eq!(read(said.strip_suffix("end\n").unwrap()), None);
        assert_eq!(read("Welcome to box\n"), None);
        let owner = WorkDirProblem::Owner { owner: "eve".into(), account: "ci".into() };
        assert_eq!(read("problem owner eve ci\n"), Some(Look::Problem(owner)));
        let read_only = WorkDirProblem::ReadOnly("sh: a: b c".into());
        assert_eq!(read("problem read_only sh: a: b\nc\n"), Some(Look::Problem(read_only)));
    }

    #[test]
    fn root_without_the_right_to_mount_is_known() {
        use jericho_host::{Environment, LocalHost};
        let test = "root_without_the_right_to_mount_is_known";
        let cancel = CancelToken::new().unwrap();
        let can = LocalHost::new().supports_namespaces();
        if !jericho_testkit::need::needs(test, "needs root and namespaces", can) {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path: Environment = [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")].into_iter().collect();
        let weak = ["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "sh", "-c", LOOK, "sh"];
        let own = ["-c", LOOK, "sh"];
        for (program, words, expected) in [("setpriv", &weak[..], false), ("sh", &own[..], true)] {
            let command =
                Command::new(program).args(words).arg(dir.path()).args([NAME, "", ""]).env(path.clone());
            let output = LocalHost::new().run(&command, &cancel).unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let Some(Look::Facts(facts)) = read(&said) else { panic!("{program}: {output:?}") };
            assert_eq!((facts.uid, facts.mounts), (0, expected), "{program}");
        }
    }

    #[test]
    fn a_work_directory_is_absolute_and_has_names_only() {
        for (dir, fine) in [
            ("/w", true),
            ("/var/tmp/a b", true),
            ("w", false),
            ("/", false),
            ("/a/../b", false),
            ("", false),
        ] {
            assert_eq!(is_plain(Path::new(dir)), fine, "{dir}");
        }
    }
}
