//! The commands of bpf(2) that the loader needs, each wrapped once.
//!
//! aya makes the maps and reads them. Its loader of programs is not used: it first parses the whole
//! type information of the kernel, which raw tracepoints have no use for and which alone takes longer
//! than a jail takes to start.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_MAP_FREEZE: libc::c_long = 22;

const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// Longest name of a program, with the NUL.
const NAME_LEN: usize = 16;

/// Runs one command. `attr` is the part of `union bpf_attr` that the command reads; the kernel takes
/// what is left out as zero.
fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is valid for reading and writing `size_of::<T>()` bytes, has no padding, and
    // points to memory of the caller that outlives the call.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}

/// As [`bpf`], for a command that returns a descriptor (which the kernel makes close-on-exec).
fn bpf_fd<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel just made the descriptor, and no one else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// An instruction, as the kernel has it: 8 bytes.
pub type Instruction = aya_obj::generated::bpf_insn;

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_LEN],
}

impl ProgLoad {
    /// A program without a name or a log. Instructions are of 8 bytes, whatever type they have.
    fn new<I>(prog_type: u32, instructions: &[I], license: &CStr) -> Self {
        const { assert!(size_of::<I>() == size_of::<Instruction>()) };
        Self {
            prog_type,
            insn_cnt: instructions.len() as u32,
            insns: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
            prog_name: [0; NAME_LEN],
        }
    }
}

/// Loads a raw tracepoint program: the kernel verifies and compiles it.
///
/// With a `log`, the verifier's words are written to it.
///
/// # Errors
///
/// Whatever the kernel says; EACCES and EINVAL mean that the verifier refused the program.
pub fn prog_load(
    name: &str,
    instructions: &[Instruction],
    license: &CStr,
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    let mut attr = ProgLoad::new(BPF_PROG_TYPE_RAW_TRACEPOINT, instructions, license);
    for (to, from) in attr.prog_name[..NAME_LEN - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    if let Some(log) = log {
        attr.log_level = 1;
        attr.log_size = log.len() as u32;
        attr.log_buf = log.as_mut_ptr() as u64;
    }
    bpf_fd(BPF_PROG_LOAD, &mut attr)
}

/// The longer form of [`ProgLoad`] that names a function of the kernel.
#[repr(C)]
struct FunctionProgLoad {
    load: ProgLoad,
    prog_ifindex: u32,
    expected_attach_type: u32,
    /// Type information of the program itself: none.
    btf: [u64; 4],
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// Loads a program that does nothing for the entry of a function, given by its number in the kernel's
/// type information.
///
/// # Errors
///
/// Whatever the kernel says; EPERM where such programs are not allowed.
pub fn load_on_function(function: u32, license: &CStr) -> io::Result<OwnedFd> {
    const BPF_PROG_TYPE_TRACING: u32 = 26;
    const BPF_TRACE_FENTRY: u32 = 24;
    // r0 = 0; exit
    let instructions: [u64; 2] = [0xb7, 0x95];
    let mut attr = FunctionProgLoad {
        load: ProgLoad::new(BPF_PROG_TYPE_TRACING, &instructions, license),
        prog_ifindex: 0,
        expected_attach_type: BPF_TRACE_FENTRY,
        btf: [0; 4],
        line_info_cnt: 0,
        attach_btf_id: function,
    };
    bpf_fd(BPF_PROG_LOAD, &mut attr)
}

#[repr(C)]
struct RawTracepoint {
    name: u64,
    prog_fd: u32,
    reserved: u32,
}

/// Attaches a program to a tracepoint until the descriptor is closed.
///
/// # Errors
///
/// ENOENT: the kernel has no such tracepoint.
pub fn raw_tracepoint_open(name: &CStr, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    bpf_fd(
        BPF_RAW_TRACEPOINT_OPEN,
        &mut RawTracepoint {
            name: name.as_ptr() as u64,
            prog_fd: program.as_raw_fd() as u32,
            reserved: 0,
        },
    )
}

#[repr(C)]
struct MapElem {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets the only element of a map that holds a section of the object.
///
/// # Errors
///
/// Whatever the kernel says.
pub fn map_fill(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    let key = 0u32;
    bpf(
        BPF_MAP_UPDATE_ELEM,
        &mut MapElem {
            map_fd: map.as_raw_fd() as u32,
            reserved: 0,
            key: (&raw const key) as u64,
            value: value.as_ptr() as u64,
            flags: 0,
        },
    )
    .map(drop)
}

/// Makes a map read-only for user space, so that the verifier may rely on its values.
///
/// # Errors
///
/// Whatever the kernel says.
pub fn map_freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_MAP_FREEZE, &mut (map.as_raw_fd() as u32)).map(drop)
}

#[repr(C)]
struct Info {
    fd: u32,
    len: u32,
    info: u64,
}

/// How often a program was not run because it was running on that processor already; 0 where the
/// kernel (before 5.12) doesn't count it.
pub fn prog_misses(program: BorrowedFd<'_>) -> u64 {
    // `struct bpf_prog_info`: `recursion_misses` is a 64-bit word at this offset.
    const RECURSION_MISSES: usize = 208;
    let mut info = [0u64; RECURSION_MISSES / 8 + 1];
    let mut attr = Info {
        fd: program.as_raw_fd() as u32,
        len: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    match bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) {
        Ok(_) => info[RECURSION_MISSES / 8],
        Err(_) => 0,
    }
}

/// Lifts the limit on locked memory, which kernels before 5.11 count BPF's maps against.
pub fn lift_memlock() {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is valid for reading. A refusal shows in the call that is tried again.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
}
