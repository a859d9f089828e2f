//! Which finding comes first, and which follows from which.

use std::collections::HashMap;

use super::Found;
use crate::diagnose::{Case, Follows, ProcessId, Rank};

/// Findings by their place in a list.
pub(super) struct Order {
    /// Those that follow from no other, the first one first.
    pub roots: Vec<usize>,
    /// What follows from each.
    pub children: Vec<Vec<usize>>,
}

/// A failure this soon after an OOM kill may be its consequence, nanoseconds.
const AFTERMATH_NS: u64 = 10_000_000_000;

/// Puts what follows under what it follows from; those that lead to PID 1's end come first.
pub(super) fn order(case: &Case, found: &[Found]) -> Order {
    let parents = parents(found);
    let mut children = vec![Vec::new(); found.len()];
    for (at, parent) in parents.iter().enumerate() {
        if let Some(parent) = parent {
            children[*parent].push(at);
        }
    }
    let mut leads = vec![false; found.len()];
    if let Some(pid1) = case.pid1() {
        for (at, one) in found.iter().enumerate() {
            if one.finding.subjects.contains(&pid1) {
                lead(&parents, at, &mut leads);
            }
        }
    }
    let mut roots: Vec<usize> = (0..found.len())
        .filter(|at| parents[*at].is_none())
        .collect();
    let explains = |at: &usize| leads[*at] && found[*at].rank == Rank::Problem;
    if roots.iter().any(explains) {
        // PID 1's end is told already.
        roots.retain(|at| found[*at].rank != Rank::Story);
    }
    // A code other than 0 is more than the story of a good run, and what did not lead to it comes after.
    let failed = case
        .pid1()
        .and_then(|pid1| case.status(pid1)?.code)
        .is_some_and(|code| code != 0);
    let killed = case
        .pid1()
        .and_then(|pid1| case.exit(pid1))
        .is_some_and(|(end, _)| {
            let kills = case.processes().filter_map(|(_, process)| process.oom_kill);
            kills.map(|kill| case.event(kill)).any(|kill| {
                kill.seq < end.seq && end.time_ns.saturating_sub(kill.time_ns) <= AFTERMATH_NS
            })
        });
    roots.sort_by_key(|at| {
        let one = &found[*at];
        let rank = match one.rank {
            // What nobody can explain does not come before an OOM kill that may have led to it.
            Rank::Story if failed && leads[*at] && !(killed && one.finding.cause.is_none()) => {
                Rank::Problem
            }
            rank => rank,
        };
        let leads = leads[*at] || (failed && tells_an_oom_kill_near_the_end(case, one));
        (rank, !leads, one.finding.time_ns)
    });
    Order { roots, children }
}

/// PID 1 lived on after an OOM kill if it did for longer than this, nanoseconds.
const REACTION_NS: u64 = 1_000_000_000;

/// It tells the OOM kill of a process right before PID 1's end. What PID 1 did last, such as to search a log, may have
/// given it its code: the kill comes first all the same.
fn tells_an_oom_kill_near_the_end(case: &Case, one: &Found) -> bool {
    let end = case.pid1().and_then(|pid1| case.exit(pid1));
    let near = |id: &ProcessId| {
        let kill = case.process(*id).oom_kill.map(|kill| case.event(kill));
        kill.zip(end).is_some_and(|(kill, (end, _))| {
            kill.seq < end.seq && end.time_ns.saturating_sub(kill.time_ns) <= REACTION_NS
        })
    };
    one.finding.subjects.iter().any(near)
}

/// Notes of a finding, and of all that it follows from, that they lead to PID 1's end.
fn lead(parents: &[Option<usize>], at: usize, leads: &mut [bool]) {
    let mut next = Some(at);
    while let Some(at) = next.filter(|at| !leads[*at]) {
        leads[at] = true;
        next = parents[at];
    }
}

/// The finding that each one follows from: the first that explains the first of its causes. Never one that
/// follows from it in turn.
fn parents(found: &[Found]) -> Vec<Option<usize>> {
    let mut by_process: HashMap<ProcessId, Vec<usize>> = HashMap::new();
    let mut by_rule: HashMap<&str, Vec<usize>> = HashMap::new();
    // Two are enough: at most one of them is the finding itself.
    let note = |of: &mut Vec<usize>, at| {
        if of.len() < 2 && of.last() != Some(&at) {
            of.push(at);
        }
    };
    for (at, one) in found.iter().enumerate() {
        for process in &one.finding.subjects {
            note(by_process.entry(*process).or_default(), at);
        }
        note(by_rule.entry(one.id).or_default(), at);
    }
    let mut parents: Vec<Option<usize>> = found
        .iter()
        .enumerate()
        .map(|(at, one)| {
            one.finding.follows.iter().find_map(|cause| {
                let explain = match cause {
                    Follows::Process(process) => by_process.get(process),
                    Follows::Rule(id) => by_rule.get(id),
                };
                explain?.iter().copied().find(|other| *other != at)
            })
        })
        .collect();
    for at in circular(&parents) {
        parents[at] = None;
    }
    parents
}

