//! A child's report in words: the step, the path, what the kernel said and what helps.

use nix::errno::Errno;

use super::child::{Fault, Part, Report};
use super::error::Error;
use super::plan::{Plan, Step};
use super::program::Unusable;

/// Explains why the set-up failed.
pub fn explain(plan: &Plan, report: &Report) -> Error {
    let Fault {
        part,
        errno,
        candidate,
    } = report.fault;
    let program = &plan.program;
    let unusable = |why| program.unusable(candidate, why);
    match part {
        Part::Missing => return unusable(Unusable::Missing),
        Part::Directory => return unusable(Unusable::Directory),
        Part::NotAFile => return unusable(Unusable::NotAFile),
        Part::Denied => return unusable(Unusable::Denied(errno)),
        Part::Exec => {
            let head = report.head.get(..report.head_length).unwrap_or_default();
            return program.exec_failed(candidate, errno, head);
        }
        _ => {}
    }
    let Some(step) = plan.steps.get(report.step) else {
        return Error::launcher("understand the report of PID 1")(errno);
    };
    let words = Error::errno_words(errno);
    Error::Step {
        step: step.to_string(),
        path: path(step),
        errno,
        what: match subject(part) {
            "" => words,
            subject => format!("{subject}: {words}"),
        },
        remedy: remedy(plan, step, part, errno),
    }
}

/// What a step is about, if that is a path.
fn path(step: &Step) -> Option<String> {
    let path = match step {
        Step::Proc => return Some("/proc".to_owned()),
        Step::Dev => return Some("/dev".to_owned()),
        Step::Clone { source: path, .. }
        | Step::Root { dir: path }
        | Step::Tmpfs { target: path, .. }
        | Step::Attach { target: path, .. }
        | Step::Workdir(path) => path,
        _ => return None,
    };
    Some(path.to_string_lossy().into_owned())
}

fn subject(part: Part) -> &'static str {
    match part {
        Part::MountPoint => "the mount point",
        Part::Create => "making the file system",
        Part::Device => "filling it",
        Part::Attach => "attaching it",
        Part::ReadOnly => "making it read-only",
        _ => "",
    }
}

fn remedy(plan: &Plan, step: &Step, part: Part, errno: Errno) -> String {
    let root = plan.steps.iter().find_map(|step| match step {
        Step::Root { dir } => Some(dir.to_string_lossy().into_owned()),
        _ => None,
    });
    let root = root
        .as_deref()
        .map_or("", |root| root.trim_end_matches('/'));
    let target = match step {
        Step::Proc => "/proc".into(),
        Step::Dev => "/dev".into(),
        Step::Tmpfs { target, .. } | Step::Attach { target, .. } => target.to_string_lossy(),
        _ => "".into(),
    };
    match (step, part, errno) {
        (Step::Attach { .. }, Part::MountPoint, Errno::ENOENT) => format!(
            "procjail creates nothing in your directories: mkdir -p {root}{target} (or touch it, to bind a file)"
        ),
        (_, Part::MountPoint, Errno::ENOENT) => {
            format!("procjail creates nothing in your directories: mkdir -p {root}{target}")
        }
        (Step::Proc | Step::Dev, Part::MountPoint, Errno::ELOOP) => format!(
            "{root}{target} is a symbolic link, which could lead to any directory: make it a directory"
        ),
        (_, Part::MountPoint, Errno::ELOOP) => {
            "its path leads through a magic link of /proc, or through too many symbolic links"
                .into()
        }
        (_, Part::Attach, Errno::ENOTDIR | Errno::EINVAL) if !matches!(step, Step::JoinPeers) => {
            "a directory can be mounted only on a directory, a file only on a file".into()
        }
        (Step::Proc, Part::Attach, Errno::ENOTSUP) => "something else is mounted at /proc".into(),
        (Step::JoinPeers, _, Errno::EINVAL) => {
            "the host changed its mounts meanwhile: try again, or use private or slave".into()
        }
        (Step::Rlimit(_), _, Errno::EPERM) => {
            "the hard limit is above the present one, which takes CAP_SYS_RESOURCE to raise".into()
        }
        (Step::Rlimit(limit), _, Errno::EINVAL) => {
            format!("the kernel refuses this value for {}", limit.name)
        }
        (Step::Workdir(_), _, Errno::ENOENT) => {
            "choose a directory that exists in the jail with --workdir".into()
        }
        (Step::Workdir(_), _, Errno::ENOTDIR) => "choose a directory with --workdir".into(),
        (Step::Workdir(_), _, Errno::EACCES) => {
            "the user of --user may not enter it: choose another --workdir".into()
        }
        (_, _, Errno::EPERM) => {
            "root lacks a capability here: run outside of a container, or see procjail check".into()
        }
        (_, _, Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            "the kernel lacks this; procjail needs Linux 5.10 or newer".into()
        }
        (_, _, Errno::ENOMEM) => "raise --memory".into(),
        (_, _, Errno::ENOSPC) => {
            "too many mounts or namespaces: see /proc/sys/fs/mount-max and /proc/sys/user".into()
        }
        _ => String::new(),
    }
}
