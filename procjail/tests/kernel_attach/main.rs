//! The probes on this host's kernel: what real processes do in a cgroup comes out as records.
//!
//! Needs root. Each test makes a cgroup of its own, and removes it.

mod cgroup;
mod trace;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use procjail::kernel::Options;
use procjail_common::{
    Cgroup, ExecFailed, Exit, Fork, Free, Mount, OomKill, Reap, SignalDelivered, SignalGenerated,
    cgroup_change, kind, mount_call, mount_stage, signal_flags, task_flags,
};

use cgroup::TestCgroup;
use trace::{Trace, comm, text};

fn finish(mut child: Child) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    child.wait().expect("reaped").into_raw()
}

#[test]
fn a_shell_and_its_children_are_told_from_fork_to_reap() {
    let cgroup = TestCgroup::unified();
    let mut trace = Trace::of(&cgroup, &Options::default());
    let child = TestCgroup::command(&[&cgroup], "/bin/sh")
        .args([
            "-c",
            "/bin/echo one 'two three' >/dev/null; /nonexistent 2>/dev/null; (exit 7); exit 3",
        ])
        .spawn()
        .expect("spawned");
    let shell = child.id();
    assert_eq!(finish(child), 3 << 8);
    trace.read_until(|trace| {
        trace.exit_of(shell).is_some()
            && trace
                .all::<Free>(kind::FREE)
                .iter()
                .any(|free| free.process.pid == shell)
    });

    let attach = trace.all::<Cgroup>(kind::CGROUP);
    let attach = attach.first().expect("a cgroup record");
    assert_eq!((attach.change, attach.value), (cgroup_change::POPULATED, 1));
    assert_eq!(
        text(&attach.path[..attach.path_len as usize]),
        format!("/{}", cgroup.0.file_name().expect("name").to_string_lossy())
    );

    let execs = trace.execs();
    let (exec, name, argv) = &execs[0];
    assert_eq!(name, "/bin/sh");
    assert_eq!(argv[..2], ["/bin/sh", "-c"]);
    assert_eq!(argv.len(), 3);
    assert_eq!(u64::from(exec.argv_len), exec.argv_total_len);
    let task = &exec.header.task;
    assert_eq!((task.pid, task.tid), (shell, shell));
    assert_eq!(task.cgroup_id, cgroup.id());
    assert_eq!(task.flags, task_flags::IN_JAIL);
    assert_eq!((task.ns_pid, comm(task).as_str()), (shell, "sh"));
    let (_, name, argv) = &execs[1];
    assert_eq!(name, "/bin/echo");
    assert_eq!(*argv, ["/bin/echo", "one", "two three"]);

    // echo, the failed one (unless the shell looked first) and the subshell.
    let forks = trace.all::<Fork>(kind::FORK);
    assert!((2..=3).contains(&forks.len()), "{forks:#?}");
    for fork in &forks {
        assert_eq!(fork.header.task.pid, shell);
        assert_eq!(fork.child.pid, fork.child.tid);
        assert!(fork.child.start_ns > task.start_ns);
    }
    let failed = trace.all::<ExecFailed>(kind::EXEC_FAILED);
    assert!(
        failed.iter().any(|failed| failed.errno == libc::ENOENT
            && text(&failed.filename[..failed.filename_len as usize]) == "/nonexistent"),
        "{failed:#?}"
    );

    let subshell = forks.last().expect("a fork").child.pid;
    let exit = trace.exit_of(subshell).expect("its end");
    assert_eq!(exit.exit_code, 7 << 8);
    assert_eq!((exit.group_dead, exit.parent.pid), (1, shell));
    let exit = trace.exit_of(shell).expect("its end");
    assert_eq!(exit.exit_code, 3 << 8);
    assert_eq!(exit.parent.pid, std::process::id());
    assert!(exit.max_rss_bytes > 100 << 10, "{}", exit.max_rss_bytes);

    let reaps = trace.all::<Reap>(kind::REAP);
    for fork in &forks {
        let reap = reaps.iter().find(|reap| reap.ns_pid == fork.child.ns_pid);
        assert_eq!(reap.expect("reaped").header.task.pid, shell);
    }
    let told = trace.all::<SignalGenerated>(kind::SIGNAL_GENERATED);
    assert!(
        told.iter().any(|signal| signal.signal == libc::SIGCHLD
            && signal.header.task.pid == subshell
            && signal.target.pid == shell
            && signal.code == 1),
        "{told:#?}"
    );
}

