//! The lines before and after a timeline: what was run, how it ended, and whether the trace is whole.

use super::style::{Look, Painted};
use super::timeline::Totals;
use crate::event::ExitStatus;
use crate::exit;
use crate::text::{bytes, command, count, duration, escape, plural};
use crate::trace::{Footer, Header};
use crate::words::Tone;
use crate::words::{hint, losses, status, tone_of};

/// A fact about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// What it is about; empty where that is the same as in the line before.
    pub(crate) name: &'static str,
    pub(crate) tone: Tone,
    pub(crate) value: String,
}

/// Lines of one subject.
#[derive(Default)]
struct Block {
    lines: Vec<Line>,
}

impl Block {
    fn line(&mut self, name: &'static str, tone: Tone, value: &str) {
        self.lines.push(Line {
            name,
            tone,
            value: value.to_owned(),
        });
    }

    fn text(&self, look: &Look) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let name = format!("{:<11} ", line.name);
            let paint = |text, tone| Painted {
                text,
                tone,
                color: look.color,
            };
            let (name, value) = (paint(&name, Tone::Dim), paint(&line.value, line.tone));
            text += &format!("{name}{value}\n");
        }
        text
    }
}

/// What was run, where and when, how it ended, and whether the trace, of so many events, is whole.
pub(crate) fn facts(
    header: &Header,
    footer: Option<&Footer>,
    totals: &Totals,
    end: &str,
) -> Vec<Line> {
    let mut lines = opening_block(header, usize::MAX).lines;
    lines.extend(closing_block(Some(header), footer, totals, end).lines);
    lines
}

/// What was run, where and when.
pub(super) fn opening(header: &Header, look: &Look) -> String {
    opening_block(header, look.width.saturating_sub(12)).text(look)
}

fn opening_block(header: &Header, width: usize) -> Block {
    let mut block = Block::default();
    let jail = &header.jail;
    match &jail.container {
        None => block.line("jail", Tone::Plain, &escape(&jail.name)),
        Some(container) => {
            let value = format!("{}:{}", container.kind, jail.name);
            block.line("target", Tone::Plain, &escape(&value));
        }
    }
    block.line(
        "command",
        Tone::Plain,
        &command(&jail.command, false, width),
    );
    block.line("started", Tone::Plain, &instant(header.start_unix_ns));
    let host = &header.host;
    let value = format!(
        "{}: Linux {} {}, cgroups {}, {}, {}",
        escape(&host.hostname),
        escape(&host.kernel),
        escape(&host.architecture),
        escape(&host.cgroup_mode),
        plural(host.cpus.into(), "CPU", "CPUs"),
        bytes(host.memory_bytes),
    );
    block.line("host", Tone::Plain, &value);
    if !jail.limits.is_empty() {
        let limits: Vec<String> = jail
            .limits
            .iter()
            .map(|(file, value)| format!("{} {}", escape(file), escape(&limit(value))))
            .collect();
        block.line("limits", Tone::Plain, &limits.join(", "));
    }
    missing_probes(&mut block, header);
    block
}

/// A limit as a size, if it is one in bytes.
fn limit(value: &str) -> String {
    match value.trim().parse::<u64>() {
        Ok(size) if size >= 1 << 20 => bytes(size),
        _ => value.trim().to_owned(),
    }
}

fn missing_probes(block: &mut Block, header: &Header) {
    for probe in header.probes.iter().filter(|probe| !probe.attached) {
        let reason = probe.error.as_deref().unwrap_or("not attached");
        let value = format!(
            "{}: {}; the trace lacks {}",
            escape(&probe.name),
            escape(reason),
            escape(&probe.provides)
        );
        block.line("no probe", Tone::Warning, &value);
    }
}

/// A moment in UTC, to the millisecond.
fn instant(unix_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_ns)).map_or_else(
        |_| format!("{unix_ns} ns after 1970"),
        |time| format!("{time:.3}"),
    )
}

/// How it ended, and whether the trace is whole. `end` is the time of the last event.
pub(super) fn closing(
    header: Option<&Header>,
    footer: Option<&Footer>,
    totals: &Totals,
    end: &str,
    look: &Look,
) -> String {
    let block = closing_block(header, footer, totals, end);
    format!("\n{}", block.text(look))
}

