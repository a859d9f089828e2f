//! From a plan to PID 1 at the gate, and through the gate to APP.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::cgroup::Cgroups;
use super::child::{Child, Report};
use super::error::Error;
use super::failure;
use super::guard::Guard;
use super::outcome::Observer;
use super::plan::{Plan, Step};
use super::signals::Signals;
use super::spec::Net;
use super::sys;
use crate::pidfd;

/// Longest time that the set-up may take. It takes milliseconds, unless a file system doesn't answer.
const SETUP_TIMEOUT: Duration = Duration::from_secs(30);

/// PID 1, on its way to the gate or waiting there.
#[derive(Debug)]
pub struct Spawned {
    /// Host PID.
    pub pid: u32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// A byte lets APP execute. Held until then: its end tells the child that the launcher died.
    gate: OwnedFd,
    /// Its reports; ends when APP executes.
    report: OwnedFd,
}

/// Clones PID 1 into the guard's namespace and its cgroup; it starts to walk the plan at once.
pub fn spawn(plan: &Plan, guard: &Guard, cgroups: &Cgroups) -> Result<Spawned, Error> {
    let (gate, launcher_gate) = pipe()?;
    let (report, child_report) = pipe()?;
    let vectors = plan.program.vectors();
    let peers = open_peers(plan)?;
    let empty = |count| {
        std::iter::repeat_with(|| None)
            .take(count)
            .collect::<Vec<_>>()
    };
    let (mut copies, mut slots) = (empty(peers.len()), empty(plan.slots));
    let mut child = Child {
        plan,
        vectors: &vectors,
        gate: gate.as_raw_fd(),
        launcher_gate: launcher_gate.as_raw_fd(),
        report: child_report.as_raw_fd(),
        peers: &peers,
        copies: &mut copies,
        slots: &mut slots,
        root: None,
    };
    let net = match plan.net {
        Net::None => libc::CLONE_NEWNET,
        Net::Host => 0,
    };
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | net;
    let mut in_child = || -> Infallible { child.run() };
    let (pid, pidfd) = guard.clone_inside(
        namespaces as u64,
        cgroups.dir_fd().as_raw_fd(),
        &mut in_child,
    )?;
    Ok(Spawned {
        pid,
        pidfd,
        gate: launcher_gate,
        report,
    })
}

impl Spawned {
    /// Lets APP execute once the set-up is done, and waits until it does. Signals that come meanwhile
    /// are held for it.
    pub fn open_gate(
        &mut self,
        plan: &Plan,
        signals: &mut Signals,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        // If nobody reads it any more, the report tells why.
        let _ = sys::write(self.gate.as_raw_fd(), &[1]);
        let deadline = Instant::now() + SETUP_TIMEOUT;
        loop {
            // A set-up that is stuck can't obey a stop request: it has as long as APP would have.
            let stop = signals.first_stop().map(|asked| asked + plan.stop.timeout);
            let until = stop.map_or(deadline, |stop| stop.min(deadline));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && until < deadline {
                return Err(Error::Interrupted);
            }
            if left.is_zero() {
                return Err(Error::Timeout {
                    seconds: SETUP_TIMEOUT.as_secs(),
                });
            }
            let mut polled = [
                PollFd::new(self.report.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                // Whoever inherited the report's pipe can't keep us waiting.
                PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN),
            ];
            // Rounded up: a rest of less than a millisecond must not spin.
            let left = left + Duration::from_millis(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut polled, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::launcher("wait for the set-up")(errno)),
            }
            let [reported, signalled, ended] = polled.map(|fd| fd.any().unwrap_or(false));
            if reported || ended {
                // What came until now came before APP could have a handler: a terminal's copy of it
                // was dropped.
                signals.hold(observer);
                return self.read_report(plan);
            }
            // After the report: an APP that executes already is supervised, however often it is to stop.
            if signalled {
                signals.hold(observer);
                if signals.stop_requests() > 1 {
                    return Err(Error::Interrupted);
                }
            }
        }
    }

    fn read_report(&self, plan: &Plan) -> Result<(), Error> {
        let mut bytes = [0; Report::SIZE];
        let length = sys::read(self.report.as_raw_fd(), &mut bytes).unwrap_or(0);
        match bytes.get(..length).and_then(Report::decode) {
            Some(report) => Err(failure::explain(plan, &report)),
            None => self.check_executed(plan),
        }
    }

    /// The pipe ends when APP executes, but also when PID 1 is killed before.
    fn check_executed(&self, plan: &Plan) -> Result<(), Error> {
        // A reaper never executes, and whatever became of its child is told by its status.
        let has_reaper = plan.steps.iter().any(|step| matches!(step, Step::Init));
        if has_reaper || !never_executed(self.pid) {
            return Ok(());
        }
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
        let how = match waitid(Id::PIDFd(self.pidfd.as_fd()), flags) {
            Ok(WaitStatus::Signaled(_, signal, _)) => signal.as_str(),
            _ => "an unknown cause",
        };
        let limited = plan.limits().keys().any(|file| file.starts_with("memory"));
        Err(Error::Died {
            signal: how.to_owned(),
            hint: if how == "SIGKILL" && limited {
                "; the kernel's OOM killer does this when the memory limit is below what execve needs: raise --memory"
            } else {
                ""
            },
        })
    }
}

impl Drop for Spawned {
    /// Kills PID 1 and collects its status: until then the guard can't end.
    fn drop(&mut self) {
        if pidfd::send(&self.pidfd, libc::SIGKILL).is_ok()
            && matches!(sys::poll(self.pidfd.as_raw_fd(), 2000), Ok(ready) if ready != 0)
        {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
            let _ = waitid(Id::PIDFd(self.pidfd.as_fd()), flags);
        }
    }
}

/// Whether a process, dead or alive, is still the copy that clone made: PF_FORKNOEXEC of its flags in
/// proc_pid_stat(5), which the kernel clears before it closes close-on-exec descriptors.
fn never_executed(pid: u32) -> bool {
    const PF_FORKNOEXEC: u64 = 0x40;
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name may contain anything, parentheses too.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let flags = fields
        .split_whitespace()
        .nth(6)
        .and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_FORKNOEXEC != 0)
}

/// The host's shared mounts, for the child to join their peer groups.
fn open_peers(plan: &Plan) -> Result<Vec<OwnedFd>, Error> {
    let open = |path: &std::path::Path| {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        File::options()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .or_else(|_| {
                File::options()
                    .read(true)
                    .custom_flags(libc::O_PATH)
                    .open(path)
            })
    };
    let peers = plan.peers.iter().map(|peer| {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::OsStr::from_bytes(peer.target.to_bytes());
        open(path.as_ref())
            .map(OwnedFd::from)
            .map_err(|error| Error::option("--propagation shared", path, Error::io_words(&error)))
    });
    peers.collect()
}

/// Reader and writer, both above the standard streams and closed by execve.
fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: `ends` has room for two descriptors.
    Errno::result(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })
        .map_err(Error::launcher("make a pipe"))?;
    // SAFETY: the kernel just made them for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}
