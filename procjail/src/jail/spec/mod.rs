//! What a jail shall be: the validated form of the options.
//!
//! Parsing refuses whatever could mean two things, and says what would be right. What depends on the
//! host (does the directory exist?) is asked when the plan is made, in [`super::plan`].

mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use parse::{cgroup_path, inside_path, parse_limit, parse_size, plain_path, workdir_path};

use super::{Limits, StopOptions};
use crate::names;

/// A jail to be made.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name of the jail and of its cgroup.
    pub name: Name,
    /// APP and its arguments; never empty.
    pub command: Vec<OsString>,
    /// Limits on resources.
    pub limits: Limits,
    /// The cgroup below which the jail is put, an absolute path in each hierarchy; `None` for the root.
    pub cgroup_parent: Option<PathBuf>,
    /// Network namespace.
    pub net: Net,
    /// Root directory; `None` for the host's.
    pub root: Option<PathBuf>,
    /// Make the file systems read-only.
    pub read_only: bool,
    /// Bind mounts, in order.
    pub binds: Vec<Bind>,
    /// New tmpfs mounts, in order.
    pub tmpfs: Vec<Tmpfs>,
    /// Host name inside.
    pub hostname: Option<Hostname>,
    /// Working directory inside; `None` for the launcher's, or `/` with a root.
    pub workdir: Option<PathBuf>,
    /// Environment of APP.
    pub env: Vec<(OsString, OsString)>,
    /// User and group of APP; `None` for the launcher's.
    pub user: Option<User>,
    /// Resource limits of PID 1, inherited by its children.
    pub rlimits: Vec<Rlimit>,
    /// How mounts inside and outside follow each other.
    pub propagation: Propagation,
    /// Put a small reaper at PID 1.
    pub init: bool,
    /// How to stop.
    pub stop: StopOptions,
}

/// Why an option's value was refused, in words.
pub type Refusal = String;

/// Name of a jail: `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    const MAX: usize = 63;

    /// The name of a jail that was given none: APP's file name and the launcher's PID.
    pub fn default_for(app: &OsStr, launcher_pid: u32) -> Name {
        let suffix = format!("-{launcher_pid}");
        let base = Path::new(app).file_name().unwrap_or(OsStr::new("app"));
        let mut name: String = base
            .to_string_lossy()
            .chars()
            .map(|c| if Name::allows(c) { c } else { '_' })
            .take(Name::MAX - suffix.len())
            .collect();
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            name = format!("app{suffix}");
        } else {
            name.push_str(&suffix);
        }
        Name(name)
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn allows(c: char) -> bool {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
    }
}

impl FromStr for Name {
    type Err = Refusal;

    fn from_str(name: &str) -> Result<Name, Refusal> {
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && name.len() <= Name::MAX && name.chars().all(Name::allows) {
            Ok(Name(name.to_owned()))
        } else {
            Err(format!(
                "a name is a letter or digit, then letters, digits, '_', '.' or '-', at most {} in all",
                Name::MAX
            ))
        }
    }
}

/// Network namespace of a jail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Net {
    /// The host's.
    #[default]
    Host,
    /// A new one with nothing but its loopback interface.
    None,
}

/// How mounts inside and outside follow each other; see mount_namespaces(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Propagation {
    /// Neither sees what the other mounts.
    #[default]
    Private,
    /// The jail sees what the host mounts, not the reverse.
    Slave,
    /// What APP mounts on a shared mount of the host appears on the host, and stays: the classic leak.
    Shared,
}

/// `SRC:DST[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Path on the host.
    pub source: PathBuf,
    /// Path inside.
    pub target: PathBuf,
    /// Nothing can be written through it.
    pub read_only: bool,
}

impl FromStr for Bind {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Bind, Refusal> {
        let mut parts = text.split(':');
        let (source, target) = match (parts.next(), parts.next()) {
            (Some(source), Some(target)) if !source.is_empty() => (source, target),
            _ => return Err("expected SRC:DST or SRC:DST:ro".into()),
        };
        let read_only = match parts.next() {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(other) => {
                return Err(format!("expected SRC:DST[:ro], not a third part '{other}'"));
            }
        };
        if parts.next().is_some() {
            return Err("expected SRC:DST[:ro]; a path with a colon can't be bound".into());
        }
        Ok(Bind {
            source: plain_path(source)?,
            target: inside_path(target)?,
            read_only,
        })
    }
}

