//! `pikaci staged-linux-target-info`.

use std::io::Write as _;

use crate::catalog::{PikaStagedLinuxTarget, PikaStagedLinuxTargetInfoJson};
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::document;
use crate::render::text::shorten;
use crate::targets::nearest;

/// Prints the prepared outputs of a staged target of the Pika catalog
///
/// Text is assignments that a script can read. The source tree is not looked at.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A staged target, for example pre-merge-pika-rust
    target: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit, CliError> {
    let target = PikaStagedLinuxTarget::from_id(&args.target).ok_or_else(|| unknown(&args.target))?;
    let info = PikaStagedLinuxTargetInfoJson::from(target.config());
    if args.json {
        document::print(&info)?;
        return Ok(Exit::Success);
    }
    let text = format!(
        "target_id={}\ntarget_description={:?}\npayload_workspace-deps_installable={}\n\
         payload_workspace-build_installable={}\n",
        info.target_id,
        info.target_description,
        info.workspace_deps_installable,
        info.workspace_build_installable,
    );
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)?;
    Ok(Exit::Success)
}

fn unknown(name: &str) -> CliError {
    let shown = shorten(name);
    let in_catalog = crate::catalog::targets().iter().any(|target| target.id == name);
    let message = match in_catalog {
        true => format!("target `{shown}` has no prepared outputs of its own"),
        false => format!("no target of the Pika catalog is called `{shown}`"),
    };
    let known: Vec<&str> = PikaStagedLinuxTarget::all().map(PikaStagedLinuxTarget::id).collect();
    let hint = match nearest(name, known.iter().copied()).filter(|_| !in_catalog) {
        Some(nearest) => format!("pikaci staged-linux-target-info {nearest}"),
        None => format!("the staged targets are: {}", known.join(", ")),
    };
    CliError::new(Exit::NotFound, message).hint(hint)
}
