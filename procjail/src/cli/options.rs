//! Options that describe a jail, shared by `run` and `trace`.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, ValueHint};

use crate::jail::spec::{
    self, Bind, EnvVar, Hostname, Name, Net, Propagation, Refusal, Rlimit, Tmpfs, User,
};
use crate::jail::{self, Facts, Limits, Plan, Spec, StopOptions};

/// The jail.
#[derive(Debug, clap::Args)]
pub struct JailOptions {
    /// Name of the jail and its cgroup [default: APP's file name and the launcher's PID]
    #[arg(long, value_name = "NAME", help_heading = "Jail")]
    name: Option<Name>,

    /// Print the steps the jail would take, one per line, and do nothing
    #[arg(long, help_heading = "Jail")]
    plan: bool,

    /// Put a small reaper at PID 1, which forwards signals and returns APP's status
    #[arg(long, help_heading = "Jail")]
    init: bool,

    /// Network: the host's, or none but a loopback interface of its own
    #[arg(
        long,
        value_name = "NET",
        default_value = "host",
        help_heading = "Jail"
    )]
    net: Net,

    /// Host name inside
    #[arg(long, value_name = "NAME", help_heading = "Jail")]
    hostname: Option<Hostname>,

    /// Most memory, such as 64M or 1G (binary units)
    #[arg(long, value_name = "SIZE", value_parser = spec::parse_limit, help_heading = "Limits")]
    memory: Option<u64>,

    /// Memory above which the jail is slowed down and reclaimed from (cgroup v2)
    #[arg(long, value_name = "SIZE", value_parser = spec::parse_limit, help_heading = "Limits")]
    memory_high: Option<u64>,

    /// Most swap, memory not counted; 0 for none
    #[arg(long, value_name = "SIZE", value_parser = spec::parse_size, help_heading = "Limits")]
    swap: Option<u64>,

    /// An OOM kill takes the whole jail (cgroup v2)
    #[arg(long, help_heading = "Limits")]
    oom_group: bool,

    /// Most processes and threads
    #[arg(long, value_name = "N", value_parser = parse_pids, help_heading = "Limits")]
    pids: Option<u64>,

    /// CPU time, in processors, such as 0.5
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus, help_heading = "Limits")]
    cpus: Option<u64>,

    /// Resource limit of each process (getrlimit(2)), such as nofile=64:1K or core=unlimited
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Limits")]
    rlimit: Vec<Rlimit>,

    /// Put the jail's cgroup below the cgroup PATH, which must exist and whose limits then apply too
    #[arg(long, value_name = "PATH", value_parser = spec::cgroup_path, help_heading = "Limits")]
    cgroup_parent: Option<PathBuf>,

    /// Use DIR as the root; it gets a minimal /dev and a new /proc
    #[arg(long, value_name = "DIR", value_parser = spec::plain_path, help_heading = "Files")]
    root: Option<PathBuf>,

    /// Make everything read-only but /proc, /dev, --tmpfs and --bind without ro
    #[arg(long, help_heading = "Files")]
    read_only: bool,

    /// Show the host's SRC at DST
    #[arg(long, value_name = "SRC:DST[:ro]", help_heading = "Files")]
    bind: Vec<Bind>,

    /// Mount a new tmpfs at DST
    #[arg(long, value_name = "DST[:SIZE]", help_heading = "Files")]
    tmpfs: Vec<Tmpfs>,

    /// Whether mounts are seen across the jail's border (mount_namespaces(7))
    #[arg(
        long,
        value_name = "HOW",
        default_value = "private",
        help_heading = "Files"
    )]
    propagation: Propagation,

    /// Working directory inside [default: the present one; / with --root]
    #[arg(long, value_name = "DIR", value_parser = spec::workdir_path, help_heading = "Process")]
    workdir: Option<PathBuf>,

    /// Set a variable of the environment
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Process",
        value_parser = OsStringValueParser::new().try_map(|text| EnvVar::parse(&text).map_err(Refused)))]
    env: Vec<EnvVar>,

    /// Start with an empty environment
    #[arg(long, help_heading = "Process")]
    clear_env: bool,

    /// Run APP as this user and group, by number [default of GID: UID's number]
    #[arg(long, value_name = "UID[:GID]", help_heading = "Process")]
    user: Option<User>,

    /// Signal that asks APP to stop [default: the one that procjail got]
    #[arg(long, value_name = "SIGNAL", value_parser = parse_signal, help_heading = "Stopping")]
    stop_signal: Option<i32>,

    /// Time that APP has to obey before everything is killed
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s", help_heading = "Stopping")]
    stop_timeout: Duration,

    /// Pass signals on at once, as docker does: one for which PID 1 has no handler yet is lost
    /// [default: held until it has one]
    #[arg(long, help_heading = "Stopping")]
    stop_as_is: bool,

    /// Time that the kernel has to remove the rest
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s", help_heading = "Stopping")]
    teardown_timeout: Duration,

    /// Program to run, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "APP", action = ArgAction::Append,
        value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

