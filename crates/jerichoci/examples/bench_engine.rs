//! Measures the engine against plain commands, interleaved, on trees it makes itself.
//!
//! ```text
//! cargo run --release -p jerichoci --example bench_engine -- <pikaci> <directory> [--quick]
//! ```
//!
//! `<directory>` is made when missing; everything in it is taken for scratch. Per row one line
//! `row<TAB>group<TAB>name<TAB>measured<TAB>peer<TAB>figure<TAB>target`. Measured and peer are
//! milliseconds, medians, where no unit is given; the figure is what the target is about.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its purpose")]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jericho_host::{
    CancelToken, Clock, Command, Environment, Host, Isolation, LocalHost, Supervision, SystemClock,
};
use jerichoci::executor::workspace::RunSource;
use jerichoci::snapshot::{Profile, SourceSpec, Store, StoreDirs};

/// Files of the small tree, as in the other benchmark.
const FILES: usize = 709;
/// Bytes of output: a little below the default cap of a log.
const OUTPUT: u64 = 1_000_000_000;
/// User and group of the runs without root: nobody, as a rule.
const ORDINARY: &str = "65534";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let quick = args.iter().any(|arg| arg == "--quick");
    let paths: Vec<&String> = args.iter().filter(|arg| *arg != "--quick").collect();
    let [pikaci, dir] = paths[..] else {
        anyhow::bail!("usage: bench_engine <pikaci> <directory> [--quick]")
    };
    fs::create_dir_all(dir)?;
    let bench = Bench::new(Path::new(pikaci), &fs::canonicalize(dir)?, quick)?;
    bench.no_op()?;
    bench.workspace()?;
    bench.output()?;
    bench.many()?;
    bench.list()
}

struct Bench {
    pikaci: PathBuf,
    dir: PathBuf,
    tree: PathBuf,
    quick: bool,
    is_root: bool,
    host: LocalHost,
    clock: Arc<SystemClock>,
    cancel: CancelToken,
    env: Environment,
}

impl Bench {
    fn new(pikaci: &Path, dir: &Path, quick: bool) -> Result<Self> {
        // A copy that every user may start, whatever the rights above the original are.
        let program = dir.join("pikaci");
        fs::copy(pikaci, &program).with_context(|| pikaci.display().to_string())?;
        let mut env = Environment::empty();
        env.set("PATH", "/usr/local/bin:/usr/bin:/bin").set("HOME", dir);
        let bench = Self {
            pikaci: program,
            dir: dir.to_path_buf(),
            tree: dir.join("tree"),
            quick,
            is_root: rustix::process::geteuid().is_root(),
            host: LocalHost::new(),
            clock: Arc::new(SystemClock),
            cancel: CancelToken::new()?,
            env,
        };
        bench.make_tree(&bench.tree)?;
        Ok(bench)
    }

    /// A committed git tree of [`FILES`] files, one of which defines the jobs.
    fn make_tree(&self, root: &Path) -> Result<()> {
        eprintln!("bench: a tree of {FILES} files");
        let line = "fn a_line_of_some_source_file() -> bool { true }\n";
        for file in 1..FILES {
            let dir = root.join(format!("part-{:02}/module-{:03}", file % 5, file % 45));
            fs::create_dir_all(&dir)?;
            let mut written = fs::File::create_new(dir.join(format!("file_{file}.rs")))?;
            written.write_all(format!("// {file}\n{}", line.repeat(280)).as_bytes())?;
            // As old as files mostly are: git reads what is as young as its index again every time.
            written.set_modified((self.clock.now() - Duration::from_secs(3600)).into())?;
        }
        let big = self.dir.join("output");
        let jobs = format!(
            "version = 1\n[targets.noop.jobs.noop]\ncommand = [\"sh\", \"-c\", \"true\"]\n\
             [targets.output.jobs.output]\ncommand = [\"cat\", {big:?}]\n\
             [targets.three.jobs]\na = {{ command = \"true\" }}\nb = {{ command = \"true\" }}\n\
             c = {{ command = \"true\", needs = [\"a\", \"b\"] }}\n"
        );
        fs::write(root.join("jericho.toml"), jobs)?;
        self.git(root, &["init", "-q"])?;
        self.git(root, &["add", "-A"])?;
        self.git(root, &["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qm", "all"])
    }

