//! The clock that every time of a trace is taken from.

/// CLOCK_BOOTTIME in nanoseconds: time since boot with suspension counted, the clock of the kernel's
/// `bpf_ktime_get_boot_ns` and of `/proc/PID/stat`'s start time.
pub fn boot_ns() -> u64 {
    read(libc::CLOCK_BOOTTIME)
}

/// CLOCK_REALTIME in nanoseconds since 1970.
pub fn unix_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Processor time that this thread has used, nanoseconds.
pub fn thread_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing, and the clock exists on every kernel this program runs on.
    unsafe { libc::clock_gettime(clock, &mut time) };
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_moves_forward_and_is_not_the_wall_clock() {
        let first = boot_ns();
        assert!(first > 0 && boot_ns() >= first);
        assert!(unix_ns() > first);
    }
}