fn closing_block(
    header: Option<&Header>,
    footer: Option<&Footer>,
    totals: &Totals,
    end: &str,
) -> Block {
    let mut block = Block::default();
    let hidden = match totals.hidden {
        0 => String::new(),
        hidden => format!(", {} minor ones not shown (--verbose)", count(hidden)),
    };
    let Some(footer) = footer else {
        block.line(
            "events",
            Tone::Plain,
            &format!("{}{hidden}", count(totals.events)),
        );
        let lost = losses(&totals.lost).map_or_else(String::new, |lost| format!("; {lost}"));
        let value = format!("incomplete, it has no footer: it ends at {end}{lost}");
        block.line("trace", Tone::Bad, &value);
        return block;
    };
    // Without a PID 1 there is no one whose status would be the target's.
    if header.is_none_or(|header| header.jail.pid != 0) {
        let (tone, value) = exit_status(footer);
        block.line("exit status", tone, &value);
    }
    block.line("duration", Tone::Plain, &duration(footer.duration_ns));
    // Without the reaps, a process whose release was not told of yet looks like one.
    let tells = header.is_none_or(Header::tells_reaps);
    let zombies = match footer.zombies {
        _ if !tells => (Tone::Plain, String::new()),
        0 => (Tone::Plain, String::new()),
        zombies => (
            Tone::Warning,
            format!(", {} left by PID 1", plural(zombies, "zombie", "zombies")),
        ),
    };
    let made = match header.is_none_or(|header| header.jail.launcher.is_some()) {
        true => "made",
        false => "seen",
    };
    let value = format!("{} {made}{}", count(footer.processes), zombies.1);
    block.line("processes", zombies.0, &value);
    if let Some(peak) = footer.peak_memory_bytes {
        block.line("peak memory", Tone::Plain, &bytes(peak));
    }
    if let Some(cpu) = footer.cpu_ns {
        block.line("cpu time", Tone::Plain, &duration(cpu));
    }
    for (index, step) in footer.teardown.iter().enumerate() {
        let name = if index == 0 { "teardown" } else { "" };
        let took = duration(step.duration_ns);
        let (tone, value) = match &step.error {
            None => (Tone::Plain, format!("{}: {took}", escape(&step.step))),
            Some(error) => (
                Tone::Bad,
                format!("{}: {} after {took}", escape(&step.step), escape(error)),
            ),
        };
        block.line(name, tone, &value);
    }
    block.line(
        "events",
        Tone::Plain,
        &format!("{}{hidden}", count(footer.events)),
    );
    let missing = header.map_or(0, |header| {
        header.probes.iter().filter(|probe| !probe.attached).count() as u64
    });
    match (losses(&footer.lost), missing) {
        (Some(lost), _) => block.line("trace", Tone::Bad, &lost),
        (None, 0) => block.line("trace", Tone::Plain, "complete"),
        (None, missing) => {
            let probes = plural(missing, "probe is", "probes are");
            block.line(
                "trace",
                Tone::Warning,
                &format!("complete, but {probes} missing (see above)"),
            );
        }
    }
    block
}

fn exit_status(footer: &Footer) -> (Tone, String) {
    match (&footer.status, footer.exit_code) {
        (None, None) => (Tone::Plain, "PID 1 did not end".to_owned()),
        (None, Some(code)) => (Tone::Bad, format!("PID 1 did not end in time ({code})")),
        (Some(ended), code) => {
            let mut value = match code {
                None => status(ended),
                Some(code) => launchers_code(footer, ended, code),
            };
            if let Some(hint) = hint(ended) {
                value += &format!(" ({hint})");
            }
            (tone_of(ended), value)
        }
    }
}

/// The exit code of the launcher, and what PID 1 did where that is something else.
fn launchers_code(footer: &Footer, ended: &ExitStatus, code: i32) -> String {
    // APP may end with 124 too: then it is not procjail that gave up, unless a step failed.
    let own = exit::code_of(ended);
    let gave_up = code == i32::from(exit::TEARDOWN_TIMEOUT)
        && (own != exit::TEARDOWN_TIMEOUT
            || footer.teardown.iter().any(|step| step.error.is_some()));
    let mut value = code.to_string();
    if gave_up {
        value += ": the jail could not be removed in time";
    }
    if ended.signal.is_some() || i32::from(own) != code {
        value += &format!(", PID 1 {}", status(ended));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Teardown;

    fn told(status: i32, exit_code: i32, failed: bool) -> String {
        let step = Teardown {
            step: "remove the cgroups".into(),
            duration_ns: 1,
            error: failed.then(|| "EBUSY".to_owned()),
        };
        let footer = Footer {
            footer: true,
            end_boot_ns: 0,
            end_unix_ns: None,
            status: Some(ExitStatus::from_wait(status)),
            exit_code: Some(exit_code),
            duration_ns: 1,
            events: 0,
            lost: Vec::new(),
            peak_memory_bytes: None,
            cpu_ns: None,
            processes: 1,
            zombies: 0,
            teardown: vec![step],
        };
        exit_status(&footer).1
    }

    #[test]
    fn the_exit_status_is_the_number_and_what_it_stands_for() {
        assert_eq!(told(0, 0, false), "0");
        assert_eq!(told(7 << 8, 7, false), "7");
        assert_eq!(told(9, 137, false), "137, PID 1 killed by SIGKILL");
        // What procjail returns where APP could not be executed.
        assert_eq!(told(125 << 8, 126, false), "126, PID 1 exited with 125");
    }

    #[test]
    fn a_124_of_app_is_not_procjails() {
        assert_eq!(told(124 << 8, 124, false), "124");
        let gave_up = "124: the jail could not be removed in time";
        assert_eq!(told(124 << 8, 124, true), gave_up);
        let exited = format!("{gave_up}, PID 1 exited with 0");
        assert_eq!(told(0, 124, true), exited);
    }
}
