//! PID 1 exited, and nobody had asked it to.

use crate::diagnose::rules::exit;
use crate::diagnose::rules::stop::attempt::Attempt;
use crate::diagnose::{Case, Finding, ProcessId, is_bad};
use crate::text;

/// With which code, after how long, and what its last child did. No guess at a reason: where there is evidence of one,
/// another rule tells it.
pub(super) fn exited(case: &Case) -> Option<Finding> {
    let pid1 = case.pid1()?;
    let main = exit::main(case)?;
    let (event, exit) = case.exit(main)?;
    let code = exit.status.code?;
    let name = case.name(main);
    let after = text::duration(case.age_ns(main, event.time_ns));
    let left = left(case, main);
    let mut finding = Finding::new(format!(
        "{name} exited with {code} after {after}{}{}.{left}",
        signals(case, main, event.time_ns),
        last_child(case, main, code)
    ))
    .proven()
    .about([pid1])
    .about([main])
    .shown_by(event, format!("{name} {}", case.did_end(&exit.status)))
    .not("a signal", "the kernel's status of it is an exit code")
    .relies_on_all(&["signal-generated"]);
    let asked = Attempt::of(case).is_some();
    match case.is_launched() {
        true if case.stop_request().is_none() => {
            finding = finding.not("a stop", "procjail was not asked to stop the jail");
        }
        false if !asked => {
            finding = finding.not("a stop", "nothing asked it to stop since procjail attached");
        }
        _ => {}
    }
    if code == 0 && !left.is_empty() {
        finding = finding.remedy(
            "If what was left was to go on, have PID 1 wait for it: a jail ends with its PID 1.",
        );
    }
    if code != 0 {
        let seen = match case.has_probe("sys_exit") {
            true => {
                "no failed system call stands out, and the trace has no message of it on stderr"
            }
            false => {
                "failed system calls and its last words on stderr are in the trace only with --failed-calls"
            }
        };
        finding = finding.remedy(format!(
            "Look up code {code} in the manual of the program or in the script that returned it: {seen}."
        ));
    }
    Some(finding)
}

/// What was still running then, in words.
fn left(case: &Case, main: ProcessId) -> String {
    match exit::left(case, main).as_slice() {
        [] => String::new(),
        [one] => format!(
            " {} was still running, and was killed with the PID namespace.",
            case.name(*one)
        ),
        many => format!(
            " {} processes were still running, and were killed with the PID namespace: {}.",
            text::count(many.len() as u64),
            case.names(many)
        ),
    }
}

/// How long after a signal that it took, in words. That there was none is not said: the kernel side leaves out
/// some, and what the kernel drops was sent all the same.
fn signals(case: &Case, main: ProcessId, end_ns: u64) -> String {
    if let Some(asked) = exit::asked_ns(case, main) {
        return format!(
            ", {} after the first signal that it was sent",
            text::duration(end_ns.saturating_sub(asked))
        );
    }
    String::new()
}

/// The last child that it had waited for, where that had failed just before.
fn last_child(case: &Case, main: ProcessId, code: i32) -> String {
    let passed = (code != 0).then(|| case.passed_on(main)).flatten();
    let Some(passed) = passed else {
        return String::new();
    };
    let Some(status) = case.status(passed.child).filter(|status| is_bad(status)) else {
        return String::new();
    };
    let others = match passed.others {
        0 => String::new(),
        count => format!(", as had {count} other children of it"),
    };
    format!(
        ". Its child {} had {}, {} before{others}",
        case.name(passed.child),
        match (&status.signal, status.code) {
            (Some(signal), _) => format!("been killed by {}", signal.name),
            (None, Some(code)) => format!("exited with {code}"),
            (None, None) => "ended".to_owned(),
        },
        text::duration(passed.after_ns()),
    )
}
