//! FUSE mounts whose daemon is gone: every access fails with ENOTCONN.

use std::collections::BTreeMap;

use crate::diagnose::{Case, Confidence, Family, Finding, Follows, ProcessId, Rank, Rule, Tagged};
use crate::event::{Event, FailedCall, Mount};
use crate::text;

/// What else ends a connection.
const ABORTED: &str = "the connection was aborted (umount -f, /sys/fs/fuse/connections)";
const CLOSED: &str = "the daemon is alive, but closed the connection";

pub(super) const FAMILY: Family = Family {
    rules: &[Rule {
        id: "mount-fuse-daemon-dead",
        about: "accesses to a FUSE mount fail because its daemon has ended",
        alternatives: &[ABORTED, CLOSED],
    }],
    rank: Rank::Problem,
    analyse,
};

/// A call on a file that failed with ENOTCONN.
struct Failure<'a> {
    id: ProcessId,
    event: &'a Event,
    call: &'a FailedCall,
    path: &'a str,
    time_ns: u64,
}

fn analyse(case: &Case) -> Vec<Tagged> {
    let mut by_mount: BTreeMap<&str, Vec<Failure<'_>>> = BTreeMap::new();
    for (id, event, failed) in case.all_failed_calls() {
        for call in &failed.calls {
            // Of a socket there is no path.
            let Some(path) = call.path.as_deref() else {
                continue;
            };
            let failure = Failure {
                id,
                event,
                call,
                path,
                time_ns: event.time_ns.saturating_sub(call.before_ns),
            };
            if call.error.number == libc::ENOTCONN && call.address.is_none() {
                let target = mounted_above(case, path).map(|(_, mount)| mount.target.as_str());
                by_mount
                    .entry(target.unwrap_or_default())
                    .or_default()
                    .push(failure);
            }
        }
    }
    by_mount
        .values()
        .filter_map(|failures| dead(case, failures))
        .map(|one| ("mount-fuse-daemon-dead", one))
        .collect()
}

/// The FUSE mount that a path lies on, as far as the trace has it.
fn mounted_above<'a>(case: &'a Case, path: &str) -> Option<(&'a Event, &'a Mount)> {
    case.mounts()
        .filter(|(_, mount)| is_fuse(&mount.fs_type) && mount.result.is_some_and(|it| it >= 0))
        .filter(|(_, mount)| std::path::Path::new(path).starts_with(&mount.target))
        .max_by_key(|(event, mount)| (mount.target.len(), event.time_ns))
}

/// A type of FUSE, with or without the daemon's own name.
pub(super) fn is_fuse(fs_type: &str) -> bool {
    fs_type == "fuse" || fs_type == "fuseblk" || fs_type.starts_with("fuse.")
}

/// The daemon of a mount and when it ended, CLOCK_BOOTTIME nanoseconds: who mounted and went on, or the process
/// that it left for that; of a helper that only mounts, the one that started it.
pub(super) fn daemon(case: &Case, mounted: &Event) -> Option<(ProcessId, u64)> {
    let caller = case.process_of(&mounted.task)?;
    let stayed = |root: ProcessId| {
        // A daemon is forked off and executes nothing further.
        let forked = case
            .process(root)
            .children
            .iter()
            .copied()
            .filter(|child| case.execs(*child).next().is_none());
        forked
            .filter(|child| case.ended_ns(*child) > mounted.time_ns)
            .max_by_key(|child| case.ended_ns(*child))
    };
    let maker = case.process(caller).creator;
    let maker = maker.filter(|maker| !case.process(*maker).is_pid1());
    let own = stayed(caller).or_else(|| {
        // It did nothing else: a helper.
        let lasted = case.ended_ns(caller).saturating_sub(mounted.time_ns);
        (lasted > 1_000_000_000 || maker.is_none()).then_some(caller)
    });
    let daemon = own
        .or_else(|| maker.and_then(stayed).filter(|one| *one != caller))
        .or(maker)?;
    case.exit(daemon)?;
    Some((daemon, case.ended_ns(daemon)))
}

