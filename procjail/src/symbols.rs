//! Names for the addresses of a stack, after the fact: most of the time its program is dead by then.
//!
//! The kernel side tells files by their build IDs, so a file is opened by the name that the program
//! probably has, and believed only if the ID is the same. What can't be found stays an address.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use blazesym::{
    MaybeDefault, helper,
    symbolize::{
        Input, Sym, Symbolized, Symbolizer,
        source::{Elf, Kernel, Source},
    },
};
use nix::{
    fcntl::{self, OFlag, OpenHow, ResolveFlag},
    sys::memfd::{self, MFdFlags},
};

use crate::event::{Event, Frame, Stack, What};

/// Most time that a trace may spend on names; the kernel's table alone takes a tenth of a second.
const BUDGET: Duration = Duration::from_millis(500);

/// Larger files are not looked into.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Most files that are looked into for one stack.
const MAX_FILES: usize = 24;

/// No function is larger; a name that is farther away is another's.
const MAX_FUNCTION_BYTES: usize = 1 << 20;

/// Where C libraries lie. Allocations that end in an OOM kill are mostly inside one.
const LIBRARIES: [&str; 7] = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/aarch64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/usr/lib/libc.so.6",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
    "/usr/lib64/libc.so.6",
];

/// Finds names; costs nothing before the first stack.
#[derive(Default)]
pub struct Symbols {
    spent: Duration,
    /// What processes execute, by host PID.
    programs: HashMap<u32, String>,
    /// Host PID of the jail's PID 1.
    init: u32,
    symbolizer: Option<Symbolizer>,
}

impl Symbols {
    /// Gives names to the stack of an event that has one, and learns from the others who executes what.
    pub fn see(&mut self, event: &mut Event) {
        let pid = event.task.pid;
        match &mut event.what {
            What::Fork(fork) if !fork.thread => {
                if let Some(program) = self.programs.get(&pid).cloned() {
                    self.programs.insert(fork.child.pid, program);
                }
            }
            What::Exec(exec) => {
                if event.task.jail_pid == Some(1) {
                    self.init = pid;
                }
                // A name relative to a directory that is not known: the process itself may still tell.
                let program = match exec.filename.starts_with('/') {
                    true => Some(exec.filename.clone()),
                    false => fs::read_link(format!("/proc/{pid}/exe"))
                        .ok()
                        .and_then(|path| path.into_os_string().into_string().ok()),
                };
                match program {
                    Some(program) => self.programs.insert(pid, program),
                    None => self.programs.remove(&pid),
                };
            }
            What::Exit(exit) if exit.process => {
                self.programs.remove(&pid);
            }
            What::OomKill(kill) => self.name(pid, &mut kill.stack),
            _ => {}
        }
    }

    fn name(&mut self, pid: u32, stack: &mut Stack) {
        if self.spent > BUDGET {
            return;
        }
        let started = Instant::now();
        let program = self.programs.get(&pid).map(String::as_str);
        let symbolizer = self.symbolizer.get_or_insert_with(Symbolizer::new);
        kernel(symbolizer, &mut stack.kernel);
        user(symbolizer, &mut stack.user, program, &[pid, self.init]);
        self.spent += started.elapsed();
    }
}

/// Names the kernel's functions, and drops those that are the probe's own.
fn kernel(symbolizer: &Symbolizer, frames: &mut Vec<Frame>) {
    let table = Kernel {
        vmlinux: MaybeDefault::None,
        debug_syms: false,
        ..Kernel::default()
    };
    let addresses: Vec<u64> = frames.iter().map(|frame| frame.address).collect();
    let input = Input::AbsAddr(addresses.as_slice());
    let Ok(found) = symbolizer.symbolize(&Source::Kernel(table), input) else {
        return;
    };
    for (frame, found) in frames.iter_mut().zip(found) {
        frame.symbol = plausible(found);
    }
    let own = frames.iter().rposition(|frame| {
        let name = frame.symbol.as_deref().unwrap_or_default();
        [
            "bpf_trace_run",
            "__bpf_trace_",
            "__traceiter_",
            "__probestub_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
    });
    if let Some(own) = own {
        frames.drain(..=own);
    }
}

/// Names the program's functions, in the files whose build ID is that of a frame.
fn user(symbolizer: &Symbolizer, frames: &mut [Frame], program: Option<&str>, pids: &[u32]) {
    let mut wanted: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, frame) in frames.iter().enumerate() {
        if let Some(module) = &frame.module {
            wanted.entry(module.clone()).or_default().push(index);
        }
    }
    if wanted.is_empty() {
        return;
    }
    let mut candidates: Vec<String> = program.map(str::to_owned).into_iter().collect();
    for pid in pids {
        for file in mapped_files(*pid) {
            if !candidates.contains(&file) {
                candidates.push(file);
            }
        }
    }
    candidates.extend(LIBRARIES.map(str::to_owned));
    let root = pids
        .iter()
        .find_map(|pid| File::open(format!("/proc/{pid}/root")).ok())
        .or_else(|| File::open("/").ok());
    let Some(root) = root else {
        return;
    };
    for name in candidates.iter().take(MAX_FILES) {
        let Some(copy) = copy(&root, name) else {
            continue;
        };
        let path = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
        let Ok(Some(id)) = helper::read_elf_build_id(&path) else {
            continue;
        };
        let Some(indices) = wanted.remove(&Frame::unknown_file(&id)) else {
            continue;
        };
        let places: Vec<u64> = indices
            .iter()
            .filter_map(|&index| frames.get(index).map(|frame| frame.address))
            .collect();
        let file = Source::Elf(Elf::new(&path));
        let found = symbolizer.symbolize(&file, Input::FileOffset(places.as_slice()));
        let mut found = found.unwrap_or_default().into_iter();
        for index in indices {
            if let Some(frame) = frames.get_mut(index) {
                frame.module = Some(name.clone());
                frame.symbol = found.next().and_then(plausible);
            }
        }
        if wanted.is_empty() {
            return;
        }
    }
}

