//! Reading the kernel's memory and the user's.
//!
//! An address is a plain number: the kernel checks every access, and a failed one reads as zero,
//! which is what all fields of a record mean by "not known".

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str,
};

use crate::config::{self, offset};

/// For an insert into a map: only if there is no such entry.
pub const BPF_NOEXIST: u64 = 1;

/// A type that may be read from the kernel: any bit pattern is a valid value.
///
/// # Safety
///
/// The type is an integer or an array of integers.
pub unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for i64 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: integers.
unsafe impl Plain for [u64; 2] {}
// SAFETY: integers.
unsafe impl Plain for [u64; 3] {}

/// The kernel's value at `base + offset`; zero if it cannot be read.
#[inline(always)]
pub fn kernel<T: Plain>(base: u64, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes exactly `size_of::<T>()` bytes, zeros on a fault, to a live variable.
    unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            base.wrapping_add(u64::from(offset)) as *const _,
        );
        value.assume_init()
    }
}

/// Copies the name of a task; zeros if it cannot be read.
///
/// Straight to its place: the compiler would copy a value of bytes one by one.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(always)]
pub unsafe fn comm(to: *mut [u8; 16], task: u64) {
    // SAFETY: the caller vouches for `to`.
    unsafe {
        bpf_probe_read_kernel(
            to.cast(),
            size_of::<[u8; 16]>() as u32,
            task.wrapping_add(u64::from(offset!(task_comm))) as *const _,
        );
    }
}

/// The process's value at `address`; zero if it cannot be read.
#[inline(always)]
pub fn user<T: Plain>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as for `kernel`.
    unsafe {
        bpf_probe_read_user(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        );
        value.assume_init()
    }
}

/// Masks of 0, 1, 2… low bits. Under its own name: the compiler's has a hash of the directory in it.
#[unsafe(no_mangle)]
static LOW_BITS: [u64; 16] = {
    let mut masks = [0; 16];
    let mut bits = 0;
    while bits < masks.len() {
        masks[bits] = (1 << bits) - 1;
        bits += 1;
    }
    masks
};

/// The sign of a number: all bits set for a negative one, else none.
///
/// The compiler must not see what this is, or it would make a branch of it, and the verifier follow both sides.
#[inline(always)]
fn sign(number: u64) -> u64 {
    let sign = (number as i64) >> 63;
    // SAFETY: a reference is valid for reading.
    unsafe { core::ptr::read_volatile(&sign) as u64 }
}

/// All bits set, or none if the two are equal; without a branch.
#[inline(always)]
pub fn all_ones_unless_equal(a: u64, b: u64) -> u64 {
    let difference = a ^ b;
    sign(difference | difference.wrapping_neg())
}

/// The lesser of two numbers below 2^63; without a branch.
#[inline(always)]
pub fn lesser(a: u64, b: u64) -> u64 {
    let difference = a.wrapping_sub(b);
    b.wrapping_add(difference & sign(difference))
}

/// The number as it is, which is less than 2 to that power.
///
/// The verifier of Linux 5.10 forgets the bounds of a number when it is copied or put aside. So this is called
/// right where they are needed, with a mask that the compiler can't tell to be of no effect.
#[inline(always)]
pub fn below<const POWER: usize>(number: u64) -> u64 {
    number & config::load(&LOW_BITS[POWER])
}

/// The number, or `LIMIT` if that is less: a power of two. As [`below`], for the verifier of Linux 5.10.
#[inline(always)]
pub fn at_most<const LIMIT: usize>(number: u64) -> u64 {
    const { assert!(LIMIT.is_power_of_two()) };
    if number >= LIMIT as u64 {
        LIMIT as u64
    } else {
        number & config::load(&LOW_BITS[const { LIMIT.ilog2() as usize }])
    }
}

/// Copies a string of the kernel to `to` and returns its length without the NUL.
///
/// # Safety
///
/// `to` is valid for writing `size` bytes.
#[inline(always)]
pub unsafe fn kernel_str(to: *mut u8, size: u32, from: u64) -> u32 {
    // SAFETY: the caller vouches for `to`.
    length(unsafe { bpf_probe_read_kernel_str(to.cast(), size, from as *const _) })
}

/// Copies a string of the process to `to` and returns its length without the NUL.
///
/// # Safety
///
/// `to` is valid for writing `size` bytes.
#[inline(always)]
pub unsafe fn user_str(to: *mut u8, size: u32, from: u64) -> u32 {
    // SAFETY: the caller vouches for `to`.
    length(unsafe { bpf_probe_read_user_str(to.cast(), size, from as *const _) })
}

/// The helpers return the number of bytes with the NUL, or a negative error number.
///
/// Without a branch: the verifier would follow both.
#[inline(always)]
fn length(returned: i64) -> u32 {
    let length = returned - 1;
    (length & !(length >> 63)) as u32
}

/// Writes zeros in words of eight bytes.
///
/// The compiler would make a call of it, to a loop over bytes of which the verifier walks every round.
///
/// # Safety
///
/// `to` is aligned to 8 and valid for writing `WORDS` times 8 bytes.
#[inline(always)]
pub unsafe fn zero<const WORDS: usize>(to: *mut u64) {
    for index in 0..WORDS {
        // SAFETY: the caller vouches for `to`; volatile, so that the stores stay as they are.
        unsafe { to.add(index).write_volatile(0) };
    }
}
