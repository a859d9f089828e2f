//! SIGSEGV.

use super::instruction::{Instruction, instruction};
use super::words::last_words;
use super::{Crash, abort, alike, crashes, faults, ids, names, raised_again, show_raised, thread};
use crate::diagnose::rules::exec;
use crate::diagnose::{Case, Confidence, Finding, ProcessId};
use crate::event::{Event, Fault, SignalGenerated};
use crate::text;
use crate::words;

/// `SEGV_ACCERR` of sigaction(2).
const SEGV_ACCERR: i32 = 2;
/// `SI_KERNEL`: the processor doesn't tell where.
const SI_KERNEL: i32 = 128;
/// Below this nothing is ever mapped (`vm.mmap_min_addr` at its usual value).
const NULL_BYTES: u64 = 65_536;
/// How far from the stack pointer a function that needs more stack touches it: compilers probe large
/// frames page by page.
const NEAR_STACK: u64 = 65_536;
/// The page of the vsyscall calls (Documentation/arch/x86/x86_64/mm.rst).
const VSYSCALL: std::ops::Range<u64> = 0xffff_ffff_ff60_0000..0xffff_ffff_ff60_1000;
/// A runtime that notices its stack's end aborts within this time, nanoseconds.
const RUNTIME_NS: u64 = 1_000_000_000;

/// What kind of access it was.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Null,
    NullCall,
    Jump,
    Impossible,
    Unmapped,
    Forbidden,
}

fn kind(signal: &SignalGenerated) -> Kind {
    let forbidden = signal.code.number == SEGV_ACCERR;
    match &signal.fault {
        _ if signal.code.number == SI_KERNEL => Kind::Impossible,
        Some(at) if at.address < NULL_BYTES && at.address == at.instruction => Kind::NullCall,
        Some(at) if at.address < NULL_BYTES => Kind::Null,
        Some(at) if at.address == at.instruction => Kind::Jump,
        _ if forbidden => Kind::Forbidden,
        _ => Kind::Unmapped,
    }
}

/// What the processor's fault says.
fn what(kind: Kind, fault: Option<&Fault>) -> String {
    let at = |fault: &Fault| format!("0x{:x}", fault.address);
    match (kind, fault) {
        (Kind::Null, Some(fault)) => {
            format!("it accessed address {}, where nothing is mapped", at(fault))
        }
        (Kind::NullCall, _) => "it called or jumped to address 0".to_owned(),
        (Kind::Jump, Some(fault)) => format!("it jumped to {}, where there is no code", at(fault)),
        (Kind::Unmapped, Some(fault)) => {
            format!("it accessed {}, where nothing is mapped", at(fault))
        }
        (Kind::Forbidden, Some(fault)) => format!(
            "it accessed {} in a way that the mapping there does not allow",
            at(fault)
        ),
        (Kind::Forbidden, None) => {
            "it accessed a mapping in a way that this does not allow".to_owned()
        }
        (Kind::Impossible, _) => {
            "the processor refused an access or an instruction and names no address".to_owned()
        }
        _ => "it accessed an address where nothing is mapped".to_owned(),
    }
}

const NOT_CANONICAL: &str = "A bad pointer, to an address that no memory can have (not canonical).";

/// Why, as far as the fault tells.
fn why(case: &Case, signal: &SignalGenerated, finding: Finding) -> Finding {
    let fault = signal.fault.as_ref();
    let likely = |finding: Finding, cause: String, other: &str| {
        finding.cause(cause, Confidence::Likely).or(other)
    };
    match kind(signal) {
        Kind::Null => likely(
            finding,
            match fault.map_or(0, |fault| fault.address) {
                0 => "A null pointer.".to_owned(),
                offset => format!(
                    "A null pointer with an offset of {}, as of a field or an element.",
                    text::bytes(offset)
                ),
            },
            "a small number that was used as a pointer",
        ),
        Kind::NullCall => likely(
            finding,
            "A null function pointer.".to_owned(),
            "a return address that was overwritten",
        ),
        Kind::Jump => likely(
            finding,
            "A bad function pointer.".to_owned(),
            "a return address that was overwritten",
        ),
        Kind::Unmapped => likely(
            finding,
            "A bad pointer: not set, overwritten, or of memory that was freed.".to_owned(),
            "an access beyond the end of an array",
        ),
        Kind::Forbidden => likely(
            finding,
            "A write to memory that is read-only, such as constants or code.".to_owned(),
            "memory without any access, such as a guard page",
        ),
        Kind::Impossible => {
            let code = fault.map_or(&[][..], |fault| &fault.code);
            match instruction(&case.header.host.architecture, code) {
                Instruction::Privileged(name) => likely(
                    finding,
                    format!("The instruction is {name}, which only the kernel may execute."),
                    "a jump to data",
                ),
                Instruction::Aligned => likely(
                    finding,
                    "The instruction needs an address that is aligned to 16 bytes or more."
                        .to_owned(),
                    "an address that no memory can have",
                ),
                Instruction::Unknown => finding
                    .cause(NOT_CANONICAL, Confidence::ConsistentWith)
                    .or("an instruction that only the kernel may execute")
                    .or("an access that is not aligned"),
                _ => likely(
                    finding,
                    NOT_CANONICAL.to_owned(),
                    "an access that is not aligned",
                ),
            }
        }
    }
}

