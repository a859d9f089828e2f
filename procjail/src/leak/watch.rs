//! The thread that looks at the jail's mounts and namespaces while it lives, and at the host afterwards.
//!
//! A thread of its own: a table of mounts can't be read while a mount of its namespace hangs, and neither
//! the jail nor its launcher nor the other evidence shall wait for that.

use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::check::{TIME, check};
use super::entered::Entered;
use super::notices::Notices;
use super::seen::Seen;
use super::umount::{Unmount, look};
use super::waits::Waits;
use super::{Passing, cgroups};
use crate::cgroup::View;
use crate::clock;
use crate::event::{LeakCheck, Task, What};
use crate::jail::{LookAtStall, Observer};
use crate::procfs::host;
use crate::thread::stand_back;

/// Calls that wait for the thread; of more, those that only tell of a change are left out.
const QUEUE: usize = 64;

/// Looks at unmounts that failed: those of one jail that are told.
const UNMOUNTS: u32 = 64;

/// How often the jail is looked at without a notice: who takes a copy of its mounts gives none. What comes up
/// after the last look can't be told from what a stranger makes after the jail.
const PERIOD: Duration = Duration::from_millis(250);

/// How soon after APP's start the first time.
const SOON: Duration = Duration::from_millis(20);

/// When the kernel is asked to tell of mounts. A group of fanotify takes 10 ms to close (it waits for all
/// its readers in the kernel), which a jail that ends at once should not cost.
const LISTEN: Duration = Duration::from_millis(100);

/// What the thread is told.
enum Notice {
    /// Mounts or namespaces of the jail changed.
    Changed,
    /// An unmount failed, or left something behind.
    Unmount(Unmount),
    /// The jail is removed: what is left? PID 1's end was seen then.
    End(Option<u64>, SyncSender<LeakCheck>),
}

/// Watches one jail for what it will leave. An [`Observer`] that passes on what it is told.
pub struct Watch {
    next: Arc<dyn Observer + Send + Sync>,
    recorder: Arc<dyn Observer + Send + Sync>,
    view: View,
    bell: Bell,
    /// What there was when PID 1's end was seen.
    ended: Mutex<Ended>,
}

#[derive(Default)]
struct Ended {
    /// When, CLOCK_BOOTTIME nanoseconds.
    time_ns: Option<u64>,
    /// In the jail's cgroup then.
    joined: Vec<Task>,
}

/// For the thread that reads the kernel's events: tells the watch of those that concern it.
#[derive(Clone)]
pub struct Bell {
    notices: SyncSender<Notice>,
    wake: Arc<EventFd>,
}

impl Bell {
    /// Mounts or namespaces of the jail changed.
    pub fn changed(&self) {
        self.ring(Notice::Changed);
    }

    /// An unmount failed, or left something behind.
    pub fn unmount(&self, unmount: Unmount) {
        self.ring(Notice::Unmount(unmount));
    }

    fn ring(&self, notice: Notice) {
        // Full: then a look is due anyway.
        let _ = self.notices.try_send(notice);
        let _ = self.wake.write(1);
    }

    /// Rings until there is room for the notice, or the time is over: the thread may be stuck.
    fn insist(&self, mut notice: Notice, limit: Duration) {
        let start = Instant::now();
        while let Err(TrySendError::Full(back)) = self.notices.try_send(notice) {
            if start.elapsed() > limit {
                return;
            }
            notice = back;
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.wake.write(1);
    }
}

impl Watch {
    /// Starts the thread. `seen` is from before the jail; `next` gets what the launcher tells.
    ///
    /// # Errors
    ///
    /// The thread can't be made.
    pub fn start(
        recorder: Arc<dyn Observer + Send + Sync>,
        next: Arc<dyn Observer + Send + Sync>,
        seen: Seen,
        passing: Passing,
        view: View,
        pid_1: u32,
    ) -> std::io::Result<Watch> {
        let (notices, inbox) = sync_channel(QUEUE);
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let wake = Arc::new(wake);
        let for_thread = view.try_clone()?;
        std::thread::Builder::new().name("leaks".into()).spawn({
            let (recorder, wake) = (Arc::clone(&recorder), Arc::clone(&wake));
            move || {
                stand_back();
                Thread {
                    recorder,
                    view: for_thread,
                    pid_1,
                    pid_1_start_ns: host::task(pid_1).start_ns,
                    seen,
                    passing,
                    start_ns: clock::boot_ns(),
                    unmounts: 0,
                    kernel: None,
                    first_namespace: host::namespace(pid_1, "mnt"),
                    told: Unmounts::default(),
                    entered: Entered::default(),
                    waits: Waits::default(),
                }
                .run(&inbox, &wake);
            }
        })?;
        Ok(Watch {
            next,
            recorder,
            view,
            bell: Bell { notices, wake },
            ended: Mutex::default(),
        })
    }