#[test]
fn a_long_command_line_is_cut_and_says_so() {
    let cgroup = TestCgroup::unified();
    let mut trace = Trace::of(&cgroup, &Options::default());
    let long = "x".repeat(10_000);
    let child = TestCgroup::command(&[&cgroup], "/bin/true")
        .arg(&long)
        .spawn();
    let child = child.expect("spawned");
    let pid = child.id();
    assert_eq!(finish(child), 0);
    trace.read_until(|trace| trace.exit_of(pid).is_some());
    let (exec, _, argv) = &trace.execs()[0];
    assert_eq!(exec.argv_len, 4096);
    assert_eq!(exec.argv_total_len, 10 + 10_001);
    assert_eq!(argv[1].len(), 4096 - 10);
}

#[test]
fn a_signal_is_told_with_its_sender_its_system_call_and_its_effect() {
    let cgroup = TestCgroup::unified();
    let mut trace = Trace::of(&cgroup, &Options::default());
    let child = TestCgroup::command(&[&cgroup], "/bin/sleep")
        .arg("30")
        .spawn();
    let child = child.expect("spawned");
    let pid = child.id();
    trace.read_until(|trace| !trace.execs().is_empty());
    for signal in [libc::SIGWINCH, libc::SIGCONT, libc::SIGTERM] {
        // SAFETY: the child was not reaped yet, so the number is its own.
        assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
    }
    assert_eq!(finish(child), libc::SIGTERM);
    trace.read_until(|trace| trace.exit_of(pid).is_some());

    let generated = trace.all::<SignalGenerated>(kind::SIGNAL_GENERATED);
    let numbers: Vec<i32> = generated.iter().map(|signal| signal.signal).collect();
    // SIGWINCH is noise; the SIGCHLD goes to this process, which is not in the cgroup.
    assert_eq!(numbers, [libc::SIGCONT, libc::SIGTERM]);
    let term = &generated[1];
    assert_eq!(term.header.task.pid, std::process::id());
    assert_eq!(term.header.task.flags & task_flags::IN_JAIL, 0);
    assert_eq!((term.target.pid, term.code, term.result), (pid, 0, 0));
    assert_eq!(term.flags, signal_flags::GROUP);
    assert_eq!((term.handler, term.syscall), (0, libc::SYS_kill));
    let delivered = trace.all::<SignalDelivered>(kind::SIGNAL_DELIVERED);
    let last = delivered.last().expect("delivered");
    // The kernel kills with 9 whatever the fatal signal was; the code of the group tells.
    assert_eq!((last.signal, last.group_exit_code), (9, libc::SIGTERM));
    let exit = trace.exit_of(pid).expect("its end");
    assert_eq!(exit.group_exit_code, libc::SIGTERM);
    assert_eq!(
        exit.header.task.flags,
        task_flags::IN_JAIL | task_flags::EXITING
    );
}

