//! What happened, in words: an [`Event`] as a sentence. Text from elsewhere in it has no control characters.

mod attach;
mod evidence;
mod leak;
mod signal;
pub use evidence::kinds as memory_kinds;
pub(crate) use signal::requester;

use crate::event::*;
use crate::names;
use crate::text::{bytes, command, count, duration, escape, plural, quote};

/// A zombie that was left for so long is worth a look, nanoseconds.
const LONG_ZOMBIE_NS: u64 = 1_000_000_000;

/// How much a line matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// A failure, a kill.
    Bad,
    /// Something was ignored or held; look here.
    Warning,
    /// A fact like others.
    #[default]
    Plain,
    /// What the launcher did.
    Launcher,
    /// Detail.
    Dim,
}

/// One line's text.
#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) tone: Tone,
    pub(crate) text: String,
    /// Less important, after the text.
    pub(crate) detail: String,
}

impl Words {
    fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            tone,
            text: text.into(),
            detail: String::new(),
        }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// All in one, the details in brackets.
    pub(crate) fn sentence(self) -> String {
        match self.detail.as_str() {
            "" => self.text,
            detail => format!("{} ({detail})", self.text),
        }
    }
}

/// What the words of a signal's event have for a detail.
pub(crate) fn signal_detail(event: &Event) -> String {
    match &event.what {
        What::SignalDelivered(signal) => signal::took(signal),
        _ => String::new(),
    }
}

/// What an event says, in about `width` columns: a sentence, with details of less importance in brackets.
pub fn sentence(event: &Event, width: usize) -> String {
    words(event, width).sentence()
}

/// What the event says, in about `width` columns.
pub(crate) fn words(event: &Event, width: usize) -> Words {
    match &event.what {
        What::Fork(fork) => {
            let what = if fork.thread { "made thread " } else { "made " };
            let id = if fork.thread {
                fork.child.tid.to_string()
            } else {
                place(&fork.child)
            };
            Words::new(Tone::Dim, format!("{what}{id}"))
        }
        What::Exec(exec) => executed(exec, width),
        What::ExecFailed(failed) => {
            let text = format!(
                "cannot execute {}: {}",
                quote(&failed.filename),
                errno(&failed.error)
            );
            let file = failed.file.as_ref().map(evidence::executed_file);
            Words::new(Tone::Warning, text).detail(file.unwrap_or_default())
        }
        What::Exit(exit) => exited(&event.task, exit),
        What::Reap(reap) => reaped(reap),
        What::Wait(wait) => {
            let whom = wait
                .ns_pid
                .map_or_else(|| "any child".to_owned(), |pid| pid.to_string());
            Words::new(Tone::Dim, format!("waits for {whom}"))
        }
        What::Free(_) => Words::new(Tone::Dim, "released by the kernel"),
        What::SignalGenerated(signal) => signal::generated(&event.task, signal),
        What::SignalDelivered(signal) => signal::delivered(&event.task, signal),
        What::OomKill(kill) => oom_kill(&event.task, kill),
        What::OomReap(reap) => oom_reap(reap),
        What::Mount(mount) => mounted(mount),
        What::Cgroup(cgroup) => cgroup_changed(cgroup),
        What::Leftover(left) => leak::leftover(left),
        What::JailCreated(jail) => {
            let text = format!(
                "{} made: PID 1 is host PID {}",
                escape(&jail.name),
                jail.pid
            );
            Words::new(Tone::Launcher, text).detail(format!("cgroup {}", escape(&jail.cgroup)))
        }
        What::GateOpened(gate) => Words::new(Tone::Launcher, "probes attached, the gate is open")
            .detail(format!("after {}", duration(gate.setup_ns))),
        What::SignalForwarded(signal) => signal::forwarded(signal),
        What::SetupFailed(failed) => {
            let text = format!("set-up failed, APP never ran: {}", escape(&failed.message));
            Words::new(Tone::Bad, text)
        }
        What::StopRequested(stop) => signal::stop_requested(stop),
        What::Kill(kill) => {
            let text = format!("everything in the jail is killed: {}", escape(&kill.reason));
            Words::new(Tone::Bad, text).detail(format!("by {}", escape(&kill.method)))
        }
        What::JailExited(exited) => Words::new(
            tone_of(&exited.status),
            format!("PID 1: {}", status(&exited.status)),
        ),
        What::Teardown(step) => {
            let took = duration(step.duration_ns);
            match &step.error {
                None => Words::new(Tone::Launcher, escape(&step.step)).detail(took),
                Some(error) => {
                    let text = format!("{}: {}", escape(&step.step), escape(error));
                    Words::new(Tone::Bad, text).detail(format!("after {took}"))
                }
            }
        }
        What::Sender(who) => evidence::sender(who, width),
        What::FailedCalls(failed) => evidence::failed_calls(failed),
        What::StderrTail(tail) => evidence::stderr_tail(tail, width),
        What::LimitChanged(limit) => evidence::limit_changed(&event.task, limit),
        What::MemorySample(sample) => evidence::memory_sample(sample),
        What::Counters(counters) => evidence::counters(counters),
        What::Snapshot(snapshot) => evidence::snapshot(snapshot),
        What::KernelOom(report) => evidence::kernel_oom(report),
        What::KernelMessage(message) => evidence::kernel_message(message),
        What::MountUse(found) => leak::mount_use(found),
        What::ImplicitUnmounts(gone) => leak::implicit_unmounts(gone),
        What::LeakCheck(check) => leak::leak_check(check),
        What::Attached(attached) => attach::attached(attached),
        What::Found(found) => attach::found(found, width),
        What::Detached(detached) => attach::detached(detached),
        What::Lost(lost) => Words::new(Tone::Bad, format!("events lost: {}", loss(lost))),
    }
}