fn dead(case: &Case, failures: &[Failure<'_>]) -> Option<Finding> {
    let first = failures.iter().min_by_key(|one| one.time_ns)?;
    let mounted = mounted_above(case, first.path);
    let known = mounted.is_some() || first.call.fs_type.as_deref().is_some_and(is_fuse);
    if !known {
        return None;
    }
    let mut users: Vec<ProcessId> = failures.iter().map(|one| one.id).collect();
    users.sort();
    users.dedup();
    let place = mounted.map_or_else(String::new, |(_, mount)| {
        format!(
            " The FUSE file system ({}) is mounted at {}.",
            text::escape(&mount.fs_type),
            text::escape(&mount.target)
        )
    });
    let mut finding = Finding::new(format!(
        "{} got ENOTCONN from {} on {}, which lies on a FUSE file system.{place}",
        case.names(&users),
        text::escape(&first.call.syscall.name),
        text::escape(first.path),
    ))
    .proven()
    .about(case.code_to(&users))
    .about(users)
    .at(first.time_ns)
    .shown_by(first.event, "the failed call is among its last ones")
    .remedy(
        "Keep the daemon running until its users are done, and find out why it ended. The mount stays until it is \
         unmounted (fusermount3 -u, umount): do that before the daemon is started again.",
    );
    if let Some((event, mount)) = mounted {
        finding = finding.shown_by(event, format!("{} is mounted", text::escape(&mount.target)));
    }
    let daemon = mounted
        .and_then(|(event, _)| daemon(case, event))
        .filter(|(_, ended_ns)| *ended_ns <= first.time_ns);
    Some(match daemon {
        Some((daemon, ended_ns)) => {
            let (end, ended) = case.exit(daemon)?;
            finding
                .cause(
                    format!(
                        "Its daemon, {}, {} {} before.",
                        case.name(daemon),
                        case.did_end(&ended.status),
                        text::duration(first.time_ns.saturating_sub(ended_ns))
                    ),
                    Confidence::Likely,
                )
                .or(ABORTED)
                .shown_by(
                    end,
                    format!("{} {}", case.name(daemon), case.did_end(&ended.status)),
                )
                .not(CLOSED, "it had ended")
                .follows(Follows::Process(daemon))
        }
        None => finding
            .cause("Its daemon has ended.", Confidence::ConsistentWith)
            .or(CLOSED)
            .or(ABORTED),
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::Confidence;
    use crate::diagnose::fixture::{Scene, failed_call, inside};
    use crate::event::{Mount, What};

    /// `sshfs` mounts /mnt, leaves its daemon, which is killed at 100 ms; `ls` fails at 200 ms.
    fn scene(error: i32, path: Option<&str>, killed_ms: u64) -> Scene {
        let (pid1, sshfs, daemon) = (inside(1, "sh"), inside(2, "sshfs"), inside(3, "sshfs"));
        let ls = inside(4, "ls");
        let mount = Mount {
            call: "mount".into(),
            source: "host:".into(),
            target: "/mnt".into(),
            fs_type: "fuse.sshfs".into(),
            flags: 0,
            flag_names: Vec::new(),
            args: Vec::new(),
            result: Some(0),
            error: None,
            duration_ns: 1,
        };
        let mut scene = Scene::new(&["sh"]);
        scene
            .fork(1, &pid1, &sshfs)
            .exec(2, &sshfs, &["sshfs"])
            .at(3, &sshfs, What::Mount(mount))
            .fork(4, &sshfs, &daemon)
            .exit_to(5, &sshfs, &pid1, 0)
            .exit_to(killed_ms, &daemon, &pid1, 9)
            .fork(190, &pid1, &ls)
            .exec(191, &ls, &["ls"])
            .exit_to(201, &ls, &pid1, 2 << 8)
            .failed_calls(201, &ls, vec![failed_call("newfstatat", error, path, &[3])])
            .end(300, &pid1, 2 << 8);
        scene
    }

    const ID: &str = "mount-fuse-daemon-dead";

    #[test]
    fn a_mount_without_its_daemon_is_tied_to_the_daemons_end() {
        let found = scene(libc::ENOTCONN, Some("/mnt/file"), 100).verdict(ID);
        assert_eq!(found.confidence, Confidence::Proven);
        assert!(
            found.fact.starts_with("ls (PID 4) got ENOTCONN"),
            "{}",
            found.fact
        );
        let cause = found.cause.expect("a cause");
        assert!(
            cause.text.contains("sshfs (PID 3), was killed by SIGKILL"),
            "{}",
            cause.text
        );
    }

    #[test]
    fn other_errors_sockets_and_mounts_are_something_else() {
        scene(libc::ENOENT, Some("/mnt/file"), 100).expect_no(ID);
        scene(libc::ENOTCONN, None, 100).expect_no(ID);
        scene(libc::ENOTCONN, Some("/srv/file"), 100).expect_no(ID);
        // The daemon was alive then: it is not blamed.
        let found = scene(libc::ENOTCONN, Some("/mnt/file"), 250).verdict(ID);
        assert_eq!(found.sure(), Confidence::ConsistentWith);
    }
}