    /// What tells the watch of the kernel's events.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Looks what is left; to be called when the jail is removed. Within [`TIME`], more or less.
    pub fn check(&self) -> LeakCheck {
        let ended = std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        let (answer, answers) = sync_channel(1);
        let asked = Instant::now();
        let limit = TIME * 2;
        self.bell.insist(Notice::End(ended.time_ns, answer), limit);
        let mut found = match answers.recv_timeout(limit) {
            Ok(found) => found,
            Err(_) => LeakCheck {
                incomplete: vec![format!(
                    "mounts and namespaces: procfs did not answer within {} ms",
                    limit.as_millis()
                )],
                ..LeakCheck::default()
            },
        };
        found.joined = ended.joined;
        found.cgroups = cgroups::left(&self.view);
        found.duration_ns = asked.elapsed().as_nanos() as u64;
        self.recorder
            .observe(clock::boot_ns(), What::LeakCheck(found.clone()));
        found
    }
}

impl Observer for Watch {
    fn observe(&self, time_ns: u64, what: What) {
        if let What::StopRequested(_) = &what {
            self.bell.changed();
        }
        if let What::JailExited(_) = &what {
            // All of PID 1's namespace are gone with it: these came from elsewhere.
            let joined = self.view.pids().into_iter().take(64).map(host::task);
            *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Ended {
                time_ns: Some(time_ns),
                joined: joined.collect(),
            };
        }
        self.next.observe(time_ns, what);
    }

    fn before_stop(&self) {
        self.next.before_stop();
    }

    fn before_removal(&self) {
        self.next.before_removal();
    }

