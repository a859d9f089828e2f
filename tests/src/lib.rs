//! What the kernel tests share: running the built `procjail` under a deadline, reading its trace, and
//! proving after each test that nothing was left behind.

mod census;
pub mod chaos;
pub mod collector;
mod engines;
mod invocation;
pub mod kernel;
mod scene;
mod terminal;
mod trace;

pub use census::{Census, cgroup_directories, collect_orphans, descendants};
pub use engines::Engines;
pub use invocation::{Finished, Invocation, Running};
pub use scene::{Scene, become_subreaper, scene};
pub use terminal::Terminal;
pub use trace::{Trace, read_trace};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The failing programs' binary, which Cargo builds next to the tests.
pub fn misbehave() -> String {
    beside_the_test("misbehave").display().to_string()
}

/// The `procjail` binary under test: `PROCJAIL_BIN`, or the one of the same profile.
pub fn procjail() -> PathBuf {
    let path =
        std::env::var_os("PROCJAIL_BIN").map_or_else(|| beside_the_test("procjail"), PathBuf::from);
    assert!(
        path.is_file(),
        "there is no procjail at {}: build it first (cargo build --workspace), or name it in PROCJAIL_BIN",
        path.display()
    );
    path
}

/// `target/PROFILE/NAME`, seen from `target/PROFILE/deps/kernel-HASH`.
fn beside_the_test(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("a test lies in target/PROFILE/deps");
    profile.join(name)
}

/// Asks every few milliseconds until there is an answer; panics after `limit` with what was awaited.
#[track_caller]
pub fn wait_until<T>(awaited: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            start.elapsed() < limit,
            "after {limit:?} still no {awaited}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How often a test that relies on chance repeats itself: `usual`, or `PROCJAIL_TEST_ROUNDS` if that is
/// less, for slow machines.
pub fn rounds(usual: u32) -> u32 {
    let text = std::env::var("PROCJAIL_TEST_ROUNDS").ok();
    let asked = text.map(|text| text.parse().expect("PROCJAIL_TEST_ROUNDS is a number"));
    usual.min(asked.unwrap_or(usual))
}

/// A small random-number generator (xorshift64*), so that a failing run can be repeated by its seed.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded by `PROCJAIL_TEST_SEED` or by the clock; prints the seed.
    pub fn new() -> Random {
        let seed = match std::env::var("PROCJAIL_TEST_SEED") {
            Ok(text) => text.parse().expect("PROCJAIL_TEST_SEED is a number"),
            Err(_) => procjail::clock::unix_ns() | 1,
        };
        println!("random seed: PROCJAIL_TEST_SEED={seed}");
        Random(seed)
    }

    /// Seeded by a number; near numbers give unlike sequences.
    pub fn seeded(seed: u64) -> Random {
        // The finaliser of splitmix64, whose only zero is not reached from here.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Random((mixed ^ (mixed >> 31)) | 1)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit
    }
}

impl Default for Random {
    fn default() -> Random {
        Random::new()
    }
}
