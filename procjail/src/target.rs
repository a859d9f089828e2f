//! What a trace is of: a cgroup with everything below it, and the process that it is about.

use std::path::PathBuf;

use crate::cgroup::View;

/// A cgroup on the host, made by procjail or by others.
#[derive(Debug)]
pub struct Target {
    /// Host PID of the PID 1 of its PID namespace; 0 if it has none of its own.
    pub pid: u32,
    /// Its directory on the default hierarchy.
    pub cgroup: PathBuf,
    /// ID of that cgroup, as `bpf_get_current_cgroup_id` tells it.
    pub cgroup_id: u64,
    /// How deep it lies below the root of the hierarchy (0).
    pub cgroup_level: u32,
    /// Its directories in all hierarchies, and those above.
    pub view: View,
}
