//! What a test needs of the machine, and the record of the tests that could not run.
//!
//! A test that cannot run here must not look like one that passed. It asks first and returns at once
//! when the answer is no:
//!
//! ```no_run
//! # fn mounting_twice_is_refused() {
//! if !jericho_testkit::need::needs_root("mounting_twice_is_refused") {
//!     return;
//! }
//! # }
//! ```
//!
//! `scripts/test` names a file in `JERICHO_TEST_NOT_RUN_FILE`; each refusal appends one line to it, the
//! name of the test and the reason with a tab between, and `scripts/test` prints them at the end and
//! fails when `CI=true`. Without that file nobody would see the refusal, so with `CI=true` it is a panic.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// The variable that names the file of the tests that were not run.
pub const NOT_RUN_FILE: &str = "JERICHO_TEST_NOT_RUN_FILE";

/// Whether the test called `test` may rely on being root; records the refusal when not.
///
/// # Panics
///
/// As [`needs`].
#[must_use]
pub fn needs_root(test: &str) -> bool {
    needs(test, "needs root", is_root())
}

/// Whether the test called `test` may rely on not being root, as tests of file modes must; records the
/// refusal when it is.
///
/// # Panics
///
/// As [`needs`].
#[must_use]
pub fn needs_ordinary_user(test: &str) -> bool {
    needs(test, "needs a user other than root", !is_root())
}

/// Whether the test called `test` finds `program` on `PATH`; records the refusal when not.
///
/// # Panics
///
/// As [`needs`].
#[must_use]
pub fn needs_program(test: &str, program: &str) -> bool {
    let found = variable("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| is_executable(&dir.join(program))));
    needs(test, &format!("needs the program {program}"), found)
}

/// Whether the test called `test` may run, which is `met`; records the refusal with its reason when not.
///
/// # Panics
///
/// When the need is not met, `CI` is `true` and no file collects the refusals; and when that file cannot
/// be written.
#[must_use]
pub fn needs(test: &str, reason: &str, met: bool) -> bool {
    if met {
        return true;
    }
    let file = variable(NOT_RUN_FILE);
    let ci = variable("CI").is_some_and(|value| value == "true");
    if let Err(message) = refuse(test, reason, file.as_deref().map(Path::new), ci) {
        panic!("{message}");
    }
    false
}

/// Records that `test` was not run, or says why that would go unseen.
fn refuse(test: &str, reason: &str, file: Option<&Path>, ci: bool) -> Result<(), String> {
    match file {
        // One write to a file opened for appending: tests of other processes do the same.
        Some(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{test}\t{reason}\n").as_bytes()))
            .map_err(|error| format!("cannot write {}: {error}", path.display())),
        None if ci => Err(format!("{test} was not run: it {reason}, and CI=true")),
        None => {
            report(&format!("not run: {test} {reason}"));
            Ok(())
        }
    }
}

#[expect(clippy::print_stderr, reason = "the words of a test to the person who runs it alone")]
fn report(message: &str) {
    eprintln!("{message}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment what to do, not by pikaci")]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_that_is_met_is_not_recorded() {
        assert!(needs("a_need_that_is_met_is_not_recorded", "needs nothing", true));
    }

    #[test]
    fn refusals_are_appended_as_name_and_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("not-run");
        refuse("first", "needs root", Some(&file), true).unwrap();
        refuse("second", "needs the program nix", Some(&file), false).unwrap();
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            "first\tneeds root\nsecond\tneeds the program nix\n"
        );
    }

    #[test]
    fn in_ci_a_refusal_that_no_file_collects_is_an_error() {
        let message = refuse("mounts", "needs root", None, true).unwrap_err();
        assert!(message.contains("mounts") && message.contains("needs root"), "{message}");
        assert_eq!(refuse("mounts", "needs root", None, false), Ok(()));
    }

    #[test]
    fn a_refusal_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refuse("mounts", "needs root", Some(dir.path()), false).is_err());
    }

    #[test]
    fn only_an_executable_file_is_a_program() {
        assert!(is_executable(Path::new("/bin/sh")));
        assert!(!is_executable(Path::new("/etc/passwd")));
        assert!(!is_executable(Path::new("/bin")));
    }
}
