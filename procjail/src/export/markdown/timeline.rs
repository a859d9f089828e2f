//! What of the events matters: those that the verdicts go by, how the run began, was stopped and ended. The rest
//! is counted.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use super::Page;
use super::text::{Table, code, prose};
use crate::event::{Event, What};
use crate::export::Subject;
use crate::text::count;
use crate::words::sentence;

/// Rows that are shown from the beginning.
const FIRST: usize = 150;
/// Rows that are shown of the end, if there are more.
const LAST: usize = 50;
/// Ends of processes that a verdict is about and doesn't cite; a verdict may be about thousands.
const ENDS: u32 = 8;
/// Columns of a row's sentence.
const WIDTH: usize = 160;

/// An event that is shown.
struct Row {
    seq: u64,
    time_ns: u64,
    cells: [String; 2],
}

/// The rows, and how many events are in none.
pub(super) struct Timeline<'a> {
    subject: &'a Subject,
    cited: HashSet<u64>,
    concerned: BTreeSet<u32>,
    executed: u32,
    ended: u32,
    first: Vec<Row>,
    last: VecDeque<Row>,
    others: BTreeMap<&'static str, u64>,
    left_out: u64,
}

impl<'a> Timeline<'a> {
    /// Nothing so far.
    pub fn new(subject: &'a Subject) -> Self {
        let explanation = &subject.explanation;
        Self {
            subject,
            cited: explanation.cited(),
            concerned: explanation
                .all()
                .flat_map(|one| one.pids.iter().copied())
                .collect(),
            executed: 0,
            ended: 0,
            first: Vec::new(),
            last: VecDeque::new(),
            others: BTreeMap::new(),
            left_out: 0,
        }
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event) {
        if !self.matters(event) {
            *self.others.entry(event.what.kind()).or_default() += 1;
            return;
        }
        let row = self.row(event);
        if self.first.len() < FIRST {
            self.first.push(row);
            return;
        }
        self.last.push_back(row);
        if self.last.len() > LAST {
            self.last.pop_front();
            self.left_out += 1;
        }
    }

    fn matters(&mut self, event: &Event) -> bool {
        let case = &self.subject.case;
        let cited = self.cited.contains(&event.seq);
        match &event.what {
            What::JailCreated(_)
            | What::GateOpened(_)
            | What::SignalForwarded(_)
            | What::StopRequested(_)
            | What::Kill(_)
            | What::JailExited(_)
            | What::Teardown(_)
            | What::OomKill(_)
            | What::Lost(_) => true,
            What::LeakCheck(check) => cited || check.found_any(),
            // What APP is.
            What::Exec(_) if event.task.pid == case.header.jail.pid && self.executed < 2 => {
                self.executed += 1;
                true
            }
            What::Exit(exit) if exit.process => {
                let concerned = self.concerned.contains(&event.task.pid) && self.ended < ENDS;
                let shown = cited || concerned || event.task.pid == case.header.jail.pid;
                self.ended += u32::from(shown && !cited);
                shown
            }
            // Before the program there is nothing of it in memory.
            What::MemorySample(_) => cited && event.time_ns > case.gate_ns(),
            // Numbers, which have a section of their own.
            What::Counters(_) => false,
            _ => cited,
        }
    }

    fn row(&self, event: &Event) -> Row {
        let case = &self.subject.case;
        let text = sentence(event, WIDTH);
        let mut what = match &event.what {
            What::Exec(_) => code(&text),
            _ => prose(&text),
        };
        match case.repeats(event) {
            0 => {}
            more => what += &format!(" (and {} more just like it)", count(more)),
        }
        Row {
            seq: event.seq,
            time_ns: event.time_ns,
            cells: [prose(&case.task_name(&event.task)), what],
        }
    }

    /// The section.
    pub fn section(&mut self, page: &Page<'_>) -> String {
        let case = &self.subject.case;
        let clock = self.subject.clock();
        let rows = self.first.iter().chain(&self.last);
        let (from, to) = (
            self.first.first().map_or(case.end_ns(), |row| row.time_ns),
            rows.clone()
                .next_back()
                .map_or(case.end_ns(), |row| row.time_ns),
        );
        // The date in each row only if it changes.
        let (from, to) = (page.date(from), page.date(to));
        let one_day = from == to;
        let mut table = Table::new(&["UTC", "-since start, s", "who", "what happened", "-event"]);
        for (index, row) in rows.enumerate() {
            if index == FIRST && self.left_out > 0 {
                let gap = format!("… {} more …", count(self.left_out));
                table.row([String::new(), String::new(), String::new(), gap]);
            }
            let time = match one_day {
                true => page.time(row.time_ns),
                false => format!("{} {}", page.date(row.time_ns), page.time(row.time_ns)),
            };
            let since = clock.since_gate_s(row.time_ns);
            let [who, what] = row.cells.clone();
            table.row([
                time,
                // To the microsecond.
                since[..since.len().saturating_sub(3)].to_owned(),
                who,
                what,
                row.seq.to_string(),
            ]);
        }
        let day = match one_day {
            true => format!("{from}, UTC"),
            false => "UTC".to_owned(),
        };
        let mut section = format!(
            "## Timeline\n\n{day}. Facts only; `start` is the moment when the program was let go. Event numbers are \
             those of the trace.\n\n"
        );
        match table.finish() {
            Some(table) => section += &table,
            None => section += "The trace has no event.\n",
        }
        let mut others: Vec<(&str, u64)> =
            self.others.iter().map(|(kind, n)| (*kind, *n)).collect();
        others.sort_by_key(|(kind, number)| (std::cmp::Reverse(*number), *kind));
        let total: u64 = others.iter().map(|(_, number)| number).sum();
        if total > 0 {
            let kinds: Vec<String> = others
                .iter()
                .map(|(kind, number)| format!("{} {kind}", count(*number)))
                .collect();
            section += &format!(
                "\nNot shown: {} other events ({}).\n",
                count(total),
                kinds.join(", ")
            );
        }
        section += &format!(
            "\n{}",
            super::todo(
                "what people saw and did: the alert, the page, the rollback; and what was not visible at the time."
            )
        );
        section
    }
}
