//! Every law that the enricher relies on, with records made by hand.

use procjail_common::{Task as Raw, mount_call, task_flags};

use super::*;
use crate::event::fixture::{self as make, *};

fn enricher() -> Enricher {
    Enricher::new(
        Task {
            pid: 4100,
            tid: 4100,
            comm: "procjail".to_owned(),
            ..Task::default()
        },
        4096,
    )
}

fn what(enricher: &mut Enricher, record: Record) -> What {
    enricher.record(record).expect("part of the trace").what
}

macro_rules! expect {
    ($enricher:expr, $record:expr, $variant:ident) => {
        match what(&mut $enricher, $record) {
            What::$variant(data) => data,
            other => panic!("not {}: {other:?}", stringify!($variant)),
        }
    };
}

fn status_of(record: procjail_common::Exit) -> ExitStatus {
    expect!(enricher(), Record::Exit(record), Exit).status
}

fn code(code: i32) -> ExitStatus {
    ExitStatus {
        code: Some(code),
        ..ExitStatus::default()
    }
}

fn by_signal(number: i32, core_dumped: bool) -> ExitStatus {
    ExitStatus {
        code: None,
        signal: Some(Signal::new(number)),
        core_dumped,
    }
}

#[test]
fn status_words_are_decoded_as_by_wait() {
    assert_eq!(ExitStatus::from_wait(0x700), code(7));
    assert_eq!(ExitStatus::from_wait(0x8900), code(137));
    assert_eq!(ExitStatus::from_wait(0xff00), code(255));
    assert_eq!(ExitStatus::from_wait(9), by_signal(9, false));
    assert_eq!(ExitStatus::from_wait(0x8b), by_signal(11, true));
}

#[test]
fn a_group_that_ends_has_the_groups_status_and_else_the_leaders() {
    let app = task(2, "app");
    let base = exit(GATE_NS, app, task(1, "sh"), 0);
    // exit_group(7) by another thread than the last one to die.
    assert_eq!(
        status_of(procjail_common::Exit {
            group_exit_code: 0x700,
            exit_code: 9,
            leader_exit_code: 9,
            ..base
        }),
        code(7)
    );
    // The leader left early with 3 by exit(2), the last thread with 0: wait(2) tells 3.
    assert_eq!(
        status_of(procjail_common::Exit {
            signal_flags: 0,
            group_exit_code: 0,
            leader_exit_code: 0x300,
            exit_code: 0,
            ..base
        }),
        code(3)
    );
    // A thread that ends alone has its own, seccomp's KILL_THREAD included.
    let thread = status_of(procjail_common::Exit {
        signal_flags: 0,
        group_dead: 0,
        exit_code: 31,
        leader_exit_code: 0x300,
        ..base
    });
    assert_eq!(thread, by_signal(31, false));
}

#[test]
fn the_leaders_early_exit_is_not_the_end_of_the_process() {
    let mut enricher = enricher();
    let (init, app) = (task(1, "sh"), task(2, "app"));
    enricher.record(fork(GATE_NS, init, app));
    let early = procjail_common::Exit {
        group_dead: 0,
        signal_flags: 0,
        ..exit(GATE_NS + 1, app, init, 0)
    };
    assert!(!expect!(enricher, Record::Exit(early), Exit).process);
    assert_eq!(enricher.zombies(), 0);
    let last = exit(GATE_NS + 2, thread(app, 9000), init, 0x700);
    let last = expect!(enricher, Record::Exit(last), Exit);
    assert!(last.process);
    assert_eq!(last.lifetime_ns, GATE_NS + 2 - app.start_ns);
    assert_eq!(enricher.zombies(), 1);
}

#[test]
fn latency_counts_from_the_first_of_coalesced_signals() {
    let mut enricher = enricher();
    let (bash, app) = (outside(4121, "bash"), task(1, "app"));
    let first = enricher
        .record(Record::SignalGenerated(sent(GATE_NS, bash, app, 15)))
        .map(|event| event.seq);
    let again = procjail_common::SignalGenerated {
        result: 2,
        ..sent(GATE_NS + 100, bash, app, 15)
    };
    let again = expect!(enricher, Record::SignalGenerated(again), SignalGenerated);
    assert_eq!(again.result, SignalResult::AlreadyPending);
    let arrived = Record::SignalDelivered(delivered(GATE_NS + 500, app, 15));
    let arrived = expect!(enricher, arrived, SignalDelivered);
    assert_eq!(
        (arrived.latency_ns, arrived.generated_seq),
        (Some(500), first)
    );
    // It was forgotten with its delivery.
    let unsent = Record::SignalDelivered(delivered(GATE_NS + 600, app, 15));
    assert_eq!(expect!(enricher, unsent, SignalDelivered).latency_ns, None);
}

