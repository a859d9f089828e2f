//! The thread that reads the evidence, and the launcher's way to tell it when.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::kernel_log::Finding;
use super::kmsg::Kmsg;
use super::memory::Memory;
use super::pace::Pace;
use super::{counters, tasks};
use crate::cgroup::View;
use crate::clock;
use crate::event::{Moment, What};
use crate::jail::{LookAtStall, Observer};
use crate::procfs;
use crate::thread::stand_back;

/// Longest time that the end of the jail waits for the last evidence, which takes a millisecond.
const END_TIME: Duration = Duration::from_millis(200);

/// Longest time that a stop signal waits for the look at what the jail does without it.
const LOOK_TIME: Duration = Duration::from_millis(40);

/// How long before the end of the grace period the last snapshot is taken; a tenth of that if that
/// is less.
const LEAD: Duration = Duration::from_millis(50);

/// After the kernel's notice of a change, how long no other is heard.
const QUIET: Duration = Duration::from_millis(10);

/// OOM kills that are told in full, each. Of more than that, those that the pace allows.
const OOM_KILLS: u64 = 64;

/// Findings in the kernel log, at most.
const FINDINGS: usize = 4096;

/// Who hears of the evidence, beside what the launcher does.
pub trait Listener: Observer + Send + Sync {
    /// What the kernel log says. Whether it concerns a process of the jail is the listener's to find out.
    fn kernel_log(&self, time_ns: u64, finding: Finding);
}

/// An [`Observer`] that passes on what the launcher tells, and has evidence recorded with it.
pub struct Witness {
    listener: Arc<dyn Listener>,
    post: Arc<Post>,
}

/// Between the launcher and the thread.
struct Post {
    wake: EventFd,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked: Asked,
    /// The snapshot of the stop request was taken.
    looked: bool,
    /// The thread has ended.
    ended: bool,
}

/// What the thread is asked for.
#[derive(Clone, Copy, Default)]
struct Asked {
    oom_kill: bool,
    /// APP starts.
    gate: bool,
    /// A stop was requested then, and may take so long.
    stop: Option<(Instant, Duration)>,
    /// PID 1 has ended or is killed: no more snapshots of a stop.
    exited: bool,
    end: bool,
    /// Nobody waits for the rest.
    leave: bool,
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, change: impl FnOnce(&mut Asked)) {
        change(&mut self.lock().asked);
        // Full only if it was never read: then the thread will wake up all the same.
        let _ = self.wake.write(1);
    }

    /// Waits until the thread got so far, or the time is over.
    fn wait(&self, limit: Duration, done: impl Fn(&State) -> bool) {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), limit, |state| !done(state));
        drop(waited);
    }

    fn looked(&self) {
        self.lock().looked = true;
        self.changed.notify_all();
    }
}

impl Witness {
    /// Starts the thread. It reads the start's counters at once, so start it before the gate is opened.
    /// Without `kmsg` there is nothing from the kernel log. If there can be no thread, the trace goes
    /// without evidence.
    ///
    /// # Errors
    ///
    /// Out of descriptors.
    pub fn start(
        listener: Arc<dyn Listener>,
        view: View,
        pid_1: u32,
        kmsg: Option<File>,
    ) -> std::io::Result<Witness> {
        let post = Arc::new(Post {
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let cgroup = view
            .unified()
            .and_then(|unified| unified.levels.first())
            .map_or_else(String::new, |level| level.path.clone());
        let kmsg = kmsg.map(|file| Kmsg::new(file, &cgroup));
        let thread = std::thread::Builder::new().name("witness".into());
        let spawned = thread.spawn({
            let (listener, post) = (Arc::clone(&listener), Arc::clone(&post));
            move || {
                stand_back();
                let _ended = Ended(Arc::clone(&post));
                Eyes::open(listener, view, pid_1, kmsg).watch(&post);
            }
        });
        if spawned.is_err() {
            post.lock().ended = true;
        }
        Ok(Witness {
            listener: listener.clone(),
            post,
        })
    }

    /// What to call when the kernel tells of an OOM kill.
    pub fn alarm(&self) -> impl Fn() + Send + 'static {
        let post = Arc::clone(&self.post);
        move || post.ask(|asked| asked.oom_kill = true)
    }
}

impl Observer for Witness {
    fn observe(&self, time_ns: u64, what: What) {
        match &what {
            What::StopRequested(stop) => {
                let window = Duration::from_nanos(stop.timeout_ns);
                self.post
                    .ask(|asked| asked.stop = Some((Instant::now(), window)));
            }
            What::GateOpened(_) => self.post.ask(|asked| asked.gate = true),
            // From there on the stall is what counts.
            What::Kill(_) | What::JailExited(_) => self.post.ask(|asked| asked.exited = true),
            _ => {}
        }
        self.listener.observe(time_ns, what);
    }

