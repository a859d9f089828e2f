//! Where a trace goes.

use std::io;

use super::{Footer, Header};
use crate::event::Event;

/// Where a trace goes: a file, a terminal, a pipe.
///
/// Called in the order header, events, footer. A broken pipe is an error of that kind and to be taken
/// as the reader's wish to see no more.
pub trait Output {
    /// The trace begins.
    ///
    /// # Errors
    ///
    /// The header could not be written.
    fn header(&mut self, header: &Header) -> io::Result<()>;

    /// When the gate opened: times are told relative to it. Only needed where the event of the gate
    /// itself is left out.
    fn origin(&mut self, _gate_ns: u64) {}

    /// One thing happened.
    ///
    /// # Errors
    ///
    /// The event could not be written.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// The trace is over; `None` if it ends without saying how.
    ///
    /// # Errors
    ///
    /// The footer, or what was held back before, could not be written.
    fn footer(&mut self, footer: Option<&Footer>) -> io::Result<()>;

    /// Time goes by: to be called at least once a second while nothing else is.
    ///
    /// # Errors
    ///
    /// What was held back could not be written.
    fn tick(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One of several outputs, whichever it is.
pub type BoxedOutput = Box<dyn Output + Send>;
