//! A real sshd on loopback, with a port, keys, a configuration and a known-hosts file of its own.
//!
//! It lets the user in who runs the test, as root and as an ordinary user alike. Everything that it
//! starts is ended by process id when it is dropped, also after a panic.
//!
//! | host of [`Rig::config`] | what it is |
//! |---|---|
//! | `rig` | the sshd, reachable |
//! | `rig-wrong-key` | the sshd, with a key that it does not know |
//! | `rig-unknown` | the sshd, whose key is not in the known hosts |
//! | `rig-changed` | the sshd, with another key in the known hosts |
//! | `rig-refused` | a port where nobody listens |
//! | `rig-nowhere` | a name that does not exist |

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::need;

/// A running sshd.
pub struct Rig {
    // Dropped last.
    dir: tempfile::TempDir,
    port: u16,
    options: String,
    /// What the daemon is started by: words before its own.
    enter: Vec<String>,
    sshd: Option<Sshd>,
}

/// One life of the daemon.
struct Sshd {
    listener: Child,
    reader: Option<JoinHandle<()>>,
    log: Arc<Mutex<String>>,
}

impl Rig {
    /// Starts one for the test called `test`; nothing where no sshd can run, which is recorded.
    ///
    /// # Panics
    ///
    /// When it does not come up although everything is there, and as [`need::needs`].
    #[must_use]
    pub fn start(test: &str) -> Option<Self> {
        Self::start_with(test, &[])
    }

    /// The same in the mounts of another process: who logs in sees the paths that it sees.
    ///
    /// # Panics
    ///
    /// As [`Rig::start`].
    #[must_use]
    pub fn start_among_mounts_of(test: &str, pid: u32) -> Option<Self> {
        let enter = ["nsenter", "--target", &pid.to_string(), "--mount", "--"].map(str::to_owned);
        Self::start_as(test, &[], enter.into())
    }

    /// The same where root is no more than an owner of files: whoever logs in may not use those of others against
    /// their modes.
    ///
    /// # Panics
    ///
    /// As [`Rig::start`].
    #[must_use]
    pub fn start_without_rights(test: &str) -> Option<Self> {
        // Only root has them, and only root can take them away.
        if !need::needs_root(test) || !need::needs_program(test, "setpriv") {
            return None;
        }
        let caps = "-dac_override,-dac_read_search";
        let enter = ["setpriv", "--bounding-set", caps, "--inh-caps", caps].map(str::to_owned);
        Self::start_as(test, &[], enter.into())
    }

    /// The same with more lines for `sshd_config`.
    ///
    /// # Panics
    ///
    /// As [`Rig::start`].
    #[must_use]
    pub fn start_with(test: &str, options: &[&str]) -> Option<Self> {
        Self::start_as(test, options, Vec::new())
    }

    fn start_as(test: &str, options: &[&str], enter: Vec<String>) -> Option<Self> {
        if !need::needs(test, "needs openssh-server", sshd().is_some())
            || !need::needs_program(test, "ssh")
            || !need::needs(test, "needs a user with a login shell", has_login_shell())
        {
            return None;
        }
        Some(Self::make(&options.join("\n"), enter).unwrap_or_else(|error| panic!("no sshd: {error:?}")))
    }

