//! The guard: whatever APP does, and however the launcher dies, nothing of the jail survives it.
//!
//! PR_SET_PDEATHSIG alone is no guarantee: APP can switch it off, executing a set-user-ID program
//! switches it off, and what APP leaves behind never had it. So the jail's PID namespace is nested in
//! another one, whose PID 1 is the guard. The guard does nothing but wait. The kernel kills it when
//! the launcher dies, and when the PID 1 of a namespace dies, the kernel kills everything in that
//! namespace and in those below (pid_namespaces(7)). APP can't reach the guard: it doesn't see it.
//!
//! PID 1 of the jail must be the launcher's own child, to be waited for. The kernel makes a PID
//! namespace only below the one that the caller lives in, so a stage process is cloned into the
//! guard's namespace, and clones PID 1 with CLONE_PARENT. It shares the launcher's memory and
//! descriptors and is gone when the clone returns.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::error::Error;
use super::sys::{self, CloneArgs};
use crate::pidfd;

/// The guard of one jail. Its end is the end of the jail.
#[derive(Debug)]
pub struct Guard {
    pidfd: OwnedFd,
    /// The guard ends when this does.
    lifeline: Option<UnixStream>,
    reaped: bool,
}

impl Guard {
    /// Starts a guard; it arms itself in the background.
    ///
    /// # Errors
    ///
    /// It can't be cloned.
    pub fn start() -> Result<Guard, Error> {
        let fail = Error::launcher("start the guard");
        let (ours, theirs) = UnixStream::pair()
            .map_err(|error| fail(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
        let mut pidfd: RawFd = -1;
        let args = CloneArgs {
            flags: (libc::CLONE_NEWPID | libc::CLONE_PIDFD) as u64,
            pidfd: std::ptr::from_mut(&mut pidfd) as u64,
            exit_signal: libc::SIGCHLD as u64,
            ..CloneArgs::default()
        };
        // SAFETY: the launcher has one thread until the jail stands; `pidfd` is writable.
        match unsafe { sys::clone3(&args) }.map_err(fail)? {
            0 => guard(theirs.as_raw_fd()),
            _ => Ok(Guard {
                // SAFETY: the kernel just made this descriptor for us.
                pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
                lifeline: Some(ours),
                reaped: false,
            }),
        }
    }

    /// Waits until the guard will certainly die with the launcher.
    ///
    /// # Errors
    ///
    /// The guard is dead.
    fn wait_until_armed(&self) -> Result<(), Errno> {
        let lifeline = self.lifeline.as_ref().ok_or(Errno::ESRCH)?;
        match sys::read(lifeline.as_raw_fd(), &mut [0])? {
            0 => Err(Errno::ESRCH),
            _ => Ok(()),
        }
    }

    /// clone3(2) of a child of the launcher whose new PID namespace is nested in the guard's.
    /// `in_child` runs in the child and doesn't return. Gives its host PID and its pidfd.
    ///
    /// # Errors
    ///
    /// The guard is dead, or a clone failed.
    pub fn clone_inside<F: FnMut() -> std::convert::Infallible>(
        &self,
        flags: u64,
        cgroup: RawFd,
        in_child: &mut F,
    ) -> Result<(u32, OwnedFd), Error> {
        self.wait_until_armed()
            .map_err(Error::launcher("wait for the guard"))?;
        let fail = Error::launcher("enter the guard's pid namespace");
        let enter = |pidfd: RawFd| {
            // SAFETY: no pointer is passed. Only children are affected.
            Errno::result(unsafe { libc::setns(pidfd, libc::CLONE_NEWPID) }).map(drop)
        };
        let own = pidfd::open(std::process::id()).map_err(&fail)?;
        let mut pidfd: RawFd = -1;
        let mut stage = Stage {
            args: CloneArgs {
                flags: flags
                    | (libc::CLONE_PARENT | libc::CLONE_NEWPID | libc::CLONE_PIDFD) as u64
                    | sys::flags::CLONE_INTO_CGROUP,
                pidfd: std::ptr::from_mut(&mut pidfd) as u64,
                cgroup: cgroup as u64,
                ..CloneArgs::default()
            },
            in_child,
            result: Err(Errno::ECHILD),
        };
        enter(self.pidfd.as_raw_fd()).map_err(&fail)?;
        let staged = run_stage(&mut stage);
        enter(own.as_raw_fd()).map_err(&fail)?;
        staged.map_err(Error::launcher("start the stage process"))?;
        stage
            .result
            .map_err(Error::launcher("clone PID 1 of the jail"))?;
        // SAFETY: the kernel made this descriptor in the table that the stage shared with us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        // The clone told its number in the stage's namespace.
        let pid = pid_of(&pidfd).ok_or(Errno::ESRCH);
        Ok((
            pid.map_err(Error::launcher(
                "read the PID of PID 1 from /proc/self/fdinfo",
            ))?,
            pidfd,
        ))
    }

    /// Lets the guard end, and with it whatever is left in the jail; doesn't wait for it.
    pub fn release(&mut self) {
        self.lifeline = None;
        // Its own end would come as well, but a stopped guard doesn't read.
        let _ = pidfd::send(&self.pidfd, libc::SIGKILL);
    }

    /// Readable when the guard has ended.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Collects the guard's status if it has ended; tells whether it has.
    pub fn try_reap(&mut self) -> bool {
        self.reap(WaitPidFlag::WNOHANG)
    }

    fn reap(&mut self, flags: WaitPidFlag) -> bool {
        use std::os::fd::AsFd;
        if !self.reaped {
            let status = waitid(
                Id::PIDFd(self.pidfd.as_fd()),
                WaitPidFlag::WEXITED | WaitPidFlag::__WALL | flags,
            );
            self.reaped = !matches!(
                status,
                Ok(nix::sys::wait::WaitStatus::StillAlive) | Err(Errno::EINTR)
            );
        }
        self.reaped
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.release();
        // A guard ends only after everything in its namespaces. What hangs in the kernel must not
        // hang the launcher: it is left to the kernel and to init.
        if !self.reaped
            && matches!(sys::poll(self.pidfd.as_raw_fd(), 1000), Ok(ready) if ready != 0)
        {
            self.reap(WaitPidFlag::WNOHANG);
        }
    }
}

/// The guard itself.
fn guard(lifeline: RawFd) -> ! {
    let armed = sys::die_with_parent().and_then(|()| {
        sys::block_all_signals(true);
        sys::set_comm(c"procjail-guard");
        // Out of the terminal's reach, and not holding up what the launcher's other ends wait for.
        // SAFETY: no pointer is passed.
        unsafe { libc::setsid() };
        let moved = move_to_3(lifeline)?;
        sys::close_all_but(moved)?;
        for fd in 0..3 {
            // SAFETY: this process doesn't use its standard streams.
            unsafe { libc::close(fd) };
        }
        sys::write(moved, &[1])?;
        Ok(moved)
    });
    if let Ok(lifeline) = armed {
        // Nothing comes; the end does, when the launcher lets go or dies.
        let _ = sys::read(lifeline, &mut [0]);
    }
    sys::exit(0)
}

/// The lifeline must survive the closing of all descriptors up to 2.
fn move_to_3(fd: RawFd) -> sys::Result<RawFd> {
    if fd > 2 {
        return Ok(fd);
    }
    // SAFETY: no pointer is passed.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })
}

/// The PID behind a pidfd, as numbered in this process's namespace; see pidfd_open(2).
fn pid_of(pidfd: &OwnedFd) -> Option<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    // 0: of a namespace that this proc doesn't show; -1: it has been reaped.
    pid.trim().parse().ok().filter(|pid| *pid != 0)
}

struct Stage<'a, F> {
    args: CloneArgs,
    in_child: &'a mut F,
    result: sys::Result<libc::pid_t>,
}

