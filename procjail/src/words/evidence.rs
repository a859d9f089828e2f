//! Evidence in words: samples, snapshots, the kernel log.

use super::{Tone, Words, errno};
use crate::event::*;
use crate::text::{bytes, command, count, escape, plural};

/// Most items of a list that a line names.
const NAMED: usize = 3;

pub(super) fn sender(sender: &Sender, width: usize) -> Words {
    let parents: Vec<String> = sender
        .parents
        .iter()
        .map(|parent| format!("{} ({})", escape(&parent.comm), parent.pid))
        .collect();
    let tty = sender
        .tty
        .as_ref()
        .map_or_else(String::new, |tty| format!(", on {}", escape(tty)));
    let what = match sender.argv.is_empty() {
        true if sender.is_kernel_thread() => "a thread of the kernel".to_owned(),
        true => escape(&sender.exe),
        false => command(&sender.argv, false, width.saturating_sub(40).max(20)),
    };
    let below = match parents.is_empty() {
        true => String::new(),
        false => format!("below {}", parents.join(" < ")),
    };
    Words::new(
        Tone::Plain,
        format!("sender from outside: {what}, uid {}{tty}", sender.uid),
    )
    .detail(below)
}

/// The last line that a process wrote to its standard error, in about `width` columns.
pub(super) fn stderr_tail(tail: &StderrTail, width: usize) -> Words {
    let last = tail.text.trim_end().lines().last().unwrap_or_default();
    let lines = tail.text.trim_end().lines().count() as u64;
    let room = width.saturating_sub(40).max(40);
    let text = escape(last.trim_end());
    let text = match text.char_indices().nth(room) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    };
    let words = Words::new(Tone::Plain, format!("last on stderr: {text}"));
    match lines {
        0 | 1 => words,
        lines => words.detail(plural(lines - 1, "line before it", "lines before it")),
    }
}

pub(super) fn limit_changed(task: &Task, limit: &LimitChanged) -> Words {
    let value = |limit: Option<u64>| {
        limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
    };
    let whose = match limit.target.pid {
        0 => " of another process".to_owned(),
        pid if pid == task.pid => String::new(),
        _ => format!(" of {}", super::who(&limit.target)),
    };
    let text = format!(
        "limit {}{whose} set to {} (hard {})",
        escape(&limit.resource),
        value(limit.soft),
        value(limit.hard)
    );
    Words::new(Tone::Dim, text)
}

pub(super) fn failed_calls(failed: &FailedCalls) -> Words {
    let call = |call: &FailedCall| {
        let on = call.path.as_ref().or(call.address.as_ref());
        let path = on.map_or_else(String::new, |on| format!(" {}", escape(on)));
        format!(
            "{}{path}: {}",
            escape(&call.syscall.name),
            errno(&call.error)
        )
    };
    let last = failed.calls.last().map_or_else(String::new, call);
    let before = match failed.calls.len() as u64 {
        0 | 1 => String::new(),
        count => format!("{} before it", plural(count - 1, "other", "others")),
    };
    Words::new(Tone::Plain, format!("last failed call: {last}")).detail(before)
}

/// What a file is that could not be executed.
pub(super) fn executed_file(file: &ExecutedFile) -> String {
    let what = match (file.form, &file.machine) {
        (FileForm::Empty, _) => "the file is empty".to_owned(),
        (FileForm::Script, _) => "a script".to_owned(),
        (FileForm::Elf, Some(machine)) => format!("a program for {}", escape(machine)),
        (FileForm::Elf, None) => "a damaged program".to_owned(),
        (FileForm::Text, _) => "a text without #!".to_owned(),
        (FileForm::Other, _) => "not a program".to_owned(),
    };
    let by = file.interpreter.as_ref().map_or_else(String::new, |name| {
        let returns = if file.carriage_return { "\\r" } else { "" };
        let missing = match file.interpreter_exists {
            Some(false) => ", which does not exist",
            _ => "",
        };
        format!(", run by {}{returns}{missing}", escape(name))
    });
    let denied = match file.executable {
        Some(false) => ", without execute permission",
        _ => "",
    };
    format!("{what}{by}{denied}")
}

pub(super) fn memory_sample(sample: &MemorySample) -> Words {
    let of = sample
        .limit_bytes
        .map_or_else(String::new, |limit| format!(" of {}", bytes(limit)));
    let largest = sample.processes.first().map_or_else(String::new, |most| {
        format!(
            "most: {} with {}",
            escape(&most.process.comm),
            bytes(most.memory.resident_bytes())
        )
    });
    let text = format!(
        "memory {}{of}: {}",
        bytes(sample.usage_bytes),
        kinds(&sample.kinds)
    );
    Words::new(Tone::Dim, text).detail(largest)
}

/// Memory by kind, the largest first, those of no account left out.
pub fn kinds(kinds: &MemoryKinds) -> String {
    let mut parts = [
        ("anon", kinds.anon),
        ("file cache", kinds.file.saturating_sub(kinds.shmem)),
        ("shmem/tmpfs", kinds.shmem),
        ("kernel", kinds.kernel),
        ("socket buffers", kinds.sock),
    ];
    parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let least = parts.first().map_or(0, |(_, most)| most / 50).max(1);
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, bytes)| *bytes >= least)
        .map(|(name, size)| format!("{name} {}", bytes(*size)))
        .collect();
    match parts.is_empty() {
        true => "nothing charged".to_owned(),
        false => parts.join(", "),
    }
}

pub(super) fn counters(counters: &Counters) -> Words {
    let levels = plural(counters.levels.len() as u64, "cgroup", "cgroups");
    Words::new(Tone::Dim, format!("counters of {levels} read"))
}

pub(super) fn snapshot(snapshot: &Snapshot) -> Words {
    if snapshot.moment == Moment::Stall {
        return Words::new(Tone::Warning, crate::hang::line(snapshot));
    }
    let task = |thread: &ThreadState| {
        let place = match (&thread.syscall, thread.wait_channel.as_str()) {
            (_, place) if !matches!(place, "" | "0") => format!(" in {}", escape(place)),
            (Some(call), _) => format!(" in {}", escape(&call.name)),
            (None, _) => String::new(),
        };
        format!(
            "{} {}{place}",
            escape(&thread.task.comm),
            escape(&thread.state)
        )
    };
    let tasks: Vec<String> = snapshot.threads.iter().take(NAMED).map(task).collect();
    let rest = snapshot.threads.len().saturating_sub(NAMED) as u64;
    let more = match rest {
        0 => String::new(),
        rest => format!(" and {} more", count(rest)),
    };
    let frozen = snapshot.frozen.as_ref().map_or_else(String::new, |cgroup| {
        format!("cgroup {} is frozen", escape(cgroup))
    });
    Words::new(
        Tone::Plain,
        format!("state of the jail: {}{more}", tasks.join(", ")),
    )
    .detail(frozen)
}

pub(super) fn kernel_oom(report: &KernelOom) -> Words {
    let limit = match &report.limit_cgroup {
        Some(cgroup) => format!("limit of {}", escape(cgroup)),
        None => format!("constraint {}", escape(&report.constraint)),
    };
    let made_of = report.kinds.as_ref().map_or_else(String::new, kinds);
    Words::new(
        Tone::Plain,
        format!("kernel log: OOM kill of PID {}, {limit}", report.victim_pid),
    )
    .detail(made_of)
}

pub(super) fn kernel_message(message: &KernelMessage) -> Words {
    Words::new(
        Tone::Plain,
        format!("kernel log: {}", escape(&message.text)),
    )
}
