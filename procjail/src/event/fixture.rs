//! Records as the kernel would make them, for tests.

use procjail_common::*;

use super::{ExecRecord, Failures, Record};

/// When the trace of [`story`] begins.
pub(crate) const START_NS: u64 = 93_784_000_000_000;
/// When its gate opens.
pub(crate) const GATE_NS: u64 = START_NS + 8_123_000;

/// A process of the jail, whose host PID is its own plus 4130.
pub(crate) fn task(jail_pid: u32, comm: &str) -> Task {
    Task {
        pid: 4130 + jail_pid,
        tid: 4130 + jail_pid,
        jail_pid,
        flags: task_flags::IN_JAIL,
        start_ns: START_NS + u64::from(jail_pid) * 1_000_000,
        cgroup_id: 7001,
        ns_pid: jail_pid,
        ns_level: 1,
        comm: bytes(comm),
    }
}

/// Thread `tid` of a process.
pub(crate) fn thread(process: Task, tid: u32) -> Task {
    Task { tid, ..process }
}

/// A process of the host.
pub(crate) fn outside(pid: u32, comm: &str) -> Task {
    Task {
        pid,
        tid: pid,
        start_ns: 1_000,
        cgroup_id: 1,
        ns_pid: pid,
        comm: bytes(comm),
        ..Task::default()
    }
}

pub(crate) fn exiting(task: Task) -> Task {
    Task {
        flags: task.flags | task_flags::EXITING,
        ..task
    }
}

pub(crate) fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    bytes
}

pub(crate) fn header(kind: u32, time_ns: u64, task: Task) -> Header {
    Header {
        kind,
        cpu: 0,
        time_ns,
        task,
    }
}

pub(crate) fn fork(time_ns: u64, parent: Task, child: Task) -> Record {
    Record::Fork(Fork {
        header: header(kind::FORK, time_ns, parent),
        child,
        signals: SignalSets::default(),
    })
}

pub(crate) fn exec(time_ns: u64, task: Task, filename: &str, argv: &[&str]) -> Record {
    let argv: Vec<String> = argv.iter().map(|argument| (*argument).to_owned()).collect();
    let length = argv
        .iter()
        .map(|argument| argument.len() + 1)
        .sum::<usize>() as u32;
    Record::Exec(Box::new(ExecRecord {
        record: Exec {
            header: header(kind::EXEC, time_ns, task),
            old_tid: task.pid,
            filename_len: filename.len() as u32,
            argv_len: length,
            reserved: 0,
            argv_total_len: length.into(),
            signals: SignalSets::default(),
        },
        filename: filename.to_owned(),
        argv,
    }))
}

pub(crate) fn exec_failed(time_ns: u64, task: Task, filename: &str, errno: i32) -> Record {
    Record::ExecFailed(Box::new(ExecFailed {
        header: header(kind::EXEC_FAILED, time_ns, task),
        errno,
        at: 0,
        filename_len: filename.len() as u32,
        reserved: 0,
        filename: bytes(filename),
    }))
}

/// The end of a process, with the status as wait(2) has it.
pub(crate) fn exit(time_ns: u64, task: Task, parent: Task, status: i32) -> Exit {
    Exit {
        header: header(kind::EXIT, time_ns, exiting(task)),
        parent,
        tracer: Task::default(),
        exit_code: status,
        group_exit_code: status,
        leader_exit_code: status,
        signal_flags: 0x4,
        group_dead: 1,
        syscall: libc::SYS_read as u32,
        argument: 0,
        group_argument: 0,
        has_group_argument: 0,
        process_group: task.pid,
        session: 4131,
        reserved: 0,
        max_rss_bytes: 3_500_000,
        utime_ns: 1_200_000,
        stime_ns: 800_000,
    }
}

pub(crate) fn reap(time_ns: u64, reaper: Task, ns_pid: u32) -> Reap {
    Reap {
        header: header(kind::REAP, time_ns, reaper),
        ns_pid,
        waitid: 0,
        options: 0,
        reserved: 0,
    }
}

pub(crate) fn free(time_ns: u64, process: Task) -> Record {
    let process = Task {
        jail_pid: 0,
        flags: 0,
        comm: bytes("gone"),
        ..process
    };
    Record::Free(Free {
        header: header(kind::FREE, time_ns, Task::default()),
        process,
    })
}

