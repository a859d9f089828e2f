//! Who or what is behind a signal.
//!
//! The kernel sends signals under the name of whoever runs, and several of its reasons share one
//! `si_code`. What tells them apart is what the sender was doing: the table of "Who sent that signal"
//! in `docs/diagnoses.md`.

use super::{Case, ProcessId};
use crate::event::{Event, SignalGenerated};

/// `SI_KERNEL`.
const SI_KERNEL: i32 = 128;
/// `SI_TIMER`.
const SI_TIMER: i32 = -2;
/// How far the OOM killer's signal and its event may lie apart, nanoseconds: they come from one call.
const OOM_WINDOW_NS: u64 = 20_000_000;

/// Who or what sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The OOM killer, for its victim.
    OomKiller,
    /// The OOM killer, for a process that shares the victim's memory.
    OomSharedMemory,
    /// The end of the PID namespace: its PID 1 ended.
    PidNamespaceEnd,
    /// The end of the thread that made the target (`PR_SET_PDEATHSIG`).
    ParentDeath,
    /// The end of the target's tracer (`PTRACE_O_EXITKILL`).
    TracerEnd,
    /// The CPU time limit (`RLIMIT_CPU`).
    CpuLimit,
    /// The file size limit (`RLIMIT_FSIZE`).
    FileSizeLimit,
    /// A write to a pipe or socket that nobody reads.
    BrokenPipe,
    /// A write to `cgroup.kill`.
    CgroupKill,
    /// The process group became orphaned while it was stopped.
    OrphanedGroup,
    /// The terminal went away, or the leader of the session ended.
    Hangup,
    /// A key of the terminal: Ctrl-C and the like.
    TerminalKey,
    /// A fault of the processor.
    Fault,
    /// A seccomp filter.
    Seccomp,
    /// A timer.
    Timer,
    /// The kernel, for another reason.
    Kernel,
    /// The target itself, by a system call.
    Itself,
    /// A process, by a system call: the event's task.
    Process,
}

impl Origin {
    /// It was sent on somebody's decision, by a system call.
    pub fn is_deliberate(self) -> bool {
        matches!(self, Self::Itself | Self::Process | Self::CgroupKill)
    }
}

impl Case {
    /// Who or what is behind a signal.
    pub fn origin(&self, event: &Event, signal: &SignalGenerated) -> Origin {
        let number = signal.signal.number;
        let code = signal.code.number;
        let call = signal.syscall.as_ref().map(|call| call.name.as_str());
        let to_itself = event.task.pid == signal.target.pid;
        let ending = signal.sender_exiting;
        match code {
            SI_KERNEL => self.kernels(event, signal),
            SI_TIMER => Origin::Timer,
            0 if number == libc::SIGPIPE && to_itself && is_write(call) => Origin::BrokenPipe,
            0 if number == libc::SIGXFSZ && to_itself => Origin::FileSizeLimit,
            0 if ending && self.made_by_thread(event, signal) => Origin::ParentDeath,
            0 if number == libc::SIGKILL && !signal.group && call == Some("write") => {
                Origin::CgroupKill
            }
            1 if number == libc::SIGSYS && to_itself => Origin::Seccomp,
            1.. if to_itself && is_fault(number) => Origin::Fault,
            _ if to_itself => Origin::Itself,
            _ => Origin::Process,
        }
    }

    /// What the kernel itself sends (`SEND_SIG_PRIV`).
    fn kernels(&self, event: &Event, signal: &SignalGenerated) -> Origin {
        let number = signal.signal.number;
        let to_itself = event.task.pid == signal.target.pid;
        let no_call = signal.syscall.is_none();
        if number == libc::SIGKILL {
            if self.is_oom_victim(event, signal) {
                return Origin::OomKiller;
            }
            // zap_pid_ns_processes() in kernel/pid_namespace.c.
            if signal.sender_exiting && event.task.jail_pid == Some(1) && !to_itself {
                return Origin::PidNamespaceEnd;
            }
            if signal.sender_exiting && signal.sender_traces_target {
                return Origin::TracerEnd;
            }
            // Before the limit: the trigger of an OOM kill may share the victim's memory itself.
            if self.oom_kill_near(event) {
                return Origin::OomSharedMemory;
            }
            // The tick of the clock may come in the middle of a system call; the soft limit came before.
            if to_itself && (no_call || self.was_warned(event, signal)) {
                return Origin::CpuLimit;
            }
            return Origin::Kernel;
        }
        match number {
            libc::SIGXCPU if to_itself => Origin::CpuLimit,
            libc::SIGHUP if signal.sender_exiting && self.shares_stop(event, signal) => {
                Origin::OrphanedGroup
            }
            libc::SIGHUP => Origin::Hangup,
            libc::SIGINT | libc::SIGQUIT | libc::SIGTSTP => Origin::TerminalKey,
            libc::SIGALRM | libc::SIGVTALRM | libc::SIGPROF => Origin::Timer,
            _ if to_itself && is_fault(number) => Origin::Fault,
            _ => Origin::Kernel,
        }
    }

    /// The OOM killer names its victim just after the signal, on the same processor.
    fn is_oom_victim(&self, event: &Event, signal: &SignalGenerated) -> bool {
        self.process_of(&signal.target)
            .and_then(|target| self.process(target).oom_kill)
            .is_some_and(|kill| self.event(kill).time_ns.abs_diff(event.time_ns) <= OOM_WINDOW_NS)
    }

    fn oom_kill_near(&self, event: &Event) -> bool {
        self.oom_kills().any(|(kill, _)| {
            kill.task.tid == event.task.tid && kill.time_ns.abs_diff(event.time_ns) <= OOM_WINDOW_NS
        })
    }

    /// The target had the kernel's SIGXCPU before.
    fn was_warned(&self, event: &Event, signal: &SignalGenerated) -> bool {
        self.process_of(&signal.target).is_some_and(|target| {
            self.received(target).any(|(before, warning)| {
                before.seq < event.seq
                    && warning.signal.number == libc::SIGXCPU
                    && warning.code.number == SI_KERNEL
            })
        })
    }

    /// The very thread that sends made the target.
    fn made_by_thread(&self, event: &Event, signal: &SignalGenerated) -> bool {
        self.process_of(&signal.target).is_some_and(|target| {
            let process = self.process(target);
            process
                .creator
                .is_some_and(|creator: ProcessId| self.process(creator).task.pid == event.task.pid)
                && matches!(process.creator_tid, tid if tid == event.task.tid)
        })
    }

    /// SIGHUP with SIGCONT after it, to a target that was stopped: see kill_orphaned_pgrp() in
    /// kernel/exit.c.
    fn shares_stop(&self, event: &Event, signal: &SignalGenerated) -> bool {
        let Some(target) = self.process_of(&signal.target) else {
            return false;
        };
        let continued = self.received(target).any(|(later, next)| {
            later.seq > event.seq
                && next.signal.number == libc::SIGCONT
                && next.code.number == SI_KERNEL
                && later.task.tid == event.task.tid
        });
        let stopped = self.received(target).any(|(before, stop)| {
            before.seq < event.seq
                && matches!(
                    stop.signal.number,
                    libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
                )
        });
        continued && stopped
    }
}

fn is_write(call: Option<&str>) -> bool {
    matches!(
        call,
        Some(
            "write"
                | "writev"
                | "pwrite64"
                | "pwritev"
                | "pwritev2"
                | "sendto"
                | "sendmsg"
                | "sendmmsg"
                | "sendfile"
                | "splice"
                | "tee"
                | "vmsplice"
        )
    )
}

fn is_fault(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP
    )
}
