//! Events and verdicts as log records.

use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use opentelemetry_semantic_conventions::attribute as semantic;

use super::attributes::{Attributes, any_text};
use super::ids::{Ids, SpanId};
use crate::diagnose::{Case, Confidence, Diagnosis, Explanation, Rank};
use crate::event::{Event, Exit, ExitStatus, Task, What};
use crate::export::moment::Clock;
use crate::render;
use crate::text;
use crate::words::{self, Tone};

/// Columns of a sentence.
const WIDTH: usize = 240;

/// Longest data of an event that is sent, bytes: a snapshot of thousands of threads has more, and would
/// make a message that no collector takes.
const DATA_BYTES: usize = 64 << 10;

/// An event.
pub(super) fn event(event: &Event, span: SpanId, ids: &Ids, clock: &Clock) -> LogRecord {
    let words = words::words(event, WIDTH);
    let mut attributes = Attributes::with_capacity(16);
    attributes.number("procjail.seq", event.seq);
    if let Some(since_ns) = clock.since_gate_ns(event.time_ns) {
        attributes.number("procjail.since_gate_ns", since_ns);
    }
    task(&event.task, &mut attributes);
    if let Some(target) = event.what.target() {
        attributes.number("procjail.target.pid", target.pid);
        if let Some(pid) = target.jail_pid {
            attributes.number("procjail.target.vpid", pid);
        }
        attributes.text("procjail.target.name", &target.comm);
    }
    about(&event.what, &mut attributes);
    match event.what.data_json() {
        Ok(data) if data.len() <= DATA_BYTES => attributes.whole_text("procjail.data", data),
        Ok(data) => attributes.number("procjail.data.omitted_bytes", data.len()),
        Err(_) => &mut attributes,
    };
    record(
        event.what.event_name(),
        clock.unix_ns(event.time_ns),
        severity(event, words.tone),
        &words.sentence(),
        attributes,
        (ids, span),
    )
}

/// All verdicts, first causes first, what followed from one below it.
pub(super) fn diagnoses(case: &Case, explanation: &Explanation) -> Vec<LogRecord> {
    let ids = Ids::of(&case.header);
    let mut clock = Clock::of(&case.header);
    clock.gate(explanation.gate_ns);
    let mut records = Vec::new();
    let mut waiting: Vec<(&Diagnosis, Option<&Diagnosis>)> = explanation
        .diagnoses
        .iter()
        .map(|diagnosis| (diagnosis, None))
        .rev()
        .collect();
    while let Some((diagnosis, cause)) = waiting.pop() {
        records.push(verdict(diagnosis, cause, case, &ids, &clock));
        let consequences = diagnosis.consequences.iter().rev();
        waiting.extend(consequences.map(|consequence| (consequence, Some(diagnosis))));
    }
    records
}

fn verdict(
    diagnosis: &Diagnosis,
    cause: Option<&Diagnosis>,
    case: &Case,
    ids: &Ids,
    clock: &Clock,
) -> LogRecord {
    let mut attributes = Attributes::default();
    attributes.text("procjail.diagnosis.id", &diagnosis.id);
    attributes.text(
        "procjail.diagnosis.confidence",
        match diagnosis.sure() {
            Confidence::Proven => "proven",
            Confidence::Likely => "likely",
            Confidence::ConsistentWith => "consistent-with",
        },
    );
    if let Some(cause) = cause {
        attributes.text("procjail.diagnosis.consequence_of", &cause.id);
    }
    if let Some(since_ns) = clock.since_gate_ns(diagnosis.time_ns) {
        attributes.number("procjail.since_gate_ns", since_ns);
    }
    attributes.numbers("procjail.diagnosis.pids", diagnosis.pids.iter().copied());
    let evidence: Vec<String> = diagnosis
        .evidence
        .iter()
        .map(|fact| match fact.seq {
            Some(seq) => format!("{} (event {seq})", fact.shows),
            None => fact.shows.clone(),
        })
        .collect();
    attributes.texts(
        "procjail.diagnosis.evidence",
        evidence.iter().map(String::as_str),
    );
    let ruled_out: Vec<String> = diagnosis
        .ruled_out
        .iter()
        .map(|other| format!("{}: {}", other.what, other.because))
        .collect();
    attributes.texts(
        "procjail.diagnosis.ruled_out",
        ruled_out.iter().map(String::as_str),
    );
    attributes.texts(
        "procjail.diagnosis.weakened",
        diagnosis.weakened.iter().map(String::as_str),
    );
    attributes.text("procjail.diagnosis.fact", &diagnosis.fact);
    if let Some(cause) = &diagnosis.cause {
        attributes.text("procjail.diagnosis.cause", &cause.sentence());
    }
    if !diagnosis.remedy.is_empty() {
        attributes.text("procjail.diagnosis.remedy", &diagnosis.remedy);
    }
    if let Some(scenario) = &diagnosis.scenario {
        attributes.text("procjail.diagnosis.scenario", scenario);
    }
    // The first process that it is about, if it is one of the jail, whose span there is.
    let process = diagnosis
        .pids
        .iter()
        .filter_map(|pid| case.process_by_pid(*pid))
        .map(|id| case.process(id))
        .find(|process| process.in_jail() && process.task.start_ns != 0);
    let span = match process {
        Some(process) => {
            attributes.number(semantic::PROCESS_PID, process.task.pid);
            ids.process(&process.task)
        }
        None => ids.jail(),
    };
    let severity = match (diagnosis.rank, diagnosis.sure()) {
        (Rank::Story, _) => SeverityNumber::Info,
        (Rank::Problem, Confidence::Proven | Confidence::Likely) => SeverityNumber::Error,
        _ => SeverityNumber::Warn,
    };
    record(
        "procjail.diagnosis",
        clock.unix_ns(diagnosis.time_ns),
        severity,
        &text::escape(&diagnosis.verdict()),
        attributes,
        (ids, span),
    )
}