/// A signal by kill(2) to a process with a handler.
pub(crate) fn sent(time_ns: u64, sender: Task, target: Task, signal: i32) -> SignalGenerated {
    SignalGenerated {
        header: header(kind::SIGNAL_GENERATED, time_ns, sender),
        target,
        signal,
        code: 0,
        result: 0,
        flags: signal_flags::GROUP,
        handler: 0x5555_0000_1000,
        target_flags: 0,
        target_group_exit_code: 0,
        syscall: libc::SYS_kill,
        target_ptrace: 0,
        target_tracer: 0,
        fault_address: 0,
        instruction: 0,
        stack_pointer: 0,
        code_bytes: [0; CODE_LEN],
        code_len: 0,
        reserved: 0,
    }
}

/// The SIGCHLD for the end of a child.
pub(crate) fn child_ended(time_ns: u64, child: Task, parent: Task, code: i32) -> Record {
    Record::SignalGenerated(SignalGenerated {
        code,
        syscall: libc::SYS_exit_group,
        ..sent(time_ns, exiting(child), parent, libc::SIGCHLD)
    })
}

pub(crate) fn delivered(time_ns: u64, task: Task, signal: i32) -> SignalDelivered {
    SignalDelivered {
        header: header(kind::SIGNAL_DELIVERED, time_ns, task),
        signal,
        code: 0,
        handler: 0x5555_0000_1000,
        signal_flags: 0,
        group_exit_code: 0,
        sa_flags: 0,
    }
}

/// The delivery of SIGKILL by which the kernel ends a process for `signal`.
pub(crate) fn killed(time_ns: u64, task: Task, signal: i32) -> SignalDelivered {
    SignalDelivered {
        handler: 0,
        signal_flags: 0x4,
        group_exit_code: signal,
        ..delivered(time_ns, task, libc::SIGKILL)
    }
}

/// Who `task` is; the names of its program's path from the last to the first.
pub(crate) fn sender(time_ns: u64, task: Task, path: &[&str], argv: &[&str]) -> Sender {
    let argv: String = argv.iter().map(|text| format!("{text}\0")).collect();
    let mut sender = Sender {
        header: header(kind::SENDER, time_ns, task),
        uid: 1000,
        flags: sender_flags::EXE_WHOLE | sender_flags::CGROUP_WHOLE,
        argv_len: argv.len() as u32,
        argv_total_len: argv.len() as u32,
        parent_pids: [0; SENDER_PARENTS],
        parent_comms: [[0; 16]; SENDER_PARENTS],
        tty: bytes("pts3"),
        exe: [[0; SENDER_NAME_LEN]; SENDER_EXE_NAMES],
        cgroup: [[0; SENDER_NAME_LEN]; SENDER_CGROUP_NAMES],
        argv: bytes(&argv),
    };
    for (to, name) in sender.exe.iter_mut().zip(path) {
        *to = bytes(name);
    }
    sender.cgroup[0] = bytes("ssh.service");
    sender.parent_pids[..2].copy_from_slice(&[800, 1]);
    sender.parent_comms[..2].copy_from_slice(&[bytes("sshd"), bytes("systemd")]);
    sender
}

/// `count` calls that failed before PID 1 of the jail ended: openat, each of another file.
pub(crate) fn failed_calls(time_ns: u64, count: u32) -> Failures {
    let process = task(1, "app");
    let call = |index| {
        let path = format!("/lib/{index}.so");
        let at = time_ns.saturating_sub(u64::from(count - index) * 1_000);
        FailedCall {
            time_ns: at,
            number: libc::SYS_openat as u32,
            errno: libc::ENOENT,
            tid: process.tid,
            text_kind: failed_text::PATH,
            text_len: path.len() as u32,
            resource: NO_RESOURCE,
            repeats: 0,
            reserved: 0,
            used: 0,
            limit: 0,
            args: [libc::AT_FDCWD as u64, 0x5555_0000, 0, 0],
            fs_type: [0; 16],
            text: bytes(&path),
            time_again_ns: at,
        }
    };
    Failures {
        record: FailedCalls {
            header: header(kind::FAILED_CALLS, time_ns, process),
            ordinary: count.min(FAILED_CALLS as u32),
            weighty: count.saturating_sub(FAILED_CALLS as u32),
        },
        calls: (0..count).map(call).collect(),
    }
}

/// What a process wrote to its standard error, at most as much as is kept.
pub(crate) fn stderr_tail(time_ns: u64, task: Task, text: &str) -> StderrTail {
    StderrTail {
        header: header(kind::STDERR_TAIL, time_ns, task),
        written: text.len() as u64,
        last_ns: time_ns.saturating_sub(2_000),
        begun: 0,
        head: bytes(text),
        bytes: bytes(text),
    }
}

