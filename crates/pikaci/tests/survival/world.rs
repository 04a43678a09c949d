//! An sshd, an Incus, a repository, and `pikaci` between them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use jericho_host::{Clock as _, SystemClock};
use jericho_testkit::repo::Repo;
use jericho_testkit::{built_program, incus, program, ssh};
use serde_json::Value;

/// Longer than anything here takes, and than a connection that says nothing is believed.
const PATIENCE: Duration = Duration::from_secs(170);

/// Which guest image the jobs have: `scripts/soak` goes through both.
#[expect(clippy::disallowed_methods, reason = "the caller of the tests chooses")]
fn image(rig: &incus::Rig, test: &str) -> Option<String> {
    match std::env::var("JERICHO_TEST_IMAGE").as_deref() {
        Ok("systemd") => rig.systemd_image_alias(test),
        _ => Some(rig.image_alias().to_owned()),
    }
}

/// Whose Incus it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// That of all tests.
    Shared,
    /// The test's own, to be killed.
    Own,
}

pub(crate) struct World<'a> {
    pub(crate) incus: &'a incus::Rig,
    pub(crate) sshd: ssh::Rig,
    pub(crate) project: &'a incus::Project<'a>,
    pub(crate) work_dir: PathBuf,
    root: PathBuf,
    home: PathBuf,
}

/// Prints a line every 20 ms until somebody makes the file, in the guest, that ends it.
pub(crate) const COUNT: &str =
    "i=0; until [ -e /var/tmp/go ]; do i=$((i + 1)); echo \"line $i\"; sleep 0.02; done; echo end";