/// Lost events, counted: `12 signal-generated on CPU 1`.
pub(crate) fn loss(lost: &Lost) -> String {
    let cpu = lost
        .cpu
        .map_or_else(String::new, |cpu| format!(" on CPU {cpu}"));
    format!("{} {}{cpu}", count(lost.count), escape(&lost.event_kind))
}

/// An exit status: `exited with 7`, `killed by SIGSEGV (core dumped)`.
pub fn status(status: &ExitStatus) -> String {
    match (&status.signal, status.code) {
        (Some(signal), _) => {
            let core = if status.core_dumped {
                " (core dumped)"
            } else {
                ""
            };
            format!("killed by {}{core}", escape(&signal.name))
        }
        (None, Some(code)) => format!("exited with {code}"),
        (None, None) => "ended, status unknown".to_owned(),
    }
}

pub(crate) fn tone_of(status: &ExitStatus) -> Tone {
    match (&status.signal, status.code) {
        (None, Some(0)) => Tone::Plain,
        (None, Some(_)) => Tone::Warning,
        _ => Tone::Bad,
    }
}

/// A task in a sentence: `12 python3` inside the jail, `bash 4121` outside.
fn who(task: &Task) -> String {
    let comm = escape(&task.comm);
    match task.jail_pid {
        Some(pid) if comm.is_empty() => pid.to_string(),
        Some(pid) => format!("{pid} {comm}"),
        None if task.pid == 0 => "the kernel's idle task".to_owned(),
        None => format!("{comm} {}", task.pid),
    }
}

/// PIDs of a task: `12 (4143)`.
fn place(task: &Task) -> String {
    match task.jail_pid {
        Some(pid) if task.pid != 0 => format!("{pid} ({})", task.pid),
        Some(pid) => pid.to_string(),
        None => format!("host PID {}", task.pid),
    }
}

/// An error number in words: `EACCES (Permission denied)`.
pub fn errno(error: &Errno) -> String {
    let meaning = names::errno_meaning(error.number);
    if meaning.is_empty() {
        escape(&error.name)
    } else {
        format!("{} ({meaning})", escape(&error.name))
    }
}

fn executed(exec: &Exec, width: usize) -> Words {
    // The file only where the arguments don't tell it.
    let base = |path: &str| path.rsplit('/').next().map(str::to_owned);
    let same = |name: &String| base(name) == base(&exec.filename);
    // A script comes as an argument of its interpreter.
    let told = exec.argv.first().is_some_and(same) || exec.argv.contains(&exec.filename);
    let detail = if told {
        String::new()
    } else {
        format!("({})", escape(&exec.filename))
    };
    let room = width.saturating_sub(detail.chars().count() + 2).max(24);
    let room = if told { width } else { room };
    Words::new(Tone::Plain, command(&exec.argv, exec.argv_truncated, room)).detail(detail)
}

