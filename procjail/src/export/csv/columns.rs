//! The columns: one list for the first line, the cells and the schema.

use std::fmt::{Display, Write};

use serde_json::json;

use super::cell::{push_json, push_text};
use crate::event::{Event, Signal, Task, What};
use crate::export::moment::Clock;
use crate::render;
use crate::words;

/// Columns of the sentence in `summary`; longer ones are cut.
const SUMMARY_WIDTH: usize = 200;

/// A column.
pub(super) struct Column {
    /// Its name, in the first line.
    pub name: &'static str,
    /// Type of its values, as Table Schema calls them.
    pub type_: &'static str,
    /// No cell of it is empty.
    pub required: bool,
    /// What it has.
    pub about: &'static str,
    /// Writes the cell of an event; nothing if it has none.
    pub fill: fn(&Row<'_>, &mut String),
}

/// All of them, in order. Names and meanings stay; new ones come at the end.
pub(super) const COLUMNS: &[Column] = &[
    column("seq", "integer", "Number of the event in the trace, from 1.", |row, cell| {
        put(cell, row.event.seq);
    })
    .always(),
    column(
        "time_utc",
        "datetime",
        "When it happened: UTC, RFC 3339, nanoseconds. Empty if the trace's clock is beyond all calendars.",
        |row, cell| {
            if let Some(time) = row.clock.timestamp(row.event.time_ns) {
                put(cell, format_args!("{time:.9}"));
            }
        },
    ),
    column(
        "since_gate_s",
        "number",
        "The same in seconds since the gate, when APP was let go; negative before it.",
        |row, cell| cell.push_str(&row.clock.since_gate_s(row.event.time_ns)),
    )
    .always(),
    column("kind", "string", "What happened; docs/events.md has all kinds.", |row, cell| {
        cell.push_str(row.event.what.kind());
    })
    .always(),
    column(
        "minor",
        "boolean",
        "It only repeats what other events say, or is of threads: `procjail show` leaves it out.",
        |row, cell| put(cell, render::is_minor(row.event)),
    )
    .always(),
    column(
        "pid",
        "integer",
        "Process in whose context it happened, as the host numbers it: the sender of a signal, the parent \
         of a fork, the trigger of an OOM kill.",
        |row, cell| put(cell, row.event.task.pid),
    )
    .always(),
    column("tid", "integer", "Its thread, as the host numbers it.", |row, cell| {
        put(cell, row.event.task.tid);
    })
    .always(),
    column(
        "jail_pid",
        "integer",
        "The process's PID in the jail; empty if it is outside.",
        |row, cell| put_some(cell, row.event.task.jail_pid),
    ),
    column("comm", "string", "Name of the thread.", |row, cell| {
        push_text(cell, &row.event.task.comm);
    }),
    column("in_jail", "boolean", "It was in the jail's cgroup.", |row, cell| {
        put(cell, row.event.task.in_jail);
    })
    .always(),
    column(
        "target_pid",
        "integer",
        "The other process that it is about, as the host numbers it: a signal's target, a fork's child, an \
         OOM kill's victim.",
        |row, cell| put_some(cell, row.target.map(|task| task.pid)),
    ),
    column("target_jail_pid", "integer", "That one's PID in the jail.", |row, cell| {
        put_some(cell, row.target.and_then(|task| task.jail_pid));
    }),
    column("target_comm", "string", "That one's name.", |row, cell| {
        push_text(cell, row.target.map_or("", |task| &task.comm));
    }),
    column(
        "signal",
        "string",
        "The signal that was sent, taken, forwarded, or that ended the process.",
        |row, cell| push_text(cell, signal(&row.event.what).map_or("", |signal| &signal.name)),
    ),
    column(
        "outcome",
        "string",
        "What became of it: of a signal what the kernel, or procjail if it forwards it, did.",
        |row, cell| outcome(&row.event.what, cell),
    ),
    column("exit_code", "integer", "Exit code of a process that exited.", |row, cell| {
        put_some(cell, exit_code(&row.event.what));
    }),
    column(
        "error",
        "string",
        "Why it failed: the error's symbol, or procjail's words.",
        |row, cell| push_text(cell, error(&row.event.what)),
    ),
    column(
        "path",
        "string",
        "The file, mount point or cgroup that it is about.",
        |row, cell| push_text(cell, path(&row.event.what)),
    ),
    column(
        "duration_ns",
        "integer",
        "How long it took: a call, a step of the teardown, a process's life, a zombie's wait, a signal's way.",
        |row, cell| put_some(cell, duration_ns(&row.event.what)),
    ),
    column(
        "memory_bytes",
        "integer",
        "Memory in use: the jail's in a sample, the victim's at an OOM kill, the process's peak at its end.",
        |row, cell| put_some(cell, memory_bytes(&row.event.what)),
    ),
    column("summary", "string", "What happened, in a sentence.", |row, cell| {
        push_text(cell, &words::sentence(row.event, SUMMARY_WIDTH));
    })
    .always(),
    column(
        "data",
        "object",
        "All that is known of it: the event's `data` in the trace, as JSON; docs/trace.schema.json has its form.",
        // Serializing the model cannot fail.
        |row, cell| push_json(cell, &row.event.what.data_json().unwrap_or_default()),
    )
    .always(),
];

const fn column(
    name: &'static str,
    type_: &'static str,
    about: &'static str,
    fill: fn(&Row<'_>, &mut String),
) -> Column {
    Column {
        name,
        type_,
        required: false,
        about,
        fill,
    }
}

impl Column {
    const fn always(mut self) -> Self {
        self.required = true;
        self
    }
}

/// What a line is made of.
pub(super) struct Row<'a> {
    clock: Clock,
    event: &'a Event,
    target: Option<&'a Task>,
}

impl<'a> Row<'a> {
    /// The line of an event.
    pub fn new(clock: Clock, event: &'a Event) -> Self {
        let target = match &event.what {
            What::MountUse(found) => Some(&found.caller),
            what => what.target(),
        };
        Self {
            clock,
            event,
            target,
        }
    }
}

fn put(cell: &mut String, value: impl Display) {
    // Writing to a string cannot fail.
    let _ = write!(cell, "{value}");
}

fn put_some(cell: &mut String, value: Option<impl Display>) {
    if let Some(value) = value {
        put(cell, value);
    }
}

fn signal(what: &What) -> Option<&Signal> {
    match what {
        What::SignalGenerated(signal) => Some(&signal.signal),
        What::SignalDelivered(signal) => Some(signal.fatal.as_ref().unwrap_or(&signal.signal)),
        What::SignalForwarded(signal) => Some(&signal.signal),
        What::StopRequested(stop) => Some(&stop.stop_signal),
        What::Exit(exit) => exit.status.signal.as_ref(),
        What::JailExited(exited) => exited.status.signal.as_ref(),
        _ => None,
    }
}

fn exit_code(what: &What) -> Option<i32> {
    match what {
        What::Exit(exit) => exit.status.code,
        What::JailExited(exited) => exited.status.code,
        _ => None,
    }
}

fn outcome(what: &What, cell: &mut String) {
    match what {
        What::SignalGenerated(signal) => name(cell, &signal.result),
        What::SignalForwarded(signal) => name(cell, &signal.action),
        What::OomReap(reap) => name(cell, &reap.stage),
        What::Cgroup(cgroup) => name(cell, &cgroup.change),
        _ => {}
    }
}

/// The name that a value without fields has in JSON.
fn name(cell: &mut String, value: &impl serde::Serialize) {
    if let Ok(serde_json::Value::String(name)) = serde_json::to_value(value) {
        cell.push_str(&name);
    }
}

fn error(what: &What) -> &str {
    match what {
        What::ExecFailed(failed) => &failed.error.name,
        What::Mount(mount) => mount.error.as_ref().map_or("", |error| &error.name),
        What::MountUse(found) => found.error.as_ref().map_or("", |error| &error.name),
        What::FailedCalls(failed) => failed.calls.last().map_or("", |call| &call.error.name),
        What::Teardown(step) => step.error.as_deref().unwrap_or(""),
        _ => "",
    }
}

fn path(what: &What) -> &str {
    match what {
        What::Exec(exec) => &exec.filename,
        What::ExecFailed(failed) => &failed.filename,
        What::Mount(mount) if mount.target.is_empty() => &mount.source,
        What::Mount(mount) => &mount.target,
        What::MountUse(found) => &found.target,
        What::Cgroup(cgroup) => &cgroup.path,
        What::JailCreated(jail) => &jail.cgroup,
        What::Sender(sender) => &sender.exe,
        What::FailedCalls(failed) => failed
            .calls
            .last()
            .and_then(|call| call.path.as_deref())
            .unwrap_or(""),
        _ => "",
    }
}

fn duration_ns(what: &What) -> Option<u64> {
    match what {
        What::Exit(exit) => Some(exit.lifetime_ns),
        What::Reap(reap) => reap.zombie_ns,
        What::SignalDelivered(signal) => signal.latency_ns,
        What::Mount(mount) => Some(mount.duration_ns),
        What::GateOpened(gate) => Some(gate.setup_ns),
        What::SignalForwarded(signal) => Some(signal.held_ns),
        What::Teardown(step) => Some(step.duration_ns),
        What::Snapshot(snapshot) => snapshot.waited_ns,
        What::ImplicitUnmounts(gone) => gone.took_ns,
        What::LeakCheck(check) => Some(check.duration_ns),
        _ => None,
    }
}

fn memory_bytes(what: &What) -> Option<u64> {
    match what {
        What::MemorySample(sample) => Some(sample.usage_bytes),
        What::OomKill(kill) => Some(kill.memory.resident_bytes()),
        What::Exit(exit) => (exit.max_rss_bytes > 0).then_some(exit.max_rss_bytes),
        _ => None,
    }
}

/// The table's form as a Table Schema (specs.frictionlessdata.io/table-schema); `docs/events-csv.schema.json`
/// in the sources.
pub fn table_schema() -> String {
    let fields: Vec<serde_json::Value> = COLUMNS
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.type_,
                "description": column.about,
                "constraints": { "required": column.required },
            })
        })
        .collect();
    let schema = json!({
        "$schema": "https://specs.frictionlessdata.io/schemas/table-schema.json",
        "title": "Events of a trace, as procjail export --to csv writes them",
        "fields": fields,
        "primaryKey": ["seq"],
        "missingValues": [""],
    });
    // Serializing a value that serde_json made cannot fail.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
