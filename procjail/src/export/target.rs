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