    fn look_at_stall(&self) -> Option<LookAtStall> {
        self.next.look_at_stall()
    }
}

struct Thread {
    recorder: Arc<dyn Observer + Send + Sync>,
    view: View,
    pid_1: u32,
    pid_1_start_ns: u64,
    seen: Seen,
    passing: Passing,
    start_ns: u64,
    unmounts: u32,
    /// What the kernel tells of the mount namespace of PID 1.
    kernel: Option<Notices>,
    /// That namespace.
    first_namespace: Option<u64>,
    told: Unmounts,
    entered: Entered,
    waits: Waits,
}

/// The unmounts that the kernel told of since the last mount.
#[derive(Clone, Copy, Debug, Default)]
struct Unmounts {
    count: u64,
    last_ns: u64,
    lost: bool,
}

impl Thread {
    fn run(mut self, inbox: &Receiver<Notice>, wake: &EventFd) {
        let outputs = outputs();
        self.look();
        let start = Instant::now();
        let (mut listens, mut wanted) = (false, false);
        // A storm of mounts must not keep a processor busy: looks take a tenth of the time at most.
        let mut rested = start;
        let mut pause = SOON;
        loop {
            if wanted {
                pause = rested.saturating_duration_since(Instant::now());
            }
            wanted |= self.wait(wake, pause) | self.listen();
            pause = match LISTEN.checked_sub(start.elapsed()) {
                Some(left) => left,
                None => PERIOD,
            };
            if !listens && start.elapsed() >= LISTEN {
                listens = true;
                self.kernel = Notices::of(self.pid_1);
            }
            let _ = wake.read();
            loop {
                match inbox.try_recv() {
                    Ok(Notice::Changed) => wanted = true,
                    Ok(Notice::Unmount(unmount)) => {
                        self.unmount(&unmount);
                        wanted = true;
                    }
                    Ok(Notice::End(ended_ns, answer)) => {
                        self.end(&outputs, ended_ns, &answer);
                        return;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            let now = Instant::now();
            if wanted && now >= rested {
                self.look();
                wanted = false;
                rested = Instant::now() + now.elapsed() * 9;
            }
        }
    }

    /// Waits for somebody to ring, or for the kernel; tells whether neither did.
    fn wait(&self, wake: &EventFd, pause: Duration) -> bool {
        let mut fds = vec![PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        let kernel = self.kernel.as_ref();
        fds.extend(kernel.map(|notices| PollFd::new(notices.as_fd(), PollFlags::POLLIN)));
        // Rounded up: a rest of less than a millisecond must not spin.
        let timeout = PollTimeout::from(pause.as_micros().div_ceil(1000).min(10_000) as u16);
        poll(&mut fds, timeout) == Ok(0)
    }

    /// Hears the kernel out; tells whether a mount came.
    fn listen(&mut self) -> bool {
        let Some(told) = self.kernel.as_mut().map(Notices::read) else {
            return false;
        };
        if told.attached > 0 {
            self.told = Unmounts::default();
        }
        if told.detached > 0 {
            self.told.count += told.detached;
            self.told.last_ns = clock::boot_ns();
        }
        self.told.lost |= told.lost;
        told.attached > 0
    }

    /// Processes of the jail, PID 1 first.
    fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        // Its number may be another one's when it is gone.
        if host::task(self.pid_1).start_ns == self.pid_1_start_ns {
            pids.push(self.pid_1);
        }
        pids.extend(
            self.view
                .pids()
                .into_iter()
                .filter(|pid| *pid != self.pid_1),
        );
        pids
    }

    fn look(&mut self) {
        let pids = self.pids();
        let mut seen = std::mem::take(&mut self.seen);
        seen.look(&pids, || self.pids());
        self.seen = seen;
        self.waits.look(&pids);
        if pids.first() == Some(&self.pid_1) {
            let view = &self.view;
            self.entered.look(self.pid_1, || view.pids());
        }
    }

    fn unmount(&mut self, unmount: &Unmount) {
        self.unmounts += 1;
        if self.unmounts > UNMOUNTS {
            return;
        }
        let user = self.seen.launchers.get("user").copied();
        let known = |id| self.seen.was_at(id);
        let found = look(unmount, &self.pids(), user, &known);
        // A lazy unmount that nobody holds is done.
        if found.error.is_some() || !found.users.is_empty() {
            self.recorder
                .observe(clock::boot_ns(), What::MountUse(found));
        }
    }

    fn end(&mut self, outputs: &[String], ended_ns: Option<u64>, answer: &SyncSender<LeakCheck>) {
        let mut found = check(&self.seen, self.passing, outputs, self.start_ns);
        found.dying = self.seen.dying.more_by_now();
        found.entered = self.entered.told();
        found.waited = self.waits.long();
        found.grown = Some(self.seen.tmpfs.grown(&self.seen.before));
        let left = found
            .namespaces
            .iter()
            .filter_map(|pinned| {
                let kind = host::KINDS.iter().find(|kind| **kind == pinned.kind)?;
                Some((*kind, pinned.inode))
            })
            .collect();
        self.listen();
        let of_pid_1 = self.first_namespace;
        for mut gone in self.seen.unmounted(&left) {
            if self.kernel.is_some()
                && Some(gone.namespace) == of_pid_1
                && self.told.count > 0
                && !self.told.lost
            {
                gone.gone_ns = Some(self.told.last_ns);
                gone.unmounted = Some(self.told.count);
                gone.took_ns = ended_ns.and_then(|ended| ended.checked_sub(self.told.last_ns));
            }
            self.recorder
                .observe(clock::boot_ns(), What::ImplicitUnmounts(gone));
        }
        let _ = answer.send(found);
    }
}

/// What standard output and error are, where they are pipes: a file or a terminal is nobody's to close.
fn outputs() -> Vec<String> {
    let mut found: Vec<String> = [1, 2]
        .iter()
        .filter_map(|number| host::link(&format!("/proc/self/fd/{number}")))
        .filter(|link| link.starts_with("pipe:") || link.starts_with("socket:"))
        .collect();
    found.dedup();
    found
}