#[test]
fn a_signal_that_was_queued_anew_replaces_one_that_was_taken_back() {
    let mut enricher = enricher();
    let (bash, app) = (outside(4121, "bash"), task(1, "app"));
    enricher.record(Record::SignalGenerated(sent(GATE_NS, bash, app, 15)));
    enricher.record(Record::SignalGenerated(sent(GATE_NS + 100, bash, app, 15)));
    let arrived = Record::SignalDelivered(delivered(GATE_NS + 150, app, 15));
    assert_eq!(
        expect!(enricher, arrived, SignalDelivered).latency_ns,
        Some(50)
    );
}

#[test]
fn real_time_signals_queue() {
    let mut enricher = enricher();
    let app = task(1, "app");
    for time in [0, 10, 20] {
        enricher.record(Record::SignalGenerated(sent(GATE_NS + time, app, app, 40)));
    }
    for latency in [100, 90, 80] {
        let arrived = Record::SignalDelivered(delivered(GATE_NS + 100, app, 40));
        assert_eq!(
            expect!(enricher, arrived, SignalDelivered).latency_ns,
            Some(latency)
        );
    }
}

#[test]
fn a_signal_to_a_thread_is_not_one_to_its_process() {
    let mut enricher = enricher();
    let (bash, app) = (outside(4121, "bash"), task(1, "app"));
    let worker = thread(app, 9000);
    let private = procjail_common::SignalGenerated {
        flags: 0,
        ..sent(GATE_NS, bash, worker, 10)
    };
    enricher.record(Record::SignalGenerated(private));
    let main = Record::SignalDelivered(delivered(GATE_NS + 5, app, 10));
    assert_eq!(expect!(enricher, main, SignalDelivered).latency_ns, None);
    let own = Record::SignalDelivered(delivered(GATE_NS + 7, worker, 10));
    assert_eq!(expect!(enricher, own, SignalDelivered).latency_ns, Some(7));
}

#[test]
fn a_fatal_signal_is_delivered_as_sigkill_to_every_thread() {
    let mut enricher = enricher();
    let (bash, app) = (outside(4121, "bash"), task(2, "app"));
    enricher.record(Record::SignalGenerated(sent(GATE_NS, bash, app, 15)));
    for (task, latency) in [(thread(app, 9000), 20), (app, 30)] {
        let arrived = Record::SignalDelivered(killed(GATE_NS + latency, task, 15));
        let arrived = expect!(enricher, arrived, SignalDelivered);
        assert_eq!(arrived.signal, Signal::new(9));
        assert_eq!(arrived.fatal, Some(Signal::new(15)));
        assert_eq!(
            (arrived.latency_ns, arrived.generated_seq),
            (Some(latency), Some(1))
        );
    }
}

#[test]
fn a_kill_is_its_own_cause_and_exit_group_is_none() {
    let mut enricher = enricher();
    let (bash, app) = (outside(4121, "bash"), task(2, "app"));
    // exit_group(7) pokes the siblings with SIGKILL; nobody sent one.
    let sibling = Record::SignalDelivered(killed(GATE_NS, thread(app, 9000), 0x700));
    let sibling = expect!(enricher, sibling, SignalDelivered);
    assert_eq!((sibling.fatal, sibling.generated_seq), (None, None));
    enricher.record(Record::SignalGenerated(sent(GATE_NS, bash, app, 9)));
    let kill = Record::SignalDelivered(killed(GATE_NS + 3, app, 9));
    let kill = expect!(enricher, kill, SignalDelivered);
    assert_eq!(
        (kill.fatal, kill.latency_ns),
        (Some(Signal::new(9)), Some(3))
    );
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut enricher = enricher();
    let (bash, init) = (outside(4121, "bash"), task(1, "sh"));
    let first = task(2, "first");
    let second = Raw {
        start_ns: first.start_ns + 5_000_000,
        jail_pid: 3,
        ns_pid: 3,
        comm: bytes("second"),
        ..first
    };
    enricher.record(fork(GATE_NS, init, first));
    enricher.record(Record::SignalGenerated(sent(GATE_NS, bash, first, 15)));
    enricher.record(Record::Exit(exit(GATE_NS + 1, first, init, 0)));
    enricher.record(fork(GATE_NS + 5, init, second));
    let stale = Record::SignalDelivered(delivered(GATE_NS + 6, second, 15));
    assert_eq!(expect!(enricher, stale, SignalDelivered).latency_ns, None);
    // The late release of the first does not touch the second.
    let gone = expect!(enricher, free(GATE_NS + 7, first), Free);
    assert_eq!((gone.process.pid, gone.process.jail_pid), (first.pid, None));
    enricher.record(Record::Exit(exit(GATE_NS + 10, second, init, 0)));
    let reaped = expect!(enricher, Record::Reap(reap(GATE_NS + 14, init, 3)), Reap);
    assert_eq!(
        (reaped.child.comm.as_str(), reaped.zombie_ns),
        ("second", Some(4))
    );
    // Nor does the first's PID in the jail lead to the second.
    let unknown = expect!(enricher, Record::Reap(reap(GATE_NS + 15, init, 2)), Reap);
    assert_eq!((unknown.child.pid, unknown.child.jail_pid), (0, Some(2)));
}

