//! The option `--catalog`, of every command that knows targets.

use std::path::Path;

use crate::targets::{Catalog, CatalogChoice, TargetError};

/// Which compiled-in catalog is active.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct CatalogFlag {
    /// Also the targets of this catalog, whatever ci/forge-lanes.toml says
    #[arg(long, value_name = "NAME")]
    catalog: Option<CatalogChoice>,
}

impl CatalogFlag {
    /// The targets of a source tree, with those of the catalog that was asked for.
    pub(super) fn load(&self, source_root: &Path) -> Result<Catalog, TargetError> {
        Catalog::load_with(source_root, self.catalog)
    }
}
