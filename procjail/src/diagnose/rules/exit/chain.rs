//! From PID 1's exit code down to the process that it stems from.

use super::message::Message;
use super::{children, reason};
use crate::diagnose::{Case, PassedOn, Passing, ProcessId};
use crate::text;

/// A program that was asked to end does so within this time, or for another reason, nanoseconds.
const STOP_NS: u64 = 60_000_000_000;

/// The process whose exit code is the run's: PID 1, or the child of procjail's own init.
pub(in crate::diagnose::rules) fn main(case: &Case) -> Option<ProcessId> {
    case.main_process().or(case.pid1())
}

/// It is the program, not the launcher's own code on its way to it.
pub(in crate::diagnose::rules) fn started(case: &Case, main: ProcessId) -> bool {
    case.execs(main).next().is_some() || !case.from_the_start()
}

/// PID 1, and below it the processes whose ends may have led to its exit code.
pub(super) struct Chain<'a> {
    /// PID 1 first. All of them returned an exit code.
    pub wrappers: Vec<ProcessId>,
    /// How each one's end led to that of the wrapper before it: one fewer than wrappers.
    pub links: Vec<PassedOn<'a>>,
    /// The child of the last wrapper that a signal ended, if that is where it began.
    pub killed: Option<PassedOn<'a>>,
}

impl<'a> Chain<'a> {
    /// The chain below a process that returned a code other than 0.
    pub fn below(case: &'a Case, top: ProcessId) -> Self {
        let mut chain = Self {
            wrappers: vec![top],
            links: Vec::new(),
            killed: None,
        };
        let mut last = top;
        while let Some(passed) = case.passed_on(last) {
            if case
                .status(passed.child)
                .is_some_and(|status| status.signal.is_some())
            {
                chain.killed = Some(passed);
                break;
            }
            if chain.wrappers.contains(&passed.child) || !leads(case, &passed) {
                break;
            }
            last = passed.child;
            chain.wrappers.push(last);
            chain.links.push(passed);
        }
        // A manager's helper may have returned the same code, and says nothing.
        if chain.killed.is_none()
            && !speaks(case, chain.origin())
            && let Some(passed) = managed(case, top)
        {
            chain.wrappers = vec![top, passed.child];
            chain.links = vec![passed];
        }
        chain
    }

    /// The process that returned the first code.
    pub fn origin(&self) -> ProcessId {
        self.wrappers
            .last()
            .copied()
            .unwrap_or_else(|| self.wrappers[0])
    }

    /// The processes whose ends it tells of, PID 1 among them.
    pub fn subjects(&self, case: &Case) -> impl Iterator<Item = ProcessId> {
        case.pid1().into_iter().chain(self.wrappers.iter().copied())
    }

    /// The main command was asked to end shortly before it did.
    pub fn was_asked(&self, case: &Case) -> bool {
        self.wrappers.first().is_some_and(|main| {
            children::asked_ns(case, *main)
                .is_some_and(|asked| case.ended_ns(*main).saturating_sub(asked) <= STOP_NS)
        })
    }

    /// The link at which another code was made of one, the lowest, with the process that made it.
    pub fn changed(&self) -> Option<(ProcessId, &PassedOn<'a>)> {
        let links = self
            .wrappers
            .iter()
            .copied()
            .zip(self.links.iter().chain(&self.killed));
        links
            .filter(|(_, link)| link.how == Passing::Changed)
            .last()
    }

    /// The process whose story it is: the one nearest to PID 1 that wrote of a failure after its child had ended, or
    /// else the origin. What a program says itself tells more of its end than what a child of its said.
    pub fn speaker(&self, case: &Case) -> usize {
        self.wrappers
            .iter()
            .zip(&self.links)
            .position(|(above, link)| speaks_after(case, *above, link.child))
            .unwrap_or(self.links.len())
    }

    /// What the wrappers above a process did after its end, in words, of which none says that it was for that:
    /// ` sh (PID 1) exited with 1 0.4 ms later.` Empty where there is none.
    pub fn above(&self, case: &Case, id: ProcessId) -> String {
        let at = self.wrappers.iter().position(|wrapper| *wrapper == id);
        let above = self.wrappers.get(..at.unwrap_or(0)).unwrap_or_default();
        let words = above.iter().rev().filter_map(|above| {
            let later = case.ended_ns(*above).saturating_sub(case.ended_ns(id));
            Some(format!(
                " {} {} {} later.",
                case.name(*above),
                case.did_end(case.status(*above)?),
                text::duration(later)
            ))
        });
        words.collect()
    }
}

