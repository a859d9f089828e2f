//! The jail: made, supervised and removed, without any knowledge of tracing.

pub mod cgroup;
mod outcome;
mod pidfd;
mod signals;
mod terminal;

pub use outcome::{Observer, Outcome, StopOptions};
pub use signals::Signals;
