//! The BPF object: embedded, given its globals, its maps made and its programs loaded.

use std::{
    collections::{HashMap, HashSet},
    ffi::CStr,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use aya::maps::{Map, MapData};
use aya_obj::{EbpfSectionKind, Object};
use procjail_common::{Offsets, Scope, SyscallTable};

use super::{
    error::{Error, remedy},
    preempt, sys,
};

/// The object's file, on a boundary that its reader asks for.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("PROCJAIL_BPF_OBJECT")));

/// The programs use a helper that the kernel keeps for GPL-compatible ones.
pub(super) const LICENSE: &CStr = c"Dual MIT/GPL";

/// Enough for the verifier's last words, which are the ones that tell.
const LOG_BYTES: usize = 1 << 20;

/// What depends on the run and on the kernel.
pub struct Globals {
    /// Which tasks are reported.
    pub scope: Scope,
    /// Where the kernel's fields lie.
    pub offsets: Offsets,
    /// Which system calls are looked at.
    pub syscalls: SyscallTable,
    /// How they keep from being preempted, where they can.
    pub preempt: Option<preempt::Calls>,
}

/// The object with its maps made: programs can be loaded from it.
pub struct Loaded {
    object: Object,
    preempt: Option<preempt::Calls>,
    /// The records.
    pub ring: MapData,
    /// Records that found no room.
    pub lost: MapData,
    /// The programs hold these too; they are kept until the last one is loaded.
    _others: Vec<MapData>,
}

/// The bytes of a plain value.
fn bytes<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: only used with the types of procjail-common, which have no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

impl Loaded {
    /// Parses the object, fills in its globals and makes its maps.
    ///
    /// # Errors
    ///
    /// The kernel refuses bpf(2), or the object is broken.
    pub fn new(globals: &Globals, ring_bytes: u32) -> Result<Self, Error> {
        let broken = |error: &dyn std::fmt::Display| Error::Object(error.to_string());
        let mut object = Object::parse(&FILE.0).map_err(|error| broken(&error))?;
        object
            .patch_map_data(HashMap::from([
                ("SCOPE", (bytes(&globals.scope), true)),
                ("OFFSETS", (bytes(&globals.offsets), true)),
                ("SYSCALLS", (bytes(&globals.syscalls), true)),
            ]))
            .map_err(|error| broken(&error))?;
        let mut maps = Vec::new();
        for (name, mut map) in object.maps.drain() {
            if name == "RING" {
                map.set_max_entries(ring_bytes);
            }
            maps.push((make_map(&name, &map)?, name, map));
        }
        let code: HashSet<usize> = object
            .functions
            .keys()
            .map(|&(section, _)| section)
            .collect();
        object
            .relocate_maps(
                maps.iter()
                    .map(|(made, name, map)| (name.as_str(), made.fd().as_fd().as_raw_fd(), map)),
                &code,
            )
            .map_err(|error| broken(&error))?;
        object
            .relocate_calls(&code)
            .map_err(|error| broken(&error))?;

        let mut take = |wanted: &str| {
            maps.iter()
                .position(|(_, name, _)| name == wanted)
                .map(|index| maps.swap_remove(index).0)
                .ok_or_else(|| Error::Object(format!("it has no map {wanted}")))
        };
        Ok(Self {
            object,
            preempt: globals.preempt,
            ring: take("RING")?,
            lost: take("LOST")?,
            _others: maps.into_iter().map(|(map, ..)| map).collect(),
        })
    }

    /// Number of instructions of a program; 0 if there is none of that name.
    pub fn instructions(&self, program: &str) -> usize {
        self.code(program).map_or(0, <[_]>::len)
    }

    fn code(&self, program: &str) -> Option<&[sys::Instruction]> {
        let key = self.object.programs.get(program)?.function_key();
        Some(&self.object.functions.get(&key)?.instructions)
    }

    /// Loads one program.
    ///
    /// # Errors
    ///
    /// What the kernel said, with the verifier's last words.
    pub fn load(&self, program: &str) -> Result<OwnedFd, LoadError> {
        let code = self.code(program).ok_or_else(|| LoadError {
            errno: None,
            reason: format!("the object has no program {program}"),
        })?;
        let guarded = self
            .preempt
            .filter(|_| preempt::pays(program))
            .and_then(|calls| preempt::guard(code, calls));
        if let Some(guarded) = guarded {
            match sys::prog_load(program, &guarded, LICENSE, None) {
                // Not allowed to programs, whatever its types say: go on without.
                Err(error) if error.raw_os_error() != Some(libc::EPERM) => {
                    tracing::debug!(program, %error, "refused with preemption off");
                }
                loaded => {
                    return loaded.map_err(|error| LoadError {
                        errno: error.raw_os_error(),
                        reason: format!("cannot load the program: {error}"),
                    });
                }
            }
        }
        sys::prog_load(program, code, LICENSE, None).map_err(|error| {
            let errno = error.raw_os_error();
            let mut reason = format!("cannot load the program: {error}");
            if errno != Some(libc::EPERM) {
                reason += &verifier_words(program, code);
            }
            LoadError { errno, reason }
        })
    }
}

/// Why a program was not loaded.
#[derive(Clone, Debug)]
pub struct LoadError {
    /// The error number, if it was the kernel that refused.
    pub errno: Option<i32>,
    /// In words.
    pub reason: String,
}

/// Loads a program once more to hear the verifier, and returns the end of what it said.
fn verifier_words(program: &str, code: &[sys::Instruction]) -> String {
    let mut log = vec![0; LOG_BYTES];
    let _ = sys::prog_load(program, code, LICENSE, Some(&mut log));
    let length = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..length]);
    tracing::debug!(program, verifier = %text, "refused");
    // The last line counts the work; the one before says what is wrong.
    let mut lines: Vec<&str> = text.lines().rev().take(2).collect();
    lines.reverse();
    if lines.is_empty() {
        String::new()
    } else {
        format!(" (the verifier says: {})", lines.join("; "))
    }
}

