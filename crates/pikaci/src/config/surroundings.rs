//! The one place that reads the environment and the working directory of this process.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jericho_host::Environment;
use pika_incus_guest_role::IncusGuestRole;

use super::variables::{BASE_REF, CONFIG, HOST_LOCAL_NIX_SHELL, MAX_CONCURRENT_EXECUTES, STATE_ROOT};
use super::variables::{CACHE_WAIT_SECS, RECONNECT_SECS, REMOTE_WORK_DIR, SSH_BINARY};
use super::variables::{CI, REMOVED, REPOSITORY, UNTRUSTED, successor};
use super::variables::{GUEST_RUNNER_DIR, INCUS_BACKEND, INCUS_DIR, INCUS_GUEST_ROLE, INCUS_SOCKET};
use super::{Origin, Setting};
use crate::error::CliError;
use crate::exit::Exit;
use crate::operator::{is_place, is_word};
use crate::render::text::shorten;

const ROLES: &str = "`managed-openclaw` or `jericho-runner`";
const SECONDS: &str = "a whole number of seconds, at most a day";
const LONGEST_SECONDS: u64 = 24 * 3600;

/// Environment and working directory, as they were at the start.
#[derive(Debug)]
pub(crate) struct Surroundings {
    environment: Environment,
    working_directory: std::io::Result<PathBuf>,
    /// The file of this program, where the system says which it is.
    program: Option<PathBuf>,
}

