//! SIGILL, SIGFPE and SIGTRAP.

use super::{alike, faults, ids, names, thread};
use crate::diagnose::{Case, Finding};
use crate::render;

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

/// What the verdicts of these signals have in common.
fn found(
    case: &Case,
    number: i32,
    code: i32,
    verdict: impl Fn(&str, i32) -> String,
    fix: &str,
) -> Vec<Finding> {
    let mut crashes = faults(case, number);
    // PID 1's abort() may end in a trap.
    crashes.retain(|crash| super::abort::ignored(case, crash.id).is_none());
    alike(case, crashes, |crash| crash.signal.code.number)
        .into_iter()
        .filter_map(|group| {
            let first = group.first()?;
            let who = format!("{}{}", names(case, &ids(&group)), thread(first));
            let place = first.signal.fault.as_ref().map_or_else(String::new, |fault| {
                format!(", at the instruction 0x{:x}", fault.instruction)
            });
            let finding = Finding::new(verdict(&who, first.signal.code.number))
                .proven()
                .about(ids(&group))
                .shown_by(
                    first.event,
                    format!("a fault of the processor: {}{place}", first.signal.code.name),
                )
                .not(
                    "a signal that somebody sent",
                    "the sender is the process itself, in no system call, and the code is a fault's",
                )
                .remedy(fix);
            Some(match case.exit(first.id) {
                Some((exit, ended)) => finding.shown_by(
                    exit,
                    format!("{}; a shell reports {code}", render::status(&ended.status)),
                ),
                None => finding,
            })
        })
        .collect()
}

pub(super) fn illegal(case: &Case) -> Vec<Finding> {
    found(
        case,
        libc::SIGILL,
        132,
        |who, _| {
            format!(
                "{who} crashed: it came to an instruction that this processor does not execute (SIGILL): the \
                 program was built for a newer one, or gave up on purpose (a compiler's trap)."
            )
        },
        "Compare the processor (/proc/cpuinfo) with what the program was built for (-march, target-cpu), and \
         rebuild for the oldest machine it must run on. If the instruction is ud2 (x86) or udf (arm), the \
         compiler put it where the program must never come: look at the assertion or the code before it.",
    )
}

pub(super) fn arithmetic(case: &Case) -> Vec<Finding> {
    found(
        case,
        libc::SIGFPE,
        136,
        |who, code| format!("{who} crashed: {} (SIGFPE).", arithmetic_error(code)),
        "Check the divisor before the division at that instruction; zero mostly comes from input that is \
         empty or not set.",
    )
}

pub(super) fn trap(case: &Case) -> Vec<Finding> {
    found(
        case,
        libc::SIGTRAP,
        133,
        |who, _| {
            format!(
                "{who} crashed: it came to a breakpoint and no debugger was there (SIGTRAP): a failed check \
                 that ends in a trap, as in V8 and Chromium, or a breakpoint that was left in."
            )
        },
        "Read what the program wrote to stderr last: such checks say what failed. Otherwise look up the \
         instruction in a core (--rlimit core=unlimited).",
    )
}
