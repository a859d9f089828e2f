//! A file of cgroupfs or procfs that is kept open and read again and again from its beginning: the look-up
//! of its name is most of what a short file costs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The open file.
#[derive(Debug)]
pub struct Reread(OwnedFd);

impl Reread {
    /// A file that was opened for reading.
    pub fn new(fd: OwnedFd) -> Reread {
        Reread(fd)
    }

    /// What it holds now; none once its cgroup is removed.
    pub fn text(&self) -> Option<String> {
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        loop {
            let offset = libc::off_t::try_from(bytes.len()).ok()?;
            match nix::sys::uio::pread(&self.0, &mut part, offset) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(part.get(..count)?),
                Err(_) => return None,
            }
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The number that it holds, in one read.
    pub fn number(&self) -> Option<u64> {
        let mut bytes = [0; 32];
        let count = nix::sys::uio::pread(&self.0, &mut bytes, 0).ok()?;
        let text = std::str::from_utf8(bytes.get(..count)?).ok()?;
        text.trim().parse().ok()
    }
}

impl AsFd for Reread {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_read_anew_each_time() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let open = std::fs::File::open(file.path()).expect("the same file");
        let reread = Reread::new(open.into());
        assert_eq!(
            (reread.text().as_deref(), reread.number()),
            (Some(""), None)
        );
        file.write_all(b"17\n").expect("written");
        assert_eq!(reread.number(), Some(17));
        file.write_all(&[b'x'; 10_000]).expect("written");
        assert_eq!(reread.text().map(|text| text.len()), Some(10_003));
    }
}
