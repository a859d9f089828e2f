//! What runs on this host that a trace could be attached to: containers that docker, containerd, CRI-O, podman or
//! an OCI runtime alone started, units of systemd, other cgroups.
//!
//! No daemon is asked. Which processes belong together is told by the paths of their cgroups ([`path`]); names,
//! pods, images and how a thing is stopped by the files that the runtimes keep, which are found by the command
//! lines and working directories of their own processes ([`records`]), wherever they lie.

mod bundle;
mod container;
mod docker;
mod files;
mod list;
mod look;
mod path;
mod records;
mod reported;
mod roots;
mod supervisor;
mod table;
#[cfg(test)]
mod tests;
mod unit;
mod wanted;

pub use container::{Cgroup, Container, Kind, Parent, Pod};
pub use list::{List, list};
pub use look::Unread;
pub use reported::{Reported, reported};
pub use roots::Roots;
pub use wanted::{Error, Hit, Wanted, parse, resolve};
