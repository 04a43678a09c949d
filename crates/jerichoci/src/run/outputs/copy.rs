//! Copies an output to the store of a host that has none of it.
//!
//! Nix starts ssh itself, a program of that name on `PATH`, and on the host `nix-store`. Both have to be those of this
//! host: nix is given a program `ssh` that becomes the right one, and asks the host for the right `nix-store`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jericho_host::quote::join;
use jericho_host::{Command, Environment};

use super::OutputsError;
use super::handover::{With, keep};
use crate::executor::JobLog;
use crate::nix::{complaint, store_program};

/// The store of a host, as nix of this machine reaches it.
#[derive(Debug, Clone)]
pub(crate) struct FarStore {
    /// For messages, and for nix.
    pub(crate) name: String,
    /// ssh with all that comes before the destination.
    pub(crate) ssh: Vec<OsString>,
    /// As this ssh takes it.
    pub(crate) destination: String,
    /// Nix there, a path or a name.
    pub(crate) nix: PathBuf,
    /// What programs there are started with.
    pub(crate) env: Environment,
}

impl FarStore {
    /// What nix takes for ssh. Among the words of nix are its name of the host and the `nix-store` there; which of
    /// them is in a word of its own depends on the version.
    fn script(&self, path: Option<&OsStr>) -> Result<Vec<u8>, OutputsError> {
        let no_nul = |_| OutputsError::Invalid(format!("the way to {} has a NUL byte", self.name));
        let quoted = |word: &OsStr| join([word]).map(OsString::into_encoded_bytes).map_err(no_nul);
        let mut search = OsString::from("PATH=");
        search.push(self.env.get("PATH").unwrap_or_default());
        let store = join(["env".into(), search, store_program(&self.nix)]).map_err(no_nul)?;
        let mut text = b"#!/bin/sh\n".to_vec();
        for (name, value) in [
            ("PATH", path.unwrap_or_default().to_os_string()),
            ("host", self.host().into()),
            ("destination", self.destination.clone().into()),
            ("store", store),
        ] {
            text.extend([name.as_bytes(), b"=", &quoted(&value)?, b"\n"].concat());
        }
        text.extend(REWRITE.as_bytes());
        text.extend(join(&self.ssh).map_err(no_nul)?.into_encoded_bytes());
        text.extend(b" \"$@\"\n");
        Ok(text)
    }

    /// The host as nix takes it.
    fn host(&self) -> &str {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._@".contains(&byte);
        let is_plain = self.name.bytes().all(plain) && !self.name.starts_with('-') && !self.name.is_empty();
        if is_plain { &self.name } else { "build-host" }
    }
}

/// Puts the right words in place of those of nix, each the first time it comes.
const REWRITE: &str = r#"for word; do
  shift
  case $word in
    "$host") word=$destination host= ;;
    nix-store | nix-store\ *) word=$store${word#nix-store} ;;
  esac
  set -- "$@" "$word"
done
exec "#;

/// Copies `realized` and all that it needs. What nix takes for ssh stands in `dir`, which is made and removed.
pub(super) fn copy(
    far: &FarStore,
    realized: &str,
    dir: &Path,
    with: &With<'_>,
    log: &mut dyn JobLog,
) -> Result<(), OutputsError> {
    let failed = |source| OutputsError::File { action: "write", path: dir.join("ssh"), source };
    let path = with.env.get("PATH");
    fs::create_dir_all(dir).map_err(failed)?;
    let _dir = Removed(dir);
    fs::write(dir.join("ssh"), far.script(path)?).map_err(failed)?;
    fs::set_permissions(dir.join("ssh"), fs::Permissions::from_mode(0o700)).map_err(failed)?;
    let mut env = with.env.clone();
    let mut search = dir.as_os_str().to_os_string();
    if let Some(path) = path {
        search.push(":");
        search.push(path);
    }
    env.set("PATH", search);
    let nix = Command::new(with.nix)
        .args(["--extra-experimental-features", "nix-command", "copy", "--to"])
        .arg(format!("ssh://{}", far.host()))
        .arg(realized)
        .env(env)
        .cwd("/");
    let output = with.host.run(&nix, with.cancel)?;
    keep(log, &output.stdout, &output.stderr)?;
    match output.exit.success() {
        true => Ok(()),
        false => Err(OutputsError::Invalid(format!(
            "{realized} could not be copied to {}: {}",
            far.name,
            complaint(&output.stderr)
        ))),
    }
}

struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn far(name: &str) -> FarStore {
        FarStore {
            name: name.to_owned(),
            ssh: ["/bin/echo", "-o", "it's=so"].map(OsString::from).into(),
            destination: "ssh://me@box:2222".to_owned(),
            nix: PathBuf::from("/opt/my nix/nix"),
            env: [("PATH", "/a:/b")].into_iter().collect(),
        }
    }

    #[test]
    fn nix_gets_a_name_of_the_host_that_it_takes() {
        for name in ["box", "me@box.example"] {
            assert_eq!(far(name).host(), name);
        }
        for name in ["-oProxyCommand=x", "ssh://box:1", ""] {
            assert_eq!(far(name).host(), "build-host", "{name}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the script is started as nix starts it")]
    fn what_nix_takes_for_ssh_is_the_right_one_to_the_right_host_and_its_own_nix_store() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("ssh");
        fs::write(&script, far("box").script(Some("/usr/bin:/bin".as_ref())).unwrap()).unwrap();
        let said = |words: &[&str]| {
            let said = std::process::Command::new("sh").arg(&script).args(words).output().unwrap();
            String::from_utf8(said.stdout).unwrap()
        };
        let store = "env 'PATH=/a:/b' '/opt/my nix/nix-store' --serve --write\n";
        let expected = format!("-o it's=so ssh://me@box:2222 -x {store}");
        assert_eq!(said(&["box", "-x", "nix-store --serve --write"]), expected);
        assert_eq!(said(&["box", "-x", "nix-store", "--serve", "--write"]), expected);
        assert_eq!(said(&["-x", "box", "echo box", "box"]), "-o it's=so -x ssh://me@box:2222 echo box box\n");
    }
}
