//! Where an export goes: standard output, or a file that is either whole or not there.
//!
//! A file is written without a name and gets its name at the end (O_TMPFILE and linkat(2), open(2)): however
//! the export ends, no half of a file is left. Where the file system can't do that, it is written beside and
//! renamed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use crate::names::io_error;

/// Size of the buffer in front of the file.
const BUFFER_BYTES: usize = 1 << 18;

/// Why an export can't be written.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is something at that place.
    #[error("{} exists: choose another name, or overwrite it with --force", .0.display())]
    Exists(PathBuf),
    /// What the kernel said.
    #[error("cannot {action} {}: {}{}", path.display(), io_error(error), advice(error))]
    Failed {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "; make its directory first, or choose another place with -o",
        Some(libc::EISDIR) => "; give the name of a file with -o",
        Some(libc::ENOSPC | libc::EDQUOT) => "; make room, or choose another place with -o",
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => "; choose another place with -o",
        _ => "",
    }
}

/// Where an export goes.
pub struct Target {
    out: BufWriter<Out>,
    path: PathBuf,
    place: Place,
}

enum Out {
    Stdout(io::Stdout),
    File(File),
}

/// What is to be done when all is written.
enum Place {
    /// Nothing: a stream, a pipe or a device.
    Stream,
    /// The file has no name yet.
    Unnamed { overwrite: bool },
    /// The file has another name.
    Beside { name: TempPath, overwrite: bool },
}

impl Target {
    /// Standard output.
    pub fn stdout() -> Self {
        Self::new(
            Out::Stdout(io::stdout()),
            Path::new("standard output"),
            Place::Stream,
        )
    }

    /// The file at `path`. Nothing is there before [`Target::finish`]. A pipe or a device is written to as it
    /// is.
    ///
    /// # Errors
    ///
    /// It exists and is not to be overwritten; its directory doesn't exist, or can't be written to.
    pub fn file(path: &Path, overwrite: bool) -> Result<Self, TargetError> {
        let failed = |error| TargetError::Failed {
            action: "create",
            path: path.to_owned(),
            error,
        };
        // Through a link, so that what it points to is overwritten and not the link itself.
        let path = &match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(failed(error)),
        };
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {
                return Err(failed(io::Error::from_raw_os_error(libc::EISDIR)));
            }
            Ok(metadata) if !metadata.is_file() => {
                let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
                return Ok(Self::new(Out::File(file), path, Place::Stream));
            }
            Ok(_) if !overwrite => return Err(TargetError::Exists(path.clone())),
            _ => {}
        }
        let directory = directory(path);
        let unnamed = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o666)
            .open(directory);
        let (file, place) = match unnamed {
            Ok(file) => (file, Place::Unnamed { overwrite }),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
                let (file, name) = beside(path).map_err(failed)?.into_parts();
                (file, Place::Beside { name, overwrite })
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self::new(Out::File(file), path, place))
    }

    /// Writes what is buffered, and gives the file its name.
    ///
    /// # Errors
    ///
    /// The disk is full, or something has come to be at that place meanwhile.
    pub fn finish(mut self) -> Result<(), TargetError> {
        self.out
            .flush()
            .map_err(|error| self.error("write", error))?;
        let named = match (&self.place, self.out.get_ref()) {
            (Place::Unnamed { overwrite: false }, Out::File(file)) => link(file, &self.path),
            (Place::Unnamed { overwrite: true }, Out::File(file)) => replace(file, &self.path),
            _ => Ok(()),
        };
        let named = named.and_then(
            |()| match std::mem::replace(&mut self.place, Place::Stream) {
                Place::Beside {
                    name,
                    overwrite: false,
                } => name
                    .persist_noclobber(&self.path)
                    .map_err(|error| error.error),
                Place::Beside {
                    name,
                    overwrite: true,
                } => name.persist(&self.path).map_err(|error| error.error),
                _ => Ok(()),
            },
        );
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => TargetError::Exists(self.path.clone()),
            _ => self.error("name", error),
        })
    }

    fn new(out: Out, path: &Path, place: Place) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, out),
            path: path.to_owned(),
            place,
        }
    }

    /// An error of this target.
    pub fn error(&self, action: &'static str, error: io::Error) -> TargetError {
        TargetError::Failed {
            action,
            path: self.path.clone(),
            error,
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(out) => out.flush(),
        }
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file with a name of its own in the directory of `path`.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".procjail-export.")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(directory(path))
}

