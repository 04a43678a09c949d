//! Where the built programs and the files of a crate are, asked when the test runs.
//!
//! `env!("CARGO_BIN_EXE_…")` and `env!("CARGO_MANIFEST_DIR")` are the places of the build. The second pass
//! of `scripts/test` runs the same test binaries from a copy, as a user who may not be able to read the
//! first place; the runner says at run time where things are now.

use std::path::PathBuf;

/// The path of a program that the crate under test builds, as a `PathBuf`; for integration tests.
///
/// `built_program!("pikaci")`
#[macro_export]
macro_rules! built_program {
    ($name:literal) => {
        $crate::program::moved(concat!("NEXTEST_BIN_EXE_", $name), env!(concat!("CARGO_BIN_EXE_", $name)))
    };
}

/// The directory of the crate under test (where its `Cargo.toml` is), as a `PathBuf`.
#[macro_export]
macro_rules! crate_dir {
    () => {
        $crate::program::moved("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
    };
}

/// The value of `variable` when the runner sets it, else the place `built`; for the macros of this file.
#[doc(hidden)]
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the runner of the tests says where it put them")]
pub fn moved(variable: &str, built: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(built), PathBuf::from)
}

/// The directory where `scripts/build-guest` puts `<arch>/jerichoci-incus-run`, for the test called
/// `test`; nothing where they were not built, which is recorded.
///
/// # Panics
///
/// As [`crate::need::needs`].
#[must_use]
pub fn guest_programs(test: &str) -> Option<PathBuf> {
    // A test is `<target>/<profile>/deps/<name>`.
    let own = std::env::current_exe().ok()?;
    let dir = own.ancestors().nth(3)?.join("guest");
    let is_built = dir.join(std::env::consts::ARCH).join("jerichoci-incus-run").exists();
    crate::need::needs(test, "needs what scripts/build-guest builds", is_built).then_some(dir)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_directory_of_the_crate_is_readable_where_the_test_runs() {
        let manifest = crate_dir!().join("Cargo.toml");
        assert!(std::fs::read_to_string(&manifest).unwrap().contains("jericho-testkit"), "{manifest:?}");
    }
}
