//! `pikaci staged-linux-target-info`.

use std::io::Write as _;

use super::session::Session;
use crate::catalog::{PikaStagedLinuxTarget, PikaStagedLinuxTargetInfoJson};
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::document;
use crate::render::text::shorten;
use crate::targets::{Catalog, nearest};

/// Prints the prepared outputs of a staged target
///
/// Of the Pika catalog, whatever the source tree has active; else of its `jericho.toml`. Text is
/// assignments that a script can read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A staged target, for example pre-merge-pika-rust
    target: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let info = match PikaStagedLinuxTarget::from_id(&args.target) {
        Some(target) => PikaStagedLinuxTargetInfoJson::from(target.config()),
        None => of_the_tree(session, &args.target)?.ok_or_else(|| unknown(&args.target))?,
    };
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

/// That of a target which the source tree declares, where there is a tree and it has one.
fn of_the_tree(session: &Session, name: &str) -> Result<Option<PikaStagedLinuxTargetInfoJson>, CliError> {
    let Ok(source) = session.source() else { return Ok(None) };
    let catalog = Catalog::load(&source.root)?;
    let Some(target) = catalog.iter().find(|target| target.id == name) else { return Ok(None) };
    let mut staged = target.jobs.iter().filter_map(|job| job.staged.as_ref());
    let Some(first) = staged.next() else { return Ok(None) };
    if let Some(other) = staged.find(|config| config.prefix != first.prefix) {
        let message = format!(
            "target `{}` has more than one pair of prepared outputs: `{}` and `{}`",
            shorten(name),
            first.prefix,
            other.prefix
        );
        return Err(CliError::usage(message).hint("pikaci plan shows the outputs of each job"));
    }
    Ok(Some(PikaStagedLinuxTargetInfoJson::of_file(target, first)))
}

fn unknown(name: &str) -> CliError {
    let shown = shorten(name);
    let in_catalog = crate::catalog::targets().iter().any(|target| target.id == name);
    let message = match in_catalog {
        true => format!("target `{shown}` has no prepared outputs of its own"),
        false => format!("no staged target is called `{shown}`, in the Pika catalog or in jericho.toml"),
    };
    let known: Vec<&str> = PikaStagedLinuxTarget::all().map(PikaStagedLinuxTarget::id).collect();
    let hint = match nearest(name, known.iter().copied()).filter(|_| !in_catalog) {
        Some(nearest) => format!("pikaci staged-linux-target-info {nearest}"),
        None => format!("the staged targets are: {}", known.join(", ")),
    };
    CliError::new(Exit::NotFound, message).hint(hint)
}