#[test]
fn a_wait_that_tells_of_a_stop_reaps_nobody() {
    let mut enricher = enricher();
    let (init, child) = (task(1, "sh"), task(2, "app"));
    enricher.record(fork(GATE_NS, init, child));
    let stop = procjail_common::Reap {
        options: libc::WUNTRACED as u32,
        ..reap(GATE_NS + 1, init, 2)
    };
    assert_eq!(enricher.record(Record::Reap(stop)), None);
    enricher.record(Record::Exit(exit(GATE_NS + 2, child, init, 0)));
    let peek = procjail_common::Reap {
        options: WNOWAIT,
        waitid: 1,
        ..reap(GATE_NS + 3, init, 2)
    };
    assert_eq!(enricher.record(Record::Reap(peek)), None);
    assert_eq!(enricher.zombies(), 1);
    let reaped = enricher.record(Record::Reap(reap(GATE_NS + 9, init, 2)));
    let Some(Event {
        seq,
        what: What::Reap(reaped),
        ..
    }) = reaped
    else {
        panic!("reaped now");
    };
    // What is dropped takes no sequence number.
    assert_eq!((seq, reaped.zombie_ns), (3, Some(7)));
    assert_eq!(enricher.zombies(), 0);
}

#[test]
fn reapers_number_their_children_in_their_own_namespace() {
    let mut enricher = enricher();
    // PID 5 of the jail is PID 1 of a namespace of its own, with a child 2 there, 6 in the jail.
    let inner = Raw {
        ns_pid: 1,
        ns_level: 2,
        ..task(5, "inner")
    };
    let child = Raw {
        ns_pid: 2,
        ns_level: 2,
        ..task(6, "child")
    };
    let other = task(2, "other");
    enricher.record(fork(GATE_NS, task(1, "sh"), other));
    enricher.record(fork(GATE_NS, inner, child));
    enricher.record(Record::Exit(exit(GATE_NS, other, task(1, "sh"), 0)));
    enricher.record(Record::Exit(exit(GATE_NS, child, inner, 0)));
    let reaped = expect!(enricher, Record::Reap(reap(GATE_NS + 1, inner, 2)), Reap);
    assert_eq!(reaped.child.comm, "child");
    // A process that was moved into the jail's cgroup from the host counts as the host does.
    let guest = Raw {
        flags: task_flags::IN_JAIL,
        ..outside(4121, "guest")
    };
    let reaped = expect!(
        enricher,
        Record::Reap(reap(GATE_NS + 2, guest, other.pid)),
        Reap
    );
    assert_eq!(reaped.child.comm, "other");
}

#[test]
fn zombies_are_counted_when_pid_1_ends() {
    let mut enricher = enricher();
    let init = task(1, "sh");
    for pid in 2..=5 {
        let child = task(pid, "child");
        enricher.record(fork(GATE_NS, init, child));
        enricher.record(Record::Exit(exit(GATE_NS + 1, child, init, 0)));
        // Number 5's parent ignores SIGCHLD then: the kernel reaps it.
        if pid != 5 {
            enricher.record(child_ended(GATE_NS + 2, child, init, 1));
        }
    }
    enricher.record(Record::Reap(reap(GATE_NS + 3, init, 2)));
    // Killed by the namespace's end, after PID 1.
    let survivor = task(6, "survivor");
    enricher.record(fork(GATE_NS + 4, init, survivor));
    enricher.record(Record::Exit(exit(
        GATE_NS + 5,
        init,
        outside(4100, "procjail"),
        0,
    )));
    enricher.record(Record::Exit(exit(GATE_NS + 6, survivor, init, 9)));
    enricher.record(child_ended(GATE_NS + 6, survivor, init, 2));
    assert_eq!(enricher.zombies(), 2);
    assert_eq!(enricher.processes(), 6);
}

