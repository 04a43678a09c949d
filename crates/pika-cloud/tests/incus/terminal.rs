//! A terminal in a guest.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use jericho_host::{CancelReason, CancelToken};
use jericho_testkit::incus::Rig;
use pika_cloud::ops::{Attach, Console, Incus, InstanceRef, OpsError, Silence};

use crate::common::{incus, incus_with, spec};

type Heard = Box<dyn FnMut(&str)>;

/// A terminal that hears what is printed and types what it was told to.
struct Made {
    input: io::PipeReader,
    resized: io::PipeReader,
    sizes: Vec<(u16, u16)>,
    printed: String,
    heard: Heard,
}

impl Made {
    /// With these sizes, the last one to stay; `heard` gets all that was printed so far.
    fn new(
        sizes: &[(u16, u16)],
        heard: impl FnMut(&str) + 'static,
    ) -> (Self, io::PipeWriter, io::PipeWriter) {
        let ((input, keys), (resized, resize)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let mut sizes = sizes.to_vec();
        sizes.reverse();
        (Self { input, resized, sizes, printed: String::new(), heard: Box::new(heard) }, keys, resize)
    }
}

impl Console for Made {
    fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.printed.push_str(&String::from_utf8_lossy(bytes));
        (self.heard)(&self.printed);
        Ok(())
    }

    fn resized(&self) -> Option<BorrowedFd<'_>> {
        Some(self.resized.as_fd())
    }

    fn size(&mut self) -> (u16, u16) {
        if self.sizes.len() == 1 { self.sizes[0] } else { self.sizes.pop().unwrap() }
    }
}

fn script(text: &str) -> Attach {
    let command = ["/bin/sh", "-c", text].map(str::to_owned).into();
    Attach { command, ..Attach::default() }
}

fn guest(rig: &Rig, project: &jericho_testkit::incus::Project<'_>, incus: &Incus) -> InstanceRef {
    incus.ensure(&spec(rig, project, "terminal").plan().unwrap(), &mut Silence).unwrap().instance
}

#[test]
fn what_is_typed_goes_in_what_is_printed_comes_out_and_the_exit_code_comes_back() {
    let Some(rig) = Rig::up("what_is_typed_goes_in_what_is_printed_comes_out_and_the_exit_code_comes_back")
    else {
        return;
    };
    let project = rig.project(4).unwrap();
    let incus = incus(&rig);
    let guest = guest(&rig, &project, &incus);
    let (mut console, mut keys, _resize) = Made::new(&[(100, 30)], |_| {});
    keys.write_all(b"hello\n").unwrap();
    let attach = Attach {
        environment: [("GREETING".to_owned(), "got".to_owned())].into(),
        cwd: Some("/usr".to_owned()),
        user: Some((1000, 100)),
        ..script("stty -echo; stty size; id -u; pwd; read line; echo $GREETING $line; exit 7")
    };
    assert_eq!(incus.attach(&guest, &attach, &mut console).unwrap(), 7);
    let lines: Vec<&str> = console.printed.lines().filter(|line| *line != "hello").collect();
    assert_eq!(lines, ["30 100", "1000", "/usr", "got hello"], "{:?}", console.printed);
    // Much of it, and all of it.
    let (mut console, _keys, _resize) = Made::new(&[(80, 24)], |_| {});
    assert_eq!(incus.attach(&guest, &script("stty -opost; seq 1 200000"), &mut console).unwrap(), 0);
    assert_eq!(console.printed.lines().count(), 200_000);
    incus.destroy(&guest).unwrap();
}

#[test]
fn the_end_of_the_input_and_a_new_size_reach_the_guest() {
    let Some(rig) = Rig::up("the_end_of_the_input_and_a_new_size_reach_the_guest") else { return };
    let project = rig.project(4).unwrap();
    let incus = incus(&rig);
    let guest = guest(&rig, &project, &incus);
    let (mut console, keys, _resize) = Made::new(&[(80, 24)], |_| {});
    drop(keys);
    assert_eq!(incus.attach(&guest, &script("cat; exit 3"), &mut console).unwrap(), 3);
    let (ask, told) = (std::cell::RefCell::new(None), std::rc::Rc::new(std::cell::Cell::new(false)));
    let (mut console, mut keys, resize) = Made::new(&[(80, 24), (132, 50)], |_| {});
    *ask.borrow_mut() = Some(resize);
    console.heard = Box::new(move |printed| {
        // Once it waits for it.
        if printed.contains("up") && !told.replace(true) {
            ask.borrow_mut().as_mut().unwrap().write_all(b"x").unwrap();
        }
        if printed.contains("50 132") {
            let _ = keys.write_all(b"\n");
        }
    });
    let waits = "trap 'stty size' WINCH; echo up; until read line; do :; done; exit 4";
    assert_eq!(incus.attach(&guest, &script(waits), &mut console).unwrap(), 4);
    incus.destroy(&guest).unwrap();
}

#[test]
fn what_cannot_be_attached_to_is_told() {
    let Some(rig) = Rig::up("what_cannot_be_attached_to_is_told") else { return };
    let project = rig.project(4).unwrap();
    let cancel = CancelToken::new().unwrap();
    let incus = incus_with(&rig, &cancel);
    let guest = guest(&rig, &project, &incus);
    let attach = |guest: &InstanceRef, command: &Attach, heard: Heard| {
        let (mut console, _keys, _resize) = Made::new(&[(80, 24)], |_| {});
        console.heard = heard;
        incus.attach(guest, command, &mut console)
    };
    let nothing = || Box::new(|_: &str| {}) as Heard;
    let other = InstanceRef { name: "other".to_owned(), ..guest.clone() };
    let error = attach(&other, &script("true"), nothing()).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("other"), "{error}");
    let missing = Attach { command: vec!["/no/such".to_owned()], ..Attach::default() };
    let error = attach(&guest, &missing, nothing());
    assert!(matches!(error, Ok(127) | Err(OpsError::Failed { .. })), "{error:?}");
    let error = attach(
        &guest,
        &script("echo up; sleep 1000"),
        Box::new(move |_| {
            cancel.cancel(CancelReason::Requested);
        }),
    );
    assert!(matches!(error, Err(OpsError::Cancelled(CancelReason::Requested))), "{error:?}");
    let incus = crate::common::incus(&rig);
    incus.destroy(&guest).unwrap();
}
