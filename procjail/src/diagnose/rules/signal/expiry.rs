//! A time limit that a program keeps for its child, as timeout(1) does: its timer expires, and it ends the child.

use crate::diagnose::rules::{exit, story};
use crate::diagnose::{Case, Finding, Origin, ProcessId};
use crate::event::{Disposition, Event, SignalGenerated};
use crate::text;

/// What is sent so soon after the timer is sent because of it, nanoseconds.
const AT_ONCE_NS: u64 = 100_000_000;

/// Timers that made a process end its child.
pub(super) fn expired(case: &Case) -> Vec<Finding> {
    let went_well = story::went_well(case);
    case.signals()
        .filter(|(event, signal)| {
            case.origin(event, signal) == Origin::Timer
                && (signal.disposition == Disposition::Handler || signal.blocked)
        })
        .filter_map(|(event, signal)| {
            let keeper = case.process_of(&signal.target)?;
            let (sent, kill, child) = ends_child(case, keeper, event)?;
            let finding = finding(case, keeper, (event, signal), (sent, kill), child);
            // Whoever started the keeper did without, and nothing came of it.
            let passed = [keeper, child].contains(&exit::main(case)?);
            Some(match went_well && !passed {
                true => finding.note(),
                false => finding,
            })
        })
        .collect()
}

/// The signal that a process sent its child when its timer had expired.
fn ends_child<'a>(
    case: &'a Case,
    keeper: ProcessId,
    timer: &Event,
) -> Option<(&'a Event, &'a SignalGenerated, ProcessId)> {
    case.sent(keeper).find_map(|(event, signal)| {
        let child = case.process_of(&signal.target)?;
        let soon = event.seq > timer.seq && event.time_ns - timer.time_ns <= AT_ONCE_NS;
        let ends = !matches!(signal.signal.number, libc::SIGCHLD | libc::SIGCONT | 0);
        (soon && ends && case.process(child).creator == Some(keeper))
            .then_some((event, signal, child))
    })
}

fn finding(
    case: &Case,
    keeper: ProcessId,
    (timer, alarm): (&Event, &SignalGenerated),
    (sent, kill): (&Event, &SignalGenerated),
    child: ProcessId,
) -> Finding {
    let who = case.name(keeper);
    let name = text::escape(&kill.signal.name);
    let since = case
        .program(keeper)
        .map_or_else(|| case.born_ns(keeper), |(exec, _)| exec.time_ns);
    let mut fact = format!(
        "The timer of {who} expired after {}, and it sent {name} to its child {}",
        text::duration(timer.time_ns.saturating_sub(since)),
        case.name(child)
    );
    let end = case.exit(child).filter(|(event, _)| event.seq > sent.seq);
    fact += &match end {
        Some((event, exit)) => format!(
            ", which {} {} later.",
            case.did_end(&exit.status),
            case.between(sent, event)
        ),
        None => ".".to_owned(),
    };
    let own = case.exit(keeper).filter(|(event, _)| event.seq > sent.seq);
    if let Some((_, exit)) = own {
        fact += &format!(" {who} {}.", case.did_end(&exit.status));
    }
    let mut finding = Finding::new(fact)
        .proven()
        .about([child, keeper])
        .shown_by(
            timer,
            format!("{} from a timer to {who}", text::escape(&alarm.signal.name)),
        )
        .shown_by(sent, format!("{who} sent {name} to {}", case.name(child)));
    for (event, exit) in end.into_iter().chain(own) {
        finding = finding.shown_by(
            event,
            format!(
                "{} {}",
                case.task_name(&event.task),
                case.did_end(&exit.status)
            ),
        );
    }
    finding
        .not("an OOM kill", "the signals come from a timer and from its keeper")
        .relies_on_all(&["oom-kill"])
        .remedy(format!(
            "Look at why {} needs longer than its time limit, or raise the limit that {} was given.",
            case.name(child),
            case.name(keeper)
        ))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::fixture::{Scene, inside, outside, sent};
    use crate::event::{Disposition, SignalCode, SignalGenerated};

    fn plays(timer: bool) -> Scene {
        let mut scene = Scene::new(&["timeout", "1", "sleep", "9"]);
        let (timeout, sleep) = (inside(1, "timeout"), inside(2, "sleep"));
        scene.fork(10, timeout.clone(), sleep.clone());
        if timer {
            let alarm = SignalGenerated {
                code: SignalCode {
                    number: -2,
                    name: "SI_TIMER".into(),
                },
                disposition: Disposition::Handler,
                syscall: None,
                ..sent(libc::SIGALRM, &timeout)
            };
            scene.send(1000, outside(0, "swapper"), alarm);
        }
        scene.signal(1001, timeout.clone(), sleep.clone(), libc::SIGTERM, 0);
        scene.exit(1002, sleep, -libc::SIGTERM, 0);
        scene.exit(1003, timeout, 124, 0);
        scene
    }

    #[test]
    fn a_time_limit_that_was_over_is_named() {
        let first = plays(true).found().swap_remove(0);
        assert_eq!(first.id, "timeout-expired");
        assert!(
            first
                .fact
                .contains("The timer of timeout (PID 1) expired after 1.000 s"),
            "{}",
            first.fact
        );
    }

    #[test]
    fn without_a_timer_there_is_no_time_limit() {
        plays(false).expect_no("timeout-expired");
    }
}
