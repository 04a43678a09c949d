//! Measures snapshots on their way to a host over SSH, against rsync and tar over the same connection.
//!
//! ```text
//! scripts/bench-sync
//! ```
//!
//! It makes the sshd, the network and the arguments: `<directory> <ssh_config> <host> <runner> <round trip, ms>
//! <what it is called> [files]...`. Prints one line per case; the last column is what is left of the time when
//! four round trips are taken off. `--relay <from port> <to port> <ms>` is a connection that takes so long each way,
//! and `--link <directory> <ms>` a cable, from socket `a` there to socket `b`, for kernels that have no netem.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jericho_host::{
    CancelToken, Clock, Command, Environment, Host, LocalHost, SshConfig, SshHost, SystemClock,
};
use jerichoci::remote::sync::{Holder, How, Lease, Line, Remote, deliver, release};
use jerichoci::snapshot::{Profile, Snapshot, SnapshotMetadata, SourceSpec, Store, StoreDirs};

/// Rounds of the engine, and of its slower peers.
const ROUNDS: usize = 9;
const PEER_ROUNDS: usize = 3;
/// From this size on a tree of tar is made once, and files are smaller.
const LARGE: u64 = 50_000;
const LEASE: &str = "bench";

struct Bench {
    name: String,
    round_trip: f64,
    dir: PathBuf,
    root: PathBuf,
    work_dir: PathBuf,
    runner: PathBuf,
    config: PathBuf,
    host: String,
    store: Store,
    ssh: Arc<SshHost>,
    line: Line,
    cancel: CancelToken,
    changes: u64,
}

fn main() -> Result<()> {
    // As `pikaci` does.
    jericho_host::sys::memory::keep_large_blocks_apart();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, from, to, delay] = args.as_slice()
        && flag == "--relay"
    {
        return relay(from.parse()?, to.parse()?, Duration::from_millis(delay.parse()?));
    }
    if let [flag, dir, delay] = args.as_slice()
        && flag == "--link"
    {
        return link(Path::new(dir), Duration::from_millis(delay.parse()?));
    }
    let [dir, config, host, runner, round_trip, name, files @ ..] = args.as_slice() else {
        bail!(
            "usage: bench_sync <directory> <ssh_config> <host> <runner> <round trip, ms> <name> [files]..."
        );
    };
    println!(
        "{:<12} {:>7} {:<24} {:>6} {:>9} {:>9} {:>9} {:>10}",
        "network", "files", "", "turns", "ms", "rsync ms", "tar ms", "ms - 4 rtt"
    );
    for files in files {
        let files: u64 = files.parse().context("files")?;
        let dir = Path::new(dir).join(format!("{}-{files}", name.replace(' ', "-")));
        Bench::new(&dir, config, host, runner, round_trip.parse()?, name)?.measure(files)?;
    }
    Ok(())
}

impl Bench {
    fn new(dir: &Path, config: &str, host: &str, runner: &str, round_trip: f64, name: &str) -> Result<Self> {
        ensure!(!dir.exists(), "{} is there already", dir.display());
        let root = dir.join("source");
        fs::create_dir_all(&root)?;
        let state = dir.join("state");
        let dirs = StoreDirs {
            store: state.join("store"),
            snapshots: state.join("snapshots"),
            stat_cache: state.join("stat"),
        };
        let settings = SshConfig {
            config_file: Some(config.into()),
            control_dir: dir.join("c"),
            env: environment(),
            ..SshConfig::new(host)
        };
        Ok(Self {
            name: name.to_owned(),
            round_trip,
            root,
            work_dir: dir.join("host"),
            runner: runner.into(),
            config: config.into(),
            host: host.to_owned(),
            store: Store::open(dirs, Arc::new(SystemClock))?,
            ssh: Arc::new(SshHost::new(settings)?),
            line: Line::new()?,
            cancel: CancelToken::new()?,
            changes: 0,
            dir: dir.to_path_buf(),
        })
    }

