//! Chaos: the launcher and its jail are struck at random instants, in every way that happens on real
//! machines, and afterwards nothing may be left.
//!
//! Each round is drawn from the seed and its number, so that one that fails can be repeated alone. When
//! exactly a blow falls into the life of a jail is up to the machine.

mod round;

use std::fmt;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::census::collect_orphans;
use crate::scene::{become_subreaper, end_descendants};
use crate::{Census, Invocation, Running, cgroup_directories, descendants};
use round::{Blow, Round};

/// Longest time that a launcher may take to end when it was asked to.
const END: Duration = Duration::from_secs(15);

/// Longest time that what it leaves may take to die.
const AFTERLIFE: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `procjail` under test.
    pub procjail: PathBuf,
    /// The failing programs.
    pub misbehave: PathBuf,
    /// Where the sequence begins.
    pub seed: u64,
    /// The first round.
    pub first: u64,
    /// How many.
    pub rounds: u64,
    /// No round begins after that.
    pub time: Duration,
}

/// How it went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rounds played.
    pub rounds: u64,
    /// How many of them struck a launcher that lived.
    pub struck: u64,
    /// What went wrong, with the round's number.
    pub failures: Vec<String>,
}

/// What [`run`] tells while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// A round is over.
    Played,
    /// Something went wrong.
    Failed(&'a str),
}

/// What the last line of the program `chaos` begins with; a [`Report`] follows.
pub const RESULT: &str = "chaos: ";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds, {} struck a living launcher, {} failures",
            self.rounds,
            self.struck,
            self.failures.len()
        )
    }
}

/// Where all rounds are played.
struct Ground {
    options: Options,
    directory: tempfile::TempDir,
    /// A small tmpfs, full.
    disk: PathBuf,
    memory: Option<Tight>,
    pids: Option<Tight>,
}

/// A cgroup with a limit that is set anew for each round.
struct Tight {
    directory: PathBuf,
    limit: &'static str,
}

impl Tight {
    /// In the v1 hierarchy of the controller or in the unified one; none if the host has neither.
    fn make(controller: &str, v1_file: &'static str, v2_file: &'static str) -> Option<Tight> {
        let name = format!("procjail-chaos.{}.{controller}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let root = Path::new("/sys/fs/cgroup");
        let (parent, limit) = if v1.join("cgroup.procs").exists() {
            (v1, v1_file)
        } else {
            let enable = format!("+{controller}");
            fs::write(root.join("cgroup.subtree_control"), enable).ok()?;
            (root.to_owned(), v2_file)
        };
        let directory = parent.join(name);
        fs::create_dir(&directory).ok()?;
        Some(Tight { directory, limit })
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        for _ in 0..200 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("cannot remove {}", self.directory.display());
    }
}

impl Ground {
    fn new(options: Options) -> Ground {
        let directory = tempfile::Builder::new()
            .prefix("procjail-chaos.")
            .tempdir()
            .expect("a temporary directory");
        let disk = directory.path().join("disk");
        fs::create_dir(&disk).expect("a directory");
        mount(
            Some("chaos"),
            &disk,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=64k"),
        )
        .expect("a small tmpfs");
        Ground {
            options,
            directory,
            disk,
            memory: Tight::make("memory", "memory.limit_in_bytes", "memory.max"),
            pids: Tight::make("pids", "pids.max", "pids.max"),
        }
    }

    /// The launcher of a round, not started.
    fn build(&self, round: &Round) -> Invocation {
        let output = match round.blow {
            Blow::FullDisk if round.number_for_blow.is_multiple_of(4) => PathBuf::from("/dev/full"),
            Blow::FullDisk => self.disk.join("trace.jsonl"),
            _ => self.directory.path().join("trace.jsonl"),
        };
        let name = round.name();
        let mut invocation = Invocation::new(self.options.procjail.clone(), self.directory.path());
        invocation = match round.traced {
            true => invocation.args(&["trace", "--quiet", "-o", &output.display().to_string()]),
            false => invocation.args(&["run"]),
        };
        let app: Vec<&str> = round.app.iter().map(String::as_str).collect();
        invocation = invocation
            .args(&["--name", &name, "--stop-timeout", "150ms"])
            .args(&["--teardown-timeout", "5s"])
            .args(round.options)
            .args(&["--", &self.options.misbehave.display().to_string()])
            .args(&app);
        match round.blow {
            Blow::LittleMemory => {
                // From not enough to start to nearly enough.
                let bytes = (1 << 20) + round.number_for_blow * 8;
                self.confined(invocation, self.memory.as_ref(), bytes)
            }
            Blow::FewProcesses => self.confined(
                invocation,
                self.pids.as_ref(),
                1 + round.number_for_blow % 10,
            ),
            Blow::FewDescriptors => invocation.descriptors(3 + round.number_for_blow % 40),
            _ => invocation,
        }
    }

