//! Resources that were refused by an error, not by a signal: room, open files, objects of the kernel, memory.
//!
//! The same table of errors ([`errno`]) tells which resource it was. What a program ended for is a problem; what it
//! lived with is a note.

use std::collections::HashMap;

use super::exit::reason::{self, Failed, Reason, Words, times, words};
use super::known;
use crate::diagnose::errno::{self, Refusal, Weight};
use crate::diagnose::{Case, Confidence, Finding, Origin, ProcessId, Tagged, is_bad};
use crate::event::{Event, FailedCall, SignalGenerated};
use crate::render;

/// Refused memory so shortly before a bad end has to do with it, nanoseconds.
const MEMORY_NS: u64 = 2_000_000_000;

/// Nothing else can have happened in between, nanoseconds.
const AT_ONCE_NS: u64 = 100_000_000;

/// The rule for refused memory.
pub(super) const MEMORY: &str = "enomem-not-oom";

/// What else may refuse memory than a limit of the process.
pub(super) const MEMORY_ALTERNATIVES: &[&str] = &[OVERCOMMIT, MAPS];
const OVERCOMMIT: &str = "the machine's rules on memory (vm.overcommit_memory)";
const MAPS: &str = "too many mappings (vm.max_map_count)";

/// A process and the refused call that is told of it.
struct Refused<'a> {
    id: ProcessId,
    failed: Failed<'a>,
    count: usize,
    /// How sure it is that the process ended for it; `None` if it lived with it.
    ended: Option<Confidence>,
}

impl<'a> From<Reason<'a>> for Refused<'a> {
    fn from(reason: Reason<'a>) -> Self {
        Self {
            id: reason.id,
            failed: reason.failed,
            count: reason.count,
            ended: Some(reason.confidence),
        }
    }
}

/// The rule for a resource; `None` for what this family does not tell.
fn rule(refusal: Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::Space => Some("enospc"),
        Refusal::Files => Some("emfile"),
        Refusal::Kernel => Some("kernel-limit"),
        Refusal::Memory => Some(MEMORY),
        Refusal::Processes | Refusal::Other => None,
    }
}

/// A process and a refused call, with what refused it and how sure all of that is.
struct Claim<'a> {
    refused: Refused<'a>,
    why: Why,
    sure: Confidence,
}

impl<'a> Claim<'a> {
    fn new(case: &Case, refused: Refused<'a>) -> Option<Self> {
        let why = why(case, &refused)?;
        // What refused the call, and that the end came of it, are one claim: the lower counts.
        let sure = refused
            .ended
            .map_or(why.confidence, |ended| ended.min(why.confidence));
        Some(Self { refused, why, sure })
    }
}

/// What makes two refusals one finding: it must be true of all of them.
#[derive(PartialEq, Eq, Hash)]
struct Alike<'a> {
    rule: &'static str,
    program: &'a str,
    error: i32,
    why: String,
    /// Exit code and signal, if it ended for it.
    ended: Option<(Option<i32>, Option<i32>)>,
}

/// All that was refused, each resource of each program once.
pub(super) fn all(case: &Case) -> &[Tagged] {
    known::refused(case, || find(case))
}

fn find(case: &Case) -> Vec<Tagged> {
    let mut groups: Vec<(&'static str, Vec<Claim<'_>>)> = Vec::new();
    let mut at_of: HashMap<Alike<'_>, usize> = HashMap::new();
    for (id, process) in case.processes() {
        for refused in of(case, id) {
            let Some(rule) = rule(errno::refusal(&refused.failed.call)) else {
                continue;
            };
            let Some(claim) = Claim::new(case, refused) else {
                continue;
            };
            let ended = claim.refused.ended.and_then(|_| case.status(id));
            let alike = Alike {
                rule,
                program: process.task.comm.as_str(),
                error: claim.refused.failed.call.error.number,
                why: claim.why.text.clone(),
                ended: ended.map(|status| {
                    let signal = status.signal.as_ref();
                    (status.code, signal.map(|signal| signal.number))
                }),
            };
            let at = *at_of.entry(alike).or_insert_with(|| {
                groups.push((rule, Vec::new()));
                groups.len() - 1
            });
            if let Some((_, group)) = groups.get_mut(at) {
                group.push(claim);
            }
        }
    }
    groups
        .into_iter()
        .filter_map(|(rule, group)| Some((rule, finding(case, group)?)))
        .collect()
}

