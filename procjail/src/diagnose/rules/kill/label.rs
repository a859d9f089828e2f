//! What 137 stands for, and what it doesn't.

use super::stopped::is_grace;
use super::{Death, OOM_KILL, deaths};
use crate::diagnose::rules::stop::attempt::Attempt;
use crate::diagnose::{Case, Finding, Follows, Origin};

/// PID 1 was killed, and not by the OOM killer. Who did it is another verdict; this one answers what is
/// asked first.
pub(super) fn not_oom(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let Some(death) = deaths
        .iter()
        .find(|death| death.process == pid1 && death.signal.signal.number == libc::SIGKILL)
    else {
        return Vec::new();
    };
    if matches!(
        death.origin,
        Origin::OomKiller | Origin::OomSharedMemory | Origin::Kernel
    ) || case.process(pid1).oom_kill.is_some()
    {
        return Vec::new();
    }
    let attempt = Attempt::of(case);
    if attempt.is_none() && case.is_launcher(&death.event.task) {
        // A removal of the jail is no stop.
        return Vec::new();
    }
    let verdict = format!(
        "Exit code 137 stands for SIGKILL, and it was no OOM kill: {}.",
        sender(case, attempt.as_ref(), death)
    );
    let kills = case.oom_kills().count();
    let counter = case.counter_growth(0, "memory.events:oom_kill");
    let mut finding = Finding::new(verdict)
        .follows(Follows::Process(pid1))
        .shown_by(
            death.event,
            format!(
                "SIGKILL to {} from {}",
                case.name(pid1),
                case.task_name(&death.event.task)
            ),
        );
    finding = match (kills, counter) {
        (0, Some(0)) => finding.proven().not(
            OOM_KILL,
            "the OOM killer chose no process of the jail, and the cgroup's count of OOM kills did not change",
        ),
        (0, None) => finding
            .proven()
            .not(OOM_KILL, "the OOM killer chose no process of the jail"),
        (0, Some(_)) => finding
            .fact("the OOM killer chose no process that the trace knows, but the cgroup counted OOM kills"),
        (kills, _) => finding
            .proven()
            .not(OOM_KILL, format!("the OOM killer chose {kills} others, but not PID 1")),
    };
    vec![
        finding
            .relies_on_all(&["oom-kill"])
            .remedy("More memory does not help; see who sent it, and why."),
    ]
}

fn sender(case: &Case, attempt: Option<&Attempt<'_>>, death: &Death<'_>) -> String {
    match death.origin {
        Origin::CpuLimit => "the CPU time limit (RLIMIT_CPU) sent it".to_owned(),
        Origin::CgroupKill | Origin::Process if is_grace(case, attempt, death) => {
            format!(
                "{} sent it to end the stop",
                case.task_name(&death.event.task)
            )
        }
        Origin::CgroupKill => format!(
            "{} sent it by a write to cgroup.kill",
            case.task_name(&death.event.task)
        ),
        Origin::PidNamespaceEnd => "the end of the outer PID namespace sent it".to_owned(),
        Origin::ParentDeath => "the end of its parent sent it (PR_SET_PDEATHSIG)".to_owned(),
        Origin::TracerEnd => "the end of its tracer sent it".to_owned(),
        _ => format!("{} sent it", case.task_name(&death.event.task)),
    }
}