/// Runs the stage process to its end.
fn run_stage<F: FnMut() -> std::convert::Infallible>(stage: &mut Stage<'_, F>) -> sys::Result<()> {
    /// PID 1 goes on with a copy of this stack; pages that aren't touched cost nothing.
    const STACK_BYTES: usize = 256 * 1024;
    let mut stack = Vec::<u128>::with_capacity(STACK_BYTES / size_of::<u128>());
    // SAFETY: one past the end of the allocation; stacks grow down on every machine procjail runs on.
    let top = unsafe { stack.as_mut_ptr().add(stack.capacity()) };
    // SAFETY: the stage shares this memory, but this thread sleeps until the stage has ended
    // (CLONE_VFORK), so it has the stack and `stage` for itself.
    let pid = Errno::result(unsafe {
        libc::clone(
            stage_main::<F>,
            top.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD,
            std::ptr::from_mut(stage).cast(),
        )
    })?;
    waitid(
        Id::Pid(Pid::from_raw(pid)),
        WaitPidFlag::WEXITED | WaitPidFlag::__WALL,
    )
    .map(drop)
}

extern "C" fn stage_main<F: FnMut() -> std::convert::Infallible>(stage: *mut c_void) -> c_int {
    // SAFETY: `run_stage` passes a `Stage` of this type, and sleeps meanwhile.
    let stage = unsafe { &mut *stage.cast::<Stage<'_, F>>() };
    // SAFETY: without CLONE_VM the child gets a copy of all this; `pidfd` is writable.
    stage.result = unsafe { sys::clone3(&stage.args) };
    if stage.result == Ok(0) {
        (stage.in_child)();
    }
    0
}