/// A soft limit that was set for `ns_pid`; there is no hard one.
pub(crate) fn limit_changed(
    time_ns: u64,
    task: Task,
    ns_pid: u32,
    resource: u32,
    soft: u64,
) -> Record {
    Record::LimitChanged(LimitChanged {
        header: header(kind::LIMIT_CHANGED, time_ns, task),
        ns_pid,
        resource,
        soft,
        hard: u64::MAX,
    })
}

pub(crate) fn level(id: u64, name: &str, usage_bytes: u64, limit_bytes: u64) -> MemcgLevel {
    MemcgLevel {
        cgroup_id: id,
        usage_bytes,
        limit_bytes,
        swap_usage_bytes: 0,
        swap_limit_bytes: u64::MAX,
        name: bytes(name),
    }
}

pub(crate) fn oom_kill(
    time_ns: u64,
    trigger: Task,
    victim: Task,
    levels: &[MemcgLevel],
) -> OomKill {
    let mut chain = [level(0, "", 0, 0); MEMCG_LEVELS];
    for (to, from) in chain.iter_mut().zip(levels) {
        *to = *from;
    }
    OomKill {
        header: header(kind::OOM_KILL, time_ns, trigger),
        victim,
        anon_bytes: 32_715_571,
        file_bytes: 5 << 20,
        shmem_bytes: 0,
        swap_bytes: 0,
        page_table_bytes: 118_784,
        total_vm_bytes: 300 << 20,
        oom_score_adj: 0,
        killed_by_kernel: 1,
        syscall: -1,
        levels: levels.len() as u32,
        more_levels: 0,
        kernel_stack_len: 0,
        user_stack_len: 0,
        kernel_stack: [0; KERNEL_FRAMES],
        user_stack: [UserFrame {
            status: 0,
            build_id: [0; 20],
            place: 0,
        }; USER_FRAMES],
        chain,
    }
}

pub(crate) fn mount(time_ns: u64, task: Task, call: u32, source: &str, target: &str) -> Mount {
    Mount {
        header: header(kind::MOUNT, time_ns, task),
        call,
        stage: mount_stage::DONE,
        result: 0,
        duration_ns: 45_200,
        flags: 0,
        args: [0; 4],
        source_len: source.len() as u16,
        target_len: target.len() as u16,
        fs_type_len: 0,
        reserved: 0,
        source: bytes(source),
        target: bytes(target),
        fs_type: bytes(""),
    }
}

pub(crate) fn cgroup(time_ns: u64, task: Task, change: u32, value: u32) -> Record {
    let path = "/procjail/web";
    Record::Cgroup(Box::new(Cgroup {
        header: header(kind::CGROUP, time_ns, task),
        member: Task::default(),
        change,
        value,
        path_len: path.len() as u32,
        reserved: 0,
        path: bytes(path),
    }))
}

/// The bytes of a record, as they lie in the ring buffer.
pub(crate) fn encode(record: &Record) -> Vec<u8> {
    match record {
        Record::Fork(record) => raw(record),
        Record::Exec(exec) => {
            let mut bytes = raw(&exec.record);
            bytes.extend(exec.filename.bytes());
            for argument in &exec.argv {
                bytes.extend(argument.bytes());
                bytes.push(0);
            }
            bytes
        }
        Record::ExecFailed(record) => raw(&**record),
        Record::Exit(record) => raw(record),
        Record::Reap(record) => raw(record),
        Record::Wait(record) => raw(record),
        Record::Free(record) => raw(record),
        Record::SignalGenerated(record) => raw(record),
        Record::SignalDelivered(record) => raw(record),
        Record::Sender(record) => raw(&**record),
        Record::FailedCalls(failures) => {
            let mut bytes = raw(&failures.record);
            let rings = failures.calls.chunks(FAILED_CALLS);
            let filler = failures.calls.first();
            for ring in rings {
                let rest = FAILED_CALLS - ring.len();
                let calls = ring.iter().chain(filler.into_iter().cycle().take(rest));
                bytes.extend(calls.flat_map(raw));
            }
            bytes
        }
        Record::StderrTail(record) => raw(&**record),
        Record::LimitChanged(record) => raw(record),
        Record::OomKill(record) => raw(&**record),
        Record::OomReap(record) => raw(record),
        Record::Mount(record) => raw(&**record),
        Record::Cgroup(record) => raw(&**record),
    }
}

fn raw<T: procjail_common::Record>(record: &T) -> Vec<u8> {
    // SAFETY: a record has no padding, so each of its bytes is initialized.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<T>()) }
        .to_vec()
}
