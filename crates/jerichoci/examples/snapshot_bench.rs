//! Measures snapshots against `git status` and `cp -a`, interleaved, on trees it makes itself.
//!
//! ```text
//! cargo run --release -p jerichoci --example snapshot_bench -- <directory> [small|medium|large]...
//! ```
//!
//! `<directory>` is made when missing and may be used again. Prints a table and, per row, one line
//! `row<TAB>tree<TAB>name<TAB>milliseconds<TAB>peer milliseconds<TAB>ratio<TAB>target`.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use jericho_host::{CancelToken, Clock, Command, Environment, Host, LocalHost, SystemClock};
use jerichoci::snapshot::{Profile, Snapshot, SourceSpec, Store, StoreDirs, workspace};

struct Tree {
    name: &'static str,
    files: u32,
    bytes_per_file: u64,
    rounds: usize,
    /// Unchanged; with facts; one changed with its tree: over `git status`. First: over `cp -a`.
    targets: [f64; 4],
}

const TREES: [Tree; 3] = [
    Tree { name: "small", files: 709, bytes_per_file: 14_000, rounds: 41, targets: [1.1, 1.25, 1.3, 0.7] },
    Tree {
        name: "medium",
        files: 10_000,
        bytes_per_file: 20_000,
        rounds: 15,
        targets: [0.95, 1.25, 1.05, 0.45],
    },
    Tree {
        name: "large",
        files: 100_000,
        bytes_per_file: 10_000,
        rounds: 7,
        targets: [0.9, 1.25, 1.05, 0.4],
    },
];

const PEAK_MIB: f64 = 64.0;

fn main() -> Result<()> {
    // As `pikaci` does.
    jericho_host::sys::memory::keep_large_blocks_apart();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [flag, root, state] if flag == "--peak" => peak(Path::new(root), Path::new(state)),
        [dir, names @ ..] => {
            fs::create_dir_all(dir)?;
            let dir = fs::canonicalize(dir)?;
            println!(
                "{:<8} {:<34} {:>10} {:>10} {:>7} {:>7}",
                "tree", "", "ms", "peer ms", "ratio", "target"
            );
            for tree in
                TREES.iter().filter(|tree| names.is_empty() || names.iter().any(|name| name == tree.name))
            {
                Bench::new(&dir, tree)?.run()?;
            }
            Ok(())
        }
        [] => bail!("usage: snapshot_bench <directory> [small|medium|large]..."),
    }
}

struct Bench<'t> {
    tree: &'t Tree,
    dir: PathBuf,
    root: PathBuf,
    clock: Arc<SystemClock>,
    host: LocalHost,
    cancel: CancelToken,
    env: Environment,
}

impl<'t> Bench<'t> {
    fn new(dir: &Path, tree: &'t Tree) -> Result<Self> {
        let dir = dir.join(tree.name);
        fs::create_dir_all(&dir)?;
        let mut env = Environment::empty();
        env.set("PATH", "/usr/local/bin:/usr/bin:/bin").set("HOME", &dir);
        let (clock, host, cancel) = (Arc::new(SystemClock), LocalHost::new(), CancelToken::new()?);
        let bench = Self { tree, root: dir.join("source"), dir, clock, host, cancel, env };
        if !bench.root.join(".git").exists() {
            bench.make_source()?;
        }
        Ok(bench)
    }

