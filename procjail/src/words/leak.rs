//! Mounts in use and what a jail leaves, in words.

use super::{Tone, Words, errno};
use crate::event::*;
use crate::leak;
use crate::text::{duration, escape, plural};

/// Most items of a list that a line names.
const NAMED: usize = 3;

fn list<T>(items: &[T], word: impl Fn(&T) -> String) -> String {
    let mut names: Vec<String> = items.iter().take(NAMED).map(word).collect();
    if items.len() > NAMED {
        names.push(format!("{} more", items.len() - NAMED));
    }
    names.join(", ")
}

pub(super) fn mount_use(found: &MountUse) -> Words {
    let target = escape(&found.target);
    let users = list(&found.users, |user| {
        format!("{} ({})", escape(&user.process.comm), escape(&user.how))
    });
    let text = match &found.error {
        None => format!("{target} was unmounted lazily and lives on, used by {users}"),
        Some(error) if users.is_empty() => {
            format!("{target} was not unmounted: {}", errno(error))
        }
        Some(error) => format!(
            "{target} was not unmounted: {}, used by {users}",
            errno(error)
        ),
    };
    let nested = match found.nested.is_empty() {
        true => String::new(),
        false => format!("below it: {}", list(&found.nested, |path| escape(path))),
    };
    Words::new(Tone::Warning, text).detail(nested)
}

pub(super) fn implicit_unmounts(gone: &ImplicitUnmounts) -> Words {
    let text = format!(
        "{} went with mount namespace {}: {}",
        plural(gone.mounts.len() as u64, "mount", "mounts"),
        gone.namespace,
        list(&gone.mounts, |mount| format!(
            "{} ({})",
            escape(&mount.target),
            escape(&mount.fs_type)
        ))
    );
    let took = gone.took_ns.map_or_else(String::new, |ns| {
        format!("{} before PID 1's end was seen", duration(ns))
    });
    Words::new(Tone::Dim, text).detail(took)
}

pub(super) fn leftover(left: &Leftover) -> Words {
    let found = match left.process_count {
        0 => "an empty cgroup".to_owned(),
        count => plural(count, "process", "processes"),
    };
    let text = format!(
        "left by a dead launcher of jail {}: {found}{}",
        escape(&left.name),
        match left.removed {
            true => ", removed",
            false => ", not removed yet",
        }
    );
    let tone = match left.process_count {
        0 => Tone::Dim,
        _ => Tone::Warning,
    };
    let who = list(&left.processes, |task| {
        format!("{} (host PID {})", escape(&task.comm), task.pid)
    });
    Words::new(tone, text).detail(who)
}

pub(super) fn leak_check(check: &LeakCheck) -> Words {
    let mut found = leak::sentences(check);
    found.extend(
        check
            .cgroups
            .iter()
            .map(|left| format!("cgroup {} is left", escape(&left.path))),
    );
    let detail = match check.incomplete.is_empty() {
        true => String::new(),
        false => format!(
            "not looked at: {}",
            list(&check.incomplete, |what| escape(what))
        ),
    };
    match found.is_empty() {
        true => Words::new(Tone::Launcher, "nothing is left of the jail"),
        false => Words::new(
            Tone::Bad,
            format!("left behind: {}", list(&found, String::clone)),
        ),
    }
    .detail(detail)
}
