//! Directory, disk, clock and programs of a machine.

use std::path::PathBuf;

use super::facts::Facts;
use super::{Place, Visit, quoted};

/// Below it no run begins.
const FLOOR: u64 = 5 << 30;

/// How far two clocks may be apart: leases and times of files are compared.
const SKEW_SECS: f64 = 5.0;

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
                visit.ok(CHECK, format!("{path} is made when it is needed"));
            } else {
                let mend = visit.as_root(facts, &make);
                let found =
                    format!("the {what} {path} cannot be made: {} may not write to {up}", facts.account());
                visit.problem(CHECK, found, mend);
            }
        }
        Some("directory") => existing(visit, place, facts, &make),
        _ => {
            visit.problem(CHECK, format!("nobody knows what {path} is"), visit.ssh(&format!("ls -ld {dir}")))
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
    } else {
        visit.ok(CHECK, format!("{path} belongs to {} alone", facts.account()));
    }
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
    if free < FLOOR {
        let mend = match visit.is_remote() {
            false => "pikaci gc --keep-runs 3".to_owned(),
            true => visit.ssh(&format!("df -h {up}")),
        };
        visit.problem(CHECK, format!("{found}; below 5.0 GiB no run begins"), mend);
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
