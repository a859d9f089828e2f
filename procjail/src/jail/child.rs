//! What PID 1 does between clone and APP: it walks the plan's steps.
//!
//! This runs in a copy of the launcher. It allocates nothing, locks nothing, never returns and never
//! unwinds; a failure goes to the launcher as a [`Report`] over a pipe, and the process ends.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::plan::{Plan, Step};
use super::program::{Unusable, Vectors};
use super::sys::{self, flags};
use super::{init, mounts};
use crate::exit;

/// Which part of a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// The step is one call.
    Whole,
    /// What a mount is made from.
    Source,
    /// Where a mount goes.
    MountPoint,
    /// Making a new file system.
    Create,
    /// Making a file in it.
    Device,
    /// Attaching the mount.
    Attach,
    /// Making it read-only.
    ReadOnly,
    /// Finding APP: it is missing.
    Missing,
    /// Finding APP: it is a directory.
    Directory,
    /// Finding APP: it is not a file.
    NotAFile,
    /// Finding APP: it may not be executed.
    Denied,
    /// Executing APP.
    Exec,
}

impl Part {
    const ALL: [Part; 12] = [
        Part::Whole,
        Part::Source,
        Part::MountPoint,
        Part::Create,
        Part::Device,
        Part::Attach,
        Part::ReadOnly,
        Part::Missing,
        Part::Directory,
        Part::NotAFile,
        Part::Denied,
        Part::Exec,
    ];
}

/// A failure of a step: which part, and what the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which part.
    pub part: Part,
    /// What the kernel said.
    pub errno: Errno,
    /// Which candidate, when it is about APP.
    pub candidate: usize,
}

impl Fault {
    /// A fault that is not about APP.
    pub fn new(part: Part, errno: Errno) -> Fault {
        Fault {
            part,
            errno,
            candidate: 0,
        }
    }
}

/// Says which part of a step a system call was.
pub trait PartOf<T> {
    /// Adds the part to an error.
    fn part(self, part: Part) -> Result<T, Fault>;
}

impl<T> PartOf<T> for sys::Result<T> {
    fn part(self, part: Part) -> Result<T, Fault> {
        self.map_err(|errno| Fault::new(part, errno))
    }
}

/// What the child tells the launcher when a step fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Index of the step in the plan.
    pub step: usize,
    /// What failed.
    pub fault: Fault,
    /// Beginning of the file that could not be executed.
    pub head: [u8; Report::HEAD],
    /// How much of it was read.
    pub head_length: usize,
}

impl Report {
    /// Enough for a first line and for the program headers of an ELF file with its interpreter.
    const HEAD: usize = 2048;
    /// As written: four numbers, then the beginning of the file. Less than PIPE_BUF, so that it
    /// arrives in one piece.
    pub const SIZE: usize = 16 + Report::HEAD;

    fn encode(&self) -> [u8; Report::SIZE] {
        let mut bytes = [0; Report::SIZE];
        let numbers = [
            self.step as u32,
            self.fault.part as u32 | (self.fault.candidate as u32) << 8,
            self.fault.errno as u32,
            self.head_length as u32,
        ];
        let (front, head) = bytes.split_at_mut(16);
        for (place, number) in front.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        head.copy_from_slice(&self.head);
        bytes
    }

    /// Reads a report; `None` if these bytes are not one.
    pub fn decode(bytes: &[u8]) -> Option<Report> {
        let (front, head) = bytes.split_at_checked(16)?;
        let mut numbers = front.chunks_exact(4).map(|place| {
            place
                .iter()
                .rev()
                .fold(0u32, |value, &byte| value << 8 | u32::from(byte))
        });
        let (step, what) = (numbers.next()?, numbers.next()?);
        let (errno, head_length) = (numbers.next()?, numbers.next()? as usize);
        Some(Report {
            step: step as usize,
            fault: Fault {
                part: *Part::ALL.get((what & 0xff) as usize)?,
                errno: Errno::from_raw(errno as i32),
                candidate: (what >> 8) as usize,
            },
            head: head.try_into().ok()?,
            head_length: head_length.min(Report::HEAD),
        })
    }
}