    fn before_stop(&self) {
        self.post
            .wait(LOOK_TIME, |state| state.looked || state.ended);
    }

    fn before_removal(&self) {
        self.post.ask(|asked| asked.end = true);
        self.post.wait(END_TIME, |state| state.ended);
    }

    fn look_at_stall(&self) -> Option<LookAtStall> {
        self.listener.look_at_stall()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.post.ask(|asked| asked.leave = true);
    }
}

/// Tells that the thread has ended, however it does.
struct Ended(Arc<Post>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

/// Snapshots that are still to come.
#[derive(Default)]
struct Due {
    half: Option<Instant>,
    deadline: Option<Instant>,
}

/// What the thread has.
struct Eyes {
    listener: Arc<dyn Listener>,
    view: View,
    pid_1: u32,
    kmsg: Option<Kmsg>,
    memory: Memory,
    counters: counters::Files,
    /// The nearest limit as of the last sample.
    limit: Option<u64>,
    pace: Pace,
    epoch: Instant,
    /// The cgroup's count of OOM kills that were told, if it has one.
    oom_kills: Option<u64>,
    told_oom_kills: u64,
    findings: usize,
    due: Due,
    /// The stop request was seen.
    stopping: bool,
}

impl Eyes {
    fn open(listener: Arc<dyn Listener>, view: View, pid_1: u32, kmsg: Option<Kmsg>) -> Eyes {
        let mut eyes = Eyes {
            memory: Memory::open(&view),
            counters: counters::Files::open(&view),
            limit: None,
            listener,
            view,
            pid_1,
            kmsg,
            pace: Pace::new(Duration::ZERO),
            epoch: Instant::now(),
            oom_kills: None,
            told_oom_kills: 0,
            findings: 0,
            due: Due::default(),
            stopping: false,
        };
        eyes.counters(Moment::Start);
        eyes.oom_kills = eyes.memory.oom_kills();
        eyes.sample(Moment::Start);
        eyes
    }

    fn watch(&mut self, post: &Post) {
        let mut quiet_until = self.epoch;
        loop {
            let noticed = self.wait(post, quiet_until);
            if noticed {
                quiet_until = Instant::now() + QUIET;
            }
            let _ = post.wake.read();
            let asked = {
                let mut state = post.lock();
                let asked = state.asked;
                state.asked.oom_kill = false;
                state.asked.gate = false;
                asked
            };
            if asked.leave {
                return;
            }
            if asked.gate {
                self.pace.hurry(self.epoch.elapsed());
            }
            // First, as its answer is the first to be outdated.
            if self.snapshots(&asked) {
                post.looked();
            }
            if noticed || asked.oom_kill || asked.end {
                self.read_log();
            }
            let kills = self.memory.oom_kills();
            let more = kills > self.oom_kills;
            if more || (asked.oom_kill && kills.is_none()) {
                self.oom_kills = kills;
                self.oom_kill();
            }
            if asked.end {
                self.sample(Moment::End);
                self.counters(Moment::End);
                return;
            }
            if noticed || Instant::now() >= self.epoch + self.pace.next_look() {
                self.look();
            }
        }
    }

    /// Waits until there is something to do. Tells whether the kernel gave notice of a change.
    fn wait(&self, post: &Post, quiet_until: Instant) -> bool {
        let now = Instant::now();
        let listens = now >= quiet_until;
        let next = [self.due.half, self.due.deadline]
            .into_iter()
            .flatten()
            .chain((!listens).then_some(quiet_until))
            .fold(self.epoch + self.pace.next_look(), Instant::min);
        let mut fds = vec![PollFd::new(post.wake.as_fd(), PollFlags::POLLIN)];
        if listens {
            let log = self.kmsg.as_ref();
            fds.extend(log.map(|log| PollFd::new(log.fd(), PollFlags::POLLIN)));
            let memory = self.memory.notifier();
            fds.extend(memory.map(|fd| PollFd::new(fd, PollFlags::POLLPRI)));
        }
        // Rounded up: a rest of less than a millisecond must not spin.
        let left = next
            .saturating_duration_since(now)
            .as_micros()
            .div_ceil(1000);
        let _ = poll(&mut fds, PollTimeout::from(left.min(10_000) as u16));
        fds.iter().skip(1).any(|fd| fd.any().unwrap_or(false))
    }

    /// The snapshots of a stop that are due. Tells whether the first one was taken.
    fn snapshots(&mut self, asked: &Asked) -> bool {
        let first = !self.stopping;
        if let Some((start, window)) = asked.stop
            && !self.stopping
        {
            self.stopping = true;
            self.snapshot(Moment::StopRequested);
            self.due = Due {
                half: Some(start + window / 2),
                deadline: Some(start + (window - LEAD.min(window / 10))),
            };
        }
        if asked.exited || asked.end {
            self.due = Due::default();
        }
        let now = Instant::now();
        if self.due.half.is_some_and(|due| due <= now) {
            self.due.half = None;
            self.snapshot(Moment::StopHalf);
        }
        if self.due.deadline.is_some_and(|due| due <= now) {
            self.due.deadline = None;
            self.snapshot(Moment::StopDeadline);
        }
        first && self.stopping
    }

    fn snapshot(&self, moment: Moment) {
        let time = match moment {
            Moment::StopRequested => LOOK_TIME / 2,
            _ => LEAD * 4 / 5,
        };
        let snapshot = tasks::snapshot(&self.view, self.pid_1, moment, time);
        self.tell(What::Snapshot(snapshot));
    }

    fn oom_kill(&mut self) {
        self.told_oom_kills += 1;
        if self.told_oom_kills > OOM_KILLS && !self.pace.allows(self.epoch.elapsed()) {
            return;
        }
        self.sample(Moment::OomKill);
        self.counters(Moment::OomKill);
    }

    fn look(&mut self) {
        let now = self.epoch.elapsed();
        if self.pace.look(now, self.usage(), self.limit) {
            self.sample(Moment::Sample);
        }
    }

    /// What the pace goes by: the cgroup's use of memory, or without one that of PID 1.
    fn usage(&self) -> u64 {
        let of_pid_1 = || procfs::resident_bytes(self.pid_1);
        self.memory.usage().or_else(of_pid_1).unwrap_or_default()
    }

    fn sample(&mut self, moment: Moment) {
        let start = self.epoch.elapsed();
        let pids = match moment {
            // PID 1 is not APP yet.
            Moment::Start => Vec::new(),
            _ => self.view.pids(),
        };
        let sample = self.memory.sample(moment, &pids);
        let usage = self.usage();
        self.limit = sample.limit_bytes;
        self.tell(What::MemorySample(sample));
        let end = self.epoch.elapsed();
        self.pace.told(end, usage, end - start);
    }

    fn counters(&self, moment: Moment) {
        self.tell(What::Counters(self.counters.read(moment)));
    }

    fn read_log(&mut self) {
        let Some(kmsg) = &mut self.kmsg else { return };
        for finding in kmsg.read() {
            self.findings += 1;
            if self.findings <= FINDINGS {
                self.listener.kernel_log(clock::boot_ns(), finding);
            }
        }
    }

    fn tell(&self, what: What) {
        self.listener.observe(clock::boot_ns(), what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{JailExited, StopRequested};

    impl Listener for () {
        fn kernel_log(&self, _: u64, _: Finding) {}
    }

    fn witness() -> Witness {
        Witness {
            listener: Arc::new(()),
            post: Arc::new(Post {
                wake: EventFd::from_flags(EfdFlags::EFD_NONBLOCK).expect("a descriptor"),
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
        }
    }

    #[test]
    fn the_end_waits_for_a_stuck_thread_only_so_long() {
        let witness = witness();
        let start = Instant::now();
        witness.before_removal();
        let waited = start.elapsed();
        assert!(waited >= END_TIME && waited < END_TIME * 5, "{waited:?}");
        assert!(witness.post.lock().asked.end);
    }

    #[test]
    fn the_end_does_not_wait_for_a_dead_thread() {
        let witness = witness();
        drop(Ended(Arc::clone(&witness.post)));
        let start = Instant::now();
        witness.before_removal();
        assert!(start.elapsed() < END_TIME);
    }

    #[test]
    fn what_the_launcher_tells_is_heard() {
        let witness = witness();
        let stop = StopRequested {
            signal: crate::event::Signal::new(libc::SIGTERM),
            stop_signal: crate::event::Signal::new(libc::SIGTERM),
            timeout_ns: 2_000_000_000,
            by: None,
        };
        witness.observe(1, What::StopRequested(stop));
        let asked = witness.post.lock().asked;
        let (_, window) = asked.stop.expect("a stop");
        assert_eq!(window, Duration::from_secs(2));
        assert!(!asked.exited);
        let exited = JailExited {
            status: Default::default(),
        };
        witness.observe(2, What::JailExited(exited));
        assert!(witness.post.lock().asked.exited);
        (witness.alarm())();
        assert!(witness.post.lock().asked.oom_kill);
    }

    #[test]
    fn a_thread_sees_a_jail_to_its_end() {
        let view = View {
            hierarchies: Vec::new(),
        };
        let pid = std::process::id();
        let witness = Witness::start(Arc::new(()), view, pid, None).expect("a thread");
        let start = Instant::now();
        witness.before_removal();
        assert!(witness.post.lock().ended);
        assert!(start.elapsed() < END_TIME);
    }
}
