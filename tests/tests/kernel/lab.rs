//! The lab on this kernel: every scenario must end in the right verdict.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use procjail::lab::{self, Need};
use procjail_tests::{Invocation, kernel, scene};

/// What `procjail lab` exits with where the machine lacks what a scenario needs.
const NEEDS: i32 = 3;

/// A swap area while one scenario is played. All others expect the OOM killer where memory ends, so it is
/// not switched on for them.
struct Swap(CString);

impl Swap {
    /// The device that `PROCJAIL_TEST_SWAP` names, for a scenario that needs swap.
    fn of(id: &str) -> Option<Swap> {
        let scenario = lab::find(id).expect("a scenario");
        let device = std::env::var_os("PROCJAIL_TEST_SWAP")?;
        if !scenario.needs.contains(&Need::Swap) {
            return None;
        }
        let device = CString::new(device.into_vec()).expect("a path");
        // SAFETY: the path is a C string.
        let done = unsafe { libc::swapon(device.as_ptr(), 0) };
        assert_eq!(done, 0, "swapon {device:?}: {}", io::Error::last_os_error());
        Some(Swap(device))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // SAFETY: the path is a C string.
        let done = unsafe { libc::swapoff(self.0.as_ptr()) };
        let error = io::Error::last_os_error();
        let ok = done == 0 || std::thread::panicking();
        assert!(ok, "swapoff {:?}: {error}", self.0);
    }
}

/// Plays a scenario. Where the machine lacks something, that is noted.
fn play(id: &str) {
    scene(|scene| {
        let _swap = Swap::of(id);
        // For `cargo xtask record --machine`.
        let kept = std::env::var_os("PROCJAIL_TEST_TRACES")
            .map(|directory| PathBuf::from(directory).join(format!("{id}.jsonl")))
            .map(|path| path.display().to_string());
        let keep: &[&str] = match &kept {
            Some(path) => &["-o", path],
            None => &[],
        };
        let finished = scene.procjail(&[&["lab", id], keep].concat()).finish();
        match finished.code {
            Some(0) => {}
            Some(NEEDS) => {
                assert!(
                    finished.stderr.contains("does not have what it needs: "),
                    "{}",
                    finished.stderr
                );
                kernel::note(&format!("not played here: {}", finished.stderr.trim()));
            }
            _ => panic!("{}\n{}", finished.stdout, finished.stderr),
        }
    });
}

#[test]
fn another_user_gets_at_what_a_private_root_has() {
    scene(|scene| {
        // The test's own directory has mode 0700.
        let program = scene.path("procjail");
        std::fs::copy(procjail_tests::procjail(), &program).expect("a copy of procjail");
        let script = "umask 077; exec \"$0\" lab fork-eagain-nproc";
        Invocation::new("/bin/sh".into(), scene.directory())
            .args(&["-c", script, &program.display().to_string()])
            .finish()
            .expect_code(0);
    });
}

macro_rules! scenarios {
    ($($name:ident = $id:literal),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                play($id);
            }
        )+

        #[test]
        fn every_scenario_is_played() {
            let played = [$($id),+];
            let missing: Vec<_> = lab::all()
                .map(|scenario| scenario.id)
                .filter(|id| !played.contains(id))
                .collect();
            assert_eq!(missing, [""; 0], "add them to this file");
        }
    };
}

