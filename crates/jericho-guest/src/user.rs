//! As whom a command runs: read from `/etc/passwd` and `/etc/group`, since a static program has no
//! other directory of users.

use std::path::{Path, PathBuf};

use pika_cloud::{GuestRuntime, IncusGuestRunRequest};

/// The user of a guest image, as the contract names it.
const GUEST_UID: u32 = 1000;
const GUEST_GID: u32 = 100;
const GUEST_NAME: &str = "pikaci";
const GUEST_HOME: &str = "/home/pikaci";

/// A user as a command sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    /// The groups to switch to; nothing when the runner is this user already.
    pub(crate) groups: Option<Vec<u32>>,
}

/// Who the runner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Own {
    pub(crate) fn now() -> Self {
        Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }
}

/// The user of a request on this machine.
pub(crate) fn resolve(request: &IncusGuestRunRequest, own: Own) -> Result<Account, String> {
    // Not there in the smallest of images; then the numbers are all there is to know.
    let read = |path: &str| std::fs::read(Path::new(path)).unwrap_or_default();
    resolve_in(request, own, &read("/etc/passwd"), &read("/etc/group"))
}

fn resolve_in(
    request: &IncusGuestRunRequest,
    own: Own,
    passwd: &[u8],
    group: &[u8],
) -> Result<Account, String> {
    let options = request.options();
    let host = options.runtime == GuestRuntime::HostProcess;
    let uid = match (request.run_as_root(), options.uid) {
        (true, _) => 0,
        (false, Some(uid)) => uid,
        (false, None) if host => own.uid,
        (false, None) => GUEST_UID,
    };
    let entry = Entry::find(passwd, uid);
    let gid = options.gid.or(entry.as_ref().map(|entry| entry.gid)).unwrap_or(match uid {
        0 => 0,
        uid if uid == own.uid => own.gid,
        _ => GUEST_GID,
    });
    // A host process without a wish stays what it is, whatever /etc/passwd says of its group.
    let same_user = uid == own.uid && (gid == own.gid || options.gid.is_none());
    if own.uid != 0 && !same_user {
        return Err(format!(
            "the command is to run as user {uid} and group {gid}, and the runner is user {} and not root",
            own.uid
        ));
    }
    let (name, home) = match (entry, uid) {
        (Some(entry), _) => (entry.name, entry.home),
        (None, 0) => ("root".to_owned(), PathBuf::from("/root")),
        (None, GUEST_UID) => (GUEST_NAME.to_owned(), PathBuf::from(GUEST_HOME)),
        (None, uid) => (uid.to_string(), PathBuf::from("/")),
    };
    let gid = if same_user && options.gid.is_none() { own.gid } else { gid };
    let groups = (!same_user).then(|| groups_of(group, &name, gid));
    Ok(Account { uid, gid, name, home, groups })
}

/// One line of `/etc/passwd`.
struct Entry {
    name: String,
    gid: u32,
    home: PathBuf,
}

impl Entry {
    fn find(passwd: &[u8], uid: u32) -> Option<Self> {
        String::from_utf8_lossy(passwd).lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, found, gid, _, home, ..] = fields.as_slice() else { return None };
            if found.parse() != Ok(uid) || name.is_empty() {
                return None;
            }
            let home = if home.starts_with('/') { home } else { "/" };
            Some(Self { name: (*name).to_owned(), gid: gid.parse().ok()?, home: home.into() })
        })
    }
}

/// The group itself, and those of `/etc/group` that list the user.
fn groups_of(group: &[u8], name: &str, gid: u32) -> Vec<u32> {
    let mut groups = vec![gid];
    for line in String::from_utf8_lossy(group).lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [_, _, gid, members, ..] = fields.as_slice()
            && members.split(',').any(|member| member.trim() == name)
            && let Ok(gid) = gid.parse()
            && !groups.contains(&gid)
        {
            groups.push(gid);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use pika_cloud::{GuestRunOptions, RuntimePaths};

    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/bash\nbroken\nci:x:1000:1000::/home/ci:/bin/sh\nme:x:7:8::/home/me:\n";
    const GROUP: &[u8] = b"root:x:0:\nkvm:x:105:ci, other\nci:x:1000:ci\n";
    const ROOT: Own = Own { uid: 0, gid: 0 };

    fn guest(run_as_root: bool) -> IncusGuestRunRequest {
        IncusGuestRunRequest::new("true", 1, run_as_root).unwrap()
    }

    fn host(uid: Option<u32>, gid: Option<u32>) -> IncusGuestRunRequest {
        let options = GuestRunOptions {
            runtime: GuestRuntime::HostProcess,
            paths: Some(RuntimePaths::in_dir("/s")),
            cwd: Some("/w".into()),
            uid,
            gid,
            ..GuestRunOptions::default()
        };
        IncusGuestRunRequest::with_options("true", 1, false, options).unwrap()
    }

    #[test]
    fn a_guest_runs_its_command_as_its_user_with_all_groups_or_as_root() {
        let account = resolve_in(&guest(false), ROOT, PASSWD, GROUP).unwrap();
        assert_eq!((account.uid, account.gid, account.name.as_str()), (1000, 1000, "ci"));
        assert_eq!(account.groups, Some(vec![1000, 105]));
        let account = resolve_in(&guest(false), ROOT, b"", b"").unwrap();
        assert_eq!((account.uid, account.gid, account.name.as_str()), (1000, 100, "pikaci"));
        assert_eq!(account.home, Path::new("/home/pikaci"));
        let account = resolve_in(&guest(true), ROOT, PASSWD, GROUP).unwrap();
        assert_eq!((account.uid, account.groups, account.home), (0, None, "/root".into()));
    }

    #[test]
    fn a_host_process_stays_who_it_is_unless_it_is_told() {
        let me = Own { uid: 7, gid: 9 };
        let account = resolve_in(&host(None, None), me, PASSWD, GROUP).unwrap();
        assert_eq!((account.uid, account.gid, account.groups), (7, 9, None));
        let account = resolve_in(&host(Some(7), None), me, PASSWD, GROUP).unwrap();
        assert_eq!((account.name.as_str(), account.groups), ("me", None));
        let account = resolve_in(&host(Some(7), Some(3)), ROOT, PASSWD, GROUP).unwrap();
        assert_eq!((account.gid, account.groups), (3, Some(vec![3])));
    }

    #[test]
    fn who_is_not_root_becomes_nobody_else() {
        let me = Own { uid: 7, gid: 9 };
        for request in [guest(false), guest(true), host(Some(8), None), host(Some(7), Some(3))] {
            let error = resolve_in(&request, me, PASSWD, GROUP).unwrap_err();
            assert!(error.contains("not root"), "{error}");
        }
    }
}
