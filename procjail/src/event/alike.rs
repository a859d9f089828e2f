//! Storms: of the millions of signals that one process may get, one is like the other.
//!
//! What was made of one, a line of text say, is then made of the next by putting in another number and
//! another time, which is many times quicker than making it anew.

use super::{Event, SignalDelivered, What};

/// So many kinds of event are remembered. A storm has few.
const KINDS: usize = 8;

impl Event {
    /// It is a signal's, and differs from an earlier one's in nothing but number and time, and in how long
    /// the signal took.
    pub fn is_like(&self, earlier: &Event) -> bool {
        // Which task it was differs most often.
        self.task == earlier.task
            && match (&self.what, &earlier.what) {
                (What::SignalGenerated(one), What::SignalGenerated(other)) => one == other,
                (What::SignalDelivered(one), What::SignalDelivered(other)) => {
                    let SignalDelivered {
                        signal,
                        code,
                        disposition,
                        fatal,
                        latency_ns: _,
                        generated_seq: _,
                    } = one;
                    *signal == other.signal
                        && *code == other.code
                        && *disposition == other.disposition
                        && *fatal == other.fatal
                }
                _ => false,
            }
    }

    /// Becomes a later event that is like it.
    pub fn renew(&mut self, later: &Event) {
        self.seq = later.seq;
        self.time_ns = later.time_ns;
        if let (What::SignalDelivered(own), What::SignalDelivered(later)) =
            (&mut self.what, &later.what)
        {
            own.latency_ns = later.latency_ns;
            own.generated_seq = later.generated_seq;
        }
    }
}

/// What was made of the last few kinds of signal events.
#[derive(Debug)]
pub struct Recent<T> {
    kinds: Vec<(Event, Option<T>)>,
    /// The one that is forgotten next.
    oldest: usize,
}

impl<T> Default for Recent<T> {
    /// Nothing so far.
    fn default() -> Self {
        Self {
            kinds: Vec::with_capacity(KINDS),
            oldest: 0,
        }
    }
}

impl<T> Recent<T> {
    /// Where to find what was made of one that is like it, and to keep it; `None` for an event that is no
    /// signal's, or the first of its kind, of which there may be no other.
    pub fn like(&mut self, event: &Event) -> Option<&mut Option<T>> {
        if !matches!(
            event.what,
            What::SignalGenerated(_) | What::SignalDelivered(_)
        ) {
            return None;
        }
        let known = self.kinds.iter().position(|(kind, _)| event.is_like(kind));
        if let Some(known) = known {
            return self.kinds.get_mut(known).map(|(_, made)| made);
        }
        match self.kinds.get_mut(self.oldest) {
            Some(kind) => *kind = (event.clone(), None),
            None => self.kinds.push((event.clone(), None)),
        }
        self.oldest = (self.oldest + 1) % KINDS;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::story;

    #[test]
    fn signals_are_alike_whatever_their_number_and_time() {
        let (events, _) = story::trace();
        for event in &events {
            let mut later = event.clone();
            later.seq += 1000;
            later.time_ns += 1000;
            let mut signal = false;
            match &mut later.what {
                What::SignalDelivered(delivered) => {
                    delivered.latency_ns = Some(12345);
                    signal = true;
                }
                What::SignalGenerated(_) => signal = true,
                _ => {}
            }
            assert_eq!(later.is_like(event), signal, "{event:?}");
            if signal {
                let mut renewed = event.clone();
                renewed.renew(&later);
                assert_eq!(renewed, later);
            }
            later.task.tid += 1;
            assert!(!later.is_like(event));
        }
    }

    #[test]
    fn what_was_made_is_found_again() {
        let (events, _) = story::trace();
        let signal = events
            .iter()
            .find(|event| matches!(event.what, What::SignalGenerated(_)))
            .expect("a signal");
        let mut recent = Recent::default();
        assert_eq!(recent.like(signal), None);
        *recent.like(signal).expect("the second") = Some("text");
        assert_eq!(recent.like(signal), Some(&mut Some("text")));
        for tid in 1..=KINDS as u32 {
            let mut other = signal.clone();
            other.task.tid += tid;
            recent.like(&other);
        }
        assert_eq!(recent.like(signal), None);
    }
}
