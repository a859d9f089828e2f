//! What the rest of the jail made of an OOM kill: PID 1 went on, waits in vain, or ended for another reason.

use super::Look;
use super::chain::{Chain, Waiting, waiting};
use super::kill::{Kill, ended};
use crate::diagnose::rules::exit;
use crate::diagnose::{Case, Confidence, Finding, ProcessId, Tagged};
use crate::event::Event;
use crate::text;

/// PID 1 lived on if it did for longer than this, nanoseconds.
const REACTION_NS: u64 = 1_000_000_000;

/// Who ends so soon after it has collected the victim has done nothing else in between, nanoseconds.
const ANSWER_NS: u64 = 200_000_000;

pub(super) fn analyse(look: &Look<'_>) -> Vec<Tagged> {
    let case = look.case;
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let all = &look.kills;
    let Some(last) = all.last() else {
        return Vec::new();
    };
    // PID 1 died of it, or ended because of it.
    if all.iter().any(|kill| kill.victim == Some(pid1)) || Chain::of(case, all).has(pid1) {
        return Vec::new();
    }
    if let Some((kill, waits)) = all
        .iter()
        .rev()
        .find_map(|kill| Some((kill, waiting(case, kill)?)))
    {
        return vec![("oom-child-invisible", hangs(case, kill, &waits))];
    }
    let mut found = Vec::new();
    found.extend(invisible(look, pid1).map(|one| ("oom-child-invisible", one)));
    found.extend(earlier(case, pid1, last).map(|one| ("oom-earlier-not-cause", one)));
    found
}

/// Nothing happened any more after a worker was gone.
fn hangs(case: &Case, kill: &Kill<'_>, waits: &Waiting<'_>) -> Finding {
    let parent = case.name(waits.parent);
    let victim = kill.name(case);
    let replaced = match waits.replaced_by {
        Some(other) => format!("and started {} after it", case.name(other)),
        None => "and started no other".to_owned(),
    };
    let mut finding = Finding::new(format!(
        "{parent} collected the OOM victim {victim} {replaced}. Then nothing was started and nothing ended in \
         the jail for {}.",
        text::duration(waits.idle_ns)
    ))
    .proven()
    .shown_by(kill.event, format!("{victim} dies"))
    .shown_by(waits.reap, format!("{parent} collects it"));
    if let Some(event) = waits.seen {
        finding = finding.shown_by(
            event,
            "all its threads sleep, and none listens for connections",
        );
    }
    kill.qualify(
        finding
            .about([waits.parent])
            .about(case.pid1().filter(|pid1| *pid1 != waits.parent))
            .relies_on_all(&["fork", "exec", "exit"])
            .cause(
                format!("What {victim} was working on is lost, and {parent} waits for a result that never comes."),
                match waits.seen {
                    Some(_) => Confidence::Likely,
                    None => Confidence::ConsistentWith,
                },
            )
            .or("it had nothing to do")
            .remedy(format!(
                "Have {parent} notice that a worker died (Python: concurrent.futures fails with \
                 BrokenProcessPool where multiprocessing.Pool waits), and give the workers less to do at a time \
                 or more memory (--memory)."
            )),
    )
}

fn invisible(look: &Look<'_>, pid1: ProcessId) -> Option<Finding> {
    let (case, all) = (look.case, &look.kills);
    let (kill, victim) = all.iter().find_map(|kill| Some((kill, kill.victim?)))?;
    let end = case.exit(pid1);
    let lived_on = end.map(|(event, _)| event.time_ns.saturating_sub(kill.event.time_ns));
    let well = end.is_some_and(|(_, exit)| exit.status.code == Some(0));
    if !well && lived_on.is_some_and(|lived_on| lived_on <= REACTION_NS) {
        return None;
    }
    let pid1_name = case.name(pid1);
    let outcome = match (end, lived_on) {
        (Some((_, exit)), Some(lived_on)) => format!(
            "{pid1_name} went on for {} and {}",
            text::duration(lived_on),
            ended(&exit.status)
        ),
        _ => format!("{pid1_name} was still running when the trace ended"),
    };
    let reaction = match case.reap(victim) {
        Some((event, _)) => {
            let by = case.task_name(&event.task);
            let again = case.process_of(&event.task).and_then(|parent| {
                let mut children = case.process(parent).children.iter().copied();
                children.find(|child| case.born_ns(*child) > event.time_ns)
            });
            match again {
                Some(other) => format!("{by} collected it and then started {}", case.name(other)),
                None => format!("{by} collected it and started nothing after that"),
            }
        }
        None if case.header.tells_reaps() => "nobody collected its status".to_owned(),
        None => "who collected its status was not recorded".to_owned(),
    };
    let more = match all.len() {
        1 => String::new(),
        count => format!(" (the first of {count})"),
    };
    Some(
        kill.qualify(
            Finding::new(format!(
                "{}{more} was OOM-killed while PID 1 lived: {outcome}; {reaction}.",
                kill.name(case)
            ))
            .shown_by(kill.event, format!("{} dies", kill.name(case)))
            .not("the end of the jail", "PID 1 was not the victim")
            .fact_alone()
            .proven()
            .remedy(format!(
                "Let PID 1 end, or alert, when a worker dies{}. Watch the growth of oom_kill in {}.",
                match !case.cgroup_v1() {
                    true => "; or set memory.oom.group (--oom-group), so that all die together",
                    false => "",
                },
                case.oom_kill_file()
            )),
        ),
    )
}

