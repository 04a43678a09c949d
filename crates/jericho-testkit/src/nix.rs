//! A Nix of one test: the real program on `PATH` with a store of its own, no network, no daemon.
//!
//! Every call is written down by a wrapper, [`Rig::program`]. Flakes are raw derivations without
//! inputs, so that a dev shell takes a tenth of a second; their builder is the machine's bash.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const SETTINGS: &str = "experimental-features = nix-command flakes
sandbox = false
substituters =
build-users-group =
flake-registry =
max-jobs = 2
";

/// A store, its settings, and a record of what was asked. All of it goes when it is dropped.
#[derive(Debug)]
pub struct Rig {
    dir: tempfile::TempDir,
    path: OsString,
    bash: PathBuf,
}

impl Rig {
    /// Of the `nix` and the `bash` on `PATH`.
    ///
    /// # Errors
    /// When one is not there, or the directory cannot be made.
    pub fn new() -> io::Result<Self> {
        Self::of(tempfile::tempdir()?)
    }

    /// The same below a directory, for a store that others have to see.
    ///
    /// # Errors
    /// As [`Rig::new`].
    pub fn below(dir: &Path) -> io::Result<Self> {
        Self::of(tempfile::Builder::new().prefix("nix.").tempdir_in(dir)?)
    }

    fn of(dir: tempfile::TempDir) -> io::Result<Self> {
        let path = search_path();
        let (nix, bash) = (find(&path, "nix")?, find(&path, "bash")?);
        for name in ["conf", "home"] {
            fs::create_dir(dir.path().join(name))?;
        }
        fs::write(dir.path().join("conf/nix.conf"), SETTINGS)?;
        fs::write(dir.path().join("calls"), "")?;
        let rig = Self { dir, path, bash };
        let nix_store = find(&rig.path, "nix-store")?;
        rig.init(&nix_store)?;
        rig.wrap("nix", "", &nix)?;
        rig.wrap("nix-store", "nix-store ", &nix_store)?;
        Ok(rig)
    }

    /// Makes the store what it is after its first use: two programs that are the first at the same
    /// time are in each other's way (`gcroots/profiles: File exists`).
    #[expect(clippy::disallowed_methods, reason = "the rig starts the real programs")]
    fn init(&self, nix_store: &Path) -> io::Result<()> {
        let mut init = std::process::Command::new(nix_store);
        init.arg("--init").env_clear().envs(self.environment());
        let done = init.output()?;
        match done.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned())),
        }
    }

    /// Makes the program that writes down a beginning and its arguments, and becomes another one.
    fn wrap(&self, name: &str, begin: &str, program: &Path) -> io::Result<()> {
        let wrapper = format!(
            "#!/bin/sh\nprintf '%s\\n' \"{begin}$*\" >> '{}'\nexec '{}' \"$@\"\n",
            self.at("calls").display(),
            program.display()
        );
        fs::write(self.at(name), wrapper)?;
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o755))
    }

    /// The same for who starts it without [`Rig::environment`], as over ssh: in a directory of its
    /// own, with `nix-store` beside it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn program_alone(&self) -> io::Result<PathBuf> {
        let dir = self.at("alone");
        fs::create_dir_all(&dir)?;
        let exports: String = self
            .environment()
            .into_iter()
            .map(|(name, value)| format!("export {name}='{}'\n", value.to_string_lossy()))
            .collect();
        for name in ["nix", "nix-store"] {
            let program = dir.join(name);
            let text = format!("#!/bin/sh\n{exports}exec '{}' \"$@\"\n", self.at(name).display());
            fs::write(&program, text)?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        }
        Ok(dir.join("nix"))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.at("store")
    }

    /// The program that writes down its arguments and becomes nix; `nix-store` lies beside it.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.at("nix")
    }

    /// The bash that builds, an absolute path.
    #[must_use]
    pub fn bash(&self) -> &Path {
        &self.bash
    }

    /// What nix has to be run with.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, OsString)> {
        let place = |name: &str, dir: &str| (name.to_owned(), self.at(dir).into_os_string());
        vec![
            ("PATH".to_owned(), self.path.clone()),
            place("HOME", "home"),
            place("NIX_CONF_DIR", "conf"),
            place("NIX_LOG_DIR", "log"),
            place("NIX_STATE_DIR", "state"),
            place("NIX_STORE_DIR", "store"),
            // One per store: newer evaluation caches are not keyed by it.
            place("XDG_CACHE_HOME", "cache"),
        ]
    }

    /// The calls since the last time this was asked, one line each: arguments, with spaces between.
    ///
    /// # Errors
    /// When the record cannot be read or emptied.
    pub fn take_calls(&self) -> io::Result<Vec<String>> {
        let calls = fs::read_to_string(self.at("calls"))?;
        fs::write(self.at("calls"), "")?;
        Ok(calls.lines().map(str::to_owned).collect())
    }

    /// A `flake.nix` whose dev shells are these: name and attributes of the derivation (for
    /// example `GREETING = "hello";`). In the attributes, `bash` is the builder, and `sh name
    /// script` a derivation that the script builds, with `PATH`.
    #[must_use]
    pub fn flake(&self, shells: &[(&str, &str)]) -> String {
        let shells: String = shells
            .iter()
            .map(|(name, attributes)| {
                format!("    \"{name}\" = shell {{ name = \"{name}\"; {attributes} }};\n")
            })
            .collect();
        format!(
            r#"{{
  outputs = {{ self }}: let
    system = "{system}";
    bash = "{bash}";
    sh = name: script: derivation {{
      inherit name system;
      builder = bash;
      # Ends in a builtin: nix kills a builder that closes its output before it ends, and the
      # last command of a script takes the place of its shell.
      args = [ "-euc" "${{script}}\n:" ];
      PATH = "{path}";
    }};
    shell = attributes: derivation ({{
      inherit system;
      builder = bash;
      args = [ "-c" "exit 1" ];
      # Nix puts the environment into those of the outputs that the derivation names.
      outputs = [ "out" ];
    }} // attributes);
  in {{
    devShells.${{system}} = {{
{shells}    }};
  }};
}}
"#,
            system = system(),
            bash = self.bash.display(),
            path = self.path.to_string_lossy(),
        )
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // What is in a store is read-only, and only root may remove it so.
        make_writable(&self.at("store"));
    }
}

fn make_writable(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

/// As nix calls this machine.
fn system() -> String {
    let os = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
    format!("{}-{os}", std::env::consts::ARCH)
}

#[expect(clippy::disallowed_methods, reason = "the machine's programs are where its user finds them")]
fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

fn find(path: &std::ffi::OsStr, program: &str) -> io::Result<PathBuf> {
    std::env::split_paths(path)
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_absolute() && candidate.is_file())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{program} is not on PATH")))
}
