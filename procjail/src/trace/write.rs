//! Writing a trace: one JSON object a line, plain or compressed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Footer, Header};
use crate::event::{Event, Lines};
use crate::names;
use crate::trace::Output;

/// Longest time that an event stays in memory.
pub const FLUSH_EVERY: Duration = Duration::from_millis(50);

/// Size of the buffer in front of the file.
const BUFFER_BYTES: usize = 1 << 18;

/// Level of compression. In a storm of signals 3, the default, takes half as long again, and gives a larger
/// file.
const LEVEL: i32 = 1;

/// Writes a trace.
///
/// The header is written through at once, so that a full disk shows before APP starts. Events are
/// buffered for at most [`FLUSH_EVERY`] (given that [`Output::tick`] is called), so that a SIGKILL of the
/// writer loses no more than that. Dropped without a footer, it writes what it has.
#[derive(Debug)]
pub struct Writer<W: Write> {
    sink: Sink<W>,
    name: PathBuf,
    lines: Lines,
    flushed: Instant,
    dirty: bool,
    finished: bool,
}

enum Sink<W: Write> {
    Plain(BufWriter<W>),
    Zstd {
        encoder: zstd::Encoder<'static, BufWriter<W>>,
        /// Lines for it: it takes twice as long for one at a time.
        gathered: Vec<u8>,
    },
}

impl<W: Write> Sink<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => return file.write_all(bytes),
            Self::Zstd { gathered, .. } => gathered.extend_from_slice(bytes),
        }
        self.hand_over(BUFFER_BYTES)
    }

    /// Lets the compressor have what was gathered, if it is so many bytes.
    fn hand_over(&mut self, least: usize) -> io::Result<()> {
        let Self::Zstd { encoder, gathered } = self else {
            return Ok(());
        };
        if gathered.len() < least {
            return Ok(());
        }
        let written = encoder.write_all(gathered);
        gathered.clear();
        written
    }

    /// Brings all so far into the file, so that a reader can decode it.
    fn flush(&mut self) -> io::Result<()> {
        self.hand_over(0)?;
        match self {
            Self::Plain(file) => file.flush(),
            Self::Zstd { encoder, .. } => encoder.flush(),
        }
    }

    /// The same, and nothing more may come.
    fn finish(&mut self) -> io::Result<()> {
        self.hand_over(0)?;
        match self {
            Self::Plain(file) => file.flush(),
            Self::Zstd { encoder, .. } => {
                encoder.do_finish()?;
                encoder.get_mut().flush()
            }
        }
    }
}

impl<W: Write> std::fmt::Debug for Sink<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Zstd { .. } => "Zstd",
        })
    }
}

/// Why a trace file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} trace file {}: {}{}", path.display(), names::io_error(error), advice(error))]
pub struct WriteError {
    action: &'static str,
    path: PathBuf,
    error: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "; make its directory first, or choose another place",
        Some(libc::EISDIR) => "; give the name of a file",
        Some(libc::ENOSPC | libc::EDQUOT) => "; make room, or choose another place with -o",
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => "; choose another place with -o",
        _ => "",
    }
}

impl From<WriteError> for io::Error {
    /// Keeps the kind, so that a broken pipe is still known as such.
    fn from(error: WriteError) -> Self {
        Self::new(error.error.kind(), error)
    }
}

impl Writer<File> {
    /// Creates the file, or empties the one that is there. A name that ends in `.zst` gives a
    /// compressed trace.
    ///
    /// # Errors
    ///
    /// What open(2) says.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        // The standard library opens with O_CLOEXEC, so the jail doesn't inherit it.
        let file = File::create(path).map_err(|error| WriteError {
            action: "create",
            path: path.to_owned(),
            error,
        })?;
        Self::new(file, path)
    }
}

impl<W: Write> Writer<W> {
    /// Writes to `inner`; `name` chooses compression and is what errors name.
    ///
    /// # Errors
    ///
    /// The compressor could not be set up.
    pub fn new(inner: W, name: &Path) -> Result<Self, WriteError> {
        let buffer = BufWriter::with_capacity(BUFFER_BYTES, inner);
        let sink = if name.extension().is_some_and(|extension| extension == "zst") {
            let encoder = zstd::Encoder::new(buffer, LEVEL).map_err(|error| WriteError {
                action: "compress",
                path: name.to_owned(),
                error,
            })?;
            Sink::Zstd {
                encoder,
                gathered: Vec::new(),
            }
        } else {
            Sink::Plain(buffer)
        };
        Ok(Self {
            sink,
            name: name.to_owned(),
            lines: Lines::default(),
            flushed: Instant::now(),
            dirty: false,
            finished: false,
        })
    }

    fn write_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.dirty = true;
        self.sink
            .write_all(&line)
            .map_err(|error| self.error(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        self.dirty = false;
        self.sink.flush().map_err(|error| self.error(error))
    }

    fn error(&self, error: io::Error) -> io::Error {
        WriteError {
            action: "write",
            path: self.name.clone(),
            error,
        }
        .into()
    }
}

impl<W: Write> Output for Writer<W> {
    fn header(&mut self, header: &Header) -> io::Result<()> {
        self.write_line(header)?;
        self.flush()
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.dirty = true;
        let line = self.lines.of(event)?;
        self.sink.write_all(line).map_err(|error| self.error(error))
    }

    fn footer(&mut self, footer: Option<&Footer>) -> io::Result<()> {
        if let Some(footer) = footer {
            self.write_line(footer)?;
        }
        self.finished = true;
        self.dirty = false;
        self.sink.finish().map_err(|error| self.error(error))
    }

    fn tick(&mut self) -> io::Result<()> {
        if self.dirty && self.flushed.elapsed() >= FLUSH_EVERY {
            self.flush()?;
        }
        Ok(())
    }
}

impl<W: Write> Drop for Writer<W> {
    fn drop(&mut self) {
        // A file without a footer is still as whole as it can be; there is nobody to tell if it isn't.
        if !self.finished {
            let _ = self.sink.finish();
        }
    }
}
