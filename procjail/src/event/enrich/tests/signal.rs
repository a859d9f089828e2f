//! Signals that coalesce, queue, kill and fault.

use super::*;
use crate::event::Fault;

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
            code: Vec::new(),
        })
    };
    assert_eq!(fault(base), at(8));
    let mut read = base;
    read.code_bytes[..2].copy_from_slice(&[0x0f, 0x0b]);
    read.code_len = 2;
    assert_eq!(fault(read).map(|fault| fault.code), Some(vec![0x0f, 0x0b]));
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