    fn measure(&mut self, files: u64) -> Result<()> {
        make_source(&self.root, files)?;
        let snapshot = self.take()?;
        self.ssh.connect(&self.cancel)?;
        self.open_peer_connection()?;
        let mut tar = Vec::new();
        for _ in 0..if files < LARGE { PEER_ROUNDS } else { 1 } {
            tar.push(timed(|| self.tar())?);
        }
        let tar = median(&mut tar);
        let full = self.deliver(&snapshot)?;
        ensure!(full.how == How::Full, "{:?}", full.how);
        let rsync = timed(|| self.rsync())?;
        self.row(files, "all of it, once", &[full], rsync, tar);

        let kept: Vec<Took> = (0..ROUNDS).map(|_| self.deliver(&snapshot)).collect::<Result<_>>()?;
        let rsync = self.peer(|bench| bench.rsync())?;
        self.row(files, "nothing changed", &kept, rsync, tar);
        let opened = (0..ROUNDS).map(|_| {
            self.line.hang_up();
            // Two for the channel that the question goes with.
            self.deliver(&snapshot).map(|took| Took { turns: took.turns + 1, ..took })
        });
        let opened: Vec<Took> = opened.collect::<Result<_>>()?;
        self.row(files, "the same, new channel", &opened, rsync, tar);
        for (what, count, before_it) in [
            ("1 changed", 1, Before::Nothing),
            ("100 changed", 100, Before::Nothing),
            ("1 changed, new channel", 1, Before::HangUp),
            ("1 changed, a minute later", 1, Before::AMinute),
        ] {
            let mut took = Vec::new();
            let mut rsync = Vec::new();
            for round in 0..ROUNDS {
                let before = self.take()?;
                self.change(files, count)?;
                let snapshot = self.take()?;
                release(&self.remote(), &before.hash, LEASE, &self.cancel)?;
                // The question of a new channel goes with the request for it, which takes two.
                let mut more = 0;
                match before_it {
                    Before::Nothing => {}
                    Before::HangUp => {
                        self.line.hang_up();
                        more = 1;
                    }
                    Before::AMinute => self.forget_when_files_were_looked_at(&before)?,
                }
                let one = self.deliver(&snapshot)?;
                ensure!(one.how == How::Patched, "{:?}", one.how);
                took.push(Took { turns: one.turns + more, ..one });
                if round < PEER_ROUNDS {
                    rsync.push(timed(|| self.rsync())?);
                }
            }
            self.row(files, what, &took, median(&mut rsync), tar);
        }
        Ok(())
    }

    /// As if that was long ago: both ends are one machine.
    fn forget_when_files_were_looked_at(&self, snapshot: &Snapshot) -> Result<()> {
        let used = self.work_dir.join("snapshots").join(snapshot.hash.to_string()).join("used");
        let mut document: serde_json::Value = serde_json::from_slice(&fs::read(&used)?)?;
        ensure!(document["checked_at"].is_i64(), "{document}");
        document["checked_at"] = 0.into();
        Ok(fs::write(used, document.to_string())?)
    }

    fn row(&self, files: u64, what: &str, took: &[Took], rsync: f64, tar: f64) {
        let ms = median(&mut took.iter().map(|took| took.ms).collect::<Vec<_>>());
        let turns = took.iter().map(|took| took.turns).max().unwrap_or(0);
        println!(
            "{:<12} {files:>7} {what:<24} {turns:>6} {ms:>9.1} {rsync:>9.1} {tar:>9.1} {:>10.1}",
            self.name,
            ms - 4.0 * self.round_trip
        );
    }

