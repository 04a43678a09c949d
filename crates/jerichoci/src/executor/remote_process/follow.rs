//! Follows a job on its host by byte of its log and number of its events, over as many connections as it
//! takes.

use jericho_host::{CancelReason, CancelToken, HostError};
use pika_cloud::lifecycle::RuntimeTerminalResult;
use pika_cloud::{LifecycleEvent, LifecycleState};

use super::Run;
use super::frames::{FrameError, Frames};
use crate::causes::with_causes;
use crate::executor::JobLog;
use crate::remote::RemoteError;

/// How often a follower that has ended without a reason is started again.
const RETRIES: u32 = 3;

/// The detail of an event that says that a cache of somebody else is waited for.
const WAITING: &str = "waiting_for_cache";

/// How the following has ended.
pub(super) enum Ended {
    /// The job has a result.
    Result(Box<RuntimeTerminalResult>),
    /// There is nobody who could write one.
    Gone,
}

/// Why the end is not known.
pub(super) enum FollowError {
    Cancelled(CancelReason),
    /// The host log.
    Log(HostError),
    Remote(RemoteError),
}

/// How far a job has been followed.
pub(super) struct Follower<'a> {
    run: &'a Run<'a>,
    /// Bytes of its log that are in the host log.
    offset: u64,
    news: News,
}

/// The events that were heard.
#[derive(Default)]
struct News {
    /// Number of the last one.
    seq: u64,
    last: Option<String>,
    at_start: Option<Box<dyn FnOnce()>>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(run: &'a Run<'a>) -> Self {
        Self { run, offset: 0, news: News::default() }
    }

    /// What is done, once, when the command is about to start.
    pub(super) fn at_start(&mut self, act: impl FnOnce() + 'static) {
        self.news.at_start = Some(Box::new(act));
    }

    /// The last event, for people.
    pub(super) fn last_heard(&self) -> Option<&str> {
        self.news.last.as_deref()
    }

    /// To the end, with as many connections as it takes.
    pub(super) fn follow(
        &mut self,
        log: &mut dyn JobLog,
        cancel: &CancelToken,
    ) -> Result<Ended, FollowError> {
        let host = self.run.host;
        let mut retries = 0;
        loop {
            let error = match self.once(log, cancel) {
                Ok(ended) => return Ok(ended),
                Err(error) => error,
            };
            if let Some(reason) = cancel.reason() {
                return Err(FollowError::Cancelled(reason));
            }
            match error {
                FrameError::Taker(error) => return Err(FollowError::Log(error)),
                FrameError::Host(HostError::Ssh(error)) if error.is_transient() => {
                    let mut tell = |line: String| {
                        log.engine_line(&line).map_err(|error| FollowError::Log(HostError::Sink(error)))
                    };
                    let at = format!("at byte {} of the log", self.offset);
                    tell(format!("lost the connection to {} {at}: {}", host.name(), with_causes(&error)))?;
                    host.reconnect(&mut |line| drop(tell(line.to_owned())), cancel).map_err(of_remote)?;
                    tell(format!("connected to {} again, going on {at}", host.name()))?;
                }
                FrameError::Host(error) => return Err(of_remote(host.error(error))),
                // Whoever ended it did not mean the job.
                FrameError::Ended(said) | FrameError::Unreadable(said) => {
                    retries += 1;
                    if retries > RETRIES {
                        let host = host.name().to_owned();
                        return Err(FollowError::Remote(RemoteError::Answer { host, said }));
                    }
                }
            }
        }
    }

    /// As far as one connection goes.
    pub(super) fn follow_once(
        &mut self,
        log: &mut dyn JobLog,
        cancel: &CancelToken,
    ) -> Result<Ended, FrameError> {
        self.once(log, cancel)
    }

    fn once(&mut self, log: &mut dyn JobLog, cancel: &CancelToken) -> Result<Ended, FrameError> {
        let (offset, seq) = (self.offset.to_string(), self.news.seq.to_string());
        let command =
            self.run.runner(&["follow", "--offset", &offset, "--seq", &seq]).arg(&self.run.place.request);
        let mut frames = Frames::new(self.run.host.ssh().converse(&command, cancel)?);
        loop {
            let (head, rest) = frames.head()?;
            frames = match head.kind.as_str() {
                "log" if head.number(0) == self.offset => rest.take(head.bytes, &mut |piece| {
                    log.write(piece).map_err(HostError::Sink)?;
                    self.offset += piece.len() as u64;
                    Ok(())
                })?,
                "event" => {
                    let (body, rest) = rest.body(head.bytes)?;
                    if let Some(line) = self.news.hear(&body) {
                        let full = |error| FrameError::Taker(HostError::Sink(error));
                        log.engine_line(&line).map_err(full)?;
                    }
                    rest
                }
                "result" => {
                    let (body, _) = rest.body(head.bytes)?;
                    let result = RuntimeTerminalResult::parse(&body)
                        .map_err(|error| FrameError::Unreadable(with_causes(&error)))?;
                    return Ok(Ended::Result(Box::new(result)));
                }
                "gone" => return Ok(Ended::Gone),
                _ => return Err(FrameError::Unreadable(format!("{head:?}"))),
            };
        }
    }
}

impl News {
    /// Events come in order, and each once; one of another shape is news that nobody reads. Gives what is to stand in
    /// the log of the job: whom it waits for.
    fn hear(&mut self, body: &[u8]) -> Option<String> {
        if let Ok(event) = serde_json::from_slice::<LifecycleEvent>(body)
            && event.seq > self.seq
        {
            self.seq = event.seq;
            if event.kind == LifecycleState::Starting
                && let Some(act) = self.at_start.take()
            {
                act();
            }
            let waits = event.details.is_some_and(|details| details.get(WAITING).is_some());
            let message = self.last.insert(event.message);
            return waits.then(|| message.clone());
        }
        None
    }
}

fn of_remote(error: RemoteError) -> FollowError {
    match error {
        RemoteError::Cancelled(reason) => FollowError::Cancelled(reason),
        other => FollowError::Remote(other),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::super::limit::Limited;
    use super::*;

    #[test]
    fn the_limit_of_a_job_that_waits_for_caches_begins_when_its_command_does() {
        let limited = Limited::of(Duration::MAX).unwrap();
        let at_start = Some(Box::new(limited.renewal(Duration::ZERO)) as Box<dyn FnOnce()>);
        let mut news = News { at_start, ..News::default() };
        let event = |seq: u64, kind: &str| {
            format!(
                r#"{{"schema_version":1,"seq":{seq},"kind":"{kind}","timestamp":"2026-01-01T00:00:00Z","message":"m"}}"#
            )
        };
        news.hear(event(1, "booted").as_bytes());
        assert!(news.at_start.is_some());
        news.hear(event(2, "starting").as_bytes());
        assert!(news.at_start.is_none());
        let (tell, told) = channel();
        limited.token().on_cancel(move |reason| _ = tell.send(reason));
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(CancelReason::Requested));
        assert!(limited.has_passed());
    }
}
