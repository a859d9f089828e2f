//! The end of a jail: kill, reap, wait until it is empty, remove. Each step is timed and told; all of
//! them together are bounded by `--teardown-timeout`.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Jail;
use super::outcome::{Observer, Outcome};
use super::signals::named;
use super::stall::Watch;
use crate::cgroup::Error;
use crate::event::{self, ExitStatus};
use crate::hang;
use crate::pidfd;
use crate::procfs::state as proc;
use crate::{clock, exit};

/// When the time is over, what comes next still gets a moment: most steps need less.
const LAST_CHANCE: Duration = Duration::from_millis(100);

/// Ends the jail. `reason` is why everything must be killed, none if PID 1 ended by itself.
/// `started` is when APP began.
pub(super) fn end(
    jail: &mut Jail<'_>,
    started: Instant,
    reason: Option<&str>,
    observer: &dyn Observer,
) -> Outcome {
    // Not reported here: a failure was, when the gate should have opened.
    let _ = jail.joining.finish();
    let mut teardown = Steps {
        observer,
        deadline: Instant::now() + jail.plan.stop.teardown_timeout,
        steps: Vec::new(),
        watch: Watch::new(observer, jail.spawned.pid),
    };
    if let Some(reason) = reason {
        teardown.step("kill the jail", |_, _| kill(jail, reason, observer));
    }
    let mut reaped = None;
    teardown.step("reap PID 1", |deadline, watch| {
        reaped = reap(jail, deadline, watch)?;
        match &reaped {
            Some(reaped) => observer.observe(
                clock::boot_ns(),
                event::What::JailExited(event::JailExited {
                    status: reaped.status.clone(),
                }),
            ),
            None => return Err(format!("{} does not end", proc::describe(jail.spawned.pid))),
        }
        Ok(())
    });
    let duration = started.elapsed();
    if reaped.is_some() {
        teardown.watch.reaped();
    }
    if jail.cgroups.populated().unwrap_or(true) {
        // Those of PID 1's namespace died with it; these came into the cgroup from elsewhere.
        teardown.step("kill what is left", |_, _| {
            kill(jail, reason.unwrap_or("teardown"), observer)
        });
        teardown.step("wait for the cgroup to empty", |deadline, watch| {
            empty(jail, deadline, watch)
        });
    }
    // Its end, and that of all in its namespace, goes on while the cgroups are removed.
    jail.guard.release();
    observer.before_removal();
    let usage = jail.cgroups.usage();
    let mut remains = remaining_processes(jail, reaped.is_some(), &mut teardown.watch);
    teardown.step("remove the cgroups", |deadline, watch| {
        remove(jail, deadline, watch).map_err(|error| {
            let error = error.to_string();
            remains.push(error.clone());
            error
        })
    });
    teardown.step("end the guard", |deadline, watch| {
        match readable_by(jail, jail.guard.pidfd(), deadline, watch) {
            Ok(true) if jail.guard.try_reap() => Ok(()),
            Ok(_) => Err("something in its pid namespace does not end".to_owned()),
            Err(errno) => Err(format!("poll(pidfd): {errno}")),
        }
    });
    if let Some(terminal) = &jail.signals.terminal {
        terminal.restore();
    }
    let cpu_ns = usage.cpu_ns.or(reaped.as_ref().map(|reaped| reaped.cpu_ns));
    let status = reaped.map(|reaped| reaped.status);
    Outcome {
        exit_code: if remains.is_empty() {
            status.as_ref().map_or(exit::FAILED, exit::code_of)
        } else {
            exit::TEARDOWN_TIMEOUT
        },
        status,
        duration_ns: duration.as_nanos() as u64,
        peak_memory_bytes: usage.peak_memory_bytes,
        cpu_ns,
        oom_kills: usage.oom_kills,
        teardown: teardown.steps,
        remains,
    }
}

/// The steps so far, and the time that is left.
struct Steps<'a> {
    observer: &'a dyn Observer,
    deadline: Instant,
    steps: Vec<event::Teardown>,
    watch: Watch<'a>,
}