#[test]
fn mount_calls_are_told_with_arguments_result_and_duration() {
    let cgroup = TestCgroup::unified();
    let mut trace = Trace::of(&cgroup, &Options::default());
    let child = TestCgroup::command(&[&cgroup], "/usr/bin/unshare")
        .args(["-m", "/bin/sh", "-c"])
        .arg("mount -t tmpfs -o size=64k some-name /mnt && umount /mnt; mount -t ext4 no-such-device /mnt 2>/dev/null; true")
        .spawn()
        .expect("spawned");
    let pid = child.id();
    assert_eq!(finish(child), 0);
    trace.read_until(|trace| trace.exit_of(pid).is_some());
    let calls = trace.all::<Mount>(kind::MOUNT);
    let of = |call| calls.iter().filter(move |mount| mount.call == call);
    let unshare = of(mount_call::UNSHARE).next().expect("unshare");
    assert_eq!(
        (unshare.flags, unshare.result),
        (libc::CLONE_NEWNS as u64, 0)
    );
    assert_eq!(unshare.stage, mount_stage::DONE);
    let strings = |mount: &Mount| {
        [
            text(&mount.source[..usize::from(mount.source_len)]),
            text(&mount.target[..usize::from(mount.target_len)]),
            text(&mount.fs_type[..usize::from(mount.fs_type_len)]),
        ]
    };
    let tmpfs = of(mount_call::MOUNT)
        .find(|mount| strings(mount) == ["some-name", "/mnt", "tmpfs"])
        .expect("mount of a tmpfs");
    assert_eq!(tmpfs.result, 0);
    assert!(
        (1_000..5_000_000_000).contains(&tmpfs.duration_ns),
        "{}",
        tmpfs.duration_ns
    );
    let umount = of(mount_call::UMOUNT).next().expect("umount");
    assert_eq!((strings(umount)[1].as_str(), umount.result), ("/mnt", 0));
    let failed = of(mount_call::MOUNT)
        .find(|mount| strings(mount)[0] == "no-such-device")
        .expect("mount of a missing device");
    assert_eq!(
        (strings(failed)[1].as_str(), strings(failed)[2].as_str()),
        ("/mnt", "ext4")
    );
    assert_eq!(failed.result, -i64::from(libc::ENOENT));
}

