//! Run a program as PID 1 of an explicit jail and record, from the kernel's own events, what
//! happened to it.
//!
//! The data flows one way, and each arrow is a module boundary:
//!
//! ```text
//! kernel hook -> scope -> record -> ring buffer           procjail-ebpf, procjail-common
//!   -> decode -> enrich -> Event                          kernel, event
//!   -> trace file | timeline                              trace, render
//! Event, evidence -> Case -> rules -> Explanation         diagnose
//! trace file, Explanation -> a form for others            export
//! ```
//!
//! [`jail`] builds, supervises and removes the jail; it knows nothing of tracing. [`evidence`] reads
//! beside that what procfs, the cgroups and the kernel log tell. [`leak`] looks what the
//! jail leaves. [`runtime`] finds what others started on this host. [`session`] joins them for a live trace. [`cli`] is the command line over all of it.

pub mod attach;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod diagnose;
pub mod event;
pub mod evidence;
pub mod exit;
pub mod export;
pub mod hang;
pub mod host;
pub mod jail;
pub mod kernel;
pub mod lab;
pub mod leak;
pub mod names;
mod pidfd;
mod procfs;
pub mod render;
pub mod runtime;
pub mod session;
mod symbols;
pub mod target;
pub mod text;
mod thread;
pub mod trace;
pub mod words;
