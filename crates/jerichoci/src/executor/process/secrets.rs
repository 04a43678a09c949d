//! Hands a job its secrets: as variables, or as files that only it can read.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use jericho_host::Environment;

use crate::config::Secrets;
use crate::model::demands::{SecretDelivery, SecretSpec};

/// Puts the secrets into the environment: values, or paths of files below `scratch`, which goes
/// with the job. They are never arguments of a process.
pub(super) fn deliver(
    asked: &[SecretSpec],
    values: &Secrets,
    scratch: &Path,
    env: &mut Environment,
) -> Result<(), String> {
    let dir = scratch.join("secrets");
    for secret in asked {
        let name = &secret.name;
        let value = values.get(name).ok_or_else(|| format!("the secret {name} is not set"))?;
        match secret.delivery {
            SecretDelivery::Env => {
                env.set(name, value);
            }
            SecretDelivery::File => {
                let path = dir.join(name);
                write(&dir, &path, value.as_bytes())
                    .map_err(|error| format!("the secret {name} cannot be handed over as a file: {error}"))?;
                // Where the job sees the caller's environment, it is there under its own name.
                env.remove(name).set(format!("{name}_FILE"), path);
            }
        }
    }
    Ok(())
}

/// Names of the variables that the secrets of a job take.
pub(super) fn variables(asked: &[SecretSpec]) -> impl Iterator<Item = String> + '_ {
    asked.iter().map(|secret| match secret.delivery {
        SecretDelivery::Env => secret.name.clone(),
        SecretDelivery::File => format!("{}_FILE", secret.name),
    })
}

fn write(dir: &Path, path: &Path, value: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    file.write_all(value)
}
