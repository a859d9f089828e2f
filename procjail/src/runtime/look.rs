//! One look at the host: what was given, what was read so far, and what could not be.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use serde::Serialize;
use serde_json::Value;

use super::files::Tree;
use super::roots::Roots;
use super::table::{self, Table};

/// A file that could not be read, or makes no sense. What it would have told is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// Its path.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// One look at the host.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub roots: &'a Roots,
    pub table: &'a Table,
    /// The host's root directory.
    pub host: Rc<Tree>,
    pub unread: Vec<Unread>,
}

impl Look<'_> {
    /// Content of a file; `None` if there is none, or if it can't be read, which is noted.
    pub fn read(&mut self, tree: &Tree, path: &Path) -> Option<String> {
        let read = tree.read(path);
        self.note(read, || tree.shown(path))
    }

    /// The same for JSON. A file that is just being written is noted, too.
    pub fn json(&mut self, tree: &Tree, path: &Path) -> Option<Value> {
        let text = self.read(tree, path)?;
        match serde_json::from_str(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.unread.push(Unread {
                    path: tree.shown(path),
                    why: format!("not JSON: {error}"),
                });
                None
            }
        }
    }

    /// What a directory has; nothing if there is none.
    pub fn names(&mut self, tree: &Tree) -> Vec<String> {
        let names = tree.names();
        self.note(names, || tree.path.clone()).unwrap_or_default()
    }

    /// A directory of the host, if there is one.
    pub fn directory(&mut self, path: &Path) -> Option<Tree> {
        let opened = self.host.below(path);
        let shown = self.host.shown(path);
        self.note(opened, || shown)
    }

    /// A directory behind one of /proc's links: `cwd`, `root`.
    pub fn link(&mut self, path: &Path) -> Option<Tree> {
        self.note(Tree::open(path), || path.to_owned())
    }

    /// The root directory of a process: the host's, or that of a container.
    pub fn root_of(&mut self, pid: u32) -> Option<Rc<Tree>> {
        let tree = self.link(&self.roots.of_process(pid, "root"))?;
        if tree.identity() == self.host.identity() {
            return Some(Rc::clone(&self.host));
        }
        Some(Rc::new(tree))
    }

    /// Arguments of a process.
    pub fn arguments(&mut self, pid: u32) -> Option<Vec<String>> {
        let arguments = table::arguments(self.roots, pid);
        let roots = self.roots;
        self.note(arguments, || roots.of_process(pid, "cmdline"))
    }

    /// The process is root's.
    pub fn is_trusted(&self, pid: u32) -> bool {
        let directory = Tree::open(&self.roots.of_process(pid, ""));
        directory.is_ok_and(|directory| self.is_owner(&directory))
    }

    /// The directory is root's, or whoever's procfs is: only root can give files to it.
    pub fn is_owner(&self, directory: &Tree) -> bool {
        let owner = Tree::open(&self.roots.proc)
            .ok()
            .and_then(|proc| proc.owner());
        owner.is_some() && owner == directory.owner()
    }

    /// What is gone, or was never there, is not worth a note.
    fn note<T>(&mut self, result: Result<T, Errno>, path: impl FnOnce() -> PathBuf) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESRCH) => None,
            Err(errno) => {
                let why = match errno {
                    Errno::EFBIG => "too large to be what it should be".to_owned(),
                    Errno::EINVAL => "not a regular file".to_owned(),
                    errno => format!("{errno:?} ({})", errno.desc()),
                };
                let path = path();
                self.unread.push(Unread { path, why });
                None
            }
        }
    }
}