    fn make(options: &str, enter: Vec<String>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("jericho-sshd.").tempdir_in("/tmp")?;
        for key in ["host_key", "other_host_key", "key", "wrong_key"] {
            let made = program("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"])
                .arg(dir.path().join(key))
                .output()?;
            anyhow::ensure!(made.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&made.stderr));
        }
        fs::copy(dir.path().join("key.pub"), dir.path().join("authorized_keys"))?;
        let mut rig = Self { dir, port: 0, options: options.to_owned(), enter, sshd: None };
        for _ in 0..20 {
            rig.port = free_port()?;
            rig.write_configuration()?;
            match rig.listen() {
                Ok(()) => return Ok(rig),
                // Somebody was faster to take the port.
                Err(error) if error.to_string().contains("in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("found no free port")
    }

    fn write_configuration(&self) -> Result<()> {
        let (dir, port) = (self.dir.path().display(), self.port);
        // Without PAM, sshd takes an account without a password for a locked one, and everybody's
        // when it may not read the passwords.
        let pam = if password_is_open() { "no" } else { "yes" };
        // With SHLVL, a bash does not read the .bashrc of the user who runs the tests.
        let server = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host_key\nPidFile none\n\
             AuthorizedKeysFile {dir}/authorized_keys\nStrictModes no\nUsePAM {pam}\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             PrintMotd no\nPrintLastLog no\nUseDNS no\nLogLevel VERBOSE\nSetEnv SHLVL=1\n{}\n",
            self.options
        );
        fs::write(self.dir.path().join("sshd_config"), server)?;
        for (file, key) in [("known_hosts", "host_key.pub"), ("changed_hosts", "other_host_key.pub")] {
            let key = fs::read_to_string(self.dir.path().join(key))?;
            let key: Vec<&str> = key.split_whitespace().take(2).collect();
            fs::write(self.dir.path().join(file), format!("[127.0.0.1]:{port} {}\n", key.join(" ")))?;
        }
        fs::write(self.dir.path().join("no_hosts"), "")?;
        let closed = free_port()?;
        let mut client = String::new();
        for (host, name, port, key, hosts) in [
            ("rig", "127.0.0.1", port, "key", "known_hosts"),
            ("rig-wrong-key", "127.0.0.1", port, "wrong_key", "known_hosts"),
            ("rig-unknown", "127.0.0.1", port, "key", "no_hosts"),
            ("rig-changed", "127.0.0.1", port, "key", "changed_hosts"),
            ("rig-refused", "127.0.0.1", closed, "key", "known_hosts"),
            ("rig-nowhere", "no-such-host.invalid", port, "key", "known_hosts"),
        ] {
            client += &format!(
                "Host {host}\n  HostName {name}\n  Port {port}\n  IdentityFile {dir}/{key}\n  \
                 IdentitiesOnly yes\n  UserKnownHostsFile {dir}/{hosts}\n  GlobalKnownHostsFile /dev/null\n  \
                 StrictHostKeyChecking yes\n  UpdateHostKeys no\n"
            );
        }
        fs::write(self.dir.path().join("ssh_config"), client)?;
        Ok(())
    }

    /// Starts the daemon and waits until it says that it listens.
    fn listen(&mut self) -> Result<()> {
        if rustix::process::geteuid().is_root() {
            // Its empty root directory; the package makes it at boot.
            fs::create_dir_all("/run/sshd").context("/run/sshd")?;
        }
        // By its whole path, with which it starts itself again for each connection.
        let sshd = sshd().context("there is no sshd")?;
        let words: Vec<OsString> =
            self.enter.iter().map(OsString::from).chain([sshd.into_os_string()]).collect();
        let mut listener = program(&words[0])
            .args(&words[1..])
            .args(["-D", "-e", "-f"])
            .arg(self.dir.path().join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("sshd")?;
        let mut lines = BufReader::new(listener.stderr.take().context("stderr")?);
        let mut said = String::new();
        let up = loop {
            if lines.read_line(&mut said)? == 0 {
                break false;
            }
            if said.contains("Server listening on") {
                break true;
            }
        };
        if !up {
            listener.wait()?;
            bail!("sshd ended: {said}");
        }
        let log = Arc::new(Mutex::new(said));
        let kept = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                kept.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        self.sshd = Some(Sshd { listener, reader: Some(reader), log });
        Ok(())
    }

    /// The client configuration, for `ssh -F`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("ssh_config")
    }

    /// A directory of the rig, for control sockets: short and for this user alone.
    #[must_use]
    pub fn control_dir(&self) -> PathBuf {
        self.dir.path().join("c")
    }

    /// What the daemon has said so far.
    ///
    /// # Panics
    ///
    /// After a panic of its reader.
    #[must_use]
    pub fn log(&self) -> String {
        self.sshd.as_ref().map(|sshd| sshd.log.lock().unwrap().clone()).unwrap_or_default()
    }

    /// Process id of the daemon that listens.
    ///
    /// # Panics
    ///
    /// While it is stopped.
    #[must_use]
    pub fn listener(&self) -> u32 {
        self.sshd.as_ref().expect("the daemon is stopped").listener.id()
    }

    /// Process ids of the daemon's processes for connections, without the listener.
    #[must_use]
    pub fn sessions(&self) -> Vec<u32> {
        let table = processes();
        let ours = descendants(&table, self.listener());
        ours.into_iter().filter(|pid| table[pid].name == "sshd").collect()
    }

    /// Process ids of everything below the daemon.
    #[must_use]
    pub fn everything(&self) -> Vec<u32> {
        descendants(&processes(), self.listener())
    }

    /// Ends the daemon's processes for connections at once, and not the daemon.
    pub fn kill_sessions(&self) {
        signal(&self.sessions(), Signal::KILL);
    }

    /// Stops (SIGSTOP) what serves the connections: nothing is answered any more.
    pub fn stop_sessions(&self) {
        signal(&self.sessions(), Signal::STOP);
    }

    /// Lets what was stopped go on.
    pub fn continue_sessions(&self) {
        signal(&self.sessions(), Signal::CONT);
    }

    /// Ends the daemon and every connection.
    pub fn stop(&mut self) {
        self.sshd = None;
    }

    /// Starts it again at the same port, with the same keys.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.stop();
        self.listen().unwrap_or_else(|error| panic!("no sshd: {error:?}"));
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // The listener first, so that nothing new comes below it; it stays a zombie, and so the
        // parent of what is below, until it is waited for.
        signal(&[self.listener.id()], Signal::STOP);
        let below = descendants(&processes(), self.listener.id());
        let _ = self.listener.kill();
        signal(&below, Signal::KILL);
        let _ = self.listener.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Where the daemon is: seldom in the `PATH` of an ordinary user.
fn sshd() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "tests find their programs as the shell does")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut places = usual.into_iter().chain(std::env::split_paths(&path)).map(|dir| dir.join("sshd"));
    places.find(|file| file.is_absolute() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
}

