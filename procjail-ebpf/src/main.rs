//! The BPF programs: one file for each family of tracepoints.
//!
//! Every program is a raw tracepoint: it needs no BTF of the kernel to attach, exists on every kernel
//! from 5.10 on and costs the rest of the host one rejected call. An entry point is thin; it calls a
//! `try_` body that ends early with [`emit::Skip`] as soon as the event turns out not to be the
//! jail's. Where a field of a kernel structure lies is told by user space ([`config`]).
#![no_std]
#![no_main]

mod cgroup;
mod config;
mod disposition;
mod emit;
mod exec;
mod failure;
mod oom;
mod process;
mod read;
mod scope;
mod sender;
mod signal;
mod stderr;
mod syscall;
mod task;

/// Never reached: the programs have no panicking path, and the verifier would refuse one.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers that read kernel memory ask for a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