impl Surroundings {
    /// Of this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one home of the environment and the working directory"
    )]
    pub(crate) fn capture() -> Self {
        let mut environment: Environment = std::env::vars_os().collect();
        // Set by git in its hooks. They would bind every git below to the hook's repository and
        // index, also where the work is in another one.
        for name in REPOSITORY {
            environment.remove(name);
        }
        let program = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
        Self { environment, working_directory: std::env::current_dir(), program }
    }

    /// Made up, for tests.
    #[cfg(test)]
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        let environment = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let environment: Vec<(std::ffi::OsString, std::ffi::OsString)> = environment.collect();
        Self {
            environment: environment.into_iter().collect(),
            working_directory: Ok(PathBuf::from("/somewhere")),
            program: Some(PathBuf::from("/opt/jericho/bin/pikaci")),
        }
    }

    /// The file of this program.
    pub(super) fn program(&self) -> Option<&Path> {
        self.program.as_deref()
    }

    /// A variable that is set to what it cannot be.
    pub(super) fn bad(&self, name: &str, expected: &str) -> CliError {
        bad(name, self.environment.get(name).unwrap_or_default(), expected)
    }

    pub(crate) const fn environment(&self) -> &Environment {
        &self.environment
    }

    /// An absolute path from what somebody typed here.
    pub(crate) fn absolute(&self, path: &Path) -> Result<PathBuf, CliError> {
        if path.is_absolute() {
            return Ok(path.to_path_buf());
        }
        match &self.working_directory {
            Ok(directory) => Ok(directory.join(path)),
            Err(error) => {
                Err(CliError::new(Exit::Infrastructure, "the working directory is gone or cannot be read")
                    .because(std::io::Error::from(error.kind()))
                    .hint("cd into a directory that exists, or use -C DIR"))
            }
        }
    }

    /// The first removed variable that is still set to something.
    pub(crate) fn check_removed(&self) -> Result<(), CliError> {
        let blank = |value: &OsStr| value.to_string_lossy().trim().is_empty();
        match self.environment.get(REMOVED) {
            Some(value) if !blank(value) => Err(CliError::usage(format!(
                "{REMOVED} is set, and no longer exists: which jobs run in Incus is said by the jobs"
            ))
            .hint(format!("unset {REMOVED}"))),
            _ => Ok(()),
        }
    }

    /// One line for each variable that is set under a name of the past.
    pub(crate) fn renamed(&self) -> Vec<String> {
        let line = |(name, _): (&OsStr, &OsStr)| {
            let name = name.to_str()?;
            successor(name)
                .map(|new| format!("{name} is set, but not read: the variable is called {new} now"))
        };
        self.environment.iter().filter_map(line).collect()
    }

    /// What stands for another way to have virtual machines, of which there is only one.
    pub(crate) fn unknown_backend(&self) -> Option<String> {
        let value = self.environment.get(INCUS_BACKEND)?.to_string_lossy();
        match value.trim() {
            "" | "auto" | "incus" => None,
            other => Some(format!("{INCUS_BACKEND} is `{}`; it is always incus", shorten(other))),
        }
    }

    pub(crate) fn state_root(&self) -> Result<Option<PathBuf>, CliError> {
        match self.environment.get(STATE_ROOT) {
            Some(value) if value.is_empty() => Err(bad(STATE_ROOT, value, "a directory")),
            value => Ok(value.map(PathBuf::from)),
        }
    }

    pub(crate) fn max_concurrent_executes(&self) -> Result<Option<NonZeroUsize>, CliError> {
        let Some(value) = self.environment.get(MAX_CONCURRENT_EXECUTES) else { return Ok(None) };
        match value.to_str().map(str::trim).and_then(|text| text.parse().ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(bad(MAX_CONCURRENT_EXECUTES, value, "a whole number from 1")),
        }
    }

    /// Dev shell of host jobs. The engine enters none when this process is inside one already.
    pub(crate) fn host_local_nix_shell(&self) -> Result<Option<String>, CliError> {
        self.text(HOST_LOCAL_NIX_SHELL, "the name of a dev shell")
    }

    /// The user's file by variable, as it was written.
    pub(crate) fn config_file(&self) -> Result<Option<PathBuf>, CliError> {
        match self.environment.get(CONFIG) {
            Some(value) if value.is_empty() => Err(bad(CONFIG, value, "a file")),
            value => Ok(value.map(PathBuf::from)),
        }
    }

    /// Where the user's file is when nothing else is said; nothing for a user without a home.
    pub(crate) fn usual_config_file(&self) -> Option<PathBuf> {
        // As the convention has it, what is not absolute does not count.
        let directory =
            |name: &str| self.environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")))?;
        Some(base.join("jerichoci").join("config.toml"))
    }

    /// Whether what runs may come from somebody else than the caller.
    pub(crate) fn untrusted(&self) -> Result<Setting<bool>, CliError> {
        let said = match self.environment.get(UNTRUSTED) {
            None => None,
            Some(value) => match value.to_str().map(str::trim) {
                Some("1" | "true" | "TRUE" | "yes" | "YES") => Some(true),
                Some("" | "0" | "false" | "FALSE" | "no" | "NO") => Some(false),
                _ => return Err(bad(UNTRUSTED, value, "1 or 0")),
            },
        };
        let ci = self.environment.get(CI).map(|value| value.to_string_lossy().trim().to_lowercase());
        let ci = ci.is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false" | "no"));
        Ok(match (said, ci) {
            (None, false) => Setting { value: false, origin: Origin::Default },
            (said, ci) => Setting { value: ci || said == Some(true), origin: Origin::Environment },
        })
    }

    /// Revision that changes are counted from.
    pub(crate) fn base_ref(&self) -> Result<Option<String>, CliError> {
        self.text(BASE_REF, "a revision")
    }

    /// A variable that another program is given: one word. Blank means nothing.
    pub(super) fn word(&self, name: &str) -> Result<Option<String>, CliError> {
        const EXPECTED: &str = "one word that does not start with `-`";
        match self.text(name, EXPECTED)? {
            Some(text) if !is_word(&text) => Err(bad(name, OsStr::new(&text), EXPECTED)),
            text => Ok(text),
        }
    }

    /// In place of the role of each job.
    pub(super) fn guest_role(&self) -> Result<Option<IncusGuestRole>, CliError> {
        let Some(text) = self.text(INCUS_GUEST_ROLE, ROLES)? else { return Ok(None) };
        match text.parse() {
            Ok(role) => Ok(Some(role)),
            Err(_) => Err(bad(INCUS_GUEST_ROLE, OsStr::new(&text), ROLES)),
        }
    }

    pub(super) fn remote_work_dir(&self) -> Result<Option<PathBuf>, CliError> {
        const EXPECTED: &str = "an absolute path, without `..`";
        let Some(text) = self.text(REMOTE_WORK_DIR, EXPECTED)? else { return Ok(None) };
        match is_place(Path::new(&text)) {
            true => Ok(Some(PathBuf::from(text))),
            false => Err(bad(REMOTE_WORK_DIR, OsStr::new(&text), EXPECTED)),
        }
    }

    /// A path, or a name to look up in `PATH`.
    pub(super) fn ssh_program(&self) -> Result<Option<OsString>, CliError> {
        match self.environment.get(SSH_BINARY) {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(None),
            Some(value) if value.as_encoded_bytes().contains(&b'/') => {
                self.absolute(Path::new(value)).map(|path| Some(path.into()))
            }
            Some(value) => Ok(Some(value.to_owned())),
        }
    }

    /// How long a lost connection is tried again.
    pub(super) fn reconnect(&self) -> Result<Option<Duration>, CliError> {
        self.seconds(RECONNECT_SECS)
    }

    /// How long a job waits for a cache that another one has.
    pub(super) fn cache_wait(&self) -> Result<Option<Duration>, CliError> {
        self.seconds(CACHE_WAIT_SECS)
    }

    /// A time of at most a day.
    fn seconds(&self, variable: &str) -> Result<Option<Duration>, CliError> {
        let Some(text) = self.text(variable, SECONDS)? else { return Ok(None) };
        match text.parse().ok().filter(|secs| *secs <= LONGEST_SECONDS) {
            Some(secs) => Ok(Some(Duration::from_secs(secs))),
            None => Err(bad(variable, OsStr::new(&text), SECONDS)),
        }
    }

    /// Socket of the Incus of this machine, as its own client finds it.
    pub(super) fn incus_socket(&self) -> Result<Option<PathBuf>, CliError> {
        let path = |name: &str| self.environment.get(name).filter(|value| !value.is_empty()).map(Path::new);
        match (path(INCUS_SOCKET), path(INCUS_DIR)) {
            (Some(socket), _) => self.absolute(socket).map(Some),
            (None, Some(directory)) => self.absolute(&directory.join("unix.socket")).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Directory of programs for guests and hosts that somebody named.
    pub(super) fn guest_runner_dir(&self) -> Result<Option<PathBuf>, CliError> {
        match self.environment.get(GUEST_RUNNER_DIR) {
            Some(value) if !value.is_empty() => self.absolute(Path::new(value)).map(Some),
            _ => Ok(None),
        }
    }

    /// Directories of programs for guests and hosts beside this program: as installed, and as
    /// built. Never one of the tree that is checked, whose branch could bring its own along.
    pub(super) fn usual_runner_dirs(&self) -> Vec<PathBuf> {
        let Some(bin) = self.program.as_deref().and_then(Path::parent) else { return Vec::new() };
        let Some(above) = bin.parent() else { return Vec::new() };
        // Of `target/debug/pikaci`, and of `target/debug/deps/NAME`.
        let built = match bin.ends_with("deps") {
            true => above.parent(),
            false => Some(above),
        };
        let installed = above.join("libexec/jericho");
        [Some(installed), built.map(|target| target.join("guest"))]
            .into_iter()
            .flatten()
            .filter(|path| path.is_dir())
            .collect()
    }

    /// A variable whose blank value means nothing.
    fn text(&self, name: &str, expected: &str) -> Result<Option<String>, CliError> {
        let Some(value) = self.environment.get(name) else { return Ok(None) };
        let text = value.to_str().ok_or_else(|| bad(name, value, expected))?.trim();
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }
}

fn bad(name: &str, value: &OsStr, expected: &str) -> CliError {
    let message = match value.is_empty() {
        true => format!("{name} is empty; it must be {expected}"),
        false => format!("{name} is `{}`; it must be {expected}", shorten(&value.to_string_lossy())),
    };
    CliError::usage(message).hint(format!("unset {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Surroundings {
        Surroundings::with(variables)
    }

    #[test]
    fn a_bad_number_of_jobs_is_an_error_and_never_ignored() {
        for bad in ["0", "", "two", "-1", "1.5", "99999999999999999999999"] {
            let error = with(&[(MAX_CONCURRENT_EXECUTES, bad)]).max_concurrent_executes().unwrap_err();
            assert!(error.to_string().contains(MAX_CONCURRENT_EXECUTES), "{error}");
            assert_eq!(error.exit(), Exit::Usage);
        }
        let good = with(&[(MAX_CONCURRENT_EXECUTES, " 3 ")]).max_concurrent_executes().unwrap();
        assert_eq!(good, NonZeroUsize::new(3));
    }

    #[test]
    fn a_nix_shell_is_entered_only_when_asked_for() {
        let shell = |variables: &[(&str, &str)]| with(variables).host_local_nix_shell().unwrap();
        assert_eq!(shell(&[]), None);
        assert_eq!(shell(&[(HOST_LOCAL_NIX_SHELL, "ci")]), Some("ci".to_owned()));
        assert_eq!(shell(&[(HOST_LOCAL_NIX_SHELL, " ")]), None);
    }

    #[test]
    fn a_caller_is_untrusted_when_one_of_two_variables_says_so() {
        let untrusted = |variables: &[(&str, &str)]| with(variables).untrusted().unwrap().value;
        for variables in [
            &[(UNTRUSTED, "1")][..],
            &[(UNTRUSTED, " yes ")],
            &[(CI, "true")],
            &[(CI, "woodpecker")],
            // A run of somebody else's cannot be made trusted by taking one of them back.
            &[(UNTRUSTED, "0"), (CI, "1")],
        ] {
            assert!(untrusted(variables), "{variables:?}");
        }
        for variables in [&[][..], &[(UNTRUSTED, "0")], &[(CI, "false")], &[(CI, ""), (UNTRUSTED, "")]] {
            assert!(!untrusted(variables), "{variables:?}");
        }
        assert_eq!(with(&[(UNTRUSTED, "maybe")]).untrusted().unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn the_users_file_is_below_the_directory_for_configuration() {
        let file = |variables: &[(&str, &str)]| with(variables).usual_config_file();
        let xdg = file(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]);
        assert_eq!(xdg, Some(PathBuf::from("/x/jerichoci/config.toml")));
        for relative in ["", "x"] {
            let home = file(&[("XDG_CONFIG_HOME", relative), ("HOME", "/h")]);
            assert_eq!(home, Some(PathBuf::from("/h/.config/jerichoci/config.toml")));
        }
        assert_eq!(file(&[]), None);
    }

    #[test]
    fn a_removed_variable_fails_unless_it_is_blank() {
        assert!(with(&[(REMOVED, " ")]).check_removed().is_ok());
        assert_eq!(with(&[(REMOVED, "x")]).check_removed().unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn a_variable_of_the_past_is_named_with_its_successor() {
        let renamed = with(&[("PIKACI_STATE_ROOT", "/x"), ("PIKACI_OTHER", "y"), ("PIKACI", "z")]).renamed();
        assert_eq!(
            renamed,
            ["PIKACI_STATE_ROOT is set, but not read: the variable is called JERICHOCI_STATE_ROOT now"]
        );
    }
}
