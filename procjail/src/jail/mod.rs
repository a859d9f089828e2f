//! The jail: made, supervised and removed, without any knowledge of tracing.
//!
//! [`Spec`] (what the user wants) is compiled into a [`Plan`] (what will be done) before anything is
//! created. [`Jail::create`] starts it; the child sets itself up in the background, up to the gate.
//! [`Jail::open_gate`] lets APP execute, [`Jail::supervise`] sees it to its end.
//!
//! ```text
//! launcher  signals, guard, cgroups, clone --- v1 cgroups, probes --- gate --- supervise, remove
//! guard       `- armed, waits for the launcher's end ------------------------------- killed
//! PID 1                               `- mounts, names, limits --- waits - APP ----- ends
//! ```

pub mod cgroup;
mod child;
mod clean;
mod error;
mod failure;
mod features;
mod forward;
mod guard;
mod init;
mod lookout;
mod mounts;
mod outcome;
mod plan;
mod program;
mod requester;
mod signals;
mod spawn;
pub mod spec;
mod stall;
mod supervise;
pub(crate) mod sys;
mod teardown;
mod terminal;

use std::path::Path;
use std::time::Instant;

use crate::clock;
use crate::event::{self, What};
use crate::target::Target;

pub use cgroup::Limits;
pub use clean::{Fate, Item, clean};
pub use error::Error;
pub use features::{Feature, check};
pub use guard::Guard;
pub use outcome::{LookAtStall, Observer, Outcome, StopOptions};
pub use plan::{Facts, INIT, Plan, Step};
pub use signals::Signals;
pub use spec::Spec;

pub(crate) use sys::{fs_type, openat2};

use cgroup::{Cgroups, Joining};
use spawn::Spawned;

/// A jail whose PID 1 exists. Dropping it kills and removes everything.
#[derive(Debug)]
pub struct Jail<'plan> {
    plan: &'plan Plan,
    /// When the launcher began, CLOCK_BOOTTIME nanoseconds.
    start_ns: u64,
    /// When the gate opened.
    opened: Option<Instant>,
    signals: Signals,
    // Dropped in this order: the guard's end kills every process, then the cgroups are empty.
    joining: Joining,
    spawned: Spawned,
    guard: Guard,
    cgroups: Cgroups,
}

impl<'plan> Jail<'plan> {
    /// Makes the cgroups, the guard and PID 1, which sets itself up while the caller prepares what
    /// must be ready before APP executes.
    ///
    /// To be called in the main thread while there is no other: the processes made here are copies of
    /// the caller, and die with the thread that made them.
    ///
    /// # Errors
    ///
    /// What the kernel refuses; nothing is left behind then.
    pub fn create(plan: &'plan Plan, observer: &dyn Observer) -> Result<Jail<'plan>, Error> {
        check_privileges()?;
        let start_ns = clock::boot_ns();
        let signals = Signals::open().map_err(Error::Signals)?;
        // The guard arms itself while the cgroups are made.
        let guard = Guard::start()?;
        let mut cgroups = Cgroups::create(&plan.name, &plan.limits)?;
        for left in cgroups.take_leftovers() {
            observer.observe(clock::boot_ns(), What::Leftover(left));
        }
        let spawned = spawn::spawn(plan, &guard, &cgroups)?;
        let joining = cgroups.join_v1(spawned.pid)?;
        let jail = Jail {
            plan,
            start_ns,
            opened: None,
            signals,
            joining,
            spawned,
            guard,
            cgroups,
        };
        let created = event::JailCreated {
            name: plan.name.clone(),
            cgroup: jail.cgroup_path().to_string_lossy().into_owned(),
            pid: jail.pid(),
        };
        observer.observe(clock::boot_ns(), What::JailCreated(created));
        Ok(jail)
    }

    /// ID of its cgroup on the default hierarchy.
    pub fn cgroup_id(&self) -> u64 {
        self.cgroups.id()
    }

    /// Level of that cgroup below the root.
    pub fn cgroup_level(&self) -> u32 {
        self.cgroups.level()
    }

    /// Path of that cgroup on the host.
    pub fn cgroup_path(&self) -> &Path {
        self.cgroups.path()
    }

    /// Host PID of PID 1.
    pub fn pid(&self) -> u32 {
        self.spawned.pid
    }

    /// What the jail uses of the kernel that not every kernel has.
    pub fn features(&self) -> Vec<Feature> {
        features::features(&self.cgroups, self.plan.limits.host())
    }

    /// What a trace of it is of.
    ///
    /// # Errors
    ///
    /// Out of descriptors, mostly.
    pub fn target(&self) -> std::io::Result<Target> {
        Ok(Target {
            pid: self.pid(),
            cgroup: self.cgroup_path().to_owned(),
            cgroup_id: self.cgroup_id(),
            cgroup_level: self.cgroup_level(),
            view: self.view()?,
        })
    }

    /// Opens its cgroups, for what their files tell.
    ///
    /// # Errors
    ///
    /// Out of descriptors, mostly.
    pub fn view(&self) -> std::io::Result<crate::cgroup::View> {
        Ok(self.cgroups.view(self.plan.limits.host())?)
    }

    /// Name of the jail.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Lets APP execute as soon as the set-up is done; returns when it does.
    ///
    /// # Errors
    ///
    /// Why the set-up or the execution failed. Drop the jail then.
    pub fn open_gate(&mut self, observer: &dyn Observer) -> Result<(), Error> {
        let opened = self.let_through(observer);
        if let Err(error) = &opened {
            observer.observe(clock::boot_ns(), What::SetupFailed(error.setup_failed()));
        }
        opened
    }

    fn let_through(&mut self, observer: &dyn Observer) -> Result<(), Error> {
        self.joining.finish()?;
        self.opened = Some(Instant::now());
        let now_ns = clock::boot_ns();
        let opened = event::GateOpened {
            setup_ns: now_ns.saturating_sub(self.start_ns),
        };
        observer.observe(now_ns, What::GateOpened(opened));
        self.spawned
            .open_gate(self.plan, &mut self.signals, observer)
    }
}

/// Refuses a launcher that could not make a jail.
///
/// # Errors
///
/// [`Error::NotRoot`].
pub fn check_privileges() -> Result<(), Error> {
    if sys::has_sys_admin() {
        Ok(())
    } else {
        Err(Error::NotRoot)
    }
}
