//! What a user at a terminal sees while the rest of a long trace is written.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use crate::text;

/// Shorter waits are not worth a word.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often the line is renewed.
const PERIOD: Duration = Duration::from_millis(200);

/// One line on stderr that is rewritten, and removed in the end.
pub struct Progress {
    /// When the line is due; never where nobody would see it.
    next: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// A line that appears after a while, if it is `wanted` and stderr is a terminal.
    pub fn new(wanted: bool) -> Self {
        let visible = wanted && std::io::stderr().is_terminal();
        Self {
            next: visible.then(|| Instant::now() + PATIENCE),
            shown: false,
        }
    }

    /// Tells what is left.
    pub fn update(&mut self, left_bytes: usize) {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + PERIOD);
        self.shown = true;
        let left = text::bytes(left_bytes as u64);
        // A terminal that takes nothing is no reason to stop.
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[Kprocjail: writing the trace, {left} of events to go"
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
