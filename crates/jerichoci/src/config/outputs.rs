//! How prepared outputs are handed over, as it is set today.

use std::path::PathBuf;
use std::time::Duration;

use crate::run::outputs::mode::{Mode, Transport, staged_linux_remote_defaults};

/// How prepared outputs are handed over. Reruns take what was recorded, but for what depends on
/// where the build host is now: see [`crate::run::outputs::choose::choose`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputsConfig {
    /// Who makes them visible.
    pub mode: Mode,
    /// The helper program; needed only by a mode that starts one directly.
    pub helper_program: Option<PathBuf>,
    /// The launcher, for a mode that names none.
    pub launcher_program: Option<PathBuf>,
    /// Over SSH, to where the build host is now: all of it is there.
    pub ssh: Transport,
    /// How long one answer of nix, of a helper or of a launcher is waited for; a build, or a copy to another host, may
    /// take as long as it does.
    pub answer_limit: Duration,
    /// Where the values of the mode come from: the name of a record's field, and a word such as
    /// `environment`. What is not listed is `default`.
    pub origins: Vec<(String, String)>,
    /// The same of the parts of `ssh`, which is used also when the mode is another one.
    pub ssh_origins: Vec<(String, String)>,
}

impl Default for OutputsConfig {
    fn default() -> Self {
        let defaults = staged_linux_remote_defaults();
        let some = |text: &str| Some(text.to_owned());
        Self {
            mode: Mode::default(),
            helper_program: None,
            launcher_program: None,
            ssh: Transport::Ssh {
                program: some(defaults.ssh_binary),
                host: some(defaults.ssh_host),
                remote_launcher_program: some(defaults.remote_launcher_binary),
                remote_helper_program: some(defaults.remote_helper_binary),
                remote_work_dir: some(defaults.remote_work_dir),
            },
            answer_limit: Duration::from_secs(30 * 60),
            origins: Vec::new(),
            ssh_origins: Vec::new(),
        }
    }
}
