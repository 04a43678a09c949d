//! What lstat says about a file, as far as it shows that the file is still the same.

use rustix::fs::{RawMode, Stat};

/// In a second.
const NANOS: i64 = 1_000_000_000;

/// A file that changed less than this before it was looked at could change again without a
/// different time: the clock of a file system advances in ticks of up to 10 ms.
const TICK_NS: i64 = 10_000_000;

/// The same where times are whole seconds.
const COARSE_TICK_NS: i64 = 2 * NANOS;

/// Identity of one state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StatKey {
    pub(crate) size: u64,
    pub(crate) mtime: i64,
    pub(crate) ctime: i64,
    pub(crate) inode: u64,
    pub(crate) mode: u32,
}

impl StatKey {
    pub(crate) const ENCODED: usize = 36;

    #[expect(clippy::unnecessary_cast, reason = "the fields have other types on other systems")]
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            size: stat.st_size as u64,
            mtime: nanos(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime: nanos(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            inode: stat.st_ino as u64,
            mode: stat.st_mode as u32,
        }
    }

    /// Whether this state, seen at or after `seen` (ns since 1970), will differ from any later
    /// one.
    pub(crate) fn is_settled(&self, seen: i64) -> bool {
        let newest = self.mtime.max(self.ctime);
        let coarse = self.mtime % NANOS == 0 && self.ctime % NANOS == 0;
        newest < seen.saturating_sub(if coarse { COARSE_TICK_NS } else { TICK_NS })
    }

    /// Whether its owner may execute it.
    pub(crate) fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    /// Kind and permissions, for [`rustix`].
    pub(crate) fn raw_mode(&self) -> RawMode {
        self.mode as RawMode
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.mtime.to_le_bytes());
        out.extend_from_slice(&self.ctime.to_le_bytes());
        out.extend_from_slice(&self.inode.to_le_bytes());
        out.extend_from_slice(&self.mode.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8; Self::ENCODED]) -> Self {
        let word = |at: usize| {
            let mut word = [0u8; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Self {
            size: word(0),
            mtime: word(8) as i64,
            ctime: word(16) as i64,
            inode: word(24),
            mode: u32::from_le_bytes([bytes[32], bytes[33], bytes[34], bytes[35]]),
        }
    }
}

fn nanos(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(NANOS).saturating_add(nanos)
}

/// Wall time in ns since 1970.
pub(crate) fn wall_ns(clock: &dyn jericho_host::Clock) -> i64 {
    clock.now().timestamp_nanos_opt().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const SEEN: i64 = 1_700_000_000 * NANOS + 123;

    fn key(mtime: i64, ctime: i64) -> StatKey {
        StatKey { size: 1, mtime, ctime, inode: 7, mode: 0o100_644 }
    }

    #[test]
    fn a_file_is_trusted_only_when_it_is_older_than_a_tick() {
        assert!(key(SEEN - 11 * MS, SEEN - 11 * MS).is_settled(SEEN));
        assert!(!key(SEEN - 9 * MS, SEEN - 900 * MS).is_settled(SEEN));
        assert!(!key(SEEN - 900 * MS, SEEN - 9 * MS).is_settled(SEEN), "the time of change counts too");
        assert!(!key(SEEN + 900 * MS, SEEN - 900 * MS).is_settled(SEEN), "nothing from the future");
    }

    #[test]
    fn whole_seconds_need_two_of_them() {
        let second = |ago: i64| (SEEN / NANOS - ago) * NANOS;
        assert!(!key(second(1), second(1)).is_settled(SEEN));
        assert!(key(second(3), second(3)).is_settled(SEEN));
    }

    #[test]
    fn another_inode_is_another_file_and_every_field_survives() {
        let one = key(1, -2);
        assert_ne!(one, StatKey { inode: 8, ..one });
        let mut bytes = Vec::new();
        one.encode(&mut bytes);
        assert_eq!(StatKey::decode(bytes.first_chunk().unwrap()), one);
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| {
            std::fs::write(dir.path().join(name), "x").unwrap();
            StatKey::of(&rustix::fs::lstat(dir.path().join(name)).unwrap()).inode
        };
        assert_ne!(of("a"), of("b"));
    }
}
