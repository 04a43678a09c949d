//! What nobody needs: by lease first, then the least recently used, until the snapshots are within their budget.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use jericho_manifest::protocol::{Budget, Collect, Collected};
use jericho_manifest::{ContentHash, at};

use super::refused::Refused;
use super::{Receiver, used};

/// One snapshot, and what it costs.
struct Candidate {
    hash: ContentHash,
    leased: bool,
    used: (i64, i64),
}

pub(super) fn collect(receiver: &Receiver, wanted: &Collect) -> Result<Collected, Refused> {
    let (shelf, leases, work_dir) = (&receiver.shelf, &receiver.leases, &receiver.work_dir);
    let mut report = Collected::default();
    let total = work_dir.space()?.total;
    let budget = match wanted.budget {
        Budget::Bytes(bytes) => bytes,
        Budget::Percent(percent) => total / 100 * u64::from(percent.min(100)),
    };
    for hash in leases.hashes()? {
        let lock = work_dir.lock()?;
        let tidied = leases.tidy(&lock, &hash, &wanted.instances, wanted.dry_run)?;
        report.dead_leases += tidied.dead;
        report.projects.extend(tidied.projects);
    }
    report.projects.sort();
    report.projects.dedup();
    let leased = |hash: &ContentHash| -> Result<bool, Refused> {
        Ok(leases.tidy(&work_dir.lock()?, hash, &wanted.instances, true)?.leased)
    };
    let mut candidates = Vec::new();
    let mut at_most = Some(0u64);
    for hash in shelf.hashes()? {
        let (used, bytes) = shelf.open_snapshot(&hash).map_or(((0, 0), None), used::last_used);
        at_most = at_most.zip(bytes).map(|(sum, bytes)| sum.saturating_add(bytes));
        candidates.push(Candidate { hash, leased: leased(&hash)?, used });
    }
    if let Some(at_most) = at_most.filter(|&at_most| at_most <= budget) {
        // Nothing has to go, so that nothing has to be counted.
        (report.used, report.kept) = (at_most, candidates.len() as u64);
        report.leased = candidates.iter().filter(|one| one.leased).count() as u64;
        candidates.clear();
    }
    // What stays comes first, so that a file counts for the last tree that would lose it.
    candidates.sort_by_key(|one| std::cmp::Reverse((one.leased, one.used, one.hash)));
    let mut counted = HashSet::new();
    for candidate in candidates {
        let bytes = disk_use(receiver.shelf.open_snapshot(&candidate.hash).ok(), &mut counted);
        let fits = report.used.saturating_add(bytes) <= budget;
        if candidate.leased || fits {
            report.used += bytes;
            report.kept += 1;
            report.leased += u64::from(candidate.leased);
            continue;
        }
        if !wanted.dry_run {
            // Somebody may have leased it since.
            let lock = work_dir.lock()?;
            if leases.tidy(&lock, &candidate.hash, &wanted.instances, true)?.leased {
                (report.used, report.kept) = (report.used + bytes, report.kept + 1);
                report.leased += 1;
                continue;
            }
            shelf.set_aside(&lock, &candidate.hash)?;
        }
        report.removed.push(candidate.hash);
        report.freed += bytes;
    }
    let aside = if wanted.dry_run { 0 } else { report.removed.len() as u64 };
    report.leftovers = shelf.sweep(work_dir, leases, wanted.dry_run)?.saturating_sub(aside);
    let space = work_dir.space()?;
    (report.free, report.total) = (space.free, space.total);
    Ok(report)
}

/// Bytes on disk of what was not counted yet: trees share files. What cannot be read counts as nothing.
pub(super) fn disk_use(dir: Option<OwnedFd>, counted: &mut HashSet<(u64, u64)>) -> u64 {
    let mut bytes = 0;
    let mut waiting = Vec::from_iter(dir);
    while let Some(dir) = waiting.pop() {
        for name in at::names_in(&dir).unwrap_or_default() {
            let Ok(stat) = at::lstat(&dir, &name) else { continue };
            let is_dir = at::kind_of(&stat) == rustix::fs::FileType::Directory;
            if is_dir || stat.st_nlink < 2 || counted.insert((stat.st_dev, stat.st_ino)) {
                bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
            if is_dir {
                waiting.extend(at::open_dir(dir.as_fd(), &name));
            }
        }
    }
    bytes
}