fn plausible(found: Symbolized<'_>) -> Option<String> {
    match found {
        Symbolized::Sym(Sym {
            name, offset, addr, ..
        }) => (addr != 0 && offset < MAX_FUNCTION_BYTES).then(|| name.into_owned()),
        Symbolized::Unknown(_) => None,
    }
}

/// Files that a process executes from, if it still lives.
fn mapped_files(pid: u32) -> Vec<String> {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return Vec::new();
    };
    // address perms offset device inode path
    maps.lines()
        .filter(|line| {
            line.split(' ')
                .nth(1)
                .is_some_and(|perms| perms.contains('x'))
        })
        .filter_map(|line| line.find('/').and_then(|start| line.get(start..)))
        .map(str::to_owned)
        .collect()
}

/// A copy of a file of the jail's, in memory: it may change while it is read, and the pages of a mapped
/// file that someone cuts are deadly to touch. Links lead nowhere but into the jail's root.
fn copy(root: &File, name: &str) -> Option<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(fcntl::openat2(root.as_fd(), Path::new(name), how).ok()?);
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return None;
    }
    let copy = memfd::memfd_create(c"symbols", MFdFlags::MFD_CLOEXEC).ok()?;
    let mut to = File::from(copy);
    io::copy(&mut file.take(MAX_FILE_BYTES), &mut to).ok()?;
    Some(OwnedFd::from(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Record;
    use crate::event::{
        Enricher,
        fixture::{GATE_NS, exec, oom_kill, task},
    };

    /// A function whose name is looked for.
    #[inline(never)]
    #[unsafe(no_mangle)]
    extern "C" fn procjail_symbols_landmark() -> u32 {
        std::hint::black_box(7)
    }

    fn stack_of(record: procjail_common::OomKill, program: &str) -> Stack {
        let mut symbols = Symbols::default();
        let mut enricher = Enricher::new(crate::event::Task::default(), 4096);
        let app = record.header.task;
        let mut last = None;
        for record in [
            exec(GATE_NS, app, program, &["app"]),
            Record::OomKill(Box::new(record)),
        ] {
            let mut event = enricher.record(record).expect("an event");
            symbols.see(&mut event);
            last = Some(event.what);
        }
        match last {
            Some(What::OomKill(kill)) => kill.stack,
            other => panic!("no OOM kill: {other:?}"),
        }
    }

    /// Where an address of this program lies in its file.
    fn file_offset(address: u64) -> u64 {
        let maps = fs::read_to_string("/proc/self/maps").expect("maps");
        let found = maps.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (start, end) = words.next()?.split_once('-')?;
            let hex = |text| u64::from_str_radix(text, 16).ok();
            let (start, end, offset) = (hex(start)?, hex(end)?, hex(words.nth(1)?)?);
            (start..end)
                .contains(&address)
                .then(|| address - start + offset)
        });
        found.expect("a mapping")
    }

    fn record() -> (procjail_common::OomKill, String) {
        let exe = fs::read_link("/proc/self/exe").expect("this program");
        let id = helper::read_elf_build_id(&exe)
            .expect("readable")
            .expect("a build ID");
        // The host PID of a process that doesn't exist.
        let mut app = task(1, "app");
        app.pid = u32::MAX;
        let mut record = oom_kill(GATE_NS, app, app, &[]);
        record.user_stack[0].status = procjail_common::BUILD_ID_VALID;
        record.user_stack[0].build_id.copy_from_slice(&id);
        record.user_stack[0].place = file_offset(procjail_symbols_landmark as *const () as u64);
        record.user_stack[1].place = 0x1234;
        record.user_stack_len = 2 * 32;
        (record, exe.display().to_string())
    }

    #[test]
    fn a_function_is_found_in_the_file_of_that_build_id() {
        assert_eq!(procjail_symbols_landmark(), 7);
        let (record, exe) = record();
        let stack = stack_of(record, &exe);
        let named = &stack.user[0];
        assert_eq!(named.symbol.as_deref(), Some("procjail_symbols_landmark"));
        assert_eq!(named.module.as_deref(), Some(exe.as_str()));
        let bare = Frame {
            address: 0x1234,
            ..Frame::default()
        };
        assert_eq!(stack.user[1], bare);
        assert_eq!(stack.kernel, []);
    }

    #[test]
    fn another_build_is_not_believed() {
        let (mut record, exe) = record();
        record.user_stack[0].build_id[0] ^= 1;
        let stack = stack_of(record, &exe);
        let expected = Frame::unknown_file(&record.user_stack[0].build_id);
        assert_eq!(stack.user[0].module.as_ref(), Some(&expected));
        assert_eq!(stack.user[0].symbol, None);
        // Nor a file that is none.
        for odd in ["/dev/zero", "/", "relative", "/nonexistent"] {
            assert_eq!(stack_of(record, odd).user[0].symbol, None);
        }
    }
}
