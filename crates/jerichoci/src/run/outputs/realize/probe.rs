//! Whether nix can evaluate anything at all: an evaluation that failed for a reason of the machine has the exit code of
//! one that failed for a reason of the source.

use jericho_host::{CancelToken, Command, HostError};

use super::NixOnHost;
use crate::nix::complaint;

/// An evaluation of nothing, after the directory that evaluations of flakes keep their results in.
const PROBE: &str = r#"cache=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
[ -z "$cache" ] || mkdir -p "$cache/nix" || exit 1
exec "$1" --extra-experimental-features nix-command eval --expr 1"#;

/// What stands in the way; nothing when nix is sound.
pub(super) fn probe(nix: &NixOnHost, cancel: &CancelToken) -> Result<Option<String>, HostError> {
    let probe = Command::new("sh").args(["-c", PROBE, "sh"]).arg(&nix.program);
    let output = nix.host.run(&probe.env(nix.env.clone()).cwd("/").grace(nix.grace), cancel)?;
    Ok((!output.exit.success()).then(|| complaint(&output.stderr)))
}
