//! Who signals the jail from outside: told once, as such a process is often gone a moment later.
//!
//! `bpf_d_path` is not for tracepoints, so paths are followed upwards by hand, and joined in user space.

use aya_ebpf::{helpers::generated::bpf_probe_read_user, macros::map, maps::LruHashMap};
use procjail_common::{
    SENDER_ARGV_LEN, SENDER_CGROUP_NAMES, SENDER_EXE_NAMES, SENDER_NAME_LEN, SENDER_PARENTS,
    Sender, kind, sender_flags,
};

use crate::{
    config::{offset, present},
    emit, read, scope, task,
};

/// A process, for good: process IDs are reused.
#[repr(C)]
#[derive(Clone, Copy)]
struct Key {
    start_ns: u64,
    pid: u64,
}

/// Repeats a body for each index below a number of at most 16.
///
/// In a loop the verifier compares each round with all those before it, which takes many times longer
/// than to walk a long straight line.
macro_rules! unrolled {
    ($count:expr, $index:ident, $body:block) => {
        unrolled!(@ $count, $index, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $count:expr, $index:ident, $body:block, $($number:literal)+) => {
        const { assert!($count <= 16) };
        $(
            if $number < $count {
                let $index = $number;
                $body
            }
        )+
    };
}

/// Senders that were told of.
#[map]
static SENDERS: LruHashMap<Key, u32> = LruHashMap::with_max_entries(512, 0);

/// Tells who `sender` is, the running task, unless it was done before or it is of the jail. `cgroup` is
/// that of its target, which is the jail's.
// The names as the compiler makes them would differ with the folder that it is built in. Functions of
// their own, since the verifier's work grows faster than the length of one.
#[unsafe(export_name = "tell_sender")]
#[inline(never)]
pub fn tell(sender: u64, cgroup: u64) {
    let own = scope::cgroup_of(sender);
    // Mostly a signal stays in one cgroup.
    if own == cgroup || scope::is_jails(own) {
        return;
    }
    let leader: u64 = read::kernel(sender, offset!(task_group_leader));
    let pid = task::ids(sender).1;
    let key = Key {
        start_ns: read::kernel(leader, offset!(task_start_boottime)),
        pid: u64::from(pid),
    };
    if SENDERS.get_ptr(key).is_some() {
        return;
    }
    let told = emit::record(kind::SENDER, sender, |to: *mut Sender| {
        // SAFETY: `to` is the reserved record.
        unsafe { fill(to, sender) };
    });
    if told.is_ok() {
        let _ = SENDERS.insert(key, 0, 0);
    }
}

/// Writes all that follows the header.
///
/// As in `task::fill` there are few branches: a null pointer reads as zeros, and copies nothing.
///
/// # Safety
///
/// `to` is valid for writing.
#[unsafe(export_name = "fill_sender")]
#[inline(never)]
unsafe fn fill(to: *mut Sender, sender: u64) {
    // SAFETY: the caller vouches for `to`; every field is written.
    unsafe {
        let cred: u64 = optional(sender, offset!(task_cred));
        (*to).uid = if present(offset!(cred_euid)) {
            read::kernel(cred, offset!(cred_euid))
        } else {
            0
        };
        (*to).flags = 0;
        let mm: u64 = read::kernel(sender, offset!(task_mm));
        arguments(to, mm);
        terminal(to, sender);
        parents(to, sender);
        if present(offset!(mm_exe_file)) {
            program(to, mm);
        } else {
            no_names::<SENDER_EXE_NAMES>((&raw mut (*to).exe).cast());
        }
        if present(offset!(kernfs_node_parent)) {
            cgroups(to, scope::cgroup_of(sender));
        } else {
            no_names::<SENDER_CGROUP_NAMES>((&raw mut (*to).cgroup).cast());
        }
    }
}

/// A pointer that this kernel may not have.
#[inline(always)]
fn optional(base: u64, offset: u32) -> u64 {
    if present(offset) {
        read::kernel(base, offset)
    } else {
        0
    }
}

#[inline(always)]
unsafe fn arguments(to: *mut Sender, mm: u64) {
    let start: u64 = read::kernel(mm, offset!(mm_arg_start));
    let end: u64 = read::kernel(mm, offset!(mm_arg_end));
    let total = end.wrapping_sub(start);
    let mut length = if total > SENDER_ARGV_LEN as u64 {
        SENDER_ARGV_LEN as u32
    } else {
        total as u32
    };
    // SAFETY: the caller vouches for `to`; `length` is at most the array's.
    unsafe {
        let argv = (&raw mut (*to).argv).cast();
        if bpf_probe_read_user(argv, length, start as *const _) != 0 {
            length = 0;
        }
        (*to).argv_len = length;
        (*to).argv_total_len = if total > u64::from(u32::MAX) {
            u32::MAX
        } else {
            total as u32
        };
    }
}

#[inline(always)]
unsafe fn terminal(to: *mut Sender, sender: u64) {
    // SAFETY: the caller vouches for `to`.
    unsafe {
        let name = (&raw mut (*to).tty).cast::<u8>();
        read::zero::<{ 32 / 8 }>(name.cast());
        if present(offset!(signal_tty)) && present(offset!(tty_name)) {
            let signal: u64 = read::kernel(sender, offset!(task_signal));
            let tty: u64 = read::kernel(signal, offset!(signal_tty));
            if tty != 0 {
                read::kernel_str(name, 32, tty + u64::from(offset!(tty_name)));
            }
        }
    }
}

#[unsafe(export_name = "fill_sender_parents")]
#[inline(never)]
unsafe fn parents(to: *mut Sender, sender: u64) {
    let mut process = sender;
    unrolled!(SENDER_PARENTS, index, {
        process = read::kernel(process, offset!(task_real_parent));
        // SAFETY: the caller vouches for `to`; `index` is below the arrays' length.
        unsafe {
            (*to).parent_pids[index] = task::ids(process).1;
            read::comm(&raw mut (*to).parent_comms[index], process);
        }
    });
}

/// Writes an empty name in each place.
///
/// # Safety
///
/// `to` is valid for writing that many names.
#[inline(always)]
unsafe fn no_names<const NAMES: usize>(to: *mut [u8; SENDER_NAME_LEN]) {
    for index in 0..NAMES {
        // SAFETY: the caller vouches for `to`.
        unsafe { to.add(index).cast::<u8>().write(0) };
    }
}

/// The program's file: up its directories, and where a mount's root is reached, up those of its mount
/// point. At the topmost root it stays.
#[unsafe(export_name = "fill_sender_program")]
#[inline(never)]
unsafe fn program(to: *mut Sender, mm: u64) {
    let file: u64 = read::kernel(mm, offset!(mm_exe_file));
    let mut dentry: u64 = read::kernel(file, offset!(file_dentry));
    let vfsmount: u64 = read::kernel(file, offset!(file_mount));
    // container_of(): a `struct mount` holds the `struct vfsmount` that others see.
    let mut mount = vfsmount.wrapping_sub(u64::from(offset!(mount_vfsmount)));
    // SAFETY: the caller vouches for `to`; `index` is below the array's length.
    unsafe {
        unrolled!(SENDER_EXE_NAMES, index, {
            // Side by side on all kernels; user space made sure of it.
            let [above, mountpoint, root]: [u64; 3] = read::kernel(mount, offset!(mount_parent));
            let [parent, _, name]: [u64; 3] = read::kernel(dentry, offset!(dentry_parent));
            let below = read::all_ones_unless_equal(dentry, root);
            dentry = below & parent | !below & mountpoint;
            mount = below & mount | !below & above;
            // Nothing lies at address 0, which makes the name empty.
            let place = (&raw mut (*to).exe[index]).cast::<u8>();
            read::kernel_str(place, SENDER_NAME_LEN as u32, below & name);
        });
        // The last step's is of no use.
        let _ = dentry;
        let above: u64 = read::kernel(mount, offset!(mount_parent));
        if above == mount && mount != 0 {
            (*to).flags |= sender_flags::EXE_WHOLE;
        }
    }
}

/// The names of the cgroup and those above it; the root's is empty.
#[unsafe(export_name = "fill_sender_cgroups")]
#[inline(never)]
unsafe fn cgroups(to: *mut Sender, cgroup: u64) {
    let mut node: u64 = read::kernel(cgroup, offset!(cgroup_kn));
    // SAFETY: the caller vouches for `to`; `index` is below the array's length.
    unsafe {
        unrolled!(SENDER_CGROUP_NAMES, index, {
            let place = (&raw mut (*to).cgroup[index]).cast::<u8>();
            let [parent, name]: [u64; 2] = read::kernel(node, offset!(kernfs_node_parent));
            read::kernel_str(place, SENDER_NAME_LEN as u32, name);
            node = parent;
        });
        if node == 0 {
            (*to).flags |= sender_flags::CGROUP_WHOLE;
        }
    }
}