#[test]
fn the_pid_inside_is_the_one_of_the_namespace_of_pid_1() {
    let cgroup = TestCgroup::unified();
    let mut child = TestCgroup::command(&[&cgroup], "/usr/bin/unshare")
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            "/bin/sh",
            "-c",
            "read line; /bin/true; exit 0",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .expect("spawned");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let pid_1: u32 = loop {
        let text = fs::read_to_string(&children).expect("children");
        if let Some(pid) = text.split_whitespace().next() {
            break pid.parse().expect("a number");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let options = Options {
        pid: pid_1,
        ..Options::default()
    };
    let mut trace = Trace::of(&cgroup, &options);
    drop(child.stdin.take());
    let unshare = child.id();
    assert_eq!(finish(child), 0);
    trace.read_until(|trace| trace.exit_of(unshare).is_some());
    let exit = trace.exit_of(pid_1).expect("end of PID 1");
    assert_eq!(
        (exit.header.task.jail_pid, exit.header.task.ns_level),
        (1, 1)
    );
    assert_eq!((exit.parent.jail_pid, exit.parent.ns_level), (0, 0));
    let fork = trace.all::<Fork>(kind::FORK);
    let fork = fork.iter().find(|fork| fork.header.task.pid == pid_1);
    assert_eq!(fork.expect("a fork").child.jail_pid, 2);
}

#[test]
fn threads_are_told_only_when_asked_for() {
    for threads in [false, true] {
        let cgroup = TestCgroup::unified();
        let options = Options {
            threads,
            ..Options::default()
        };
        let mut trace = Trace::of(&cgroup, &options);
        let child = TestCgroup::command(&[&cgroup], "/usr/bin/python3")
            .args(["-c", "import threading as t; x = [t.Thread(target=lambda: 0) for _ in range(3)]; [y.start() for y in x]; [y.join() for y in x]"])
            .spawn()
            .expect("spawned");
        let pid = child.id();
        assert_eq!(finish(child), 0);
        trace.read_until(|trace| {
            trace.exit_of(pid).is_some_and(|_| {
                trace
                    .all::<Exit>(kind::EXIT)
                    .iter()
                    .any(|exit| exit.group_dead == 1)
            })
        });
        let of_threads = |fork: &&Fork| fork.child.pid != fork.child.tid;
        let forks = trace.all::<Fork>(kind::FORK);
        let exits = trace.all::<Exit>(kind::EXIT);
        assert_eq!(
            forks.iter().filter(of_threads).count(),
            if threads { 3 } else { 0 }
        );
        assert_eq!(exits.len(), if threads { 4 } else { 1 });
        assert_eq!(exits.iter().filter(|exit| exit.group_dead == 1).count(), 1);
    }
}

#[test]
fn an_oom_kill_is_told_with_its_limit() {
    const LIMIT: u64 = 32 << 20;
    let cgroup = TestCgroup::unified();
    // On a hybrid host the memory controller has a hierarchy of its own.
    let memory = "/sys/fs/cgroup/memory";
    assert!(
        Path::new(memory).is_dir(),
        "no v1 memory controller on this host"
    );
    let memory = TestCgroup::new(memory);
    fs::write(memory.0.join("memory.limit_in_bytes"), LIMIT.to_string()).expect("limit set");
    // No swapping, where swap is counted.
    let _ = fs::write(
        memory.0.join("memory.memsw.limit_in_bytes"),
        LIMIT.to_string(),
    );
    let mut trace = Trace::of(&cgroup, &Options::default());
    let child = TestCgroup::command(&[&cgroup, &memory], "/usr/bin/python3")
        .args(["-c", "b = bytearray(200 << 20)"])
        .spawn()
        .expect("spawned");
    let pid = child.id();
    assert_eq!(finish(child), libc::SIGKILL);
    trace.read_until(|trace| trace.exit_of(pid).is_some());
    let kills = trace.all::<OomKill>(kind::OOM_KILL);
    assert_eq!(kills.len(), 1);
    let kill = &kills[0];
    assert_eq!(
        (kill.victim.pid, comm(&kill.victim).as_str()),
        (pid, "python3")
    );
    assert_eq!(kill.header.task.pid, pid);
    assert_eq!((kill.killed_by_kernel, kill.syscall), (1, -1));
    assert!(
        kill.anon_bytes > LIMIT / 2 && kill.anon_bytes < LIMIT,
        "{}",
        kill.anon_bytes
    );
    assert!(kill.total_vm_bytes > 200 << 20);
    assert!(kill.page_table_bytes > 0);
    let own = &kill.chain[0];
    assert_eq!(own.cgroup_id, memory.id());
    assert_eq!(own.limit_bytes, LIMIT);
    assert!(own.usage_bytes > LIMIT * 9 / 10 && own.usage_bytes <= LIMIT);
    let name = text(own.name.split(|&byte| byte == 0).next().unwrap_or(&[]));
    assert_eq!(name, memory.0.file_name().expect("name").to_string_lossy());
    assert_eq!((kill.levels, kill.more_levels), (2, 0));
    assert_eq!(kill.chain[1].limit_bytes, u64::MAX);
    let signal = trace.all::<SignalGenerated>(kind::SIGNAL_GENERATED);
    let signal = signal.iter().find(|signal| signal.signal == libc::SIGKILL);
    assert_eq!(signal.expect("the kernel's SIGKILL").code, 128);
}

#[test]
fn what_happens_outside_the_cgroup_is_not_told() {
    let cgroup = TestCgroup::unified();
    let mut trace = Trace::of(&cgroup, &Options::default());
    let status = Command::new("/bin/sh")
        .args(["-c", "/bin/true; kill $$"])
        .status();
    assert!(!status.expect("ran").success());
    let other = TestCgroup::unified();
    let child = TestCgroup::command(&[&other], "/bin/true")
        .spawn()
        .expect("spawned");
    assert_eq!(finish(child), 0);
    thread::sleep(Duration::from_millis(100));
    trace.read();
    assert_eq!(trace.kinds(), [0u32; 0]);
}

#[test]
fn a_ring_too_small_counts_what_it_loses() {
    let cgroup = TestCgroup::unified();
    let options = Options {
        ring_bytes: 1,
        ..Options::default()
    };
    let mut trace = Trace::of(&cgroup, &options);
    let child = TestCgroup::command(&[&cgroup], "/bin/sh")
        .args([
            "-c",
            "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i + 1)); done",
        ])
        .spawn()
        .expect("spawned");
    assert_eq!(finish(child), 0);
    trace.read();
    let seen = trace.all::<Fork>(kind::FORK).len() as u64;
    let lost: u64 = trace
        .tracer
        .lost()
        .iter()
        .filter(|lost| lost.event_kind == "fork" && lost.cpu.is_some())
        .map(|lost| lost.count)
        .sum();
    assert!(lost > 0);
    assert_eq!(seen + lost, 300);
}
