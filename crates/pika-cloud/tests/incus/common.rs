//! What the tests with the real Incus share: a guest that runs a script, and a record of what was told.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelToken, LocalHost};
use jericho_testkit::incus::{Project, Rig};
use pika_cloud::ops::{Course, Ended, Incus, Launch, Note, Observer, Outcome, Patience, Stream};
use pika_cloud::{
    LifecycleEvent, LifecycleState, RuntimeIdentity, RuntimeIncus, RuntimeMount, RuntimeResultStatus,
    RuntimeSpec,
};

/// Where the guests of the tests see their entry program.
const ENTRY: &str = "/entry";

/// A client of the rig's Incus that gives up after a minute.
pub(crate) fn incus(rig: &Rig) -> Incus {
    incus_with(rig, &CancelToken::new().unwrap())
}

pub(crate) fn incus_with(rig: &Rig, cancel: &CancelToken) -> Incus {
    let minute = Duration::from_secs(60);
    Incus::new(Arc::new(LocalHost::new()), rig.socket(), cancel).with_patience(Patience {
        first_contact: Duration::from_secs(5),
        reconnect: minute,
        request: Duration::from_secs(20),
        operation: minute,
        full: minute,
    })
}

/// A guest with an entry program that runs its request as a script.
pub(crate) fn spec(rig: &Rig, project: &Project<'_>, name: &str) -> RuntimeSpec {
    let dir = project.make_dir("entry").unwrap();
    let program = dir.join("run");
    std::fs::write(&program, include_bytes!("entry.sh")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    RuntimeSpec::new(
        RuntimeIdentity::named(name),
        RuntimeIncus::new(project.name(), "default", rig.image_alias()),
    )
    .with_mount(RuntimeMount::read_only_snapshot(dir.to_str().unwrap(), ENTRY).require())
    .with_entry_command(format!("{ENTRY}/run"))
    .with_label("test.owner", "pika-cloud")
}

pub(crate) fn script(text: &str) -> Launch {
    Launch { request: Some(text.to_owned()), ..Launch::default() }
}

pub(crate) fn course(text: &str) -> Course {
    Course { launch: script(text), ..Course::default() }
}

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) host: Vec<LifecycleState>,
    pub(crate) guest: Vec<LifecycleState>,
    pub(crate) seqs: Vec<u64>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) notes: Vec<Note>,
    /// Called with all output so far whenever there is more.
    pub(crate) on_output: Option<OnOutput>,
}

type Callback = Box<dyn FnMut(&[u8]) + Send>;

pub(crate) struct OnOutput(Callback);

impl std::fmt::Debug for OnOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnOutput")
    }
}

impl Record {
    /// Calls `then` once, as soon as `word` was printed.
    pub(crate) fn once_printed(word: &'static str, then: impl FnOnce() + Send + 'static) -> Self {
        let mut then = Some(then);
        let on_output = move |output: &[u8]| {
            if String::from_utf8_lossy(output).contains(word)
                && let Some(then) = then.take()
            {
                then();
            }
        };
        Self { on_output: Some(OnOutput(Box::new(on_output))), ..Self::default() }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Observer for Record {
    fn host_saw(&mut self, state: LifecycleState) {
        self.host.push(state);
    }

    fn guest_said(&mut self, event: &LifecycleEvent) {
        self.guest.push(event.kind);
        self.seqs.push(event.seq);
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.stderr.extend_from_slice(bytes),
        }
        if let Some(OnOutput(on_output)) = &mut self.on_output {
            on_output(&self.stdout);
        }
        Ok(())
    }

    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }
}

/// The exit code of a result.
#[track_caller]
pub(crate) fn exit_code(ended: &Ended) -> i32 {
    match ended {
        Ended::Result(result) => result.exit_code.unwrap(),
        other => panic!("no result: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_completed(outcome: &Outcome) {
    match &outcome.ended {
        Ended::Result(result) => assert_eq!(result.status, RuntimeResultStatus::Completed, "{outcome:?}"),
        other => panic!("no result: {other:?}"),
    }
    assert!(outcome.warnings.is_empty(), "{outcome:?}");
}

/// Nothing of a test is left in its project.
#[track_caller]
pub(crate) fn assert_nothing_left(project: &Project<'_>) {
    assert_eq!(project.instances().unwrap(), Vec::<String>::new());
    assert_eq!(project.volumes().unwrap(), Vec::<String>::new());
}