/// Gives a file without a name one; fails if there is one of that name.
fn link(file: &File, path: &Path) -> io::Result<()> {
    // The link in /proc is followed to the open file: the way of open(2) that needs no capability.
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    nix::unistd::linkat(
        nix::fcntl::AT_FDCWD,
        open.as_str(),
        nix::fcntl::AT_FDCWD,
        path,
        nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW,
    )
    .map_err(io::Error::from)
}

/// Gives a file without a name one, in the place of another's.
fn replace(file: &File, path: &Path) -> io::Result<()> {
    // linkat(2) doesn't replace: it gets a name beside, for an instant.
    let name = beside(path)?.into_temp_path();
    std::fs::remove_file(&name)?;
    link(file, &name)?;
    name.persist(path).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

    use super::*;

    /// Names in a directory.
    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().display().to_string())
            .collect();
        names.sort();
        names
    }

    fn write(path: &Path, text: &str, overwrite: bool) -> Result<(), TargetError> {
        let mut target = Target::file(path, overwrite)?;
        target.write_all(text.as_bytes()).expect("room");
        target.finish()
    }

    #[test]
    fn a_file_is_there_when_it_is_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("report");
        let mut target = Target::file(&path, false).expect("a target");
        target.write_all(&[b'x'; 2 * BUFFER_BYTES]).expect("room");
        assert_eq!(names(directory.path()), [""; 0]);
        target.finish().expect("a name");
        assert_eq!(names(directory.path()), ["report"]);
        assert_eq!(path.metadata().expect("a file").len(), 2 << 18);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("report");
        for overwrite in [false, true] {
            let mut target = Target::file(&path, overwrite).expect("a target");
            target.write_all(b"half").expect("room");
            drop(target);
            assert_eq!(names(directory.path()), [""; 0]);
        }
        // The way of a file system that has no files without names.
        let file = beside(&path).expect("a file");
        drop(file);
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn a_file_is_overwritten_only_by_force() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("report");
        fs::write(&path, "old").expect("a file");
        assert!(matches!(
            write(&path, "new", false),
            Err(TargetError::Exists(_))
        ));
        assert_eq!(fs::read_to_string(&path).expect("a file"), "old");
        write(&path, "new", true).expect("force");
        assert_eq!(fs::read_to_string(&path).expect("a file"), "new");
        assert_eq!(names(directory.path()), ["report"]);
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("report");
        let target = Target::file(&path, false).expect("a target");
        fs::write(&path, "another's").expect("a file");
        assert!(matches!(target.finish(), Err(TargetError::Exists(_))));
        assert_eq!(fs::read_to_string(&path).expect("a file"), "another's");
    }

    #[test]
    fn a_link_stays_and_its_file_is_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("report");
        let link = directory.path().join("latest");
        fs::write(&path, "old").expect("a file");
        symlink("report", &link).expect("a link");
        assert!(matches!(
            write(&link, "new", false),
            Err(TargetError::Exists(_))
        ));
        write(&link, "new", true).expect("force");
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&path).expect("a file"), "new");
    }

    #[test]
    fn a_device_is_written_to_and_stays() {
        write(Path::new("/dev/null"), "text", false).expect("a device");
        let metadata = Path::new("/dev/null").metadata().expect("a device");
        assert!(metadata.file_type().is_char_device() && metadata.rdev() != 0);
        let mut full = Target::file(Path::new("/dev/full"), false).expect("a device");
        full.write_all(b"text").expect("a buffer");
        let error = full.finish().expect_err("no room").to_string();
        assert!(
            error.starts_with("cannot write /dev/full: ENOSPC"),
            "{error}"
        );
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        for (path, says) in [
            (directory.path().to_owned(), "EISDIR"),
            (
                directory.path().join("no/report"),
                "make its directory first",
            ),
        ] {
            let error = Target::file(&path, true)
                .err()
                .expect("an error")
                .to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
