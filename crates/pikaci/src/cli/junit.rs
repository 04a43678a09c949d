//! `--junit FILE` of `run` and `rerun`.

use std::path::PathBuf;

use jerichoci::EngineError;
use jerichoci::model::record::RunRecord;

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::note;
use crate::report::destination::Destination;
use crate::report::junit::junit;
use crate::report::recorded::Recorded;

/// Reports that a run writes at its end.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ReportFlags {
    /// Write JUnit XML here at the end, however the run ends
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// A report that is still to be written.
#[derive(Debug)]
pub(super) struct AtTheEnd {
    destination: Option<Destination>,
    failed: Option<CliError>,
}

impl ReportFlags {
    /// Looks at the path before anything starts: at the end it would be too late.
    pub(super) fn check(&self, session: &Session) -> Result<AtTheEnd, CliError> {
        let destination = match &self.junit {
            None => None,
            // The verdicts go there.
            Some(path) if path.as_os_str() == "-" => {
                let hint = "--junit FILE; or afterwards: pikaci report latest --junit -";
                return Err(
                    CliError::usage("--junit - is standard output, which has the run's own").hint(hint)
                );
            }
            Some(path) => {
                let path = session.surroundings().absolute(path)?;
                Some(Destination::check("--junit", &path)?)
            }
        };
        Ok(AtTheEnd { destination, failed: None })
    }
}

impl AtTheEnd {
    /// Where it goes.
    pub(super) const fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref()
    }

    /// Writes the report of a run that has ended, whatever becomes of its output after that.
    pub(super) fn write(
        &mut self,
        session: &Session,
        ended: Result<RunRecord, EngineError>,
    ) -> Result<RunRecord, EngineError> {
        let record = ended?;
        if let Some(destination) = &self.destination {
            self.failed = write(session, destination, &record).err();
        }
        Ok(record)
    }

    /// How the command ends. A report that was asked for and is not there is never a success.
    pub(super) fn settle(self, exit: Exit) -> Result<Exit, CliError> {
        match self.failed {
            None => Ok(exit),
            Some(error) if exit == Exit::Success => Err(error),
            Some(error) => {
                note(&error.to_string());
                Ok(exit)
            }
        }
    }
}

fn write(session: &Session, destination: &Destination, record: &RunRecord) -> Result<(), CliError> {
    let run_id = session.run_id(&record.run_id)?;
    let recorded = Recorded::of(&session.state_root()?, &run_id, record.clone());
    let document = junit(&recorded)
        .map_err(|error| CliError::new(Exit::Infrastructure, "no JUnit XML").because(error))?;
    destination.write(&document)
}
