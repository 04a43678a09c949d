//! Measures a job in a guest over SSH against the same requests written by hand, interleaved.
//!
//! ```text
//! cargo run --release -p jerichoci --example bench_guest -- <pikaci> <runner dir> <directory> [--quick]
//! ```
//!
//! Both begin with a program that is started, connect over ssh to this machine, and end when the
//! parsed `result.json` of a job that does nothing is told; stopping and deleting the instance is
//! in neither. Needs root, sshd and Incus. Rows as of `bench_engine`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its purpose")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jericho_host::{CancelToken, Clock, Command, Environment, LocalHost, SystemClock};
use jericho_testkit::{incus, ssh};
use serde_json::{Value, json};

/// The most the engine may take, as a multiple of the peer.
const TARGET: f64 = 1.25;
/// The most that a first job on a new host may take beyond one that does nothing, in milliseconds.
const COLD_MS: f64 = 2000.0;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let quick = args.iter().any(|arg| arg == "--quick");
    let paths: Vec<&String> = args.iter().filter(|arg| *arg != "--quick").collect();
    // The peer is this program started again, so that both sides begin with a process.
    if let [mode, config, socket, project, alias, snapshot, runner, name] = paths[..]
        && mode == "by-hand"
    {
        return by_hand(config, socket, project, alias, snapshot, runner, name);
    }
    let [pikaci, runners, dir] = paths[..] else {
        bail!("usage: bench_guest <pikaci> <runner dir> <directory> [--quick]")
    };
    let Some(incus) = incus::Rig::up("bench") else { bail!("no Incus for the benchmark") };
    let Some(sshd) = ssh::Rig::start("bench") else { bail!("no sshd for the benchmark") };
    let project = incus.project(8)?;
    let bench =
        Bench::new(Path::new(pikaci), &fs::canonicalize(runners)?, Path::new(dir), &incus, &sshd, &project)?;
    bench.no_op(if quick { 5 } else { 15 })
}

struct Bench<'a> {
    pikaci: PathBuf,
    tree: PathBuf,
    env: Environment,
    incus: &'a incus::Rig,
    sshd: &'a ssh::Rig,
    project: &'a incus::Project<'a>,
    runner: PathBuf,
    snapshot: PathBuf,
    host: LocalHost,
    clock: SystemClock,
    cancel: CancelToken,
}

