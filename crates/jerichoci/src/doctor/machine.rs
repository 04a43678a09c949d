//! Directory, disk, clock and programs of a machine.

use std::path::PathBuf;

use super::facts::Facts;
use super::{Place, Visit, quoted};

/// How far two clocks may be apart: leases and times of files are compared.
const SKEW_SECS: f64 = 5.0;

/// Files that a file system must still take: a source needs one for each of its files.
const FEWEST_FILES: u64 = 10_000;

/// Name of the program that runs jobs in guests and on other hosts.
const RUNNER: &str = "jerichoci-incus-run";

pub(super) fn check(visit: &mut Visit<'_>, place: &Place, facts: &Facts, runner_dirs: &[PathBuf]) {
    directory(visit, place, facts);
    disk(visit, place, facts);
    if visit.is_remote() {
        clock(visit, facts);
    }
    runner(visit, facts, runner_dirs);
    nix(visit, place, facts);
}

fn directory(visit: &mut Visit<'_>, place: &Place, facts: &Facts) {
    const CHECK: &str = "work_dir";
    let (what, path) = (place.dir_is, place.dir.to_string_lossy());
    let dir = quoted(&path);
    let account = quoted(facts.account());
    let make = format!("install -d -m 0700 -o {account} {dir}");
    match facts.get("dir") {
        Some("link") => {
            let mend = visit.as_root(facts, &format!("rm {dir}"));
            visit.problem(
                CHECK,
                format!("the {what} {path} is a symbolic link, which anybody may have put there"),
                mend,
            );
        }
        Some("other") => {
            let mend = visit.as_root(facts, &format!("rm {dir}"));
            visit.problem(CHECK, format!("the {what} {path} is no directory"), mend);
        }
        Some("absent") => {
            let up = facts.get("up").unwrap_or("/");
            if facts.is("up_writable", "yes") {
                if runs_programs(visit, place, facts) {
                    visit.ok(CHECK, format!("{path} is made when it is needed"));
                }
            } else {
                let mend = visit.as_root(facts, &make);
                let found =
                    format!("the {what} {path} cannot be made: {} may not write to {up}", facts.account());
                visit.problem(CHECK, found, mend);
            }
        }
        Some("directory") => existing(visit, place, facts, &make),
        _ => {
            visit.problem(CHECK, format!("nobody knows what {path} is"), visit.ssh(&format!("ls -ld {dir}")));
        }
    }
}

