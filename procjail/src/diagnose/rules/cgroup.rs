//! What cgroup v2 refuses: processes and shared-out controllers in one cgroup.

use crate::diagnose::{Case, Family, Finding, Rank, Rule, Tagged};
use crate::event::FailedCall;
use crate::text;

use super::limit::{ended_after, failed};

pub(super) const FAMILY: Family = Family {
    rules: &[Rule {
        id: "cgroup-join-ebusy",
        about: "cgroup v2 refused a process in a cgroup that passes controllers on to those below it, or the reverse",
        alternatives: &[
            "another error",
            "a child's failure",
            "a file or device in use",
        ],
    }],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    refused(case)
        .into_iter()
        .map(|one| ("cgroup-join-ebusy", one))
        .collect()
}

/// What was refused, by the call that failed with EBUSY.
enum Refused<'a> {
    /// A process could not be made in a cgroup (`CLONE_INTO_CGROUP`).
    Made,
    /// A process could not be moved into it.
    Moved(&'a str),
    /// Controllers could not be passed on, as processes are in it, or be taken back, as one below uses them.
    PassedOn(&'a str),
}

impl Refused<'_> {
    fn of(call: &FailedCall) -> Option<Refused<'_>> {
        let name = call.syscall.name.as_str();
        if name == "clone3" {
            return Some(Refused::Made);
        }
        if !matches!(name, "write" | "pwrite64" | "writev") {
            return None;
        }
        // Those of sysfs and of devices have other names.
        let (directory, file) = call.path.as_deref()?.rsplit_once('/')?;
        match file {
            "cgroup.procs" => Some(Refused::Moved(directory)),
            "cgroup.subtree_control" => Some(Refused::PassedOn(directory)),
            _ => None,
        }
    }
}

/// A cgroup by the name of its directory, as far as it is known.
fn named(directory: &str) -> String {
    match directory.trim_matches('/') {
        "" => "the root cgroup".to_owned(),
        name => format!("the cgroup {}", text::escape(name)),
    }
}

/// cgroup-v2.rst, "No Internal Process Constraint".
pub(super) fn refused(case: &Case) -> Vec<Finding> {
    const FIX: &str = "Put processes into leaf cgroups only: move those of that cgroup into one below it (such as init/) \
                       before enabling controllers (cgroup.subtree_control), and have exec sessions and helpers \
                       join that one. Give a manager a cgroup of its own to divide (Delegate=yes, cgroup v2 \
                       namespaces).";
    failed(case, &[libc::EBUSY])
        .iter()
        .filter_map(|group| {
            let what = match Refused::of(group.first()?.last)? {
                Refused::Made => "cgroup v2 refused to start a process in a cgroup whose controllers are enabled for the \
                                  cgroups below it"
                    .to_owned(),
                Refused::Moved(directory) => format!(
                    "cgroup v2 refused to move a process into {}, whose controllers are enabled for the cgroups below it",
                    named(directory)
                ),
                Refused::PassedOn(directory) => format!(
                    "cgroup v2 refused to enable controllers for the cgroups below {}, as processes are in it, or to \
                     disable them, as a cgroup below has them enabled",
                    named(directory)
                ),
            };
            let finding = ended_after(case, group, &what, FIX)?;
            Some(finding.not(
                "a file or device in use",
                "only SCHED_DEADLINE tasks get this answer for another reason",
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::diagnose::Confidence;
    use crate::diagnose::fixture::{Scene, failed_call, inside};

    const ID: &str = "cgroup-join-ebusy";

    /// What is found of a program that gave up after this call.
    fn found(call: &str, error: i32, path: Option<&str>) -> Option<(String, Confidence)> {
        let pid1 = inside(1, "app");
        let mut scene = Scene::new(&["app"]);
        scene.end(5, &pid1, 0x100).failed_calls(
            5,
            &pid1,
            vec![failed_call(call, error, path, &[3])],
        );
        let ids = scene.ids();
        assert!(
            !ids.iter().any(|id| id == "exit-own-code") || !ids.iter().any(|id| id == ID),
            "one verdict on one end"
        );
        let found = ids.iter().any(|id| id == ID).then(|| scene.verdict(ID))?;
        Some((found.verdict(), found.confidence))
    }

    #[test]
    fn a_join_is_told_by_its_file() {
        let (verdict, confidence) =
            found("write", libc::EBUSY, Some("web/cgroup.procs")).expect("found");
        assert!(verdict.contains("into the cgroup web,"), "{verdict}");
        assert_eq!(confidence, Confidence::Proven);
        let (verdict, _) = found("write", libc::EBUSY, Some("//cgroup.procs")).expect("found");
        assert!(verdict.contains("into the root cgroup,"), "{verdict}");
    }

    #[test]
    fn some_are_no_surer_than_each_of_them() {
        let pid1 = inside(1, "app");
        let sure = |later: Option<i32>| {
            let mut scene = Scene::new(&["app"]);
            for pid in [2, 3] {
                let worker = inside(pid, "worker");
                let path = Some("/sys/fs/cgroup/a/cgroup.procs");
                let mut calls = vec![failed_call("write", libc::EBUSY, path, &[])];
                calls.extend(
                    later
                        .filter(|_| pid == 3)
                        .map(|error| failed_call("write", error, Some("/a"), &[])),
                );
                scene
                    .fork(1, &pid1, &worker)
                    .exit_to(5, &worker, &pid1, 1 << 8)
                    .failed_calls(5, &worker, calls)
                    .reap(6, &pid1, &worker);
            }
            scene.end(9, &pid1, 0);
            scene.expect(ID)
        };
        let (confidence, verdict) = sure(None);
        assert_eq!(confidence, Confidence::Proven);
        assert!(
            verdict.contains(" exited with 1, worker (PID 2) "),
            "{verdict}"
        );
        assert_eq!(sure(Some(libc::EIO)).0, Confidence::Likely);
    }

    #[test]
    fn so_are_the_reverse_and_a_birth() {
        let (verdict, _) =
            found("write", libc::EBUSY, Some("web/cgroup.subtree_control")).expect("found");
        assert!(verdict.contains("below the cgroup web"), "{verdict}");
        let (verdict, _) = found("clone3", libc::EBUSY, None).expect("found");
        assert!(verdict.contains("start a process"), "{verdict}");
    }

    #[test]
    fn other_files_and_errors_are_something_else() {
        assert_eq!(found("write", libc::EBUSY, None), None);
        assert_eq!(found("write", libc::EBUSY, Some("0000:00:01.0/bind")), None);
        assert_eq!(found("write", libc::EACCES, Some("web/cgroup.procs")), None);
        assert_eq!(found("umount2", libc::EBUSY, None), None);
    }
}
