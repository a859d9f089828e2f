//! The thread that looks what a stalled teardown waits for. Started only when it stalls; if it is stuck
//! itself, nobody waits for it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::outcome::LookAtStall;
use crate::cgroup::View;
use crate::clock;
use crate::event::Snapshot;
use crate::thread::stand_back;

/// Takes snapshots when it is asked to.
#[derive(Debug)]
pub struct Lookout {
    questions: Sender<(u32, Duration)>,
    answers: Receiver<(u64, Snapshot)>,
    asked: bool,
}

impl Lookout {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// No thread is to be had.
    pub fn start(view: View, look: LookAtStall) -> std::io::Result<Lookout> {
        let (questions, asked) = mpsc::channel::<(u32, Duration)>();
        let (tell, answers) = mpsc::channel();
        let thread = std::thread::Builder::new().name("lookout".into());
        thread.spawn(move || {
            stand_back();
            for (pid_1, waited) in asked {
                let waited_ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
                let snapshot = look(&view, pid_1, waited_ns);
                if tell.send((clock::boot_ns(), snapshot)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Lookout {
            questions,
            answers,
            asked: false,
        })
    }

    /// Asks for a snapshot of a teardown that has waited so long, unless the last one is still due.
    /// `pid_1` is 0 once it is reaped: its number could be another's.
    pub fn ask(&mut self, pid_1: u32, waited: Duration) {
        if !self.asked && self.questions.send((pid_1, waited)).is_ok() {
            self.asked = true;
        }
    }

    /// Whether an answer is due.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// A snapshot and its time, CLOCK_BOOTTIME nanoseconds, if there is one within so long.
    pub fn answer(&mut self, within: Duration) -> Option<(u64, Snapshot)> {
        let answer = self.answers.recv_timeout(within).ok()?;
        self.asked = false;
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Moment;

    fn look(_: &View, _: u32, waited_ns: u64) -> Snapshot {
        Snapshot {
            moment: Moment::Stall,
            threads: Vec::new(),
            truncated: false,
            frozen: None,
            cpu: None,
            waited_ns: Some(waited_ns),
            processes: Vec::new(),
        }
    }

    #[test]
    fn an_answer_comes_for_each_question_that_was_taken() {
        let view = View {
            hierarchies: Vec::new(),
        };
        let mut lookout = Lookout::start(view, look).expect("a thread");
        assert!(lookout.answer(Duration::ZERO).is_none());
        lookout.ask(1, Duration::from_millis(250));
        // The first is still due.
        lookout.ask(1, Duration::from_secs(1));
        let (time_ns, snapshot) = lookout.answer(Duration::from_secs(10)).expect("an answer");
        assert!(time_ns > 0);
        assert_eq!(snapshot.waited_ns, Some(250_000_000));
        assert!(!lookout.is_asked());
        assert!(lookout.answer(Duration::ZERO).is_none());
    }
}
