//! What a jail shall be: the validated form of the options.
//!
//! Parsing refuses whatever could mean two things, and says what would be right. What depends on the
//! host (does the directory exist?) is asked when the plan is made, in [`super::plan`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use super::{Limits, StopOptions};

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
    const ALL: [(&'static str, libc::__rlimit_resource_t); 16] = [
        ("as", libc::RLIMIT_AS),
        ("core", libc::RLIMIT_CORE),
        ("cpu", libc::RLIMIT_CPU),
        ("data", libc::RLIMIT_DATA),
        ("fsize", libc::RLIMIT_FSIZE),
        ("locks", libc::RLIMIT_LOCKS),
        ("memlock", libc::RLIMIT_MEMLOCK),
        ("msgqueue", libc::RLIMIT_MSGQUEUE),
        ("nice", libc::RLIMIT_NICE),
        ("nofile", libc::RLIMIT_NOFILE),
        ("nproc", libc::RLIMIT_NPROC),
        ("rss", libc::RLIMIT_RSS),
        ("rtprio", libc::RLIMIT_RTPRIO),
        ("rttime", libc::RLIMIT_RTTIME),
        ("sigpending", libc::RLIMIT_SIGPENDING),
        ("stack", libc::RLIMIT_STACK),
    ];

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

/// A size such as `64M`: binary units, K to T, also written `KiB` and so on. In bytes.
pub fn parse_size(text: &str) -> Result<u64, Refusal> {
    let refusal = || format!("'{text}' is not a size such as 512K, 64M or 1G");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refusal())?;
    let shift = match unit.strip_suffix("iB").unwrap_or(unit) {
        "" if unit.is_empty() => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return Err(refusal()),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("'{text}' is more bytes than 64 bits can count"))
}

/// A size that is not 0.
pub fn parse_limit(text: &str) -> Result<u64, Refusal> {
    match parse_size(text)? {
        0 => Err("0 would leave nothing to run in; leave the option out for no limit".into()),
        size => Ok(size),
    }
}

/// A path on the host, as an option has it.
pub fn plain_path(text: &str) -> Result<PathBuf, Refusal> {
    if text.is_empty() {
        return Err("the path is empty".into());
    }
    if text.contains(['\n', '\0']) {
        return Err("the path contains a line break".into());
    }
    Ok(PathBuf::from(text))
}

/// A path inside the jail: absolute, without `..`.
pub fn inside_path(text: &str) -> Result<PathBuf, Refusal> {
    let path = plain_path(text)?;
    if !path.is_absolute() {
        return Err(format!("'{text}' is not an absolute path inside the jail"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("'{text}' contains '..'"));
    }
    Ok(path)
}

/// A cgroup's path, as it is in each hierarchy: absolute, without `..`, below the root.
pub fn cgroup_path(text: &str) -> Result<PathBuf, Refusal> {
    let path = plain_path(text)?;
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(format!(
            "'{text}' is not an absolute path without '..', such as /system.slice"
        ));
    }
    if path.starts_with("/sys/fs/cgroup") {
        return Err(format!(
            "'{text}' is a path of the host's files; give the cgroup's own, below the root of its hierarchy"
        ));
    }
    if path.components().count() < 2 {
        return Err("that is the root; leave the option out for it".into());
    }
    Ok(path)
}

