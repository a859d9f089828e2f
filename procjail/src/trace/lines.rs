//! The lines of a trace file, decompressed.

use std::io::{self, BufRead, BufReader, Read};

use super::ReadError;

/// Longest line that is read; a trace's are far shorter.
const LINE_BYTES: u64 = 16 << 20;

/// First bytes of a Zstandard frame (RFC 8878).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The lines of a file, decompressed.
pub(super) struct Lines {
    input: Box<dyn BufRead + Send>,
    pub(super) name: String,
    /// Number of the line that was read last, from 1.
    pub(super) number: u64,
    pub(super) line: Vec<u8>,
}

/// What [`Lines::next_line`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, now in [`Lines::line`].
    Whole,
    /// The input ended within it.
    Cut,
    /// There are no more.
    End,
}

impl Lines {
    pub(super) fn new(input: impl Read + Send + 'static, name: &str) -> Result<Self, ReadError> {
        let failed = |error| ReadError::Read {
            name: name.to_owned(),
            line: 0,
            error,
        };
        let mut input = BufReader::with_capacity(1 << 18, input);
        let mut magic = Vec::new();
        input
            .by_ref()
            .take(ZSTD_MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(failed)?;
        let compressed = magic == ZSTD_MAGIC;
        let input = io::Cursor::new(magic).chain(input);
        let input: Box<dyn BufRead + Send> = if compressed {
            let decoder = zstd::Decoder::with_buffer(input).map_err(failed)?;
            Box::new(BufReader::with_capacity(1 << 18, decoder))
        } else {
            Box::new(input)
        };
        Ok(Self {
            input,
            name: name.to_owned(),
            number: 0,
            line: Vec::new(),
        })
    }

    pub(super) fn next_line(&mut self) -> Result<Line, ReadError> {
        self.line.clear();
        let read = self
            .input
            .by_ref()
            .take(LINE_BYTES)
            .read_until(b'\n', &mut self.line);
        match read {
            Ok(_) => {}
            // A compressed file that was cut off: what could be decoded before is there.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Line::Cut),
            Err(error) => {
                return Err(ReadError::Read {
                    name: self.name.clone(),
                    line: self.number,
                    error,
                });
            }
        }
        if self.line.is_empty() {
            return Ok(Line::End);
        }
        self.number += 1;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
            return Ok(Line::Whole);
        }
        if self.line.len() as u64 >= LINE_BYTES {
            return Err(ReadError::Line {
                name: self.name.clone(),
                line: self.number,
                detail: format!("longer than {} MiB", LINE_BYTES >> 20),
            });
        }
        Ok(Line::Cut)
    }
}
