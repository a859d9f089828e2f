//! What a jail leaves: mounts in other namespaces, namespaces that something pins, cgroups that can't be
//! removed, and who holds them.
//!
//! [`Seen`] is the host before the jail, and what the jail had, looked at while it lived; [`Watch`] looks,
//! and at the end compares. `procjail run` only looks at the mounts of the host, where a jail can leave
//! any.

mod cgroups;
mod check;
mod entered;
mod identity;
mod notices;
mod seen;
mod umount;
mod waits;
mod watch;
mod words;

use crate::jail::Plan;

pub use check::new_mounts_here;
pub use seen::Seen;
pub use umount::Unmount;
pub use watch::{Bell, Watch};
pub use words::sentences;

/// Whether mounts made in the jail are passed to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// By `--propagation shared`.
    ToHost,
    /// Not at all.
    Nowhere,
}

impl Passing {
    /// That of a plan.
    pub fn of(plan: &Plan) -> Passing {
        match plan.passes_mounts() {
            true => Passing::ToHost,
            false => Passing::Nowhere,
        }
    }
}
