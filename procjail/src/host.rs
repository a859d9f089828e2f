//! Facts about the machine that a trace is made on.

use nix::{sys::utsname::uname, unistd::SysconfVar};

use crate::trace::Host;

/// Reads the facts. `cgroup_mode` is `v2`, `hybrid` or `v1`.
pub fn facts(cgroup_mode: &str) -> Host {
    let (kernel, architecture, hostname) = uname()
        .map(|names| {
            let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
            (
                text(names.release()),
                text(names.machine()),
                text(names.nodename()),
            )
        })
        .unwrap_or_default();
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE);
    Host {
        kernel,
        architecture,
        hostname,
        cgroup_mode: cgroup_mode.to_owned(),
        cpus: sysconf(SysconfVar::_NPROCESSORS_ONLN) as u32,
        memory_bytes: sysconf(SysconfVar::_PHYS_PAGES) * page_bytes,
        page_bytes,
        lacks: Vec::new(),
    }
}

/// A value of sysconf(3), or 0 where the system doesn't tell.
fn sysconf(name: SysconfVar) -> u64 {
    nix::unistd::sysconf(name)
        .ok()
        .flatten()
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_machine_with_processors_and_memory() {
        let host = facts("v2");
        assert!(host.cpus >= 1 && host.page_bytes >= 4096 && host.memory_bytes > host.page_bytes);
        assert!(!host.kernel.is_empty());
        assert_eq!(host.cgroup_mode, "v2");
    }
}