/// A fault, other than those that have rules of their own.
pub(super) fn fault(case: &Case) -> Vec<Finding> {
    let mut crashes = faults(case, libc::SIGSEGV);
    crashes.retain(|crash| {
        !is_overflow(crash.signal)
            && !is_vsyscall(crash.signal)
            && !exec::ended(case, crash.id)
            && abort::ignored(case, crash.id).is_none()
            && noticed(case, crash.id).is_none()
    });
    alike(case, crashes, |crash| kind(crash.signal))
        .into_iter()
        .filter_map(|group| Some(crashed(case, group.first()?, &group)))
        .collect()
}

fn crashed(case: &Case, first: &Crash<'_>, group: &[Crash<'_>]) -> Finding {
    let signal = first.signal;
    let what = what(kind(signal), signal.fault.as_ref());
    let mut finding = Finding::new(format!(
        "{} crashed{}: {what} (SIGSEGV, which a shell reports as 139).{}",
        names(case, &ids(group)),
        thread(first),
        raised_again(case, first),
    ))
    .proven()
    .about(ids(group))
    .shown_by(
        first.event,
        format!("a fault of the processor in its own code: {}", signal.code.name),
    )
    .not(
        "a SIGSEGV that somebody sent",
        "one sent by kill(2) has no fault's code, and the sender is the process itself, in no system call",
    );
    finding = show_raised(case, first, why(case, signal, finding));
    if let Some(words) = last_words(case, first.id) {
        finding = words.show(finding);
    }
    finding = finding.remedy(match &signal.fault {
        Some(fault) => format!(
            "Look up the instruction at 0x{:x} in the program or library that is loaded there; for its \
             stack and variables, record a core (--rlimit core=unlimited) and open it in a debugger.",
            fault.instruction
        ),
        None => "Record a core (--rlimit core=unlimited) and open it in a debugger.".to_owned(),
    });
    if let Some(fault) = &signal.fault {
        finding = finding
            .fact(format!(
                "the instruction at 0x{:x}, with the stack at 0x{:x}",
                fault.instruction, fault.stack_pointer
            ))
            .not(
                "a stack overflow",
                "the address is not near the stack pointer",
            );
    }
    if let Some((exit, ended)) = case.exit(first.id) {
        finding = finding.shown_by(exit, words::status(&ended.status));
    }
    finding
}

/// The access was next to the stack pointer: the stack itself has no room.
pub(super) fn is_overflow(signal: &SignalGenerated) -> bool {
    signal.signal.number == libc::SIGSEGV
        && (1..SI_KERNEL).contains(&signal.code.number)
        && signal.fault.as_ref().is_some_and(|fault| {
            fault.address != fault.instruction
                && fault.address >= NULL_BYTES
                && fault.address.abs_diff(fault.stack_pointer) <= NEAR_STACK
        })
}

/// The kernel puts the main thread's stack within 16 GiB of the top of the address space, which has 47
/// bits (x86-64) or 48 (arm64); twice that, for the stack's own limit.
fn in_main_stack(address: u64) -> bool {
    [47, 48]
        .into_iter()
        .any(|bits| (1_u64 << bits).wrapping_sub(address) <= 32 << 30)
}

/// The overflow that a runtime's handler took note of before it ended the process.
pub(super) fn noticed(case: &Case, id: ProcessId) -> Option<(&Event, &SignalGenerated)> {
    let (exit, _) = case.exit(id)?;
    case.received(id)
        .rev()
        .find(|(_, signal)| is_overflow(signal))
        .filter(|(event, _)| exit.time_ns.saturating_sub(event.time_ns) <= RUNTIME_NS)
}