#[test]
fn threads_are_no_processes() {
    let mut enricher = enricher();
    let app = task(1, "app");
    let made = expect!(enricher, fork(GATE_NS, app, thread(app, 9000)), Fork);
    assert!(made.thread);
    assert_eq!(enricher.processes(), 1);
}

#[test]
fn the_limit_that_was_hit_is_the_lowest_without_room() {
    let mib = 1 << 20;
    let names = |levels: &[procjail_common::MemcgLevel]| -> Vec<String> {
        let (trigger, victim) = (task(1, "sh"), task(2, "app"));
        let kill = Record::OomKill(Box::new(oom_kill(GATE_NS, trigger, victim, levels)));
        let kill = expect!(enricher(), kill, OomKill);
        kill.chain
            .into_iter()
            .filter(|level| level.at_limit)
            .map(|level| level.name)
            .collect()
    };
    let root = level(1, "", 900 * mib, u64::MAX);
    let own = level(3, "web", 32 * mib - 4096, 32 * mib);
    let parent = level(2, "procjail", 64 * mib, 64 * mib);
    assert_eq!(names(&[own, parent, root]), ["web"]);
    // The jail has room, its parent has not.
    let roomy = level(3, "web", 10 * mib, 32 * mib);
    assert_eq!(names(&[roomy, parent, root]), ["procjail"]);
    // Nobody is full: the machine is.
    assert_eq!(names(&[roomy, root]), [""; 0]);
    // v1: room for memory, none for memory and swap together.
    let swap = procjail_common::MemcgLevel {
        swap_usage_bytes: 16 * mib,
        swap_limit_bytes: 16 * mib,
        ..roomy
    };
    assert_eq!(names(&[swap, root]), ["web"]);
    assert_eq!(names(&[]), [""; 0]);
}

#[test]
fn the_set_up_of_the_jail_is_not_part_of_the_trace() {
    let mut enricher = enricher();
    let init = task(1, "procjail");
    let mounted = || {
        Record::Mount(Box::new(make::mount(
            GATE_NS,
            init,
            mount_call::MOUNT,
            "proc",
            "/proc",
        )))
    };
    assert_eq!(enricher.record(mounted()), None);
    // What is wrong with APP is.
    let failed = expect!(
        enricher,
        exec_failed(GATE_NS, init, "/bin/nothing", libc::ENOENT),
        ExecFailed
    );
    assert_eq!(failed.error.name, "ENOENT");
    enricher.record(exec(GATE_NS, init, "/bin/sh", &["sh"]));
    assert_eq!(expect!(enricher, mounted(), Mount).result, Some(0));
}

#[test]
fn system_calls_that_fail_or_never_return_are_told_apart() {
    let base = make::mount(GATE_NS, task(2, "umount"), mount_call::UMOUNT, "", "/mnt");
    let busy = procjail_common::Mount {
        result: -i64::from(libc::EBUSY),
        ..base
    };
    let busy = expect!(enricher(), Record::Mount(Box::new(busy)), Mount);
    assert_eq!(busy.error.map(|error| error.name), Some("EBUSY".to_owned()));
    let stuck = procjail_common::Mount {
        stage: mount_stage::UNFINISHED,
        ..base
    };
    let stuck = expect!(enricher(), Record::Mount(Box::new(stuck)), Mount);
    assert_eq!((stuck.result, stuck.error), (None, None));
    let strange = procjail_common::Mount {
        result: i64::MIN,
        ..base
    };
    let strange = expect!(enricher(), Record::Mount(Box::new(strange)), Mount);
    assert_eq!(strange.result, Some(i64::MIN));
}

#[test]
fn time_never_goes_back_and_numbers_have_no_gaps() {
    let mut enricher = enricher();
    let app = task(1, "app");
    let times: Vec<_> = [30, 10, 40]
        .into_iter()
        .filter_map(|time| enricher.record(exec(time, app, "/a", &["a"])))
        .map(|event| (event.seq, event.time_ns))
        .collect();
    assert_eq!(times, [(1, 30), (2, 30), (3, 40)]);
}

