//! Files that look like programs: headers made by hand, since the lab has no compiler.

/// `e_machine` of elf(5) for this machine, and for another one.
#[cfg(target_arch = "x86_64")]
const MACHINES: (u16, u16) = (62, 183);
#[cfg(target_arch = "aarch64")]
const MACHINES: (u16, u16) = (183, 62);

/// Where the file is loaded. A fixed address: nothing of it ever runs.
const BASE: u64 = 0x40_0000;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 56;

/// Loaders of the C libraries that are in use.
const LOADERS: &[&str] = &[
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// A loader that this machine has.
pub(super) fn loader() -> Option<&'static str> {
    LOADERS
        .iter()
        .copied()
        .find(|path| std::path::Path::new(path).exists())
}

/// A program header: type, flags, offset, size, alignment.
struct Segment(u32, u32, usize, usize, u64);

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PT_GNU_STACK: u32 = 0x6474_e551;
const READ_WRITE: u32 = 6;

fn header(machine: u16, entries: u16) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    // ET_EXEC, machine, version.
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(machine.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    // Entry, program headers, section headers.
    bytes.extend(BASE.to_le_bytes());
    bytes.extend((HEADER_BYTES as u64).to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    // Flags, and the sizes and counts of headers.
    bytes.extend(0_u32.to_le_bytes());
    for number in [HEADER_BYTES as u16, ENTRY_BYTES as u16, entries, 64, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes
}

/// A program for another machine.
pub(super) fn foreign() -> Vec<u8> {
    header(MACHINES.1, 0)
}

/// A program for this machine that needs a loader, and a library.
pub(super) fn dynamic(loader: &str, library: &str) -> Vec<u8> {
    const SEGMENTS: usize = 5;
    let name_at = HEADER_BYTES + SEGMENTS * ENTRY_BYTES;
    let strings_at = name_at + loader.len() + 1;
    // The library's name comes after an empty one.
    let strings_size = library.len() + 2;
    let symbols_at = (strings_at + strings_size).next_multiple_of(16);
    let dynamic_at = symbols_at + 32;
    let tags: [(u64, u64); 6] = [
        (1, 1),                        // DT_NEEDED
        (5, BASE + strings_at as u64), // DT_STRTAB
        (6, BASE + symbols_at as u64), // DT_SYMTAB
        (10, strings_size as u64),     // DT_STRSZ
        (11, 24),                      // DT_SYMENT
        (0, 0),                        // DT_NULL
    ];
    let dynamic_size = tags.len() * 16;
    let size = dynamic_at + dynamic_size;
    let segments: [Segment; SEGMENTS] = [
        Segment(PT_PHDR, READ_WRITE, HEADER_BYTES, SEGMENTS * ENTRY_BYTES, 8),
        Segment(PT_INTERP, READ_WRITE, name_at, loader.len() + 1, 1),
        Segment(PT_LOAD, READ_WRITE, 0, size, 0x1_0000),
        Segment(PT_DYNAMIC, READ_WRITE, dynamic_at, dynamic_size, 8),
        Segment(PT_GNU_STACK, READ_WRITE, 0, 0, 16),
    ];
    let mut bytes = header(MACHINES.0, SEGMENTS as u16);
    for Segment(kind, flags, offset, size, align) in segments {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend((offset as u64).to_le_bytes());
        for _ in 0..2 {
            bytes.extend((BASE + offset as u64).to_le_bytes());
        }
        for _ in 0..2 {
            bytes.extend((size as u64).to_le_bytes());
        }
        bytes.extend(align.to_le_bytes());
    }
    bytes.extend(loader.bytes().chain([0, 0]));
    bytes.extend(library.bytes());
    bytes.resize(dynamic_at, 0);
    for (tag, value) in tags {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{FileForm, inspect};

    #[test]
    fn made_files_are_what_they_say() {
        let foreign = inspect(&foreign());
        assert_eq!(foreign.form, FileForm::Elf);
        assert_ne!(foreign.machine.as_deref(), Some(std::env::consts::ARCH));
        let dynamic = inspect(&dynamic("/lib/ld.so", "libx.so.1"));
        assert_eq!(dynamic.machine.as_deref(), Some(std::env::consts::ARCH));
        assert_eq!(dynamic.interpreter.as_deref(), Some("/lib/ld.so"));
    }
}