    fn make_source(&self) -> Result<()> {
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut content = Vec::new();
        for number in 0..self.tree.files {
            let dir = self.root.join(format!("part-{:02}/module-{:04}", number / 500, number / 20));
            fs::create_dir_all(&dir)?;
            let size = self.tree.bytes_per_file / 2 + next() % self.tree.bytes_per_file;
            content.clear();
            while (content.len() as u64) < size {
                content.extend_from_slice(format!("{:016x}\n", next()).as_bytes());
            }
            fs::write(dir.join(format!("source_file_{number:06}.rs")), &content)?;
        }
        // Outside, so that `cp -a` copies what a snapshot has.
        let git_dir = self.dir.join("git").to_string_lossy().into_owned();
        self.git(&["init", "-q", "--separate-git-dir", &git_dir])?;
        self.git(&["config", "gc.auto", "0"])?;
        self.git(&["add", "-A"])?;
        self.git(&["-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "-qm", "all"])?;
        Ok(())
    }

    fn git(&self, args: &[&str]) -> Result<()> {
        self.command(Command::new("git").args(args).cwd(&self.root))
    }

    fn command(&self, command: Command) -> Result<()> {
        let output = self.host.run(&command.env(self.env.clone()), &self.cancel)?;
        ensure!(output.exit.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn timed<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
        let start = self.clock.monotonic();
        let value = work()?;
        Ok(((self.clock.monotonic() - start).as_secs_f64() * 1e3, value))
    }

    fn store(&self, state: &str) -> Result<Store> {
        Ok(Store::open(dirs(&self.dir.join(state)), self.clock.clone())?)
    }

    fn take(&self, store: &Store, facts: bool) -> Result<Snapshot> {
        Ok(store.take(&spec(&self.root, facts, &self.env), &self.cancel)?)
    }

    /// Until every file is trusted again.
    fn quiet(&self) -> Result<()> {
        loop {
            let store = self.store("state")?;
            if self.take(&store, false)?.stats.hashed_files == 0 {
                return Ok(());
            }
        }
    }

    fn run(&self) -> Result<()> {
        let slots = self.dir.join("state/trees");
        {
            let store = self.store("state")?;
            let snapshot = self.take(&store, false)?;
            workspace::lease_tree(&store, &slots, &snapshot.manifest, "bench", &self.cancel)?;
        }
        let changed = self.root.join("part-00/module-0003/source_file_000063.rs");
        let mut times: [Vec<f64>; 8] = Default::default();
        for round in 0..self.tree.rounds {
            self.quiet()?;
            times[0].push(self.timed(|| self.git(&["status", "--porcelain"]))?.0);
            for (column, facts) in [(1, false), (2, true)] {
                let (ms, store) = self.timed(|| {
                    let store = self.store("state")?;
                    let snapshot = self.take(&store, facts)?;
                    ensure!(snapshot.stats.hashed_files == 0, "something changed");
                    Ok(store)
                })?;
                times[column].push(ms);
                drop(store);
            }
            times[0].push(self.timed(|| self.git(&["status", "--porcelain"]))?.0);
            fs::write(&changed, format!("round {round} {:?}\n", self.clock.now()))?;
            let (ms, (store, stats, tree)) = self.timed(|| {
                let store = self.store("state")?;
                let snapshot = self.take(&store, false)?;
                let tree = self.timed(|| {
                    Ok(workspace::lease_tree(&store, &slots, &snapshot.manifest, "bench", &self.cancel)?)
                })?;
                Ok((store, snapshot.stats, tree.0))
            })?;
            times[3].push(ms);
            for (column, phase) in [(4, stats.listing), (5, stats.reading), (6, stats.publishing)] {
                times[column].push(phase.as_secs_f64() * 1e3);
            }
            times[7].push(tree);
            drop(store);
        }
        let status = median(&mut times[0]);
        let targets = self.tree.targets;
        self.row("unchanged / git status", median(&mut times[1]), status, targets[0]);
        self.row("unchanged, facts / git status", median(&mut times[2]), status, targets[1]);
        self.row("one changed, tree / git status", median(&mut times[3]), status, targets[2]);
        for (column, name) in [(4, "listing"), (5, "reading"), (6, "publishing"), (7, "tree")] {
            self.row(&format!("  of which {name}"), median(&mut times[column]), status, f64::NAN);
        }
        self.first(targets[3])?;
        self.private(status)?;
        self.peak()
    }

    fn first(&self, target: f64) -> Result<()> {
        let (mut copies, mut firsts, mut synced, mut trees) = (vec![], vec![], vec![], vec![]);
        let rounds = if self.tree.files > 50_000 { 2 } else { 5 };
        for round in 0..rounds {
            let copy = self.dir.join(format!("copy-{round}"));
            copies.push(
                self.timed(|| self.command(Command::new("cp").arg("-a").arg(&self.root).arg(&copy)))?.0,
            );
            let state = format!("first-{round}");
            let (ms, (store, snapshot)) = self.timed(|| {
                let store = self.store(&state)?;
                let snapshot = self.take(&store, false)?;
                Ok((store, snapshot))
            })?;
            firsts.push(ms);
            synced.push(
                ms + self
                    .timed(|| {
                        store.settle();
                        Ok(())
                    })?
                    .0,
            );
            let slots = self.dir.join(&state).join("trees");
            trees.push(
                self.timed(|| {
                    Ok(workspace::lease_tree(&store, &slots, &snapshot.manifest, "bench", &self.cancel)?)
                })?
                .0,
            );
        }
        for round in 0..rounds {
            for name in ["copy", "first"] {
                self.host.remove(&self.dir.join(format!("{name}-{round}")))?;
            }
        }
        let copy = median(&mut copies);
        self.row("first, warm / cp -a", median(&mut firsts), copy, target);
        self.row("first, warm, until synced / cp -a", median(&mut synced), copy, f64::NAN);
        self.row("first tree from the store / cp -a", median(&mut trees), copy, f64::NAN);
        Ok(())
    }

    fn private(&self, status: f64) -> Result<()> {
        let store = self.store("state")?;
        let snapshot = self.take(&store, false)?;
        let dir = self.dir.join("state/private");
        let mut times = Vec::new();
        for _ in 0..self.tree.rounds {
            times.push(
                self.timed(|| Ok(workspace::private_copy(&store, &dir, &snapshot.manifest, &self.cancel)?))?
                    .0,
            );
        }
        self.row("private copy proven / git status", median(&mut times), status, f64::NAN);
        Ok(())
    }

    fn peak(&self) -> Result<()> {
        let myself = std::env::current_exe()?;
        for (name, state) in [("peak MiB, first", "peak"), ("peak MiB, unchanged", "state")] {
            let command = Command::new(&myself).arg("--peak").arg(&self.root).arg(self.dir.join(state));
            let output = self.host.run(&command.env(self.env.clone()), &self.cancel)?;
            let text = String::from_utf8_lossy(&output.stdout);
            let mib: f64 = text.trim().parse().with_context(|| format!("{text} {:?}", output.stderr))?;
            self.row(name, mib, PEAK_MIB, 1.0);
        }
        self.host.remove(&self.dir.join("peak"))?;
        Ok(())
    }

    fn row(&self, name: &str, value: f64, peer: f64, target: f64) {
        let ratio = value / peer;
        let tree = self.tree.name;
        println!("{tree:<8} {name:<34} {value:>10.1} {peer:>10.1} {ratio:>7.2} {target:>7.2}");
        println!("row\t{tree}\t{name}\t{value:.3}\t{peer:.3}\t{ratio:.3}\t{target:.2}");
    }
}

fn dirs(state: &Path) -> StoreDirs {
    StoreDirs {
        store: state.join("store"),
        snapshots: state.join("snapshots"),
        stat_cache: state.join("stat"),
    }
}

fn spec(root: &Path, facts: bool, env: &Environment) -> SourceSpec {
    SourceSpec {
        root: root.to_path_buf(),
        state_root: None,
        profile: Profile::full(),
        facts,
        env: env.clone(),
    }
}

/// Takes one snapshot in a process of its own and prints the most memory it had.
fn peak(root: &Path, state: &Path) -> Result<()> {
    let mut env = Environment::empty();
    env.set("PATH", "/usr/local/bin:/usr/bin:/bin").set("HOME", state);
    let store = Store::open(dirs(state), Arc::new(SystemClock))?;
    store.take(&spec(root, true, &env), &CancelToken::new()?)?;
    store.settle();
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = peak.trim().trim_end_matches("kB").trim().parse()?;
    println!("{:.1}", kib / 1024.0);
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
