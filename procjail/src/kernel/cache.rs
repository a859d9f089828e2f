//! The offsets of one build of the kernel never change, so they are kept in a small file.
//!
//! A file is believed only if no one else could have written it; anything odd about it means that
//! the kernel's own type information is read again.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process,
};

use procjail_common::Offsets;

use super::{offsets::Layout, preempt::Calls};

/// First line. Another version of the program may resolve the same names differently.
const HEAD: &str = concat!("procjail offsets ", env!("CARGO_PKG_VERSION"));

/// No cache file is larger.
const MAX_BYTES: u64 = 64 << 10;

/// Where the file of a build lies: /var/cache for root, else the user's own cache.
pub fn path(build_id: &str) -> Option<PathBuf> {
    // SAFETY: the call has no preconditions.
    let directory = if unsafe { libc::geteuid() } == 0 {
        PathBuf::from("/var/cache")
    } else {
        absolute(std::env::var_os("XDG_CACHE_HOME"))
            .or_else(|| Some(absolute(std::env::var_os("HOME"))?.join(".cache")))?
    };
    Some(
        directory
            .join("procjail")
            .join(format!("offsets-{build_id}")),
    )
}

fn absolute(path: Option<OsString>) -> Option<PathBuf> {
    path.map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Reads the layout; `None` if there is no file that can be trusted and understood.
pub fn read(path: &Path) -> Option<Layout> {
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    let metadata = file.metadata().ok()?;
    let directory = fs::symlink_metadata(path.parent()?).ok()?;
    if !metadata.is_file() || !ours(&metadata) || !ours(&directory) || metadata.len() > MAX_BYTES {
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    parse(&text)
}

/// Owned by this user and writable by no one else.
fn ours(metadata: &fs::Metadata) -> bool {
    // SAFETY: the call has no preconditions.
    metadata.uid() == unsafe { libc::geteuid() } && metadata.mode() & 0o022 == 0
}

/// Writes the layout in place of what is there, at once or not at all.
///
/// # Errors
///
/// What the file system said; the caller can do without the file.
pub fn write(path: &Path, layout: &Layout) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    let temporary = path.with_extension(format!("{}.tmp", process::id()));
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&temporary)
        .and_then(|mut file| file.write_all(print(layout).as_bytes()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Nothing else can be done about it.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn print(layout: &Layout) -> String {
    let mut text = format!("{HEAD}\nflags {}\n", layout.flags);
    // Type 0 is void: no function has that number.
    let calls = layout.preempt.map_or([0; 4], Calls::to_array);
    for (name, value) in Calls::NAMES.iter().zip(calls) {
        text += &format!("{name} {value}\n");
    }
    for (name, value) in Offsets::NAMES.iter().zip(layout.offsets.to_array()) {
        text += &format!("{name} {value}\n");
    }
    // So that a file cut anywhere is not taken for a whole one.
    text += "end\n";
    text
}

fn parse(text: &str) -> Option<Layout> {
    let (head, tail) = text.split_once('\n')?;
    if head != HEAD || !tail.ends_with("\nend\n") {
        return None;
    }
    let mut lines = tail.lines();
    let mut value = |name: &str| -> Option<u32> {
        let line = lines.next()?;
        line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()
    };
    let flags = value("flags")?;
    let mut calls = [0; Calls::NAMES.len()];
    for (name, to) in Calls::NAMES.iter().zip(&mut calls) {
        *to = value(name)?;
    }
    let mut values = Offsets::missing().to_array();
    for (name, to) in Offsets::NAMES.iter().zip(&mut values) {
        *to = value(name)?;
    }
    Some(Layout {
        offsets: Offsets::from_array(values),
        flags,
        preempt: (!calls.contains(&0)).then(|| Calls::from_array(calls)),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn layout() -> Layout {
        let mut next = 0;
        Layout {
            offsets: Offsets::from_array(Offsets::missing().to_array().map(|_| {
                next += 8;
                next
            })),
            flags: 12,
            preempt: Some(Calls::from_array([1, 2, 3, 4])),
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("procjail/offsets-1");
        write(&path, &layout()).expect("written");
        assert_eq!(read(&path), Some(layout()));
        write(&path, &layout()).expect("written again");
        assert_eq!(
            fs::read_dir(directory.path().join("procjail"))
                .expect("listed")
                .count(),
            1
        );
    }

    #[test]
    fn a_file_that_others_may_write_is_not_believed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("procjail/offsets-1");
        write(&path, &layout()).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("mode set");
        assert_eq!(read(&path), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode set");
        assert_eq!(read(&path), Some(layout()));
        let parent = path.parent().expect("parent");
        fs::set_permissions(parent, fs::Permissions::from_mode(0o777)).expect("mode set");
        assert_eq!(read(&path), None);
    }

    #[test]
    fn a_cut_file_is_not_believed() {
        let text = print(&layout());
        assert_eq!(parse(&text), Some(layout()));
        for length in 0..text.len() {
            assert_eq!(parse(&text[..length]), None, "cut at {length}");
        }
        assert_eq!(
            parse(&text.replace("procjail offsets", "procjail offset")),
            None
        );
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text in ".*") {
            let _ = parse(&text);
        }
    }
}
