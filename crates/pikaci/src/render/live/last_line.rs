//! The last line of a log that grows, for the eye.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use crate::render::tail::shown;

/// The line is looked for in at most this many bytes from the end.
const BYTES: u64 = 1024;

/// A log, and what was seen of it.
#[derive(Debug)]
pub(super) struct LastLine {
    log: PathBuf,
    seen: u64,
}

impl LastLine {
    pub(super) const fn of(log: PathBuf) -> Self {
        Self { log, seen: 0 }
    }

    /// The last line that has something on it, when the log has grown since this was asked.
    /// Looking at a log that has not costs one call of the system.
    pub(super) fn news(&mut self) -> Option<String> {
        let length = self.log.metadata().ok()?.len();
        if length == self.seen {
            return None;
        }
        self.seen = length;
        last_line(&mut File::open(&self.log).ok()?, length).ok()?
    }
}

fn last_line(file: &mut File, length: u64) -> io::Result<Option<String>> {
    let start = length.saturating_sub(BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    let lines = bytes.split(|byte| *byte == b'\n').rev();
    Ok(lines.map(shown).find(|line| !line.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_that_grows_has_news_once() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut line = LastLine::of(file.path().to_path_buf());
        assert_eq!(line.news(), None);
        file.write_all(b"first\nsecond\n\n").unwrap();
        assert_eq!(line.news().as_deref(), Some("second"));
        assert_eq!(line.news(), None);
        file.write_all(b"\x1b[31m 10%\r\x1b[2K 20%\r").unwrap();
        assert_eq!(line.news().as_deref(), Some(" 20%"));
        file.write_all(&[b'x'; 4000]).unwrap();
        assert_eq!(line.news().map(|line| line.len()), Some(1024));
    }

    #[test]
    fn a_log_that_is_not_there_has_none() {
        assert_eq!(LastLine::of(PathBuf::from("/nonexistent/log")).news(), None);
    }
}