impl<'a> Steps<'a> {
    /// Takes one step, given the time by which it has to end, and whom to tell while it waits.
    fn step(
        &mut self,
        name: &str,
        take: impl FnOnce(Instant, &mut Watch<'a>) -> Result<(), String>,
    ) {
        let start = Instant::now();
        let error = take(self.deadline.max(start + LAST_CHANCE), &mut self.watch).err();
        if error.is_none() {
            self.watch.progress();
        }
        let duration_ns = start.elapsed().as_nanos() as u64;
        let step = event::Teardown {
            step: name.to_owned(),
            duration_ns,
            error,
        };
        let what = event::What::Teardown(step.clone());
        self.observer.observe(clock::boot_ns(), what);
        self.steps.push(step);
    }
}

/// Kills all that is in the cgroup, and PID 1 wherever it is: as root it may have left its cgroup, and
/// all of its namespace die with it.
fn kill(jail: &Jail<'_>, reason: &str, observer: &dyn Observer) -> Result<(), String> {
    let killed = jail.cgroups.kill();
    let _ = pidfd::send(&jail.spawned.pidfd, libc::SIGKILL);
    observer.observe(
        clock::boot_ns(),
        event::What::Kill(event::Kill {
            reason: reason.to_owned(),
            method: killed.as_ref().map_or("pidfd", |method| method).to_owned(),
        }),
    );
    killed.map(drop).map_err(|error| error.to_string())
}

/// PID 1 as it was reaped.
struct Reaped {
    status: ExitStatus,
    /// Of PID 1 and the children that it reaped.
    cpu_ns: u64,
}

/// Waits until PID 1 can be reaped; none if it can't by `deadline`. The pidfd gets readable only when
/// all threads and all other processes of the namespace are gone.
fn reap(
    jail: &Jail<'_>,
    deadline: Instant,
    watch: &mut Watch<'_>,
) -> Result<Option<Reaped>, String> {
    match readable_by(jail, &jail.spawned.pidfd, deadline, watch) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(errno) => return Err(format!("poll(pidfd): {errno}")),
    }
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both are valid for writing. The number can't have been reused: it is our child, and
    // not reaped.
    let pid = unsafe {
        libc::wait4(
            jail.spawned.pid as libc::pid_t,
            &mut status,
            libc::WNOHANG | libc::__WALL,
            usage.as_mut_ptr(),
        )
    };
    // SAFETY: zeroed, and any content is valid.
    let usage = unsafe { usage.assume_init() };
    match Errno::result(pid) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(Reaped {
            status: exit_status(status),
            cpu_ns: nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime),
        })),
        Err(errno) => Err(format!("wait4({}): {errno}", jail.spawned.pid)),
    }
}

/// Waits until a descriptor is readable; false if it isn't by `deadline`.
fn readable_by(
    jail: &Jail<'_>,
    fd: impl AsFd,
    deadline: Instant,
    watch: &mut Watch<'_>,
) -> Result<bool, Errno> {
    loop {
        watch.tick(jail);
        let now = Instant::now();
        let is_last = deadline <= now;
        let left = deadline.min(watch.next()).saturating_duration_since(now);
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        // Rounded up: a rest of less than a millisecond must not spin.
        let millis = left.as_millis().saturating_add(1).min(60_000) as u16;
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(0) if is_last => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno),
        }
    }
}

fn nanoseconds(time: libc::timeval) -> u64 {
    (time.tv_sec as u64) * 1_000_000_000 + (time.tv_usec as u64) * 1000
}

fn exit_status(status: i32) -> ExitStatus {
    if libc::WIFSIGNALED(status) {
        ExitStatus {
            code: None,
            signal: Some(named(libc::WTERMSIG(status))),
            core_dumped: libc::WCOREDUMP(status),
        }
    } else {
        ExitStatus {
            code: Some(libc::WEXITSTATUS(status)),
            signal: None,
            core_dumped: false,
        }
    }
}

/// Waits until nothing lives in the cgroup, killing what still joins.
fn empty(jail: &Jail<'_>, deadline: Instant, watch: &mut Watch<'_>) -> Result<(), String> {
    let mut pause = Duration::from_micros(200);
    loop {
        match jail.cgroups.populated() {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return Err(format!("cannot read cgroup.events: {error}")),
        }
        if Instant::now() >= deadline {
            let left = jail.cgroups.pids().into_iter().map(proc::describe);
            return Err(left.collect::<Vec<_>>().join("; "));
        }
        watch.tick(jail);
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
        let _ = jail.cgroups.kill();
    }
}

/// Removes the cgroups, a while at a time.
fn remove(jail: &mut Jail<'_>, deadline: Instant, watch: &mut Watch<'_>) -> Result<(), Error> {
    loop {
        let removed = jail.cgroups.remove(deadline.min(watch.next()));
        watch.tick(jail);
        match removed {
            Err(Error::Busy { .. }) if Instant::now() < deadline => {}
            other => return other,
        }
    }
}

/// What outlives the time, and what would free it.
fn remaining_processes(jail: &Jail<'_>, reaped: bool, watch: &mut Watch<'_>) -> Vec<String> {
    let mut pids = jail.cgroups.pids();
    if reaped && pids.is_empty() {
        return Vec::new();
    }
    if let Some(snapshot) = watch.last_look(jail) {
        let told = hang::report(&snapshot);
        if !told.is_empty() {
            return told;
        }
    }
    // Nobody could look closely: what is told without waiting for anything.
    if !reaped {
        pids.push(jail.spawned.pid);
        // The reason is mostly one that came into the namespace from outside, and whose parent there
        // does not reap it.
        pids.extend(proc::namespace_mates(jail.spawned.pid));
    }
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().map(proc::describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_status_is_told_apart() {
        let exited = exit_status(7 << 8);
        assert_eq!((exited.code, exited.signal), (Some(7), None));
        let killed = exit_status(9);
        assert_eq!(killed.code, None);
        assert_eq!(killed.signal.unwrap().name, "SIGKILL");
        assert!(!killed.core_dumped);
        let dumped = exit_status(libc::SIGSEGV | 0x80);
        assert!(dumped.core_dumped);
        assert_eq!(exit::code_of(&dumped), 139);
    }

    #[test]
    fn cpu_time_is_in_nanoseconds() {
        let time = libc::timeval {
            tv_sec: 2,
            tv_usec: 3,
        };
        assert_eq!(nanoseconds(time), 2_000_003_000);
    }
}
