//! What a request means on this machine: user, directory, environment, shell. Whatever keeps the command
//! from being started is found here.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jericho_host::secrets::Masker;
use jericho_host::{Environment, IdSource, SystemIds, find_program};
use pika_cloud::glob::GlobSet;
use pika_cloud::{GuestEnvironment, GuestRuntime, IncusGuestRunRequest, RuntimePaths};

use crate::environment::{self, SecretFiles};
use crate::user::{self, Account, Own};

/// The variable by which the processes of a job are found.
pub(crate) const TAG: &str = "JERICHOCI_JOB";
/// Where a guest finds the source.
const GUEST_CWD: &str = "/workspace/snapshot";
const GRACE: u64 = 5;
const LOG_CAP: u64 = 1 << 30;

/// A request, ready to be run.
pub(crate) struct Plan {
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Environment,
    pub(crate) cwd: PathBuf,
    pub(crate) account: Account,
    /// Value of [`TAG`].
    pub(crate) tag: String,
    pub(crate) limit: Duration,
    pub(crate) grace: Duration,
    pub(crate) log_cap: u64,
    pub(crate) globs: GlobSet,
    pub(crate) masker: Option<Arc<Masker>>,
    /// Told with the result.
    pub(crate) warnings: Vec<String>,
    /// Gone with the plan.
    _secret_files: Option<SecretFiles>,
}

impl Plan {
    /// The paths of a request's lifecycle files.
    pub(crate) fn paths(request: &IncusGuestRunRequest) -> RuntimePaths {
        request.options().paths.clone().unwrap_or_default()
    }

    /// Between TERM and KILL.
    pub(crate) fn grace_secs(request: &IncusGuestRunRequest) -> u64 {
        request.options().grace_secs.unwrap_or(GRACE)
    }

    /// Finds out everything that is needed, and does what must be done before: the environment file is
    /// read and removed.
    ///
    /// # Errors
    /// One line for people.
    pub(crate) fn new(request: &IncusGuestRunRequest, own_env: &Environment) -> Result<Self, String> {
        let options = request.options();
        let own = Own::now();
        // First, so that it is removed whatever else is wrong.
        let file =
            options.env_file.as_ref().map(|path| environment::take(Path::new(path), own)).transpose()?;
        let account = user::resolve(request, own)?;
        let cwd = PathBuf::from(options.cwd.as_deref().unwrap_or(GUEST_CWD));
        if let Err(error) = fs::read_dir(&cwd) {
            return Err(format!("cannot use the working directory {}: {error}", cwd.display()));
        }
        let paths = Self::paths(request);
        let mut warnings = Vec::new();
        if account.groups.is_some() {
            for warning in give_directories(&account, options.runtime, Path::new(&paths.artifacts_dir)) {
                warnings.push(warning);
            }
        }
        let mut env = environment::base(own_env, &account, &cwd, Path::new(&paths.artifacts_dir));
        let mut secret_files = None;
        let mut tag = None;
        if let (Some(file), Some(path)) = (&file, &options.env_file) {
            environment::apply(&mut env, file);
            tag = file.variables.get(TAG).cloned();
            let place = Path::new(path).parent().unwrap_or(Path::new("/"));
            secret_files = SecretFiles::write(file, place, &account, &mut env)
                .map_err(|error| format!("cannot write the secrets of the command: {error}"))?;
        }
        env.remove(TAG);
        let argv = shell(request.command(), &env)?;
        let globs = GlobSet::new(&options.artifact_globs)
            .map_err(|refused| format!("{} globs of artifacts cannot be read", refused.len()))?;
        Ok(Self {
            argv,
            env,
            cwd,
            account,
            tag: tag.unwrap_or_else(|| format!("request/{}", SystemIds.fresh())),
            limit: Duration::from_secs(request.timeout_secs()),
            grace: Duration::from_secs(Self::grace_secs(request)),
            log_cap: options.log_cap_bytes.unwrap_or(LOG_CAP),
            globs,
            masker: file.as_ref().map(masker).transpose()?.flatten(),
            warnings,
            _secret_files: secret_files,
        })
    }

    /// A text without the secrets of the command.
    pub(crate) fn masked(&self, text: &str) -> String {
        self.masker.as_ref().map_or_else(|| text.to_owned(), |masker| masker.text(text))
    }
}

fn masker(file: &GuestEnvironment) -> Result<Option<Arc<Masker>>, String> {
    Masker::new(file.secret_values().map(str::as_bytes))
        .map_err(|error| format!("the secrets of the command cannot be masked: {error}"))
}

/// The command in the shell of the contract, or in `sh` where an image has no bash.
fn shell(command: &str, env: &Environment) -> Result<Vec<OsString>, String> {
    let path = env.get("PATH").unwrap_or_default().display().to_string();
    let (shell, options): (_, &[&str]) = match find_program("bash", env) {
        Some(bash) => (bash, &["--noprofile", "--norc", "-lc"]),
        None => {
            let sh = find_program("sh", env);
            let words = match path.as_str() {
                "" => "there is neither bash nor sh: the PATH of the command is empty".to_owned(),
                path => format!("there is neither bash nor sh in {path}"),
            };
            (sh.ok_or(words)?, &["-c"])
        }
    };
    let mut argv = vec![shell.into_os_string()];
    argv.extend(options.iter().map(OsString::from));
    argv.push(command.into());
    Ok(argv)
}

/// Gives the user of a guest a home and the directory of artifacts. Returns what did not work: a command
/// may not need it.
fn give_directories(account: &Account, runtime: GuestRuntime, artifacts: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut give = |dir: &Path| {
        if let Err(error) = chown(dir, Some(account.uid), Some(account.gid)) {
            warnings.push(format!("cannot give {} to user {}: {error}", dir.display(), account.uid));
        }
    };
    give(artifacts);
    if runtime == GuestRuntime::Incus && !account.home.exists() && fs::create_dir_all(&account.home).is_ok() {
        give(&account.home);
    }
    warnings
}
