//! Whether ssh reaches a host, and how fast its master answers.

use std::sync::Arc;
use std::time::Duration;

use jericho_host::{
    CancelToken, Clock as _, Command, Host as _, HostError, SshConfig, SshError, SshHost, SystemClock,
};

use super::{Visit, quoted};
use crate::config::{EngineConfig, HostConfig};
use crate::engine::EngineError;
use crate::remote::heed_silence;

/// Connects; nothing when that is not possible, which is then a problem.
pub(super) fn check(
    visit: &mut Visit<'_>,
    config: &EngineConfig,
    host: &HostConfig,
) -> Result<Option<Arc<SshHost>>, EngineError> {
    let ssh = Arc::new(SshHost::new(SshConfig {
        program: config.hosts.ssh_program.clone(),
        env: config.caller_environment.clone(),
        ..SshConfig::new(&host.ssh)
    })?);
    heed_silence(&ssh, visit.cancel);
    let clock = SystemClock;
    let started = clock.monotonic();
    if let Err(error) = ssh.connect(visit.cancel) {
        return match error {
            HostError::Cancelled(reason) => Err(HostError::Cancelled(reason).into()),
            error => {
                let mend = mend(&error, &host.ssh);
                visit.problem("ssh", told(&error), mend);
                Ok(None)
            }
        };
    }
    let took = clock.monotonic().saturating_sub(started);
    visit.ok("ssh", format!("connected to {} in {}", host.ssh, millis(took)));
    match round_trip(&ssh, visit.cancel) {
        Ok(took) => visit.ok("ssh_master", format!("a command over the master takes {}", millis(took))),
        Err(HostError::Cancelled(reason)) => return Err(HostError::Cancelled(reason).into()),
        Err(error) => {
            let mend = mend(&error, &host.ssh);
            visit.problem("ssh_master", told(&error), mend);
            return Ok(None);
        }
    }
    Ok(Some(ssh))
}

/// The best of three, as jobs have it: the first one of a connection is slower.
fn round_trip(ssh: &SshHost, cancel: &CancelToken) -> Result<Duration, HostError> {
    let clock = SystemClock;
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let started = clock.monotonic();
        ssh.run(&Command::new("/bin/sh").args(["-c", ":"]), cancel)?;
        best = best.min(clock.monotonic().saturating_sub(started));
    }
    Ok(best)
}

fn millis(time: Duration) -> String {
    match time.as_millis() {
        0 => "less than 1 ms".to_owned(),
        millis => format!("{millis} ms"),
    }
}

/// The error with what is behind it, in one line.
fn told(error: &HostError) -> String {
    crate::causes::with_causes(error)
}

/// What to type when a connection cannot be had.
pub(super) fn mend(error: &HostError, destination: &str) -> String {
    let host = quoted(destination);
    match error {
        HostError::NotFound { program } if program == "ssh" => "apt-get install openssh-client".to_owned(),
        HostError::NotFound { .. } => {
            "unset JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY, or name a program that is there".to_owned()
        }
        HostError::Ssh(SshError::Authentication { too_many: true, .. }) => {
            format!(
                "name the key in ~/.ssh/config, with IdentityFile and `IdentitiesOnly yes` under `Host {host}`"
            )
        }
        HostError::Ssh(SshError::Authentication { .. }) => format!("ssh-copy-id {host}"),
        HostError::Ssh(SshError::HostKey { forget: Some(forget), .. }) => {
            format!("{forget}, when the host has a new key for a reason; then ssh {host}")
        }
        HostError::Ssh(SshError::HostKey { .. }) => {
            format!("ssh {host} once by hand, compare the key that it shows with the host's, and accept it")
        }
        HostError::Ssh(SshError::Sessions { .. }) => {
            format!(
                "ssh -t {host} sudo sed -i '/^MaxSessions/d' /etc/ssh/sshd_config; then restart sshd there"
            )
        }
        HostError::Ssh(SshError::Shell { .. }) => format!("ssh {host} true; it must print nothing"),
        _ => format!("ssh -v {host} true"),
    }
}
