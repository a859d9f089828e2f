//! A case of the field test: one file, a real program and the truth about what happens to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use regex::Regex;
use serde::{Deserialize, Deserializer, de::Error};

/// A case file. tests/field/README.md describes the fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The file's name.
    #[serde(skip)]
    pub name: String,
    /// The folder's name.
    #[serde(skip)]
    pub family: String,
    /// What happens, in words.
    pub truth: String,
    /// The public report or the manual page that it is taken from.
    pub source: String,
    /// Played by `--quick`.
    #[serde(default)]
    pub quick: bool,
    #[serde(default)]
    pub packages: Packages,
    /// What the machine must have.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// Options of `procjail trace`.
    #[serde(default)]
    pub options: Vec<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Shell lines before the run.
    #[serde(default)]
    pub setup: Vec<String>,
    /// A shell line that succeeds when the program is where `act` wants it.
    pub ready: Option<String>,
    /// Shell lines that prove from other evidence, after the run, that the truth happened.
    #[serde(default)]
    pub proof: Vec<String>,
    /// Shell lines after everything.
    #[serde(default)]
    pub undo: Vec<String>,
    /// The run is killed then.
    #[serde(default = "default_deadline", deserialize_with = "time")]
    pub deadline: Duration,
    /// First verdicts that are right.
    pub first: Vec<Pattern>,
    /// Verdicts that are right, but not first.
    #[serde(default)]
    pub also: Vec<Pattern>,
    /// Verdicts without which the first one is not enough.
    #[serde(default)]
    pub must: Vec<Pattern>,
    /// Claims that are false.
    #[serde(default)]
    pub forbid: Vec<Pattern>,
    #[serde(default)]
    pub act: Vec<Act>,
    /// Small files in the case's directory.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// Debian's, PyPI's and npm's names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Packages {
    pub apt: BTreeSet<String>,
    pub pip: BTreeSet<String>,
    pub npm: BTreeSet<String>,
}

/// What a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// The memory controller of cgroup v1.
    CgroupV1,
    /// The memory controller of cgroup v2.
    CgroupV2,
    /// /dev/fuse.
    Fuse,
}

impl Need {
    /// Whether this machine has it.
    pub fn met(self) -> bool {
        let v2 = || {
            let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
            controllers.is_ok_and(|all| all.split_whitespace().any(|one| one == "memory"))
        };
        match self {
            Need::CgroupV1 => Path::new("/sys/fs/cgroup/memory").is_dir() && !v2(),
            Need::CgroupV2 => v2(),
            Need::Fuse => Path::new("/dev/fuse").exists(),
        }
    }
}

/// What is done to the run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// After the program was ready.
    #[serde(deserialize_with = "time")]
    pub at: Duration,
    #[serde(rename = "do")]
    pub what: Deed,
}

/// One thing that is done.
#[derive(Debug, PartialEq, Eq)]
pub enum Deed {
    /// `SIGNAL to TARGET`.
    Signal(i32, Target),
    /// Anything else: a shell line.
    Shell(String),
}

/// Who gets a signal.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// The launcher: a stop.
    Procjail,
    /// The jail's PID 1, from the host.
    First,
    /// All processes of the jail with this name.
    Named(String),
}

impl<'de> Deserialize<'de> for Deed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Deed, D::Error> {
        let text = String::deserialize(from)?;
        let Some((signal, target)) = text.split_once(" to ") else {
            return Ok(Deed::Shell(text));
        };
        Ok(match (signal_number(signal), target) {
            (None, _) => Deed::Shell(text),
            (Some(number), "procjail") => Deed::Signal(number, Target::Procjail),
            (Some(number), "PID 1") => Deed::Signal(number, Target::First),
            (Some(number), name) => Deed::Signal(number, Target::Named(name.to_owned())),
        })
    }
}

fn signal_number(name: &str) -> Option<i32> {
    Some(match name {
        "HUP" => libc::SIGHUP,
        "INT" => libc::SIGINT,
        "QUIT" => libc::SIGQUIT,
        "KILL" => libc::SIGKILL,
        "USR1" => libc::SIGUSR1,
        "USR2" => libc::SIGUSR2,
        "TERM" => libc::SIGTERM,
        "CONT" => libc::SIGCONT,
        "STOP" => libc::SIGSTOP,
        "WINCH" => libc::SIGWINCH,
        "ABRT" => libc::SIGABRT,
        _ => return None,
    })
}

/// A verdict: its identifier, and what its text must match.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct Pattern {
    pub id: Option<String>,
    pub says: Option<Regex>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Id(String),
    Both(Both),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Both {
    id: Option<String>,
    says: Option<String>,
}

impl TryFrom<Written> for Pattern {
    type Error = String;

