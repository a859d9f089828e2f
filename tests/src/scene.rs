//! The stage of one kernel test: alone, as root, with undo and a census.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use crate::census::collect_orphans;
use crate::{Census, Invocation, descendants, kernel, procjail, wait_until};

/// Kernel tests look at the whole machine, so they run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What a test works with: a directory of its own, and ways to start `procjail`.
#[derive(Debug)]
pub struct Scene {
    directory: tempfile::TempDir,
}

/// So often a test is tried on a kernel that may keep events from probes; see [`crate::kernel`].
const ATTEMPTS: u32 = 4;

/// Runs one test, then ends whatever it left running and proves that nothing remains.
///
/// From Linux 7.0 on a probe misses events while a task is preempted in it. A test that fails after its
/// trace has said so is tried again, and that is noted.
///
/// # Panics
///
/// If the test fails, if it is not run by root, or if anything of the jails is left behind.
pub fn scene(test: impl Fn(&Scene)) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: geteuid has no preconditions.
    let user = unsafe { libc::geteuid() };
    assert_eq!(
        user, 0,
        "the kernel tests make cgroups and load BPF programs: run them as root"
    );
    become_subreaper();

    for attempt in 1.. {
        kernel::forget_misses();
        let Err(panic) = perform(&test) else {
            return;
        };
        let Some(misses) = kernel::told_misses().filter(|_| kernel::probes_are_preempted()) else {
            resume_unwind(panic);
        };
        if attempt == ATTEMPTS {
            resume_unwind(panic);
        }
        kernel::note(&format!("tried again, the trace told of a loss: {misses}"));
    }
}

/// One attempt.
fn perform(test: &impl Fn(&Scene)) -> std::thread::Result<()> {
    let before = Census::take();
    let scene = Scene {
        directory: tempfile::Builder::new()
            .prefix("procjail-test.")
            .tempdir()
            .expect("a temporary directory"),
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| test(&scene)));
    let left_running = match outcome {
        Ok(()) => before.leftovers(),
        Err(_) => Vec::new(),
    };
    end_descendants();
    clean();
    drop(scene);
    outcome?;
    assert!(left_running.is_empty(), "left behind: {left_running:#?}");
    Ok(())
}

impl Scene {
    /// A directory that is removed after the test.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in that directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `procjail` with these arguments.
    pub fn procjail(&self, arguments: &[&str]) -> Invocation {
        Invocation::new(procjail(), self.directory()).args(arguments)
    }

    /// `procjail run OPTIONS -- APP`.
    pub fn run(&self, options: &[&str], app: &[&str]) -> Invocation {
        self.procjail(&["run"])
            .args(options)
            .args(&["--"])
            .args(app)
    }

    /// `procjail trace OPTIONS -o FILE -- APP`.
    pub fn trace(&self, options: &[&str], app: &[&str]) -> Invocation {
        self.procjail(&["trace", "-o"])
            .args(&[&self.path("trace.jsonl").display().to_string()])
            .args(options)
            .args(&["--"])
            .args(app)
            .traced()
    }
}

/// Orphans of a jail become children of this process, where the census finds them.
///
/// # Panics
///
/// If the kernel refuses.
pub fn become_subreaper() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: prctl with these arguments touches no memory of ours.
        let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        assert_eq!(result, 0, "cannot become a subreaper");
    });
}

/// Ends and collects every process below this one. All of them come from the test that just ended.
pub(crate) fn end_descendants() {
    wait_until(
        "end of all processes of the test",
        Duration::from_secs(20),
        || {
            for pid in descendants() {
                // SAFETY: kill has no preconditions; nobody else collects descendants of this process.
                unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
            }
            collect_orphans();
            descendants().is_empty().then_some(())
        },
    );
}

/// Lets procjail remove what only a living process can: the next test starts from nothing.
fn clean() {
    let _ = Command::new(procjail())
        .arg("clean")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
