//! Whether a host that is connected still says anything.

use super::SshHost;
use super::command::Ask;
use super::exchange::{Exchange, Nowhere, Order};
use super::wire::BOOTSTRAP;
use crate::cancel::CancelToken;
use crate::command::Command;
use crate::host::HostError;

/// See [`SshHost::is_silent`].
pub(super) fn is_silent(host: &SshHost, patience: &CancelToken) -> bool {
    match hears(host, patience) {
        Ok(heard) => !heard,
        Err(HostError::Cancelled(_)) => true,
        Err(_) => false,
    }
}

/// Whether something was heard before the token was cancelled. It takes none of the sessions that commands share: those
/// may all be waiting.
fn hears(host: &SshHost, patience: &CancelToken) -> Result<bool, HostError> {
    let master = host.master(patience)?;
    let (command, mark) = (Command::new("true"), host.ids.fresh());
    let ask = Ask { command: &command, grace: command.grace, supervision: None, talks: false };
    let input = ask.script(&mark)?.encode();
    let mut order = Order { input, grace: command.grace, time_limit: None, hears_words: true };
    let args = host.config.client_args(master.words, &master.socket, BOOTSTRAP);
    let ssh = super::ssh_command(&host.config, args);
    let mut exchange = Exchange::start(&ssh, &mark, &mut order, host.config.connect_limit)?;
    // A server that opens no more sessions says so, which is an answer too.
    while !exchange.has_begun() && !exchange.is_over() {
        if patience.is_cancelled() {
            // Nobody waits for its last words.
            exchange.end_client();
            return Ok(false);
        }
        exchange.step(&mut Nowhere, patience)?;
    }
    Ok(true)
}