    fn try_from(written: Written) -> Result<Pattern, String> {
        let Both { id, says } = match written {
            Written::Id(id) => Both {
                id: Some(id),
                says: None,
            },
            Written::Both(both) => both,
        };
        if id.is_none() && says.is_none() {
            return Err("a pattern needs `id` or `says`".to_owned());
        }
        let says = says.map(|says| Regex::new(&format!("(?is){says}")));
        Ok(Pattern {
            id,
            says: says.transpose().map_err(|error| error.to_string())?,
        })
    }
}

fn default_deadline() -> Duration {
    Duration::from_secs(20)
}

/// `1s`, `1.5s` or `300ms`.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(&text), 1.0),
    };
    let seconds = number.parse::<f64>().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds * unit).ok())
        .ok_or_else(|| D::Error::custom(format!("{text:?} is no time such as 1.5s or 300ms")))
}

/// All case files below a directory, by family: the directory that a file is in.
pub fn load(root: &Path) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for path in entries(root)? {
        if path.is_dir() {
            cases.extend(load(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            cases.push(read(&path).with_context(|| path.display().to_string())?);
        }
    }
    Ok(cases)
}

fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> anyhow::Result<Case> {
    let name = |path: &Path| {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        stem.map(str::to_owned).unwrap_or_default()
    };
    let mut case: Case = toml::from_str(&fs::read_to_string(path)?)?;
    case.name = name(path);
    case.family = path.parent().map(name).unwrap_or_default();
    ensure!(!case.command.is_empty(), "the command is empty");
    ensure!(!case.first.is_empty(), "there is no right first verdict");
    ensure!(
        case.files.keys().all(|file| !file.contains("..")),
        "a file lies outside of the case's directory"
    );
    Ok(case)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::root;

    /// Verdicts that cases may name before a rule gives them.
    const PLANNED: [&str; 10] = [
        "ended-on-request",
        "exited-by-itself",
        "setup-failed",
        "detached",
        "no-finding",
        "term-shutdown-unfinished",
        "term-deadlock",
        "term-reload",
        "term-reraised-pid1",
        "term-lost-before-exec",
    ];

    fn parse(text: &str) -> Result<Case, toml::de::Error> {
        toml::from_str(text)
    }

    const SMALL: &str = "truth = 't'\nsource = 's'\ncommand = ['true']\n";

    #[test]
    fn every_case_parses_and_names_known_verdicts() {
        let catalogue = fs::read_to_string(root().join("docs/catalogue.md")).expect("catalogue");
        let mut known: BTreeSet<&str> = PLANNED.into();
        known.extend(catalogue.lines().filter_map(|line| line.split('`').nth(1)));
        let mut cases = load(&root().join("tests/field/cases")).expect("case files");
        let held_back = root().join("tests/field/held-back");
        if held_back.exists() {
            cases.extend(load(&held_back).expect("case files"));
        }
        let mut names = BTreeSet::new();
        for case in &cases {
            assert!(names.insert(&case.name), "two cases named {}", case.name);
            let lists = [&case.first, &case.also, &case.must, &case.forbid];
            for pattern in lists.into_iter().flatten() {
                let id = pattern.id.as_deref();
                assert!(
                    id.is_none_or(|id| known.contains(id)),
                    "{}: {id:?}",
                    case.name
                );
            }
            let url = case.source.starts_with("https://");
            let manual = case.source.ends_with(')');
            assert!(
                url || manual,
                "{}: the source is no URL and no manual page",
                case.name
            );
        }
    }

    #[test]
    fn deeds_are_signals_or_shell_lines() {
        let text = format!(
            "{SMALL}first = ['no-finding']\n\
             act = [{{at = '1.5s', do = 'TERM to procjail'}}, {{at = '20ms', do = 'KILL to PID 1'}}, \
             {{at = '3s', do = 'USR2 to php-fpm8.2'}}, {{at = '3s', do = 'echo x to y'}}]"
        );
        let acts = parse(&text).expect("a case").act;
        assert_eq!(acts[0].at, Duration::from_millis(1500));
        assert_eq!(acts[0].what, Deed::Signal(15, Target::Procjail));
        assert_eq!(acts[1].at, Duration::from_millis(20));
        assert_eq!(acts[1].what, Deed::Signal(9, Target::First));
        let named = Target::Named("php-fpm8.2".to_owned());
        assert_eq!(acts[2].what, Deed::Signal(12, named));
        assert_eq!(acts[3].what, Deed::Shell("echo x to y".to_owned()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = [
            "first = [{}]",
            "first = [{ id = 'x', say = 'y' }]",
            "first = [{ says = '(' }]",
            "first = ['x']\ndeadline = 'soon'",
            "first = ['x']\nneeds = ['luck']",
            "first = ['x']\nacts = []",
        ];
        for text in refused {
            assert!(parse(&format!("{SMALL}{text}")).is_err(), "{text}");
        }
        assert!(parse(&format!("{SMALL}first = ['x', {{ says = 'y' }}]")).is_ok());
    }
}