fn exited(task: &Task, exit: &Exit) -> Words {
    let cpu = exit.user_ns.saturating_add(exit.system_ns);
    let text = match (&exit.status.signal, exit.status.code) {
        (None, Some(code)) => format!("exit {code}"),
        _ => status(&exit.status),
    };
    if !exit.process {
        return Words::new(Tone::Dim, format!("thread {}: {text}", task.tid));
    }
    let mut parts = Vec::new();
    // PID 1 waited at the gate for most of a short life: the time since then is in the first column.
    if task.jail_pid != Some(1) {
        parts.push(format!("after {}", duration(exit.lifetime_ns)));
    }
    if cpu > 0 {
        parts.push(format!("cpu {}", duration(cpu)));
    }
    if exit.max_rss_bytes > 0 {
        parts.push(format!("peak RSS {}", bytes(exit.max_rss_bytes)));
    }
    let parts = Some(parts.join(", ")).filter(|parts| !parts.is_empty());
    let detail: Vec<String> = parts.into_iter().chain(hint(&exit.status)).collect();
    Words::new(tone_of(&exit.status), text).detail(detail.join("; "))
}

/// What an exit code may mean besides itself: shells pass a child's signal on as 128+n.
pub(crate) fn hint(status: &ExitStatus) -> Option<String> {
    let signal = status.code?.checked_sub(128)?;
    (1..=31).contains(&signal).then(|| {
        format!(
            "128+{signal}: may pass on a child's {}",
            names::signal(signal)
        )
    })
}

fn reaped(reap: &Reap) -> Words {
    let child = who(&reap.child);
    match reap.zombie_ns {
        Some(ns) if ns >= LONG_ZOMBIE_NS => Words::new(
            Tone::Warning,
            format!("reaped {child}, a zombie for {}", duration(ns)),
        ),
        Some(ns) => Words::new(Tone::Dim, format!("reaped {child}"))
            .detail(format!("after {}", duration(ns))),
        None => Words::new(Tone::Dim, format!("reaped {child}")),
    }
}

fn oom_kill(trigger: &Task, kill: &OomKill) -> Words {
    let memory = &kill.memory;
    let parts = [
        ("anon", memory.anon_bytes),
        ("file", memory.file_bytes),
        ("shmem", memory.shmem_bytes),
        ("swap", memory.swap_bytes),
        ("page tables", memory.page_table_bytes),
    ];
    // What is less than a hundredth of the whole explains nothing.
    let total = parts
        .iter()
        .fold(0u64, |total, (_, size)| total.saturating_add(*size));
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, size)| *size > total / 100)
        .map(|(name, size)| format!("{name} {}", bytes(*size)))
        .collect();
    let held = if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    };
    let how = kill
        .syscall
        .as_ref()
        .map_or("page fault".to_owned(), |call| escape(&call.name));
    let by = if trigger.pid == kill.victim.pid {
        format!("triggered by itself ({how})")
    } else {
        format!("triggered by {} ({how})", who(trigger))
    };
    let doubt = if kill.killed_by_kernel {
        ""
    } else {
        "; the kernel's SIGKILL was not seen"
    };
    let text = format!(
        "OOM kill of {}{held}: {}, {by}{doubt}",
        who(&kill.victim),
        limit(kill)
    );
    let words = Words::new(Tone::Bad, text);
    match kill.oom_score_adj {
        0 => words,
        adjustment => words.detail(format!("oom_score_adj {adjustment}")),
    }
}

/// Whose memory limit was hit.
fn limit(kill: &OomKill) -> String {
    let Some(level) = kill.chain.iter().position(|level| level.at_limit) else {
        return match (kill.chain.is_empty(), kill.chain_truncated) {
            (true, _) => "limits unknown".to_owned(),
            (false, true) => "no cgroup that was recorded is at its limit".to_owned(),
            (false, false) => "no cgroup is at its limit, the machine is out of memory".to_owned(),
        };
    };
    let Some(full) = kill.chain.get(level) else {
        return String::new();
    };
    let path: Vec<String> = kill
        .chain
        .iter()
        .skip(level)
        .rev()
        .filter(|level| level.name != "/")
        .map(|level| escape(&level.name))
        .collect();
    let above = if level > 0 {
        ", above the victim's own,"
    } else {
        ""
    };
    format!(
        "{}{above} at its limit {} of {}",
        path.join("/"),
        bytes(full.usage_bytes),
        full.limit_bytes.map_or_else(|| "?".to_owned(), bytes)
    )
}

