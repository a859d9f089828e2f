//! What somebody else reported of the run, against what the kernel says.

use crate::diagnose::{Case, Family, Finding, Follows, Rank, Reported, Rule, Tagged};
use crate::event::What;
use crate::exit;
use crate::text;

/// The step of the teardown by which the kernel says that no process is left; see `jail::teardown`.
const REMOVAL: &str = "remove the cgroups";

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "oom-missed-by-runtime",
            about: "the run ended by an OOM kill, and the reported reason does not say so",
            alternatives: &["another end"],
        },
        Rule {
            id: "exit-code-synthetic",
            about: "the reported exit code is not what the kernel says of PID 1",
            alternatives: &["the kernel's own code"],
        },
        Rule {
            id: "conflict",
            about: "the reported reason is not what the kernel says of the run",
            alternatives: &["an end that the reason describes"],
        },
        Rule {
            id: "runtime-state-stale",
            about: "the jail is reported as running, and the kernel has nothing of it any more",
            alternatives: &["a teardown that hangs", "a process that is left"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    found.extend(
        missed(case)
            .into_iter()
            .map(|one| ("oom-missed-by-runtime", one)),
    );
    found.extend(
        synthetic(case)
            .into_iter()
            .map(|one| ("exit-code-synthetic", one)),
    );
    found.extend(conflict(case).into_iter().map(|one| ("conflict", one)));
    found.extend(
        stale(case)
            .into_iter()
            .map(|one| ("runtime-state-stale", one)),
    );
    found
}

/// A runtime asks for a container's OOM kills after its end, or hears of them by events that race with
/// that: the kernel's own proof is in the trace.
fn missed(case: &Case) -> Vec<Finding> {
    let Some(Reported::Reason(reason)) = &case.reported else {
        return Vec::new();
    };
    let is_state = case
        .reported
        .as_ref()
        .is_some_and(|it| it.alive().is_some());
    if is_state || reason.to_ascii_lowercase().contains("oom") {
        return Vec::new();
    }
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let Some(kill) = case.process(pid1).oom_kill.map(|index| case.event(index)) else {
        return Vec::new();
    };
    vec![
        Finding::new(format!(
            "The reported reason is \"{}\", but the kernel's OOM killer killed {}.",
            text::escape(reason),
            case.name(pid1)
        ))
        .proven()
        .follows(Follows::Process(pid1))
        .shown_by(kill, format!("the OOM killer chose {}", case.name(pid1)))
        .fact(format!("reported: {}", text::escape(reason)))
        .not("another end", "the SIGKILL of the OOM killer is what ended it")
        .remedy(format!(
            "Go by the kernel. Alert on the growth of oom_kill in {}, not on the runtime's reason, which is read after \
             the end and can miss it.",
            case.oom_kill_file()
        )),
    ]
}

/// A runtime goes by events that it may have missed, and by files that outlive what they are about.
fn stale(case: &Case) -> Vec<Finding> {
    let Some(state) = case.reported.as_ref().and_then(Reported::alive) else {
        return Vec::new();
    };
    let collected = case.each(|what| match what {
        What::JailExited(exited) => Some(exited),
        _ => None,
    });
    let (Some(footer), Some((reaped, exited))) = (&case.footer, collected.last()) else {
        return Vec::new();
    };
    // Something that could not be ended or removed: then it is not all gone.
    let leaves = case
        .leak_check()
        .is_some_and(|(_, check)| !check.cgroups.is_empty());
    if leaves || footer.teardown.iter().any(|step| step.error.is_some()) {
        return Vec::new();
    }
    let removed = case.each(|what| match what {
        What::Teardown(step) if step.step == REMOVAL && step.error.is_none() => Some(()),
        _ => None,
    });
    let Some((removed, ())) = removed.last() else {
        return Vec::new();
    };
    let name = case.pid1_name();
    let mut finding = Finding::new(format!(
        "It is reported as \"{}\", but {name} {}, was collected at {}, and its cgroup was removed at {}: a later report \
         of that state is out of date.",
        text::escape(state),
        case.did_end(&exited.status),
        case.at(reaped),
        case.at(removed),
    ))
    .proven()
    .at(removed.time_ns);
    if let Some((exit, ended)) = case.pid1().and_then(|pid1| case.exit(pid1)) {
        finding = finding.shown_by(exit, format!("{name} {}", case.did_end(&ended.status)));
    }
    if let Some(pid1) = case.pid1() {
        finding = finding.follows(Follows::Process(pid1));
    }
    vec![
        finding
            .shown_by(
                reaped,
                "its parent, procjail, collected its status: it is not even a zombie",
            )
            .shown_by(
                removed,
                "its cgroup was empty and is removed: no process of the jail is left",
            )
            .fact(format!("reported: {}", text::escape(state)))
            .not(
                "a teardown that hangs",
                "each of its steps ended without an error",
            )
            .not(
                "a process that is left",
                "the kernel removes no cgroup that a process is in",
            )
            .remedy(
                "Have the runtime look again (restart its daemon or shim; remove the entry by force: docker rm -f, \
                 kubectl delete --force). It missed an event, or goes by an old state file. To wait for an end, ask \
                 the kernel instead (waitid, a pidfd).",
            ),
    ]
}

/// Runtimes report codes of their own where they have none of the kernel's: 125 to 128, 137, 255.
fn synthetic(case: &Case) -> Vec<Finding> {
    let Some(Reported::Code(code)) = case.reported else {
        return Vec::new();
    };
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let Some((event, ended)) = case.exit(pid1) else {
        if case.footer.is_none() {
            return Vec::new();
        }
        return vec![
            Finding::new(format!(
                "The reported exit code {code} is not from the kernel: {} had not ended when the trace did.",
                case.name(pid1)
            ))
            .proven()
            .at(case.end_ns())
            .fact(format!("reported: {code}"))
            .not("the kernel's own code", "the kernel has none for a process that has not ended")
            .relies_on_all(&["exit"])
            .remedy("Find out why it could not be collected. The code is the runtime's own."),
        ];
    };
    let real = i32::from(exit::code_of(&ended.status));
    if real == code {
        return Vec::new();
    }
    vec![
        Finding::new(format!(
            "The reported exit code {code} is not that of {}, which {}: the code for that is {real}.",
            case.name(pid1),
            case.ended(&ended.status)
        ))
        .proven()
        .follows(Follows::Process(pid1))
        .shown_by(
            event,
            format!("{} {}", case.name(pid1), case.ended(&ended.status)),
        )
        .fact(format!("reported: {code}"))
        .not("the kernel's own code", format!("that is {real}"))
        .remedy(
            "Go by the kernel's status. A runtime invents codes when it lost track of the process (137, 255), or could \
             not start it (125 to 128).",
        ),
    ]
}

/// Reasons as Kubernetes gives them: `OOMKilled`, `Completed` for code 0, `Error` for any other.
fn conflict(case: &Case) -> Vec<Finding> {
    let Some(Reported::Reason(reason)) = &case.reported else {
        return Vec::new();
    };
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let Some((event, ended)) = case.exit(pid1) else {
        return Vec::new();
    };
    let word = reason.to_ascii_lowercase();
    let well = ended.status.code == Some(0);
    // That the OOM killer struck somebody else in the jail is reported so too, and not wrong.
    let but = match word.as_str() {
        word if word.contains("oom") && case.oom_kills().next().is_none() => {
            "the kernel's OOM killer killed no process in this run"
        }
        "completed" if !well => "a completed run exits with 0",
        "error" if well => "exit code 0 is not an error",
        _ => return Vec::new(),
    };
    let mut finding = Finding::new(format!(
        "The reported reason \"{}\" contradicts the kernel: {} {}, and {but}.",
        text::escape(reason),
        case.name(pid1),
        case.did_end(&ended.status)
    ))
    .proven()
    .follows(Follows::Process(pid1))
    .shown_by(
        event,
        format!("{} {}", case.name(pid1), case.did_end(&ended.status)),
    )
    .fact(format!("reported: {}", text::escape(reason)))
    .not("an end that the reason describes", but)
    .remedy(
        "Go by the kernel, and check whether the report is about this run: runtimes mix up restarts, and keep the \
         reason of an earlier one.",
    );
    if word.contains("oom") {
        finding = finding.relies_on_all(&["oom-kill"]).not(
            "an OOM kill of another process in the jail",
            "there is none in the trace",
        );
    }
    vec![finding]
}

#[cfg(test)]
mod tests {
    use crate::diagnose::{
        Reported, explain,
        fixture::{Scene, inside, outside},
    };
    use crate::event::{ExitStatus, JailExited, Teardown, What};

    fn ids(scene: &Scene, reported: &str) -> Vec<String> {
        let mut case = scene.case();
        case.reported = Some(Reported::parse(reported).expect("a report"));
        let explanation = explain(&case);
        let mut ids: Vec<String> = Vec::new();
        let mut rest = explanation.diagnoses;
        while let Some(one) = rest.pop() {
            ids.push(one.id);
            rest.extend(one.consequences);
        }
        ids
    }

    #[test]
    fn a_code_of_its_own_is_told_from_an_invented_one() {
        let mut scene = Scene::new(&["app"]);
        scene.exit(10, inside(1, "app"), 3, 0);
        assert!(
            ids(&scene, "137")
                .iter()
                .any(|id| id == "exit-code-synthetic")
        );
        assert!(
            !ids(&scene, "3")
                .iter()
                .any(|id| id == "exit-code-synthetic")
        );
        assert!(
            !ids(&scene, "Error")
                .iter()
                .any(|id| id == "oom-missed-by-runtime")
        );
        assert!(Reported::parse(" ").is_err());
    }

    #[test]
    fn a_reason_that_cannot_be_is_told() {
        let mut scene = Scene::new(&["app"]);
        scene.exit(10, inside(1, "app"), 1, 0);
        let conflicts = |reason| ids(&scene, reason).iter().any(|id| id == "conflict");
        assert!(conflicts("OOMKilled"));
        assert!(conflicts("Completed"));
        assert!(!conflicts("Error"));
        assert!(!conflicts("ContainerCannotRun"));
        let mut scene = Scene::new(&["app"]);
        scene.exit(10, inside(1, "app"), 0, 0);
        assert!(ids(&scene, "Error").iter().any(|id| id == "conflict"));
    }

    #[test]
    fn an_oom_kill_of_a_child_is_no_conflict() {
        let mut scene = Scene::new(&["app"]);
        scene.fork(5, inside(1, "app"), inside(2, "worker"));
        scene.oom_kill(7, inside(2, "worker"));
        scene.exit(10, inside(1, "app"), 1, 0);
        assert!(!ids(&scene, "OOMKilled").iter().any(|id| id == "conflict"));
    }

    /// PID 1 ended, was collected, and this became of the removal; what is found if `reported`.
    fn stale(reported: &str, removal: Option<&str>, footer: bool) -> bool {
        let mut scene = Scene::new(&["app"]);
        scene.exit(10, inside(1, "app"), 0, 0);
        let status = ExitStatus {
            code: Some(0),
            ..ExitStatus::default()
        };
        let launcher = outside(4100, "procjail");
        scene.at(
            11,
            launcher.clone(),
            What::JailExited(JailExited { status }),
        );
        let step = Teardown {
            step: super::REMOVAL.to_owned(),
            duration_ns: 1,
            error: removal.map(str::to_owned),
        };
        scene.at(12, launcher, What::Teardown(step));
        if let Some(footer) = &mut scene.footer {
            footer.teardown = vec![Teardown {
                step: super::REMOVAL.to_owned(),
                duration_ns: 1,
                error: removal.map(str::to_owned),
            }];
        }
        if !footer {
            scene.footer = None;
        }
        ids(&scene, reported)
            .iter()
            .any(|id| id == "runtime-state-stale")
    }

    #[test]
    fn a_state_is_stale_if_all_is_gone() {
        for state in [
            "running",
            "Running",
            "Up 3 hours",
            "Terminating",
            "active (running)",
        ] {
            assert!(stale(state, None, true), "{state}");
        }
        for other in ["0", "Error", "Completed", "exited", "updating"] {
            assert!(!stale(other, None, true), "{other}");
        }
    }

    #[test]
    fn it_is_not_while_something_is_left_or_may_be() {
        assert!(!stale("running", Some("EBUSY"), true));
        assert!(!stale("running", None, false), "the trace was cut off");
    }
}
