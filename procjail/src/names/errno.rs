//! Error numbers, as errno(3) names them.

use nix::errno::Errno;

/// Symbol of a positive error number: `ENOENT`; `E9999` if it has none.
pub fn errno(number: i32) -> String {
    if let Some((_, name)) = INTERNAL.iter().find(|(internal, _)| *internal == number) {
        return (*name).to_owned();
    }
    match Errno::from_raw(number) {
        Errno::UnknownErrno => format!("E{number}"),
        known => format!("{known:?}"),
    }
}

/// What an error number means, in the C library's words, which programs print: `No such file or directory`; empty if
/// it has no name.
pub fn errno_meaning(number: i32) -> &'static str {
    if let Some((_, words)) = STRERROR.iter().find(|(error, _)| *error == number) {
        return words;
    }
    match Errno::from_raw(number) {
        Errno::UnknownErrno => "",
        known => known.desc(),
    }
}

/// An error of the standard library as messages show it: `ENOENT (No such file or directory)`; its
/// own words if the kernel has no part in it.
pub fn io_error(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{} ({})", errno(number), errno_meaning(number)),
        None => error.to_string(),
    }
}

/// Errors that strerror(3) of glibc has other words for than nix.
const STRERROR: [(i32, &str); 17] = [
    (libc::EIO, "Input/output error"),
    (libc::EBADF, "Bad file descriptor"),
    (libc::EAGAIN, "Resource temporarily unavailable"),
    (libc::ENOMEM, "Cannot allocate memory"),
    (libc::EXDEV, "Invalid cross-device link"),
    (libc::ENFILE, "Too many open files in system"),
    (libc::ENOTTY, "Inappropriate ioctl for device"),
    (libc::EDOM, "Numerical argument out of domain"),
    (libc::ERANGE, "Numerical result out of range"),
    (libc::EDEADLK, "Resource deadlock avoided"),
    (libc::ENOLCK, "No locks available"),
    (libc::ELOOP, "Too many levels of symbolic links"),
    (libc::EBADMSG, "Bad message"),
    (
        libc::EILSEQ,
        "Invalid or incomplete multibyte or wide character",
    ),
    (libc::EOPNOTSUPP, "Operation not supported"),
    (libc::ENETRESET, "Network dropped connection on reset"),
    (libc::EDQUOT, "Disk quota exceeded"),
];

/// Numbers that never reach a program but are seen inside the kernel, when a signal interrupts a
/// system call (`include/linux/errno.h`).
const INTERNAL: [(i32, &str); 5] = [
    (512, "ERESTARTSYS"),
    (513, "ERESTARTNOINTR"),
    (514, "ERESTARTNOHAND"),
    (516, "ERESTART_RESTARTBLOCK"),
    (524, "ENOTSUPP"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_names() {
        assert_eq!(errno(libc::ENOENT), "ENOENT");
        assert_eq!(errno(libc::EBUSY), "EBUSY");
        assert_eq!(errno(512), "ERESTARTSYS");
        assert_eq!(errno(0), "E0");
        assert_eq!(errno(-3), "E-3");
        assert_eq!(errno_meaning(libc::ENOENT), "No such file or directory");
        assert_eq!(errno_meaning(9999), "");
    }

    #[test]
    fn errors_are_told_in_the_c_librarys_words() {
        assert_eq!(errno_meaning(libc::ENOMEM), "Cannot allocate memory");
        for number in 1..=libc::EHWPOISON {
            let words = std::io::Error::from_raw_os_error(number).to_string();
            let words = words.split(" (os error").next().unwrap_or_default();
            if !words.starts_with("Unknown error") {
                assert_eq!(errno_meaning(number), words);
            }
        }
    }
}
