//! What refused a call.

use super::{Refused, asked};
use crate::diagnose::errno::{self, Refusal};
use crate::diagnose::{Case, Confidence, Limit, ProcessId};
use crate::event::FailedCall;
use crate::text;

pub(super) const OVERCOMMIT: &str = "the machine's rules on memory (vm.overcommit_memory)";

pub(super) const MAPS: &str = "too many mappings (vm.max_map_count)";

/// What refused a call.
pub(super) struct Why {
    /// In a sentence.
    pub text: String,
    pub confidence: Confidence,
    /// Alternatives of the rule that are excluded, and what excludes them.
    pub not: Vec<(&'static str, String)>,
    /// Others that remain.
    pub or: Vec<&'static str>,
    pub remedy: String,
}

pub(super) fn why(case: &Case, refused: &Refused<'_>) -> Option<Why> {
    let call = &*refused.failed.call;
    let meaning = errno::meaning(call)?;
    let time_ns = refused.failed.time_ns;
    let plain = Why {
        text: format!("{}.", capital(meaning.means)),
        confidence: Confidence::Likely,
        not: Vec::new(),
        or: Vec::new(),
        remedy: meaning.remedy.to_owned(),
    };
    Some(match meaning.refusal {
        Refusal::Space if call.error.number == libc::ENOSPC => space(case, call, plain),
        Refusal::Files if call.error.number == libc::EMFILE => {
            files(case, refused.id, call, time_ns, plain)
        }
        Refusal::Kernel => kernel(call, plain),
        Refusal::Memory => memory(case, refused.id, call, time_ns, plain),
        _ => plain,
    })
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// A tmpfs has a size of its own; of another file system blocks or inodes may be what is missing.
fn space(case: &Case, call: &FailedCall, plain: Why) -> Why {
    let own = own_tmpfs(case, call);
    let is_tmpfs = own.is_some() || call.fs_type.as_deref() == Some("tmpfs");
    let text = match (own, is_tmpfs) {
        (Some((target, size)), _) => {
            let size = size.map_or_else(String::new, |bytes| format!(" of {}", text::bytes(bytes)));
            format!("The tmpfs{size} at {} was full: it holds its files in memory.", text::escape(target))
        }
        (None, true) => "That file's tmpfs was full: a tmpfs has a size of its own and holds its files in memory.".to_owned(),
        (None, false) => "The file system of that file was full.".to_owned(),
    };
    Why {
        text,
        or: vec!["no inodes left there"],
        remedy: match is_tmpfs {
            true => "Give that tmpfs more room (--tmpfs DIR:SIZE, mount -o remount,size=), or delete files in it; \
                     its files count as memory."
                .to_owned(),
            false => plain.remedy,
        },
        ..plain
    }
}

/// The tmpfs that the jail was given and a file lies on, with its size. Of a descriptor only the names of the file and
/// its directory are known: then it is the only tmpfs that there is.
fn own_tmpfs<'a>(case: &'a Case, call: &FailedCall) -> Option<(&'a str, Option<u64>)> {
    let all: Vec<(&str, Option<u64>)> = case
        .header
        .plan()
        .iter()
        .filter_map(|step| step.strip_prefix("mount a new tmpfs at "))
        .map(|step| match step.rsplit_once(" of ") {
            Some((target, size)) => {
                let size = size
                    .strip_suffix(" bytes")
                    .and_then(|size| size.parse().ok());
                (target, size)
            }
            None => (step, None),
        })
        .collect();
    let path = call.path.as_deref()?;
    let below = |(target, _): &&(&str, Option<u64>)| {
        path.strip_prefix(*target)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let at_root = !path.starts_with('/') && call.fs_type.as_deref() == Some("tmpfs");
    match all.as_slice() {
        [only] if at_root => Some(*only),
        _ => all
            .iter()
            .filter(below)
            .max_by_key(|(target, _)| target.len())
            .copied(),
    }
}

fn files(case: &Case, id: ProcessId, call: &FailedCall, time_ns: u64, plain: Why) -> Why {
    let limit = case.limit(id, "nofile", time_ns);
    let in_force = call.nofile_limit.or(limit.map(|limit| limit.soft));
    let set = set_by(case, limit);
    let of = in_force.map_or_else(String::new, |count| format!(", {}", text::count(count)));
    let text = format!("It had reached its limit of open files (RLIMIT_NOFILE{of}){set}.");
    match (call.open_files, in_force) {
        (Some(open), Some(limit)) if open + 1 < limit => Why {
            text: "The kernel refused another descriptor although its limit (RLIMIT_NOFILE) was not reached: \
                   a limit of the object itself, or a number that was asked for beyond the limit."
                .to_owned(),
            confidence: Confidence::ConsistentWith,
            ..plain
        },
        _ => Why { text, ..plain },
    }
}

fn kernel(call: &FailedCall, plain: Why) -> Why {
    /// Flags of clone(2) and unshare(2), and the limit for each kind of namespace.
    const KINDS: &[(u64, &str)] = &[
        (libc::CLONE_NEWUSER as u64, "user.max_user_namespaces"),
        (libc::CLONE_NEWPID as u64, "user.max_pid_namespaces"),
        (libc::CLONE_NEWNET as u64, "user.max_net_namespaces"),
        (libc::CLONE_NEWNS as u64, "user.max_mnt_namespaces"),
        (libc::CLONE_NEWIPC as u64, "user.max_ipc_namespaces"),
        (libc::CLONE_NEWUTS as u64, "user.max_uts_namespaces"),
        (libc::CLONE_NEWCGROUP as u64, "user.max_cgroup_namespaces"),
    ];
    let name = call.syscall.name.as_str();
    if !matches!(name, "unshare" | "clone") || call.error.number != libc::ENOSPC {
        return plain;
    }
    let flags = call.args.first().copied().unwrap_or(0);
    let kinds: Vec<&str> = KINDS
        .iter()
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, limit)| *limit)
        .collect();
    if kinds.is_empty() {
        return plain;
    }
    Why {
        text: format!(
            "Its user may have no more such namespaces ({}); no file system is full.",
            kinds.join(", ")
        ),
        or: vec![
            "namespaces that are nested too deeply (32 levels)",
            "the limit of mounts (fs.mount-max)",
        ],
        ..plain
    }
}

