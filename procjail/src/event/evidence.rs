//! Evidence: what a diagnosis needs beside the events themselves.
//!
//! Most of it is read from procfs, the cgroup file system and the kernel log at the moments that
//! matter, since a moment later it is gone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Errno, ProcessMemory, Signal, Syscall, Task};

/// Where the processor faulted: SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// `si_addr` of sigaction(2): the address accessed, or the instruction's; 0 if unknown.
    pub address: u64,
    /// The instruction.
    pub instruction: u64,
    /// The stack pointer.
    pub stack_pointer: u64,
    /// The bytes of the instruction and after it, 16 at most; empty if they were not read.
    #[serde(default)]
    pub code: Vec<u8>,
}

/// Where a thread is, innermost call first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stack {
    /// In the kernel.
    pub kernel: Vec<Frame>,
    /// In the program.
    pub user: Vec<Frame>,
}

/// One call of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// Address of the instruction; within the file if `module` is known and `symbol` isn't.
    pub address: u64,
    /// Function, if it is known.
    pub symbol: Option<String>,
    /// The file it lies in, or `build-id:` and the ID if only that is known; null for the kernel or if
    /// unknown.
    pub module: Option<String>,
}

/// What a module begins with if only its build ID is known.
const BUILD_ID: &str = "build-id:";

impl Frame {
    /// The module of a file of which only the build ID is known.
    pub fn unknown_file(build_id: &[u8]) -> String {
        let digits: Vec<String> = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{BUILD_ID}{}", digits.concat())
    }
}

/// Who the event's task is: a process outside the jail that signals one in it.
///
/// Recorded with its first signal, as such processes are often gone a millisecond later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sender {
    /// The program's file, an absolute path; empty if unknown.
    pub exe: String,
    /// Its arguments; empty if they could not be read.
    pub argv: Vec<String>,
    /// Effective user ID on the host.
    pub uid: u32,
    /// Its terminal, such as `pts3`; null for none.
    pub tty: Option<String>,
    /// Path of its cgroup on the default hierarchy; empty if unknown.
    pub cgroup: String,
    /// Its parent, that one's parent, and so on.
    pub parents: Vec<Ancestor>,
}

impl Sender {
    /// It is a thread of the kernel, which sends what a key at the terminal stands for.
    pub fn is_kernel_thread(&self) -> bool {
        let parent = self.parents.first();
        self.exe.is_empty()
            && self.argv.is_empty()
            && parent.is_some_and(|parent| parent.comm == "kthreadd")
    }
}

/// A process among another's ancestors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ancestor {
    /// Process ID on the host.
    pub pid: u32,
    /// Its name.
    pub comm: String,
}

/// The last system calls that failed in the event's task, a process that ended with an exit code other
/// than 0 or by a signal. Oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedCalls {
    /// The calls.
    pub calls: Vec<FailedCall>,
}

/// A system call that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedCall {
    /// Which.
    pub syscall: Syscall,
    /// Why.
    pub error: Errno,
    /// The path it was given. Of a write(2) that failed with EBUSY the file, its directory and name alone, such
    /// as `web/cgroup.procs`. Null for all others.
    pub path: Option<String>,
    /// Its first arguments, as numbers.
    pub args: Vec<u64>,
    /// Thread that called, on the host.
    pub tid: u32,
    /// How long before this event, nanoseconds.
    pub before_ns: u64,
    /// The address it was given (connect(2), bind(2)): `127.0.0.1:5432`, `unix:/run/x.sock`; null for none.
    #[serde(default)]
    pub address: Option<String>,
    /// Type of the file system that `path` lies on, such as `tmpfs`; null if it was not recorded.
    #[serde(default)]
    pub fs_type: Option<String>,
    /// How often the same call had failed with the same error just before; only of errors that matter.
    #[serde(default)]
    pub repeats: u32,
    /// Descriptors that the process had open, where that is what may have run out; null otherwise.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// Its `RLIMIT_NOFILE` then; null as above.
    #[serde(default)]
    pub nofile_limit: Option<u64>,
}

