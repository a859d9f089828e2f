//! A fork storm and a signal storm: what is lost with default settings, and how much slower APP gets.

use std::path::Path;

use anyhow::Context;
use procjail::trace::Footer;

use super::measure::{Clock, Contestant, bar, mount_namespace, race, ratio_of, table};
use crate::workspace::{Profile, build_optimised};

/// The tracepoints that procjail records of the same storms, with the least a script can do with them.
const BPFTRACE: &str = r#"
tracepoint:sched:sched_process_fork { printf("%llu fork %d %d\n", nsecs, args->parent_pid, args->child_pid); }
tracepoint:sched:sched_process_exec { printf("%llu exec %d %s\n", nsecs, pid, str(args->filename)); }
tracepoint:sched:sched_process_exit { printf("%llu exit %d %s\n", nsecs, pid, comm); }
tracepoint:signal:signal_generate { printf("%llu generate %d %d %d\n", nsecs, pid, args->sig, args->result); }
tracepoint:signal:signal_deliver { printf("%llu deliver %d %d\n", nsecs, pid, args->sig); }
"#;

/// A storm, and how large it is for whom.
struct Storm {
    subcommand: &'static str,
    /// How many for the loss.
    full: u64,
    /// How many for the comparison, one run of each contestant a round.
    compared: u64,
    /// How many for strace, which is far slower; times are per piece, so that they compare.
    stopped: u64,
}

const FORKS: Storm = Storm {
    subcommand: "fork-storm",
    full: 50_000,
    compared: 700,
    stopped: 100,
};
const SIGNALS: Storm = Storm {
    subcommand: "signal-storm",
    full: 1_000_000,
    compared: 50_000,
    stopped: 10_000,
};

/// Most that the traced app may be slower in the fork storm.
const FORK_SLOWDOWN: f64 = 1.05;

/// Measures and prints; whether the bars are met.
pub fn run(rounds: usize) -> anyhow::Result<bool> {
    let (procjail, misbehave) = build_optimised(Profile::Dist)?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let forks = storm(&FORKS, rounds, &procjail, &misbehave, directory.path())?;
    let signals = storm(&SIGNALS, rounds, &procjail, &misbehave, directory.path())?;

    let mut met = bar(
        &format!(
            "{} fork, exec, exit: {} events, {} lost",
            FORKS.full, forks.events, forks.lost
        ),
        forks.lost == 0 && forks.events >= 3 * FORKS.full,
    );
    met &= bar(
        &format!(
            "{} signals: {} events, {} lost",
            SIGNALS.full, signals.events, signals.lost
        ),
        signals.lost == 0 && signals.events >= 2 * SIGNALS.full,
    );
    met &= bar(
        &format!(
            "the fork storm is {:.1} % slower traced than untraced, at most {:.0} %",
            (forks.slowdown - 1.0) * 100.0,
            (FORK_SLOWDOWN - 1.0) * 100.0
        ),
        forks.slowdown <= FORK_SLOWDOWN,
    );
    Ok(met)
}

/// What came out of a storm.
struct Outcome {
    events: u64,
    lost: u64,
    slowdown: f64,
}

fn storm(
    storm: &Storm,
    rounds: usize,
    procjail: &Path,
    misbehave: &Path,
    directory: &Path,
) -> anyhow::Result<Outcome> {
    let procjail = procjail.display().to_string();
    let misbehave = misbehave.display().to_string();
    let file = directory.join("trace.jsonl").display().to_string();
    let script = directory.join("script.bt").display().to_string();
    let log = directory.join("log").display().to_string();
    std::fs::write(&script, BPFTRACE)?;

    let traced = ["trace", "--quiet", "-o", &file, "--"];
    let one = |name: &str, count: u64, words: &[&str]| {
        let count_text = count.to_string();
        let command = [words, &[misbehave.as_str(), storm.subcommand, &count_text]].concat();
        Contestant::new(name, Clock::Printed(count as f64), &command)
    };
    let app = format!("{misbehave} {} {}", storm.subcommand, storm.compared);
    let bpftrace = Contestant::new(
        "bpftrace",
        Clock::Printed(storm.compared as f64),
        &["bpftrace", "-o", &log, &script, "-c", &app],
    )
    .in_namespace(mount_namespace(
        "mount -t tracefs tracefs /sys/kernel/tracing; mount -t debugfs debugfs /sys/kernel/debug",
    )?);

    println!(
        "{}, {} pieces ({} for strace), {rounds} rounds:",
        storm.subcommand, storm.compared, storm.stopped
    );
    let mut contestants = vec![
        one("procjail run", storm.compared, &[&procjail, "run", "--"]),
        one(
            "procjail trace",
            storm.compared,
            &[&[procjail.as_str()], &traced[..]].concat(),
        ),
        one("no jail", storm.compared, &[]),
        bpftrace,
        one(
            "strace -f -e trace=none",
            storm.stopped,
            &["strace", "-f", "-o", &log, "-e", "trace=none"],
        ),
    ];
    race(&mut contestants, rounds);
    table(&contestants, "µs", 1e3);

    // Losses, with as many as were promised.
    let mut full = one(
        "procjail trace",
        storm.full,
        &[&[procjail.as_str()], &traced[..]].concat(),
    );
    let per_piece = full.run()?;
    let footer = read_footer(Path::new(&file))?;
    let lost = footer.lost.iter().map(|lost| lost.count).sum();
    println!(
        "{} pieces traced: {:.2} µs each\n",
        storm.full,
        per_piece / 1e3
    );
    Ok(Outcome {
        events: footer.events,
        lost,
        slowdown: ratio_of(&contestants, "procjail trace", "procjail run"),
    })
}

/// The last line of a trace, read from the end: the file may be large.
fn read_footer(path: &Path) -> anyhow::Result<Footer> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file =
        std::fs::File::open(path).with_context(|| format!("no trace at {}", path.display()))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(1 << 20)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).context("the trace has no footer")
}
