//! Placeholder until the targets are there.
#![expect(missing_docs, reason = "placeholder")]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jerichoci::model::job::JobSpec;

#[derive(Debug, Clone, Default)]
pub struct Filters(pub Vec<String>);
impl Filters {
    pub fn patterns(&self) -> &[String] {
        &self.0
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn first_match<'a>(
        &'a self,
        changed: impl IntoIterator<Item = &'a str>,
    ) -> Option<(&'a str, &'a str)> {
        let _ = changed;
        None
    }
}
#[derive(Debug, Clone)]
pub struct TargetSpec {
    pub id: String,
    pub description: Option<String>,
    pub filters: Filters,
    pub jobs: Vec<JobSpec>,
    pub default: bool,
}
#[derive(Debug, Clone, Default)]
pub struct Catalog;
impl Catalog {
    pub fn load(_: &Path) -> Result<Catalog, TargetError> {
        Ok(Self)
    }
    pub fn find(&self, name: &str) -> Result<&TargetSpec, TargetError> {
        Err(TargetError::UnknownTarget { name: name.to_owned(), nearest: None, known: vec![] })
    }
    pub fn default_target(&self) -> Result<&TargetSpec, TargetError> {
        Err(TargetError::NoDefault { known: vec![] })
    }
    pub fn group_widths(&self) -> &BTreeMap<String, usize> {
        const { &BTreeMap::new() }
    }
}
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    #[error("no target `{name}`")]
    UnknownTarget { name: String, nearest: Option<String>, known: Vec<String> },
    #[error("no default target")]
    NoDefault { known: Vec<String> },
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}
impl TargetError {
    pub fn hint(&self) -> Option<String> {
        None
    }
}