    fn git(&self, root: &Path, args: &[&str]) -> Result<()> {
        self.timed(Command::new("git").args(args).cwd(root)).map(drop)
    }

    /// Milliseconds that a command takes, which must succeed.
    fn timed(&self, command: Command) -> Result<f64> {
        self.timed_with(command, &mut |_| {})
    }

    fn timed_with(&self, command: Command, stdout: &mut dyn FnMut(&[u8])) -> Result<f64> {
        let command = command.env(self.env.clone());
        let start = self.clock.monotonic();
        let output = self.host.stream(&command, &self.cancel, stdout)?;
        let ms = (self.clock.monotonic() - start).as_secs_f64() * 1e3;
        ensure!(output.exit.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(ms)
    }

    fn run(&self, target: &str) -> Command {
        Command::new(&self.pikaci).args(["run", target]).cwd(&self.tree)
    }

    fn rounds(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// A whole run of one job that does nothing, and the job's command alone.
    fn no_op(&self) -> Result<()> {
        self.no_op_as("no-op job", |program, args| Command::new(program).args(args).cwd(&self.tree))?;
        if !self.is_root {
            return Ok(());
        }
        let tree = self.dir.join("ordinary");
        self.make_tree(&tree)?;
        let owner = format!("{ORDINARY}:{ORDINARY}");
        self.timed(Command::new("chown").args(["-R", &owner]).arg(&tree))?;
        fs::set_permissions(&self.dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let as_user = |program: &str, args: &[&str]| {
            Command::new("setpriv")
                .args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups", program])
                .args(args)
                .cwd(&tree)
        };
        // The new owner is news for git's index, too.
        self.timed(as_user("git", &["update-index", "--refresh"]))?;
        self.no_op_as("no-op job, ordinary user", as_user)
    }

    fn no_op_as(&self, name: &str, as_user: impl Fn(&str, &[&str]) -> Command) -> Result<()> {
        let pikaci = self.pikaci.to_string_lossy();
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for round in 0..self.rounds(41, 11) {
            let ms = self.timed(as_user(&pikaci, &["run", "noop"]))?;
            // The first two write the tree and the stat cache.
            if round > 1 {
                ours.push(ms);
                plain.push(self.timed(as_user("sh", &["-c", "true"]))?);
            }
        }
        let (ours, plain) = (median(ours), median(plain));
        row("709 files", &format!("{name} over `sh -c true`"), ours, plain, ours - plain, " ms", 15.0);
        Ok(())
    }

    /// The view of one job, from nothing until it is removed, around a command that does nothing.
    fn workspace(&self) -> Result<()> {
        let state = self.dir.join("workspace");
        let dirs = StoreDirs {
            store: state.join("store"),
            snapshots: state.join("snapshots"),
            stat_cache: state.join("stat"),
        };
        let store = Arc::new(Store::open(dirs, self.clock.clone())?);
        let snapshot = store.take(
            &SourceSpec {
                root: self.tree.clone(),
                state_root: Some(self.tree.join(".jerichoci")),
                profile: Profile::full(),
                facts: false,
                env: self.env.clone(),
            },
            &self.cancel,
        )?;
        let source = RunSource::new(
            Arc::clone(&store),
            Arc::clone(&snapshot.manifest),
            snapshot.hash.to_string(),
            state.join("trees"),
            state.join("cargo-home"),
            "bench".to_owned(),
            Arc::new(LocalHost::new()),
        );
        let (cache, scratch) = (state.join("job"), state.join("scratch"));
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for round in 0..self.rounds(101, 31) {
            let start = self.clock.monotonic();
            let view = source.view(&cache, &scratch, None, &self.cancel)?;
            self.supervised(&view.workspace, view.isolation.clone())?;
            self.host.remove(&scratch)?;
            drop(view);
            let ms = (self.clock.monotonic() - start).as_secs_f64() * 1e3;
            if round > 0 {
                ours.push(ms);
                plain.push(self.timed(Command::new("sh").args(["-c", "true"]).cwd(&self.tree))?);
            }
        }
        let (ours, plain) = (median(ours), median(plain));
        let (name, target) = match self.is_root {
            true => ("pristine writable workspace over `sh -c true`", 3.0),
            false => ("proven private copy over `sh -c true`", f64::NAN),
        };
        row("709 files", name, ours, plain, ours - plain, " ms", target);
        Ok(())
    }

    fn supervised(&self, cwd: &Path, isolation: Isolation) -> Result<()> {
        let command = Command::new("sh").args(["-c", "true"]).env(self.env.clone()).cwd(cwd);
        let supervision = Supervision { isolation, ..Supervision::new("JERICHO_BENCH", "workspace") };
        let finished = self.host.supervise(&command, &supervision, &mut Vec::new(), &self.cancel)?;
        ensure!(finished.exit.success(), "{finished:?}");
        Ok(())
    }

    /// A job that prints 1 GB, and `cat` taking the same from a pipe and from a file.
    fn output(&self) -> Result<()> {
        let (input, copy) = (self.dir.join("output"), self.dir.join("copy"));
        eprintln!("bench: {} MB of output", OUTPUT / 1_000_000);
        // No holes: the peer must not profit from them.
        let fill = format!("yes 'a line of output, as long as the lines of a test are' | head -c {OUTPUT}");
        self.timed(Command::new("sh").args(["-c", &format!("{fill} > {}", input.display())]))?;
        let (mut ours, mut piped, mut direct, mut peaks) = (vec![], vec![], vec![], vec![]);
        let state = self.dir.join("output-state");
        let flags = ["--output".as_ref(), "jsonl".as_ref(), "--state-root".as_ref(), state.as_os_str()];
        self.timed(self.run("noop").args(flags))?;
        for _ in 0..self.rounds(5, 3) {
            self.host.remove(&state.join("runs"))?;
            let mut peak = None;
            ours.push(self.timed_with(self.run("output").args(flags), &mut |bytes| {
                // The job has ended; the engine has not: it still has to sync its records.
                if bytes.windows(12).any(|word| word == b"job_finished") {
                    peak = peak_of_engine(&state.join("runs"));
                }
            })?);
            peaks.push(peak.context("the engine was too fast: its peak could not be read")?);
            for (line, times) in [("cat IN | cat > OUT", &mut piped), ("cat IN > OUT", &mut direct)] {
                let line =
                    line.replace("IN", &input.to_string_lossy()).replace("OUT", &copy.to_string_lossy());
                times.push(self.timed(Command::new("sh").args(["-c", &line]))?);
                fs::remove_file(&copy)?;
            }
        }
        let (ours, piped, direct) = (median(ours), median(piped), median(direct));
        row("1 GB of output", "a run / `cat FILE \\| cat > file`", ours, piped, ours / piped, "", 1.3);
        row("1 GB of output", "a run / `cat FILE > file`", ours, direct, ours / direct, "", f64::NAN);
        row("1 GB of output", "peak memory of the engine", f64::NAN, f64::NAN, median(peaks), " MiB", 32.0);
        fs::remove_file(&input)?;
        Ok(())
    }

    /// Many jobs in one run, and their commands alone.
    fn many(&self) -> Result<()> {
        let count = self.rounds(1000, 200);
        eprintln!("bench: {count} jobs in one run");
        let mut jobs = String::from("version = 1\n[targets.many.jobs]\n");
        for job in 0..count {
            writeln!(jobs, "j{job:04} = {{ command = [\"sh\", \"-c\", \"true\"] }}")?;
        }
        let file = self.tree.join("jericho.toml");
        let before = fs::read(&file)?;
        fs::write(&file, jobs)?;
        let processors = thread::available_parallelism()?.get();
        for (name, threads) in [("one by one", 1), ("as many at once as processors", processors)] {
            let (mut ours, mut plain) = (Vec::new(), Vec::new());
            for round in 0..self.rounds(4, 2) {
                let ms = self.timed(self.run("many").args(["-j", &threads.to_string()]))?;
                // The first makes what each job keeps from run to run.
                if round > 0 || threads > 1 {
                    ours.push(ms / count as f64);
                    plain.push(self.spawn_all(count, threads)? / count as f64);
                }
            }
            let (ours, plain) = (median(ours), median(plain));
            let group = format!("{count} no-op jobs");
            row(&group, &format!("each, {name}, over `sh -c true`"), ours, plain, ours - plain, " ms", 4.0);
        }
        fs::write(&file, before)?;
        Ok(())
    }

    fn spawn_all(&self, count: usize, threads: usize) -> Result<f64> {
        let start = self.clock.monotonic();
        thread::scope(|scope| {
            let part = || {
                (0..count / threads)
                    .try_for_each(|_| self.timed(Command::new("sh").args(["-c", "true"])).map(drop))
            };
            let parts: Vec<_> = (0..threads).map(|_| scope.spawn(part)).collect();
            parts
                .into_iter()
                .try_for_each(|part| part.join().unwrap_or_else(|_| Err(anyhow::anyhow!("panic"))))
        })?;
        Ok((self.clock.monotonic() - start).as_secs_f64() * 1e3)
    }

    /// A list of many runs, and reading their records.
    fn list(&self) -> Result<()> {
        let count = 10_000;
        eprintln!("bench: {count} runs in a list");
        let state = self.dir.join("list");
        let with_state = |args: &[&str]| {
            Command::new(&self.pikaci)
                .args(args)
                .args(["--state-root".as_ref(), state.as_os_str()])
                .cwd(&self.tree)
        };
        self.timed(with_state(&["run", "three"]))?;
        let runs = state.join("runs");
        let model = only_entry(&runs)?;
        let record = fs::read_to_string(runs.join(&model).join("run.json"))?;
        for run in 0..count {
            let id = format!("20260401T{:02}{:02}{:02}Z-{run:08x}", run / 3600, run / 60 % 60, run % 60);
            fs::create_dir(runs.join(&id))?;
            fs::write(runs.join(&id).join("run.json"), record.replace(&model, &id))?;
        }
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        let read = format!("find {} -name run.json -exec cat {{}} + > /dev/null", runs.display());
        for _ in 0..self.rounds(11, 5) {
            let mut lines = 0;
            ours.push(self.timed_with(with_state(&["list"]), &mut |bytes| {
                lines += bytes.iter().filter(|byte| **byte == b'\n').count();
            })?);
            ensure!(lines == count + 1, "{lines} lines");
            plain.push(self.timed(Command::new("sh").args(["-c", &read]))?);
        }
        let (ours, plain) = (median(ours), median(plain));
        row("10k runs", "`list` (peer: `find … -exec cat`)", ours, plain, ours, " ms", 100.0);
        Ok(())
    }
}

/// MiB that the engine of the only run has had at most.
fn peak_of_engine(runs: &Path) -> Option<f64> {
    let owner = fs::read(runs.join(only_entry(runs).ok()?).join("owner.json")).ok()?;
    let owner: serde_json::Value = serde_json::from_slice(&owner).ok()?;
    let status = fs::read_to_string(format!("/proc/{}/status", owner["pid"])).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? / 1024.0)
}

fn only_entry(dir: &Path) -> Result<String> {
    let names: Vec<_> = fs::read_dir(dir)?.collect::<std::io::Result<_>>()?;
    ensure!(names.len() == 1, "{} has {} entries", dir.display(), names.len());
    Ok(names[0].file_name().to_string_lossy().into_owned())
}

fn row(group: &str, name: &str, measured: f64, peer: f64, figure: f64, unit: &str, target: f64) {
    println!("row\t{group}\t{name}\t{measured:.2}\t{peer:.2}\t{figure:.2}{unit}\t{target}{unit}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
