//! `pikaci run --watch`: one run after the other, each begun by a change of the tree.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken, Clock as _, SystemClock};

use super::run::{Args, Interrupt, Prepared, fresh_token};
use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::{self, Format};
use crate::render::text::{counted, printable};
use crate::source::Source;
use crate::watch::{Touched, Watcher};

/// An editor saves in several steps; a run begins when none has followed for this long…
const QUIET: Duration = Duration::from_millis(30);
/// …or this long after the first.
const LONGEST: Duration = Duration::from_millis(150);
/// How long jobs of a run that is no longer wanted have between TERM and KILL.
const GRACE: Duration = Duration::from_millis(100);

/// What the loop waits for.
enum Event {
    Touched(Touched),
    Signal(CancelReason),
    Ended(Result<Exit, CliError>),
}

/// Runs until a signal says that it is enough.
pub(super) fn run(session: &Session, args: &Args, format: Format) -> Result<Exit, CliError> {
    let source = session.source()?;
    // What is wrong from the start is told as without --watch.
    Prepared::new(session, args, &source)?;
    let written = args.reports().check(session)?.destination().cloned();
    let state_root = session.state_root()?;
    let interrupt = Interrupt::listen()?;
    let (send, events) = channel();
    let touched = send.clone();
    // Before the first run looks at the tree: no change is missed.
    let environment = session.surroundings().environment();
    let watcher = Watcher::start(&source, &state_root, environment, written, move |seen| {
        let _ = touched.send(Event::Touched(seen));
    })?;
    let signal = send.clone();
    interrupt.cancel.on_cancel(move |reason| {
        let _ = signal.send(Event::Signal(reason));
    });
    if !format.is_quiet() {
        let directories = watcher.directories();
        let noun = if directories == 1 { "directory" } else { "directories" };
        report::note(&format!("watching {directories} {noun} of {}", source.root.display()));
    }
    let watch = Watch { session, args, format, interrupt: &interrupt, source: &source, send };
    std::thread::scope(|scope| watch.carry_on(scope, watcher, &events))
}

struct Watch<'a> {
    session: &'a Session,
    args: &'a Args,
    format: Format,
    interrupt: &'a Interrupt,
    source: &'a Source,
    send: Sender<Event>,
}

/// A run that goes on.
struct Running {
    cancel: CancelToken,
    /// When it was no longer wanted.
    unwanted: Option<Duration>,
}

/// Changes that no run has seen yet.
#[derive(Default)]
struct Pending {
    names: BTreeSet<String>,
    first: Duration,
    last: Duration,
}