/// `DST[:SIZE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Path inside.
    pub target: PathBuf,
    /// Most that it holds, bytes; `None` for the kernel's default, half of the memory.
    pub size_bytes: Option<u64>,
}

impl FromStr for Tmpfs {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Tmpfs, Refusal> {
        let (target, size) = match text.split_once(':') {
            Some((target, size)) => (target, Some(parse_size(size)?)),
            None => (text, None),
        };
        Ok(Tmpfs {
            target: inside_path(target)?,
            size_bytes: size,
        })
    }
}

/// A host name, at most 64 bytes (`__NEW_UTS_LEN`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname(String);

impl Hostname {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = Refusal;

    fn from_str(name: &str) -> Result<Hostname, Refusal> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
            Ok(Hostname(name.to_owned()))
        } else {
            Err("a host name is 1 to 64 letters, digits, '-', '.' or '_'".into())
        }
    }
}

/// `UID[:GID]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User ID.
    pub uid: u32,
    /// Group ID; the user ID's number if none was given.
    pub gid: u32,
}

impl FromStr for User {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<User, Refusal> {
        // The largest number means "no change" to the kernel.
        let id = |part: &str| match part.parse::<u32>() {
            Ok(id) if id != u32::MAX && part.starts_with(|c: char| c.is_ascii_digit()) => Ok(id),
            _ => Err(format!(
                "'{part}' is not a number below 4294967295; names are not looked up, since APP's root may have others"
            )),
        };
        let (uid, gid) = match text.split_once(':') {
            Some((uid, gid)) => (id(uid)?, id(gid)?),
            None => (id(text)?, id(text)?),
        };
        Ok(User { uid, gid })
    }
}

/// `NAME=SOFT[:HARD]`; see getrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Name without `RLIMIT_`, in lower case.
    pub name: &'static str,
    /// `RLIMIT_*`.
    pub resource: i32,
    /// Soft limit in the resource's unit; `u64::MAX` for none.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

impl Rlimit {
    const ALL: [(&'static str, libc::__rlimit_resource_t); 16] = names::RESOURCE_LIMITS;

    /// The soft limits of this process, none for no limit.
    pub(super) fn inherited() -> BTreeMap<String, Option<u64>> {
        let soft = |&(name, resource): &(&str, _)| {
            let mut limit = libc::rlimit64 {
                rlim_cur: 0,
                rlim_max: 0,
            };
            // SAFETY: `limit` is valid for writing.
            let result = unsafe { libc::getrlimit64(resource, &mut limit) };
            let soft = (limit.rlim_cur != libc::RLIM64_INFINITY).then_some(limit.rlim_cur);
            (result == 0).then(|| (name.to_owned(), soft))
        };
        Rlimit::ALL.iter().filter_map(soft).collect()
    }
}

impl FromStr for Rlimit {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Rlimit, Refusal> {
        let (wanted, value) = text
            .split_once('=')
            .ok_or("expected NAME=SOFT or NAME=SOFT:HARD")?;
        let &(name, resource) = Rlimit::ALL
            .iter()
            .find(|(name, _)| *name == wanted)
            .ok_or_else(|| {
                let names: Vec<_> = Rlimit::ALL.iter().map(|(name, _)| *name).collect();
                format!("no limit '{wanted}'; there are {}", names.join(", "))
            })?;
        let number = |part: &str| match part {
            "unlimited" => Ok(libc::RLIM64_INFINITY),
            _ => parse_size(part),
        };
        let (soft, hard) = match value.split_once(':') {
            Some((soft, hard)) => (number(soft)?, number(hard)?),
            None => (number(value)?, number(value)?),
        };
        if soft > hard {
            return Err(format!(
                "the soft limit {soft} is above the hard limit {hard}"
            ));
        }
        Ok(Rlimit {
            name,
            resource: resource as i32,
            soft,
            hard,
        })
    }
}

/// `K=V`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar(pub OsString, pub OsString);

impl EnvVar {
    /// Splits at the first `=`.
    pub fn parse(text: &OsStr) -> Result<EnvVar, Refusal> {
        let bytes = text.as_bytes();
        match bytes.iter().position(|&b| b == b'=') {
            Some(0) | None => Err("expected NAME=VALUE".into()),
            Some(at) => Ok(EnvVar(
                OsStr::from_bytes(&bytes[..at]).to_owned(),
                OsStr::from_bytes(&bytes[at + 1..]).to_owned(),
            )),
        }
    }
}
