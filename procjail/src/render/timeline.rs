//! The trace as text: one line an event, in columns.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::style::{Look, Painted};
use super::{is_minor, summary};
use crate::event::{Event, ExecFailed, Lost, Recent, What};
use crate::text::{escape, moment, quote};
use crate::trace::Output;
use crate::trace::{Footer, Header};
use crate::words::Tone;
use crate::words::{Words, signal_detail, words};

/// Columns before the words: time, PID, host PID, name, kind.
const COLUMNS: usize = 12 + 1 + 5 + 1 + 7 + 2 + NAME_WIDTH + 1 + LABEL_WIDTH + 1;
const NAME_WIDTH: usize = 18;
const LABEL_WIDTH: usize = 11;

/// Most events that wait for the gate, whose time the others are relative to.
const WAITING: usize = 1 << 10;

/// Most processes whose depth in the tree is remembered.
const DEPTHS: usize = 1 << 16;

/// Most levels of the process tree that are shown as indentation.
const DEEPEST: usize = 3;

/// Short form of a kind, as the timeline's column has it.
pub fn label(kind: &str) -> &str {
    match kind {
        "signal-generated" => "signal",
        "signal-delivered" => "delivered",
        "signal-forwarded" => "forwarded",
        "jail-created" => "jail",
        "jail-exited" => "ended",
        "gate-opened" => "gate",
        "setup-failed" => "set-up",
        "stop-requested" => "stop",
        "memory-sample" => "memory",
        "kernel-message" => "kernel-log",
        "implicit-unmounts" => "unmounts",
        "leak-check" => "leaks",
        kind => kind,
    }
}

/// Writes a trace as text.
#[derive(Debug)]
pub struct Timeline<W> {
    out: W,
    look: Look,
    header: Option<Header>,
    /// When the gate opened.
    origin_ns: Option<u64>,
    waiting: Vec<Event>,
    depths: HashMap<u32, usize>,
    failed: HashMap<u32, FailedExecs>,
    totals: Totals,
    /// Of the lines of a storm, what comes between the time and the detail.
    recent: Recent<String>,
    /// The line in the making.
    line: String,
}

/// Execs of a process that failed since its last that didn't.
#[derive(Debug)]
struct FailedExecs {
    count: u64,
    last: ExecFailed,
}

/// What a timeline counts for the case that there is no footer.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) events: u64,
    pub(crate) hidden: u64,
    pub(crate) last_ns: u64,
    pub(crate) lost: Vec<Lost>,
}

impl<W: Write> Timeline<W> {
    /// Writes to `out`.
    pub fn new(out: W, look: Look) -> Self {
        Self {
            out,
            look,
            header: None,
            origin_ns: None,
            waiting: Vec::new(),
            depths: HashMap::new(),
            failed: HashMap::new(),
            totals: Totals::default(),
            recent: Recent::default(),
            line: String::new(),
        }
    }

    /// Writes the events that waited for the gate.
    fn release(&mut self) -> io::Result<()> {
        for event in std::mem::take(&mut self.waiting) {
            self.line(&event)?;
        }
        Ok(())
    }

    fn relative(&self, time_ns: u64) -> String {
        let start_ns = self
            .header
            .as_ref()
            .map_or(0, |header| header.start_boot_ns);
        moment(i128::from(time_ns) - i128::from(self.origin_ns.unwrap_or(start_ns)))
    }

    fn line(&mut self, event: &Event) -> io::Result<()> {
        let depth = self.depth(event);
        let failed = self.failed_execs(event);
        if is_minor(event) && !self.look.verbose {
            self.totals.hidden += 1;
            return Ok(());
        }
        let time = format!("{:>12}", self.relative(event.time_ns));
        let color = self.look.color;
        let recent = self.recent.like(event);
        if let Some(Some(body)) = &recent {
            self.line.clear();
            put(&mut self.line, color, &time, body, &signal_detail(event));
            return self.out.write_all(self.line.as_bytes());
        }
        let width = self.look.width.saturating_sub(COLUMNS).max(40);
        let Words {
            tone,
            text,
            mut detail,
        } = words(event, width);
        if let Some(FailedExecs { count, last }) = failed {
            let tries = if count > 1 {
                format!(", {count} tries")
            } else {
                String::new()
            };
            let (file, error) = (quote(&last.filename), escape(&last.error.name));
            detail += &format!("; it could not execute {file}: {error}{tries}");
        }
        let task = &event.task;
        let pid = task
            .jail_pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let name = format!("{:1$}{2}", "", depth, escape(&task.comm));
        let label = label(event.what.kind());
        let paint = |text, tone| Painted { text, tone, color };
        let place = format!(" {pid:>5} {:>7}  ", task.pid);
        let name = format!("{name:<NAME_WIDTH$} ");
        let label = format!("{label:<LABEL_WIDTH$} ");
        let body = format!(
            "{}{}{}{}",
            paint(&place, Tone::Dim),
            paint(&name, Tone::Plain),
            paint(&label, tone),
            paint(&text, tone),
        );
        self.line.clear();
        put(&mut self.line, color, &time, &body, &detail);
        if let Some(recent) = recent {
            *recent = Some(body);
        }
        self.out.write_all(self.line.as_bytes())
    }

