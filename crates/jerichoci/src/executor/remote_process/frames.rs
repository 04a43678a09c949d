//! What the runner of a host tells over its standard output, taken apart: a line of words, the last of which
//! says how many bytes follow it.

use jericho_host::{Conversation, HostError};

/// Longest first line of a frame.
const LONGEST_HEAD: usize = 200;
/// Most bytes taken at once.
const PIECE: usize = 256 << 10;

/// Why there is no frame.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The connection, or the caller's token.
    Host(HostError),
    /// The program has ended before it had said everything; what it said instead.
    Ended(String),
    /// It says what is no frame.
    Unreadable(String),
    /// Whoever takes a body cannot.
    Taker(HostError),
}

impl From<HostError> for FrameError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

/// The first line of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: String,
    /// Without the last one.
    pub(super) numbers: Vec<u64>,
    /// Bytes that follow.
    pub(super) bytes: u64,
}

impl Head {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        let kind = words.next().filter(|kind| !kind.is_empty())?.to_owned();
        let mut numbers = words.map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>()?;
        let bytes = numbers.pop()?;
        Some(Self { kind, numbers, bytes })
    }

    /// One of its numbers.
    pub(super) fn number(&self, index: usize) -> u64 {
        self.numbers.get(index).copied().unwrap_or(0)
    }
}

/// The frames of a program that runs at the other end.
pub(super) struct Frames<'host> {
    conversation: Conversation<'host>,
    buffer: Vec<u8>,
    /// From here on it was not taken yet.
    at: usize,
}

impl<'host> Frames<'host> {
    pub(super) fn new(conversation: Conversation<'host>) -> Self {
        Self { conversation, buffer: Vec::new(), at: 0 }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Waits for more. Nothing when there is no more.
    fn more(&mut self) -> Result<bool, FrameError> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
        let old = self.buffer.len();
        self.buffer.resize(old + PIECE, 0);
        let count = self.conversation.receive(&mut self.buffer[old..]);
        self.buffer.truncate(old + *count.as_ref().unwrap_or(&0));
        Ok(count? > 0)
    }

    /// The next frame. Its body has to be taken before the one after it.
    pub(super) fn head(mut self) -> Result<(Head, Self), FrameError> {
        loop {
            if let Some(end) = self.rest().iter().position(|byte| *byte == b'\n') {
                let line = self.rest()[..end].to_vec();
                self.at += end + 1;
                let unreadable = || FrameError::Unreadable(String::from_utf8_lossy(&line).into_owned());
                return Ok((Head::parse(&line).ok_or_else(unreadable)?, self));
            }
            if self.rest().len() > LONGEST_HEAD {
                let said = String::from_utf8_lossy(&self.rest()[..LONGEST_HEAD]).into_owned();
                return Err(FrameError::Unreadable(said));
            }
            if !self.more()? {
                return Err(self.ended());
            }
        }
    }

    /// Hands over a body in pieces as they come.
    pub(super) fn take(
        mut self,
        bytes: u64,
        taker: &mut dyn FnMut(&[u8]) -> Result<(), HostError>,
    ) -> Result<Self, FrameError> {
        let mut left = bytes;
        while left > 0 {
            if self.rest().is_empty() && !self.more()? {
                return Err(self.ended());
            }
            let count = self.rest().len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let piece = &self.buffer[self.at..self.at + count];
            taker(piece).map_err(FrameError::Taker)?;
            self.at += count;
            left -= count as u64;
        }
        Ok(self)
    }

    /// A whole body of at most a MiB.
    pub(super) fn body(self, bytes: u64) -> Result<(Vec<u8>, Self), FrameError> {
        if bytes > 1 << 20 {
            return Err(FrameError::Unreadable(format!("a frame of {bytes} bytes")));
        }
        let mut body = Vec::new();
        let this = self.take(bytes, &mut |piece| {
            body.extend_from_slice(piece);
            Ok(())
        })?;
        Ok((body, this))
    }

    /// Why nothing more comes.
    fn ended(self) -> FrameError {
        match self.conversation.finish() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
                FrameError::Ended(if said.is_empty() { format!("{:?}", output.exit) } else { said })
            }
            Err(error) => FrameError::Host(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_word_and_numbers() {
        let head = Head::parse(b"log 12 5").unwrap();
        assert_eq!((head.kind.as_str(), head.number(0), head.bytes), ("log", 12, 5));
        for line in [&b""[..], b"log", b"log x", b" 1", b"log 1 -2", b"log  1"] {
            assert_eq!(Head::parse(line), None, "{line:?}");
        }
    }
}