    fn remote(&self) -> Remote<'_> {
        Remote {
            ssh: &self.ssh,
            work_dir: &self.work_dir,
            runner: &self.runner,
            engine_id: "bench",
            line: &self.line,
            min_free: 0,
        }
    }

    fn take(&self) -> Result<Snapshot> {
        let (root, profile, env) = (self.root.clone(), Profile::full(), environment());
        Ok(self
            .store
            .take(&SourceSpec { root, state_root: None, profile, facts: false, env }, &self.cancel)?)
    }

    fn deliver(&self, snapshot: &Snapshot) -> Result<Took> {
        let metadata = SnapshotMetadata::new(snapshot, Path::new(""));
        let lease = Lease { id: LEASE.to_owned(), holder: Holder::Engine };
        // What a snapshot leaves to be written later is not a part of its delivery, and here both ends are
        // one machine.
        self.store.settle();
        let (turns, start) = (self.line.turns(), SystemClock.monotonic());
        let delivered = deliver(
            &self.remote(),
            &self.store,
            &snapshot.manifest,
            &metadata,
            &lease,
            &mut |_| (),
            &self.cancel,
        )?;
        let ms = ms(SystemClock.monotonic() - start);
        Ok(Took { how: delivered.how, turns: self.line.turns() - turns, ms })
    }

    /// Other contents for so many files, spread over the tree.
    fn change(&mut self, files: u64, count: u64) -> Result<()> {
        self.changes += 1;
        for number in 0..count {
            let file = path_of(&self.root, (number * files / count + self.changes * 7) % files);
            fs::write(file, format!("change {} of {number}\n", self.changes))?;
        }
        Ok(())
    }

    fn peer(&self, run: impl Fn(&Self) -> Result<()>) -> Result<f64> {
        let mut took = (0..PEER_ROUNDS).map(|_| timed(|| run(self))).collect::<Result<Vec<_>>>()?;
        Ok(median(&mut took))
    }

    /// Peers have a connection too that is there already.
    fn ssh_of_peers(&self) -> String {
        format!("ssh -F {} -S {}", self.config.display(), self.dir.join("peer").display())
    }

    fn open_peer_connection(&self) -> Result<()> {
        self.shell(&format!("{} -M -N -f -o ControlPersist=30 {}", self.ssh_of_peers(), self.host))
    }

    fn rsync(&self) -> Result<()> {
        let (from, to) = (self.root.display(), self.dir.join("mirror"));
        let (ssh, host) = (self.ssh_of_peers(), &self.host);
        self.shell(&format!("rsync -a --delete -e '{ssh}' {from}/ {host}:{}", to.display()))
    }

    fn tar(&self) -> Result<()> {
        let to = self.dir.join(format!("tar-{}", SystemClock.monotonic().as_nanos()));
        let (from, to, ssh) = (self.root.display(), to.display(), self.ssh_of_peers());
        self.shell(&format!("tar -C {from} -c . | {ssh} {} 'mkdir {to} && tar -C {to} -x'", self.host))
    }

    fn shell(&self, script: &str) -> Result<()> {
        let command = Command::new("sh").args(["-c", script]).env(environment());
        let output = LocalHost::new().run(&command, &self.cancel)?;
        ensure!(output.exit.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// Passes connections on, every byte so much later.
fn relay(from: u16, to: u16, delay: Duration) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, from))?;
    println!("relay listens");
    for client in listener.incoming() {
        let (client, server) = (client?, TcpStream::connect((Ipv4Addr::LOCALHOST, to))?);
        for (from, to) in [(&client, &server), (&server, &client)] {
            from.set_nodelay(true)?;
            pass_on(from.try_clone()?, to.try_clone()?, delay);
        }
    }
    Ok(())
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let end = to.try_clone();
    later(
        delay,
        move |buffer| from.read(buffer),
        move |piece| to.write_all(piece),
        || drop(end.map(|end| end.shutdown(Shutdown::Write))),
    );
}

/// A cable: what somebody sends to `<end>.relay` comes out at the other end, so much later.
fn link(dir: &Path, delay: Duration) -> Result<()> {
    let bind = |name: &str| UnixDatagram::bind(dir.join(name));
    let (a, b) = (bind("a.relay")?, bind("b.relay")?);
    println!("link is there");
    for (from, to, end) in [(a.try_clone()?, b.try_clone()?, "b"), (b, a, "a")] {
        let end = dir.join(end);
        // Somebody who is not there yet loses what comes, as with any cable.
        let write = move |piece: &[u8]| {
            drop(to.send_to(piece, &end));
            Ok(())
        };
        later(delay, move |buffer| from.recv(buffer), write, || ());
    }
    loop {
        std::thread::park();
    }
}

/// Writes what is read, each piece so much later, until one of the two ends.
fn later(
    delay: Duration,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize> + Send + 'static,
    mut write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    end: impl FnOnce() + Send + 'static,
) {
    let (sender, pieces) = channel::<(Duration, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = read(&mut buffer)
            && sender.send((SystemClock.monotonic() + delay, buffer[..count].to_vec())).is_ok()
            && count > 0
        {}
    });
    std::thread::spawn(move || {
        for (due, piece) in pieces {
            while let Some(left) = due.checked_sub(SystemClock.monotonic()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            if piece.is_empty() || write(&piece).is_err() {
                break;
            }
        }
        end();
    });
}

/// What comes before a delivery.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    HangUp,
    AMinute,
}

struct Took {
    how: How,
    turns: u64,
    ms: f64,
}

fn timed(run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = SystemClock.monotonic();
    run()?;
    Ok(ms(SystemClock.monotonic() - start))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn environment() -> Environment {
    [("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"), ("HOME", "/nonexistent")].into_iter().collect()
}

fn path_of(root: &Path, number: u64) -> PathBuf {
    root.join(format!("part-{:02}/module-{:04}/source_file_{number:06}.rs", number / 500, number / 20))
}

fn make_source(root: &Path, files: u64) -> Result<()> {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for number in 0..files {
        let file = path_of(root, number);
        fs::create_dir_all(file.parent().context("parent")?)?;
        let mut content = Vec::new();
        while content.len() < if files < LARGE { 14_000 } else { 10_000 } {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            content.extend_from_slice(format!("{random:016x}\n").as_bytes());
        }
        fs::write(file, content)?;
    }
    Ok(())
}
