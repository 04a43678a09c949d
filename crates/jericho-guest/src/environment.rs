//! What a command finds in its environment, and which of it no log may show.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use jericho_host::Environment;
use pika_cloud::GuestEnvironment;

use crate::user::{Account, Own};

/// Where programs are looked for when nobody has said it: those of Debian, and that of NixOS.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";
/// Most bytes of an environment; the kernel takes no more.
const LARGEST: u64 = 16 << 20;

/// Variables of the runner that a command gets, beside `LC_*`. As of a job on the engine's own machine, but
/// for those that belong to a user.
const ALLOWED: &[&str] = &[
    "ALL_PROXY",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LANGUAGE",
    "NIX_PATH",
    "NIX_PROFILES",
    "NIX_SSL_CERT_FILE",
    "NO_PROXY",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERM",
    "TZ",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// The environment of the runner itself: read here, and nowhere else.
#[expect(clippy::disallowed_methods, reason = "the runner has no other configuration than its request")]
pub(crate) fn own() -> Environment {
    std::env::vars_os().collect()
}

/// What a command starts with, before the environment file.
pub(crate) fn base(own: &Environment, account: &Account, cwd: &Path, artifacts: &Path) -> Environment {
    let mut env: Environment = own.iter().filter(|(name, _)| is_allowed(name)).collect();
    if env.get("PATH").is_none_or(OsStr::is_empty) {
        env.set("PATH", PATH);
    }
    // Who stays who he is keeps his home too, which may be another than that of /etc/passwd.
    let kept = own.get("HOME").map(Path::new).filter(|home| account.groups.is_none() && home.is_absolute());
    env.set("HOME", kept.unwrap_or(&account.home))
        .set("USER", &account.name)
        .set("LOGNAME", &account.name)
        .set("PWD", cwd)
        .set("ARTIFACTS", artifacts);
    env
}

fn is_allowed(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"LC_") || name.to_str().is_some_and(|name| ALLOWED.contains(&name))
}

/// Reads the environment file and removes it, also when it is refused: it holds secrets, and whoever wrote
/// it can write it again.
pub(crate) fn take(path: &Path, own: Own) -> Result<GuestEnvironment, String> {
    let read = read_private(path, own);
    let removed = fs::remove_file(path);
    let bytes = read.map_err(|why| format!("the environment file {} {why}", path.display()))?;
    removed.map_err(|error| format!("cannot remove the environment file {}: {error}", path.display()))?;
    GuestEnvironment::parse(&bytes)
        .map_err(|error| format!("the environment file {} cannot be used: {error}", path.display()))
}

fn read_private(path: &Path, own: Own) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    if metadata.uid() != own.uid && metadata.uid() != 0 {
        return Err(format!("belongs to user {}", metadata.uid()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!("can be read by others (mode {:04o}; 0400 is right)", metadata.mode() & 0o7777));
    }
    let mut bytes = Vec::new();
    (&file).take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("has more than {LARGEST} bytes"));
    }
    Ok(bytes)
}

/// Puts the variables of an environment file over those that are there.
pub(crate) fn apply(env: &mut Environment, file: &GuestEnvironment) {
    for (name, value) in &file.variables {
        if !file.secret_files.contains(name) {
            env.set(name, value);
        }
    }
}

/// Secrets that a command gets as files. Dropped, they are gone.
#[derive(Debug)]
pub(crate) struct SecretFiles {
    dir: PathBuf,
}

impl SecretFiles {
    fn dir(place: &Path, runner: u32) -> PathBuf {
        place.join(format!("jericho-secrets-{runner}"))
    }

    /// Those of a runner that was killed.
    pub(crate) fn forget(env_file: &Path, runner: u32) {
        let place = env_file.parent().unwrap_or(Path::new("/"));
        drop(Self { dir: Self::dir(place, runner) });
    }

    /// Writes them into a directory of their own, and their paths into the environment. Nothing when
    /// there are none.
    pub(crate) fn write(
        file: &GuestEnvironment,
        place: &Path,
        account: &Account,
        env: &mut Environment,
    ) -> io::Result<Option<Self>> {
        if file.secret_files.is_empty() {
            return Ok(None);
        }
        let dir = Self::dir(place, std::process::id());
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let files = Self { dir };
        let switch = account.groups.is_some();
        for name in &file.secret_files {
            let path = files.dir.join(name);
            let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
            opened.write_all(file.variables.get(name).map_or(b"".as_slice(), |value| value.as_bytes()))?;
            if switch {
                fchown(&opened, Some(account.uid), Some(account.gid))?;
            }
            env.set(format!("{name}_FILE"), path);
        }
        if switch {
            fchown(File::open(&files.dir)?, Some(account.uid), Some(account.gid))?;
        }
        Ok(Some(files))
    }
}

impl Drop for SecretFiles {
    fn drop(&mut self) {
        // Another one cannot do it better.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_command_gets_little_of_the_runner_s_environment() {
        let own: Environment =
            [("PATH", "/p"), ("LC_ALL", "C"), ("SSH_AUTH_SOCK", "/s"), ("HOME", "/h")].into_iter().collect();
        let account = Account { uid: 1, gid: 1, name: "ci".into(), home: "/home/ci".into(), groups: None };
        let text = |account: &Account| -> Vec<String> {
            let env = base(&own, account, Path::new("/w"), Path::new("/a"));
            env.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect()
        };
        let mut expected =
            ["ARTIFACTS=/a", "HOME=/h", "LC_ALL=C", "LOGNAME=ci", "PATH=/p", "PWD=/w", "USER=ci"];
        assert_eq!(text(&account), expected);
        expected[1] = "HOME=/home/ci";
        assert_eq!(text(&Account { groups: Some(vec![1]), ..account }), expected);
        assert!(ALLOWED.is_sorted());
    }

    #[test]
    fn an_environment_file_is_private_and_is_gone_once_it_was_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env.json");
        for (mode, fine) in [(0o400, true), (0o600, true), (0o440, false), (0o604, false)] {
            fs::write(&path, r#"{"schema_version":1,"variables":{"A":"b"}}"#).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let taken = take(&path, Own::now());
            assert_eq!(taken.is_ok(), fine, "{mode:o}: {taken:?}");
            assert!(!path.exists());
        }
        assert!(take(&path, Own::now()).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn what_is_wrong_with_an_environment_file_is_told_without_its_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env.json");
        for text in [
            r#"{"schema_version":1,"variables":"hunter22"}"#,
            r#"{"schema_version":1,"variables":{"A":"hunter22\u0000"},"secrets":["B"]}"#,
            r#"{"schema_version":1,"secret":["hunter22"]}"#,
            r#"hunter22"#,
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
            let error = take(&path, Own::now()).unwrap_err();
            assert!(!error.contains("hunter"), "{error}");
        }
    }
}
