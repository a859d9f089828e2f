//! Mounts and cgroups.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Errno, Task};

/// A system call on mounts or namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mount {
    /// Name of the call, such as `mount` or `umount2`.
    pub call: String,
    /// Source, from-path or new root; empty if the call has none.
    pub source: String,
    /// Target, to-path or put-old; empty if the call has none.
    pub target: String,
    /// Type of file system; empty if the call has none.
    pub fs_type: String,
    /// Flags as given.
    pub flags: u64,
    /// Their names.
    pub flag_names: Vec<String>,
    /// The call's arguments that are numbers (descriptors), in order.
    pub args: Vec<u64>,
    /// What it returned; null if it never did.
    pub result: Option<i64>,
    /// Why it failed; null if it didn't.
    pub error: Option<Errno>,
    /// From entry to return, nanoseconds.
    pub duration_ns: u64,
}

/// A cgroup of the jail changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cgroup {
    /// How.
    pub change: CgroupChange,
    /// Path of the cgroup in its hierarchy.
    pub path: String,
    /// Who moved in; null unless `attach`.
    pub member: Option<Task>,
}

/// Changes of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupChange {
    /// A task moved in.
    Attach,
    /// The first task came.
    Populated,
    /// The last task left.
    Empty,
    /// All its tasks are frozen.
    Frozen,
    /// They run again.
    Thawed,
    /// It was made.
    Mkdir,
    /// It was removed.
    Rmdir,
    /// A value that this version doesn't know.
    Unknown,
}
