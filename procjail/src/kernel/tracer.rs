//! Everything between "trace this cgroup" and attached probes, as fast as the kernel allows.

use std::{
    cmp::Reverse,
    ffi::CString,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use aya::maps::{MapData, PerCpuArray};
use procjail_common::{MISSING, Offsets, Scope, kind, scope_flags};

use super::{
    btf::Btf,
    cache, calls,
    error::{Error, remedy},
    host,
    object::{self, Globals, LoadError, Loaded},
    offsets::Layout,
    probes::{self, COMMON, PROBES, Spec, Wanted},
    ring::Reader,
    sys,
};
use crate::{event::Lost, trace};

/// What is recorded, and into how much room.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Host PID of the jail's PID 1, for the PIDs inside the jail; 0 to do without them.
    pub pid: u32,
    /// Size of the ring buffer; rounded up to a power of two of at least 64 KiB.
    pub ring_bytes: u32,
    /// Record signals that are noise to most: see `docs/probes.md`.
    pub all_signals: bool,
    /// Record threads too, not only processes.
    pub threads: bool,
    /// Record reaps and failed execs. Taxes every system call of the host.
    pub syscalls: bool,
    /// Record the calls that change mounts and namespaces. Needs `syscalls`, and taxes them twice.
    pub mounts: bool,
    /// Record what processes that end badly wrote last to their standard error. Needs `syscalls`.
    pub stderr_tail: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pid: 0,
            ring_bytes: 8 << 20,
            all_signals: false,
            threads: false,
            syscalls: true,
            mounts: true,
            stderr_tail: true,
        }
    }
}

impl Options {
    fn wants(&self, probe: &Spec) -> bool {
        match probe.wanted {
            Wanted::Essential | Wanted::Always => true,
            Wanted::NoSyscalls => !self.syscalls,
            Wanted::Syscalls => self.syscalls,
            Wanted::Mounts => self.syscalls && self.mounts,
        }
    }

    fn ring_bytes(&self) -> u32 {
        self.ring_bytes
            .clamp(host::page_size().max(64 << 10), 1 << 30)
            .next_power_of_two()
    }
}

/// A probe that the kernel runs. Dropping it detaches it.
struct Attached {
    spec: &'static Spec,
    program: OwnedFd,
    _link: OwnedFd,
}

/// The attached probes of one jail. Dropping it detaches them.
pub struct Tracer {
    attached: Vec<Attached>,
    missing: Vec<(&'static Spec, String)>,
    reader: Option<Reader>,
    lost: PerCpuArray<MapData, u64>,
}

/// The kernel's own description of its types.
pub(super) const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

impl Tracer {
    /// Loads the programs for the jail whose cgroup on the default hierarchy is given, and attaches
    /// them. `cgroup_level` is its depth; the root is 0.
    ///
    /// # Errors
    ///
    /// BPF is refused, the kernel has no type information, or an essential probe cannot be attached;
    /// each says what can be done. Any other probe's failure is found in [`Self::probes`].
    pub fn attach(cgroup_id: u64, cgroup_level: u32, options: &Options) -> Result<Self, Error> {
        let started = Instant::now();
        let layout = layout()?;
        tracing::debug!(took = ?started.elapsed(), "offsets known");
        Self::attach_with(&layout, cgroup_id, cgroup_level, options)
    }

    fn attach_with(
        layout: &Layout,
        cgroup_id: u64,
        cgroup_level: u32,
        options: &Options,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        if let Some(name) = lacks(COMMON, &layout.offsets) {
            return Err(Error::Essential {
                name: "sched_process_fork",
                reason: format!("this kernel has no field for {name}"),
            });
        }
        let loaded = Loaded::new(
            &Globals {
                scope: scope(cgroup_id, cgroup_level, options, layout),
                offsets: layout.offsets,
                syscalls: calls::table(options.mounts),
                preempt: layout.preempt,
            },
            options.ring_bytes(),
        )?;
        let mapped = started.elapsed();

        let mut missing = Vec::new();
        let mut wanted = Vec::new();
        for spec in PROBES.iter().filter(|spec| options.wants(spec)) {
            match lacks(spec.needs, &layout.offsets) {
                Some(name) => missing.push((spec, format!("this kernel has no field for {name}"))),
                None => wanted.push(spec),
            }
        }
        let made = make(&loaded, &wanted);
        let verified = started.elapsed();
        let mut attached = Vec::new();
        for (spec, made) in wanted.into_iter().zip(made) {
            let result = match made {
                Ok(Made::Attached(probe)) => probe,
                Ok(Made::Loaded(program)) => attach(spec, program),
                // Not this probe's fault: whoever may not load one may load none.
                Err(error) if error.errno == Some(libc::EPERM) => {
                    let error = io::Error::from_raw_os_error(libc::EPERM);
                    return Err(Error::Refused {
                        call: "BPF_PROG_LOAD",
                        remedy: remedy(&error),
                        error,
                    });
                }
                Err(error) => Err(error.reason),
            };
            match result {
                Ok(probe) => attached.push(probe),
                Err(reason) => missing.push((spec, reason)),
            }
        }
        if let Some((spec, reason)) = missing
            .iter()
            .find(|(spec, _)| spec.wanted == Wanted::Essential)
        {
            return Err(Error::Essential {
                name: spec.name,
                reason: reason.clone(),
            });
        }
        let Loaded { ring, lost, .. } = loaded;
        let tracer = Self {
            attached,
            missing,
            reader: Some(Reader::new(object::ring(ring)?)),
            lost: object::per_cpu(lost)?,
        };
        tracing::debug!(
            maps = ?mapped,
            load = ?(verified - mapped),
            attach = ?(started.elapsed() - verified),
            total = ?started.elapsed(),
            "probes attached"
        );
        Ok(tracer)
    }