scenarios! {
    term_ignored_pid1_default = "term-ignored-pid1-default",
    term_stuck_in_shell = "term-stuck-in-shell",
    term_shell_trap_deferred = "term-shell-trap-deferred",
    term_shell_wait_interrupted = "term-shell-wait-interrupted",
    term_blocked = "term-blocked",
    term_ignored_inherited = "term-ignored-inherited",
    term_ignored_by_choice = "term-ignored-by-choice",
    term_handler_no_exit = "term-handler-no-exit",
    term_reraised_pid1 = "term-reraised-pid1",
    term_shutdown_unfinished = "term-shutdown-unfinished",
    term_deadlock = "term-deadlock",
    term_reload = "term-reload",
    ended_on_request = "ended-on-request",
    term_slow_shutdown = "term-slow-shutdown",
    term_shutdown_cpu_throttled = "term-shutdown-cpu-throttled",
    term_wrapper_not_forwarding = "term-wrapper-not-forwarding",
    term_wrapper_exits_first = "term-wrapper-exits-first",
    stop_signal_mismatch = "stop-signal-mismatch",
    term_pending_stopped = "term-pending-stopped",
    term_pending_frozen = "term-pending-frozen",
    term_pending_uninterruptible = "term-pending-uninterruptible",
    term_wrong_target = "term-wrong-target",
    term_not_sent = "term-not-sent",
    oom_own_limit = "oom-own-limit",
    oom_missed_by_runtime = "oom-missed-by-runtime",
    oom_ancestor_limit = "oom-ancestor-limit",
    oom_child_invisible = "oom-child-invisible",
    oom_group_kill = "oom-group-kill",
    oom_innocent_victim = "oom-innocent-victim",
    oom_shmem_tmpfs = "oom-shmem-tmpfs",
    oom_page_cache_unreclaimable = "oom-page-cache-unreclaimable",
    oom_kernel_memory = "oom-kernel-memory",
    oom_socket_buffers = "oom-socket-buffers",
    oom_swap_capped = "oom-swap-capped",
    oom_fork_bomb = "oom-fork-bomb",
    oom_repeat_loop = "oom-repeat-loop",
    oom_victim_stuck = "oom-victim-stuck",
    oom_no_eligible_victim = "oom-no-eligible-victim",
    oom_disabled_v1_hang = "oom-disabled-v1-hang",
    oom_shared_mm_collateral = "oom-shared-mm-collateral",
    oom_runtime_heap_exceeds_limit = "oom-runtime-heap-exceeds-limit",
    oom_inside_runtime = "oom-inside-runtime",
    mem_growth_spike = "mem-growth-spike",
    mem_growth_leak = "mem-growth-leak",
    oom_at_start = "oom-at-start",
    oom_earlier_not_cause = "oom-earlier-not-cause",
    mem_high_throttle = "mem-high-throttle",
    mem_high_then_kill = "mem-high-then-kill",
    mem_thrash_no_kill = "mem-thrash-no-kill",
    enomem_not_oom = "enomem-not-oom",
    kill_userspace_oomd = "kill-userspace-oomd",
    fork_eagain_pids_max = "fork-eagain-pids-max",
    fork_eagain_nproc = "fork-eagain-nproc",
    fork_bomb = "fork-bomb",
    kill_after_grace = "kill-after-grace",
    kill_external = "kill-external",
    kill_internal = "kill-internal",
    kill_cgroup_kill = "kill-cgroup-kill",
    kill_broadcast = "kill-broadcast",
    kill_pidns_teardown = "kill-pidns-teardown",
    kill_pdeathsig = "kill-pdeathsig",
    kill_ptrace_exitkill = "kill-ptrace-exitkill",
    exit_137_not_oom = "exit-137-not-oom",
    sigpipe_death = "sigpipe-death",
    sighup_tty_close = "sighup-tty-close",
    sighup_orphaned_pgrp = "sighup-orphaned-pgrp",
    sigint_foreground = "sigint-foreground",
    sigalrm_unhandled = "sigalrm-unhandled",
    segv_fault = "segv-fault",
    segv_stack_overflow = "segv-stack-overflow",
    abrt_self = "abrt-self",
    abrt_watchdog = "abrt-watchdog",
    ill_cpu_feature = "ill-cpu-feature",
    ill_trap = "ill-trap",
    fpe = "fpe",
    trap_unhandled = "trap-unhandled",
    sigbus_shm_full = "sigbus-shm-full",
    sigbus_truncated = "sigbus-truncated",
    sigsys_seccomp = "sigsys-seccomp",
    seccomp_thread_killed = "seccomp-thread-killed",
    seccomp_errno = "seccomp-errno",
    rlimit_cpu = "rlimit-cpu",
    rlimit_fsize = "rlimit-fsize",
    enospc = "enospc",
    emfile = "emfile",
    setup_failed = "setup-failed",
    kernel_limit = "kernel-limit",
    cpu_throttled = "cpu-throttled",
    exit_127_not_found = "exit-127-not-found",
    exit_126_not_executable = "exit-126-not-executable",
    exec_interpreter_missing = "exec-interpreter-missing",
    exec_wrong_arch = "exec-wrong-arch",
    exit_127_loader = "exit-127-loader",
    exit_own_code = "exit-own-code",
    exited_by_itself = "exited-by-itself",
    exit_128n_by_program = "exit-128n-by-program",
    exit_status_laundered = "exit-status-laundered",
    exit_zero_but_worker_died = "exit-zero-but-worker-died",
    exit_daemonized = "exit-daemonized",
    exit_wrapped = "exit-wrapped",
    exit_code_synthetic = "exit-code-synthetic",
    conflict = "conflict",
    runtime_state_stale = "runtime-state-stale",
    status_stolen = "status-stolen",
    sigchld_ignored_autoreap = "sigchld-ignored-autoreap",
    zombie_pid1_not_reaping = "zombie-pid1-not-reaping",
    zombie_parent_not_reaping = "zombie-parent-not-reaping",
    zombie_leader_live_threads = "zombie-leader-live-threads",
    zombie_traced = "zombie-traced",
    zombie_outside_parent = "zombie-outside-parent",
    zombie_jail_init_unreaped = "zombie-jail-init-unreaped",
    orphan_outlives_parent = "orphan-outlives-parent",
    orphan_exec_session = "orphan-exec-session",
    hang_pidns_zap = "hang-pidns-zap",
    hang_d_state_fuse = "hang-d-state-fuse",
    hang_frozen = "hang-frozen",
    hang_ptrace_exit_stop = "hang-ptrace-exit-stop",
    hang_exec_dethread = "hang-exec-dethread",
    hang_coredump = "hang-coredump",
    hang_exit_mmap = "hang-exit-mmap",
    hang_cgroup_straggler = "hang-cgroup-straggler",
    hang_stdio_held = "hang-stdio-held",
    cgroup_rmdir_ebusy = "cgroup-rmdir-ebusy",
    mount_propagated_to_host = "mount-propagated-to-host",
    mount_held_by_other_ns = "mount-held-by-other-ns",
    mount_held_by_own_helper = "mount-held-by-own-helper",
    mount_fuse_daemon_dead = "mount-fuse-daemon-dead",
    umount_busy = "umount-busy",
    mount_lazy_alive = "mount-lazy-alive",
    umount_locked = "umount-locked",
    ns_pinned = "ns-pinned",
    cgroup_dying_pinned = "cgroup-dying-pinned",
    pid_reused = "pid-reused",
    clock_skew = "clock-skew",
    kmsg_ratelimited = "kmsg-ratelimited",
    cgroup_join_ebusy = "cgroup-join-ebusy",
    leftover_from_previous_run = "leftover-from-previous-run",
}
