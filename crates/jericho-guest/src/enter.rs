//! The step between the runner and the command: another user, its directory, then the command itself.
//!
//! It runs in a process of its own with one thread, so that switching the user switches all of it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use rustix::process::Signal;

use crate::args::ENTER;
use crate::start::Teller;
use crate::user::Account;

/// What to become.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The pipe of [`crate::start`].
    pub(crate) start: PathBuf,
    pub(crate) cwd: PathBuf,
    /// uid, gid and groups; nothing to stay who one is.
    pub(crate) user: Option<(u32, u32, Vec<u32>)>,
    /// Program and arguments.
    pub(crate) argv: Vec<OsString>,
}

impl Entry {
    pub(crate) fn new(start: &Path, cwd: &Path, account: &Account, argv: Vec<OsString>) -> Self {
        let user = account.groups.clone().map(|groups| (account.uid, account.gid, groups));
        Self { start: start.to_path_buf(), cwd: cwd.to_path_buf(), user, argv }
    }

    /// The arguments of the process that runs [`enter`].
    pub(crate) fn args(&self) -> Vec<OsString> {
        let user = match &self.user {
            None => "-".to_owned(),
            Some((uid, gid, groups)) => {
                let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
                format!("{uid}:{gid}:{}", groups.join(","))
            }
        };
        let mut args = vec![ENTER.into(), self.start.clone().into(), self.cwd.clone().into(), user.into()];
        args.extend(self.argv.iter().cloned());
        args
    }

    fn parse(args: Vec<OsString>) -> Option<Self> {
        let mut args = args.into_iter();
        let (start, cwd, user) = (args.next()?, args.next()?, args.next()?);
        let user = match user.to_str()? {
            "-" => None,
            user => {
                let (uid, rest) = user.split_once(':')?;
                let (gid, groups) = rest.split_once(':')?;
                let groups = groups.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
                Some((uid.parse().ok()?, gid.parse().ok()?, groups))
            }
        };
        let argv: Vec<OsString> = args.collect();
        (!argv.is_empty()).then(|| Self { start: start.into(), cwd: cwd.into(), user, argv })
    }
}

/// Becomes the command, and returns only when that is not possible; who waits at the pipe has been told.
pub(crate) fn enter(args: Vec<OsString>) -> u8 {
    let Some(entry) = Entry::parse(args) else { return crate::BOOTSTRAP_ERROR };
    let Ok(mut teller) = Teller::open(&entry.start) else { return crate::BOOTSTRAP_ERROR };
    let error = become_command(&entry);
    teller.failed(&error);
    crate::BOOTSTRAP_ERROR
}

#[expect(clippy::disallowed_methods, reason = "this process does not start one, it becomes one")]
fn become_command(entry: &Entry) -> String {
    if let Some((uid, gid, groups)) = &entry.user
        && let Err(error) = switch(*uid, *gid, groups)
    {
        return format!("cannot become user {uid} and group {gid}: {error}");
    }
    // After the switch, which would undo it. A killed runner takes its command with it.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(error) = rustix::process::chdir(&entry.cwd) {
        return format!("cannot enter the working directory {}: {error}", entry.cwd.display());
    }
    let Some((program, args)) = entry.argv.split_first() else { return "no command".to_owned() };
    let error = std::process::Command::new(program).args(args).exec();
    format!("cannot start {}: {error}", program.display())
}

fn switch(uid: u32, gid: u32, groups: &[u32]) -> rustix::io::Result<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_arrives() {
        for user in [None, Some((1000, 100, vec![100, 5]))] {
            let entry = Entry {
                start: "/s t".into(),
                cwd: "/w".into(),
                user,
                argv: ["bash", "-lc", "a b"].map(OsString::from).into(),
            };
            let args = entry.args();
            assert_eq!(args[0], ENTER);
            assert_eq!(Entry::parse(args[1..].to_vec()), Some(entry));
        }
        assert_eq!(Entry::parse(vec!["/s".into(), "/w".into(), "x".into(), "true".into()]), None);
    }
}
