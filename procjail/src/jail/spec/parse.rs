//! Sizes and paths, as options have them.

use std::path::{Component, PathBuf};

use super::Refusal;

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