/// Which limit refused memory.
fn memory(case: &Case, id: ProcessId, call: &FailedCall, time_ns: u64, plain: Why) -> Why {
    let name = call.syscall.name.as_str();
    let asked = asked(call);
    let candidates: &[(&str, &str, &str)] = match name {
        _ if errno::LOCKS.contains(&name) || name.starts_with("io_uring") || name == "bpf" => &[(
            "memlock",
            "locked memory (RLIMIT_MEMLOCK)",
            "--rlimit memlock=, ulimit -l",
        )],
        _ => &[
            ("as", "address space (RLIMIT_AS)", "--rlimit as=, ulimit -v"),
            ("data", "data (RLIMIT_DATA)", "--rlimit data=, ulimit -d"),
        ],
    };
    let set = candidates.iter().find_map(|(resource, words, option)| {
        Some((words, option, case.limit(id, resource, time_ns)?))
    });
    if let Some((words, option, limit)) = set {
        let alone = asked.is_some_and(|bytes| bytes > limit.soft);
        let text = format!(
            "Its limit of {words} is {}{}.",
            text::bytes(limit.soft),
            set_by(case, Some(limit))
        );
        let remedy = format!(
            "Raise that limit ({option}), or have the program ask for less; the jail's memory limit has nothing to \
             do with it."
        );
        return match alone {
            true => Why {
                text,
                confidence: Confidence::Proven,
                not: [OVERCOMMIT, MAPS]
                    .map(|what| {
                        (
                            what,
                            "it asked for more at once than its own limit allows".to_owned(),
                        )
                    })
                    .into(),
                or: Vec::new(),
                remedy,
            },
            false => Why {
                text,
                or: vec![OVERCOMMIT, MAPS],
                remedy,
                ..plain
            },
        };
    }
    let machine = case.header.host.memory_bytes;
    let (confidence, text, or) = match asked {
        Some(bytes) if machine > 0 && bytes > machine && name == "mmap" => (
            Confidence::Likely,
            "It asked for more at once than the machine has, which vm.overcommit_memory forbids.",
            vec!["a limit of its own that is not in the trace"],
        ),
        _ if matches!(name, "mprotect" | "munmap" | "madvise") => (
            Confidence::Likely,
            "It may have no more mappings (vm.max_map_count): such a call splits one in two.",
            vec![OVERCOMMIT],
        ),
        _ => (
            Confidence::ConsistentWith,
            "The machine's rules on memory refused it (vm.overcommit_memory), or it may have no more mappings \
             (vm.max_map_count).",
            vec!["a limit of its own that is not in the trace"],
        ),
    };
    Why {
        text: text.to_owned(),
        confidence,
        or,
        remedy: "Compare CommitLimit with Committed_AS in /proc/meminfo, and the lines of /proc/PID/maps with \
                 vm.max_map_count; the jail's memory limit has nothing to do with it."
            .to_owned(),
        ..plain
    }
}

/// Who set a limit that the jail did not start with: `, which sh (PID 1) had set`.
fn set_by(case: &Case, limit: Option<Limit<'_>>) -> String {
    limit
        .and_then(|limit| limit.set)
        .map_or_else(String::new, |event| {
            format!(", which {} had set", case.task_name(&event.task))
        })
}
