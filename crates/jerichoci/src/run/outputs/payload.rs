//! What a prepared output says about itself.

use std::fs;
use std::io;
use std::path::{Component, Path};

use super::OutputsError;
use super::expose::check_absolute;
use crate::model::outputs::PayloadManifestRecord;
use crate::model::version;

/// Where the manifest lies in an output.
pub const MANIFEST: &str = "share/jerichoci/payload-manifest.json";

/// Reads the manifest of an output on this machine; nothing when it has none.
///
/// # Errors
/// [`OutputsError::File`], [`OutputsError::Document`], and those of [`check_manifest`].
pub fn load_manifest(output: &Path) -> Result<Option<PayloadManifestRecord>, OutputsError> {
    let path = output.join(MANIFEST);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|source| OutputsError::File { action: "read", path: path.clone(), source })?,
    };
    let manifest = serde_json::from_slice(&bytes)
        .map_err(|error| OutputsError::Document { path, problem: error.to_string() })?;
    check_manifest(&manifest)?;
    Ok(Some(manifest))
}

/// Checks that every path stays where it belongs.
///
/// # Errors
/// [`OutputsError::Invalid`] with the first one that does not.
pub fn check_manifest(manifest: &PayloadManifestRecord) -> Result<(), OutputsError> {
    if manifest.schema_version != version::PAYLOAD_MANIFEST {
        return Err(OutputsError::Invalid(format!(
            "the payload manifest has schema_version {}; this program knows {}",
            manifest.schema_version,
            version::PAYLOAD_MANIFEST
        )));
    }
    let paths = manifest.entrypoints.iter().chain(&manifest.asset_roots);
    for path in paths {
        check_relative(&path.name, &path.relative_path)?;
    }
    for mount in &manifest.mounts {
        check_relative(&mount.name, &mount.relative_path)?;
        check_absolute(Path::new(&mount.guest_path))?;
    }
    Ok(())
}

fn check_relative(name: &str, path: &str) -> Result<(), OutputsError> {
    if name.trim().is_empty() {
        return Err(OutputsError::Invalid(format!("the payload manifest has no name for `{path}`")));
    }
    let inside = Path::new(path)
        .components()
        .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
    if inside && !path.is_empty() {
        return Ok(());
    }
    Err(OutputsError::Invalid(format!(
        "the payload manifest has `{path}` for {name}: not a path in the output"
    )))
}
