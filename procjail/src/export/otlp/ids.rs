//! Identifiers that are the same whenever and wherever a trace is exported: live, from its file, twice.

use sha2::{Digest, Sha256};

use crate::event::Task;
use crate::trace::Header;

/// Identifies a span.
pub(super) type SpanId = [u8; 8];

/// The identifiers of one trace.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    trace: [u8; 16],
}

impl Ids {
    /// Those of the trace with that header: no two have the same host, process and instant.
    pub fn of(header: &Header) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"procjail trace\0");
        hash.update(header.host.hostname.as_bytes());
        hash.update([0]);
        hash.update(header.jail.name.as_bytes());
        hash.update([0]);
        hash.update(header.start_unix_ns.to_be_bytes());
        hash.update(header.launcher_pid().to_be_bytes());
        hash.update(header.jail.pid.to_be_bytes());
        Self {
            trace: first(&hash.finalize()),
        }
    }

    /// The trace's own.
    pub fn trace(&self) -> [u8; 16] {
        self.trace
    }

    /// That of the jail, the root of all spans.
    pub fn jail(&self) -> SpanId {
        self.span(b"jail")
    }

    /// That of a part of the jail's life.
    pub fn part(&self, name: &str, number: u64) -> SpanId {
        let mut what = b"part\0".to_vec();
        what.extend(number.to_be_bytes());
        what.extend(name.as_bytes());
        self.span(&what)
    }

    /// That of a process.
    pub fn process(&self, task: &Task) -> SpanId {
        let mut what = b"process\0".to_vec();
        what.extend(task.pid.to_be_bytes());
        what.extend(task.start_ns.to_be_bytes());
        self.span(&what)
    }

    fn span(&self, what: &[u8]) -> SpanId {
        first(
            &Sha256::new()
                .chain_update(self.trace)
                .chain_update(what)
                .finalize(),
        )
    }
}

/// The first bytes of a hash. An identifier of zeros only would be none, which has no chance to occur.
fn first<const N: usize>(hash: &[u8]) -> [u8; N] {
    let mut id = [0; N];
    for (to, from) in id.iter_mut().zip(hash) {
        *to = *from;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::story;

    #[test]
    fn the_same_trace_has_the_same_identifiers_and_another_one_others() {
        let header = story::header_line();
        let (ids, again) = (Ids::of(&header), Ids::of(&header));
        let task = |pid, start_ns| Task {
            pid,
            start_ns,
            ..Task::default()
        };
        assert_eq!(ids.trace(), again.trace());
        assert_eq!(ids.process(&task(7, 1)), again.process(&task(7, 1)));
        let mut later = header.clone();
        later.start_unix_ns += 1;
        assert_ne!(ids.trace(), Ids::of(&later).trace());
        let spans = [
            ids.jail(),
            ids.part("set-up", 0),
            ids.part("teardown", 0),
            ids.part("teardown", 1),
            ids.process(&task(7, 1)),
            ids.process(&task(7, 2)),
        ];
        for (index, span) in spans.iter().enumerate() {
            assert!(!spans[..index].contains(span), "{index}");
        }
    }
}
