//! From findings to an explanation: what all rules have in common.

mod nothing;
mod noun;
mod options;
mod order;

use std::collections::BTreeSet;

use nothing::no_finding;
use order::{Order, order};

use super::case::Case;
use super::finding::Finding;
use super::model::{Confidence, Diagnosis, EXPLANATION_VERSION, Explanation, Unavailable};
use super::{Rank, Rule, rules};
use crate::event::Lost;
use crate::text;
use crate::words;

/// A finding with its rule.
struct Found {
    id: &'static str,
    rank: Rank,
    finding: Finding,
    weakened: Vec<String>,
}

/// The rule whose finding leaves nothing for others to say.
const SETUP_FAILED: &str = "setup-failed";

/// Explains a case.
pub fn explain(case: &Case) -> Explanation {
    let mut found: Vec<Found> = rules::families()
        .flat_map(|family| {
            (family.analyse)(case)
                .into_iter()
                .map(|(id, finding)| Found {
                    id,
                    rank: match (finding.tells_the_run, finding.minor) {
                        (true, _) => Rank::Problem,
                        (false, true) => family.rank.max(Rank::Note),
                        (false, false) => family.rank,
                    },
                    finding,
                    weakened: Vec::new(),
                })
        })
        .collect();
    if found.iter().any(|one| one.id == SETUP_FAILED) {
        // APP never ran: whatever else there is was procjail's own doing.
        found.retain(|one| one.id == SETUP_FAILED || one.rank == Rank::Evidence);
    }
    let losses = case.losses();
    for one in &mut found {
        if let Some(rule) = rules::find(one.id) {
            let left = exclude(&mut one.finding, rule);
            one.weakened.extend(left);
        }
        weaken(case, &losses, one);
    }
    found.sort_by_key(|one| one.finding.time_ns);
    let mut diagnoses = nest(case, &found);
    if !diagnoses.iter().any(tells) {
        // Before what is said of the evidence.
        diagnoses.insert(0, no_finding(case));
    }
    noun::rename(case, &mut diagnoses);
    Explanation {
        version: EXPLANATION_VERSION,
        procjail: env!("CARGO_PKG_VERSION").to_owned(),
        jail: case.header.jail.name.clone(),
        command: case.header.jail.command.clone(),
        gate_ns: case.gate_ns(),
        ended: ended(case),
        complete: case.complete(),
        diagnoses,
        unavailable: unavailable(case),
    }
}

fn ended(case: &Case) -> Option<String> {
    let status = case
        .footer
        .as_ref()
        .and_then(|footer| footer.status.as_ref())
        .or_else(|| case.status(case.pid1()?))?;
    Some(words::status(status))
}

/// A diagnosis says something of the run.
fn tells(diagnosis: &Diagnosis) -> bool {
    diagnosis.rank != Rank::Evidence
}

/// A cause is proven only if each alternative on the rule's list is ruled out by name. Those that are left are
/// told with it. So it is with a fact that stands without a cause; what is left weakens it.
fn exclude(finding: &mut Finding, rule: &Rule) -> Vec<String> {
    let excluded = |what: &str| finding.ruled_out.iter().any(|one| one.what == what);
    let left = rule.alternatives.iter().filter(|what| !excluded(what));
    let Some(cause) = &mut finding.cause else {
        if finding.fact_alone || finding.confidence != Confidence::Proven {
            return Vec::new();
        }
        let left: Vec<String> = left.map(|what| format!("not excluded: {what}")).collect();
        if !left.is_empty() {
            finding.confidence = Confidence::Likely;
        }
        return left;
    };
    if cause.confidence != Confidence::Proven {
        return Vec::new();
    }
    cause
        .alternatives
        .extend(left.map(|what| (*what).to_owned()));
    if !cause.alternatives.is_empty() {
        cause.confidence = Confidence::Likely;
    }
    Vec::new()
}

