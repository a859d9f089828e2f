//! A launcher that is killed leaves no process; what it does leave is removed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::app::{Random, Running, cgroups_of, processes_with, unique, wait_until};
use common::{command, ok};

/// Each start of a jail sweeps: these tests must not run at the same time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `procjail clean ARGS`: exit code and standard output.
fn clean(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procjail"));
    command.arg("clean").args(args);
    let output = common::output(command);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[test]
fn a_launcher_killed_at_any_instant_takes_all_with_it() {
    let _alone = alone();
    let mut random = Random(0x5eed_0002);
    let name = unique("killed");
    let mut left = 0;
    for round in 0..200 {
        let jail = format!("{name}-r{round}");
        let marker = format!("{}.{round}5", 86_000 + std::process::id() % 1000);
        // APP gets out of the session, has children that ignore all, and forgets the launcher; or it
        // ends soon, so that the blow falls into the removal.
        let last = if round % 3 == 0 { ": " } else { "exec sleep" };
        let app = format!(
            "(trap '' TERM HUP INT; exec sleep {marker}) & setsid sleep {marker} & {last} {marker}"
        );
        let limits: &[&str] = if round % 2 == 0 {
            &["--memory", "64M", "--pids", "9"]
        } else {
            &[]
        };
        let mut command = command(
            ["--name", &jail]
                .into_iter()
                .chain(limits.iter().copied())
                .chain(["--", "sh", "-c", &app]),
        );
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // What is dying is given the time to: processes here, exit of a namespace there.
        wait_until("no process survives", || {
            processes_with(&marker).is_empty() && processes_with(&jail).is_empty()
        });
        left += usize::from(!cgroups_of(&jail).is_empty());
    }
    assert!(
        left > 20,
        "only {left} of 200 left anything: struck too early"
    );
    // The next start of any jail removes what is left.
    ok(["--", "true"]);
    assert_eq!(cgroups_of(&name), Vec::<PathBuf>::new());
}

#[test]
fn clean_removes_leftovers_and_says_so() {
    let _alone = alone();
    let name = unique("leftover");
    let jail = Running::start(command([
        "--name", &name, "--pids", "9", "--", "sleep", "100",
    ]));
    wait_until("the jail", || {
        cgroups_of(&name).len() >= 2 || !v1_pids() && !cgroups_of(&name).is_empty()
    });

    // A living jail is never touched.
    let (code, text) = clean(&["--name", &name]);
    assert_eq!(
        text,
        format!(
            "kept jail {name}: it is running (launcher {})\n",
            jail.pid()
        )
    );
    assert_eq!(code, Some(125));
    assert!(!cgroups_of(&name).is_empty());

    jail.signal(libc::SIGKILL);
    let (status, ..) = jail.finish();
    assert_eq!(status.code(), None);
    let mut dirs = cgroups_of(&name);
    assert!(!dirs.is_empty(), "a jail that starts just now has swept it");
    let (code, text) = clean(&["--dry-run", "--name", &name]);
    assert_eq!(code, Some(0));
    for dir in &dirs {
        assert!(
            text.contains(&format!("would remove cgroup {}\n", dir.display())),
            "{text}"
        );
    }
    let (code, text) = clean(&["--name", &name]);
    assert_eq!(code, Some(0));
    for dir in dirs.drain(..) {
        assert!(
            text.contains(&format!("removed cgroup {}\n", dir.display())),
            "{text}"
        );
    }
    assert_eq!(cgroups_of(&name), Vec::<PathBuf>::new());
    let (code, text) = clean(&["--name", &name]);
    assert_eq!(
        (code, text),
        (
            Some(0),
            format!("nothing to remove: no jail named {name}\n")
        )
    );
}

fn v1_pids() -> bool {
    Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists()
}

#[test]
fn what_the_jail_made_below_is_removed_with_it() {
    let _alone = alone();
    let name = unique("nested");
    let jail = Running::start(command(["--name", &name, "--", "sleep", "100"]));
    wait_until("the jail", || !cgroups_of(&name).is_empty());
    let nested = cgroups_of(&name).remove(0).join("leaf");
    std::fs::create_dir(&nested).unwrap();
    jail.signal(libc::SIGKILL);
    jail.finish();
    let (code, text) = clean(&["--name", &name]);
    assert_eq!(code, Some(0));
    let line = format!("removed cgroup {}\n", nested.display());
    assert!(text.contains(&line), "{text}");
    assert_eq!(cgroups_of(&name), Vec::<PathBuf>::new());
}

#[test]
fn a_leftover_with_a_process_in_it_is_emptied() {
    let _alone = alone();
    let name = unique("occupied");
    let jail = Running::start(command(["--name", &name, "--", "sleep", "100"]));
    wait_until("the jail", || !cgroups_of(&name).is_empty());
    // It is in the cgroup but not in the namespace: the guard's end does not reach it.
    let mut outsider = Command::new("sleep").arg("100").spawn().unwrap();
    let dir = cgroups_of(&name).remove(0);
    std::fs::write(dir.join("cgroup.procs"), outsider.id().to_string()).unwrap();
    jail.signal(libc::SIGKILL);
    jail.finish();
    // The same name again: what is left of the dead one makes way.
    ok(["--name", &name, "--", "true"]);
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(outsider.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(cgroups_of(&name), Vec::<PathBuf>::new());
}

#[test]
fn a_v1_directory_alone_is_a_leftover_too() {
    let _alone = alone();
    if !v1_pids() {
        // A host without v1 hierarchies has no such leftovers.
        assert!(Path::new("/sys/fs/cgroup/cgroup.controllers").exists());
        return;
    }
    let name = unique("v1-alone");
    let dir = PathBuf::from("/sys/fs/cgroup/pids/procjail").join(&name);
    std::fs::create_dir_all(&dir).unwrap();
    let (code, text) = clean(&["--name", &name]);
    assert_eq!(
        (code, text),
        (Some(0), format!("removed cgroup {}\n", dir.display()))
    );
    assert!(!dir.exists());
}

/// `procjail clean ARGS` where `directory` is the one for temporary files.
fn clean_in(directory: &Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procjail"));
    command.arg("clean").args(args).env("TMPDIR", directory);
    let output = common::output(command);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one directory of a lab that is there.
fn lab_directory(place: &Path) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(place).unwrap().flatten();
    entries.next().map(|entry| entry.path())
}

#[test]
fn the_directory_of_a_killed_lab_is_removed() {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    // Mounts something on the host, and takes half a second.
    let mut lab = Command::new(env!("CARGO_BIN_EXE_procjail"))
        .args(["lab", "mount-propagated-to-host"])
        .env("TMPDIR", place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the lab's directory", || {
        lab_directory(place.path()).is_some_and(|path| path.join("shared/mnt").exists())
    });
    let directory = lab_directory(place.path()).unwrap();
    let text = clean_in(place.path(), &[]);
    let kept = format!(
        "kept directory {}: its lab is running\n",
        directory.display()
    );
    assert!(text.contains(&kept), "{text}");
    assert!(directory.exists());

    lab.kill().unwrap();
    lab.wait().unwrap();
    let header = directory.join("procjail-trace.jsonl");
    wait_until("the launcher's end", || {
        processes_with(&header.display().to_string()).is_empty()
    });
    let mounts = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.matches(directory.to_str().unwrap()).count()
    };
    assert!(mounts() > 0, "nobody is left to undo that");
    let text = clean_in(place.path(), &["--dry-run"]);
    let line = format!(" directory {}\n", directory.display());
    assert!(text.contains(&format!("would remove{line}")), "{text}");
    assert!(directory.exists() && mounts() > 0);
    // Who names a jail means that jail.
    let text = clean_in(place.path(), &["--name", &unique("none")]);
    assert!(!text.contains("directory"), "{text}");

    let text = clean_in(place.path(), &[]);
    assert!(text.contains(&format!("removed{line}")), "{text}");
    let unmounted = format!("unmounted {}/shared\n", directory.display());
    assert!(text.contains(&unmounted), "{text}");
    assert!(!directory.exists());
    assert_eq!(mounts(), 0);
    assert!(!clean_in(place.path(), &[]).contains("directory"));
}
