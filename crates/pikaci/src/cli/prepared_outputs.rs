//! `pikaci prepared-outputs`.

use std::io::Write as _;

use jerichoci::load_prepared_outputs_record;
use jerichoci::model::outputs::PreparedOutputsRecord;

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::document;

/// Shows the prepared outputs of a run
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run; `latest` is the newest one
    run_id: String,
    /// The whole record
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let run_id = session.run_id(&args.run_id)?;
    let state_root = session.state_root()?;
    let record =
        load_prepared_outputs_record(&state_root, &run_id).map_err(|error| session.engine_error(error))?;
    if args.json {
        document::print(&record)?;
    } else {
        std::io::stdout().write_all(text(run_id.as_str(), &record).as_bytes()).map_err(CliError::output)?;
    }
    Ok(Exit::Success)
}

fn text(run_id: &str, record: &PreparedOutputsRecord) -> String {
    let mut text = format!(
        "run_id={run_id}\nschema_version={}\noutputs={}\n",
        record.schema_version,
        record.outputs.len()
    );
    for output in &record.outputs {
        let (kind, entrypoints) = match &output.payload {
            Some(payload) => (payload.kind.as_str(), payload.entrypoints.len()),
            None => ("-", 0),
        };
        let columns = [
            &output.node_id,
            &output.output_name,
            &output.installable,
            &document::word(&output.consumer),
            &output.realized_path,
            kind,
            &entrypoints.to_string(),
        ];
        text.push_str(&columns.join("\t"));
        text.push('\n');
    }
    text
}