/// All that the child needs; made before the clone.
pub struct Child<'a> {
    /// The steps.
    pub plan: &'a Plan,
    /// For execve(2).
    pub vectors: &'a Vectors,
    /// The gate: a byte lets APP execute; its end means that the launcher is dead.
    pub gate: RawFd,
    /// The launcher's end of the gate, which this process must not hold.
    pub launcher_gate: RawFd,
    /// Where reports go.
    pub report: RawFd,
    /// The host's shared mounts, in the order of the plan's peers.
    pub peers: &'a [OwnedFd],
    /// Room for their copies in the jail.
    pub copies: &'a mut [Option<OwnedFd>],
    /// Clones that wait for their place.
    pub slots: &'a mut [Option<OwnedFd>],
    /// The root of the jail.
    pub root: Option<OwnedFd>,
}

impl Child<'_> {
    /// Walks the steps; ends in APP, or in the end of this process.
    pub fn run(&mut self) -> ! {
        // SAFETY: this process has its own table of descriptors, and nothing else uses this one.
        unsafe { libc::close(self.launcher_gate) };
        // Until execve(2) it is not APP, nor a program of whatever name the launcher's file has.
        sys::set_comm(c"procjail-child");
        let plan = self.plan;
        for (index, step) in plan.steps.iter().enumerate() {
            if let Err(fault) = self.step(step) {
                self.fail(index, fault);
            }
        }
        // Not reached: the last step executes APP or fails.
        sys::exit(i32::from(exit::FAILED))
    }

    fn fail(&self, step: usize, fault: Fault) -> ! {
        let mut report = Report {
            step,
            fault,
            head: [0; Report::HEAD],
            head_length: 0,
        };
        if fault.part == Part::Exec {
            report.head_length = self
                .plan
                .program
                .read_head(fault.candidate, &mut report.head);
        }
        // Nobody to tell if this fails.
        let _ = sys::write(self.report, &report.encode());
        sys::exit(i32::from(exit::FAILED))
    }

    fn step(&mut self, step: &Step) -> Result<(), Fault> {
        match step {
            Step::Arm => self.arm(),
            Step::Propagation { slave } => {
                mounts::set_propagation(*slave)?;
                let root = sys::openat2(libc::AT_FDCWD, c"/", flags::O_PATH, 0);
                self.root = Some(root.part(Part::Whole)?);
                Ok(())
            }
            Step::OpenPeers => self.open_peers(),
            Step::Clone {
                slot,
                source,
                read_only,
            } => {
                let tree = mounts::clone_tree(source, *read_only)?;
                match self.slots.get_mut(*slot) {
                    Some(place) => *place = Some(tree),
                    None => return Err(Fault::new(Part::Whole, Errno::EBADF)),
                }
                Ok(())
            }
            Step::Root { dir } => {
                self.root = Some(mounts::new_root(dir)?);
                Ok(())
            }
            Step::ReadOnly { remounts } => mounts::make_read_only(self.root()?, remounts),
            Step::Proc => mounts::mount_proc(self.root()?),
            Step::Dev => mounts::mount_dev(self.root()?),
            Step::Tmpfs { target, size_bytes } => {
                mounts::mount_tmpfs(self.root()?, target, size_bytes.as_deref())
            }
            Step::Attach {
                slot,
                target,
                remounts,
            } => {
                let root = self.root()?;
                let tree = self.slots.get_mut(*slot).and_then(Option::take);
                let tree = tree.ok_or(Fault::new(Part::Whole, Errno::EBADF))?;
                mounts::attach(root, target, &tree, flags::RESOLVE_INSIDE)?;
                mounts::remount_all(tree.as_raw_fd(), remounts)
            }
            Step::Pivot => {
                sys::fchdir(self.root()?).part(Part::Whole)?;
                sys::pivot_root_here().part(Part::Whole)
            }
            Step::JoinPeers => self.join_peers(),
            Step::Hostname(name) => sys::set_hostname(name).part(Part::Whole),
            Step::Loopback => sys::loopback_up().part(Part::Whole),
            Step::Rlimit(limit) => {
                sys::set_rlimit(limit.resource, limit.soft, limit.hard).part(Part::Whole)
            }
            Step::Capabilities => sys::clear_inheritable_capabilities().part(Part::Whole),
            Step::Gate => self.wait_at_gate(),
            Step::CgroupNamespace => sys::unshare(libc::CLONE_NEWCGROUP).part(Part::Whole),
            Step::Init => init::split().part(Part::Whole),
            Step::User(user) => {
                sys::set_user(user.uid, user.gid).part(Part::Whole)?;
                // A change of credentials disarmed it.
                self.arm()
            }
            Step::Workdir(dir) => {
                // Never through a magic link, which could lead out of the jail.
                let open = flags::O_PATH | libc::O_DIRECTORY;
                let dir = sys::openat2(self.root()?, dir, open, flags::RESOLVE_INSIDE);
                sys::fchdir(dir.part(Part::Whole)?.as_raw_fd()).part(Part::Whole)
            }
            Step::Execute(_) => self.execute(),
        }
    }

    fn root(&self) -> Result<RawFd, Fault> {
        let root = self.root.as_ref().map(AsRawFd::as_raw_fd);
        root.ok_or(Fault::new(Part::Whole, Errno::EBADF))
    }

    /// From here on this process dies with the launcher, and it isn't too late already.
    fn arm(&self) -> Result<(), Fault> {
        sys::die_with_parent().part(Part::Whole)?;
        if sys::poll(self.gate, 0).part(Part::Whole)? & libc::POLLHUP != 0 {
            sys::exit(i32::from(exit::FAILED));
        }
        Ok(())
    }

    fn open_peers(&mut self) -> Result<(), Fault> {
        for (peer, place) in self.plan.peers.iter().zip(self.copies.iter_mut()) {
            if let Some(path) = &peer.copy {
                let copy = sys::openat2(libc::AT_FDCWD, path, flags::O_PATH, 0);
                *place = Some(copy.part(Part::Source)?);
            }
        }
        Ok(())
    }

    fn join_peers(&self) -> Result<(), Fault> {
        for (from, copy) in self.peers.iter().zip(self.copies.iter()) {
            let to = match copy {
                Some(copy) => copy.as_raw_fd(),
                None => self.root()?,
            };
            sys::move_mount(from.as_raw_fd(), to, flags::MOVE_MOUNT_SET_GROUP)
                .part(Part::Attach)?;
        }
        Ok(())
    }

    fn wait_at_gate(&self) -> Result<(), Fault> {
        match sys::read(self.gate, &mut [0]).part(Part::Whole)? {
            0 => sys::exit(i32::from(exit::FAILED)),
            _ => Ok(()),
        }
    }

    fn execute(&self) -> Result<(), Fault> {
        let program = &self.plan.program;
        let candidate = program.find().map_err(|(candidate, why)| {
            let (part, errno) = match why {
                Unusable::Missing => (Part::Missing, Errno::ENOENT),
                Unusable::Directory => (Part::Directory, Errno::EISDIR),
                Unusable::NotAFile => (Part::NotAFile, Errno::EACCES),
                Unusable::Denied(errno) => (Part::Denied, errno),
            };
            Fault {
                part,
                errno,
                candidate,
            }
        })?;
        // The report's pipe closes by itself when APP executes: that is how the launcher learns it.
        sys::close_all_but(self.report).part(Part::Whole)?;
        sys::default_signals();
        sys::block_all_signals(false);
        let errno = program.execute(candidate, self.vectors);
        Err(Fault {
            part: Part::Exec,
            errno,
            candidate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_the_pipe() {
        let report = Report {
            step: 17,
            fault: Fault {
                part: Part::Exec,
                errno: Errno::ENOEXEC,
                candidate: 300,
            },
            head: [7; Report::HEAD],
            head_length: 99,
        };
        assert_eq!(Report::decode(&report.encode()), Some(report));
        const { assert!(Report::SIZE <= libc::PIPE_BUF) };
        for part in Part::ALL {
            assert_eq!(Part::ALL.get(part as usize), Some(&part));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_may_come_over_the_pipe(bytes: Vec<u8>) {
            let _ = Report::decode(&bytes);
        }
    }
}