impl<'a> Bench<'a> {
    fn new(
        pikaci: &Path,
        runners: &Path,
        dir: &Path,
        incus: &'a incus::Rig,
        sshd: &'a ssh::Rig,
        project: &'a incus::Project<'a>,
    ) -> Result<Self> {
        let tree = dir.join("guest-tree");
        fs::create_dir_all(&tree)?;
        let tree = fs::canonicalize(tree)?;
        let work_dir = project.dir().join("work");
        fs::create_dir_all(&work_dir)?;
        fs::set_permissions(&work_dir, fs::Permissions::from_mode(0o700))?;
        for file in 0..709 {
            let part = tree.join(format!("part-{:02}", file % 20));
            fs::create_dir_all(&part)?;
            fs::write(part.join(format!("file_{file}.rs")), format!("// {file}\n").repeat(400))?;
        }
        fs::write(
            tree.join("jericho.toml"),
            "version = 1\n[targets.noop.jobs.noop]\ncommand = [\"true\"]\nruntime = \"incus\"\non = \"bench\"\n",
        )?;
        // The same wrapper for both sides: it adds the configuration of the rig.
        let program = dir.join("ssh-of-the-rig");
        fs::write(&program, format!("#!/bin/sh\nexec ssh -F {} \"$@\"\n", sshd.config().display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let config = dir.join("config.toml");
        let socket = incus.socket();
        fs::write(
            &config,
            format!(
                "[hosts.bench]\nssh = \"rig\"\nwork_dir = {work_dir:?}\n\
                 incus = {{ project = \"{}\", profile = \"default\", image = \"{}\", socket = {socket:?} }}\n",
                project.name(),
                incus.image_alias(),
            ),
        )?;
        let mut env = Environment::empty();
        env.set("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").set("HOME", dir);
        env.set("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY", &program).set("JERICHOCI_CONFIG", &config);
        env.set("JERICHOCI_GUEST_RUNNER_DIR", runners);
        let runner = project.make_dir("runner")?;
        let arch = std::env::consts::ARCH;
        fs::copy(runners.join(arch).join("jerichoci-incus-run"), runner.join("jerichoci-incus-run"))?;
        let snapshot = project.make_dir("snapshot")?;
        let bench = Self {
            pikaci: fs::canonicalize(pikaci)?,
            tree,
            env,
            incus,
            sshd,
            project,
            runner,
            snapshot,
            host: LocalHost::new(),
            clock: SystemClock,
            cancel: CancelToken::new()?,
        };
        bench.call(Command::new("git").args(["init", "-q", "."]).cwd(&bench.tree), &mut |_| {})?;
        bench.call(
            Command::new("cp").args(["-a".as_ref(), bench.tree.as_os_str()]).arg(&bench.snapshot),
            &mut |_| {},
        )?;
        Ok(bench)
    }

    fn call(&self, command: Command, stdout: &mut dyn FnMut(&[u8])) -> Result<()> {
        let command = command.env(self.env.clone());
        let output = self.host.stream(&command, &self.cancel, stdout)?;
        ensure!(output.exit.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Milliseconds from the start of a command to the first line of it that holds `mark`.
    fn until(&self, command: Command, mark: &str) -> Result<f64> {
        let start = self.clock.monotonic();
        let (mut heard, mut told) = (String::new(), None);
        self.call(command, &mut |bytes| {
            heard.push_str(&String::from_utf8_lossy(bytes));
            if told.is_none() && heard.contains(mark) {
                told = Some(self.clock.monotonic() - start);
            }
        })?;
        Ok(told.with_context(|| format!("never said {mark}: {heard}"))?.as_secs_f64() * 1e3)
    }

    fn no_op(&self, rounds: usize) -> Result<()> {
        let run = || Command::new(&self.pikaci).args(["run", "noop", "--output", "jsonl"]).cwd(&self.tree);
        eprintln!("bench: a first job in a guest over ssh");
        let cold = self.until(run(), "\"job_finished\"")?;
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            eprintln!("bench: jobs in guests, round {} of {rounds}", round + 1);
            ours.push(self.until(run(), "\"job_finished\"")?);
            let name = format!("by-hand-{round}");
            let peer = Command::new(std::env::current_exe()?)
                .arg("by-hand")
                .arg(self.sshd.config())
                .arg(self.incus.socket())
                .args([self.project.name(), self.incus.image_alias()])
                .arg(&self.snapshot)
                .arg(&self.runner)
                .arg(&name);
            peers.push(self.until(peer, "told")?);
        }
        let (ours, peers) = (median(&mut ours), median(&mut peers));
        row("no-op job / requests by hand", (ours, peers), (ours / peers, ""), (TARGET, ""));
        // The image is in the project already; snapshot and runner are sent in it.
        let more = cold - ours;
        row("first job on a new host, over the no-op job", (cold, ours), (more, " ms"), (COLD_MS, " ms"));
        Ok(())
    }
}

fn row(name: &str, (measured, peer): (f64, f64), figure: (f64, &str), target: (f64, &str)) {
    let [figure, target] = [figure, target].map(|(value, unit)| format!("{value}{unit}"));
    println!("row\tguest over ssh\t{name}\t{measured}\t{peer}\t{figure}\t{target}");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The peer: one ssh with a forwarded socket, and the requests of a job.
fn by_hand(
    config: &str,
    socket: &str,
    project: &str,
    alias: &str,
    snapshot: &str,
    runner: &str,
    name: &str,
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let local = dir.path().join("s");
    let forward = format!("{}:{socket}", local.display());
    #[expect(clippy::disallowed_methods, reason = "a benchmark's peer, written by hand")]
    let mut ssh = std::process::Command::new("ssh")
        .args(["-F", config, "-o", "BatchMode=yes", "-L", &forward, "rig", "echo up; cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut up = [0; 3];
    ssh.stdout.as_mut().context("stdout")?.read_exact(&mut up)?;
    let api = Api { socket: local, project: project.to_owned() };
    let image = api.ask("GET", &format!("/1.0/images/aliases/{alias}"), None)?;
    let instance = json!({
        "name": name, "type": image["type"], "ephemeral": false, "profiles": ["default"],
        "source": { "type": "image", "alias": alias }, "config": { "boot.autostart": "false" },
        "devices": {
            "snapshot": { "type": "disk", "source": snapshot, "path": "/workspace/snapshot", "readonly": "true" },
            "runner": { "type": "disk", "source": runner, "path": "/opt/runner", "readonly": "true" },
        },
        "start": true,
    });
    api.done(&api.ask("POST", "/1.0/instances", Some(&instance))?)?;
    let request = json!({ "schema_version": 2, "command": "true", "timeout_secs": 60, "run_as_root": false });
    let script = format!(
        "mkdir -p /var/lib/pika-cloud/logs && ln -sfn /var/lib/pika-cloud /run/pika-cloud && \
         printf %s '{request}' >/run/pika-cloud/guest-request.json && \
         exec /opt/runner/jerichoci-incus-run /run/pika-cloud/guest-request.json"
    );
    let exec = json!({
        "command": ["/bin/sh", "-c", script], "record-output": true, "interactive": false,
        "wait-for-websocket": false, "environment": {},
    });
    api.done(&api.ask("POST", &format!("/1.0/instances/{name}/exec"), Some(&exec))?)?;
    let path = format!("/1.0/instances/{name}/files?path=/run/pika-cloud/result.json");
    let result: Value = serde_json::from_slice(&api.raw("GET", &path, None)?)?;
    ensure!(result["status"] == "completed", "{result}");
    println!("told");
    std::io::stdout().flush()?;
    let stop = json!({ "action": "stop", "force": true, "timeout": 20 });
    api.done(&api.ask("PUT", &format!("/1.0/instances/{name}/state"), Some(&stop))?)?;
    api.done(&api.ask("DELETE", &format!("/1.0/instances/{name}"), None)?)?;
    drop(ssh.stdin.take());
    ssh.wait()?;
    Ok(())
}

/// As little HTTP as the requests need.
struct Api {
    socket: PathBuf,
    project: String,
}

impl Api {
    /// The metadata of an answer.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer: Value = serde_json::from_slice(&self.raw(method, path, body)?)?;
        ensure!(answer["type"] != "error", "{method} {path}: {answer}");
        Ok(answer["metadata"].clone())
    }

    /// Waits for the operation of an answer.
    fn done(&self, operation: &Value) -> Result<()> {
        let id = operation["id"].as_str().context("an operation")?;
        let done = self.ask("GET", &format!("/1.0/operations/{id}/wait"), None)?;
        ensure!(done["status_code"] == 200, "{done}");
        Ok(())
    }

    fn raw(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Vec<u8>> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mark = if path.contains('?') { '&' } else { '?' };
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(
            stream,
            "{method} {path}{mark}project={} HTTP/1.1\r\nHost: incus\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.project,
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("an answer")?;
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 2"), "{method} {path}: {head}");
        let rest = answer.split_off(end + 4);
        if head.contains("transfer-encoding: chunked") { unchunked(&rest) } else { Ok(rest) }
    }
}

fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").context("a chunk")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line])?.trim(), 16)?;
        if size == 0 {
            return Ok(whole);
        }
        whole.extend_from_slice(rest.get(line + 2..line + 2 + size).context("a whole chunk")?);
        rest = rest.get(line + 4 + size..).context("the end of a chunk")?;
    }
}
