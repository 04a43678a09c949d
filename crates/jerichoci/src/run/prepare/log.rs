//! The log of one prepare node: what the build says, as it says it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use jericho_host::OutputSink;
use jericho_host::secrets::{MaskStream, Masker};

use crate::executor::JobLog;
use crate::run::logs::LogWriter;

/// A log that masks secrets, where there are any.
pub(super) struct PrepareLog<'a> {
    writer: LogWriter,
    masker: Option<&'a Arc<Masker>>,
    mask: Option<MaskStream>,
}

impl<'a> PrepareLog<'a> {
    pub(super) fn create(path: &Path, cap: u64, masker: Option<&'a Arc<Masker>>) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mask = masker.map(|masker| MaskStream::new(Arc::clone(masker)));
        Ok(Self { writer: LogWriter::create(path, cap)?, masker, mask })
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.let_by()?;
        self.writer.finish().map(drop)
    }

    /// Writes what was held back because it might have been the beginning of a secret.
    fn let_by(&mut self) -> io::Result<()> {
        let writer = &mut self.writer;
        self.mask.as_mut().map_or(Ok(()), |mask| mask.finish(&mut |bytes| writer.write(bytes)))
    }
}

impl OutputSink for PrepareLog<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writer = &mut self.writer;
        match &mut self.mask {
            None => writer.write(bytes),
            Some(mask) => mask.push(bytes, &mut |bytes| writer.write(bytes)),
        }
    }
}

impl JobLog for PrepareLog<'_> {
    fn engine_line(&mut self, line: &str) -> io::Result<()> {
        self.let_by()?;
        match self.masker {
            None => self.writer.engine_line(line),
            Some(masker) => self.writer.engine_line(&masker.text(line)),
        }
    }
}
