//! Reading a trace: plain or compressed, whole or cut off.
//!
//! A trace whose writer was killed, or whose disk was full, ends somewhere. All of it up to the last
//! whole line is read, and [`Reader::missing`] says that and where it ends. Damage anywhere else is
//! an error that names the line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::condense::Condensed;
use super::{FORMAT_NAME, FORMAT_VERSION, Footer, Header};
use crate::event::Event;
use crate::names;

/// Longest line that is read; a trace's are far shorter.
const LINE_BYTES: u64 = 16 << 20;

/// How the last line begins.
const FOOTER: &[u8] = b"{\"footer\":";

/// First bytes of a Zstandard frame (RFC 8878).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened.
    #[error("cannot open {name}: {}", names::io_error(error))]
    Open {
        /// The file.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The file could be opened but not read.
    #[error("cannot read {name} after line {line}: {}", names::io_error(error))]
    Read {
        /// The file.
        name: String,
        /// Last line that was read.
        line: u64,
        /// What the kernel or the decompressor said.
        error: io::Error,
    },
    /// There is nothing in it.
    #[error("{name} is empty: it has not even the header of a trace")]
    Empty {
        /// The file.
        name: String,
    },
    /// It is something else.
    #[error("{name} is not a trace of procjail: {detail}")]
    Foreign {
        /// The file.
        name: String,
        /// What is wrong with the first line.
        detail: String,
    },
    /// It was written by a newer procjail.
    #[error(
        "{name} is a trace of format version {version}, written by procjail {procjail}; this is \
         procjail {} and reads versions up to {FORMAT_VERSION}: use a newer procjail",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The file.
        name: String,
        /// Version of its format.
        version: u64,
        /// Version of its writer.
        procjail: String,
    },
    /// A line is not what it should be.
    #[error("{name}, line {line}: {detail}")]
    Line {
        /// The file.
        name: String,
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong.
        detail: String,
    },
}

/// A trace that is being read: an iterator over its events.
pub struct Reader {
    lines: Lines,
    header: Header,
    footer: Option<Footer>,
    missing: Option<String>,
    events: u64,
    ended: bool,
}

/// Opens the trace in a file, or on standard input for `-`.
///
/// # Errors
///
/// See [`ReadError`].
pub fn open(path: &Path) -> Result<Reader, ReadError> {
    if path.as_os_str() == "-" {
        return Reader::new(io::stdin(), "standard input");
    }
    let name = path.display().to_string();
    let failed = |error| ReadError::Open {
        name: name.clone(),
        error,
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::Error::from_raw_os_error(libc::EISDIR)));
    }
    Reader::new(file, &name)
}