pub(super) fn stack_overflow(case: &Case) -> Vec<Finding> {
    let mut found: Vec<Crash<'_>> = Vec::new();
    for number in [libc::SIGSEGV, libc::SIGABRT] {
        for mut crash in crashes(case, number) {
            if let Some((event, signal)) = noticed(case, crash.id) {
                crash.event = event;
                crash.signal = signal;
                found.push(crash);
            } else if is_overflow(crash.signal) {
                // Its handler took its time.
                found.push(crash);
            }
        }
    }
    alike(case, found, |_| ())
        .into_iter()
        .filter_map(|group| {
            let first = *group.first()?;
            let fault = first.signal.fault.as_ref()?;
            Some(overflowed(case, &first, &group, fault))
        })
        .collect()
}

/// What looks like an exhausted stack.
pub(super) const STACK_POINTER: &str = "a stack pointer that was overwritten";

fn overflowed(case: &Case, first: &Crash<'_>, group: &[Crash<'_>], fault: &Fault) -> Finding {
    let main = first.event.task.tid == first.event.task.pid;
    let guard = first.signal.code.number == SEGV_ACCERR;
    let limit = case.header.jail.rlimits.get("stack").copied().flatten();
    let size = match (main, limit) {
        (true, Some(bytes)) => format!(" (its limit is {})", text::bytes(bytes)),
        _ => String::new(),
    };
    let whose = match main {
        true => format!("That is the main thread's stack{size}"),
        false => format!("That is the stack of its thread {}", first.event.task.tid),
    };
    let overflow = |finding: Finding, confidence| {
        finding
            .cause("The stack is exhausted.", confidence)
            .remedy(
                "Find the recursion: the same functions repeat on the stack of a core (--rlimit core=unlimited). If it \
                 is meant, give it more stack: --rlimit stack for the main thread, the thread's attributes for \
                 others (musl gives them 128 KiB).",
            )
    };
    let finding = Finding::new(format!(
        "{} crashed: it accessed memory at its stack pointer that is not mapped or not allowed. {whose}.{}",
        names(case, &ids(group)),
        raised_again(case, first),
    ))
    .about(ids(group))
    .shown_by(
        first.event,
        format!(
            "a fault at 0x{:x}, with the stack pointer at 0x{:x}",
            fault.address, fault.stack_pointer
        ),
    )
    .not(
        "a wild or null pointer",
        "the address is where the function was about to put something on its stack",
    );
    let finding = match case.exit(first.id) {
        Some((exit, ended)) => finding.shown_by(exit, words::status(&ended.status)),
        None => finding,
    };
    let place = if guard {
        Some("what is mapped there allows no access at all, as the guard page below a stack does")
    } else if main && in_main_stack(fault.address) {
        Some("the address lies where the kernel puts the main thread's stack")
    } else {
        None
    };
    match place {
        Some(place) => {
            let finding = finding.proven().fact(place).not(STACK_POINTER, place);
            overflow(finding, Confidence::Proven)
        }
        None => overflow(finding, Confidence::Likely).or(STACK_POINTER),
    }
}

fn is_vsyscall(signal: &SignalGenerated) -> bool {
    signal.fault.as_ref().is_some_and(|fault| {
        VSYSCALL.contains(&fault.address) || VSYSCALL.contains(&fault.instruction)
    })
}

pub(super) fn vsyscall(case: &Case) -> Vec<Finding> {
    let mut crashes = faults(case, libc::SIGSEGV);
    crashes.retain(|crash| is_vsyscall(crash.signal));
    alike(case, crashes, |_| ())
        .into_iter()
        .filter_map(|group| {
            let first = group.first()?;
            let message = case.each(|what| match what {
                crate::event::What::KernelMessage(message)
                    if message.text.contains("vsyscall attempted") =>
                {
                    Some(message)
                }
                _ => None,
            });
            let mut finding = Finding::new(format!(
                "{} crashed: it called into the vsyscall page (0xffffffffff600000), which is not mapped here.",
                names(case, &ids(&group))
            ))
            .proven()
            .cause(
                "Its C library is from before 2013 and calls the kernel that way, which this machine has switched off.",
                Confidence::ConsistentWith,
            )
            .or("a wild jump")
            .about(ids(&group))
            .shown_by(first.event, "a fault in the page at 0xffffffffff600000")
            .remedy(
                "Rebuild on a newer base image, or boot the machine with vsyscall=emulate.",
            );
            for (event, message) in message.take(1) {
                finding = finding.shown_by(event, text::escape(&message.text));
            }
            Some(finding)
        })
        .collect()
}
