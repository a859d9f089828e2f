//! What a jail left behind, and what uses a mount that could not be unmounted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Errno, Task};

/// What was left of the jail after its removal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeakCheck {
    /// How long it took to look, nanoseconds.
    pub duration_ns: u64,
    /// What was not looked at, and why; empty if everything was.
    pub incomplete: Vec<String>,
    /// Mounts of the jail that another mount namespace has.
    pub mounts: Vec<LeakedMount>,
    /// Namespaces of the jail that still exist.
    pub namespaces: Vec<PinnedNamespace>,
    /// Cgroups of the jail that still exist.
    pub cgroups: Vec<LeftCgroup>,
    /// Hierarchies that have more removed cgroups which the kernel still keeps than at the start.
    pub dying: Vec<DyingCgroups>,
    /// File systems in memory (tmpfs) of the host that hold more than before the jail; null where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown: Option<Vec<GrownTmpfs>>,
    /// Processes that were in the jail's cgroup when its PID 1, and with it its PID namespace, was gone:
    /// they had joined from outside.
    pub joined: Vec<Task>,
    /// Processes that were seen in the jail's PID namespace, and not in its cgroup: no event tells what they did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entered: Vec<Task>,
    /// Processes of the jail that waited long for the answer of a FUSE daemon or a file server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waited: Vec<KernelWait>,
    /// Processes that hold the jail's standard output or error open, and that neither were there before
    /// it nor belong to the launcher's session.
    pub output: Vec<OutputHolder>,
}

impl LeakCheck {
    /// Something was left. Removed cgroups that the kernel keeps don't count: it does for a while.
    pub fn found_any(&self) -> bool {
        !(self.mounts.is_empty()
            && self.namespaces.is_empty()
            && self.cgroups.is_empty()
            && self.joined.is_empty()
            && self.output.is_empty())
    }
}

/// A mount as proc_pid_mountinfo(5) has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MountEntry {
    /// Device of the file system: major and minor number.
    pub device: String,
    /// Directory of the file system that is mounted.
    pub root: String,
    /// Where, as its namespace sees it.
    pub target: String,
    /// Type of file system.
    pub fs_type: String,
    /// What is mounted, as it was named.
    pub source: String,
    /// Peer group that it passes mounts to and gets mounts from; null if it is in none.
    pub shared: Option<u32>,
    /// Peer group that it gets mounts from only; null for none.
    pub master: Option<u32>,
}

/// A mount of the jail in another mount namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeakedMount {
    /// The mount there.
    pub mount: MountEntry,
    /// Inode number of that mount namespace.
    pub namespace: u64,
    /// It is the launcher's.
    pub launchers: bool,
    /// Processes in that namespace: the first ones.
    pub holders: Vec<Task>,
    /// How many there are.
    pub holder_count: u64,
    /// The same mount was seen inside the jail. If not, it only came up while the jail ran.
    pub seen_in_jail: bool,
}

/// A namespace of the jail that still exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PinnedNamespace {
    /// Kind, as in `/proc/PID/ns`: `mnt`, `net`, `pid`, ….
    pub kind: String,
    /// Inode number.
    pub inode: u64,
    /// What keeps it: the first ones.
    pub pins: Vec<Pin>,
    /// How many there are.
    pub pin_count: u64,
}

/// What keeps a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pin {
    /// How.
    pub by: PinKind,
    /// The process; for a bind mount one that sees it.
    pub process: Task,
    /// Where it is bound, or the descriptor's number.
    pub place: String,
}

/// How a namespace is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PinKind {
    /// A process is in it.
    Process,
    /// A file of nsfs is bound somewhere.
    BindMount,
    /// A process has a descriptor of it.
    Descriptor,
}

/// A cgroup of the jail that still exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftCgroup {
    /// Its controllers on v1; empty for the unified hierarchy.
    pub controllers: Vec<String>,
    /// Path below the hierarchy's root.
    pub path: String,
    /// Processes in it and below: the first ones.
    pub members: Vec<Task>,
}

/// Removed cgroups that the kernel still keeps, in one hierarchy of the whole host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DyingCgroups {
    /// The v1 controller; empty for the unified hierarchy.
    pub controller: String,
    /// How many at the start.
    pub before: u64,
    /// How many now, at most a few milliseconds after the removal.
    pub after: u64,
}

/// A tmpfs of the host that holds more than before the jail, whoever wrote there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrownTmpfs {
    /// Where it is mounted.
    pub target: String,
    /// Memory in use before the jail.
    pub before_bytes: u64,
    /// Memory in use after its removal.
    pub after_bytes: u64,
}

/// A process that was seen waiting at one place in the kernel, look after look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelWait {
    /// Which.
    pub process: Task,
    /// Where, as `/proc/PID/wchan` has it.
    pub place: String,
    /// For how long at least, nanoseconds.
    pub waited_ns: u64,
}

/// A process that holds an output of the jail open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputHolder {
    /// Which.
    pub process: Task,
    /// Its descriptor.
    pub descriptor: u32,
    /// What that is, such as `pipe:[4711]`.
    pub file: String,
}

/// What a dead launcher had left of a jail: found, killed and removed before this jail was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leftover {
    /// Name of that jail; this jail's own if the same was started before.
    pub name: String,
    /// Its cgroup, an absolute path of the host.
    pub cgroup: String,
    /// Processes that lived in it: the first ones. They were killed.
    pub processes: Vec<Task>,
    /// How many there were.
    pub process_count: u64,
    /// The cgroup is gone. Where it isn't, what was killed had not ended yet.
    pub removed: bool,
}

/// Mounts that vanished with the jail's mount namespaces, as they were last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImplicitUnmounts {
    /// Inode number of the mount namespace.
    pub namespace: u64,
    /// When its mounts were read, CLOCK_BOOTTIME nanoseconds: what was mounted later isn't here.
    pub seen_ns: u64,
    /// The mounts that the host doesn't have.
    pub mounts: Vec<MountEntry>,
    /// There are more.
    pub truncated: bool,
    /// When the kernel told of the last unmount, CLOCK_BOOTTIME nanoseconds; null where it doesn't tell
    /// (before Linux 6.15), and for namespaces that the jail's processes made themselves.
    pub gone_ns: Option<u64>,
    /// How many mounts it told of, those included that the host has too; null as above.
    pub unmounted: Option<u64>,
    /// From then until PID 1's end was seen, nanoseconds: the file systems were put away in that time. Null
    /// as above, and if the namespace outlived PID 1.
    pub took_ns: Option<u64>,
}

/// What uses a mount that was not unmounted, or only lazily; read right after the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MountUse {
    /// Who called umount2(2).
    pub caller: Task,
    /// What it was to unmount.
    pub target: String,
    /// Why it failed; null for a lazy unmount (`MNT_DETACH`) that worked.
    pub error: Option<Errno>,
    /// The caller's mount namespace has a mount there.
    pub is_mount: bool,
    /// Inode number of the caller's mount namespace.
    pub namespace: u64,
    /// The caller's user namespace is not the one of procjail.
    pub other_user_namespace: bool,
    /// Processes of the jail that use it: the first ones.
    pub users: Vec<MountUser>,
    /// Mounts below it.
    pub nested: Vec<String>,
    /// Other mount namespaces in the jail that have the same mount.
    pub copies: Vec<u64>,
}

/// A use of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MountUser {
    /// Who.
    pub process: Task,
    /// How: `cwd`, `root`, `exe`, `map`, or `fd N`.
    pub how: String,
    /// The file, as its link in procfs reads.
    pub path: String,
}
