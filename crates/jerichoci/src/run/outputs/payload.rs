//! What a prepared output says about itself.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use jericho_host::{CancelToken, Command, Environment, Exit, Host};

use super::OutputsError;
use super::expose::check_absolute;
use super::realize::NixOnHost;
use crate::executor::PreparedMount;
use crate::model::outputs::PayloadManifestRecord;
use crate::model::staged::StagedLinuxRustPayloadRole;
use crate::model::version;

/// Where the manifest lies in an output.
pub const MANIFEST: &str = "share/jerichoci/payload-manifest.json";

/// Most bytes of a manifest.
const MANIFEST_LIMIT: usize = 1 << 20;

/// Prints a manifest. An output is what a flake made of it: a link in it may lead anywhere, to what never ends too.
const READ: &str = r#"[ -e "$1" ] || exit 44
file=$(readlink -e "$1") || exit 44
case $file in "$2"/?*) ;; *) printf '%s' "$file"; exit 45 ;; esac
[ -f "$file" ] || exit 46
exec head -c "$3" "$file""#;

/// Reads the manifest of an output on a host; nothing when it has none. `env` is what programs there are
/// started with.
///
/// # Errors
/// [`OutputsError::Host`], [`OutputsError::Document`] also for what is no file of the store or too long, and
/// those of [`check_manifest`].
pub fn load_manifest(
    host: &dyn Host,
    env: &Environment,
    output: &Path,
    cancel: &CancelToken,
) -> Result<Option<PayloadManifestRecord>, OutputsError> {
    let path = output.join(MANIFEST);
    let store = output.parent().unwrap_or(output);
    let read = Command::new("sh").args(["-c", READ, "sh"]).arg(&path).arg(store);
    let said = host.run(&read.arg((MANIFEST_LIMIT + 1).to_string()).env(env.clone()), cancel)?;
    let document = |problem: String| OutputsError::Document { path: path.clone(), problem };
    match said.exit {
        Exit::Code(0) if said.stdout.len() > MANIFEST_LIMIT => {
            return Err(document(format!("longer than {MANIFEST_LIMIT} bytes")));
        }
        Exit::Code(0) => {}
        Exit::Code(44) => return Ok(None),
        Exit::Code(45) => {
            let target = String::from_utf8_lossy(&said.stdout);
            return Err(document(format!("it is {target} outside of the store")));
        }
        Exit::Code(46) => return Err(document("not a regular file".to_owned())),
        _ => return Err(document(format!("cannot be read: {}", crate::nix::complaint(&said.stderr)))),
    }
    let manifest = serde_json::from_slice(&said.stdout).map_err(|error| document(error.to_string()))?;
    check_manifest(&manifest)?;
    Ok(Some(manifest))
}

/// What a job sees of an output by its manifest, with every source resolved on the host. A
/// source must stay in the output, or in another one of the same store that the output names.
/// With a role, the manifest must be of the role's kind and show something where jobs of it look.
///
/// # Errors
/// [`OutputsError::Invalid`], [`OutputsError::Host`].
pub fn mounts(
    nix: &NixOnHost,
    output: &Path,
    manifest: &PayloadManifestRecord,
    role: Option<StagedLinuxRustPayloadRole>,
    cancel: &CancelToken,
) -> Result<Vec<PreparedMount>, OutputsError> {
    let invalid = |problem: String| OutputsError::Invalid(format!("{}: {problem}", output.display()));
    check_manifest(manifest)?;
    if let Some(role) = role {
        if manifest.kind != role.manifest_kind() {
            let wanted = role.manifest_kind();
            return Err(invalid(format!("its payload is `{}` in place of `{wanted}`", manifest.kind)));
        }
        let guest_path = role.guest_mount_path();
        if !manifest.mounts.iter().any(|mount| mount.guest_path == guest_path) {
            return Err(invalid(format!("its payload shows nothing at {guest_path}")));
        }
    }
    let mut mounts: Vec<PreparedMount> = Vec::with_capacity(manifest.mounts.len());
    for mount in &manifest.mounts {
        if !mount.read_only {
            return Err(invalid(format!("its payload asks for a writable mount: {}", mount.name)));
        }
        let guest_path = PathBuf::from(&mount.guest_path);
        if mounts.iter().any(|known| known.guest_path == guest_path) {
            return Err(invalid(format!("its payload shows two things at {}", mount.guest_path)));
        }
        let unresolved = output.join(&mount.relative_path);
        let readlink = Command::new("readlink").arg("-e").arg(&unresolved).env(nix.env.clone());
        let said = nix.host.run(&readlink, cancel)?;
        let source = said.stdout.strip_suffix(b"\n").unwrap_or(&said.stdout);
        let source = PathBuf::from(std::ffi::OsStr::from_bytes(source));
        if !said.exit.success() || !source.is_absolute() {
            return Err(invalid(format!("its payload shows {}, which is not there", mount.relative_path)));
        }
        let store = output.parent().unwrap_or(output);
        let inside = source.strip_prefix(store).is_ok_and(|rest| rest.components().next().is_some());
        if !inside {
            return Err(invalid(format!(
                "its payload shows {}, which is {} outside of the store",
                mount.relative_path,
                source.display()
            )));
        }
        mounts.push(PreparedMount { source, guest_path });
    }
    Ok(mounts)
}

/// Prints which of these names are no programs in a directory, each with what it is. A link that leads nowhere here may
/// lead somewhere in a guest.
const PROGRAMS: &str = r#"dir=$1
shift
for name; do
  file=$dir/$name
  if [ -d "$file" ]; then why='it is a directory'
  elif [ -f "$file" ] && [ -x "$file" ]; then continue
  elif [ -f "$file" ]; then why='it is not executable'
  elif [ -e "$file" ]; then why='it is no regular file'
  elif [ -h "$file" ]; then continue
  else why='it is not there'
  fi
  echo "$name/$why"
done"#;

/// Of these wrappers those that are no programs of a build, each with what it is.
///
/// # Errors
/// [`OutputsError::Host`].
pub fn unusable(
    nix: &NixOnHost,
    build: &Path,
    wrappers: &BTreeSet<&str>,
    cancel: &CancelToken,
) -> Result<Vec<(String, String)>, OutputsError> {
    let look = Command::new("sh").args(["-c", PROGRAMS, "sh"]).arg(build.join("bin"));
    let said = nix.host.run(&look.args(wrappers.iter().copied()).env(nix.env.clone()), cancel)?;
    let said = String::from_utf8_lossy(&said.stdout);
    // A wrapper is a name of one component.
    let told = said.lines().filter_map(|line| line.split_once('/'));
    Ok(told.map(|(name, why)| (name.to_owned(), why.to_owned())).collect())
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