/// What was refused to one process: what it ended for, and the last call of each other resource.
fn of(case: &Case, id: ProcessId) -> Vec<Refused<'_>> {
    // An OOM victim's calls fail while it is dying.
    if case.process(id).oom_kill.is_some() {
        return Vec::new();
    }
    let mut found: Vec<Refused<'_>> = Vec::new();
    if let Some(ended) = ended_for(case, id) {
        found.push(ended);
    }
    let calls = reason::calls(case, id);
    for failed in calls.iter().rev() {
        let refusal = errno::refusal(&failed.call);
        let heavy = errno::weight(&failed.call) == Weight::Heavy;
        let told = found
            .iter()
            .any(|other| errno::refusal(&other.failed.call) == refusal);
        if !heavy || told || rule(refusal).is_none() {
            continue;
        }
        let same = |other: &&Failed<'_>| errno::refusal(&other.call) == refusal;
        let count = calls
            .iter()
            .filter(same)
            .map(|failed| times(&failed.call))
            .sum();
        found.push(Refused {
            id,
            failed: failed.clone(),
            count,
            ended: None,
        });
    }
    found
}

/// The refused call that a process with a bad end may have ended for.
fn ended_for(case: &Case, id: ProcessId) -> Option<Refused<'_>> {
    let status = case.status(id).filter(|status| is_bad(status))?;
    if status.signal.is_none()
        && let Some(reason) = reason::reason(case, id)
    {
        let refusal = errno::refusal(&reason.failed.call);
        // Who gets no memory says so in words of its own.
        let says = refusal == Refusal::Memory
            && reason::words_of_memory(case, id, &reason.failed.call) == Words::Memory;
        let sure = match says {
            true => Confidence::Likely,
            false => reason.confidence,
        };
        return rule(refusal).is_some().then(|| Refused {
            ended: Some(sure),
            ..reason.into()
        });
    }
    ended_itself(case, id).then(|| gave_up(case, id)).flatten()
}

/// The end was the process's own doing: it returned a code, it faulted, or it sent itself a signal. One that it got from
/// another before and then sent on to itself is that other's doing.
fn ended_itself(case: &Case, id: ProcessId) -> bool {
    let Some(signal) = case.status(id).and_then(|status| status.signal.as_ref()) else {
        return true;
    };
    let own = |event: &Event, signal: &SignalGenerated| {
        matches!(case.origin(event, signal), Origin::Itself | Origin::Fault)
    };
    match case.killing_signal(id) {
        Some((event, fatal)) => {
            let passed_on = case.received(id).any(|(before, got)| {
                before.seq < event.seq
                    && got.signal.number == fatal.signal.number
                    && !own(before, got)
            });
            own(event, fatal) && !passed_on
        }
        // Who sent it is not in the trace: these are seldom sent by others.
        None => matches!(
            signal.number,
            libc::SIGABRT
                | libc::SIGSEGV
                | libc::SIGBUS
                | libc::SIGILL
                | libc::SIGFPE
                | libc::SIGTRAP
        ),
    }
}

/// The memory that a process was refused before it gave up: who gets none often aborts, or says so in words of its own.
fn gave_up(case: &Case, id: ProcessId) -> Option<Refused<'_>> {
    let calls = reason::calls(case, id);
    let is_heavy = |call: &FailedCall| errno::weight(call) == Weight::Heavy;
    let is = |call: &FailedCall| {
        errno::refusal(call) == Refusal::Memory && is_heavy(call) && call.before_ns <= MEMORY_NS
    };
    let at = calls.iter().rposition(|failed| is(&failed.call))?;
    let failed = calls.get(at)?;
    let words = reason::words_of_memory(case, id, &failed.call);
    let went_on = reason::went_on(case, id, failed.time_ns)
        || calls.iter().skip(at + 1).any(|later| is_heavy(&later.call));
    let sure = match words {
        Words::Another => return None,
        Words::Memory => Confidence::Likely,
        // It had other things to do, or another trouble.
        Words::Nothing if went_on => return None,
        Words::Nothing if failed.call.before_ns <= AT_ONCE_NS => Confidence::Likely,
        Words::Nothing => Confidence::ConsistentWith,
    };
    Some(Refused {
        id,
        failed: failed.clone(),
        count: calls
            .iter()
            .filter(|failed| is(&failed.call))
            .map(|failed| times(&failed.call))
            .sum(),
        ended: Some(sure),
    })
}

