//! The records that come out of the ring, and what they say.

use std::{
    thread,
    time::{Duration, Instant},
};

use procjail::kernel::{Options, Reader, Tracer};
use procjail_common::{Exec, Exit, Header, Record, Task, kind, read_record};

use crate::cgroup::TestCgroup;

/// The records of one kind of jail, as they came.
pub struct Trace {
    pub tracer: Tracer,
    reader: Reader,
    records: Vec<Vec<u8>>,
}

impl Trace {
    pub fn of(cgroup: &TestCgroup, options: &Options) -> Self {
        let mut tracer = Tracer::attach(cgroup.id(), 1, options).expect("probes attached");
        for probe in tracer.probes() {
            assert!(probe.attached, "{probe:?}");
        }
        let reader = tracer.take_reader().expect("a reader");
        assert!(tracer.take_reader().is_none(), "only one reader");
        Self {
            tracer,
            reader,
            records: Vec::new(),
        }
    }

    /// Reads until a record satisfies `last`, and for a moment beyond.
    pub fn read_until(&mut self, last: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !last(self) {
            assert!(Instant::now() < deadline, "not seen: {:#?}", self.kinds());
            self.read();
            thread::sleep(Duration::from_millis(5));
        }
        self.read();
        assert!(self.tracer.lost().is_empty(), "{:?}", self.tracer.lost());
    }

    pub fn read(&mut self) {
        let records = &mut self.records;
        while self
            .reader
            .drain(1 << 16, &mut |bytes| records.push(bytes.to_vec()))
            > 0
        {}
    }

    pub fn kinds(&self) -> Vec<u32> {
        self.records
            .iter()
            .filter_map(|bytes| read_record::<Header>(bytes))
            .map(|header| header.kind)
            .collect()
    }

    pub fn all<T: Record>(&self, kind: u32) -> Vec<T> {
        self.records
            .iter()
            .filter(|bytes| read_record::<Header>(bytes).is_some_and(|header| header.kind == kind))
            .map(|bytes| read_record::<T>(bytes).expect("a whole record"))
            .collect()
    }

    pub fn exit_of(&self, pid: u32) -> Option<Exit> {
        self.all::<Exit>(kind::EXIT)
            .into_iter()
            .find(|exit| exit.header.task.pid == pid)
    }

    /// File name and arguments of every exec.
    pub fn execs(&self) -> Vec<(Exec, String, Vec<String>)> {
        self.records
            .iter()
            .filter_map(|bytes| {
                let exec = read_record::<Exec>(bytes)?;
                if exec.header.kind != kind::EXEC {
                    return None;
                }
                let strings = &bytes[size_of::<Exec>()..];
                let (name, rest) = strings.split_at(exec.filename_len as usize);
                let argv = rest[..exec.argv_len as usize]
                    .split_inclusive(|&byte| byte == 0)
                    .map(|arg| text(arg.strip_suffix(&[0]).unwrap_or(arg)))
                    .collect();
                Some((exec, text(name), argv))
            })
            .collect()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn comm(task: &Task) -> String {
    text(task.comm.split(|&byte| byte == 0).next().unwrap_or(&[]))
}
