//! An event as a line of JSON, as trace files have it.

use std::io::{self, Write};

use super::{Event, Recent, What};

/// Makes lines, quickly of events in a storm.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    /// Of the lines of a storm, what comes between the time and what differs again.
    recent: Recent<Vec<u8>>,
    /// What comes before and after that.
    ends: (Vec<u8>, Vec<u8>),
}

impl Lines {
    /// The line of an event, with its line feed.
    ///
    /// # Errors
    ///
    /// None that an event can cause.
    pub fn of(&mut self, event: &Event) -> io::Result<&[u8]> {
        self.line.clear();
        let Some(recent) = self.recent.like(event) else {
            serde_json::to_writer(&mut self.line, event)?;
            self.line.push(b'\n');
            return Ok(&self.line);
        };
        let (start, end) = &mut self.ends;
        ends(event, start, end)?;
        match recent {
            Some(middle) => {
                self.line.extend_from_slice(start);
                self.line.extend_from_slice(middle);
                self.line.extend_from_slice(end);
            }
            None => {
                serde_json::to_writer(&mut self.line, event)?;
                let middle = self.line.strip_prefix(start.as_slice());
                *recent = middle
                    .and_then(|middle| middle.strip_suffix(end.as_slice()))
                    .map(<[u8]>::to_vec);
            }
        }
        self.line.push(b'\n');
        Ok(&self.line)
    }
}

/// How a signal's line begins, and how it ends.
fn ends(event: &Event, start: &mut Vec<u8>, end: &mut Vec<u8>) -> io::Result<()> {
    start.clear();
    write!(
        start,
        "{{\"seq\":{},\"time_ns\":{},",
        event.seq, event.time_ns
    )?;
    end.clear();
    let What::SignalDelivered(delivered) = &event.what else {
        return Ok(());
    };
    let mut field = |name: &str, value: Option<u64>| match value {
        Some(value) => write!(end, ",\"{name}\":{value}"),
        None => write!(end, ",\"{name}\":null"),
    };
    field("latency_ns", delivered.latency_ns)?;
    field("generated_seq", delivered.generated_seq)?;
    end.extend_from_slice(b"}}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::story;

    #[test]
    fn a_line_is_the_same_as_if_it_were_made_alone() {
        let (events, _) = story::trace();
        let mut lines = Lines::default();
        let mut put_together = 0;
        for round in 0..3 {
            for event in &events {
                let mut event = event.clone();
                event.seq += round * 1_000_000;
                event.time_ns += round * 7;
                if let What::SignalDelivered(delivered) = &mut event.what {
                    delivered.generated_seq = (round == 1).then_some(event.seq - 1);
                }
                let mut alone = serde_json::to_vec(&event).expect("JSON");
                alone.push(b'\n');
                // Often enough for each to be the third of its kind.
                for _ in 0..3 {
                    assert_eq!(lines.of(&event).expect("a line"), alone);
                }
                put_together += usize::from(matches!(lines.recent.like(&event), Some(Some(_))));
            }
        }
        assert!(put_together > 10);
    }
}
