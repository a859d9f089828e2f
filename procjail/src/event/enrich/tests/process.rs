//! Processes that end, are reaped, and are mistaken for others.

use super::super::process::WNOWAIT;
use super::*;

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
fn signal_sets_are_told_by_name_where_they_are_known() {
    let (init, child) = (task(1, "sh"), task(2, "sh"));
    let Record::Fork(mut record) = fork(GATE_NS, init, child) else {
        panic!("a fork");
    };
    let told = |record| expect!(enricher(), Record::Fork(record), Fork).signals;
    assert_eq!(told(record), None);
    record.signals = procjail_common::SignalSets {
        blocked: 1 << 30,
        ignored: 1 << (libc::SIGTERM - 1),
        caught: 1,
        known: 1,
    };
    let sets = told(record).expect("known");
    let names = |signals: &[Signal]| -> Vec<String> {
        signals.iter().map(|signal| signal.name.clone()).collect()
    };
    assert_eq!(names(&sets.blocked), ["SIGSYS"]);
    assert_eq!(names(&sets.ignored), ["SIGTERM"]);
    assert_eq!(names(&sets.caught), ["SIGHUP"]);
}

#[test]
fn the_tracer_of_a_process_is_told_at_its_end() {
    let (init, app) = (task(1, "sh"), task(2, "app"));
    let end = exit(GATE_NS, app, init, 9);
    assert_eq!(expect!(enricher(), Record::Exit(end), Exit).tracer, None);
    let traced = procjail_common::Exit {
        tracer: task(3, "strace"),
        ..end
    };
    let traced = expect!(enricher(), Record::Exit(traced), Exit);
    assert_eq!(traced.tracer.map(|task| task.comm), Some("strace".into()));
}

#[test]
fn limits_are_told_of_whom_they_were_set_for() {
    let mut enricher = enricher();
    let (init, app) = (task(1, "sh"), task(2, "app"));
    let set = |ns_pid| limit_changed(GATE_NS, app, ns_pid, 7, 64);
    assert_eq!(
        enricher.record(limit_changed(GATE_NS, init, 0, 7, 64)),
        None
    );
    enricher.record(exec(GATE_NS, init, "/bin/sh", &["sh"]));
    let own = expect!(enricher, set(0), LimitChanged);
    assert_eq!(
        (own.target.jail_pid, own.soft, own.hard),
        (Some(2), Some(64), None)
    );
    assert_eq!(own.resource, "nofile");
    let others = expect!(enricher, set(1), LimitChanged);
    assert_eq!(others.target.jail_pid, Some(1));
    assert_eq!(expect!(enricher, set(2), LimitChanged).target, own.target);
    let strangers = expect!(enricher, set(77), LimitChanged);
    assert_eq!(strangers.target, Task::default());
}
