//! How far programs let their memory grow by themselves: what their arguments and environment say, or what they do
//! by default. Only for programs whose own limit is documented.

use crate::diagnose::program_of;
use crate::text;

/// What a limit of a program's own is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A heap with a garbage collector.
    Heap,
    Cache,
    Data,
    /// The memory of one request.
    Request,
}

impl Bound {
    pub fn words(self) -> &'static str {
        match self {
            Self::Heap => "its heap",
            Self::Cache => "its cache",
            Self::Data => "its data",
            Self::Request => "what it allocates",
        }
    }
}

/// How far a program lets its memory grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    pub bound: Bound,
    /// For a sentence after "started": `with -Xmx256m`.
    pub setting: String,
    /// Bytes; none if there is no limit.
    pub bytes: Option<u64>,
    /// It is known what it is: it was set for this process, or the default is the same everywhere.
    pub explicit: bool,
    /// The program reserves that many addresses at its start.
    pub reserved: bool,
    /// The program exits with 3 when it gives up (ExitOnOutOfMemoryError of a JVM).
    pub exits_with_3: bool,
    /// What the limit does not bound; empty if nothing.
    pub beside: &'static str,
    advice: Advice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advice {
    Java,
    Node,
    V8,
    Go,
    Memcached,
    Redis,
    Php,
}

impl Ceiling {
    /// What to do so that it fits a limit.
    pub fn advice(&self, limit: u64) -> String {
        let part = |percent: u64| limit / 100 * percent;
        match self.advice {
            Advice::Java => format!(
                "Set -Xmx to about {}, so that it fits.",
                text::bytes(part(70))
            ),
            Advice::Node => format!(
                "Set --max-old-space-size to about {} (MiB), so that it fits, less with worker threads.",
                part(70) >> 20
            ),
            Advice::V8 => {
                "Find which of the two grew (process.memoryUsage(): heapUsed against external and \
                           arrayBuffers), and bound that one so that it fits."
                    .to_owned()
            }
            Advice::Go => format!(
                "Set GOMEMLIMIT to about {}, so that it fits.",
                text::bytes(part(90))
            ),
            Advice::Memcached => {
                format!("Set -m to about {} (MiB), so that it fits.", part(70) >> 20)
            }
            Advice::Redis => format!(
                "Set maxmemory to about {}, so that it fits, and a maxmemory-policy.",
                text::bytes(part(60))
            ),
            Advice::Php => format!(
                "Set memory_limit so that it fits as often as there are requests at a time, {} in all.",
                text::bytes(part(80))
            ),
        }
    }
}

const BESIDE_JVM: &str =
    "direct buffers (-XX:MaxDirectMemorySize), metaspace, code, and the stacks of threads";
const BESIDE_NODE: &str =
    "Buffers and other memory outside V8's heap, and the heaps of worker threads";

/// By what the arguments and the environment say, else by the program's default on a machine with so much memory.
pub fn ceiling(
    argv: &[String],
    variable: impl Fn(&str) -> Option<String>,
    machine: u64,
) -> Option<Ceiling> {
    explicit(argv, variable, machine).or_else(|| by_default(argv, machine))
}

/// By what the arguments and the environment say alone.
pub fn explicit(
    argv: &[String],
    variable: impl Fn(&str) -> Option<String>,
    machine: u64,
) -> Option<Ceiling> {
    let program = program_of(argv.first()?);
    let rest = argv.get(1..).unwrap_or_default();
    let words = |names: &[&str]| -> Vec<String> {
        let values = names.iter().filter_map(|name| variable(name));
        let words = values.flat_map(|value| {
            let words = value.split_whitespace().map(str::to_owned);
            words.collect::<Vec<_>>()
        });
        words.chain(rest.iter().cloned()).collect()
    };
    match program {
        "java" | "javaw" | "jsvc" => {
            words(&["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"])
                .iter()
                .filter_map(|option| java(option, machine))
                .next_back()
        }
        "node" | "nodejs" => words(&["NODE_OPTIONS"])
            .iter()
            .filter_map(|option| node(option))
            .next_back(),
        "memcached" => {
            let mebibytes = option(rest, "-m", "--memory-limit")?.parse::<u64>().ok()?;
            Some(memcached(
                format!("with -m {mebibytes}"),
                mebibytes.checked_mul(1 << 20)?,
                true,
            ))
        }
        "redis-server" | "valkey-server" => {
            let value = option(rest, "--maxmemory", "--maxmemory")?;
            let bytes = size(value).filter(|bytes| *bytes > 0);
            Some(redis(format!("with --maxmemory {value}"), bytes, true))
        }
        program if program.starts_with("php") => {
            let value = rest
                .iter()
                .find_map(|word| word.split_once("memory_limit=").map(|(_, value)| value))?;
            Some(Ceiling {
                bound: Bound::Request,
                setting: format!("with memory_limit={value}"),
                bytes: size(value),
                explicit: true,
                reserved: false,
                exits_with_3: false,
                beside: "other requests at the same time",
                advice: Advice::Php,
            })
        }
        _ => {
            let value = variable("GOMEMLIMIT")?;
            let bytes = match value.as_str() {
                "off" => machine,
                value => size(value.strip_suffix('B').unwrap_or(value))?,
            };
            (bytes > 0).then(|| Ceiling {
                bound: Bound::Heap,
                setting: format!("with GOMEMLIMIT={value}"),
                bytes: Some(bytes),
                explicit: true,
                reserved: false,
                exits_with_3: false,
                beside: "memory outside Go's heap (cgo)",
                advice: Advice::Go,
            })
        }
    }
}