impl JailOptions {
    /// The jail that these options describe.
    ///
    /// # Errors
    ///
    /// None so far: each option was checked by itself. What depends on the host is asked by
    /// [`Plan::compile`].
    pub fn spec(&self) -> Result<Spec, jail::Error> {
        let app = self.command.first().cloned().unwrap_or_default();
        let name = self.name.clone();
        let mut env: Vec<_> = match self.clear_env {
            true => Vec::new(),
            false => std::env::vars_os().collect(),
        };
        for EnvVar(key, value) in &self.env {
            env.retain(|(present, _)| present != key);
            env.push((key.clone(), value.clone()));
        }
        Ok(Spec {
            name: name.unwrap_or_else(|| Name::default_for(&app, std::process::id())),
            command: self.command.clone(),
            limits: Limits {
                memory: self.memory,
                memory_high: self.memory_high,
                swap: self.swap,
                oom_group: self.oom_group,
                pids: self.pids,
                millicpus: self.cpus,
            },
            cgroup_parent: self.cgroup_parent.clone(),
            net: self.net,
            root: self.root.clone(),
            read_only: self.read_only,
            binds: self.bind.clone(),
            tmpfs: self.tmpfs.clone(),
            hostname: self.hostname.clone(),
            workdir: self.workdir.clone(),
            env,
            user: self.user,
            rlimits: self.rlimit.clone(),
            propagation: self.propagation,
            init: self.init,
            stop: StopOptions {
                signal: self.stop_signal,
                timeout: self.stop_timeout,
                teardown_timeout: self.teardown_timeout,
                as_is: self.stop_as_is,
            },
        })
    }

    /// The plan for these options on this host. With `--plan` it is printed and `None` returned.
    ///
    /// # Errors
    ///
    /// The host can't make such a jail.
    pub fn compile(&self) -> Result<Option<Plan>, jail::Error> {
        if !self.plan {
            jail::check_privileges()?;
        }
        let spec = self.spec()?;
        let plan = Plan::compile(&spec, &Facts::detect_below(spec.cgroup_parent.as_deref())?)?;
        if !self.plan {
            return Ok(Some(plan));
        }
        // Whoever reads it may have seen enough, as `head` does.
        let _ = writeln!(std::io::stdout(), "{}", plan.steps().join("\n"));
        Ok(None)
    }
}

/// A refusal as clap wants it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(Refusal);

fn parse_pids(text: &str) -> Result<u64, Refusal> {
    match text.parse::<u64>() {
        Ok(0) => Err("0 would leave nothing to run; leave the option out for no limit".into()),
        Ok(count) => Ok(count),
        Err(_) => Err(format!("'{text}' is not a number of processes")),
    }
}

/// Thousandths of a processor.
fn parse_cpus(text: &str) -> Result<u64, Refusal> {
    let refusal = || format!("'{text}' is not a number of processors such as 0.5 or 2");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return Err(refusal());
    }
    let thousandths: u64 = format!("{part:0<3}").parse().map_err(|_| refusal())?;
    let whole: u64 = whole.parse().map_err(|_| refusal())?;
    match whole
        .checked_mul(1000)
        .and_then(|cpus| cpus.checked_add(thousandths))
    {
        Some(0) => Err("0 processors would never run; leave the option out for no limit".into()),
        Some(millicpus) if millicpus <= 1_000_000_000 => Ok(millicpus),
        _ => Err(refusal()),
    }
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, Refusal> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= Duration::from_secs(365 * 24 * 3600) => Ok(time),
        Ok(_) => Err("that is more than a year".into()),
        Err(_) => Err(format!("'{text}' is not a time such as 500ms, 10s or 2m")),
    }
}

/// Number of a signal, from its number or its name with or without SIG.
fn parse_signal(text: &str) -> Result<i32, Refusal> {
    let refusal = || format!("'{text}' is not a signal such as TERM, SIGINT, 15 or RTMIN+3");
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = if let Ok(number) = name.parse::<i32>() {
        number
    } else if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = offset
            .strip_prefix('+')
            .unwrap_or(if offset.is_empty() { "0" } else { "" });
        libc::SIGRTMIN().saturating_add(offset.parse().map_err(|_| refusal())?)
    } else {
        let signal: nix::sys::signal::Signal =
            format!("SIG{name}").parse().map_err(|_| refusal())?;
        signal as i32
    };
    match number {
        1..=64 => Ok(number),
        _ => Err(refusal()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_in_thousandths() {
        assert_eq!(parse_cpus("0.5"), Ok(500));
        assert_eq!(parse_cpus("2"), Ok(2000));
        assert_eq!(parse_cpus("1.125"), Ok(1125));
        for bad in [
            "",
            "0",
            "0.000",
            ".5",
            "1.",
            "-1",
            "1e3",
            "nan",
            "0.0001",
            "99999999999999999999",
        ] {
            assert!(parse_cpus(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(parse_signal(text), Ok(libc::SIGTERM));
        }
        assert_eq!(parse_signal("RTMIN"), Ok(libc::SIGRTMIN()));
        assert_eq!(parse_signal("SIGRTMIN+3"), Ok(libc::SIGRTMIN() + 3));
        for bad in [
            "", "0", "65", "-1", "SIG", "FOO", "RTMIN+", "RTMIN+99", "RTMINx",
        ] {
            assert!(parse_signal(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        for bad in ["", "10", "-1s", "1x", "1000y"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_limit_of_nothing() {
        assert!(parse_pids("0").is_err() && parse_pids("x").is_err());
        assert_eq!(parse_pids("7"), Ok(7));
    }
}