    /// The launcher starts in a cgroup with this limit, if the host has such.
    fn confined(&self, invocation: Invocation, tight: Option<&Tight>, limit: u64) -> Invocation {
        let Some(tight) = tight else {
            return invocation;
        };
        fs::write(tight.directory.join(tight.limit), limit.to_string()).expect("a limit");
        let members = File::options()
            .write(true)
            .open(tight.directory.join("cgroup.procs"))
            .expect("the cgroup's members");
        // SAFETY: write is async-signal-safe; the descriptor is open until exec.
        unsafe {
            invocation.before_exec(move || {
                match libc::write(members.as_raw_fd(), c"0".as_ptr().cast(), 1) {
                    1 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            })
        }
    }

    /// Plays a round. Tells whether the launcher lived when the blow fell, and what went wrong.
    fn play(&self, round: &Round, mounts: &str) -> (bool, Vec<String>) {
        let mut wrong = Vec::new();
        if round.blow == Blow::FullDisk {
            // Some room, so that it gets full at another place each time.
            let filler = vec![0_u8; (round.number_for_blow % (64 << 10)) as usize];
            let _ = fs::write(self.disk.join("filler"), filler);
        }
        let running = self.build(round).spawn();
        std::thread::sleep(round.delay);
        let lived = !running.has_ended();
        self.strike(round, &running);
        let killed = self.wait(round, &running, &mut wrong);
        let finished = running.finish();
        if finished.stderr.contains("panicked") {
            wrong.push(format!("it panicked: {}", finished.stderr));
        }
        self.look(
            round,
            killed || finished.signal.is_some(),
            mounts,
            &mut wrong,
        );
        let _ = fs::remove_file(self.disk.join("filler"));
        let _ = fs::remove_file(self.disk.join("trace.jsonl"));
        (lived, wrong)
    }

    fn strike(&self, round: &Round, running: &Running) {
        let launcher = running.pid();
        let below = || {
            let all = below(launcher);
            let at = round.number_for_blow as usize % all.len().max(1);
            all.get(at).copied()
        };
        match round.blow {
            Blow::KillLauncher => signal(launcher, libc::SIGKILL),
            Blow::StopAndKillLauncher => {
                signal(launcher, libc::SIGSTOP);
                std::thread::sleep(round.pause);
                signal(launcher, libc::SIGKILL);
            }
            Blow::StopLauncher => {
                signal(launcher, libc::SIGSTOP);
                std::thread::sleep(round.pause);
                signal(launcher, libc::SIGCONT);
            }
            Blow::KillBelow => {
                if let Some(pid) = below() {
                    signal(pid, libc::SIGKILL);
                }
            }
            Blow::StopBelow => {
                if let Some(pid) = below() {
                    signal(pid, libc::SIGSTOP);
                }
                std::thread::sleep(round.pause);
                signal(launcher, libc::SIGKILL);
            }
            Blow::FreezeAndKill | Blow::Freeze => {
                for directory in self.cgroups(round) {
                    let _ = fs::write(directory.join("cgroup.freeze"), "1");
                }
                std::thread::sleep(round.pause);
                if round.blow == Blow::FreezeAndKill {
                    signal(launcher, libc::SIGKILL);
                }
            }
            Blow::LittleMemory
            | Blow::FewProcesses
            | Blow::FewDescriptors
            | Blow::FullDisk
            | Blow::Stop => {}
        }
    }

    /// Asks the launcher to stop and waits for its end. Tells whether it had to be killed.
    fn wait(&self, round: &Round, running: &Running, wrong: &mut Vec<String>) -> bool {
        std::thread::sleep(round.pause);
        if !running.has_ended() {
            signal(running.pid(), libc::SIGTERM);
        }
        let start = Instant::now();
        while !running.has_ended() {
            if start.elapsed() > END {
                wrong.push(format!("the launcher did not end within {END:?}"));
                signal(running.pid(), libc::SIGKILL);
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Nothing may be left of the round. A launcher that was killed leaves empty cgroups to
    /// `procjail clean`.
    fn look(&self, round: &Round, killed: bool, mounts: &str, wrong: &mut Vec<String>) {
        let start = Instant::now();
        loop {
            collect_orphans();
            let left = descendants();
            if left.is_empty() {
                break;
            }
            if round.blow == Blow::StopBelow && start.elapsed() > AFTERLIFE / 5 {
                // Whoever stops a process in the instant before it is armed against its launcher's death
                // has to continue it: the kernel has no parent-death signal that is there from the start.
                left.iter().for_each(|pid| signal(*pid, libc::SIGCONT));
            }
            if start.elapsed() > AFTERLIFE {
                let states = left.iter().map(|pid| describe(*pid));
                wrong.push(format!(
                    "processes: {}",
                    states.collect::<Vec<_>>().join(", ")
                ));
                end_descendants();
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let left = self.left(round);
        if !left.is_empty() {
            if !killed {
                wrong.push(format!(
                    "cgroups, though the launcher was not killed: {left:?}"
                ));
            }
            let cleaned = Command::new(&self.options.procjail)
                .args(["clean", "--name", &round.name()])
                .output()
                .expect("procjail clean");
            if !cleaned.status.success() || !self.left(round).is_empty() {
                wrong.push(format!(
                    "cgroups that clean does not remove: {}",
                    String::from_utf8_lossy(&cleaned.stdout).trim()
                ));
            }
        }
        let now = own_mounts(self.directory.path());
        if now != mounts {
            wrong.push(format!("mounts: {now}"));
        }
    }

    /// The round's cgroup directories, and the directory of all jails where there is none in it.
    fn left(&self, round: &Round) -> Vec<PathBuf> {
        let all = cgroup_directories();
        let named = |path: &Path, name: &str| path.file_name().is_some_and(|file| file == name);
        let hollow = |path: &Path| all.iter().all(|other| other.parent() != Some(path));
        let name = round.name();
        all.iter()
            .filter(|path| named(path, &name) || (named(path, "procjail") && hollow(path)))
            .cloned()
            .collect()
    }

    /// The round's cgroup directories.
    fn cgroups(&self, round: &Round) -> Vec<PathBuf> {
        let name = round.name();
        cgroup_directories()
            .into_iter()
            .filter(|path| path.file_name().is_some_and(|file| file == name.as_str()))
            .collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = umount2(&self.disk, MntFlags::MNT_DETACH);
    }
}

/// Plays the rounds; `tell` hears of each, and of what failed, at once.
///
/// # Panics
///
/// If the ground can't be made: not root, no tmpfs.
pub fn run(options: Options, mut tell: impl FnMut(Told<'_>)) -> Report {
    become_subreaper();
    let before = Census::take();
    let mut report = Report::default();
    {
        let ground = Ground::new(options.clone());
        let mounts = own_mounts(ground.directory.path());
        let start = Instant::now();
        let life = life(&ground);
        for number in options.first..options.first + options.rounds {
            if start.elapsed() > options.time {
                break;
            }
            let round = Round::draw(options.seed, number, life);
            let (lived, wrong) = ground.play(&round, &mounts);
            report.rounds += 1;
            report.struck += u64::from(lived);
            for what in wrong {
                let failure = format!("{round}\n  {what}");
                tell(Told::Failed(&failure));
                report.failures.push(failure);
            }
            tell(Told::Played);
        }
    }
    // What no round's own look sees: BPF programs, mounts elsewhere, the cgroups above.
    let left = before.leftovers();
    if !left.is_empty() {
        let failure = format!("after all rounds: {}", left.join("; "));
        tell(Told::Failed(&failure));
        report.failures.push(failure);
    }
    report
}

/// How long a short untraced jail takes here.
fn life(ground: &Ground) -> Duration {
    let round = Round {
        number: u64::MAX,
        blow: Blow::Stop,
        traced: false,
        options: &[],
        app: vec!["exit".to_owned(), "0".to_owned()],
        delay: Duration::ZERO,
        pause: Duration::ZERO,
        number_for_blow: 0,
    };
    // The first start fills caches and takes longer.
    ground.build(&round).finish();
    ground.build(&round).finish().elapsed + Duration::from_millis(5)
}

fn signal(pid: u32, number: i32) {
    // SAFETY: kill has no preconditions. The launcher is not collected yet; what is below it may be gone,
    // and its number used again by another process below at most.
    unsafe { libc::kill(pid as libc::pid_t, number) };
}

/// The processes below one.
fn below(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for task in fs::read_dir(format!("/proc/{parent}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children: Vec<u32> = children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect();
            found.extend(&children);
            parents.extend(children);
        }
    }
    found
}

fn describe(pid: u32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let status = read("status");
    let state = status
        .lines()
        .find(|line| line.starts_with("State:"))
        .unwrap_or("gone");
    format!(
        "{pid} {} {state} in {}",
        read("comm").trim(),
        read("wchan").trim()
    )
}

/// Mounts that a round can have left here: those of its programs and directories.
fn own_mounts(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let ours = |line: &&str| {
        line.contains(&directory.display().to_string())
            || line.contains(" misbehave ")
            || line.contains("procjail-chaos")
    };
    mounts.lines().filter(ours).collect::<Vec<_>>().join("\n")
}
