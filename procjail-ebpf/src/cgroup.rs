//! Changes of the jail's cgroup and those below it, on the default hierarchy.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use procjail_common::{Cgroup, PATH_LEN, Task, cgroup_change, kind};

use crate::{
    config::offset,
    emit::{self, Skip},
    read, scope, task,
};

/// One change: `member` is the address of the task that moved, or 0.
#[inline(always)]
fn try_change(cgroup: u64, path: u64, change: u32, value: u32, member: u64) -> Result<(), Skip> {
    // The other hierarchies number their cgroups independently.
    let root: u64 = read::kernel(cgroup, offset!(cgroup_root));
    let hierarchy: i32 = read::kernel(root, offset!(cgroup_root_hierarchy_id));
    if hierarchy != 0 || !scope::is_jails(cgroup) {
        return Err(Skip);
    }
    emit::record(kind::CGROUP, scope::current(), |to: *mut Cgroup| {
        // SAFETY: `to` is the reserved record; every field is written.
        unsafe {
            if member == 0 {
                read::zero::<{ size_of::<Task>() / 8 }>((&raw mut (*to).member).cast());
            } else {
                task::fill(&raw mut (*to).member, member);
            }
            (*to).change = change;
            (*to).value = value;
            (*to).reserved = 0;
            (*to).path_len = read::kernel_str((&raw mut (*to).path).cast(), PATH_LEN as u32, path);
        }
    })
}

#[raw_tracepoint]
pub fn cgroup_attach_task(ctx: RawTracePointContext) -> i32 {
    // include/trace/events/cgroup.h, 5.10 to 7.2: TP_PROTO(struct cgroup *dst_cgrp,
    //     const char *path, struct task_struct *task, bool threadgroup)
    let _ = try_change(ctx.arg(0), ctx.arg(1), cgroup_change::ATTACH, 0, ctx.arg(2));
    0
}

#[raw_tracepoint]
pub fn cgroup_notify_populated(ctx: RawTracePointContext) -> i32 {
    // include/trace/events/cgroup.h, 5.10 to 7.2:
    // TP_PROTO(struct cgroup *cgrp, const char *path, int val)
    let _ = try_change(
        ctx.arg(0),
        ctx.arg(1),
        cgroup_change::POPULATED,
        ctx.arg(2),
        0,
    );
    0
}

#[raw_tracepoint]
pub fn cgroup_notify_frozen(ctx: RawTracePointContext) -> i32 {
    // as cgroup_notify_populated
    let _ = try_change(ctx.arg(0), ctx.arg(1), cgroup_change::FROZEN, ctx.arg(2), 0);
    0
}

#[raw_tracepoint]
pub fn cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    // include/trace/events/cgroup.h, 5.10 to 7.2: TP_PROTO(struct cgroup *cgrp, const char *path)
    let _ = try_change(ctx.arg(0), ctx.arg(1), cgroup_change::MKDIR, 0, 0);
    0
}

#[raw_tracepoint]
pub fn cgroup_rmdir(ctx: RawTracePointContext) -> i32 {
    // as cgroup_mkdir
    let _ = try_change(ctx.arg(0), ctx.arg(1), cgroup_change::RMDIR, 0, 0);
    0
}