fn earlier(case: &Case, pid1: ProcessId, last: &Kill<'_>) -> Option<Finding> {
    let (end, exit) = case.exit(pid1)?;
    if last.event.seq > end.seq {
        return None;
    }
    let (event, reason) = other_reason(case, pid1, last)?;
    Some(
        last.qualify(
            Finding::new(format!(
                "The jail ended at {}, {} after the OOM kill of {}: {reason}.",
                case.at(end),
                case.between(last.event, end),
                last.name(case),
            ))
            .shown_by(last.event, "the last OOM kill")
            .shown_by(event, "what led to the end")
            .shown_by(end, format!("PID 1 {}", ended(&exit.status)))
            .cause(
                "What ended it did not come from the kill.",
                Confidence::Likely,
            )
            .or("a consequence of the kill, such as output of the victim that was missing")
            .relies_on_all(&["oom-kill"])
            .proven()
            .remedy(
                "Treat the two apart. Flags such as OOMKilled that only tell that the counter oom_kill is not 0 \
                 mix them up.",
            ),
        ),
    )
}

/// What ended PID 1 for a reason of its own, after the kill.
fn other_reason<'a>(
    case: &'a Case,
    pid1: ProcessId,
    kill: &Kill<'_>,
) -> Option<(&'a Event, String)> {
    if let Some((event, signal)) = case.killing_signal(pid1) {
        let origin = case.origin(event, signal);
        let from_outside = event.task.jail_pid.is_none() && !event.task.in_jail;
        let others = origin.is_deliberate() && from_outside;
        if event.seq < kill.event.seq || !others {
            return None;
        }
        return Some((
            event,
            format!("{} sent it {}", case.who(&event.task), signal.signal.name),
        ));
    }
    let (end, exit) = case.exit(pid1)?;
    let stopped = case
        .stop_request()
        .filter(|(event, _)| event.seq > kill.event.seq && event.seq < end.seq)
        .map(|(event, stop)| {
            (
                event,
                format!("a stop was requested by {}", stop.signal.name),
            )
        });
    stopped.or_else(|| {
        let (child, event) = other_child(case, pid1, kill)?;
        let (_, status) = case.exit(child)?;
        Some((
            event,
            format!(
                "{} {} before, and {} {}",
                case.name(child),
                ended(&status.status),
                case.name(pid1),
                ended(&exit.status)
            ),
        ))
    })
}

/// The child whose bad end PID 1's exit code stems from, which ended after the kill for a reason of its own.
fn other_child<'a>(
    case: &'a Case,
    pid1: ProcessId,
    kill: &Kill<'_>,
) -> Option<(ProcessId, &'a Event)> {
    let child = case.passed_on(pid1)?.child;
    let (event, _) = case.exit(child)?;
    let (event_seq, kill_seq) = (event.seq, kill.event.seq);
    let other = event_seq > kill_seq && case.process(child).oom_kill.is_none();
    let served = || exit::lost_victim(case, child).is_some();
    (other && !answers(case, pid1, child, kill) && !served()).then_some((child, event))
}

/// PID 1 started that child after it had collected the victim, and ended at once: what it did last, such as to search
/// a log, was an answer to the kill.
fn answers(case: &Case, pid1: ProcessId, child: ProcessId, kill: &Kill<'_>) -> bool {
    let reap = kill.victim.and_then(|victim| case.reap(victim));
    reap.is_some_and(|(reap, _)| {
        case.process_of(&reap.task) == Some(pid1)
            && case.process(child).creator == Some(pid1)
            && case.born_ns(child) >= reap.time_ns
            && case.ended_ns(pid1).saturating_sub(reap.time_ns) <= ANSWER_NS
    })
}

/// PID 1 failed because of another child, not because of a kill.
pub(super) fn failed_otherwise(look: &Look<'_>) -> bool {
    let case = look.case;
    let (Some(pid1), Some(last)) = (case.pid1(), look.kills.last()) else {
        return false;
    };
    !look.kills.iter().any(|kill| kill.victim == Some(pid1))
        && case.stop_request().is_none()
        && other_child(case, pid1, last).is_some()
        && !Chain::of(case, &look.kills).has(pid1)
}
