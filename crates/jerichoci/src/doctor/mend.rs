//! The commands that make a machine one for guests, as they are typed on this one.
//!
//! A doctor and a job that has failed say the same.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use pika_cloud::ops::{DEFAULT_SOCKET, OpsError};
use pika_incus_guest_role::IncusGuestRole;

use super::facts::Facts;
use crate::config::IncusConfig;

/// A machine whose Incus something is missing of.
#[derive(Debug, Clone)]
pub(crate) struct Mend<'a> {
    /// What ssh(1) takes; `None` for this machine.
    pub(crate) destination: Option<String>,
    /// Its settings.
    pub(crate) incus: &'a IncusConfig,
    /// Work directory, or state root: where sources lie that guests see.
    pub(crate) dir: &'a Path,
}

impl Mend<'_> {
    /// Makes a Debian machine a build host, or what is missing of it. On another system the page of operations says
    /// what belongs there.
    pub(crate) fn set_up(&self, facts: &Facts) -> String {
        const SCRIPT: &str = "scripts/setup-build-host";
        let options = format!(
            "--account {} --project {} --profile {} --work-dir {}",
            quoted(facts.account()),
            quoted(&self.incus.project),
            quoted(&self.incus.profile),
            quoted(&self.dir.to_string_lossy())
        );
        let daemon = self.daemon().map_or_else(String::new, |daemon| format!("env {daemon} "));
        match (&self.destination, facts.is_root()) {
            (None, true) => format!("{daemon}{SCRIPT} {options}"),
            (None, false) => format!("sudo {daemon}{SCRIPT} {options}"),
            (Some(host), true) => format!("ssh {} {daemon}bash -s -- {options} <{SCRIPT}", quoted(host)),
            (Some(host), false) => {
                format!("ssh {} sudo {daemon}bash -s -- {options} <{SCRIPT}", quoted(host))
            }
        }
    }

    /// Lets the account in. It is root on that machine then, which the page of the docs says.
    pub(crate) fn grant(&self, facts: &Facts) -> String {
        let command = format!("usermod -aG incus-admin {}", quoted(facts.account()));
        format!("{}; then log in anew", as_root(self.destination.as_deref(), facts, &command))
    }

    /// Starts, or restarts, the daemon.
    pub(crate) fn daemon_is_to(&self, verb: &str, facts: &Facts) -> String {
        as_root(self.destination.as_deref(), facts, &format!("systemctl {verb} incus"))
    }

    /// Lets sshd forward to sockets.
    pub(crate) fn forwarding(&self, facts: &Facts) -> String {
        let edit = "sed -i '/^AllowStreamLocalForwarding/d; /^DisableForwarding/d' /etc/ssh/sshd_config";
        format!(
            "{}; then reload sshd there, and see that no `restrict` stands before the key in ~/.ssh/authorized_keys",
            as_root(self.destination.as_deref(), facts, edit)
        )
    }

    /// A command of Incus.
    pub(crate) fn incus(&self, words: &str) -> String {
        let daemon = self.daemon().map_or_else(String::new, |daemon| format!("{daemon} "));
        on(self.destination.as_deref(), &format!("{daemon}incus {words}"))
    }

    /// Changes the project.
    pub(crate) fn set(&self, settings: &[String]) -> String {
        let settings: Vec<String> = settings.iter().map(|setting| quoted(setting)).collect();
        self.incus(&format!("project set {} {}", quoted(&self.incus.project), settings.join(" ")))
    }

    /// Makes a network for jobs that have one.
    pub(crate) fn network(&self, name: &str) -> String {
        self.incus(&format!("network create {} --project {}", quoted(name), quoted(&self.incus.project)))
    }

    /// Builds the image and puts it where guests are made of it.
    pub(crate) fn image(&self, role: IncusGuestRole, alias: &str) -> String {
        let socket = self.incus.socket.to_string_lossy();
        let (daemon, to) = match (&self.destination, self.daemon()) {
            (None, daemon) => (daemon.map_or_else(String::new, |daemon| format!("{daemon} ")), String::new()),
            (Some(host), None) => (String::new(), format!(" --remote-host {}", quoted(host))),
            (Some(host), Some(_)) => (
                String::new(),
                format!(" --remote-host {} --remote-socket {}", quoted(host), quoted(&socket)),
            ),
        };
        format!(
            "{daemon}scripts/incus-role-image.sh --role {} build-import{to} --project {} --alias {}",
            role.as_str(),
            quoted(&self.incus.project),
            quoted(alias)
        )
    }

    /// Names the daemon, for what would ask the usual one otherwise.
    fn daemon(&self) -> Option<String> {
        let is_usual = self.incus.socket == Path::new(DEFAULT_SOCKET);
        (!is_usual).then(|| format!("INCUS_SOCKET={}", quoted(&self.incus.socket.to_string_lossy())))
    }
}

/// Whether it is sshd that keeps an Incus of another machine from being asked: there somebody listens at the socket, and
/// here the connection breaks at once. A daemon that hangs says nothing for long.
pub(crate) fn is_not_forwarded(error: &OpsError, facts: &Facts) -> bool {
    let is_broken =
        matches!(error, OpsError::Unreachable { source, .. } if source.kind() != ErrorKind::TimedOut);
    is_broken && facts.is("socket_usable", "yes") && facts.is("listening", "yes")
}

/// What has to be set of a project for guests to see a directory of the host; nothing when they can.
pub(crate) fn disk_paths(config: &BTreeMap<String, String>, dir: &Path) -> Option<Vec<String>> {
    let value = |key: &str| config.get(key).map_or("", String::as_str);
    let paths = value("restricted.devices.disk.paths");
    let covered =
        paths.split(',').map(str::trim).any(|path| !path.is_empty() && dir.starts_with(Path::new(path)));
    // Without paths, all of the host is allowed.
    let open = paths.is_empty();
    if value("restricted.devices.disk") == "allow" && covered {
        return None;
    }
    let all = match open {
        true => dir.to_string_lossy().into_owned(),
        false if covered => paths.to_owned(),
        false => format!("{paths},{}", dir.to_string_lossy()),
    };
    Some(vec!["restricted.devices.disk=allow".to_owned(), format!("restricted.devices.disk.paths={all}")])
}

/// A command of a machine, as it is typed on this one.
pub(super) fn on(destination: Option<&str>, command: &str) -> String {
    match destination {
        None => command.to_owned(),
        Some(destination) => format!("ssh {} {}", quoted(destination), quoted(command)),
    }
}

/// The same for what only root may do there.
pub(super) fn as_root(destination: Option<&str>, facts: &Facts, command: &str) -> String {
    match (destination, facts.is_root()) {
        (_, true) => on(destination, command),
        (None, false) => format!("sudo {command}"),
        // sudo asks for a password.
        (Some(destination), false) => {
            format!("ssh -t {} {}", quoted(destination), quoted(&format!("sudo {command}")))
        }
    }
}

/// A word that can be typed. A setting `key=value` stays as it is: it is never the first word.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"@%_+=:,./-".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    match jericho_host::quote::quote(word.as_ref()) {
        Ok(quoted) => quoted.to_string_lossy().into_owned(),
        // No program can be given it; so it stays what a person reads.
        Err(_) => word.to_owned(),
    }
}
