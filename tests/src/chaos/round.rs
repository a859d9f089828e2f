//! What happens in a round, drawn from the seed.

use std::fmt;
use std::time::Duration;

use crate::Random;

/// What happens to launcher and jail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to the launcher.
    KillLauncher,
    /// SIGSTOP to the launcher, then SIGKILL.
    StopAndKillLauncher,
    /// SIGSTOP to the launcher, then SIGCONT.
    StopLauncher,
    /// SIGKILL to any process below the launcher: the guard, PID 1, another.
    KillBelow,
    /// SIGSTOP to any process below the launcher, and SIGKILL to the launcher.
    StopBelow,
    /// The jail's cgroup is frozen, and the launcher killed.
    FreezeAndKill,
    /// The jail's cgroup is frozen.
    Freeze,
    /// The launcher is in a cgroup with little memory.
    LittleMemory,
    /// The launcher is in a cgroup with few processes.
    FewProcesses,
    /// The launcher may open few descriptors.
    FewDescriptors,
    /// The trace goes to a full disk.
    FullDisk,
    /// Nothing but the request to stop.
    Stop,
}

const BLOWS: [Blow; 14] = [
    // What happens most is drawn most.
    Blow::KillLauncher,
    Blow::KillLauncher,
    Blow::KillLauncher,
    Blow::StopAndKillLauncher,
    Blow::StopLauncher,
    Blow::KillBelow,
    Blow::StopBelow,
    Blow::FreezeAndKill,
    Blow::Freeze,
    Blow::LittleMemory,
    Blow::FewProcesses,
    Blow::FewDescriptors,
    Blow::FullDisk,
    Blow::Stop,
];

const OPTIONS: [&[&str]; 6] = [
    &[],
    &["--memory", "64M"],
    &["--pids", "100"],
    &["--init"],
    &["--net", "none"],
    &["--memory", "48M", "--pids", "100", "--tmpfs", "/mnt"],
];

/// One round, as it was drawn.
#[derive(Clone, Debug)]
pub struct Round {
    pub number: u64,
    pub blow: Blow,
    pub traced: bool,
    pub options: &'static [&'static str],
    pub app: Vec<String>,
    /// From the launcher's start to the blow.
    pub delay: Duration,
    /// From the blow to what follows it.
    pub pause: Duration,
    /// A limit or a choice, as the blow needs it.
    pub number_for_blow: u64,
}

impl Round {
    /// Draws round `number` of a seed. `life` is how long a short jail takes.
    pub fn draw(seed: u64, number: u64, life: Duration) -> Round {
        let mut random = Random::seeded(seed ^ number.wrapping_mul(0x9e37_79b9));
        let apps: [&[&str]; 8] = [
            &["handle-term", "0"],
            &["ignore-term"],
            &["clear-pdeathsig"],
            &["double-fork-daemon"],
            &["zombies", "5"],
            &["oom-child", "96"],
            &["mount-leak", "/mnt"],
            &["count-signals", "10", "5"],
        ];
        let blow = *random.pick(&BLOWS);
        let traced = random.below(2) == 0 || blow == Blow::FullDisk;
        let options = *random.pick(&OPTIONS);
        // Without a limit it would eat the machine's memory.
        let limited = options.contains(&"--memory");
        let app = loop {
            let app = *random.pick(&apps);
            if limited || app[0] != "oom-child" {
                break app.iter().map(|&text| text.to_owned()).collect();
            }
        };
        let life_ns = life.as_nanos() as u64 * if traced { 4 } else { 2 };
        Round {
            number,
            blow,
            traced,
            options,
            app,
            delay: Duration::from_nanos(random.below(life_ns.max(1))),
            pause: Duration::from_micros(random.below(20_000)),
            number_for_blow: random.below(1 << 20),
        }
    }

    /// The jail's name.
    pub fn name(&self) -> String {
        format!("procjail-chaos-{}-{}", std::process::id(), self.number)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = if self.traced { "trace" } else { "run" };
        write!(
            f,
            "round {}: {:?} of `{command} {} -- misbehave {}` after {:?}, pause {:?}, number {}",
            self.number,
            self.blow,
            self.options.join(" "),
            self.app.join(" "),
            self.delay,
            self.pause,
            self.number_for_blow
        )
    }
}