/// A process wrote of a failure after a child of its had ended: that is a story of its own.
pub(super) fn speaks_after(case: &Case, id: ProcessId, child: ProcessId) -> bool {
    failure_since(case, id, case.ended_ns(child)).is_some()
}

/// The last that a process wrote to stderr, where that is of a failure and was not before that time.
pub(super) fn failure_since(case: &Case, id: ProcessId, since_ns: u64) -> Option<Message<'_>> {
    let (event, tail) = case.stderr(id)?;
    let wrote_ns = event.time_ns.saturating_sub(tail.before_ns);
    reason::message(case, id).filter(|message| wrote_ns >= since_ns && message.is_failure())
}

/// A failure that a process wrote of after it was asked to stop, and that is no word on the request itself, as the
/// traceback of a KeyboardInterrupt is: the line that says most.
pub(in crate::diagnose::rules) fn failed_otherwise(
    case: &Case,
    id: ProcessId,
    asked_ns: u64,
) -> Option<String> {
    const REQUEST: [&str; 5] = ["signal", "interrupt", "sigterm", "sigint", "terminat"];
    let (_, tail) = case.stderr(id)?;
    let text = tail.text.to_ascii_lowercase();
    let message = failure_since(case, id, asked_ns)?;
    let (line, _) = message.quoted()?;
    (!REQUEST.iter().any(|word| text.contains(word))).then_some(line)
}

/// A child's code leads to its parent's: it is the same one right after, or the child said what was wrong.
fn leads(case: &Case, passed: &PassedOn<'_>) -> bool {
    (passed.how == Passing::Code && passed.between == 0 && passed.others == 0)
        || speaks(case, passed.child)
        || case.passed_on(passed.child).is_some_and(|below| {
            speaks(case, below.child)
                || case
                    .status(below.child)
                    .is_some_and(|status| status.signal.is_some())
        })
}

/// Before the end of a manager, the first process below it fails: so long, nanoseconds.
const MANAGED_NS: u64 = 10_000_000_000;

/// A manager of processes that says nothing itself ends the others when one fails: the first that failed, and said why,
/// before the manager sent signals to the rest.
fn managed(case: &Case, top: ProcessId) -> Option<PassedOn<'_>> {
    let (exit, ended) = case.exit(top)?;
    let code = ended.status.code.filter(|code| *code != 0)?;
    if speaks(case, top) || children::asked_ns(case, top).is_some() {
        return None;
    }
    let below = case.descendants(top);
    let stopped_ns = case
        .sent(top)
        .filter(|(_, signal)| {
            matches!(
                signal.signal.number,
                libc::SIGTERM | libc::SIGINT | libc::SIGKILL // The kernel's own, at the end of the namespace, are no decision.
            ) && signal.code.number <= 0
                && case
                    .process_of(&signal.target)
                    .is_some_and(|target| below.contains(&target))
        })
        .map(|(event, _)| event.time_ns)
        .find(|time_ns| exit.time_ns.saturating_sub(*time_ns) <= MANAGED_NS)?;
    let failed = |id: &ProcessId| {
        let code = case.status(*id).and_then(|status| status.code);
        let ended_ns = case.ended_ns(*id);
        code.is_some_and(|code| code != 0)
            && ended_ns <= stopped_ns
            && exit.time_ns - ended_ns <= MANAGED_NS
            && speaks(case, *id)
    };
    let child = below
        .into_iter()
        .filter(failed)
        .min_by_key(|id| case.ended_ns(*id))?;
    let (end, status) = case.exit(child)?;
    Some(PassedOn {
        child,
        how: match status.status.code == Some(code) {
            true => Passing::Code,
            false => Passing::Changed,
        },
        reap: end,
        collected: false,
        exit,
        others: 0,
        between: 0,
    })
}

/// There is evidence of why a process returned its code.
fn speaks(case: &Case, id: ProcessId) -> bool {
    // A search along PATH that succeeded in the end is no failure.
    let executed = case.execs(id).next_back().map_or(0, |(event, _)| event.seq);
    reason::quoted(case, id).is_some()
        || reason::reason(case, id).is_some()
        || case.failed_execs(id).any(|(event, _)| event.seq > executed)
}