/// Makes a world for the test, when this machine has what it needs.
pub(crate) fn world(test: &str, daemon: Daemon, check: impl FnOnce(&mut World<'_>)) {
    let rig = match daemon {
        Daemon::Shared => incus::Rig::up(test),
        Daemon::Own => incus::Rig::own(test),
    };
    let (Some(rig), Some(sshd)) = (rig, ssh::Rig::start(test)) else { return };
    let Some(runners) = program::guest_programs(test) else { return };
    let Some(image) = image(&rig, test) else { return };
    let project = rig.project(4).unwrap();
    let home = tempfile::Builder::new().prefix("survival-").tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    let work_dir = project.dir().join("work");
    let mut world = World { root: home.join("tree"), incus: &rig, sshd, project: &project, work_dir, home };
    world.prepare(&runners, &image);
    check(&mut world);
    world.nothing_is_left();
    let _ = fs::remove_dir_all(&world.home);
}

impl World<'_> {
    fn prepare(&self, runners: &Path, image: &str) {
        Repo::init(&self.root).unwrap();
        fs::create_dir(&self.work_dir).unwrap();
        fs::set_permissions(&self.work_dir, fs::Permissions::from_mode(0o700)).unwrap();
        let ssh = format!("#!/bin/sh\nexec ssh -F {} \"$@\"\n", self.sshd.config().display());
        let program = self.home.join("ssh");
        fs::write(&program, ssh).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let hosts = format!(
            "[hosts.rig]\nssh = \"rig\"\nwork_dir = {:?}\nallow = [\"incus\", \"host_process\"]\n\
             [hosts.rig.incus]\nproject = \"{}\"\nprofile = \"default\"\nimage = \"{}\"\nsocket = {:?}\n",
            self.work_dir,
            self.project.name(),
            image,
            self.incus.socket(),
        );
        fs::write(self.home.join("config.toml"), hosts).unwrap();
        fs::write(self.home.join("runners"), runners.as_os_str().as_encoded_bytes()).unwrap();
        self.job(COUNT, "");
    }

    /// Replaces the repository's one job.
    pub(crate) fn job(&self, script: &str, more: &str) {
        let targets = format!(
            "version = 1\n[targets.job.jobs.job]\non = \"rig\"\nruntime = \"incus\"\ntimeout = \"5m\"\n{more}\n\
             command = '''{script}'''\n"
        );
        fs::write(self.root.join("jericho.toml"), targets).unwrap();
    }

    /// `pikaci` with these arguments, not started yet.
    pub(crate) fn pikaci(&self, args: &[&str]) -> Command {
        let mut pikaci = command(&built_program!("pikaci"));
        pikaci.env_clear().current_dir(&self.root).args(args).stdin(Stdio::null());
        pikaci.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", &self.home);
        pikaci.env("JERICHOCI_CONFIG", self.home.join("config.toml"));
        pikaci.env("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY", self.home.join("ssh"));
        pikaci.env("JERICHOCI_GUEST_RUNNER_DIR", fs::read_to_string(self.home.join("runners")).unwrap());
        pikaci
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.pikaci(args).output().unwrap()
    }

    /// Starts the job and waits until it has printed something.
    pub(crate) fn start(&self) -> Live {
        let mut child =
            self.pikaci(&["run", "job", "--output", "jsonl"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let id = event["run_id"].as_str().unwrap().to_owned();
        let dir = self.root.join(".jerichoci/runs").join(&id);
        let live = Live { child, out, dir };
        live.until_lines(5);
        live
    }

    /// The one instance of the job.
    pub(crate) fn instance(&self) -> String {
        let instances = self.project.instances().unwrap();
        assert_eq!(instances.len(), 1, "{instances:?}");
        instances[0].clone()
    }

    /// The name of the instance as the record of the host has it, for when Incus cannot be asked.
    pub(crate) fn instance_of(&self, live: &Live) -> String {
        let intent = fs::read(live.dir.join("jobs/job/instance.json")).unwrap();
        let intent: Value = serde_json::from_slice(&intent).unwrap();
        intent["instance"].as_str().or_else(|| intent["name"].as_str()).unwrap().to_owned()
    }

    /// Makes a file in a guest without Incus: through the root directory of its first process.
    pub(crate) fn touch_from_outside(&self, instance: &str, path: &str) {
        // Not that of its monitor, which is outside.
        let cgroup = format!("lxc.payload.{}_{instance}/", self.project.name());
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let inside = entries.map(|entry| entry.path()).find(|process| {
            fs::read_to_string(process.join("cgroup"))
                .is_ok_and(|groups| groups.lines().any(|group| format!("{group}/").contains(&cgroup)))
        });
        let inside = inside.expect("a process of the guest");
        // As root of the guest: that of the host owns nothing there.
        let mut touch = command("nsenter".as_ref());
        touch.arg("--target").arg(inside.file_name().unwrap());
        touch.args(["--user", "--mount", "--setuid", "0", "--setgid", "0", "touch", path]);
        assert!(touch.status().unwrap().success());
    }

    /// Lets the job end.
    pub(crate) fn go(&self) {
        self.project.exec(&self.instance(), "touch /var/tmp/go").unwrap();
    }

    /// Holds that neither the host nor this machine has anything of any job any more.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        assert_eq!(self.project.instances().unwrap(), Vec::<String>::new(), "instances");
        let runs = fs::read_dir(self.work_dir.join("runs")).map_or(0, |entries| entries.count());
        assert_eq!(runs, 0, "directories of runs");
        wait_for("the end of what was started on the host", || {
            self.sshd.everything().is_empty().then_some(())
        });
    }
}

/// A run that goes on.
pub(crate) struct Live {
    pub(crate) child: Child,
    out: BufReader<ChildStdout>,
    pub(crate) dir: PathBuf,
}

impl Live {
    pub(crate) fn guest_log(&self) -> String {
        let log = fs::read(self.dir.join("jobs/job/artifacts/guest.log")).unwrap_or_default();
        String::from_utf8(log).unwrap()
    }

    pub(crate) fn host_log(&self) -> String {
        fs::read_to_string(self.dir.join("jobs/job/host.log")).unwrap_or_default()
    }

    /// How many whole lines the job has printed, as far as it is known here.
    pub(crate) fn lines(&self) -> usize {
        self.guest_log().matches('\n').count()
    }

    /// Waits for that many.
    #[track_caller]
    pub(crate) fn until_lines(&self, count: usize) {
        wait_for("output of the job", || (self.lines() >= count).then_some(()));
    }

    /// Waits for more output than there is now.
    #[track_caller]
    pub(crate) fn until_more(&self) {
        self.until_lines(self.lines() + 5);
    }

    /// Waits until the host log has these words.
    #[track_caller]
    pub(crate) fn until_host_log(&self, words: &str) {
        wait_for(words, || self.host_log().contains(words).then_some(()));
    }

    /// The end: the exit code and the record of the job.
    pub(crate) fn end(mut self) -> Ended {
        let mut last = String::new();
        for line in (&mut self.out).lines() {
            last = line.unwrap();
        }
        let code = self.child.wait().unwrap().code();
        let run: Value = serde_json::from_slice(&fs::read(self.dir.join("run.json")).unwrap()).unwrap();
        Ended { code, job: run["jobs"][0].clone(), log: self.guest_log(), host_log: self.host_log(), last }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) job: Value,
    pub(crate) log: String,
    #[expect(dead_code, reason = "shown when a check fails")]
    host_log: String,
    #[expect(dead_code, reason = "shown when a check fails")]
    last: String,
}

impl Ended {
    /// Passed, and every line of the job came once and in its order.
    #[track_caller]
    pub(crate) fn passed(&self) {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert_eq!(self.job["status"], "passed", "{self:#?}");
        let mut lines: Vec<&str> = self.log.lines().collect();
        assert_eq!(lines.pop(), Some("end"), "{self:#?}");
        for (number, line) in lines.iter().enumerate() {
            assert_eq!(*line, format!("line {}", number + 1), "{self:#?}");
        }
    }

    /// Ended for that reason, with words that say so, and the output until then.
    #[track_caller]
    pub(crate) fn is(&self, code: i32, kind: &str, words: &str) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert_eq!(self.job["failure_kind"], kind, "{self:#?}");
        let message = self.job["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{words:?} is not in {message:?}");
        assert!(self.log.starts_with("line 1\nline 2\n"), "{self:#?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "these tests start the real program")]
pub(crate) fn command(program: &Path) -> Command {
    Command::new(program)
}

/// Looks again and again; panics when it does not come.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "nobody tells when a file or a process of others changes")]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = SystemClock.monotonic() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(SystemClock.monotonic() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