/// What the event's task, a process that ended with an exit code other than 0 or by a signal, wrote to file
/// descriptor 2 last, or to 1 while both were the same open file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StderrTail {
    /// The text; what is not UTF-8 is replaced.
    pub text: String,
    /// It had written more before that.
    pub truncated: bool,
    /// The beginning of what it wrote last without a pause, where `text` no longer has it; null otherwise.
    #[serde(default)]
    pub head: Option<String>,
    /// How long before this event it wrote last, nanoseconds.
    pub before_ns: u64,
}

/// Why a sample or a snapshot was taken.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// APP is about to start.
    Start,
    /// It was time, or memory had changed much.
    Sample,
    /// An OOM kill had just happened.
    OomKill,
    /// A stop was requested.
    StopRequested,
    /// Half of the grace period is over.
    StopHalf,
    /// The grace period is over: everything is about to be killed.
    StopDeadline,
    /// Teardown makes no progress.
    Stall,
    /// PID 1 has ended; the cgroup still exists.
    End,
}

/// The jail's memory at one moment, of its own cgroup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySample {
    /// Why it was taken.
    pub moment: Moment,
    /// In use, bytes (`memory.current`, v1 `memory.usage_in_bytes`).
    pub usage_bytes: u64,
    /// The nearest limit, its own or one above, bytes; null for none.
    pub limit_bytes: Option<u64>,
    /// What it is made of.
    pub kinds: MemoryKinds,
    /// Swap in use, bytes.
    pub swap_bytes: u64,
    /// `memory.events` (v1: `failcnt`, and what `memory.oom_control` has).
    pub events: BTreeMap<String, u64>,
    /// Time that all tasks were stalled on memory (`memory.pressure` full, total), microseconds; null
    /// where the kernel doesn't tell.
    pub stalled_us: Option<u64>,
    /// The processes that have most, largest first.
    pub processes: Vec<ProcessSample>,
}

/// Memory of a cgroup by kind (`memory.stat`), bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryKinds {
    /// Anonymous: heaps, stacks, and whatever else no file is behind.
    pub anon: u64,
    /// Cache of files, tmpfs and shared memory included.
    pub file: u64,
    /// tmpfs and shared memory.
    pub shmem: u64,
    /// The kernel's own: slab, page tables, stacks, per-CPU, vmalloc.
    pub kernel: u64,
    /// Buffers of sockets.
    pub sock: u64,
    /// Of the kernel's: slab that cannot be reclaimed.
    pub slab_unreclaimable: u64,
    /// Of the kernel's: slab that can.
    pub slab_reclaimable: u64,
    /// Of the kernel's: page tables.
    pub page_tables: u64,
    /// Of the kernel's: stacks of threads.
    pub kernel_stack: u64,
    /// Of the files: changed, not yet being written.
    pub file_dirty: u64,
    /// Of the files: being written.
    pub file_writeback: u64,
    /// Cannot be reclaimed (mlock(2) and the like).
    pub unevictable: u64,
    /// Pages of files read again soon after they had been dropped, count since the start
    /// (`workingset_refault_file`).
    pub refaults_file: u64,
    /// Pages looked at by reclaim, count since the start (`pgscan`).
    pub scanned: u64,
}

/// A process in a [`MemorySample`] or a [`KernelOom`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessSample {
    /// Which.
    pub process: Task,
    /// Its memory.
    pub memory: ProcessMemory,
    /// Its threads; 0 if unknown.
    pub threads: u32,
    /// `oom_score_adj`.
    pub oom_score_adj: i32,
    /// Variables of its environment that set the memory of a language's runtime, and no others.
    pub environment: BTreeMap<String, String>,
}

/// Counters of the jail's cgroup and of those above it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// Why they were read.
    pub moment: Moment,
    /// The jail's own first, the root last.
    pub levels: Vec<Level>,
}

