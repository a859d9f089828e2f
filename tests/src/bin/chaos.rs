//! Chaos for machines without cargo: `chaos PROCJAIL MISBEHAVE SEED FIRST ROUNDS` plays the rounds of
//! `cargo xtask chaos`.
//!
//! It tells each failure at once, and now and then how far it is: whoever listens takes silence for a
//! machine that hangs.

use std::process::ExitCode;
use std::time::Duration;

use procjail_tests::chaos::{self, Options, Told};

/// So many rounds between two signs of life.
const STEP: u64 = 50;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [procjail, misbehave, numbers @ ..] = arguments.as_slice() else {
        return usage();
    };
    let numbers: Vec<u64> = numbers.iter().flat_map(|text| text.parse()).collect();
    let [seed, first, rounds] = numbers[..] else {
        return usage();
    };
    let options = Options {
        procjail: procjail.into(),
        misbehave: misbehave.into(),
        seed,
        first,
        rounds,
        time: Duration::MAX,
    };
    let mut played = 0;
    let report = chaos::run(options, |told| match told {
        Told::Failed(failure) => println!("FAILED {failure}"),
        Told::Played => {
            played += 1;
            if played % STEP == 0 {
                println!("{played} of {rounds} rounds");
            }
        }
    });
    println!("{}", chaos::RESULT.to_owned() + &report.to_string());
    match report.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: chaos PROCJAIL MISBEHAVE SEED FIRST ROUNDS");
    ExitCode::from(2)
}