/// One that is there belongs to the account, and to nobody else.
fn existing(visit: &mut Visit<'_>, place: &Place, facts: &Facts, make: &str) {
    const CHECK: &str = "work_dir";
    let (what, path) = (place.dir_is, place.dir.to_string_lossy());
    let dir = quoted(&path);
    let mode = facts.get("mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
    if facts.get("owner") != facts.get("uid") {
        let owner = facts.get("owner_name").unwrap_or("somebody else");
        let found = format!("the {what} {path} belongs to {owner}, and not to {}", facts.account());
        let mend = visit.as_root(facts, &format!("rm -r {dir}"));
        let mend = format!("{mend}; or another directory: work_dir of the host in the user's file");
        visit.problem(CHECK, found, mend);
    } else if mode.is_none_or(|mode| mode & 0o077 != 0) {
        let mode = facts.get("mode").unwrap_or("unknown");
        let mend = visit.ssh(&format!("chmod 0700 {dir}"));
        visit.problem(CHECK, format!("the {what} {path} has mode {mode}, so others see sources in it"), mend);
    } else if !facts.is("up_writable", "yes") {
        let mend = visit.as_root(facts, make);
        visit.problem(CHECK, format!("{} may not write to the {what} {path}", facts.account()), mend);
    } else if runs_programs(visit, place, facts) {
        visit.ok(CHECK, format!("{path} belongs to {} alone", facts.account()));
    }
}

/// Whether what is put into the directory can be run; a problem when not.
fn runs_programs(visit: &mut Visit<'_>, place: &Place, facts: &Facts) -> bool {
    let Some(mount) = facts.get("noexec") else { return true };
    let (what, path) = (place.dir_is, place.dir.to_string_lossy());
    let found = format!(
        "the file system of the {what} {path} is mounted noexec, and jobs are run by a program in it"
    );
    let other = match visit.is_remote() {
        true => "work_dir of the host in the user's file",
        false => "--state-root",
    };
    let mend = visit.as_root(facts, &format!("mount -o remount,exec {}", quoted(mount)));
    visit.problem("work_dir", found, format!("{mend}; or another directory: {other}"));
    false
}

fn disk(visit: &mut Visit<'_>, place: &Place, facts: &Facts) {
    const CHECK: &str = "disk";
    let up = quoted(facts.get("up").unwrap_or("/"));
    let Some((size, free)) = facts.disk() else {
        let mend = visit.ssh(&format!("df -Pk {up}"));
        visit.problem(CHECK, "nobody knows how much disk is free".to_owned(), mend);
        return;
    };
    let found = format!("{} of {} are free for the {}", gib(free), gib(size), place.dir_is);
    if free < place.min_free {
        let mend = match visit.is_remote() {
            false => "pikaci gc --keep-runs 3".to_owned(),
            true => visit.ssh(&format!("df -h {up}")),
        };
        visit.problem(CHECK, format!("{found}; below {} no run begins", gib(place.min_free)), mend);
    } else if let Some(free) = facts.inodes().filter(|free| *free < FEWEST_FILES) {
        let mend = visit.ssh(&format!("df -i {up}"));
        visit.problem(CHECK, format!("{found}, but only {free} files more fit there (inodes)"), mend);
    } else {
        visit.ok(CHECK, found);
    }
}

fn gib(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a number for people, with one decimal")]
    let gib = bytes as f64 / f64::from(1 << 30);
    format!("{gib:.1} GiB")
}

fn clock(visit: &mut Visit<'_>, facts: &Facts) {
    const CHECK: &str = "clock";
    let ahead = facts.clock_ahead;
    if ahead.abs() <= SKEW_SECS {
        visit.ok(CHECK, "its clock and this one agree");
        return;
    }
    let side = if ahead > 0.0 { "ahead of" } else { "behind" };
    let mend = visit.as_root(facts, "timedatectl set-ntp true");
    visit.problem(CHECK, format!("its clock is {:.0} s {side} this one", ahead.abs()), mend);
}

fn runner(visit: &mut Visit<'_>, facts: &Facts, dirs: &[PathBuf]) {
    const CHECK: &str = "runner";
    let arch = facts.get("arch").unwrap_or("unknown");
    let found = dirs.iter().map(|dir| dir.join(arch).join(RUNNER)).find(|path| path.is_file());
    match found {
        Some(path) => visit.ok(CHECK, format!("{} is there for {arch}", path.display())),
        None => {
            let looked = match dirs {
                [] => "no directory of programs is known".to_owned(),
                dirs => {
                    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
                    format!("none in {}", dirs.join(", "))
                }
            };
            let found = format!("there is no {RUNNER} for {arch} to run jobs with: {looked}");
            let mend = format!("scripts/build-guest --arch {arch}, in the source tree of Jericho CI");
            match visit.is_remote() || facts.get("socket").is_some() {
                true => visit.problem(CHECK, found, mend),
                // Host processes of this machine run without it.
                false => visit.note(CHECK, found, mend),
            }
        }
    }
}

fn nix(visit: &mut Visit<'_>, place: &Place, facts: &Facts) {
    const CHECK: &str = "nix";
    match facts.get("nix") {
        Some(version) => visit.ok(CHECK, version.to_owned()),
        None => visit.note(
            CHECK,
            format!("there is no program {}; jobs with prepared outputs or a dev shell need it", place.nix),
            "https://nixos.org/download, or nix-bin of the distribution",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use jericho_host::CancelToken;

    use super::super::Check;
    use super::*;
    use crate::config::HostConfig;

    /// What is said about a machine that says this of itself.
    fn told(facts: &str, clock_ahead: f64) -> String {
        let place = Place::of(&HostConfig { work_dir: "/srv/ci".into(), ..HostConfig::new("ci@box") });
        let mut facts = Facts::parse(facts);
        facts.clock_ahead = clock_ahead;
        let cancel = CancelToken::new().unwrap();
        let mut silence = |_: &Check| {};
        let destination = Some("ci@box".to_owned());
        let mut visit = Visit { destination, cancel: &cancel, tell: &mut silence, checks: Vec::new() };
        check(&mut visit, &place, &facts, &[PathBuf::from("/nowhere")]);
        visit.checks.into_iter().fold(String::new(), |mut out, check| {
            let _ = writeln!(out, "{:?} {}: {}", check.standing, check.check, check.found);
            if let Some(mend) = check.mend {
                let _ = writeln!(out, "    {mend}");
            }
            out
        })
    }

    #[test]
    fn what_a_machine_lacks_is_told_with_the_command_that_mends_it() {
        let facts = "account=ci\nuid=1000\narch=riscv64\ndir=absent\nup=/srv\ndisk=20971520 5242879\n";
        insta::assert_snapshot!(told(facts, -61.4), @r"
        Problem work_dir: the work directory /srv/ci cannot be made: ci may not write to /srv
            ssh -t ci@box 'sudo install -d -m 0700 -o ci /srv/ci'
        Problem disk: 5.0 GiB of 20.0 GiB are free for the work directory; below 5.0 GiB no run begins
            ssh ci@box 'df -h /srv'
        Problem clock: its clock is 61 s behind this one
            ssh -t ci@box 'sudo timedatectl set-ntp true'
        Problem runner: there is no jerichoci-incus-run for riscv64 to run jobs with: none in /nowhere
            scripts/build-guest --arch riscv64, in the source tree of Jericho CI
        Note nix: there is no program nix; jobs with prepared outputs or a dev shell need it
            https://nixos.org/download, or nix-bin of the distribution
        ");
    }

    #[test]
    fn an_account_that_cannot_write_to_its_directory_is_told() {
        let facts = "account=ci\nuid=1000\narch=x86_64\ndir=directory\nowner=1000\nowner_name=ci\nmode=700\nup=/srv/ci\ndisk=20971520 5242880\nnix=nix (Nix) 2.24\n";
        insta::assert_snapshot!(told(facts, 5.0), @r"
        Problem work_dir: ci may not write to the work directory /srv/ci
            ssh -t ci@box 'sudo install -d -m 0700 -o ci /srv/ci'
        Ok disk: 5.0 GiB of 20.0 GiB are free for the work directory
        Ok clock: its clock and this one agree
        Problem runner: there is no jerichoci-incus-run for x86_64 to run jobs with: none in /nowhere
            scripts/build-guest --arch x86_64, in the source tree of Jericho CI
        Ok nix: nix (Nix) 2.24
        ");
    }

    #[test]
    fn what_is_not_said_is_no_reason_to_believe_that_all_is_well() {
        insta::assert_snapshot!(told("", 0.0), @r"
        Problem work_dir: nobody knows what /srv/ci is
            ssh ci@box 'ls -ld /srv/ci'
        Problem disk: nobody knows how much disk is free
            ssh ci@box 'df -Pk /'
        Ok clock: its clock and this one agree
        Problem runner: there is no jerichoci-incus-run for unknown to run jobs with: none in /nowhere
            scripts/build-guest --arch unknown, in the source tree of Jericho CI
        Note nix: there is no program nix; jobs with prepared outputs or a dev shell need it
            https://nixos.org/download, or nix-bin of the distribution
        ");
    }
}
