//! What `README.md` promises of a build host, done word for word.
//!
//! The commands are read from the file and run in a copy of this source, with `builder` in the configuration of
//! ssh. Two programs stand in for others, since those take minutes and a mirror: `cargo`, which runs what was built
//! with this test, and `mmdebstrap`, which gives the base that the rig keeps.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jericho_testkit::incus::Rig;
use jericho_testkit::machine::Machine;
use jericho_testkit::program::guest_programs;
use jericho_testkit::{built_program, crate_dir, need};

use crate::common::{Ended, command};

/// In place of cargo: only the two calls that the commands come to.
const CARGO: &str = r#"#!/bin/sh
case "$*" in
  "run --release --bin pikaci -- "*)
    shift 5
    exec "$PIKACI" "$@"
    ;;
  "build --locked --profile guest --package jericho-guest --bins --target "*)
    shift 8
    mkdir -p "target/$1/guest"
    exec cp "$GUEST_PROGRAMS/jerichoci-incus-run" "$GUEST_PROGRAMS/pika-cloud-lifecycle" "target/$1/guest"
    ;;
esac
echo "cargo $*: not what was expected" >&2
exit 9
"#;

/// In place of mmdebstrap: what the rig keeps, when all that the image is to have is asked for.
const MMDEBSTRAP: &str = r#"#!/bin/sh
for package in systemd-sysv git ca-certificates build-essential; do
  case "$*" in
    *[=,]"$package"[,\ ]*) ;;
    *)
      echo "mmdebstrap $*: without $package" >&2
      exit 9
      ;;
  esac
done
exec cat "$GUEST_BASE"
"#;

/// The block of a document that is about another machine.
fn commands_for_a_host(text: &str) -> Vec<&str> {
    let mut blocks = text.split("\n```").skip(1).step_by(2).filter(|block| block.contains("\nssh builder "));
    let block = blocks.next().unwrap();
    assert_eq!(blocks.next(), None, "which of them is meant?");
    block.lines().skip(1).filter(|line| !line.trim().is_empty()).collect()
}

/// Another machine than the builder: its own copy of the source, its own configuration of ssh.
struct Client {
    dir: tempfile::TempDir,
    variables: Vec<(&'static str, OsString)>,
}

impl Client {
    fn new(machine: &Machine, base: &Path, programs: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        for made in [&bin, &dir.path().join("home")] {
            fs::create_dir(made).unwrap();
        }
        for (name, text) in [("cargo", CARGO), ("mmdebstrap", MMDEBSTRAP)] {
            fs::write(bin.join(name), text).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let config = fs::read_to_string(machine.sshd().config()).unwrap();
        fs::write(dir.path().join("ssh_config"), config.replacen("Host rig\n", "Host builder\n", 1)).unwrap();
        let of_arch = programs.join(std::env::consts::ARCH);
        let variables = vec![
            ("BIN", bin.into()),
            ("HOME", dir.path().join("home").into()),
            ("PIKACI", built_program!("pikaci").into()),
            ("GUEST_PROGRAMS", of_arch.into()),
            ("GUEST_BASE", base.into()),
        ];
        let client = Self { dir, variables };
        client.run(r#"source scripts/lib/source.sh && copy_source "$TREE""#, &crate_dir!().join("../.."));
        client.run("git init -q && git add -A", &client.tree());
        client
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// Runs words of a shell in a directory. ssh takes the home of its user from the system and not from `HOME`,
    /// so that its configuration is put in place of the system's, for these words alone.
    #[track_caller]
    fn run(&self, words: &str, dir: &Path) -> Ended {
        const ENTER: &str = r#"set -e
            mount --bind "$SSH_CONFIG" /etc/ssh/ssh_config
            own=$(getent passwd "$(id -u)" | cut -d : -f 6)/.ssh/config
            if [ -e "$own" ]; then mount --bind /dev/null "$own"; fi
            PATH=$BIN:$PATH exec bash -c "$1""#;
        let mut shell = command("unshare".as_ref());
        shell.args(["--mount", "--", "sh", "-c", ENTER, "sh", words]).current_dir(dir);
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        shell.env("SSH_CONFIG", self.dir.path().join("ssh_config")).env("TREE", self.tree());
        shell.stdin(std::process::Stdio::null());
        Ended::of(shell.output().unwrap()).code(0)
    }
}

#[test]
fn the_commands_of_the_readme_lead_from_a_debian_host_to_a_green_job() {
    let name = "the_commands_of_the_readme_lead_from_a_debian_host_to_a_green_job";
    let readme = fs::read_to_string(crate_dir!().join("../../README.md")).unwrap();
    let commands = commands_for_a_host(&readme);
    assert!(commands.len() <= 3, "{commands:?}");
    assert!(commands.iter().all(|line| line.contains("builder")), "{commands:?}");

    let Some(programs) = guest_programs(name) else { return };
    if !["xz", "git"].iter().all(|program| need::needs_program(name, program)) {
        return;
    }
    let Some(rig) = Rig::up(name) else { return };
    let base = rig.systemd_base().unwrap();
    let Some(machine) = Machine::bare(name) else { return };
    let pools = machine.incus().ask("GET", "/1.0/storage-pools", None).unwrap();
    assert_eq!(pools.as_array().map_or(0, Vec::len), 0, "nobody has set it up");

    let client = Client::new(&machine, &base, &programs);
    let ended: Vec<Ended> = commands.iter().map(|words| client.run(words, &client.tree())).collect();
    let last = ended.last().unwrap();
    assert!(last.stdout.ends_with("guest passed\n"), "{ended:#?}");
    let log = client.run("cargo run --release --bin pikaci -- logs latest --kind guest", &client.tree());
    assert!(log.stdout.contains("a guest of Debian"), "{log:#?}");
    // The next steps of the documentation find it in order, and the job has left nothing there.
    client.run("cargo run --release --bin pikaci -- doctor builder", &client.tree());
    let left = machine.incus().ask("GET", "/1.0/instances?all-projects=true", None).unwrap();
    assert_eq!(left.as_array().map_or(0, Vec::len), 0, "{left}");
    // What is done is not done again.
    let again = client.run(commands[0], &client.tree());
    assert!(again.stdout.starts_with("all of it is there\n"), "{again:#?}");
}
