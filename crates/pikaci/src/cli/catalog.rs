//! The option `--catalog`, of every command that knows targets.

use crate::error::CliError;
use crate::operator::Operator;
use crate::source::Source;
use crate::targets::{Catalog, CatalogChoice};

/// Which compiled-in catalog is active.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct CatalogFlag {
    /// Also the targets of this catalog, whatever ci/forge-lanes.toml says
    #[arg(long, value_name = "NAME")]
    pub(super) catalog: Option<CatalogChoice>,
}

impl CatalogFlag {
    /// The targets of a source tree, with the hosts of the user's file.
    pub(super) fn load(&self, source: &Source, operator: &Operator) -> Result<Catalog, CliError> {
        Ok(Catalog::load_for(&source.root, self.catalog, operator)?)
    }
}