impl Watch<'_> {
    fn carry_on<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        mut watcher: Watcher,
        events: &Receiver<Event>,
    ) -> Result<Exit, CliError> {
        let mut running = Some(self.start(scope)?);
        let mut pending = Pending::default();
        // How it all ends, once the run that goes on has.
        let mut stop: Option<Result<(), CliError>> = None;
        let mut exit = Exit::Success;
        loop {
            let now = SystemClock.monotonic();
            if running.is_none() {
                if let Some(why) = stop {
                    return why.map(|()| exit);
                }
                if pending.is_ripe(now) {
                    self.say(&pending.words());
                    pending = Pending::default();
                    running = Some(self.start(scope)?);
                }
            }
            match receive(events, deadline(running.as_ref(), &pending), now) {
                None => {
                    if let Some(running) = running.as_ref().filter(|running| running.is_overdue()) {
                        running.cancel.cancel(CancelReason::Forced);
                    }
                }
                Some(Event::Signal(reason)) => {
                    stop.get_or_insert(Ok(()));
                    if let Some(running) = &running {
                        running.cancel.cancel(reason);
                    }
                }
                Some(Event::Ended(ended)) => {
                    running = None;
                    match ended {
                        Ok(how) => exit = how,
                        // In the middle of an edit nothing has to make sense.
                        Err(error) => {
                            exit = error.exit();
                            report::note(&error.to_string());
                        }
                    }
                    if stop.is_none() && pending.names.is_empty() {
                        self.say("waiting for a change; Ctrl-C ends");
                    }
                }
                Some(Event::Touched(first)) => {
                    let (touched, others) = drain(events, first);
                    for other in others {
                        // They are looked at in the next turn.
                        let _ = self.send.send(other);
                    }
                    let now = match watcher.changed(touched, &self.interrupt.cancel) {
                        Ok(changed) if changed.is_empty() => continue,
                        Ok(changed) => pending.add(changed),
                        Err(error) => {
                            stop = Some(Err(error));
                            SystemClock.monotonic()
                        }
                    };
                    if let Some(running) = running.as_mut().filter(|running| running.unwanted.is_none()) {
                        running.unwanted = Some(now);
                        running.cancel.cancel(CancelReason::Requested);
                    }
                }
            }
        }
    }

    /// Begins a run with what the files say now.
    fn start<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>) -> Result<Running, CliError> {
        let cancel = fresh_token()?;
        let token = cancel.clone();
        scope.spawn(move || {
            // Its end is told also when it panics: the loop must not wait for ever.
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let prepared = Prepared::new(self.session, self.args, self.source)?;
                let announcer = &self.interrupt.announcer;
                prepared.run(self.session, self.args, self.source, self.format, announcer, &token)
            }));
            let panicked = |_| {
                let error = CliError::new(Exit::Infrastructure, "the run panicked");
                Err(error.hint(self.session.typed(["list"])))
            };
            let _ = self.send.send(Event::Ended(ended.unwrap_or_else(panicked)));
        });
        Ok(Running { cancel, unwanted: None })
    }

    fn say(&self, line: &str) {
        if !self.format.is_quiet() {
            report::note(line);
        }
    }
}

impl Running {
    /// Whether it was told to end and had its time.
    fn is_overdue(&self) -> bool {
        self.unwanted.is_some_and(|since| SystemClock.monotonic() >= since + GRACE)
            && self.cancel.reason() < Some(CancelReason::Forced)
    }
}

impl Pending {
    /// Adds changes, and returns when.
    fn add(&mut self, names: BTreeSet<String>) -> Duration {
        let now = SystemClock.monotonic();
        if self.names.is_empty() {
            self.first = now;
        }
        self.last = now;
        self.names.extend(names);
        now
    }

    /// When a run may begin; nothing when there is nothing to run for.
    fn ripe(&self) -> Option<Duration> {
        (!self.names.is_empty()).then(|| (self.last + QUIET).min(self.first + LONGEST))
    }

    fn is_ripe(&self, now: Duration) -> bool {
        self.ripe().is_some_and(|ripe| now >= ripe)
    }

    fn words(&self) -> String {
        let first = self.names.first().map(|name| printable(name.as_bytes())).unwrap_or_default();
        match self.names.len() {
            1 => format!("changed: {first}"),
            more => format!("changed: {first} and {}", counted(more - 1, "other file")),
        }
    }
}

/// Until when to wait when nothing happens; for ever when nothing is due.
fn deadline(running: Option<&Running>, pending: &Pending) -> Option<Duration> {
    match running {
        None => pending.ripe(),
        Some(running) if running.cancel.reason() < Some(CancelReason::Forced) => {
            running.unwanted.map(|since| since + GRACE)
        }
        Some(_) => None,
    }
}

/// The next event; nothing when the deadline came first.
fn receive(events: &Receiver<Event>, deadline: Option<Duration>, now: Duration) -> Option<Event> {
    match deadline {
        // The other end is kept by the loop itself: there is always somebody to send.
        None => events.recv().ok(),
        Some(deadline) => events.recv_timeout(deadline.saturating_sub(now)).ok(),
    }
}

/// Everything that was touched by now, and what else was told.
fn drain(events: &Receiver<Event>, first: Touched) -> (Vec<Touched>, Vec<Event>) {
    let (mut touched, mut others) = (vec![first], Vec::new());
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Touched(more) => touched.push(more),
            other => others.push(other),
        }
    }
    (touched, others)
}