    /// The execs that failed and were all that the process, which ends here, had in mind.
    fn failed_execs(&mut self, event: &Event) -> Option<FailedExecs> {
        let pid = event.task.pid;
        match &event.what {
            What::ExecFailed(failed) if self.failed.len() < DEPTHS => {
                let execs = self.failed.entry(pid).or_insert_with(|| FailedExecs {
                    count: 0,
                    last: failed.clone(),
                });
                execs.count += 1;
                execs.last = failed.clone();
                None
            }
            What::Exec(_) => {
                self.failed.remove(&pid);
                None
            }
            What::Exit(exit) if exit.process => self
                .failed
                .remove(&pid)
                .filter(|_| matches!(exit.status.code, Some(1..))),
            _ => None,
        }
    }

    /// How deep the event's task lies below PID 1.
    fn depth(&mut self, event: &Event) -> usize {
        let depth = self.depths.get(&event.task.pid).copied().unwrap_or(0);
        match &event.what {
            What::Fork(fork) if !fork.thread && self.depths.len() < DEPTHS => {
                self.depths.insert(fork.child.pid, (depth + 1).min(DEEPEST));
            }
            What::Free(free) => {
                self.depths.remove(&free.process.pid);
            }
            _ => {}
        }
        depth
    }
}

/// Puts a line together.
fn put(line: &mut String, color: bool, time: &str, body: &str, detail: &str) {
    // Formatting would take half of what a line of a storm costs.
    let dim = |line: &mut String, text| match color {
        false => line.push_str(text),
        true => {
            let tone = Tone::Dim;
            // A string takes everything.
            let _ = write!(line, "{}", Painted { text, tone, color });
        }
    };
    dim(line, time);
    line.push_str(body);
    if !detail.is_empty() {
        line.push_str("  ");
        dim(line, detail);
    }
    line.push('\n');
}

impl<W: Write> Output for Timeline<W> {
    fn header(&mut self, header: &Header) -> io::Result<()> {
        let text = summary::opening(header, &self.look);
        self.header = Some(header.clone());
        self.out.write_all(text.as_bytes())?;
        let since = match header.jail.launcher {
            Some(_) => "SINCE GATE",
            None => "SINCE START",
        };
        let columns = format!(
            "\n{:>12} {:>5} {:>7}  {:<NAME_WIDTH$} {:<LABEL_WIDTH$} WHAT HAPPENED",
            since, "PID", "HOST", "NAME", "EVENT"
        );
        let columns = Painted {
            text: &columns,
            tone: Tone::Dim,
            color: self.look.color,
        };
        writeln!(self.out, "{columns}")
    }

    fn origin(&mut self, gate_ns: u64) {
        self.origin_ns.get_or_insert(gate_ns);
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.totals.events += 1;
        self.totals.last_ns = self.totals.last_ns.max(event.time_ns);
        match &event.what {
            What::GateOpened(_) => self.origin(event.time_ns),
            What::Attached(_) => {
                let start_ns = self.header.as_ref().map(|header| header.start_boot_ns);
                self.origin(start_ns.unwrap_or(event.time_ns));
            }
            What::Detached(_) => self.origin(event.time_ns),
            What::Lost(lost) => self.totals.lost.push(lost.clone()),
            _ => {}
        }
        if self.origin_ns.is_none() && self.waiting.len() < WAITING {
            self.waiting.push(event.clone());
            return Ok(());
        }
        self.release()?;
        self.line(event)
    }

    fn footer(&mut self, footer: Option<&Footer>) -> io::Result<()> {
        self.release()?;
        let end = self.relative(self.totals.last_ns);
        let text = summary::closing(self.header.as_ref(), footer, &self.totals, &end, &self.look);
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Whoever watches sees all so far.
    fn tick(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
