//! Forks that the limit of a user's processes refused (RLIMIT_NPROC).

use super::pids::peak;
use super::{MACHINE, Refused, logged, of, pids_limit, refused, refusing_level, who_failed};
use crate::diagnose::{Case, Confidence, Finding, Limit};
use crate::text;

/// What may refuse a fork.
pub(super) const JAIL: &str = "the jail's own limit (pids.max)";

/// The user that the jail's processes were started as; `None` for root, whom RLIMIT_NPROC does not bind.
fn user(case: &Case) -> Option<&str> {
    let plan = case.header.plan().iter();
    plan.filter_map(|step| step.strip_prefix("become user "))
        .filter_map(|step| step.split(' ').next())
        .find(|uid| *uid != "0")
}

/// The limit of the user's processes that may have refused a fork, and how many the jail alone had then.
pub(super) fn user_limit<'a>(case: &'a Case, refused: &Refused<'_>) -> Option<(Limit<'a>, usize)> {
    let time_ns = refused.event.time_ns.saturating_sub(refused.call.before_ns);
    let limit = case.limit(refused.id, "nproc", time_ns)?;
    let count = case
        .processes()
        .filter(|(id, process)| {
            // A zombie counts until it is collected.
            let reaped = process.reap.map(|index| case.event(index).time_ns);
            process.in_jail()
                && case.born_ns(*id) <= time_ns
                && reaped
                    .or(process.freed_ns)
                    .is_none_or(|gone| gone > time_ns)
        })
        .count();
    let reached = count as u64 >= limit.soft;
    (reached || user(case).is_some() || limit.set.is_some()).then_some((limit, count))
}

pub(super) fn nproc(case: &Case) -> Vec<Finding> {
    let failed = refused(case, libc::EAGAIN);
    let Some((limit, count)) = failed.first().and_then(|first| user_limit(case, first)) else {
        return Vec::new();
    };
    if refusing_level(case).is_some() || logged(case).is_some() {
        return Vec::new();
    }
    // The counter did not move, or could not be read; a full jail could have refused as well.
    let unmoved = case.counter_growth(0, "pids.events:max") == Some(0);
    let full = pids_limit(case).is_some_and(|limit| peak(case, limit).is_some());
    if full && !unmoved {
        return Vec::new();
    }
    let whose = user(case).map_or_else(|| "Its user".to_owned(), |uid| format!("The user {uid}"));
    let set = limit.set.map_or_else(String::new, |event| {
        format!(", which {} had set", case.task_name(&event.task))
    });
    let mut finding = Finding::new(format!("{} with EAGAIN.", who_failed(case, &failed)))
        .proven()
        .cause(
            format!(
                "{whose} may have {} processes and threads (RLIMIT_NPROC){set}: those in other jails and containers \
                 count too.",
                text::count(limit.soft)
            ),
            Confidence::Proven,
        )
        .fact(format!("the jail alone had {} processes then", text::count(count as u64)))
        .remedy("Raise --rlimit nproc=, or give each jail a user ID of its own and limit it with --pids.");
    if unmoved || pids_limit(case).is_none() {
        finding = finding.not(
            JAIL,
            match unmoved {
                true => "its counter did not move",
                false => "it has none",
            },
        );
    }
    if count as u64 >= limit.soft && user(case).is_some() {
        finding = finding.not(
            MACHINE,
            "the jail alone had as many processes as its user may have",
        );
    }
    vec![of(case, finding, &failed)]
}
