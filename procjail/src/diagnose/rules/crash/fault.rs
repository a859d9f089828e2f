//! SIGILL, SIGFPE and SIGTRAP.

use super::instruction::{Instruction, bytes, instruction};
use super::words::last_words;
use super::{Crash, alike, faults, ids, names, raised_again, show_raised, thread};
use crate::diagnose::{Case, Confidence, Finding, Tagged};
use crate::words;

/// Codes of SIGFPE in sigaction(2), in words.
fn arithmetic_error(code: i32) -> &'static str {
    match code {
        1 => "an integer was divided by zero, or the quotient has no room",
        2 => "an integer overflowed",
        3 => "a floating-point number was divided by zero",
        4 => "a floating-point number overflowed",
        5 => "a floating-point number underflowed",
        6 => "a floating-point result is not exact",
        7 => "a floating-point operation is not valid",
        _ => "a calculation failed",
    }
}

/// The crashes by a fault of that number, alike by what `key` makes of them. PID 1's abort(3) may end in a trap, which
/// is no fault of its own.
fn groups<'a, K: std::hash::Hash + Eq>(
    case: &'a Case,
    number: i32,
    key: impl Fn(&Crash<'a>) -> K,
) -> Vec<Vec<Crash<'a>>> {
    let mut crashes = faults(case, number);
    crashes.retain(|crash| super::abort::ignored(case, crash.id).is_none());
    alike(case, crashes, key)
}

/// What the findings of these signals have in common; `shell` is what a shell reports.
fn found(case: &Case, group: &[Crash<'_>], what: &str, shell: i32) -> Option<Finding> {
    let first = group.first()?;
    let who = format!("{}{}", names(case, &ids(group)), thread(first));
    let fault = first.signal.fault.as_ref();
    let place = fault.map_or_else(String::new, |fault| {
        format!(", at the instruction 0x{:x}", fault.instruction)
    });
    let code = fault
        .filter(|fault| !fault.code.is_empty())
        .map_or_else(String::new, |fault| format!(" ({})", bytes(&fault.code)));
    let again = raised_again(case, first);
    let finding = Finding::new(format!("{who} crashed: {what}.{again}"))
        .proven()
        .about(ids(group))
        .shown_by(
            first.event,
            format!(
                "a fault of the processor: {}{place}{code}",
                first.signal.code.name
            ),
        )
        .not(
            "a signal that somebody sent",
            "the sender is the process itself, in no system call, and the code is a fault's",
        );
    let finding = show_raised(case, first, finding);
    let finding = match last_words(case, first.id) {
        Some(words) => words.show(finding),
        None => finding,
    };
    Some(match case.exit(first.id) {
        Some((exit, ended)) => finding.shown_by(
            exit,
            format!("{}; a shell reports {shell}", words::status(&ended.status)),
        ),
        None => finding,
    })
}

/// The instruction that a crash stopped at.
fn stopped_at(case: &Case, crash: &Crash<'_>) -> Instruction {
    let code = crash
        .signal
        .fault
        .as_ref()
        .map_or(&[][..], |fault| &fault.code);
    instruction(&case.header.host.architecture, code)
}

const DEBUG: &str = "Look up the instruction in a core (--rlimit core=unlimited), and the check that is before it. \
    A build without the compiler's traps (-fsanitize-trap, -fno-sanitize-trap) says more.";

pub(super) fn illegal(case: &Case) -> Vec<Tagged> {
    groups(case, libc::SIGILL, |crash| stopped_at(case, crash))
        .iter()
        .filter_map(|group| {
            let first = group.first()?;
            let words = last_words(case, first.id).and_then(|words| words.means);
            Some(match stopped_at(case, first) {
                Instruction::Trap(name) => {
                    let what = format!(
                        "it came to {name}, an instruction that is defined to fault (SIGILL)"
                    );
                    let finding = found(case, group, &what, 132)?
                        .not(
                            "a processor that lacks an instruction",
                            format!("{name} faults on every processor"),
                        )
                        .cause(
                            match words {
                                Some(means) => format!("It stopped on purpose, at {means}."),
                                None => "It stopped on purpose: compilers and runtimes put this instruction where the \
                                         program must never come (a failed check, an abort, code that was taken for \
                                         unreachable)."
                                    .to_owned(),
                            },
                            Confidence::Likely,
                        )
                        .or("a jump to data that happens to have these bytes")
                        .remedy(DEBUG);
                    ("ill-trap", finding)
                }
                Instruction::Extension(name) => {
                    let what = format!(
                        "this processor refused an instruction that is encoded as {name} (SIGILL)"
                    );
                    let finding = found(case, group, &what, 132)?
                        .cause(
                            format!("The program was built for a processor with {name}, which this one lacks."),
                            Confidence::Likely,
                        )
                        .or("a jump to data that looks like such an instruction")
                        .remedy(
                            "Compare /proc/cpuinfo with what the program was built for (-march, target-cpu), and \
                             rebuild for the oldest machine that it must run on.",
                        );
                    ("ill-cpu-feature", finding)
                }
                _ => {
                    let what = "it came to an instruction that this processor does not execute (SIGILL)";
                    let finding = found(case, group, what, 132)?
                        .cause(
                            "The program was built for a newer processor.",
                            Confidence::ConsistentWith,
                        )
                        .or("a trap that the compiler or the program put there on purpose (ud2, udf)")
                        .or("a jump to data")
                        .remedy(
                            "Look up the instruction in a core (--rlimit core=unlimited): it says whether it is a trap \
                             or of an extension that /proc/cpuinfo does not have.",
                        );
                    ("ill-cpu-feature", finding)
                }
            })
        })
        .collect()
}

pub(super) fn arithmetic(case: &Case) -> Vec<Finding> {
    groups(case, libc::SIGFPE, |crash| crash.signal.code.number)
        .iter()
        .filter_map(|group| {
            let what = arithmetic_error(group.first()?.signal.code.number);
            let finding = found(case, group, &format!("{what} (SIGFPE)"), 136)?;
            Some(finding.remedy(
                "Check the divisor before the division at that instruction; zero mostly comes from input that is \
                 empty or not set.",
            ))
        })
        .collect()
}

pub(super) fn trap(case: &Case) -> Vec<Finding> {
    groups(case, libc::SIGTRAP, |crash| crash.signal.code.number)
        .iter()
        .filter_map(|group| {
            let first = group.first()?;
            let what = "it came to a breakpoint, and no debugger took it (SIGTRAP)";
            let finding = found(case, group, what, 133)?;
            let words = last_words(case, first.id).and_then(|words| words.means);
            let finding = match words {
                Some(means) => finding.cause(
                    format!("It stopped on purpose, at {means}."),
                    Confidence::Likely,
                ),
                None => finding
                    .cause(
                        "A failed check that ends in a trap, as in V8 and Chromium.",
                        Confidence::ConsistentWith,
                    )
                    .or("a breakpoint that was left in the code or set by a debugger that is gone"),
            };
            Some(finding.remedy(
                "Read what the program wrote to stderr last: such checks say what failed. Otherwise look up the \
                 instruction in a core (--rlimit core=unlimited).",
            ))
        })
        .collect()
}