/// A cgroup and its counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Level {
    /// Its path below the hierarchy's root.
    pub path: String,
    /// Name of the counter (file, a colon, key: `memory.events.local:oom`, `pids.events:max`,
    /// `cpu.stat:nr_throttled`; a file with one number has its own name: `memory.current`) to its value.
    /// A limit of `max` is left out. The names are those of cgroup v2 on v1 as well, where there is an
    /// equivalent (`memory.failcnt` has none).
    pub values: BTreeMap<String, u64>,
}

/// What the jail's tasks are doing at one moment (proc(5)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Why it was taken.
    pub moment: Moment,
    /// All threads of the jail, by PID and thread ID.
    pub threads: Vec<ThreadState>,
    /// There are more than were recorded.
    pub truncated: bool,
    /// The cgroup, its own or one above, that is frozen; null if none is.
    pub frozen: Option<String>,
    /// Throttling by the CPU limit so far (`cpu.stat`); null without one.
    pub cpu: Option<CpuThrottling>,
    /// How long teardown had made no progress, nanoseconds; null for any other moment than a stall.
    #[serde(default)]
    pub waited_ns: Option<u64>,
    /// What the processes have read, written and connected so far; empty if it was not recorded.
    #[serde(default)]
    pub processes: Vec<ProcessActivity>,
}

/// What a process has done so far (proc_pid_io(5)), and its sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessActivity {
    /// Host PID.
    pub pid: u32,
    /// Bytes read (`rchar`).
    pub read_bytes: u64,
    /// Bytes written (`wchar`).
    pub write_bytes: u64,
    /// Calls that read (`syscr`).
    pub read_calls: u64,
    /// Calls that write (`syscw`).
    pub write_calls: u64,
    /// Addresses that it listens on: `0.0.0.0:80`, `unix:/run/x.sock`.
    pub listening: Vec<String>,
    /// Peers of its connections.
    pub connected: Vec<String>,
}

/// How the CPU limit held the jail back, since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuThrottling {
    /// Periods in which it ran.
    pub periods: u64,
    /// Periods in which it had to stop.
    pub throttled_periods: u64,
    /// How long it had to, nanoseconds.
    pub throttled_ns: u64,
    /// CPU time used, nanoseconds.
    pub used_ns: u64,
}

/// A thread as procfs shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadState {
    /// Which.
    pub task: Task,
    /// One letter, as in proc_pid_stat(5): `R`, `S`, `D`, `T`, `t`, `Z`, ….
    pub state: String,
    /// Host PID of its parent.
    pub parent_pid: u32,
    /// Threads of its process.
    pub threads: u32,
    /// Host PID of its tracer; 0 for none.
    pub tracer_pid: u32,
    /// The kernel function it waits in; empty if it doesn't, or isn't told.
    pub wait_channel: String,
    /// The system call it is in; null for none or unknown.
    pub syscall: Option<Syscall>,
    /// Calls in the kernel, innermost first; empty if not told.
    pub stack: Vec<String>,
    /// Pending for the thread or its process.
    pub pending: Vec<Signal>,
    /// Blocked.
    pub blocked: Vec<Signal>,
    /// Ignored.
    pub ignored: Vec<Signal>,
    /// With a handler.
    pub caught: Vec<Signal>,
    /// A core dump is under way.
    pub core_dumping: bool,
    /// CPU time so far, nanoseconds; null if it was not recorded.
    #[serde(default)]
    pub cpu_ns: Option<u64>,
    /// Context switches so far; null if it was not recorded.
    #[serde(default)]
    pub switches: Option<u64>,
    /// Arguments of that call; empty if there is none or they were not recorded.
    #[serde(default)]
    pub arguments: Vec<u64>,
    /// Stack pointer in user space: the same place in the program has the same. Null while it runs, or if it
    /// was not recorded.
    #[serde(default)]
    pub stack_pointer: Option<u64>,
    /// What else a stall of the teardown asks for; null for any other moment.
    #[serde(default)]
    pub stall: Option<StallState>,
}

