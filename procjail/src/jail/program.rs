//! APP: where it is looked for, and why it can't be executed.
//!
//! The search runs in the child, inside the finished jail, and where the jail shows the host's own
//! files also in the launcher, before anything is created. It looks before it executes: a burst of
//! failed execve(2) calls would stand in every trace.

use std::ffi::{CStr, CString, OsStr, OsString, c_char};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use super::error::Error;
use super::plan::{c_string, c_variable};
use super::sys;

/// Where programs are looked for if the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// APP, its arguments and its environment, ready for execve(2).
#[derive(Debug)]
pub struct Program {
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Files that APP may be, first one first.
    candidates: Vec<CString>,
    /// What was searched; `None` if APP is a path.
    path: Option<OsString>,
}

/// Why no candidate can be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// None exists.
    Missing,
    /// It is a directory.
    Directory,
    /// It is neither a file nor a directory.
    NotAFile,
    /// The file may not be executed, or not be reached.
    Denied(Errno),
}

/// Null-terminated arrays for execve(2); they point into a [`Program`].
#[derive(Debug)]
pub struct Vectors {
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
}

impl Program {
    /// Prepares a command, `[APP, ARG...]`.
    pub fn new(command: &[OsString], env: &[(OsString, OsString)]) -> Result<Program, Error> {
        let app = command.first().map_or(OsStr::new(""), OsString::as_os_str);
        if app.is_empty() {
            return Err(Error::NotFound {
                app: String::new(),
                path: None,
            });
        }
        let path = (!app.as_bytes().contains(&b'/')).then(|| {
            env.iter()
                .rev()
                .find(|(name, _)| name == "PATH")
                .map_or_else(|| DEFAULT_PATH.into(), |(_, value)| value.clone())
        });
        let candidates = match &path {
            None => vec![c_string(app)?],
            Some(path) => path
                .as_bytes()
                .split(|&byte| byte == b':')
                .map(|dir| {
                    // An empty entry is the working directory.
                    let dir = if dir.is_empty() { b"." } else { dir };
                    c_string(OsStr::from_bytes(&[dir, b"/", app.as_bytes()].concat()))
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Program {
            argv: command.iter().map(c_string).collect::<Result<_, _>>()?,
            env: env
                .iter()
                .map(|(name, value)| c_variable(name, value))
                .collect::<Result<_, _>>()?,
            candidates,
            path,
        })
    }

    /// APP as the user named it.
    pub fn app(&self) -> String {
        self.argv
            .first()
            .map(|app| app.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Its environment, `NAME=VALUE` each.
    pub fn environment(&self) -> impl Iterator<Item = &[u8]> {
        self.env.iter().map(|variable| variable.to_bytes())
    }

    /// Searches for the file to execute; also tells which candidate a failure is about. Doesn't
    /// allocate.
    pub fn find(&self) -> Result<usize, (usize, Unusable)> {
        let mut unusable = (0, Unusable::Missing);
        for (index, candidate) in self.candidates.iter().enumerate() {
            match examine(candidate) {
                Ok(()) => return Ok(index),
                // A search goes on behind a directory, and prefers to tell of a file it can't execute.
                Err(Unusable::Missing) => {}
                Err(Unusable::Directory | Unusable::NotAFile) if self.path.is_some() => {}
                Err(why) if unusable.1 == Unusable::Missing => unusable = (index, why),
                Err(_) => {}
            }
        }
        Err(unusable)
    }

    /// Searches as the launcher does, before anything is created.
    ///
    /// # Errors
    ///
    /// What will fail in the jail as well.
    pub fn check(&self, other_user: bool) -> Result<(), Error> {
        match self.find() {
            Ok(_) => Ok(()),
            // Another user may be allowed more, on a network file system for example.
            Err((_, Unusable::Denied(_))) if other_user => Ok(()),
            Err((index, why)) => Err(self.unusable(index, why)),
        }
    }

    /// The error for a failed search.
    pub fn unusable(&self, index: usize, why: Unusable) -> Error {
        let reason = match why {
            Unusable::Missing => {
                return Error::NotFound {
                    app: self.app(),
                    path: self.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
                };
            }
            Unusable::Directory => "it is a directory".to_owned(),
            Unusable::NotAFile => "it is not a regular file".to_owned(),
            Unusable::Denied(Errno::EACCES) => {
                "EACCES (Permission denied); it needs execute permission (chmod +x), and its directories search permission".to_owned()
            }
            Unusable::Denied(errno) => Error::errno_words(errno),
        };
        let errno = match why {
            Unusable::Denied(errno) => Some(errno),
            _ => None,
        };
        self.not_executable(index, errno, reason)
    }

    /// The error for an execve(2) that failed; `head` is the beginning of the file.
    pub fn exec_failed(&self, index: usize, errno: Errno, head: &[u8]) -> Error {
        let reason = match (errno, interpreter(head)) {
            (Errno::ENOENT, Some(Interpreter::Script(name))) => {
                format!(
                    "its interpreter {} (first line, #!) does not exist in the jail{}",
                    quoted(&name),
                    match name.ends_with('\r') {
                        true => ": the carriage return at the end of that line is part of the name",
                        false => "",
                    }
                )
            }
            (Errno::ENOENT, Some(Interpreter::Loader(name))) => {
                format!("its ELF loader {} does not exist in the jail; bind it and the libraries, or use a static program", quoted(&name))
            }
            (Errno::ENOEXEC, _) => {
                "ENOEXEC (Exec format error): neither a program for this machine nor a script with #! in its first line".to_owned()
            }
            (Errno::EACCES, Some(Interpreter::Script(name))) => {
                format!("EACCES (Permission denied); see the permissions of its interpreter {}, and whether a mount is noexec", quoted(&name))
            }
            (Errno::EACCES, _) => "EACCES (Permission denied); is it on a mount with noexec?".to_owned(),
            (Errno::E2BIG, _) => "E2BIG (Argument list too long): arguments and environment exceed what the stack's limit allows".to_owned(),
            (Errno::EAGAIN, _) => "EAGAIN: its user has more processes than --rlimit nproc allows".to_owned(),
            (Errno::ENOMEM, _) => "ENOMEM (Cannot allocate memory); raise --memory".to_owned(),
            _ => Error::errno_words(errno),
        };
        self.not_executable(index, Some(errno), reason)
    }

    fn not_executable(&self, index: usize, errno: Option<Errno>, reason: String) -> Error {
        let file = self.candidates.get(index);
        Error::NotExecutable {
            file: file
                .map(|file| file.to_string_lossy().into_owned())
                .unwrap_or_default(),
            errno,
            reason,
        }
    }

    /// The arrays that execve(2) takes. They are valid as long as this program is.
    pub fn vectors(&self) -> Vectors {
        let pointers = |strings: &[CString]| {
            strings
                .iter()
                .map(|text| text.as_ptr())
                .chain([std::ptr::null()])
                .collect()
        };
        Vectors {
            argv: pointers(&self.argv),
            env: pointers(&self.env),
        }
    }

    /// execve(2) of a candidate; returns only if it failed.
    pub fn execute(&self, index: usize, vectors: &Vectors) -> Errno {
        let Some(file) = self.candidates.get(index) else {
            return Errno::ENOENT;
        };
        // SAFETY: the arrays end in null and point to C strings that live as long as `self`.
        unsafe { libc::execve(file.as_ptr(), vectors.argv.as_ptr(), vectors.env.as_ptr()) };
        Errno::last()
    }

    /// Reads the beginning of a candidate into `head`; returns how much. Doesn't allocate.
    pub fn read_head(&self, index: usize, head: &mut [u8]) -> usize {
        let Some(file) = self.candidates.get(index) else {
            return 0;
        };
        // SAFETY: the path is a valid C string.
        let fd = unsafe { libc::open(file.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        if fd < 0 {
            return 0;
        }
        sys::read(fd, head).unwrap_or(0)
    }
}

fn examine(file: &CStr) -> Result<(), Unusable> {
    // SAFETY: all zeros is a valid stat, and the call fills it.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a valid C string, `stat` is valid for writing.
    if unsafe { libc::stat(file.as_ptr(), &mut stat) } != 0 {
        return Err(match Errno::last() {
            Errno::ENOENT | Errno::ENOTDIR => Unusable::Missing,
            errno => Unusable::Denied(errno),
        });
    }
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => {}
        libc::S_IFDIR => return Err(Unusable::Directory),
        _ => return Err(Unusable::NotAFile),
    }
    // SAFETY: the path is a valid C string. faccessat2 (5.8) asks for the effective user.
    let denied = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            libc::AT_FDCWD,
            file.as_ptr(),
            libc::X_OK,
            libc::AT_EACCESS,
        )
    };
    if denied == 0 {
        Ok(())
    } else {
        Err(Unusable::Denied(Errno::last()))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Interpreter {
    /// Of a script.
    Script(String),
    /// Of a dynamically linked ELF program (PT_INTERP).
    Loader(String),
}

/// A name for a sentence; one that has what can't be seen is quoted, with escapes.
fn quoted(name: &str) -> String {
    match name.contains(char::is_control) {
        true => format!("{name:?}"),
        false => name.to_owned(),
    }
}

/// The interpreter that a file asks for, from its beginning.
fn interpreter(head: &[u8]) -> Option<Interpreter> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next()?;
        // What load_script() in fs/binfmt_script.c takes: only blanks and the end of the line end a name.
        let text = String::from_utf8_lossy(line);
        let mut words = text
            .split([' ', '\t', '\0'])
            .filter(|word| !word.is_empty());
        return Some(Interpreter::Script(words.next()?.to_owned()));
    }
    // Only the form of the machines procjail runs on: 64 bits, little-endian. elf(5).
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    const PT_INTERP: u64 = 3;
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(length)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |value, &byte| value << 8 | u64::from(byte)),
        )
    };
    let (offset, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    (0..count).find_map(|index| {
        let header = usize::try_from(offset.checked_add(index * size)?).ok()?;
        if number(header, 4)? != PT_INTERP {
            return None;
        }
        let start = usize::try_from(number(header.checked_add(8)?, 8)?).ok()?;
        let name = head.get(start..)?.split(|&byte| byte == 0).next()?;
        Some(Interpreter::Loader(
            String::from_utf8_lossy(name).into_owned(),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(app: &str, path: &str) -> Program {
        Program::new(&[app.into()], &[("PATH".into(), path.into())]).unwrap()
    }

    #[test]
    fn the_search_takes_the_first_file_that_can_be_executed() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("1"), dir.path().join("2"));
        std::fs::create_dir_all(first.join("tool")).unwrap();
        std::fs::create_dir(&second).unwrap();
        let path = format!("/nowhere:{}:{}", first.display(), second.display());
        let tool = program("tool", &path);
        // A directory of that name is passed over, as by a shell.
        assert_eq!(tool.find(), Err((0, Unusable::Missing)));
        std::fs::write(second.join("tool"), "").unwrap();
        assert_eq!(tool.find(), Err((2, Unusable::Denied(Errno::EACCES))));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(second.join("tool"), mode).unwrap();
        assert_eq!(tool.find(), Ok(2));
        let direct = program(first.join("tool").to_str().unwrap(), &path);
        assert_eq!(direct.find(), Err((0, Unusable::Directory)));
    }

    #[test]
    fn interpreters_are_read_from_scripts_and_programs() {
        assert_eq!(
            interpreter(b"#! /usr/bin/env python3\n"),
            Some(Interpreter::Script("/usr/bin/env".into()))
        );
        assert_eq!(interpreter(b"#!"), None);
        assert_eq!(
            interpreter(b"#!/bin/sh\r\n"),
            Some(Interpreter::Script("/bin/sh\r".into()))
        );
        assert_eq!(quoted("/bin/sh\r"), r#""/bin/sh\r""#);
        assert_eq!(quoted("/bin/sh"), "/bin/sh");
        assert_eq!(interpreter(b"\x7fELF\x02\x01"), None);
        let mut head = [0u8; 1024];
        let length = program("/bin/sh", "").read_head(0, &mut head);
        assert!(
            matches!(interpreter(&head[..length]), Some(Interpreter::Loader(name)) if name.contains("ld-"))
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_may_be_the_beginning_of_a_file(mut head: Vec<u8>, elf: bool) {
            if elf {
                head.splice(0..0, *b"\x7fELF\x02\x01");
            }
            let _ = interpreter(&head);
        }
    }
}