fn record(
    name: &str,
    time_unix_ns: u64,
    severity: SeverityNumber,
    body: &str,
    attributes: Attributes,
    (ids, span): (&Ids, SpanId),
) -> LogRecord {
    LogRecord {
        time_unix_nano: time_unix_ns,
        observed_time_unix_nano: time_unix_ns,
        severity_number: severity.into(),
        severity_text: match severity {
            SeverityNumber::Error => "ERROR",
            SeverityNumber::Warn => "WARN",
            SeverityNumber::Debug => "DEBUG",
            _ => "INFO",
        }
        .to_owned(),
        body: Some(any_text(body)),
        attributes: attributes.finish(),
        dropped_attributes_count: 0,
        flags: super::SAMPLED,
        trace_id: ids.trace().to_vec(),
        span_id: span.to_vec(),
        event_name: name.to_owned(),
    }
}

/// As much as the timeline makes of it, save for what is expected of the launcher.
fn severity(event: &Event, tone: Tone) -> SeverityNumber {
    match (&event.what, tone) {
        (What::Kill(_) | What::Lost(_), _) => SeverityNumber::Warn,
        (What::KernelMessage(message), _) => match message.level {
            0..=3 => SeverityNumber::Error,
            4 => SeverityNumber::Warn,
            5..=6 => SeverityNumber::Info,
            _ => SeverityNumber::Debug,
        },
        (_, Tone::Bad) => SeverityNumber::Error,
        _ if render::is_minor(event) => SeverityNumber::Debug,
        (_, Tone::Warning) => SeverityNumber::Warn,
        (_, Tone::Plain | Tone::Launcher) => SeverityNumber::Info,
        (_, Tone::Dim) => SeverityNumber::Debug,
    }
}

/// Who a task is.
pub(super) fn task(task: &Task, attributes: &mut Attributes) {
    attributes.number(semantic::PROCESS_PID, task.pid);
    if let Some(pid) = task.jail_pid {
        attributes.number(semantic::PROCESS_VPID, pid);
    }
    attributes.number(semantic::THREAD_ID, task.tid);
    attributes.text(semantic::THREAD_NAME, &task.comm);
}

/// How a process ended.
pub(super) fn exit_status(status: &ExitStatus, attributes: &mut Attributes) {
    if let Some(code) = status.code {
        attributes.number(semantic::PROCESS_EXIT_CODE, code);
    }
    if let Some(signal) = &status.signal {
        attributes.text("procjail.signal.name", &signal.name);
        attributes.flag("procjail.core_dumped", status.core_dumped);
    }
}

/// What a process used.
pub(super) fn usage(exit: &Exit, attributes: &mut Attributes) {
    attributes.number("procjail.max_rss_bytes", exit.max_rss_bytes);
    attributes.number("procjail.cpu.user_ns", exit.user_ns);
    attributes.number("procjail.cpu.system_ns", exit.system_ns);
}

/// What people search and filter by; the rest is in the data.
fn about(what: &What, attributes: &mut Attributes) {
    match what {
        What::Exec(exec) => {
            attributes.text(semantic::PROCESS_EXECUTABLE_PATH, &exec.filename);
            let arguments = exec.argv.iter().map(String::as_str);
            attributes.texts(semantic::PROCESS_COMMAND_ARGS, arguments);
        }
        What::ExecFailed(failed) => {
            attributes.text(semantic::PROCESS_EXECUTABLE_PATH, &failed.filename);
            attributes.text(semantic::ERROR_TYPE, &failed.error.name);
        }
        What::Exit(exit) => {
            exit_status(&exit.status, attributes);
            attributes.number(semantic::PROCESS_PARENT_PID, exit.parent.pid);
            usage(exit, attributes);
        }
        What::SignalGenerated(signal) => {
            attributes.text("procjail.signal.name", &signal.signal.name);
            attributes.text("procjail.signal.code", &signal.code.name);
            attributes.text("procjail.signal.result", super::result_name(signal.result));
        }
        What::SignalDelivered(signal) => {
            attributes.text("procjail.signal.name", &signal.signal.name);
            attributes.text("procjail.signal.code", &signal.code.name);
        }
        What::SignalForwarded(forwarded) => {
            attributes.text("procjail.signal.name", &forwarded.signal.name);
        }
        What::StopRequested(stop) => {
            attributes.text("procjail.signal.name", &stop.signal.name);
        }
        What::Mount(mount) => {
            attributes.text("procjail.mount.call", &mount.call);
            if let Some(error) = &mount.error {
                attributes.text(semantic::ERROR_TYPE, &error.name);
            }
        }
        What::Cgroup(cgroup) => {
            attributes.text(semantic::PROCESS_LINUX_CGROUP, &cgroup.path);
        }
        What::Kill(kill) => {
            attributes.text("procjail.reason", &kill.reason);
        }
        What::JailExited(exited) => exit_status(&exited.status, attributes),
        What::MemorySample(sample) => {
            attributes.number("procjail.memory.usage_bytes", sample.usage_bytes);
            if let Some(limit_bytes) = sample.limit_bytes {
                attributes.number("procjail.memory.limit_bytes", limit_bytes);
            }
        }
        _ => {}
    }
}