    /// The probes, attached and missing.
    pub fn probes(&self) -> Vec<trace::Probe> {
        let attached = self.attached.iter().map(|probe| (probe.spec, None));
        let missing = self
            .missing
            .iter()
            .map(|(spec, reason)| (*spec, Some(reason.clone())));
        attached
            .chain(missing)
            .map(|(spec, error)| trace::Probe {
                name: spec.name.to_owned(),
                attached: error.is_none(),
                error,
                provides: spec.provides.to_owned(),
            })
            .collect()
    }

    /// The reader of the records; only the first call gives it.
    pub fn take_reader(&mut self) -> Option<Reader> {
        self.reader.take()
    }

    /// How many records were lost so far, by kind and processor.
    pub fn lost(&self) -> Vec<Lost> {
        let mut all = Vec::new();
        for (kind, name) in (0..).zip(KIND_NAMES) {
            let Ok(counts) = self.lost.get(&kind, 0) else {
                continue;
            };
            for (cpu, &count) in (0..).zip(counts.iter()) {
                if count > 0 {
                    all.push(Lost {
                        event_kind: name.to_owned(),
                        cpu: Some(cpu),
                        count,
                    });
                }
            }
        }
        for probe in &self.attached {
            // An interrupt's event in the midst of the same program: not known whose it was.
            let count = sys::prog_misses(probe.program.as_fd());
            if count > 0 {
                let name = KIND_NAMES.get(probe.spec.kind as usize);
                all.push(Lost {
                    event_kind: name.copied().unwrap_or("undecodable").to_owned(),
                    cpu: None,
                    count,
                });
            }
        }
        all
    }
}

/// The kinds of record in their order, as events are called in a trace.
const KIND_NAMES: [&str; kind::COUNT as usize] = [
    "fork",
    "exec",
    "exec-failed",
    "exit",
    "reap",
    "free",
    "signal-generated",
    "signal-delivered",
    "oom-kill",
    "oom-reap",
    "mount",
    "cgroup",
    "wait",
    "sender",
    "failed-calls",
    "stderr-tail",
    "limit-changed",
];

/// The offsets of the running kernel: from the cache, or else from its type information.
pub(super) fn layout() -> Result<Layout, Error> {
    let path = host::build_id().and_then(|id| cache::path(&id));
    if let Some(layout) = path.as_deref().and_then(cache::read) {
        return Ok(layout);
    }
    let layout = layout_from(Path::new(BTF_PATH))?;
    if let Some(path) = path
        && let Err(error) = cache::write(&path, &layout)
    {
        // It only costs the next start some milliseconds.
        tracing::debug!(path = %path.display(), %error, "offsets not cached");
    }
    Ok(layout)
}

/// The offsets that a file of type information gives.
pub(super) fn layout_from(path: &Path) -> Result<Layout, Error> {
    let no_btf = |reason: String| Error::NoBtf {
        path: path.display().to_string(),
        reason,
    };
    let bytes = fs::read(path).map_err(|error| no_btf(error.to_string()))?;
    let btf = Btf::parse(&bytes).map_err(|error| no_btf(error.to_string()))?;
    Ok(Layout::resolve(&btf))
}

/// The first of `needs` that the kernel doesn't have; any form of a cgroup's ancestry will do.
fn lacks(needs: &[&'static str], offsets: &Offsets) -> Option<&'static str> {
    probes::missing(needs, offsets).or_else(|| {
        let none = offsets.cgroup_ancestors == MISSING && offsets.cgroup_ancestor_ids == MISSING;
        none.then_some("cgroup_ancestors")
    })
}

fn scope(cgroup_id: u64, cgroup_level: u32, options: &Options, layout: &Layout) -> Scope {
    let mut flags = layout.flags;
    if options.threads {
        flags |= scope_flags::THREADS;
    }
    if options.all_signals {
        flags |= scope_flags::ALL_SIGNALS;
    }
    if options.syscalls && options.stderr_tail {
        flags |= scope_flags::STDERR_TAIL;
    }
    let (pid_ns, pid_ns_level) = host::pid_namespace(options.pid).unwrap_or((0, 0));
    Scope {
        cgroup_id,
        cgroup_level,
        flags,
        page_size: host::page_size(),
        pid_ns,
        pid_ns_level,
        reserved: 0,
    }
}

/// How far a probe is.
enum Made {
    /// Loaded, to be attached after all others: it taxes every system call of the host.
    Loaded(OwnedFd),
    /// Attached, or why not.
    Attached(Result<Attached, String>),
}

/// Loads the programs and attaches them, in any order, on two threads: the kernel verifies and compiles
/// them side by side. The results are in the order of `specs`.
fn make(loaded: &Loaded, specs: &[&'static Spec]) -> Vec<Result<Made, LoadError>> {
    // The longest first, so that both threads end at about the same time.
    let mut order: Vec<usize> = (0..specs.len()).collect();
    order.sort_by_key(|&index| Reverse(loaded.instructions(specs[index].name)));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let spec = specs[index];
            let started = Instant::now();
            let program = loaded.load(spec.name);
            tracing::trace!(program = spec.name, took = ?started.elapsed(), "loaded");
            let made = program.map(|program| match spec.wanted {
                Wanted::Syscalls | Wanted::Mounts => Made::Loaded(program),
                Wanted::Essential | Wanted::Always | Wanted::NoSyscalls => {
                    Made::Attached(attach(spec, program))
                }
            });
            done.push((index, made));
        }
        done
    };
    let mut done = thread::scope(|scope| {
        // Without a second thread the first one does it all.
        let other = thread::Builder::new().spawn_scoped(scope, work);
        let mut done = work();
        if let Ok(Ok(others)) = other.map(thread::ScopedJoinHandle::join) {
            done.extend(others);
        }
        done
    });
    done.sort_by_key(|&(index, _)| index);
    done.into_iter().map(|(_, made)| made).collect()
}

fn attach(spec: &'static Spec, program: OwnedFd) -> Result<Attached, String> {
    let name = CString::new(spec.name).map_err(|error| error.to_string())?;
    let link = sys::raw_tracepoint_open(&name, program.as_fd()).map_err(|error| {
        if error.raw_os_error() == Some(libc::ENOENT) {
            "this kernel has no such tracepoint".to_owned()
        } else {
            format!("cannot attach to the tracepoint: {error}")
        }
    })?;
    Ok(Attached {
        spec,
        program,
        _link: link,
    })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::MetadataExt as _, path::PathBuf, process::Command, time::Duration};

    use procjail_common::{Exit, Header, read_record};

    use super::*;

    struct TestCgroup(PathBuf);

    impl Drop for TestCgroup {
        fn drop(&mut self) {
            let _ = fs::write(self.0.join("cgroup.kill"), "1");
            for _ in 0..100 {
                if fs::remove_dir(&self.0).is_ok() {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn ends(layout: &Layout) -> Vec<Exit> {
        let mounts = host::mounts();
        let unified = mounts.iter().find(|mount| mount.fs_type == "cgroup2");
        let name = format!("procjail-test-{}-forms", std::process::id());
        let path = PathBuf::from(&unified.expect("a cgroup2 mount").path).join(name);
        fs::create_dir(&path).expect("cgroup made; needs root");
        let cgroup = TestCgroup(path);
        let id = fs::metadata(&cgroup.0).expect("cgroup exists").ino();
        let mut tracer = Tracer::attach_with(layout, id, 1, &Options::default()).expect("attached");
        assert_eq!(tracer.missing.len(), 0, "{:?}", tracer.probes());
        // Threads that end with the process, at once.
        let script = "import os, sys, threading as t, time\n\
                      open(sys.argv[1], 'w').write('0')\n\
                      for _ in range(20):\n \
                      t.Thread(target=time.sleep, args=(9,), daemon=True).start()\n\
                      os._exit(7)";
        let status = Command::new("/usr/bin/python3")
            .args(["-c", script])
            .arg(cgroup.0.join("cgroup.procs"))
            .status()
            .expect("ran");
        assert_eq!(status.code(), Some(7));
        thread::sleep(Duration::from_millis(50));
        let mut ends = Vec::new();
        let mut reader = tracer.take_reader().expect("a reader");
        reader.drain(usize::MAX, &mut |bytes| {
            if read_record::<Header>(bytes).is_some_and(|header| header.kind == kind::EXIT) {
                ends.extend(read_record::<Exit>(bytes));
            }
        });
        ends
    }

    #[test]
    fn the_last_thread_is_found_without_the_newer_argument() {
        let mut layout = layout_from(Path::new(BTF_PATH)).expect("this kernel has BTF");
        layout.flags &= !scope_flags::EXIT_GROUP_DEAD;
        let ends = ends(&layout);
        assert_eq!(ends.len(), 1, "{ends:#?}");
        assert_eq!((ends[0].group_dead, ends[0].exit_code), (1, 7 << 8));
    }
}
