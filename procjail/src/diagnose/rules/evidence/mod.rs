//! Verdicts about the evidence itself.

mod clock;
mod kernel_log;
mod pids;

use crate::diagnose::{Case, Confidence, Family, Finding, Rank, Rule, Tagged};
use crate::event::What;
use crate::text;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "evidence-lost",
            about: "events are missing, so nothing can be said from their absence",
            alternatives: &["events that never happened"],
        },
        Rule {
            id: "trace-cut-off",
            about: "the trace has no end: its writer was killed, or the disk was full",
            alternatives: &["a full disk", "a copy of an unfinished file"],
        },
        Rule {
            id: "attached-late",
            about: "the trace begins after the program did",
            alternatives: &["a start that is recorded later in the trace"],
        },
        Rule {
            id: "pid-reused",
            about: "several processes had the same PID, one after the other",
            alternatives: &["one process that executed another program"],
        },
        Rule {
            id: "clock-skew",
            about: "the wall clock was set during the run, so times of day don't fit together",
            alternatives: &["a clock that is being slewed"],
        },
        Rule {
            id: "kmsg-ratelimited",
            about: "the kernel log has no full report of some OOM kills",
            alternatives: &[kernel_log::OTHER_LIMIT],
        },
    ],
    rank: Rank::Evidence,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let tag = |id: &'static str, found: Vec<Finding>| found.into_iter().map(move |one| (id, one));
    tag("evidence-lost", lost(case))
        .chain(tag("trace-cut-off", cut_off(case)))
        .chain(tag("attached-late", late(case)))
        .chain(tag("pid-reused", pids::reused(case)))
        .chain(tag("clock-skew", clock::skew(case)))
        .chain(tag("kmsg-ratelimited", kernel_log::suppressed(case)))
        .collect()
}

fn lost(case: &Case) -> Vec<Finding> {
    let losses = case.losses();
    let overflow = case.overflow();
    let total: u64 = losses.iter().map(|lost| lost.count).sum::<u64>() + overflow;
    if total == 0 {
        return Vec::new();
    }
    let mut kinds: Vec<String> = losses
        .iter()
        .map(|lost| {
            format!(
                "{} {}",
                text::count(lost.count),
                text::escape(&lost.event_kind)
            )
        })
        .collect();
    if overflow > 0 {
        kinds.push(format!(
            "{} beyond what explain holds",
            text::count(overflow)
        ));
    }
    let mut finding = Finding::new(format!(
        "{} missing from this trace ({}): their absence proves nothing.",
        text::plural(total, "event is", "events are"),
        kinds.join(", "),
    ))
    .proven()
    .at(case.end_ns())
    .not(
        "events that never happened",
        "each of these was counted when it was dropped",
    )
    .remedy(match case.is_launched() {
        true => "Record again with a larger --ring-size, and without --all-signals and --threads.",
        false => "Attach again where less happens at a time: to one container instead of what holds many.",
    });
    for (event, _) in case.each(|what| match what {
        What::Lost(lost) => Some(lost),
        _ => None,
    }) {
        finding = finding.shown_by(
            event,
            "the kernel's count of events that did not fit into the ring buffer",
        );
    }
    vec![finding.at(case.end_ns())]
}

fn cut_off(case: &Case) -> Vec<Finding> {
    if case.footer.is_some() {
        return Vec::new();
    }
    let last = case.events().last();
    let ends = match last {
        Some(last) => format!("ends at {}", case.at(last)),
        None => "has a header and no event".to_owned(),
    };
    let finding = Finding::new(format!("The trace {ends} and has no footer: it does not say how the run ended."))
        .proven()
        .cause("procjail was killed before it could write the end.", Confidence::Likely)
        .or("a full disk")
        .or("a copy of an unfinished file")
        .at(case.end_ns())
        .remedy(match case.is_launched() {
            true => {
                "Look for what killed procjail (its end takes the jail with it: the kernel log, an OOM kill outside, \
                 kill -9), or for a full disk, and record again."
            }
            false => {
                "Look for what killed procjail (the kernel log, an OOM kill, kill -9; the jail was not harmed by it), \
                 or for a full disk, and attach again."
            }
        });
    let finding = match last {
        Some(last) => finding
            .shown_by(last, "the last event that was written")
            .at(case.end_ns()),
        None => finding.fact("no event follows the header"),
    };
    // Where PID 1's end is missing with the rest, this is all there is to say of it.
    vec![match case.pid1().and_then(|pid1| case.status(pid1)) {
        Some(_) => finding,
        None => finding.about(case.pid1()).tells_the_run(),
    }]
}

fn late(case: &Case) -> Vec<Finding> {
    if case.from_the_start() || case.events().is_empty() {
        return Vec::new();
    }
    let first = case.pid1().and_then(|pid1| case.execs(pid1).next());
    let overdue = first.is_none_or(|(event, _)| matches!(event.what, What::Found(_)));
    if !overdue {
        return Vec::new();
    }
    vec![
        Finding::new(
            "The trace does not include the program's start: who set signal dispositions and what the counters were \
             before is unknown.",
        )
        .proven()
        .at(case.header.start_boot_ns)
        .fact(match case.header.jail.launcher {
            Some(_) => "there is no event of the gate's opening",
            None => "procjail attached when it ran already",
        })
        .not("a start that is recorded later in the trace", "no program was seen to start as PID 1")
        .remedy(match case.header.jail.launcher {
            Some(_) => "Start the program with procjail trace.",
            None => "Attach before what you look for happens; what came before the trace is in no trace.",
        }),
    ]
}

#[cfg(test)]
mod tests {
    pub(super) use crate::diagnose::fixture::{Scene, inside, outside};

    #[test]
    fn a_trace_without_an_end_says_that_first() {
        let mut scene = Scene::new(&["app"]);
        scene.footer = None;
        assert_eq!(scene.ids(), ["trace-cut-off"]);
    }

    #[test]
    fn where_the_end_is_in_it_the_run_comes_first() {
        let mut scene = Scene::new(&["app"]);
        scene.footer = None;
        scene.end(5, inside(1, "app"), 0);
        assert_eq!(scene.ids(), ["exited-by-itself", "trace-cut-off"]);
    }

    #[test]
    fn so_does_one_with_nothing_but_a_header() {
        let mut builder = crate::diagnose::Builder::new();
        let header = Scene::new(&["app"]).header;
        crate::trace::Output::header(&mut builder, &header).expect("a builder takes all");
        let case = builder.finish().expect("there was a header");
        let explained = crate::diagnose::explain(&case);
        let first = explained.diagnoses.first().expect("a verdict");
        assert_eq!(first.id, "trace-cut-off");
        assert!(first.fact.contains("no event"), "{}", first.fact);
    }
}
