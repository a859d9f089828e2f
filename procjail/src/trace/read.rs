//! Reading a trace: plain or compressed, whole or cut off.
//!
//! A trace whose writer was killed, or whose disk was full, ends somewhere. All of it up to the last
//! whole line is read, and [`Reader::missing`] says that and where it ends. Damage anywhere else is
//! an error that names the line.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;

use super::lines::{Line, Lines};
use super::pool::Pool;
use super::{FORMAT_NAME, FORMAT_VERSION, Footer, Header};
use crate::event::Event;
use crate::names;

/// So many lines are read before help is called: most traces are shorter, and done sooner alone.
const ALONE: u64 = 4_000;

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
    source: Source,
    name: String,
    /// Number of the line that was taken last.
    line: u64,
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
    pub fn new(input: impl Read + Send + 'static, name: &str) -> Result<Self, ReadError> {
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
            source: Source::Alone(Some(lines)),
            name: name.to_owned(),
            line: 1,
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

    fn next_event(&mut self) -> Result<Option<Event>, ReadError> {
        match self.next_parsed()? {
            Parsed::Whole(Ok(Item::Event(event))) => {
                self.events += 1;
                Ok(Some(*event))
            }
            Parsed::Whole(Ok(Item::Footer(footer))) => {
                self.footer = Some(*footer);
                match self.next_parsed()? {
                    Parsed::End => Ok(None),
                    Parsed::Whole(_) | Parsed::Cut { .. } => {
                        Err(self.error("there is more after the footer".to_owned()))
                    }
                }
            }
            Parsed::Whole(Err(error)) => Err(self.error(error)),
            Parsed::End => {
                self.missing = Some(self.without_footer(""));
                Ok(None)
            }
            // The last line may be whole but for its end.
            Parsed::Cut { item, empty } => match item {
                Ok(Item::Footer(footer)) => {
                    self.footer = Some(*footer);
                    Ok(None)
                }
                Ok(Item::Event(event)) => {
                    self.events += 1;
                    Ok(Some(*event))
                }
                Err(_) => {
                    let within = if empty {
                        ""
                    } else {
                        ", in the middle of a line"
                    };
                    self.missing = Some(self.without_footer(within));
                    Ok(None)
                }
            },
        }
    }

    fn next_parsed(&mut self) -> Result<Parsed, ReadError> {
        if self.line > ALONE
            && let Source::Alone(lines) = &mut self.source
            && let Some(lines) = lines.take()
        {
            self.source = Source::Pool(Pool::start(lines));
        }
        let parsed = match &mut self.source {
            Source::Alone(Some(lines)) => Parsed::next(lines)?,
            Source::Alone(None) => Parsed::End,
            Source::Pool(pool) => pool.next()?,
        };
        self.line += u64::from(!matches!(parsed, Parsed::End));
        Ok(parsed)
    }

    fn error(&self, detail: String) -> ReadError {
        ReadError::Line {
            name: self.name.clone(),
            line: self.line,
            detail,
        }
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

/// Where lines come from.
enum Source {
    /// Read and parsed here.
    Alone(Option<Lines>),
    /// Read and parsed by other threads.
    Pool(Pool),
}

/// A line and what is in it.
pub(super) enum Parsed {
    /// A whole line.
    Whole(Result<Item, String>),
    /// The input ended within it; `empty` if before its first character.
    Cut {
        /// What is in it if it is whole but for its end.
        item: Result<Item, String>,
        /// Nothing at all is.
        empty: bool,
    },
    /// There are no more.
    End,
}

impl Parsed {
    /// The next line.
    pub(super) fn next(lines: &mut Lines) -> Result<Self, ReadError> {
        let kind = lines.next_line()?;
        Ok(Self::of(kind, &lines.line))
    }

    pub(super) fn of(kind: Line, line: &[u8]) -> Self {
        match kind {
            Line::Whole => Self::Whole(parse(line)),
            Line::Cut => Self::Cut {
                item: parse(line),
                empty: line.is_empty(),
            },
            Line::End => Self::End,
        }
    }
}

/// What a line after the header may be.
pub(super) enum Item {
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
    if text.starts_with("{\"footer\":") {
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
    serde_json::from_slice(line).map_err(|error| ReadError::Line {
        name: name.to_owned(),
        line: 1,
        detail: format!("bad header: {}", error_text(&error)),
    })
}
