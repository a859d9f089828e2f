//! The host's cgroups: which hierarchies there are, their directories and files, and what is done to a cgroup with
//! everything below it. See cgroups(7).

mod dir;
mod error;
mod host;
pub(crate) mod tree;
mod view;

pub(crate) use dir::Dir;
pub use error::Error;
#[cfg(test)]
pub(crate) use host::tests as hosts;
pub use host::{HostCgroups, Mode, V1Mount};
pub use view::{Hierarchy, LevelDir, View};
pub(crate) use view::{levels, membership};

/// The directory that all jails are in, in each hierarchy.
pub const PARENT: &str = "procjail";