/// What refused a call.
struct Why {
    /// In a sentence.
    text: String,
    confidence: Confidence,
    /// Alternatives of the rule that are excluded, and what excludes them.
    not: Vec<(&'static str, String)>,
    /// Others that remain.
    or: Vec<&'static str>,
    remedy: String,
}

/// The finding on what is alike. It is as sure as the least sure of it, and tells of that one.
fn finding(case: &Case, group: Vec<Claim<'_>>) -> Option<Finding> {
    let ids: Vec<ProcessId> = group.iter().map(|claim| claim.refused.id).collect();
    let Claim { refused, why, sure } = group.into_iter().min_by_key(|claim| claim.sure)?;
    let call = &*refused.failed.call;
    let (exit, ended) = case.exit(refused.id)?;
    let times = match refused.count {
        0 | 1 => String::new(),
        count => format!("; {} calls failed so", render::count(count as u64)),
    };
    let failed = match asked(call) {
        Some(bytes) => words(case, call).replacen(
            " failed",
            &format!(" of {} failed", render::bytes(bytes)),
            1,
        ),
        None => words(case, call),
    };
    // The times are those of one.
    let (whose, of_one) = match ids.len() {
        1 => (String::new(), String::new()),
        _ => {
            let name = case.name(refused.id);
            (format!("{name} "), format!(", {name}"))
        }
    };
    let fact = match refused.ended {
        Some(_) => format!(
            "{} {}, {whose}{} after {failed}{times}{}.",
            case.names(&ids),
            case.did_end(&ended.status),
            render::duration(call.before_ns),
            said(case, refused.id)
        ),
        None => format!(
            "{} went on{of_one} for {} after {failed}{times}.",
            case.names(&ids),
            render::duration(call.before_ns),
        ),
    };
    let mut finding = Finding::new(fact)
        .proven()
        .cause(why.text, sure)
        .shown_by(refused.failed.event, words(case, call))
        .shown_by(
            exit,
            format!("{} {}", case.name(refused.id), case.did_end(&ended.status)),
        )
        .at(refused.failed.time_ns)
        .remedy(why.remedy);
    for (what, because) in why.not {
        finding = finding.not(what, because);
    }
    for what in why.or {
        finding = finding.or(what);
    }
    if let Some(open) = call.open_files {
        finding = finding.fact(format!(
            "{} descriptors were open then",
            render::count(open)
        ));
    }
    Some(match refused.ended {
        Some(_) => finding.about(ids.clone()).about(case.code_to(&ids)),
        None => finding.note(),
    })
}

/// What the process said of it on stderr.
fn said(case: &Case, id: ProcessId) -> String {
    reason::quoted(case, id).map_or_else(String::new, |(line, _)| {
        format!(
            "; among the last it wrote to stderr: `{}`",
            render::escape(&line)
        )
    })
}

fn why(case: &Case, refused: &Refused<'_>) -> Option<Why> {
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
            let size = size.map_or_else(String::new, |bytes| format!(" of {}", render::bytes(bytes)));
            format!("The tmpfs{size} at {} was full: it holds its files in memory.", render::escape(target))
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
        .jail
        .plan
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
    let of = in_force.map_or_else(String::new, |count| format!(", {}", render::count(count)));
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

/// How much a call asked for, bytes.
fn asked(call: &FailedCall) -> Option<u64> {
    let index = match call.syscall.name.as_str() {
        "mmap" | "mlock" | "mlock2" => 1,
        "mremap" => 2,
        _ => return None,
    };
    call.args.get(index).copied().filter(|bytes| *bytes > 0)
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
            render::bytes(limit.soft),
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
fn set_by(case: &Case, limit: Option<crate::diagnose::Limit<'_>>) -> String {
    limit
        .and_then(|limit| limit.set)
        .map_or_else(String::new, |event| {
            format!(", which {} had set", case.task_name(&event.task))
        })
}

#[cfg(test)]
#[path = "refused_tests.rs"]
mod tests;
