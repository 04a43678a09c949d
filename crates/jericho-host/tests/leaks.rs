//! A process that supervises for days must not fill up. Alone in its file: it counts what the
//! whole process has.

mod common;

use std::fs;
use std::time::Duration;

use common::{When, isolations, sh, supervision, token, unique};
use jericho_host::{CancelReason, Command, Host, LocalHost};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn children() -> String {
    let mut all = String::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        all += &fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
    }
    all
}

#[test]
fn nothing_stays_open_and_no_zombie_stays_whatever_happened() {
    let host = LocalHost::new();
    let isolations = isolations(&host);
    let before = descriptors();
    for isolation in &isolations {
        let mut supervision = supervision(&unique("leaks"), isolation);
        supervision.grace = Duration::from_millis(50);
        supervision.drain = Duration::from_millis(10);
        supervision.time_limit = Some(Duration::from_millis(200));
        let leave = "(setsid sleep 300 >/dev/null 2>&1 &); sleep 300 & exit 1";
        for command in [
            sh("exit 0"),
            sh(leave),
            sh("sleep 300"),
            Command::new("no-such-program"),
            sh("true").cwd("/no/such/directory"),
            sh("cat").stdin("x"),
        ] {
            let _ = host.supervise(&command, &supervision, &mut Vec::new(), &token());
        }
        let mut failing = When::new("x", || Err(std::io::ErrorKind::StorageFull.into()));
        host.supervise(&sh("echo x; sleep 300"), &supervision, &mut failing, &token()).unwrap_err();
    }
    host.run(&sh("sleep 0; exit 1"), &token()).unwrap();
    host.run(&Command::new("no-such-program"), &token()).unwrap_err();
    let cancel = token();
    let also = cancel.clone();
    host.stream(&sh("echo x; sleep 300"), &cancel, &mut |_| {
        also.cancel(CancelReason::Signal);
    })
    .unwrap_err();
    drop((cancel, also));
    assert_eq!(descriptors(), before);
    assert_eq!(children(), "");
}
