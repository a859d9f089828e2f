//! Reading of files that others write, perhaps with bad intent: never more than a bound, never a pipe or a
//! device, and never out of the directory that was given as the root.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use serde_json::Value;

/// Largest file that is read, bytes. A container's configuration has some 10 kB.
const LARGEST: u64 = 4 << 20;

/// Most names of a directory that are looked at.
const MOST_NAMES: usize = 1 << 16;

/// Longest text that is taken from a file, bytes: PATH_MAX.
const LONGEST: usize = 4096;

/// A directory below which paths are resolved as if it were the root.
#[derive(Debug)]
pub(super) struct Tree {
    fd: OwnedFd,
    /// Its path for people.
    pub path: PathBuf,
}

impl Tree {
    /// Opens a directory: one of /proc's links too.
    pub fn open(path: &Path) -> Result<Tree, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Tree {
            fd,
            path: path.to_owned(),
        })
    }

    /// A directory in it.
    pub fn below(&self, path: &Path) -> Result<Tree, Errno> {
        let fd = self.resolve(path, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        Ok(Tree {
            fd,
            path: self.shown(path),
        })
    }

    /// Path of a file in it for people.
    pub fn shown(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// What tells it from other directories.
    pub fn identity(&self) -> Option<(u64, u64)> {
        let stat = fstat(&self.fd).ok()?;
        Some((stat.st_dev, stat.st_ino))
    }

    /// The user that it belongs to.
    pub fn owner(&self) -> Option<u32> {
        Some(fstat(&self.fd).ok()?.st_uid)
    }

    /// There is such a directory.
    pub fn has_directory(&self, path: &Path) -> bool {
        self.below(path).is_ok()
    }

    /// Names of what is in it, in order.
    pub fn names(&self) -> Result<Vec<String>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let fd = self.resolve(Path::new("."), flags)?;
        let mut directory = nix::dir::Dir::from_fd(fd)?;
        let names = directory.iter().take(MOST_NAMES).flatten();
        let names = names.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Content of a file; what is no UTF-8 is replaced.
    pub fn read(&self, path: &Path) -> Result<String, Errno> {
        let fd = self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
        if SFlag::from_bits_truncate(fstat(&fd)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(Errno::EINVAL);
        }
        bounded(File::from(fd))
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.fd, path, how)
    }
}

/// Content of a file of /proc.
pub(super) fn read_proc(path: &Path) -> Result<String, Errno> {
    let file =
        File::open(path).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    bounded(file)
}

fn bounded(file: File) -> Result<String, Errno> {
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Errno::EFBIG);
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// A text in a JSON value, by its keys; `None` if it is empty or something else.
pub(super) fn text(value: &Value, keys: &[&str]) -> Option<String> {
    let text = at(value, keys)?.as_str()?;
    (!text.is_empty()).then(|| cut(text).to_owned())
}

/// A value in a JSON value, by its keys.
pub(super) fn at<'a>(value: &'a Value, keys: &[&str]) -> Option<&'a Value> {
    keys.iter().try_fold(value, |value, key| value.get(key))
}

/// As much of a text as is kept.
pub(super) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_read() {
        let temp = tempfile::tempdir().unwrap();
        let inside = temp.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(temp.path().join("secret"), "x").unwrap();
        std::fs::write(inside.join("file"), "a\u{fffd}").unwrap();
        for (link, to) in [("up", "../secret"), ("root", "/secret"), ("ok", "/file")] {
            std::os::unix::fs::symlink(to, inside.join(link)).unwrap();
        }
        let tree = Tree::open(&inside).unwrap();
        assert_eq!(tree.read(Path::new("/file")).unwrap(), "a\u{fffd}");
        assert_eq!(tree.read(Path::new("ok")).unwrap(), "a\u{fffd}");
        for path in ["../secret", "up", "root", "/../secret"] {
            assert_eq!(tree.read(Path::new(path)), Err(Errno::ENOENT), "{path}");
        }
        assert_eq!(tree.names().unwrap(), ["file", "ok", "root", "up"]);
    }

    #[test]
    fn pipes_and_huge_files_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&temp.path().join("pipe"), Mode::S_IRWXU).unwrap();
        let huge = File::create(temp.path().join("huge")).unwrap();
        huge.set_len(LARGEST + 1).unwrap();
        let tree = Tree::open(temp.path()).unwrap();
        assert_eq!(tree.read(Path::new("pipe")), Err(Errno::EINVAL));
        assert_eq!(tree.read(Path::new("huge")), Err(Errno::EFBIG));
        assert_eq!(tree.read(Path::new(".")), Err(Errno::EINVAL));
    }

    #[test]
    fn text_has_its_type_and_an_end() {
        let long = "ä".repeat(LONGEST);
        let value = serde_json::json!({"a": {"b": "c", "n": 1, "e": ""}, "long": long});
        assert_eq!(text(&value, &["a", "b"]).as_deref(), Some("c"));
        for keys in [["a", "n"], ["a", "e"], ["a", "x"], ["long", "b"]] {
            assert_eq!(text(&value, &keys), None);
        }
        assert_eq!(text(&value, &["long"]).unwrap().len(), LONGEST);
    }
}