/// What a program does if it is not told.
fn by_default(argv: &[String], machine: u64) -> Option<Ceiling> {
    let program = program_of(argv.first()?);
    let rest = argv.get(1..).unwrap_or_default();
    match program {
        // MaxRAMPercentage is 25 unless it is set.
        "java" | "javaw" if machine > 0 => Some(jvm(
            "without -Xmx, and a JVM's default is a quarter of the memory that it sees, the machine's if it \
             does not see the jail's limit"
                .to_owned(),
            machine / 4,
            false,
        )),
        // V8 takes a quarter of the machine's memory, at most 4 GiB with 64 bits.
        "node" | "nodejs" if machine > 0 => Some(v8(
            "with V8's default for its heap, a quarter of the machine's memory and at most 4 GiB".to_owned(),
            (machine / 4).min(4 << 30),
            false,
        )),
        "memcached" => Some(memcached(
            "without -m, and the default is 64 MiB".to_owned(),
            64 << 20,
            true,
        )),
        "redis-server" | "valkey-server" => {
            let file = rest.iter().any(|word| word.ends_with(".conf"));
            Some(redis(
                match file {
                    true => "with a configuration that this trace does not show, and maxmemory is off by default",
                    false => "without --maxmemory, and it is off by default",
                }
                .to_owned(),
                None,
                !file,
            ))
        }
        _ => None,
    }
}

fn jvm(setting: String, bytes: u64, explicit: bool) -> Ceiling {
    Ceiling {
        bound: Bound::Heap,
        setting,
        bytes: Some(bytes),
        explicit,
        reserved: !explicit,
        exits_with_3: true,
        beside: BESIDE_JVM,
        advice: Advice::Java,
    }
}

fn v8(setting: String, bytes: u64, explicit: bool) -> Ceiling {
    Ceiling {
        bound: Bound::Heap,
        setting,
        bytes: Some(bytes),
        explicit,
        reserved: false,
        exits_with_3: false,
        beside: BESIDE_NODE,
        advice: match explicit {
            true => Advice::Node,
            false => Advice::V8,
        },
    }
}

fn memcached(setting: String, bytes: u64, explicit: bool) -> Ceiling {
    Ceiling {
        bound: Bound::Cache,
        setting,
        bytes: Some(bytes),
        explicit,
        reserved: false,
        exits_with_3: false,
        beside: "its hash table and connections",
        advice: Advice::Memcached,
    }
}

fn redis(setting: String, bytes: Option<u64>, explicit: bool) -> Ceiling {
    Ceiling {
        bound: Bound::Data,
        setting,
        bytes,
        explicit,
        reserved: false,
        exits_with_3: false,
        beside: "pages that are copied while a child saves, and clients' buffers",
        advice: Advice::Redis,
    }
}

fn java(option: &str, machine: u64) -> Option<Ceiling> {
    if let Some(value) = option
        .strip_prefix("-Xmx")
        .or_else(|| option.strip_prefix("-XX:MaxHeapSize="))
    {
        return Some(jvm(format!("with {option}"), size(value)?, true));
    }
    let part: f64 = option.strip_prefix("-XX:MaxRAMPercentage=")?.parse().ok()?;
    // Of the memory that it sees: the machine's, where it does not see the cgroup.
    let bytes = (part.clamp(0.0, 100.0) / 100.0 * machine as f64) as u64;
    Some(jvm(
        format!("with {option}, a part of the memory that it sees"),
        bytes,
        false,
    ))
}

fn node(option: &str) -> Option<Ceiling> {
    let value = option
        .strip_prefix("--max-old-space-size=")
        .or_else(|| option.strip_prefix("--max_old_space_size="))?;
    let mebibytes: u64 = value.parse().ok()?;
    Some(v8(
        format!("with {option}"),
        mebibytes.checked_mul(1 << 20)?,
        true,
    ))
}

/// The value of an option, as a word of its own or behind its name.
fn option<'a>(words: &'a [String], short: &str, long: &str) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(at, word)| {
        if word == short || word == long {
            return words.get(at + 1).map(String::as_str);
        }
        let behind = word
            .strip_prefix(long)
            .and_then(|rest| rest.strip_prefix('='));
        behind.or_else(|| word.strip_prefix(short).filter(|_| !word.starts_with("--")))
    })
}

/// `512m`, `2g`, `900MiB`, or a number of bytes.
fn size(text: &str) -> Option<u64> {
    let digits = text.find(|char: char| !char.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "ki" | "kb" | "kib" => 10,
        "m" | "mi" | "mb" | "mib" => 20,
        "g" | "gi" | "gb" | "gib" => 30,
        "t" | "ti" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}
