//! The jail could not be set up: APP never ran.

use crate::diagnose::{Case, Family, Finding, Rank, Rule, Tagged};
use crate::event::{Event, SetupFailed, What};
use crate::text;
use crate::words;

pub(super) const FAMILY: Family = Family {
    rules: &[Rule {
        id: "setup-failed",
        about: "the jail could not be set up, so the program never ran",
        alternatives: &["an end of the program's own"],
    }],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let found = case.each(|what| match what {
        What::SetupFailed(failed) => Some(failed),
        _ => None,
    });
    found
        .take(1)
        .filter(|(event, _)| !told_by_others(case, event))
        .map(|(event, failed)| ("setup-failed", failed_at(case, event, failed)))
        .collect()
}

/// An execve(2) that failed has a file to look into, and a PID 1 that was killed has a sender or an OOM kill.
fn told_by_others(case: &Case, failed: &Event) -> bool {
    let tried = case
        .main_process()
        .is_some_and(|app| case.failed_execs(app).next().is_some());
    let killed = case
        .pid1()
        .and_then(|pid1| case.exit(pid1))
        .is_some_and(|(event, exit)| event.seq < failed.seq && exit.status.signal.is_some());
    tried || killed
}

fn failed_at(case: &Case, event: &Event, failed: &SetupFailed) -> Finding {
    let app = text::command_line(&case.header.jail.command, 60);
    let why = match &failed.error {
        Some(error) => format!(
            "procjail could not {}: {}",
            text::escape(&failed.step),
            words::errno(error)
        ),
        None => text::escape(&failed.message),
    };
    Finding::new(format!("`{app}` never ran: {why}."))
        .proven()
        .about(case.pid1())
        .shown_by(event, text::escape(&failed.message))
        .not("an end of the program's own", "PID 1 never executed it")
        .remedy(text::escape(&failed.remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Confidence;
    use crate::diagnose::fixture::{Scene, inside, launcher};
    use crate::event::{Errno, Kill};

    fn failed(scene: &mut Scene, error: Option<Errno>) {
        let what = SetupFailed {
            step: "change the working directory to /nodir".into(),
            path: Some("/nodir".into()),
            error,
            message: "PID 1 died of SIGKILL before it executed APP".into(),
            remedy: "Choose another.".into(),
        };
        scene.at(2, launcher(), What::SetupFailed(what));
    }

    /// PID 1 of a jail whose set-up failed ends with 125.
    fn scene() -> Scene {
        let mut scene = Scene::bare();
        failed(&mut scene, Some(Errno::new(libc::ENOENT)));
        let what = Kill {
            reason: "setup-failed".into(),
            method: "cgroup.kill".into(),
        };
        scene
            .at(3, launcher(), What::Kill(what))
            .end(4, inside(1, "procjail"), 125 << 8);
        scene
    }

    #[test]
    fn it_is_the_only_verdict_and_names_step_error_and_remedy() {
        let scene = scene();
        assert_eq!(scene.ids(), ["setup-failed"]);
        let found = scene.verdict("setup-failed");
        assert_eq!(found.confidence, Confidence::Proven);
        for part in ["never ran", "working directory to /nodir", "ENOENT"] {
            assert!(found.fact.contains(part), "{}", found.fact);
        }
        assert_eq!(found.remedy, "Choose another.");
    }

    #[test]
    fn without_an_error_of_the_kernel_it_says_what_was_printed() {
        let mut scene = Scene::bare();
        failed(&mut scene, None);
        let fact = scene.verdict("setup-failed").fact;
        assert!(fact.contains("PID 1 died of SIGKILL"), "{fact}");
    }

    #[test]
    fn a_file_that_could_not_be_executed_is_another_verdict() {
        let mut scene = scene();
        scene.exec_failed(1, inside(1, "procjail"), "/x", libc::ENOENT, None);
        scene.expect_no("setup-failed");
    }

    #[test]
    fn so_is_a_kill_of_pid_1_before_it_executed() {
        let mut scene = Scene::bare();
        scene.end(1, inside(1, "procjail"), libc::SIGKILL);
        failed(&mut scene, None);
        scene.expect_no("setup-failed");
    }
}
