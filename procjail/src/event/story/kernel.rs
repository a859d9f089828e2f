//! What the kernel tells, as records.

use procjail_common::{
    Mount as RawMount, SignalGenerated as RawSignal, cgroup_change, mount_call, oom_reap_stage,
};

use super::at;
use crate::event::fixture::{self as make, *};
use crate::event::*;

/// The steps of the story, in order of time.
pub(crate) fn records() -> Vec<Record> {
    let (init, mount, python) = (task(1, "sh"), task(2, "mount"), task(3, "python3"));
    let (crasher, zombie, cat) = (task(4, "crasher"), task(5, "sleep"), task(6, "cat"));
    let (bash, procjail, systemd) = (
        outside(4121, "bash"),
        outside(4100, "procjail"),
        outside(1, "systemd"),
    );
    let call = |ms, task, call, source, target| make::mount(at(ms), task, call, source, target);
    let tmpfs = RawMount {
        fs_type: bytes("tmpfs"),
        fs_type_len: 5,
        flags: 6,
        ..call(92, mount, mount_call::MOUNT, "tmpfs", "/mnt")
    };
    let busy = RawMount {
        result: -i64::from(libc::EBUSY),
        duration_ns: 812,
        ..call(181, mount, mount_call::UMOUNT, "", "/mnt")
    };
    let unshared = RawMount {
        flags: 0x0002_0000,
        ..call(60, mount, mount_call::UNSHARE, "", "")
    };
    let kernels = |time, sender, target, signal| RawSignal {
        code: 128,
        handler: 0,
        target_flags: 0x4,
        syscall: -1,
        ..sent(time, sender, target, signal)
    };
    let fault = RawSignal {
        code: 1,
        flags: 0,
        fault_address: 8,
        instruction: 0x5555_0000_1234,
        stack_pointer: 0x7ffd_0000_1000,
        target_flags: 0,
        ..kernels(at(14_020), crasher, crasher, 11)
    };
    let segv = procjail_common::SignalDelivered {
        code: 1,
        handler: 0,
        ..delivered(at(14_020) + 9_000, crasher, 11)
    };
    let mib = 1 << 20;
    let chain = [
        level(7003, "web", 32 * mib, 32 * mib),
        level(7002, "procjail", 40 * mib, u64::MAX),
        level(1, "", 900 * mib, u64::MAX),
    ];
    let ignored = RawSignal {
        result: 1,
        handler: 0,
        target_flags: 0x40,
        ..sent(at(20_000), bash, init, 15)
    };
    let forwarded = RawSignal {
        syscall: libc::SYS_pidfd_send_signal,
        ..RawSignal {
            header: header(
                procjail_common::kind::SIGNAL_GENERATED,
                at(25_001),
                procjail,
            ),
            ..ignored
        }
    };
    let handled = sent(at(21_000), init, cat, 10);
    let blocked = RawSignal {
        flags: 3,
        ..sent(at(21_500), systemd, cat, 1)
    };
    let cgroup_kill = |time, target| RawSignal {
        flags: 0,
        syscall: libc::SYS_write,
        handler: 0,
        target_flags: 0x4,
        ..sent(time, procjail, target, 9)
    };
    let reaper = |time, stage| {
        Record::OomReap(procjail_common::OomReap {
            header: header(
                procjail_common::kind::OOM_REAP,
                time,
                outside(57, "oom_reaper"),
            ),
            stage,
            tid: python.tid,
        })
    };
    vec![
        // The launcher's own set-up, which is left out.
        Record::Mount(Box::new(call(0, init, mount_call::MOUNT, "", "/"))),
        exec(
            at(4),
            init,
            "/bin/sh",
            &[
                "sh",
                "-c",
                "mount -t tmpfs tmpfs /mnt; python3 grow.py; ./crasher & wait",
            ],
        ),
        fork(at(31), init, mount),
        exec_failed(at(40), mount, "/usr/local/bin/mount", libc::ENOENT),
        exec(
            at(44),
            mount,
            "/usr/bin/mount",
            &["mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        ),
        Record::Mount(Box::new(unshared)),
        limit_changed(at(61), init, 0, libc::RLIMIT_NOFILE, 1024),
        Record::Mount(Box::new(tmpfs)),
        Record::Mount(Box::new(busy)),
        Record::Exit(exit(at(190), mount, init, 0x2000)),
        child_ended(at(191), mount, init, 1),
        Record::Reap(reap(at(192), init, 2)),
        fork(at(210), init, python),
        free(at(230), mount),
        exec(
            at(250),
            python,
            "/usr/bin/python3.11",
            &["python3", "grow.py", "--label", "it's\n\x1b[31mred"],
        ),
        Record::SignalGenerated(kernels(at(9_500), python, python, 9)),
        Record::OomKill(Box::new(oom_kill(
            at(9_500) + 48_000,
            python,
            python,
            &chain,
        ))),
        Record::SignalDelivered(killed(at(9_502), python, 9)),
        reaper(at(11_500), oom_reap_stage::WAKE),
        Record::Exit(exit(at(13_900), python, init, 9)),
        child_ended(at(13_910), python, init, 2),
        Record::Reap(reap(at(13_912), init, 3)),
        fork(at(13_950), init, crasher),
        fork(at(13_960), crasher, zombie),
        exec(at(14_000), crasher, "./crasher", &["./crasher"]),
        Record::SignalGenerated(fault),
        Record::SignalDelivered(segv),
        Record::Exit(exit(at(14_030), crasher, init, 0x8b)),
        child_ended(at(14_031), crasher, init, 3),
        fork(at(14_100), init, cat),
        fork(at(14_150), cat, thread(cat, 9001)),
        fork(at(14_200), init, task(7, "sh")),
        exec_failed(at(14_210), task(7, "sh"), "/usr/bin/growth", libc::ENOENT),
        exec_failed(at(14_211), task(7, "sh"), "/bin/growth", libc::ENOENT),
        Record::Exit(exit(at(14_220), task(7, "sh"), init, 0x7f00)),
        Record::Reap(reap(at(19_220), init, 7)),
        Record::SignalGenerated(ignored),
        Record::SignalGenerated(handled),
        Record::SignalDelivered(delivered(at(21_000) + 35_000, cat, 10)),
        Record::SignalGenerated(blocked),
        Record::SignalGenerated(forwarded),
        Record::SignalGenerated(cgroup_kill(at(35_010), init)),
        Record::SignalGenerated(cgroup_kill(at(35_011), cat)),
        Record::Sender(Box::new(sender(
            at(20_001),
            bash,
            &["bash", "bin", "usr"],
            &["-bash"],
        ))),
        Record::StderrTail(Box::new(stderr_tail(
            at(35_015),
            init,
            "app: reading its settings\napp: no such host\n",
        ))),
        Record::FailedCalls(Box::new(failed_calls(at(35_015), 2))),
        Record::SignalDelivered(killed(at(35_012), init, 9)),
        Record::SignalDelivered(killed(at(35_012), thread(cat, 9001), 9)),
        Record::Exit(exit(at(35_014), init, procjail, 9)),
        Record::Exit(exit(at(35_016), cat, init, 9)),
        cgroup(at(35_020), init, cgroup_change::POPULATED, 0),
    ]
}