/// Lowers the confidence of what relies on events that may be missing.
fn weaken(case: &Case, losses: &[Lost], found: &mut Found) {
    let mut missing: BTreeSet<String> = BTreeSet::new();
    for kind in &found.finding.absent {
        for lost in losses {
            if lost.event_kind == *kind || lost.event_kind == "undecodable" {
                missing.insert(format!(
                    "{} {} events were lost: one more may have been among them",
                    text::count(lost.count),
                    text::escape(&lost.event_kind)
                ));
            }
        }
        if let Some(probe) = probe_of(kind).filter(|probe| !case.has_probe(probe)) {
            missing.insert(format!("the probe {probe} was not attached"));
        }
    }
    if !found.finding.absent.is_empty() {
        if case.overflow() > 0 {
            missing.insert("the trace is longer than explain holds".to_owned());
        }
        if case.footer.is_none() {
            missing.insert("the trace was cut off: what came after is unknown".to_owned());
        }
        if !case.from_the_start()
            && !found.finding.is_whole
            && !is_told_late(case, &found.finding.absent)
        {
            missing.insert("the trace does not have the start".to_owned());
        }
    }
    if !missing.is_empty() {
        let sure = &mut found.finding.confidence;
        *sure = Confidence::ConsistentWith.min(*sure);
        if let Some(cause) = &mut found.finding.cause {
            cause.confidence = Confidence::ConsistentWith.min(cause.confidence);
        }
        found.weakened.extend(missing);
    }
}

/// A trace of what ran already has all that could matter of these kinds: who is dead before it begins is in no later
/// event, and what runs is in the snapshot.
fn is_told_late(case: &Case, absent: &[&str]) -> bool {
    const AT_ONCE: [&str; 3] = ["oom-kill", "exit", "free"];
    case.header.jail.launcher.is_none() && absent.iter().all(|kind| AT_ONCE.contains(kind))
}

/// The probe without which there are no events of that kind.
fn probe_of(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "fork" => "sched_process_fork",
        "exec" => "sched_process_exec",
        "exit" => "sched_process_exit",
        "free" => "sched_process_free",
        "signal-generated" => "signal_generate",
        "signal-delivered" => "signal_deliver",
        "oom-kill" => "mark_victim",
        "reap" | "exec-failed" | "mount" => "sys_exit",
        _ => return None,
    })
}

/// Puts what follows under what it follows from; those that lead to PID 1's end come first.
fn nest(case: &Case, found: &[Found]) -> Vec<Diagnosis> {
    let Order { roots, children } = order(case, found);
    roots
        .into_iter()
        .map(|root| diagnosis(case, found, &children, root))
        .collect()
}

fn diagnosis(case: &Case, found: &[Found], children: &[Vec<usize>], at: usize) -> Diagnosis {
    let Found {
        id,
        rank,
        finding,
        weakened,
    } = &found[at];
    let consequences = children[at]
        .iter()
        .map(|child| diagnosis(case, found, children, *child))
        .collect();
    let mut pids: Vec<u32> = Vec::new();
    for process in &finding.subjects {
        let pid = case.process(*process).task.pid;
        if !pids.contains(&pid) {
            pids.push(pid);
        }
    }
    Diagnosis {
        id: (*id).to_owned(),
        rank: *rank,
        fact: finding.fact.clone(),
        confidence: finding.confidence,
        cause: finding.cause.clone(),
        time_ns: finding.time_ns,
        pids,
        evidence: finding.evidence.clone(),
        ruled_out: finding.ruled_out.clone(),
        weakened: weakened.clone(),
        remedy: finding.remedy.clone(),
        scenario: rules::is_played(id).then(|| (*id).to_owned()),
        consequences,
    }
}