impl Reader {
    /// Reads a trace from `input`, which errors call `name`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn new(input: impl Read + 'static, name: &str) -> Result<Self, ReadError> {
        let mut lines = Lines::new(input, name)?;
        let header = match lines.next_line()? {
            Line::End => {
                return Err(ReadError::Empty {
                    name: name.to_owned(),
                });
            }
            Line::Whole => header(&lines.line, name)?,
            Line::Cut if lines.line.is_empty() => {
                return Err(ReadError::Empty {
                    name: name.to_owned(),
                });
            }
            Line::Cut => header(&lines.line, name).map_err(|error| match error {
                ReadError::Foreign { .. } if lines.line.starts_with(b"{\"format\":\"procjail") => {
                    ReadError::Foreign {
                        name: name.to_owned(),
                        detail: "its header is cut off".to_owned(),
                    }
                }
                error => error,
            })?,
        };
        Ok(Self {
            lines,
            header,
            footer: None,
            missing: None,
            events: 0,
            ended: false,
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The footer; `None` before the last event was read, and for a trace without one.
    pub fn footer(&self) -> Option<&Footer> {
        self.footer.as_ref()
    }

    /// After the last event: what the file lacks, in words; `None` if it is whole.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// The events without masses of the same: see [`Condensed`].
    pub fn condensed(&mut self) -> Condensed<'_> {
        Condensed::new(self)
    }

    fn next_event(&mut self) -> Result<Option<Event>, ReadError> {
        match self.next_entry()? {
            Entry::Line(line) => {
                let event = self.event_in(&line);
                self.give_back(line);
                event
            }
            Entry::Event(event) => Ok(Some(*event)),
            Entry::End => Ok(None),
        }
    }

    /// The next line that should be an event, not parsed yet.
    pub(super) fn next_entry(&mut self) -> Result<Entry, ReadError> {
        if self.ended {
            return Ok(Entry::End);
        }
        let entry = self.entry();
        self.ended = matches!(entry, Ok(Entry::End) | Err(_));
        entry
    }

    fn entry(&mut self) -> Result<Entry, ReadError> {
        match self.lines.next_line()? {
            Line::Whole if self.lines.line.starts_with(FOOTER) => {}
            Line::Whole => {
                self.events += 1;
                return Ok(Entry::Line(std::mem::take(&mut self.lines.line)));
            }
            Line::End => {
                self.missing = Some(self.without_footer(""));
                return Ok(Entry::End);
            }
            // The last line may be whole but for its end.
            Line::Cut => match parse(&self.lines.line) {
                Ok(Item::Footer(footer)) => {
                    self.footer = Some(*footer);
                    return Ok(Entry::End);
                }
                Ok(Item::Event(event)) => {
                    self.events += 1;
                    return Ok(Entry::Event(event));
                }
                Err(_) if self.lines.line.is_empty() => {
                    self.missing = Some(self.without_footer(""));
                    return Ok(Entry::End);
                }
                Err(_) => {
                    self.missing = Some(self.without_footer(", in the middle of a line"));
                    return Ok(Entry::End);
                }
            },
        }
        let line = std::mem::take(&mut self.lines.line);
        let entry = match self.event_in(&line)? {
            Some(event) => Entry::Event(Box::new(event)),
            None => Entry::End,
        };
        self.give_back(line);
        Ok(entry)
    }

    /// The event in a line; `None` if it is the footer.
    pub(super) fn event_in(&mut self, line: &[u8]) -> Result<Option<Event>, ReadError> {
        match parse(line) {
            Ok(Item::Event(event)) => Ok(Some(*event)),
            Ok(Item::Footer(footer)) => {
                self.footer = Some(*footer);
                self.ended = true;
                match self.lines.next_line()? {
                    Line::End => Ok(None),
                    // Only the end of the compressed frame is missing, which holds nothing.
                    Line::Cut if self.lines.line.is_empty() => Ok(None),
                    Line::Whole | Line::Cut => Err(self
                        .lines
                        .error("there is more after the footer".to_owned())),
                }
            }
            Err(error) => Err(self.lines.error(error)),
        }
    }

    /// Lets a line's memory be used again.
    pub(super) fn give_back(&mut self, line: Vec<u8>) {
        self.lines.line = line;
    }

    fn without_footer(&self, where_: &str) -> String {
        format!(
            "no footer: the file ends after {} events{where_}",
            self.events
        )
    }
}

impl Iterator for Reader {
    type Item = Result<Event, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_event().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// What comes next in a trace.
pub(super) enum Entry {
    /// A line that should be an event.
    Line(Vec<u8>),
    /// An event.
    Event(Box<Event>),
    /// No more events.
    End,
}

/// What a line after the header may be.
enum Item {
    Event(Box<Event>),
    Footer(Box<Footer>),
}

fn parse(line: &[u8]) -> Result<Item, String> {
    let text = std::str::from_utf8(line).map_err(|error| format!("not UTF-8: {error}"))?;
    let footer = || {
        serde_json::from_str::<Footer>(text)
            .map(Box::new)
            .map(Item::Footer)
    };
    if line.starts_with(FOOTER) {
        return footer().map_err(|error| error_text(&error));
    }
    match serde_json::from_str(text) {
        Ok(event) => Ok(Item::Event(Box::new(event))),
        // Another program may have put the footer's fields in another order.
        Err(error) => footer().map_err(|_| error_text(&error)),
    }
}

/// serde_json counts lines of its own input, which is one line.
fn error_text(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line 1 column ") {
        Some((what, column)) => format!("{what} (column {column})"),
        None => text,
    }
}

fn header(line: &[u8], name: &str) -> Result<Header, ReadError> {
    /// What every version of a header has.
    #[derive(Deserialize)]
    struct Version {
        format: Option<String>,
        version: Option<u64>,
        procjail: Option<String>,
    }
    let foreign = |detail: &str| ReadError::Foreign {
        name: name.to_owned(),
        detail: detail.to_owned(),
    };
    let version: Version = serde_json::from_slice(line)
        .map_err(|_| foreign("its first line is not the header of a trace"))?;
    if version.format.as_deref() != Some(FORMAT_NAME) {
        return Err(foreign(
            "its first line is JSON, but not the header of a trace",
        ));
    }
    let number = version
        .version
        .ok_or_else(|| foreign("its header has no version"))?;
    if number > u64::from(FORMAT_VERSION) {
        return Err(ReadError::Newer {
            name: name.to_owned(),
            version: number,
            procjail: version.procjail.unwrap_or_else(|| "?".to_owned()),
        });
    }
    let header = match number {
        1 => serde_json::from_slice(line).and_then(version_1),
        _ => serde_json::from_slice(line),
    };
    header.map_err(|error| ReadError::Line {
        name: name.to_owned(),
        line: 1,
        detail: format!("bad header: {}", error_text(&error)),
    })
}

/// The header of format version 1 as one of today's. It had the launcher's side among the jail's own, as there was no
/// trace without a launcher.
fn version_1(mut header: Value) -> serde_json::Result<Header> {
    if let Some(jail) = header.get_mut("jail").and_then(Value::as_object_mut) {
        let mut launcher = Map::new();
        for (old, new) in [
            ("launcher_pid", "pid"),
            ("plan", "plan"),
            ("stop_timeout_ns", "stop_timeout_ns"),
        ] {
            launcher.extend(jail.remove(old).map(|value| (new.to_owned(), value)));
        }
        let as_is = jail.remove("stop_as_is").unwrap_or(Value::Bool(false));
        launcher.insert("stop_as_is".to_owned(), as_is);
        jail.insert("launcher".to_owned(), Value::Object(launcher));
    }
    let header = serde_json::from_value(header)?;
    Ok(Header {
        version: FORMAT_VERSION,
        ..header
    })
}

/// The lines of a file, decompressed.
struct Lines {
    input: Box<dyn BufRead>,
    name: String,
    number: u64,
    line: Vec<u8>,
}

/// What [`Lines::next_line`] found.
enum Line {
    /// A line, now in [`Lines::line`].
    Whole,
    /// The input ended within it.
    Cut,
    /// There are no more.
    End,
}

impl Lines {
    fn new(input: impl Read + 'static, name: &str) -> Result<Self, ReadError> {
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
        let input: Box<dyn BufRead> = if compressed {
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

    fn next_line(&mut self) -> Result<Line, ReadError> {
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
            return Err(self.error(format!("longer than {} MiB", LINE_BYTES >> 20)));
        }
        Ok(Line::Cut)
    }

    fn error(&self, detail: String) -> ReadError {
        ReadError::Line {
            name: self.name.clone(),
            line: self.number,
            detail,
        }
    }
}