fn make_map(name: &str, map: &aya_obj::Map) -> Result<MapData, Error> {
    let create = || MapData::create(map.clone(), name, None);
    let io_error = |error: &aya::maps::MapError| match error {
        aya::maps::MapError::CreateError { io_error, .. } => {
            io_error.raw_os_error().map(io::Error::from_raw_os_error)
        }
        _ => None,
    };
    let mut made = create();
    if let Err(error) = &made
        && io_error(error).and_then(|error| error.raw_os_error()) == Some(libc::EPERM)
    {
        sys::lift_memlock();
        made = create();
    }
    let made = made.map_err(|error| match io_error(&error) {
        Some(error) => Error::Refused {
            call: "BPF_MAP_CREATE",
            remedy: remedy(&error),
            error,
        },
        None => Error::Map {
            name: name.to_owned(),
            reason: error.to_string(),
        },
    })?;
    let failed = |error: io::Error| Error::Map {
        name: name.to_owned(),
        reason: error.to_string(),
    };
    let kind = map.section_kind();
    if !map.data().is_empty() && kind != EbpfSectionKind::Bss {
        sys::map_fill(made.fd().as_fd(), map.data()).map_err(failed)?;
    }
    if kind == EbpfSectionKind::Rodata {
        sys::map_freeze(made.fd().as_fd()).map_err(failed)?;
    }
    Ok(made)
}

/// The map of records as aya reads it.
pub fn ring(map: MapData) -> Result<aya::maps::RingBuf<MapData>, Error> {
    aya::maps::RingBuf::try_from(Map::RingBuf(map)).map_err(|error| Error::Map {
        name: "RING".to_owned(),
        reason: error.to_string(),
    })
}

/// The map of losses as aya reads it.
pub fn per_cpu(map: MapData) -> Result<aya::maps::PerCpuArray<MapData, u64>, Error> {
    aya::maps::PerCpuArray::try_from(Map::PerCpuArray(map)).map_err(|error| Error::Map {
        name: "LOST".to_owned(),
        reason: error.to_string(),
    })
}