/// What can't be told from this trace.
fn unavailable(case: &Case) -> Vec<Unavailable> {
    const NEEDS: &[(&str, &str)] = &[
        ("mark_victim", "OOM kills"),
        ("signal_generate", "who sent a signal"),
        ("signal_deliver", "whether a signal was taken"),
        ("sys_exit", "who reaped whom, failed execs, mounts"),
        ("sched_process_exit", "how processes ended"),
        ("sched_process_fork", "who made which process"),
    ];
    let missing = |what: &str, probe: &str| {
        let known = case.header.probes.iter().find(|entry| entry.name == probe);
        Unavailable {
            what: text::escape(what),
            because: match known.and_then(|entry| entry.error.as_ref()) {
                Some(error) => format!(
                    "the probe {} was not attached: {}",
                    text::escape(probe),
                    text::escape(error)
                ),
                None => format!("the probe {} was not attached", text::escape(probe)),
            },
        }
    };
    let needed = NEEDS
        .iter()
        .filter(|(probe, _)| !case.has_probe(probe))
        .map(|(probe, what)| missing(what, probe));
    // What the trace itself says of the others.
    let others = case
        .header
        .probes
        .iter()
        .filter(|probe| !probe.attached && NEEDS.iter().all(|(known, _)| *known != probe.name))
        .map(|probe| missing(&probe.provides, &probe.name));
    needed.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::fixture::{Scene, inside};

    const RULE: Rule = Rule {
        id: "fell",
        about: "it fell",
        alternatives: &["a push", "wind"],
    };

    fn proven_cause() -> Finding {
        Finding::new("It fell.")
            .proven()
            .cause("It slipped.", Confidence::Proven)
    }

    #[test]
    fn a_cause_is_proven_only_against_each_alternative_on_the_list() {
        let mut open = proven_cause().not("a push", "no one was near");
        exclude(&mut open, &RULE);
        let cause = open.cause.expect("a cause");
        assert_eq!(cause.confidence, Confidence::Likely);
        assert_eq!(cause.alternatives, ["wind"]);
        assert_eq!(open.confidence, Confidence::Proven, "the fact stays");

        let mut closed = proven_cause()
            .not("a push", "no one was near")
            .not("wind", "the air stood still");
        exclude(&mut closed, &RULE);
        let cause = closed.cause.expect("a cause");
        assert_eq!(cause.confidence, Confidence::Proven);

        let mut own = proven_cause()
            .or("a trip")
            .not("a push", "no one was near")
            .not("wind", "the air stood still");
        exclude(&mut own, &RULE);
        let cause = own.cause.expect("a cause");
        assert_eq!(
            cause.confidence,
            Confidence::Likely,
            "one that the finding itself names"
        );
    }

    #[test]
    fn a_fact_without_a_cause_is_proven_only_against_the_list_too() {
        let fact = || {
            Finding::new("It fell.")
                .proven()
                .not("a push", "no one was near")
        };
        let mut open = fact();
        assert_eq!(exclude(&mut open, &RULE), ["not excluded: wind"]);
        assert_eq!(open.confidence, Confidence::Likely);

        let mut closed = fact().not("wind", "the air stood still");
        assert!(exclude(&mut closed, &RULE).is_empty());
        assert_eq!(closed.confidence, Confidence::Proven);

        let mut alone = fact().fact_alone();
        assert!(exclude(&mut alone, &RULE).is_empty());
        assert_eq!(
            alone.confidence,
            Confidence::Proven,
            "the list is of a cause"
        );
    }

    #[test]
    fn the_story_is_told_where_no_problem_tells_the_end() {
        let case = Scene::new(&["app"]).end(50, inside(1, "app"), 0).case();
        let pid1 = case.pid1().expect("PID 1");
        let found = |id, rank, about_pid1: bool, time_ns| Found {
            id,
            rank,
            finding: Finding::new(id)
                .about(about_pid1.then_some(pid1))
                .at(time_ns),
            weakened: Vec::new(),
        };
        let ids = |found: Vec<Found>| -> Vec<String> {
            nest(&case, &found).into_iter().map(|one| one.id).collect()
        };
        let story = || found("story", Rank::Story, true, 5);
        let rest = || {
            vec![
                found("evidence", Rank::Evidence, false, 1),
                found("note", Rank::Note, true, 2),
                story(),
                found("elsewhere", Rank::Problem, false, 9),
            ]
        };
        assert_eq!(ids(rest()), ["elsewhere", "story", "note", "evidence"]);
        let mut with_end = rest();
        with_end.push(found("end", Rank::Problem, true, 10));
        assert_eq!(ids(with_end), ["end", "elsewhere", "note", "evidence"]);
    }
}