/// A working directory: like [`inside_path`], and not a descriptor in disguise (CVE-2024-21626).
pub fn workdir_path(text: &str) -> Result<PathBuf, Refusal> {
    let path = inside_path(text)?;
    let parts: Vec<_> = path.components().map(Component::as_os_str).collect();
    if parts.get(1).is_some_and(|part| *part == "proc")
        && parts
            .get(2..)
            .is_some_and(|rest| rest.iter().any(|part| *part == "fd"))
    {
        return Err(
            "a descriptor below /proc is no working directory: it may lead out of the jail".into(),
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_their_directory() {
        for good in ["a", "web-1", "0", "A.b_c", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "../x",
            ".hidden",
            "-x",
            "a/b",
            "a\nb",
            "a b",
            "ä",
            &"x".repeat(64),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_default_name_is_always_a_valid_one() {
        for (app, name) in [
            ("/usr/bin/sleep", "sleep-42"),
            ("./my app", "my_app-42"),
            ("/", "app-42"),
            ("..", "app-42"),
            ("[", "app-42"),
        ] {
            let made = Name::default_for(OsStr::new(app), 42);
            assert_eq!(made.as_str(), name);
            assert!(made.as_str().parse::<Name>().is_ok());
        }
        let long = Name::default_for(OsStr::new(&"y".repeat(200)), 4_000_000_000);
        assert_eq!(long.as_str().len(), 63);
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert_eq!(parse_size("512k"), Ok(512 << 10));
        assert_eq!(parse_size("4096"), Ok(4096));
        for bad in [
            "",
            "M",
            "12X",
            "-1",
            "1.5G",
            "1 M",
            "iB",
            "99999999999999999999",
            "17179869184G",
        ] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
        assert!(parse_limit("0").is_err() && parse_limit("0K").is_err());
    }

    #[test]
    fn binds_and_tmpfs_name_absolute_targets() {
        assert_eq!(
            "src:/dst:ro".parse(),
            Ok(Bind {
                source: "src".into(),
                target: "/dst".into(),
                read_only: true
            })
        );
        for bad in [
            "",
            "/a",
            ":/b",
            "/a:",
            "/a:b",
            "/a:/b:xx",
            "/a:/b:ro:",
            "/a:/../b",
            "/a:/b\n",
        ] {
            assert!(bad.parse::<Bind>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "/t:1M".parse(),
            Ok(Tmpfs {
                target: "/t".into(),
                size_bytes: Some(1 << 20)
            })
        );
        for bad in ["t", "/t:", "/t:1X", "/t/../u"] {
            assert!(bad.parse::<Tmpfs>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_cgroup_above_is_a_path_of_its_hierarchy() {
        assert_eq!(cgroup_path("/a/b"), Ok("/a/b".into()));
        for bad in ["", "a", "/", "/..", "/a/../b", "/sys/fs/cgroup/a", "/a\n"] {
            assert!(cgroup_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn users_are_numbers() {
        assert_eq!("5".parse(), Ok(User { uid: 5, gid: 5 }));
        assert_eq!("5:7".parse(), Ok(User { uid: 5, gid: 7 }));
        for bad in [
            "",
            "root",
            "5:",
            ":5",
            "-1",
            "+1",
            "4294967295",
            "5:users",
            "1:2:3",
        ] {
            assert!(bad.parse::<User>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rlimits_have_names_and_an_order() {
        let limit: Rlimit = "nofile=64:unlimited".parse().unwrap();
        assert_eq!((limit.soft, limit.hard), (64, u64::MAX));
        assert_eq!("stack=8M".parse::<Rlimit>().unwrap().soft, 8 << 20);
        for bad in [
            "nofile",
            "nofile=",
            "files=3",
            "nofile=5:4",
            "nofile=x",
            "NOFILE=3",
        ] {
            assert!(bad.parse::<Rlimit>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_working_directory_is_no_descriptor() {
        assert!(workdir_path("/srv").is_ok() && workdir_path("/proc").is_ok());
        for bad in [
            "srv",
            "/proc/self/fd/7",
            "/proc//self/./fd/7",
            "/proc/1/task/1/fd/3",
            "/a/../b",
        ] {
            assert!(workdir_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn environment_variables_are_split_at_the_first_equals_sign() {
        assert_eq!(
            EnvVar::parse(OsStr::new("A=b=c")),
            Ok(EnvVar("A".into(), "b=c".into()))
        );
        assert!(
            EnvVar::parse(OsStr::new("=x")).is_err() && EnvVar::parse(OsStr::new("A")).is_err()
        );
    }
}
