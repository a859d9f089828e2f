//! procjail on this machine's kernel: programs that fail in known ways run in a jail, and the trace must
//! tell what happened. Each test runs alone, and leaves nothing behind or fails.

mod attach;
mod bad_input;
mod cgroup;
mod cgroup_v2;
mod chaos;
mod evidence;
mod export;
mod failure;
mod hang;
mod jail;
mod lab;
mod launcher;
mod leak;
mod mount;
mod oom;
mod otlp;
mod process;
mod real_programs;
mod runtimes;
mod signal;
mod start;
mod teardown;
mod terminal;
mod this_kernel;
