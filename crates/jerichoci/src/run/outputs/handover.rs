//! Hands one realised output over, in the way of the run's mode, and says what became of it.

use std::path::Path;

use super::OutputsError;
use super::expose::expose;
use super::mode::Mode;
use crate::model::outputs::{Exposure, HandoffProtocol, PreparedOutputRecord, Residency};
use crate::run::layout::RunLayout;

/// What is handed over.
pub(crate) struct Handover<'a> {
    pub(crate) run: &'a RunLayout,
    pub(crate) mode: &'a Mode,
    pub(crate) node_id: &'a str,
    pub(crate) installable: &'a str,
    pub(crate) output_name: &'a str,
    pub(crate) residency: Residency,
    /// Path in the store.
    pub(crate) realized: &'a Path,
    /// Where it is to become visible.
    pub(crate) exposures: &'a [Exposure],
}

/// Hands it over. The record is complete also when that failed.
pub(crate) fn hand_over(handover: &Handover<'_>) -> (PreparedOutputRecord, Result<(), OutputsError>) {
    let mut record = PreparedOutputRecord {
        node_id: handover.node_id.to_owned(),
        installable: handover.installable.to_owned(),
        output_name: handover.output_name.to_owned(),
        protocol: HandoffProtocol::NixStorePathV1,
        residency: handover.residency,
        consumer: handover.mode.consumer(),
        realized_path: handover.realized.to_string_lossy().into_owned(),
        consumer_request_path: None,
        consumer_result_path: None,
        consumer_launch_request_path: None,
        consumer_transport_request_path: None,
        exposures: Vec::new(),
        requested_exposures: Vec::new(),
        payload: None,
    };
    let handed = links(handover, &mut record);
    (record, handed)
}

fn links(handover: &Handover<'_>, record: &mut PreparedOutputRecord) -> Result<(), OutputsError> {
    for exposure in handover.exposures {
        expose(Some(handover.run.dir()), Path::new(&exposure.path), handover.realized)?;
        record.exposures.push(exposure.clone());
    }
    Ok(())
}