#[expect(clippy::disallowed_methods, reason = "the rig is the parent of what it starts")]
fn program(name: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    std::process::Command::new(name)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Whether sshd can start a shell for the user of this test.
fn has_login_shell() -> bool {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let shell =
        fields.filter(|user| user.len() == 7).find(|user| user[2] == uid).map(|user| user[6].to_owned());
    shell.is_some_and(|shell| {
        let refuses = shell.ends_with("/nologin") || shell.ends_with("/false");
        !refuses && rustix::fs::access(&shell, rustix::fs::Access::EXEC_OK).is_ok()
    })
}

/// Whether sshd can see for itself that the account of this test is not locked.
fn password_is_open() -> bool {
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    let root = shadow.lines().find_map(|line| line.strip_prefix("root:"));
    rustix::process::geteuid().is_root() && root.is_some_and(|rest| !rest.starts_with('!'))
}

struct Process {
    name: String,
    parent: u32,
}

/// All processes that are not zombies.
fn processes() -> HashMap<u32, Process> {
    let mut table = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((start, rest)) = stat.rsplit_once(") ") else { continue };
        let name = start.split_once('(').map_or("", |(_, name)| name).to_owned();
        let mut fields = rest.split(' ');
        let state = fields.next();
        let parent = fields.next().and_then(|parent| parent.parse().ok());
        if let Some(parent) = parent
            && !matches!(state, Some("Z" | "X"))
        {
            table.insert(pid, Process { name, parent });
        }
    }
    table
}

fn descendants(table: &HashMap<u32, Process>, root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(table.iter().filter(|(_, process)| process.parent == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

fn signal(pids: &[u32], signal: Signal) {
    for pid in pids {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            // One that has ended meanwhile is no error.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}
