//! An explanation as text.

use super::style::{Look, Painted};
use crate::diagnose::{Diagnosis, Explanation, Rank};
use crate::text::{duration, escape, plural};
use crate::words::Tone;

/// Evidence that is shown of one diagnosis where not all is asked for.
const SOME: usize = 6;
/// Columns by which parts of a diagnosis are indented.
const INDENT: usize = 2;

/// How much of an explanation is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The verdicts and what to do.
    Verdicts,
    /// With the most important evidence.
    Evidence,
    /// Everything.
    All,
}

/// An explanation for people.
pub fn explanation(explanation: &Explanation, detail: Detail, look: &Look) -> String {
    let mut page = Page {
        text: String::new(),
        look,
        detail,
        gate_ns: explanation.gate_ns,
    };
    for (index, one) in explanation.diagnoses.iter().enumerate() {
        if index > 0 {
            page.text.push('\n');
        }
        page.diagnosis(one);
    }
    if !explanation.unavailable.is_empty() {
        page.text.push('\n');
        page.heading("cannot be told from this trace", 0);
        for one in &explanation.unavailable {
            page.wrapped(&format!("{}: {}", one.what, one.because), INDENT, INDENT);
        }
    }
    page.text
}

struct Page<'a> {
    text: String,
    look: &'a Look,
    detail: Detail,
    gate_ns: u64,
}

impl Page<'_> {
    fn diagnosis(&mut self, one: &Diagnosis) {
        let tone = match one.rank {
            Rank::Story => Tone::Plain,
            Rank::Problem => Tone::Bad,
            Rank::Note | Rank::Evidence => Tone::Warning,
        };
        let title = self.paint(&one.id, tone);
        let sure = self.paint(&format!("({})", one.sure().word()), Tone::Dim);
        self.text += &format!("{title}  {sure}\n");
        self.wrapped(&escape(&one.fact), INDENT, INDENT);
        if let Some(cause) = &one.cause {
            let text = format!("{}: {}", cause.label(), escape(&cause.sentence()));
            self.wrapped(&text, INDENT, INDENT);
        }
        for why in &one.weakened {
            self.wrapped(&format!("less sure: {}", escape(why)), INDENT, INDENT + 2);
        }
        if self.detail != Detail::Verdicts {
            self.evidence(one);
            self.ruled_out(one);
        }
        self.consequences(&one.consequences);
        if !one.remedy.is_empty() {
            self.heading("what to do", INDENT);
            self.wrapped(&escape(&one.remedy), 2 * INDENT, 2 * INDENT);
        }
        if let Some(scenario) = one.scenario.as_ref().filter(|_| self.detail == Detail::All) {
            self.heading("see it happen", INDENT);
            self.wrapped(&format!("procjail lab {scenario}"), 2 * INDENT, 2 * INDENT);
        }
    }

    fn evidence(&mut self, one: &Diagnosis) {
        if one.evidence.is_empty() {
            return;
        }
        self.heading("evidence", INDENT);
        let shown = match self.detail {
            Detail::All => one.evidence.len(),
            _ => one.evidence.len().min(SOME),
        };
        for fact in one.evidence.iter().take(shown) {
            let mark = match (fact.seq, fact.time_ns) {
                (Some(seq), Some(time_ns)) => {
                    format!("{:>7} {:>12}  ", format!("#{seq}"), self.moment(time_ns))
                }
                (Some(seq), None) => format!("{:>7} {:>12}  ", format!("#{seq}"), ""),
                (None, _) => format!("{:>7} {:>12}  ", "-", ""),
            };
            let text = format!("{mark}{}", escape(&fact.shows));
            self.wrapped(&text, 2 * INDENT, 2 * INDENT + mark.chars().count());
        }
        let rest = (one.evidence.len() - shown) as u64;
        if rest > 0 {
            let more = format!("and {} (--all)", plural(rest, "more fact", "more facts"));
            self.wrapped(&more, 2 * INDENT, 2 * INDENT);
        }
    }

    fn ruled_out(&mut self, one: &Diagnosis) {
        if one.ruled_out.is_empty() {
            return;
        }
        self.heading("ruled out", INDENT);
        for other in &one.ruled_out {
            let text = format!("{}: {}", escape(&other.what), escape(&other.because));
            self.wrapped(&text, 2 * INDENT, 3 * INDENT);
        }
    }

    fn consequences(&mut self, consequences: &[Diagnosis]) {
        if consequences.is_empty() {
            return;
        }
        self.heading("what followed", INDENT);
        self.followed(consequences, 2 * INDENT);
    }

    fn followed(&mut self, consequences: &[Diagnosis], indent: usize) {
        for one in consequences {
            let text = format!(
                "{} ({}): {}",
                one.id,
                one.sure().word(),
                escape(&one.verdict())
            );
            self.wrapped(&text, indent, indent + INDENT);
            if self.detail == Detail::All {
                for fact in &one.evidence {
                    let seq = fact
                        .seq
                        .map_or_else(|| "-".to_owned(), |seq| format!("#{seq}"));
                    let text = format!("{seq:>7}  {}", escape(&fact.shows));
                    self.wrapped(&text, indent + INDENT, indent + INDENT + 9);
                }
                if !one.remedy.is_empty() {
                    let text = format!("what to do: {}", escape(&one.remedy));
                    self.wrapped(&text, indent + INDENT, indent + 2 * INDENT);
                }
            }
            self.followed(&one.consequences, indent + INDENT);
        }
    }

    fn heading(&mut self, text: &str, indent: usize) {
        let painted = self.paint(text, Tone::Dim);
        self.text += &format!("{:indent$}{painted}\n", "");
    }

    fn paint(&self, text: &str, tone: Tone) -> String {
        Painted {
            text,
            tone,
            color: self.look.color,
        }
        .to_string()
    }

    fn moment(&self, time_ns: u64) -> String {
        match time_ns.checked_sub(self.gate_ns) {
            Some(ns) => format!("+{}", duration(ns)),
            None => format!("-{}", duration(self.gate_ns - time_ns)),
        }
    }

    /// Words in lines of the look's width.
    fn wrapped(&mut self, text: &str, first: usize, others: usize) {
        let width = self.look.width.max(others + 20);
        let mut line = " ".repeat(first);
        let mut columns = first;
        let mut fresh = true;
        // Runs of spaces at the start are columns of a table.
        let lead = text.chars().take_while(|char| *char == ' ').count();
        line.push_str(&" ".repeat(lead));
        columns += lead;
        for word in text.trim_start().split(' ') {
            let length = word.chars().count();
            if !fresh && columns + 1 + length > width {
                self.text += line.trim_end();
                self.text.push('\n');
                line = " ".repeat(others);
                columns = others;
                fresh = true;
            }
            if !fresh {
                line.push(' ');
                columns += 1;
            }
            line.push_str(word);
            columns += length;
            fresh = false;
        }
        self.text += line.trim_end();
        self.text.push('\n');
    }
}
