//! The trace as JSON lines: what a trace file has, on any stream.

use std::io::{self, Write};

use serde::Serialize;

use crate::event::{Event, Lines};
use crate::trace::Output;
use crate::trace::{Footer, Header};

/// Writes each line of the trace, whole, at once.
#[derive(Debug)]
pub struct JsonLines<W> {
    out: W,
    lines: Lines,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            lines: Lines::default(),
        }
    }

    fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.out.write_all(&line)
    }
}

impl<W: Write> Output for JsonLines<W> {
    fn header(&mut self, header: &Header) -> io::Result<()> {
        self.write(header)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.out.write_all(self.lines.of(event)?)
    }

    fn footer(&mut self, footer: Option<&Footer>) -> io::Result<()> {
        if let Some(footer) = footer {
            self.write(footer)?;
        }
        self.out.flush()
    }

    /// Whoever watches sees all so far.
    fn tick(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
