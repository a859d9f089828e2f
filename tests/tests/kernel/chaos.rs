//! Whatever becomes of launcher and jail, at whatever instant: nothing is left.

use std::time::Duration;

use procjail_tests::{Random, chaos, misbehave, procjail, rounds, scene};

/// The short form of `cargo xtask chaos`.
#[test]
fn nothing_is_left_whatever_is_struck() {
    scene(|_| {
        let report = chaos::run(
            chaos::Options {
                procjail: procjail(),
                misbehave: misbehave().into(),
                seed: Random::new().below(1 << 32),
                first: 0,
                rounds: u64::from(rounds(200)),
                time: Duration::from_secs(60),
            },
            |told| {
                if let chaos::Told::Failed(failure) = told {
                    println!("{failure}");
                }
            },
        );
        assert!(report.failures.is_empty(), "{:#?}", report.failures);
        assert!(
            report.struck > report.rounds / 4,
            "only {} of {} struck a living launcher",
            report.struck,
            report.rounds
        );
    });
}
