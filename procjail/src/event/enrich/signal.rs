//! Signals: who sent them, and what became of them.

use procjail_common::{self as common, signal_flags, task_flags};

use super::{Enricher, SIGNAL_GROUP_EXIT};
use crate::event::Fault;
use crate::event::model::*;
use crate::event::processes::Sent;
use crate::names;

/// `SIGNAL_UNKILLABLE`: PID 1 of a PID namespace.
const SIGNAL_UNKILLABLE: u32 = 0x40;

impl Enricher {
    pub(super) fn signal_generated(&mut self, record: &common::SignalGenerated) -> SignalGenerated {
        let sender = &record.header.task;
        let group = record.flags & signal_flags::GROUP != 0;
        let result = match record.result {
            0 => SignalResult::Delivered,
            1 => SignalResult::Ignored,
            2 => SignalResult::AlreadyPending,
            3 => SignalResult::OverflowFail,
            4 => SignalResult::LoseInfo,
            _ => SignalResult::Unknown,
        };
        // A coalesced signal is not queued: the first one counts.
        if matches!(result, SignalResult::Delivered | SignalResult::LoseInfo) {
            let sent = Sent {
                time_ns: record.header.time_ns,
                seq: self.seq + 1,
            };
            self.processes
                .sent(&record.target, group, record.signal, sent);
        }
        let child_ended = record.signal == libc::SIGCHLD
            && (libc::CLD_EXITED..=libc::CLD_DUMPED).contains(&record.code);
        if child_ended && sender.flags & task_flags::EXITING != 0 {
            self.processes.notified(sender);
        }
        SignalGenerated {
            signal: Signal::new(record.signal),
            code: signal_code(record.signal, record.code),
            target: self.processes.describe(&record.target),
            group,
            result,
            disposition: disposition(record.handler),
            blocked: record.flags & signal_flags::BLOCKED != 0,
            unkillable: record.target_flags & SIGNAL_UNKILLABLE != 0,
            exiting: record.target_flags & SIGNAL_GROUP_EXIT != 0,
            syscall: Syscall::entered(record.syscall),
            sender_exiting: sender.flags & task_flags::EXITING != 0,
            sender_kthread: sender.flags & task_flags::KTHREAD != 0,
            sender_traces_target: record.target_ptrace != 0 && record.target_tracer == sender.pid,
            fault: fault(record),
        }
    }

    pub(super) fn signal_delivered(&mut self, record: &common::SignalDelivered) -> SignalDelivered {
        let task = &record.header.task;
        // The kernel delivers SIGKILL to every thread of a process that ends, whatever ends it: the
        // truth is in group_exit_code, whose signal part is 0 for exit_group(2).
        let fatal = (record.signal == libc::SIGKILL
            && record.signal_flags & SIGNAL_GROUP_EXIT != 0)
            .then_some(record.group_exit_code & 0x7f)
            .filter(|signal| *signal != 0);
        let sent = match fatal {
            Some(fatal) => self.processes.fatal(task, fatal),
            None => self.processes.delivered(task, record.signal, true),
        };
        SignalDelivered {
            signal: Signal::new(record.signal),
            code: signal_code(record.signal, record.code),
            disposition: disposition(record.handler),
            fatal: fatal.map(Signal::new),
            latency_ns: sent.map(|sent| record.header.time_ns.saturating_sub(sent.time_ns)),
            generated_seq: sent.map(|sent| sent.seq),
        }
    }
}

/// Where the processor faulted. The kernel sends such a signal to the very thread that ran, with a
/// reason (`SEGV_MAPERR`, …) or, where the processor gives none, as its own (SI_KERNEL).
fn fault(record: &common::SignalGenerated) -> Option<Fault> {
    const FAULTS: [i32; 5] = [
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
    ];
    let sender = &record.header.task;
    let own = sender.tid == record.target.tid && sender.flags & task_flags::KTHREAD == 0;
    let raised = FAULTS.contains(&record.signal) && (1..=libc::SI_KERNEL).contains(&record.code);
    (own && raised).then_some(Fault {
        address: match record.code {
            libc::SI_KERNEL => 0,
            _ => record.fault_address,
        },
        instruction: record.instruction,
        stack_pointer: record.stack_pointer,
        code: record
            .code_bytes
            .get(..record.code_len as usize)
            .unwrap_or_default()
            .to_vec(),
    })
}

fn signal_code(signal: i32, number: i32) -> SignalCode {
    SignalCode {
        number,
        name: names::si_code(signal, number),
    }
}

fn disposition(handler: u64) -> Disposition {
    match handler {
        0 => Disposition::Default,
        1 => Disposition::Ignore,
        _ => Disposition::Handler,
    }
}
