//! Resource limits (getrlimit(2)).

use libc::__rlimit_resource_t as Resource;

/// Names without `RLIMIT_`, in lower case, and numbers.
pub const RESOURCE_LIMITS: [(&str, Resource); 16] = [
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

/// Name of a resource limit, such as `nofile`; `rlimit_N` if unknown.
pub fn resource_limit(number: u32) -> String {
    RESOURCE_LIMITS
        .iter()
        .find(|(_, known)| *known == number as Resource)
        .map_or_else(
            || format!("rlimit_{number}"),
            |(name, _)| (*name).to_owned(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_names() {
        assert_eq!(resource_limit(7), "nofile");
        assert_eq!(resource_limit(99), "rlimit_99");
    }
}
