//! How systemd stops a unit: systemd.kill(5), systemd.service(5), as the unit's files say.

use std::path::PathBuf;
use std::rc::Rc;

use super::bundle::signal_of;
use super::files::Tree;
use super::look::Look;

/// What is taken from a unit's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    pub stop_signal: Option<i32>,
    /// `u64::MAX` if it never ends.
    pub stop_timeout_ns: Option<u64>,
    /// PID of the systemd that started it.
    pub manager: Option<u32>,
}

impl Unit {
    /// Reads the files of the unit that a process is in, as its manager sees them.
    pub fn read(look: &mut Look<'_>, pid: u32, name: &str) -> Unit {
        let Some((manager, root)) = manager(look, pid) else {
            return Unit::default();
        };
        let mut unit = Unit {
            manager: Some(manager),
            ..Unit::default()
        };
        for path in files(look, &root, name) {
            if let Some(text) = look.read(&root, &path) {
                unit.take(&text);
            }
        }
        unit
    }

    /// Takes what a file sets: of a setting that is there more than once, the last one counts.
    fn take(&mut self, text: &str) {
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim();
            match key.trim() {
                "KillSignal" => self.stop_signal = signal_of(value),
                "TimeoutStopSec" | "TimeoutSec" => self.stop_timeout_ns = time_of(value),
                _ => {}
            }
        }
    }
}

/// The manager that a process descends from, and its root directory; none if it is a user's, which has its units
/// elsewhere.
fn manager(look: &mut Look<'_>, pid: u32) -> Option<(u32, Rc<Tree>)> {
    let mut pid = pid;
    // A bound, should processes end and others get their PIDs while the table is read.
    for _ in 0..1024 {
        let process = look.table.processes.get(&pid)?;
        if process.comm == "systemd" {
            let arguments = look.arguments(pid)?;
            let is_of_user = arguments.iter().any(|argument| argument == "--user");
            let root = look.root_of(pid)?;
            return (!is_of_user).then_some((pid, root));
        }
        pid = process.parent;
    }
    None
}

/// The unit's file, or its template's, and its drop-ins in the order in which they count.
fn files(look: &mut Look<'_>, root: &Tree, name: &str) -> Vec<PathBuf> {
    let template = name.split_once('@').and_then(|(stem, instance)| {
        let (_, kind) = instance.rsplit_once('.')?;
        Some(format!("{stem}@.{kind}"))
    });
    let names: Vec<&str> = [Some(name), template.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    let directories = &look.roots.units;
    let candidates = names
        .iter()
        .flat_map(|name| directories.iter().map(move |at| at.join(name)));
    let main = candidates.filter(|path| root.read(path).is_ok()).take(1);
    let mut files: Vec<PathBuf> = main.collect();
    let mut drop_ins: Vec<(String, PathBuf)> = Vec::new();
    for name in &names {
        for directory in directories.iter().map(|at| at.join(format!("{name}.d"))) {
            let found = root
                .below(&directory)
                .and_then(|tree| tree.names())
                .unwrap_or_default();
            for file in found.into_iter().filter(|file| file.ends_with(".conf")) {
                // The first of a name hides the others.
                if !drop_ins.iter().any(|(known, _)| *known == file) {
                    let path = directory.join(&file);
                    drop_ins.push((file, path));
                }
            }
        }
    }
    drop_ins.sort();
    files.extend(drop_ins.into_iter().map(|(_, path)| path));
    files
}

/// A span as systemd.time(7) has it, in nanoseconds: `90`, `1min 30s`, `2.5s`, `infinity`.
fn time_of(text: &str) -> Option<u64> {
    if text == "infinity" {
        return Some(u64::MAX);
    }
    let mut seconds = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.');
        let (number, tail) = rest.split_at(digits.unwrap_or(rest.len()));
        let number: f64 = number.parse().ok()?;
        let tail = tail.trim_start();
        let letters = tail.find(|char: char| !char.is_alphabetic());
        let (unit, tail) = tail.split_at(letters.unwrap_or(tail.len()));
        let length = match unit {
            "us" | "usec" | "µs" | "μs" => 1e-6,
            "ms" | "msec" => 1e-3,
            "" | "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return None,
        };
        seconds += number * length;
        rest = tail.trim_start();
    }
    // Nothing stands for no time-out here, too (systemd.service(5)).
    Some(if seconds == 0.0 {
        u64::MAX
    } else {
        (seconds * 1e9) as u64
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_of_time_are_read() {
        let second = 1_000_000_000;
        for (text, ns) in [
            ("90", Some(90 * second)),
            ("1min 30s", Some(90 * second)),
            ("1min30s", Some(90 * second)),
            ("2.5 s", Some(2_500_000_000)),
            ("300ms", Some(300_000_000)),
            ("infinity", Some(u64::MAX)),
            ("0", Some(u64::MAX)),
            ("", None),
            ("s", None),
            ("5 parsecs", None),
            ("1.2.3", None),
        ] {
            assert_eq!(time_of(text), ns, "{text}");
        }
    }

    #[test]
    fn the_last_setting_counts() {
        let mut unit = Unit::default();
        unit.take("[Service]\nExecStart=/bin/x -a=b\nKillSignal=SIGQUIT\nTimeoutStopSec=5\n");
        unit.take("# nothing\nTimeoutSec = 1min\n");
        let expected = Unit {
            stop_signal: Some(3),
            stop_timeout_ns: Some(60_000_000_000),
            manager: None,
        };
        assert_eq!(unit, expected);
    }

    proptest! {
        #[test]
        fn any_file_is_read(text in "((KillSignal|TimeoutSec|\\PC{0,3})=?(\\PC{0,5}|[0-9.]{0,30}(s|min|µs| )?)\\n){0,5}") {
            Unit::default().take(&text);
            time_of(&text);
        }
    }
}
