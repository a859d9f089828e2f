//! The sections that tell what happened and how that is known.

use super::text::{Table, block, code, prose};
use super::{Page, todo};
use crate::diagnose::{Confidence, Diagnosis};
use crate::event::What;
use crate::text::{command_line, count, duration, plural};
use crate::words::status;

/// Facts that are shown of one verdict.
const FACTS: usize = 12;
/// Further verdicts that the summary has.
const OTHERS: usize = 3;
/// Columns of a command in a sentence.
const COMMAND_WIDTH: usize = 160;

impl Page<'_> {
    /// Title and summary.
    pub fn opening(&self) -> String {
        let Some(main) = self.main() else {
            return "# Incident\n".to_owned();
        };
        let (case, header) = (&self.subject.case, &self.subject.case.header);
        let jail = &header.jail;
        let from = case.gate_ns();
        let to = self.end_ns().max(from);
        let mut text = format!(
            "# Incident: {} in jail {}, {}\n\n\
             Draft by procjail {} from a trace of the kernel's events. {} marks what only people know.\n\n\
             ## Summary\n\n",
            code(&main.id),
            code(&jail.name),
            self.date(from),
            env!("CARGO_PKG_VERSION"),
            "**TODO:**",
        );
        text += &format!("{}\n\n", prose(&main.verdict()));
        text += &format!(
            "The program was {}, on host {}. It ran from {} to {} UTC ({}) and {}. The verdict is {} ({}); the trace \
             is {}.\n\n",
            code(&command_line(&jail.command, COMMAND_WIDTH)),
            code(&header.host.hostname),
            self.instant(from),
            self.instant(to),
            duration(to - from),
            self.ended(),
            code(&main.id),
            main.sure().word(),
            match case.complete() && self.subject.missing.is_none() {
                true => "complete",
                false => "not complete",
            },
        );
        let others = self.subject.explanation.diagnoses.iter().skip(1);
        for one in others.clone().take(OTHERS) {
            let sure = one.sure().word();
            text += &format!(
                "Beside that ({}, {sure}): {}\n\n",
                code(&one.id),
                prose(&one.verdict())
            );
        }
        let more = others.count().saturating_sub(OTHERS) as u64;
        if more > 0 {
            let verdicts = plural(more, "further verdict is", "further verdicts are");
            text += &format!("{verdicts} below.\n\n");
        }
        text += &todo("who was affected, since when, and is it over?");
        text
    }

    fn ended(&self) -> String {
        let case = &self.subject.case;
        let footer = case.footer.as_ref();
        let ended = footer
            .and_then(|footer| footer.status.as_ref())
            .or_else(|| case.status(case.pid1()?));
        match ended {
            Some(ended) if ended.signal.is_some() => format!("was {}", prose(&status(ended))),
            Some(ended) => prose(&status(ended)),
            None => "the trace does not tell how it ended".to_owned(),
        }
    }

    /// What it cost, as far as the trace can know.
    pub fn impact(&self) -> String {
        let case = &self.subject.case;
        let mut facts = Vec::new();
        let deaths = case.deaths();
        let killed = deaths
            .iter()
            .filter(|id| case.status(**id).is_some_and(|end| end.signal.is_some()))
            .count() as u64;
        let failed = deaths
            .iter()
            .filter(|id| {
                case.status(**id)
                    .is_some_and(|end| end.code.is_some_and(|code| code != 0))
            })
            .count() as u64;
        if killed > 0 {
            facts.push(format!(
                "{} ended by a signal",
                plural(killed, "process", "processes")
            ));
        }
        if failed > 0 {
            facts.push(format!(
                "{} ended with an exit code other than 0",
                plural(failed, "process", "processes")
            ));
        }
        let kills = case.oom_kills().count() as u64;
        if kills > 0 {
            facts.push(plural(kills, "OOM kill", "OOM kills"));
        }
        if let Some(footer) = &case.footer {
            facts.push(format!(
                "{} in all, PID 1 included",
                plural(footer.processes, "process", "processes")
            ));
            if footer.zombies > 0 {
                let zombies = plural(footer.zombies, "zombie", "zombies");
                facts.push(format!("{zombies} left by PID 1"));
            }
            let launcher = footer.exit_code.map_or_else(String::new, |code| {
                format!("; exit code {code} of the launcher")
            });
            facts.push(format!(
                "{} from the start to the end of PID 1{launcher}",
                duration(footer.duration_ns),
            ));
        }
        let left = case.each(|what| match what {
            What::LeakCheck(check) => Some(check),
            _ => None,
        });
        for (event, check) in left {
            facts.push(match check.found_any() {
                true => format!("left behind on the host: see event {}", event.seq),
                false => "nothing of it is left on the host".to_owned(),
            });
        }
        format!(
            "## Impact\n\n{}\n{}",
            list(facts),
            todo("requests failed, users affected, seconds down, restarts.")
        )
    }

    /// The chain of causes.
    pub fn causes(&self) -> String {
        let mut text = "## Trigger, root cause, contributing factors\n\n".to_owned();
        let diagnoses = &self.subject.explanation.diagnoses;
        if let Some((main, others)) = diagnoses.split_first() {
            if let Some(fact) = main
                .evidence
                .iter()
                .filter(|fact| fact.time_ns.is_some())
                .min_by_key(|fact| fact.seq)
            {
                text += &format!(
                    "**Trigger** (draft, the first event that the verdict goes by): at {} UTC, {} (event {}).\n\n",
                    fact.time_ns.map_or_else(String::new, |ns| self.time(ns)),
                    prose(&fact.shows),
                    fact.seq.map_or_else(String::new, |seq| seq.to_string()),
                );
            }
            text += &format!(
                "**The verdict, and what followed** (draft):\n\n{}\n",
                chain(std::slice::from_ref(main), 0)
            );
            if !others.is_empty() {
                text += &format!(
                    "**Beside it** (contributing, or another matter):\n\n{}\n",
                    chain(others, 0)
                );
            }
        }
        text += &todo(
            "root cause: why the program, its configuration or its surroundings came to this. The trace shows how it \
             went, not why it was built so.",
        );
        text += &format!(
            "\n{}",
            todo("contributing factors: what made it likelier, or worse.")
        );
        text
    }

    /// What should have told somebody.
    pub fn detection(&self) -> String {
        format!(
            "## Detection\n\n{}\n{}",
            todo("what told us, and how long after the first event above?"),
            todo(
                "which signal existed and was missed: a flag that was false, an event lost, a metric averaged away?"
            )
        )
    }

    /// Claim by claim, what shows it.
    pub fn evidence(&self) -> String {
        let clock = self.subject.clock();
        let mut table = Table::new(&[
            "claim",
            "how sure",
            "what shows it",
            "-event",
            "-since start, s",
        ]);
        for one in self.diagnoses() {
            for fact in one.evidence.iter().take(FACTS) {
                table.row([
                    code(&one.id),
                    one.sure().word().to_owned(),
                    prose(&fact.shows),
                    fact.seq
                        .map_or_else(|| "–".to_owned(), |seq| seq.to_string()),
                    fact.time_ns.map_or_else(String::new, |time_ns| {
                        let since = clock.since_gate_s(time_ns);
                        since[..since.len().saturating_sub(3)].to_owned()
                    }),
                ]);
            }
            let more = one.evidence.len().saturating_sub(FACTS) as u64;
            if more > 0 {
                let text = format!(
                    "and {} (`procjail explain --all`)",
                    plural(more, "more fact", "more facts")
                );
                table.row([code(&one.id), String::new(), text]);
            }
        }
        let table = table.finish();
        format!(
            "## Evidence\n\n{}",
            table.unwrap_or_else(|| "There is none in the trace.\n".to_owned())
        )
    }

    /// What else it could have been.
    pub fn ruled_out(&self) -> String {
        let mut table = Table::new(&["claim", "it could have been", "what excludes that"]);
        for one in self.diagnoses() {
            for other in &one.ruled_out {
                table.row([code(&one.id), prose(&other.what), prose(&other.because)]);
            }
        }
        let table = table.finish();
        format!(
            "## Ruled out\n\n{}",
            table.unwrap_or_else(|| "Nothing else was looked at.\n".to_owned())
        )
    }

    /// What not to try again.
    pub fn false_starts(&self) -> String {
        format!(
            "## False starts\n\n{}",
            todo("what was suspected or tried first and did not help, so that nobody repeats it.")
        )
    }

    /// What is not known.
    pub fn questions(&self) -> String {
        let mut facts = Vec::new();
        for one in self.diagnoses() {
            if one.sure() != Confidence::Proven {
                let why = match one.weakened.is_empty() {
                    true => String::new(),
                    false => format!(": {}", prose(&one.weakened.join("; "))),
                };
                facts.push(format!(
                    "{} is only {}{why}",
                    code(&one.id),
                    one.sure().word()
                ));
            }
        }
        for one in &self.subject.explanation.unavailable {
            facts.push(format!(
                "cannot be told: {}; {}",
                prose(&one.what),
                prose(&one.because)
            ));
        }
        if let Some(missing) = &self.subject.missing {
            facts.push(format!("the trace: {}", prose(missing)));
        }
        if facts.is_empty() {
            facts.push(
                "every verdict above is proven, and nothing is missing from the trace".to_owned(),
            );
        }
        format!(
            "## What still puzzles\n\n{}\n{}",
            list(facts),
            todo("what does not fit, and how sure are we?")
        )
    }

    /// Where it happened, and how whole the recording is.
    pub fn environment(&self) -> String {
        let case = &self.subject.case;
        let (header, host) = (&case.header, &case.header.host);
        let mut table = Table::new(&["what", "value"]);
        let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
        row("host", code(&host.hostname));
        row(
            "kernel",
            code(&format!("Linux {} {}", host.kernel, host.architecture)),
        );
        row("cgroups", code(&host.cgroup_mode));
        row("CPUs", host.cpus.to_string());
        row("memory", crate::text::bytes(host.memory_bytes));
        row("traced by", code(&format!("procjail {}", header.procjail)));
        row(
            "explained by",
            code(&format!("procjail {}", env!("CARGO_PKG_VERSION"))),
        );
        row("jail", code(&header.jail.name));
        row("cgroup", code(&header.jail.cgroup));
        for (file, value) in &header.jail.limits {
            row("limit", code(&format!("{file} {}", value.trim())));
        }
        if header.jail.limits.is_empty() {
            row("limit", "none of its own".to_owned());
        }
        let launcher = header.jail.launcher.as_ref();
        let container = header.jail.container.as_ref();
        let stop_timeout_ns = launcher
            .map(|launcher| launcher.stop_timeout_ns)
            .or_else(|| container?.stop_timeout_ns);
        if let Some(stop_timeout_ns) = stop_timeout_ns {
            row("stop timeout", duration(stop_timeout_ns));
        }
        for (name, value) in &header.jail.environment {
            row("variable", code(&format!("{name}={value}")));
        }
        for probe in header.probes.iter().filter(|probe| !probe.attached) {
            let error = probe.error.as_deref().unwrap_or("not attached");
            let text = format!(
                "{}: {error}; the trace lacks {}",
                probe.name, probe.provides
            );
            row("probe missing", prose(&text));
        }
        for lack in &host.lacks {
            let text = format!("{} (Linux {}): {}", lack.feature, lack.since, lack.lost);
            row("kernel lacks", prose(&text));
        }
        let events = format!("{} recorded", count(case.total_events()));
        row("events", events);
        let losses: Vec<String> = case
            .losses()
            .iter()
            .map(|lost| format!("{} {}", count(lost.count), lost.event_kind))
            .collect();
        row(
            "lost",
            match losses.is_empty() {
                true => "none".to_owned(),
                false => prose(&losses.join(", ")),
            },
        );
        if let Some(missing) = &self.subject.missing {
            row("missing", prose(missing));
        }
        format!("## Environment\n\n{}", table.finish().unwrap_or_default())
    }

    /// How the jail was built, step by step.
    pub(super) fn plan(&self) -> Option<String> {
        let plan = self.subject.case.header.plan();
        (!plan.is_empty()).then(|| block(plan.iter().map(String::as_str)))
    }
}

/// Verdicts, and below each what followed.
fn chain(diagnoses: &[Diagnosis], depth: usize) -> String {
    diagnoses
        .iter()
        .map(|one| {
            format!(
                "{:indent$}- {} ({}): {}\n{}",
                "",
                code(&one.id),
                one.sure().word(),
                prose(&one.verdict()),
                chain(&one.consequences, depth + 1),
                indent = 2 * depth
            )
        })
        .collect()
}

fn list(items: Vec<String>) -> String {
    items.iter().map(|item| format!("- {item}\n")).collect()
}
