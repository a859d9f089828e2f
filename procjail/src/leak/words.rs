//! A leak in one sentence each, as `run` and `trace` say it on stderr.

use crate::event::{LeakCheck, LeakedMount, PinKind, PinnedNamespace, Task};
use crate::text;

/// One sentence for each leak.
pub fn sentences(check: &LeakCheck) -> Vec<String> {
    let mut lines: Vec<String> = check.mounts.iter().map(mount).collect();
    lines.extend(check.namespaces.iter().map(namespace));
    lines.extend(check.joined.iter().map(|task| {
        format!(
            "{} had joined the jail's cgroup from outside, and was killed with it",
            who(task)
        )
    }));
    lines.extend(check.output.iter().map(|holder| {
        format!(
            "{} still holds the jail's output open (descriptor {}, {})",
            who(&holder.process),
            holder.descriptor,
            text::escape(&holder.file)
        )
    }));
    lines
}

fn who(task: &Task) -> String {
    format!("process {} ({})", task.pid, text::escape(&task.comm))
}

fn holders(tasks: &[Task], count: u64) -> String {
    let names: Vec<String> = tasks.iter().map(who).collect();
    match count.saturating_sub(names.len() as u64) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn mount(leak: &LeakedMount) -> String {
    let entry = &leak.mount;
    let target = text::escape(&entry.target);
    let group = entry
        .shared
        .or(entry.master)
        .map_or_else(String::new, |group| format!(" by peer group {group}"));
    let what = format!("mount {target} ({})", text::escape(&entry.fs_type));
    match (leak.launchers, leak.seen_in_jail) {
        (true, true) => format!("{what} of the jail is left on the host, passed on{group}"),
        (true, false) => {
            format!("{what} came up on the host while the jail ran, and is left{group}")
        }
        (false, _) => format!(
            "{what} of the jail is kept by mount namespace {}, held by {}",
            leak.namespace,
            holders(&leak.holders, leak.holder_count)
        ),
    }
}

fn namespace(pinned: &PinnedNamespace) -> String {
    let pins: Vec<String> = pinned
        .pins
        .iter()
        .map(|pin| match pin.by {
            PinKind::Process => who(&pin.process),
            PinKind::BindMount => format!("a bind mount at {}", text::escape(&pin.place)),
            PinKind::Descriptor => format!("{} of {}", pin.place, who(&pin.process)),
        })
        .collect();
    format!(
        "the jail's namespace {}:[{}] still exists, kept by {}",
        pinned.kind,
        pinned.inode,
        pins.join(", ")
    )
}