/// The findings that follow from themselves.
fn circular(parents: &[Option<usize>]) -> Vec<usize> {
    // The walk upwards that came by each first. A walk that comes by its own steps has found a circle.
    let mut walks = vec![None; parents.len()];
    let mut circular = Vec::new();
    for start in 0..parents.len() {
        let mut next = Some(start);
        while let Some(at) = next.filter(|at| walks[*at].is_none()) {
            walks[at] = Some(start);
            next = parents[at];
        }
        let Some(entry) = next.filter(|at| walks[*at] == Some(start)) else {
            continue;
        };
        let mut at = entry;
        loop {
            circular.push(at);
            match parents[at].filter(|next| *next != entry) {
                Some(next) => at = next,
                None => break,
            }
        }
    }
    circular
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::fixture::{Scene, inside};
    use crate::diagnose::{Confidence, Finding};

    fn found(rank: Rank, finding: Finding) -> Found {
        Found {
            id: "any",
            rank,
            finding,
            weakened: Vec::new(),
        }
    }

    /// PID 1 loses a child to the OOM killer and returns that code so many milliseconds later. Is the kill told first,
    /// or what tells PID 1's end?
    fn kill_is_first(code: i32, later_ms: u64, end: impl Fn(Finding) -> (Rank, Finding)) -> bool {
        let (pid1, worker) = (inside(1, "app"), inside(2, "worker"));
        let mut scene = Scene::new(&["app"]);
        scene
            .fork(1, &pid1, &worker)
            .oom_kill(1_000, &worker)
            .exit_to(1_001, &worker, &pid1, libc::SIGKILL)
            .end(1_000 + later_ms, &pid1, code << 8);
        let case = scene.case();
        let of = |task| case.process_of(task).expect("a process");
        let (rank, end) = end(Finding::new("It ended.").about([of(&pid1)]).at(1));
        let kill = Finding::new("It was killed.").about([of(&worker)]).at(2);
        let found = [found(rank, end), found(Rank::Problem, kill)];
        order(&case, &found).roots == [1, 0]
    }

    #[test]
    fn an_oom_kill_comes_before_an_end_that_nobody_can_explain() {
        let silent = |end: Finding| (Rank::Story, end);
        assert!(kill_is_first(1, 5_000, silent));
        // It is too long ago, or the run went well: the kill is a problem still, and before a story.
        assert!(!kill_is_first(1, 11_000, silent));
        assert!(kill_is_first(0, 11_000, silent));
        // A story that has a reason is more than that.
        let told = |end: Finding| (Rank::Story, end.cause("It had to.", Confidence::Likely));
        assert!(!kill_is_first(1, 5_000, told));
    }

    #[test]
    fn an_oom_kill_right_before_the_end_comes_before_what_was_done_last() {
        let problem = |end: Finding| (Rank::Problem, end);
        // Both lead to the end: the first one in time. The finding on the end is earlier here.
        assert!(!kill_is_first(1, 500, problem));
        let later = |end: Finding| (Rank::Problem, end.at(3));
        assert!(kill_is_first(1, 500, later));
        assert!(!kill_is_first(1, 1_500, later));
        // A good end has nothing to do with it.
        assert!(!kill_is_first(0, 500, later));
    }

    #[test]
    fn a_circle_of_causes_is_cut() {
        // 0 and 1 follow from each other, 2 from 1; 3 is a root, 4 follows from it.
        let mut found = circular(&[Some(1), Some(0), Some(1), None, Some(3)]);
        found.sort_unstable();
        assert_eq!(found, [0, 1]);
        assert_eq!(circular(&[None, Some(0), Some(1)]), [0; 0]);
        assert_eq!(circular(&[Some(0)]), [0]);
    }

    #[test]
    fn what_leads_to_the_end_is_known_up_to_its_root() {
        let parents = [None, Some(0), Some(1), None];
        let mut leads = vec![false; 4];
        lead(&parents, 2, &mut leads);
        assert_eq!(leads, [true, true, true, false]);
    }
}
