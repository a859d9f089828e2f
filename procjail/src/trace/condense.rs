//! Reading a trace without its masses: of signals that differ in nothing but their number and time, the
//! first few and the last.
//!
//! A storm of signals makes millions of lines, of which a reader who looks for causes needs a handful.
//! Lines are compared as they were written, which is many times faster than parsing them.

use super::ReadError;
use super::read::{Entry, Reader};
use crate::event::Event;

/// Of lines that are alike, so many are parsed from the first on.
const ALIKE: u64 = 8;
/// So many kinds of line are remembered. A storm has few.
const SHAPES: usize = 16;

/// Lines that are alike.
struct Shape {
    /// The part that they have in common.
    common: Vec<u8>,
    seen: u64,
    /// Order of use, for the choice of what is forgotten.
    used: u64,
    /// The last line that was left out.
    last: Vec<u8>,
}

/// The events of a trace without its masses: an iterator over events and how many more there were before
/// each that were just like it.
pub struct Condensed<'a> {
    reader: &'a mut Reader,
    shapes: Vec<Shape>,
    uses: u64,
}

impl<'a> Condensed<'a> {
    pub(super) fn new(reader: &'a mut Reader) -> Self {
        Self {
            reader,
            shapes: Vec::new(),
            uses: 0,
        }
    }

    /// Whether the line is one too many of its kind. If so it is noted.
    fn is_one_of_many(&mut self, line: &[u8]) -> bool {
        let Some(common) = common(line) else {
            return false;
        };
        self.uses += 1;
        if let Some(shape) = self.shapes.iter_mut().find(|shape| shape.common == common) {
            shape.used = self.uses;
            shape.seen += 1;
            if shape.seen <= ALIKE {
                return false;
            }
            shape.last.clear();
            shape.last.extend_from_slice(line);
            return true;
        }
        if self.shapes.len() >= SHAPES {
            let few = self.shapes.iter().enumerate();
            let oldest = few
                .filter(|(_, shape)| shape.last.is_empty())
                .min_by_key(|(_, shape)| shape.used);
            let Some((oldest, _)) = oldest else {
                return false;
            };
            self.shapes.swap_remove(oldest);
        }
        self.shapes.push(Shape {
            common: common.to_vec(),
            seen: 1,
            used: self.uses,
            last: Vec::new(),
        });
        false
    }
}

impl Iterator for Condensed<'_> {
    type Item = Result<(Event, u64), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.reader.next_entry() {
                Err(error) => return Some(Err(error)),
                Ok(Entry::Line(line)) => {
                    if !self.is_one_of_many(&line) {
                        let event = self.reader.event_in(&line);
                        self.reader.give_back(line);
                        match event {
                            Ok(Some(event)) => return Some(Ok((event, 0))),
                            Ok(None) => continue,
                            Err(error) => return Some(Err(error)),
                        }
                    }
                    self.reader.give_back(line);
                }
                Ok(Entry::Event(event)) => return Some(Ok((*event, 0))),
                // What is left: the last of each mass.
                Ok(Entry::End) => loop {
                    let shape = self.shapes.pop()?;
                    if !shape.last.is_empty() {
                        let omitted = shape.seen.saturating_sub(ALIKE + 1);
                        match self.reader.event_in(&shape.last) {
                            Ok(Some(event)) => return Some(Ok((event, omitted))),
                            Ok(None) => continue,
                            Err(error) => return Some(Err(error)),
                        }
                    }
                },
            }
        }
    }
}

/// The part of a signal's line that is the same in all of a mass: without number and time, and without
/// latency and the number of its cause. `None` for another event, or for a line that procjail did not
/// write so.
fn common(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let rest = rest.get(digits(rest)..)?.strip_prefix(b",\"time_ns\":")?;
    let rest = rest.get(digits(rest)..)?;
    // The kind comes after the task, whose name is the only part of any length.
    let head = rest.get(..rest.len().min(256))?;
    let mark = b"\"kind\":\"signal-";
    head.windows(mark.len()).position(|window| window == mark)?;
    let tail = rest.len().saturating_sub(64);
    let mark = b",\"latency_ns\":";
    let cut = rest
        .get(tail..)
        .and_then(|end| end.windows(mark.len()).position(|window| window == mark));
    rest.get(..cut.map_or(rest.len(), |cut| tail + cut))
}

fn digits(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count()
}
