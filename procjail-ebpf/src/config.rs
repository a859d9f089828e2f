//! What user space decided before the programs were loaded: read-only globals.
//!
//! The kernel's verifier knows their values, so a branch on one costs nothing at run time.

use procjail_common::{MISSING, Offsets, Scope, SyscallTable};

/// Which tasks are reported.
#[unsafe(no_mangle)]
pub static SCOPE: Scope = Scope {
    cgroup_id: 0,
    cgroup_level: 0,
    flags: 0,
    page_size: 0,
    pid_ns: 0,
    pid_ns_level: 0,
    reserved: 0,
};

/// Where the kernel's fields lie.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::missing();

/// Which system calls are looked at.
#[unsafe(no_mangle)]
pub static SYSCALLS: SyscallTable = SyscallTable::empty();

/// Reads part of a read-only global as it is at run time.
///
/// Volatile, since the compiler would fold the value that stands in the source.
#[inline(always)]
pub fn load<T: Copy>(place: &'static T) -> T {
    // SAFETY: a reference is valid for reading.
    unsafe { core::ptr::read_volatile(place) }
}

/// One field of a read-only global.
macro_rules! global {
    ($global:ident . $field:ident) => {
        $crate::config::load(&$crate::config::$global.$field)
    };
}

/// The offset of a kernel's field; [`MISSING`] where there is none.
macro_rules! offset {
    ($field:ident) => {
        $crate::config::global!(OFFSETS.$field)
    };
}

pub(crate) use {global, offset};

/// Whether the kernel has the field.
#[inline(always)]
pub fn present(offset: u32) -> bool {
    offset != MISSING
}

/// Whether a bit of `procjail_common::scope_flags` is set.
#[inline(always)]
pub fn flag(bit: u32) -> bool {
    global!(SCOPE.flags) & bit != 0
}
