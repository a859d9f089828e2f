//! How to see it again.

use super::text::{block, code, prose};
use super::{Page, todo};
use crate::text::{command_line, quote};

/// Scenarios that are named: those of the verdicts that matter most come first.
const SCENARIOS: usize = 6;
/// Columns of a command that can be copied; longer ones are cut.
const COMMAND_WIDTH: usize = 4_000;

impl Page<'_> {
    /// The lab's scenario, and the run's own command.
    pub fn reproduction(&self) -> String {
        let mut text = "## Reproduction\n\n".to_owned();
        let mut scenarios: Vec<&str> = Vec::new();
        for one in self.diagnoses() {
            let scenario = one.scenario.as_deref();
            if let Some(scenario) = scenario.filter(|id| !scenarios.contains(id))
                && scenarios.len() < SCENARIOS
            {
                scenarios.push(scenario);
            }
        }
        if !scenarios.is_empty() {
            let commands: Vec<String> = scenarios
                .iter()
                .map(|scenario| format!("procjail lab {scenario}"))
                .collect();
            text += &format!(
                "The same kind of failure, made on purpose, each in a jail of its own:\n\n{}\n",
                block(commands.iter().map(String::as_str))
            );
        }
        let jail = &self.subject.case.header.jail;
        text += &format!(
            "This run, with its limits, and a new trace of it:\n\n{}\n",
            block([self.command().as_str()])
        );
        let other: Vec<String> = self.other_limits().map(|limit| code(&limit)).collect();
        if !other.is_empty() {
            text += &format!("Limits that no option sets: {}.\n\n", other.join(", "));
        }
        if let Some(plan) = self.plan() {
            text += &format!(
                "File systems, users and resource limits are not in that line; the jail {} was built by these \
                 steps:\n\n{plan}\n",
                prose(&jail.name)
            );
        }
        text += &todo("the smallest input that does it, and how often.");
        text
    }

    /// The command line of a run like this one.
    fn command(&self) -> String {
        let jail = &self.subject.case.header.jail;
        let mut words = vec!["procjail trace -o trace.jsonl.zst".to_owned()];
        words.extend(self.options());
        words.push("--".to_owned());
        words.push(command_line(&jail.command, COMMAND_WIDTH));
        words.join(" ")
    }

    fn options(&self) -> Vec<String> {
        let jail = &self.subject.case.header.jail;
        let limit = |file: &str| jail.limits.get(file).map(|value| value.trim());
        let number = |file: &str| limit(file)?.parse::<u64>().ok();
        let memory = number("memory.max").or_else(|| number("memory.limit_in_bytes"));
        let mut options = Vec::new();
        let mut option = |name: &str, value: Option<String>| {
            options.extend(value.map(|value| format!("--{name} {}", quote(&value))));
        };
        option("memory", memory.map(size));
        option("memory-high", number("memory.high").map(size));
        // On v1 the limit is that of memory and swap together.
        let both = number("memory.memsw.limit_in_bytes");
        let swap =
            number("memory.swap.max").or_else(|| Some(both?.saturating_sub(memory.unwrap_or(0))));
        option("swap", swap.map(size));
        option("pids", limit("pids.max").map(str::to_owned));
        option("cpus", self.cpus());
        let stop_timeout_ns = match (&jail.launcher, &jail.container) {
            (Some(launcher), _) => Some(launcher.stop_timeout_ns),
            (None, Some(container)) => container.stop_timeout_ns,
            (None, None) => None,
        };
        // The default.
        if let Some(stop_timeout_ns) = stop_timeout_ns.filter(|ns| *ns != 10_000_000_000) {
            let ms = stop_timeout_ns / 1_000_000;
            let time = match ms % 1_000 {
                0 => format!("{}s", ms / 1_000),
                _ => format!("{ms}ms"),
            };
            option("stop-timeout", Some(time));
        }
        // Others pass signals on at once.
        if jail
            .launcher
            .as_ref()
            .is_none_or(|launcher| launcher.stop_as_is)
        {
            options.push("--stop-as-is".to_owned());
        }
        if limit("memory.oom.group") == Some("1") {
            options.push("--oom-group".to_owned());
        }
        options
    }

    /// Processors' worth of time, from quota and period.
    fn cpus(&self) -> Option<String> {
        let limits = &self.subject.case.header.jail.limits;
        let (quota, period) = match limits.get("cpu.max") {
            Some(both) => both.trim().split_once(' ')?,
            None => (
                limits.get("cpu.cfs_quota_us")?.trim(),
                limits
                    .get("cpu.cfs_period_us")
                    .map_or("100000", |period| period.trim()),
            ),
        };
        let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
        // To a thousandth, which is as fine as anybody asks for.
        (quota > 0.0 && period > 0.0)
            .then(|| ((quota / period * 1_000.0).round() / 1_000.0).to_string())
    }

    /// Limits that are in no option of [`Self::options`].
    fn other_limits(&self) -> impl Iterator<Item = String> {
        const TOLD: &[&str] = &[
            "memory.max",
            "memory.limit_in_bytes",
            "memory.high",
            "memory.swap.max",
            "memory.memsw.limit_in_bytes",
            "memory.oom.group",
            "pids.max",
            "cpu.max",
            "cpu.cfs_quota_us",
            "cpu.cfs_period_us",
        ];
        let limits = &self.subject.case.header.jail.limits;
        limits
            .iter()
            .filter(|(file, _)| !TOLD.contains(&file.as_str()))
            .map(|(file, value)| format!("{file} {}", value.trim()))
    }
}

/// A size as an option takes it: in the largest unit that is exact.
fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "G"), (20, "M"), (10, "K")];
    UNITS
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(
            || bytes.to_string(),
            |(shift, unit)| format!("{}{unit}", bytes >> shift),
        )
}

#[cfg(test)]
mod tests {
    use super::super::Page;
    use crate::event::story;
    use crate::export::fixture;

    /// The options for these limits.
    fn options(limits: &[(&str, &str)]) -> String {
        let mut header = story::header_line();
        header.jail.launcher.get_or_insert_default().stop_timeout_ns = 1_500_000_000;
        let limits = limits
            .iter()
            .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()));
        header.jail.limits = limits.collect();
        let subject = fixture::subject(&header, &[], None);
        Page { subject: &subject }.options().join(" ")
    }

    #[test]
    fn options_set_the_limits_of_either_hierarchy() {
        assert_eq!(options(&[]), "--stop-timeout 1500ms");
        let v2 = [
            ("memory.max", "41943040\n"),
            ("memory.high", "30000001"),
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("pids.max", "60"),
            ("cpu.max", "50000 100000"),
        ];
        assert_eq!(
            options(&v2),
            "--memory 40M --memory-high 30000001 --swap 0 --pids 60 --cpus 0.5 --stop-timeout 1500ms --oom-group"
        );
        let v1 = [
            ("memory.limit_in_bytes", "1073741824"),
            ("memory.memsw.limit_in_bytes", "1610612736"),
            ("cpu.cfs_quota_us", "150000"),
            ("cpu.cfs_period_us", "100000"),
        ];
        assert_eq!(
            options(&v1),
            "--memory 1G --swap 512M --cpus 1.5 --stop-timeout 1500ms"
        );
    }

    #[test]
    fn limits_that_are_no_numbers_are_no_options() {
        let odd = [
            ("memory.max", "max"),
            ("cpu.max", "max 100000"),
            ("cpu.cfs_quota_us", "-1"),
            ("pids.max", "$(reboot)"),
        ];
        assert_eq!(options(&odd), "--pids '$(reboot)' --stop-timeout 1500ms");
    }
}