#[cfg(test)]
impl ThreadState {
    /// A thread of that state, with nothing else to tell.
    pub(crate) fn of(task: Task, state: &str) -> Self {
        Self {
            task,
            state: state.to_owned(),
            parent_pid: 1,
            threads: 1,
            tracer_pid: 0,
            wait_channel: String::new(),
            syscall: None,
            stack: Vec::new(),
            pending: Vec::new(),
            blocked: Vec::new(),
            ignored: Vec::new(),
            caught: Vec::new(),
            core_dumping: false,
            cpu_ns: None,
            switches: None,
            arguments: Vec::new(),
            stack_pointer: None,
            stall: None,
        }
    }
}

/// What may keep a thread from going away, beside its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StallState {
    /// It is in the jail's cgroup or in one below.
    pub in_cgroup: bool,
    /// It is in the jail's PID namespace or in one nested in it.
    pub in_pid_namespace: bool,
    /// Its PIDs from the host's namespace (first) to its own (last).
    pub namespace_pids: Vec<u32>,
    /// It has begun to end (`PF_EXITING`).
    pub exiting: bool,
    /// The parent of its process; null if it can't be told.
    pub parent: Option<Other>,
    /// Who traces it; null if nobody does.
    pub tracer: Option<Other>,
    /// Resident memory of its process, bytes; 0 once that was given back.
    pub rss_bytes: u64,
    /// The freezer that holds it, its cgroup's own or one above; null if none does.
    pub frozen: Option<Frozen>,
    /// The file system whose answer it waits for; null if it doesn't, or that can't be told.
    pub file_system: Option<FileSystem>,
    /// Kernel modules on its stack, innermost first.
    pub modules: Vec<String>,
    /// It has the jail's standard output or standard error open, and that is a pipe or a socket.
    pub holds_output: bool,
}

/// A process that matters to another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Other {
    /// Process ID on the host.
    pub pid: u32,
    /// Its PID in the jail; null for one outside.
    pub jail_pid: Option<u32>,
    /// Its name.
    pub comm: String,
    /// One letter, as in proc_pid_stat(5).
    pub state: String,
    /// It is in the jail's PID namespace or in one nested in it.
    pub in_pid_namespace: bool,
}

/// A frozen cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frozen {
    /// Its path below the hierarchy's root.
    pub cgroup: String,
    /// The file that thaws it, an absolute path of the host.
    pub file: String,
    /// What to write there: `0` (v2) or `THAWED` (v1).
    pub value: String,
}

/// A file system that somebody has to answer for: FUSE, NFS and the like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileSystem {
    /// Where it is mounted, as the waiting thread's mount namespace has it.
    pub mount_point: String,
    /// Its type, such as `fuse.sshfs` or `nfs4`.
    pub fs_type: String,
    /// What is mounted: a server and its path, a device, a name.
    pub source: String,
    /// Number of the FUSE connection; null for others.
    pub connection: Option<u32>,
    /// Requests that wait for an answer on that connection; null if the kernel doesn't tell.
    pub waiting: Option<u64>,
    /// Who should answer, as far as was found: processes that have the connection open.
    pub daemons: Vec<Other>,
    /// It is certain that the thread waits for this one: it was the only candidate.
    pub certain: bool,
}

/// The kernel log's report of an OOM kill, which the kernel leaves out when there are many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KernelOom {
    /// `memcg`, `none` (the whole machine), `cpuset` or `memory-policy`.
    pub constraint: String,
    /// Cgroup whose limit was hit; null unless `memcg`.
    pub limit_cgroup: Option<String>,
    /// Cgroup of the victim.
    pub victim_cgroup: String,
    /// The victim, host PID.
    pub victim_pid: u32,
    /// Memory of the cgroup at its limit, by kind; null if not told.
    pub kinds: Option<MemoryKinds>,
    /// The tasks that could have been chosen; largest first.
    pub processes: Vec<ProcessSample>,
    /// Nodes that were allowed, as in `mems_allowed`; empty if not told.
    pub mems_allowed: String,
}

/// A line of the kernel log that names the jail's cgroup or one of its processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelMessage {
    /// Severity, 0 (emergency) to 7 (debugging).
    pub level: u8,
    /// The line.
    pub text: String,
}
