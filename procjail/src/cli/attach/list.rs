//! What can be attached to, as a table or as JSON.

use std::io::{self, Write};

use anyhow::Context as _;

use crate::cli::outputs::Format;
use crate::runtime::{self, Container, List};
use crate::text::{bytes, escape};

/// Writes the list to standard output.
///
/// # Errors
///
/// The output can't be written.
pub fn list(list: &List, format: Format) -> anyhow::Result<()> {
    let written = match format {
        Format::Text => text(list),
        Format::Json => json(list),
    };
    match written {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

fn json(list: &List) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, list)?;
    writeln!(out)
}

/// Least columns of a line: what a terminal has that nobody has changed.
const WIDTH: usize = 80;

/// Fewest columns for a cgroup.
const CGROUP_WIDTH: usize = 16;

fn text(list: &List) -> io::Result<()> {
    let width = terminal_size::terminal_size_of(io::stdout());
    let width = width.map_or(WIDTH, |(width, _)| usize::from(width.0).max(WIDTH));
    table(&mut anstream::stdout().lock(), list, width)?;
    let mut err = anstream::stderr().lock();
    for unread in &list.unread {
        let path = unread.path.to_string_lossy();
        writeln!(
            err,
            "procjail: cannot read {}: {}",
            escape(&path),
            escape(&unread.why)
        )?;
    }
    Ok(())
}

/// One line a target, the cgroup cut from the left to fit.
fn table(out: &mut dyn Write, list: &List, width: usize) -> io::Result<()> {
    let head = ["KIND", "NAME", "PID 1", "AGE", "MEMORY", "LIMIT"].map(str::to_owned);
    let rows = list.targets.iter().map(row);
    let rows: Vec<([String; 6], String)> = std::iter::once((head, "CGROUP".to_owned()))
        .chain(rows)
        .collect();
    let columns: [usize; 6] = std::array::from_fn(|column| {
        let cells = rows.iter().filter_map(|(cells, _)| cells.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    });
    for (cells, cgroup) in rows {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(columns).enumerate() {
            // Numbers are aligned to the right.
            let cell = match column {
                0 | 1 => format!("{cell:<width$}  "),
                _ => format!("{cell:>width$}  "),
            };
            line.push_str(&cell);
        }
        let room = width.saturating_sub(line.chars().count()).max(CGROUP_WIDTH);
        line.push_str(&end_of(&cgroup, room));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn row(target: &Container) -> ([String; 6], String) {
    let number = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    let cells = [
        target.kind.word().to_owned(),
        match target.kind {
            // What it is called is in the last column.
            runtime::Kind::Cgroup => end_of(&escape(&shorten(&target.name)), CGROUP_WIDTH),
            _ => escape(&shorten(&name(target))),
        },
        number(target.pid.map(|pid| pid.to_string())),
        number(target.age_ns.map(age)),
        number(target.memory_bytes.map(bytes)),
        number(target.memory_limit_bytes.map(bytes)),
    ];
    (cells, escape(&shorten(target.cgroup.path())))
}

/// What follows `KIND:` or `pod:` as the target's name on the command line.
fn name(target: &Container) -> String {
    let pod = target.pod.as_ref();
    let pod = pod.and_then(|pod| Some((pod.namespace.as_deref()?, pod.name.as_deref()?)));
    match (pod, &target.container_name, &target.namespace) {
        (Some((namespace, pod)), Some(container), _) => format!("{namespace}/{pod}/{container}"),
        (Some((namespace, pod)), None, _) => format!("{namespace}/{pod} (sandbox)"),
        (None, _, Some(namespace)) if target.kind == runtime::Kind::Containerd => {
            format!("{namespace}/{}", target.name)
        }
        _ => target.name.clone(),
    }
}

/// Long runs of hex digits, as IDs and UIDs are, cut to twelve: enough to be given as a target.
fn shorten(text: &str) -> String {
    const KEPT: usize = 12;
    const LONGEST: usize = 31;
    let is_digit = |char: char| char.is_ascii_hexdigit() || matches!(char, '-' | '_');
    let mut short = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|char| !is_digit(char)).unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(run);
        // Words may begin with such letters: `cri-containerd-ID`.
        let word = digits.rfind(['-', '_']).map_or(0, |at| at + 1);
        let (kept, cut) = match (digits.len() - word > LONGEST, digits.len() > LONGEST) {
            (true, _) => (word + KEPT, true),
            (false, true) => (KEPT, true),
            (false, false) => (digits.len(), false),
        };
        short.push_str(digits.get(..kept).unwrap_or(digits));
        short.push_str(if cut { "…" } else { "" });
        let other = tail.find(is_digit).unwrap_or(tail.len());
        let (words, tail) = tail.split_at(other);
        short.push_str(words);
        rest = tail;
    }
    short
}

/// The last characters.
fn end_of(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let end: String = text.chars().skip(length + 1 - width).collect();
    format!("…{}", end.trim_start_matches('…'))
}

/// A time in one unit: `45s`, `12m`, `5h`, `3d`.
fn age(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_cut_and_words_are_not() {
        let id = "865638fddaca4ef0e8a1ba386b9d6c2ad32377582a2daaebe1d6eb53396fc29b";
        let uid = "0f2b6f0c-1111-4222-8333-444455556666";
        let path = format!("/kubepods/burstable/pod{uid}/{id}");
        assert_eq!(
            shorten(&path),
            "/kubepods/burstable/pod0f2b6f0c-11…/865638fddaca…"
        );
        let path = format!("/system.slice/docker-{id}.scope");
        assert_eq!(shorten(&path), "/system.slice/docker-865638fddaca….scope");
        for word in ["/deadbeef/cafe-babe", "façade", "", "web.service"] {
            assert_eq!(shorten(word), word);
        }
        assert_eq!(shorten(id), "865638fddaca…");
    }

    #[test]
    fn ages_have_one_unit() {
        let ages = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_200, "2h"),
            (200_000, "2d"),
        ];
        for (seconds, text) in ages {
            assert_eq!(age(seconds * 1_000_000_000), text);
        }
    }

    #[test]
    fn the_end_of_a_path_is_kept() {
        assert_eq!(end_of("/a/b", 4), "/a/b");
        assert_eq!(end_of("/aaa/b", 4), "…a/b");
        assert_eq!(end_of("/aaa…/b", 4), "…/b");
    }
}
