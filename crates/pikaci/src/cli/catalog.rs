//! The option `--catalog`, of every command that knows targets.

use crate::targets::CatalogChoice;

/// Which compiled-in catalog is active.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct CatalogFlag {
    /// Also the targets of this catalog, whatever ci/forge-lanes.toml says
    #[arg(long, value_name = "NAME")]
    pub(super) catalog: Option<CatalogChoice>,
}