fn oom_reap(reap: &OomReap) -> Words {
    let victim = match reap.victim.pid {
        0 => format!("thread {}", reap.victim.tid),
        _ => who(&reap.victim),
    };
    let (tone, what) = match reap.stage {
        OomReapStage::Wake => (
            Tone::Warning,
            "is still not dead, the OOM reaper is asked to help",
        ),
        OomReapStage::Start => (Tone::Dim, "is being stripped of its memory"),
        OomReapStage::Finish => (Tone::Plain, "has lost its memory, though it is not dead"),
        OomReapStage::Skip => (Tone::Bad, "keeps its memory, it could not be taken"),
        OomReapStage::Unknown => (Tone::Plain, "was looked at by the OOM reaper"),
    };
    Words::new(tone, format!("OOM victim {victim} {what}"))
}

fn mounted(mount: &Mount) -> Words {
    let source = quote(&mount.source);
    let target = quote(&mount.target);
    let flags = mount
        .flag_names
        .iter()
        .map(|flag| escape(flag))
        .collect::<Vec<_>>()
        .join("|");
    let fd = mount.args.first().copied().unwrap_or_default();
    let call = escape(&mount.call);
    let mut notes = Vec::new();
    let subject = match mount.call.as_str() {
        "mount" => {
            if !mount.fs_type.is_empty() {
                notes.push(escape(&mount.fs_type));
            }
            if mount.source.is_empty() || mount.source == "none" {
                target
            } else {
                format!("{source} on {target}")
            }
        }
        "move_mount" if mount.source.is_empty() => format!("fd {fd} to {target}"),
        "move_mount" => format!("{source} to {target}"),
        "pivot_root" => format!("{source}, old root at {target}"),
        "setns" | "fsmount" => format!("fd {fd}"),
        "unshare" => String::new(),
        // One path, in whichever field.
        _ if mount.target.is_empty() => source,
        _ => target,
    };
    if !flags.is_empty() {
        notes.push(flags);
    }
    let mut text = call;
    if !subject.is_empty() {
        text = format!("{text} {subject}");
    }
    if !notes.is_empty() {
        text = format!("{text} ({})", notes.join(", "));
    }
    let took = duration(mount.duration_ns);
    match (&mount.error, mount.result) {
        (Some(error), _) => Words::new(Tone::Warning, format!("{text}: {}", errno(error)))
            .detail(format!("after {took}")),
        (None, None) => {
            Words::new(Tone::Bad, format!("{text}: never returned")).detail(format!("after {took}"))
        }
        (None, Some(fd)) if fd > 0 => Words::new(Tone::Plain, format!("{text}: fd {fd} in {took}")),
        (None, Some(_)) => Words::new(Tone::Plain, format!("{text}: ok in {took}")),
    }
}

fn cgroup_changed(cgroup: &Cgroup) -> Words {
    let path = escape(&cgroup.path);
    let (tone, text) = match cgroup.change {
        CgroupChange::Attach => {
            let member = cgroup
                .member
                .as_ref()
                .map_or_else(|| "a task".to_owned(), who);
            (Tone::Plain, format!("{member} moved into {path}"))
        }
        CgroupChange::Populated => (Tone::Dim, format!("{path} has its first task")),
        CgroupChange::Empty => (Tone::Plain, format!("{path} is empty")),
        CgroupChange::Frozen => (Tone::Warning, format!("{path} is frozen")),
        CgroupChange::Thawed => (Tone::Plain, format!("{path} is thawed")),
        CgroupChange::Mkdir => (Tone::Plain, format!("{path} made")),
        CgroupChange::Rmdir => (Tone::Plain, format!("{path} removed")),
        CgroupChange::Unknown => (Tone::Plain, format!("{path} changed")),
    };
    Words::new(tone, text)
}

/// Losses in words, most first: `12 events lost: 10 exit, 2 fork`; `None` for none.
pub(crate) fn losses(lost: &[Lost]) -> Option<String> {
    let total = lost
        .iter()
        .fold(0u64, |total, lost| total.saturating_add(lost.count));
    if total == 0 {
        return None;
    }
    let mut kinds: Vec<&Lost> = lost.iter().filter(|lost| lost.count > 0).collect();
    kinds.sort_by_key(|lost| std::cmp::Reverse(lost.count));
    let kinds: Vec<String> = kinds.into_iter().map(loss).collect();
    Some(format!(
        "{} lost: {}",
        plural(total, "event", "events"),
        kinds.join(", ")
    ))
}
