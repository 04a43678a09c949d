//! Why an evaluation failed: one that failed for a reason of the machine has the exit code of one that failed for a
//! reason of the source, and may have its words.

use std::time::Duration;

use jericho_host::{CancelToken, Command, HostError};

use super::NixOnHost;
use crate::nix::complaint;
use crate::run::outputs::answer;

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

/// Whether a flake throws when it is asked for an output. Nix catches what a flake throws, and nothing else.
pub(super) fn throws(
    nix: &NixOnHost,
    flake: &str,
    output: &str,
    limit: Duration,
    cancel: &CancelToken,
) -> Result<bool, HostError> {
    let expression = format!("(builtins.tryEval ((builtins.getFlake \"{flake}\").{output}.drvPath)).success");
    let eval = Command::new(&nix.program)
        .args(["--extra-experimental-features", "nix-command flakes", "eval", "--json", "--expr"])
        .arg(expression)
        .env(nix.env.clone())
        .cwd("/")
        .grace(nix.grace);
    let output = answer::within(limit, cancel, |cancel| nix.host.run(&eval, cancel))?;
    Ok(output.is_some_and(|output| output.exit.success() && output.stdout.trim_ascii() == b"false"))
}