#[test]
fn a_dying_task_keeps_its_pid_in_the_jail() {
    let mut enricher = enricher();
    let (init, child) = (task(1, "sh"), task(2, "app"));
    enricher.record(fork(GATE_NS, init, child));
    let late = Raw {
        jail_pid: 0,
        ..child
    };
    let event = enricher.record(Record::SignalGenerated(sent(GATE_NS, late, init, 17)));
    assert_eq!(event.and_then(|event| event.task.jail_pid), Some(2));
    let gone = expect!(enricher, free(GATE_NS, child), Free);
    assert_eq!(
        (gone.process.jail_pid, gone.process.comm.as_str()),
        (Some(2), "app")
    );
}

#[test]
fn memory_is_bounded_however_many_processes_are_never_released() {
    let mut enricher = enricher();
    let init = task(1, "sh");
    for number in 0..70_000 {
        let child = Raw {
            pid: 100_000 + number,
            tid: 100_000 + number,
            jail_pid: 10 + number,
            ..task(2, "x")
        };
        enricher.record(fork(GATE_NS, init, child));
    }
    assert_eq!(enricher.processes(), 70_001);
    assert_eq!(enricher.processes.len(), 1 << 16);
    for _ in 0..1000 {
        enricher.record(Record::SignalGenerated(sent(GATE_NS, init, init, 50)));
    }
    let child = Raw {
        pid: 100_000,
        tid: 100_000,
        jail_pid: 10,
        ..task(2, "x")
    };
    assert_eq!(
        expect!(enricher, free(GATE_NS, child), Free)
            .process
            .jail_pid,
        Some(10)
    );
    assert_eq!(enricher.processes.len(), (1 << 16) - 1);
}

#[test]
fn an_argument_of_exit_is_told_if_it_was_what_ended_the_process() {
    let told =
        |record: procjail_common::Exit| expect!(enricher(), Record::Exit(record), Exit).argument;
    let base = |status| exit(GATE_NS, task(1, "app"), task(0, "procjail"), status);
    let argument = |status, argument| {
        told(procjail_common::Exit {
            syscall: libc::SYS_exit_group as u32,
            argument,
            ..base(status)
        })
    };
    let by_another = |status, group_argument| {
        told(procjail_common::Exit {
            group_argument,
            has_group_argument: 1,
            ..base(status)
        })
    };
    assert_eq!(by_another(0x100, 257), Some(257));
    assert_eq!(by_another(0x200, 257), None);
    assert_eq!(argument(0x100, 257), Some(257));
    assert_eq!(argument(0xff00, -1), Some(-1));
    assert_eq!(argument(0x200, 257), None, "another thread was quicker");
    assert_eq!(argument(9, 9), None, "a signal");
    let exit = expect!(enricher(), Record::Exit(base(0)), Exit);
    assert_eq!(exit.argument, None, "by a call that it was not in");
    assert_eq!((exit.process_group, exit.session), (4131, 4131));
}

#[test]
fn only_a_fault_has_an_address() {
    let (app, other) = (task(2, "app"), task(3, "other"));
    let base = procjail_common::SignalGenerated {
        flags: 0,
        code: 1,
        fault_address: 8,
        instruction: 0x1000,
        stack_pointer: 0x2000,
        ..sent(GATE_NS, app, app, libc::SIGSEGV)
    };
    let fault =
        |record| expect!(enricher(), Record::SignalGenerated(record), SignalGenerated).fault;
    let at = |address| {
        Some(Fault {
            address,
            instruction: 0x1000,
            stack_pointer: 0x2000,
        })
    };
    assert_eq!(fault(base), at(8));
    // A pointer that is none: the processor doesn't tell its value.
    let code = libc::SI_KERNEL;
    assert_eq!(
        fault(procjail_common::SignalGenerated { code, ..base }),
        at(0)
    );
    for nothing in [
        procjail_common::SignalGenerated { code: 0, ..base },
        procjail_common::SignalGenerated { code: -6, ..base },
        procjail_common::SignalGenerated {
            signal: libc::SIGTERM,
            ..base
        },
        procjail_common::SignalGenerated {
            target: other,
            ..base
        },
    ] {
        assert_eq!(fault(nothing), None, "{nothing:?}");
    }
}

#[test]
fn a_tracer_is_whoever_traces_and_not_any_parent() {
    let (parent, child) = (task(1, "gdb"), task(2, "app"));
    let traced = |target_ptrace, target_tracer| {
        let record = procjail_common::SignalGenerated {
            target_ptrace,
            target_tracer,
            ..sent(GATE_NS, parent, child, 9)
        };
        expect!(enricher(), Record::SignalGenerated(record), SignalGenerated).sender_traces_target
    };
    assert!(traced(1, parent.pid));
    assert!(!traced(0, parent.pid), "only its parent");
    assert!(!traced(1, parent.pid + 1), "another one traces it");
}
