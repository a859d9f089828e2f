//! The thread that looks at the jail's mounts and namespaces while it lives, and at the host afterwards.
//!
//! A thread of its own: a table of mounts can't be read while a mount of its namespace hangs, and neither
//! the jail nor its launcher nor the other evidence shall wait for that.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::check::{TIME, check};
use super::seen::Seen;
use super::umount::{Unmount, look};
use super::{Passing, cgroups, host};
use crate::clock;
use crate::event::{LeakCheck, Task, What};
use crate::jail::Observer;
use crate::jail::cgroup::View;
use crate::session::{Recorder, stand_back};

/// Calls that wait for the thread; of more, those that only tell of a change are left out.
const QUEUE: usize = 64;

/// Looks at unmounts that failed: those of one jail that are told.
const UNMOUNTS: u32 = 64;

/// How often the jail is looked at without a notice. Where mounts are not traced there is none.
const PERIOD: Duration = Duration::from_secs(1);

/// How soon after APP's start the first time.
const SOON: Duration = Duration::from_millis(20);

/// What the thread is told.
enum Notice {
    /// Mounts or namespaces of the jail changed.
    Changed,
    /// An unmount failed, or left something behind.
    Unmount(Unmount),
    /// The jail is removed: what is left?
    End(SyncSender<LeakCheck>),
}

/// Watches one jail for what it will leave. An [`Observer`] that passes on what it is told.
pub struct Watch<'a> {
    next: &'a dyn Observer,
    recorder: Recorder,
    view: View,
    notices: SyncSender<Notice>,
    /// In the jail's cgroup when its PID 1 was gone.
    joined: Mutex<Vec<Task>>,
}

/// For the thread that reads the kernel's events: tells the watch of those that concern it.
pub struct Bell(SyncSender<Notice>);

impl Bell {
    /// Mounts or namespaces of the jail changed.
    pub fn changed(&self) {
        // Full: then a look is due anyway.
        let _ = self.0.try_send(Notice::Changed);
    }

    /// An unmount failed, or left something behind.
    pub fn unmount(&self, unmount: Unmount) {
        let _ = self.0.try_send(Notice::Unmount(unmount));
    }
}

impl<'a> Watch<'a> {
    /// Starts the thread. `seen` is from before the jail; `next` gets what the launcher tells.
    ///
    /// # Errors
    ///
    /// The thread can't be made.
    pub fn start(
        recorder: &Recorder,
        next: &'a dyn Observer,
        seen: Seen,
        passing: Passing,
        view: View,
        pid_1: u32,
    ) -> std::io::Result<Watch<'a>> {
        let (notices, inbox) = sync_channel(QUEUE);
        let for_thread = view.try_clone()?;
        std::thread::Builder::new().name("leaks".into()).spawn({
            let recorder = recorder.clone();
            move || {
                stand_back();
                Thread {
                    recorder,
                    view: for_thread,
                    pid_1,
                    seen,
                    passing,
                    start_ns: clock::boot_ns(),
                    unmounts: 0,
                }
                .run(&inbox);
            }
        })?;
        Ok(Watch {
            next,
            recorder: recorder.clone(),
            view,
            notices,
            joined: Mutex::default(),
        })
    }

    /// What tells the watch of the kernel's events.
    pub fn bell(&self) -> Bell {
        Bell(self.notices.clone())
    }

    /// Looks what is left; to be called when the jail is removed. Within [`TIME`], more or less.
    pub fn check(&self) -> LeakCheck {
        let joined = std::mem::take(&mut *self.joined.lock().unwrap_or_else(PoisonError::into_inner));
        let (answer, answers) = sync_channel(1);
        let asked = Instant::now();
        let sent = self.notices.send(Notice::End(answer));
        let limit = TIME * 2;
        let mut found = match sent.map(|()| answers.recv_timeout(limit)) {
            Ok(Ok(found)) => found,
            _ => LeakCheck {
                incomplete: vec![format!(
                    "mounts and namespaces: procfs did not answer within {} ms",
                    limit.as_millis()
                )],
                ..LeakCheck::default()
            },
        };
        found.joined = joined;
        found.cgroups = cgroups::left(&self.view);
        found.duration_ns = asked.elapsed().as_nanos() as u64;
        self.recorder
            .observe(clock::boot_ns(), What::LeakCheck(found.clone()));
        found
    }
}

impl Observer for Watch<'_> {
    fn observe(&self, time_ns: u64, what: What) {
        if let What::JailExited(_) = &what {
            // All of PID 1's namespace are gone with it: these came from elsewhere.
            let joined = self.view.pids().into_iter().take(64).map(host::task);
            *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = joined.collect();
        }
        self.next.observe(time_ns, what);
    }

    fn before_removal(&self) {
        self.next.before_removal();
    }
}

struct Thread {
    recorder: Recorder,
    view: View,
    pid_1: u32,
    seen: Seen,
    passing: Passing,
    start_ns: u64,
    unmounts: u32,
}

impl Thread {
    fn run(mut self, inbox: &Receiver<Notice>) {
        let outputs = outputs();
        self.look();
        let mut wait = SOON;
        loop {
            match inbox.recv_timeout(wait) {
                Ok(Notice::Changed) | Err(RecvTimeoutError::Timeout) => self.look(),
                Ok(Notice::Unmount(unmount)) => {
                    self.unmount(&unmount);
                    self.look();
                }
                Ok(Notice::End(answer)) => {
                    self.end(&outputs, &answer);
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            wait = PERIOD;
        }
    }

    fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.pid_1];
        pids.extend(self.view.pids().into_iter().filter(|pid| *pid != self.pid_1));
        pids
    }

    fn look(&mut self) {
        self.seen.look(&self.pids());
    }

    fn unmount(&mut self, unmount: &Unmount) {
        self.unmounts += 1;
        if self.unmounts > UNMOUNTS {
            return;
        }
        let user = self.seen.launchers.get("user").copied();
        let found = look(unmount, &self.pids(), user);
        // A lazy unmount that nobody holds is done.
        if found.error.is_some() || !found.users.is_empty() {
            self.recorder
                .observe(clock::boot_ns(), What::MountUse(found));
        }
    }

    fn end(
        &mut self,
        outputs: &[String],
        answer: &SyncSender<LeakCheck>,
    ) {
        let mut found = check(&self.seen, self.passing, outputs, self.start_ns);
        found.dying = self.seen.dying.more_by_now();
        let left = found
            .namespaces
            .iter()
            .filter_map(|pinned| {
                let kind = host::KINDS.iter().find(|kind| **kind == pinned.kind)?;
                Some((*kind, pinned.inode))
            })
            .collect();
        for gone in self.seen.unmounted(&left) {
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
