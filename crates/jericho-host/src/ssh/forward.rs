//! A socket of the other end, reachable on this side.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::config::SshConfig;
use super::error::{SshError, last_line};
use super::master::Master;
use crate::cancel::CancelToken;
use crate::host::HostError;
use crate::local::capture;

/// The longest path that a socket can have.
const LONGEST_SOCKET: usize = 107;

/// A socket on this machine behind which a socket of the host answers. It belongs to one
/// connection, which stays for as long as it does; after a reconnect it has to be asked for anew.
/// Dropped, it is closed.
pub struct Forward {
    config: Arc<SshConfig>,
    master: Arc<Master>,
    path: PathBuf,
    forward: OsString,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("forward", &self.forward).finish_non_exhaustive()
    }
}

impl Forward {
    /// Asks the master to listen for `remote`, an absolute path.
    pub(super) fn new(
        config: Arc<SshConfig>,
        master: Arc<Master>,
        remote: &Path,
        cancel: &CancelToken,
    ) -> Result<Self, HostError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let refused = |reason: String| SshError::Forward {
            host: config.destination.clone(),
            socket: remote.display().to_string(),
            reason,
        };
        // ssh takes these apart at colons, and reads backslashes and brackets its own way.
        let plain = |path: &Path| !path.as_os_str().as_bytes().iter().any(|b| b"\\:[]".contains(b));
        if !remote.is_absolute() || !plain(remote) || remote.as_os_str().len() > LONGEST_SOCKET {
            let reason = "not an absolute path of at most 107 bytes without : [ ] \\";
            return Err(refused(reason.to_owned()).into());
        }
        let name = master.socket.file_name().unwrap_or(OsStr::new("0"));
        let mut own = name.to_os_string();
        own.push(format!("-f{}", COUNTER.fetch_add(1, Ordering::Relaxed)));
        let path = master.socket.with_file_name(own);
        if !plain(&path) {
            return Err(refused("the path of the control directory has one of : [ ] \\".to_owned()).into());
        }
        let mut forward = path.clone().into_os_string();
        forward.push(":");
        forward.push(remote);
        let ask = super::ssh_command(&config, config.control_args(&master.socket, "forward", Some(&forward)));
        let answer = capture::run(&ask, cancel)?;
        if !answer.exit.success() {
            let _ = std::fs::remove_file(&path);
            let said = [answer.stderr, answer.stdout].concat();
            let reason = last_line(&String::from_utf8_lossy(&said));
            if !master.is_alive() {
                let host = config.destination.clone();
                return Err(SshError::Lost { host, begun: false, reason }.into());
            }
            return Err(refused(reason).into());
        }
        Ok(Self { config, master, path, forward })
    }

    /// The socket on this side.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the connection that it belongs to is still there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.master.is_alive()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if self.master.is_alive()
            && let Ok(token) = CancelToken::new()
        {
            let args = self.config.control_args(&self.master.socket, "cancel", Some(&self.forward));
            // With a master that is just ending there is nothing left to cancel.
            let _ = capture::run(&super::ssh_command(&self.config, args), &token);
        }
        let _ = std::fs::remove_file(&self.path);
    }
}
