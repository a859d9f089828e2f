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

/// What an error number means: `No such file or directory`; empty if it has no name.
pub fn errno_meaning(number: i32) -> &'static str {
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
}
