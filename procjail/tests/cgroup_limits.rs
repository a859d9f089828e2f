//! Limits are in force, refused where the host has none, and gone with the jail. The tests make the
//! same demands on hosts of every cgroup mode.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::app::{Running, cgroups_of, unique, wait_until};
use common::{command, ok, refused, run};

/// The memory controller of this host is on v1.
fn v1_memory() -> bool {
    Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
}

#[test]
fn memory_is_limited() {
    let app = "b = bytearray(100 << 20); print('not limited')";
    let (code, stdout, _) = run(["--memory", "32M", "--swap", "0", "--", "python3", "-c", app]);
    assert_eq!((code, stdout.as_str()), (137, ""));
    let roomy = "b = bytearray(8 << 20); print('fits')";
    assert_eq!(
        ok(["--memory", "64M", "--", "python3", "-c", roomy]),
        "fits\n"
    );
}

#[test]
fn a_child_of_the_first_process_is_killed_and_app_goes_on() {
    let app = "python3 -c 'b = bytearray(100 << 20)'; echo child $?; exit 4";
    let (code, stdout, _) = run(["--memory", "32M", "--swap", "0", "--", "sh", "-c", app]);
    assert_eq!(code, 4);
    assert!(stdout.contains("child 137"), "{stdout}");
}

#[test]
fn processes_are_limited() {
    let app = "import os\n\
               n = 0\n\
               try:\n\
               \x20   while n < 50:\n\
               \x20       if os.fork() == 0:\n\
               \x20           import time; time.sleep(5); os._exit(0)\n\
               \x20       n += 1\n\
               except BlockingIOError:\n\
               \x20   print(n, flush=True)\n\
               os._exit(0)";
    assert_eq!(ok(["--pids", "6", "--", "python3", "-c", app]), "5\n");
}

#[test]
fn processors_are_limited() {
    let app = "import time\n\
               end = time.monotonic() + 1\n\
               while time.monotonic() < end: pass\n\
               print(round(time.process_time() * 1000))";
    let millis: u64 = ok(["--cpus", "0.2", "--", "python3", "-c", app])
        .trim()
        .parse()
        .unwrap();
    assert!(
        (50..400).contains(&millis),
        "{millis} ms of 1 s with 0.2 processors"
    );
}

#[test]
fn what_the_mode_lacks_is_refused_before_anything_is_made() {
    let name = unique("limit-refused");
    for (option, file) in [
        (&["--memory-high", "64M"][..], "memory.high"),
        (&["--oom-group"][..], "memory.oom.group"),
    ] {
        let args = ["--name", &name].into_iter().chain(option.iter().copied());
        let args = args.chain(["--", "true"]);
        if v1_memory() {
            refused(
                args,
                125,
                &["is not possible on this host", "cgroup v1", file],
            );
        } else {
            ok(args);
        }
        assert_eq!(cgroups_of(&name), Vec::<PathBuf>::new());
    }
    if v1_memory() {
        refused(
            ["--swap", "1M", "--", "true"],
            125,
            &["--swap", "give --memory as well"],
        );
    }
}

#[test]
fn a_memory_limit_that_holds_no_program_is_refused() {
    for size in ["1", "4K", "511K"] {
        refused(
            ["--memory", size, "--", "true"],
            125,
            &["--memory", "at least 512K"],
        );
    }
    ok(["--memory", "512K", "--", "true"]);
}

#[test]
fn app_is_in_its_cgroups_before_its_first_instruction() {
    let name = unique("limit-first");
    let args = [
        "--name", &name, "--memory", "64M", "--pids", "10", "--", "sleep", "100",
    ];
    let jail = Running::start(command(args));
    wait_until("the jail's cgroups", || !cgroups_of(&name).is_empty());
    wait_until("APP runs", || {
        cgroups_of(&name).iter().all(|dir| {
            let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            let comm = procs
                .lines()
                .next()
                .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")));
            comm.is_some_and(|comm| comm.is_ok_and(|comm| comm == "sleep\n"))
        })
    });
    assert_eq!(cgroups_of(&name).len(), if v1_memory() { 3 } else { 1 });
    jail.signal(libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(100));
    jail.signal(libc::SIGTERM);
    assert_eq!(jail.code(), 137);
    assert_eq!(cgroups_of(&name), Vec::<PathBuf>::new());
}

#[test]
fn two_jails_can_not_have_one_name() {
    let name = unique("limit-twice");
    let first = Running::start(command([
        "--name",
        &name,
        "--",
        "sh",
        "-c",
        "echo ready; read x; exit 3",
    ]));
    // Without input `read` ends at once: the jail may be gone, so one that stays is needed.
    drop(first);
    let first = Running::start(command(["--name", &name, "--", "sleep", "100"]));
    wait_until("the first jail", || !cgroups_of(&name).is_empty());
    let launcher = first.pid().to_string();
    refused(
        ["--name", &name, "--", "true"],
        125,
        &[&name, "is running", &launcher],
    );
    first.signal(libc::SIGINT);
    std::thread::sleep(Duration::from_millis(100));
    first.signal(libc::SIGINT);
    assert_eq!(first.code(), 137);
    // And the name is free again.
    ok(["--name", &name, "--", "true"]);
}

#[test]
fn many_jails_start_and_end_at_once() {
    let start = Instant::now();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..25 {
                    ok(["--pids", "20", "--", "true"]);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn cgroups_that_app_makes_go_with_it() {
    let name = unique("limit-nested");
    let app = "mount -t cgroup2 none /tmp && mkdir -p /tmp/a/b /tmp/c && \
               sh -c 'echo 0 > /tmp/a/b/cgroup.procs; exec sleep 100' & sleep 0.3; \
               [ -d /proc/$! ] && echo made; exit 0";
    assert_eq!(ok(["--name", &name, "--", "sh", "-c", app]), "made\n");
    assert_eq!(cgroups_of(&name), Vec::<PathBuf>::new());
}

#[test]
fn who_joins_from_outside_ends_with_the_jail() {
    let name = unique("limit-joined");
    let args = [
        "--name",
        &name,
        "--pids",
        "20",
        "--",
        "sh",
        "-c",
        "echo ready; sleep 0.5; exit 2",
    ];
    let jail = Running::start(command(args));
    jail.expect("ready");
    let mut outsiders = Vec::new();
    for dir in cgroups_of(&name) {
        let outsider = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        std::fs::write(dir.join("cgroup.procs"), outsider.id().to_string()).unwrap();
        outsiders.push(outsider);
    }
    let (status, took, _) = jail.finish();
    assert_eq!(status.code(), Some(2));
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(cgroups_of(&name), Vec::<PathBuf>::new());
    for mut outsider in outsiders {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(outsider.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}

/// A cgroup in every hierarchy that jails use, removed when dropped.
struct Parent(Vec<PathBuf>);

impl Parent {
    fn make(name: &str) -> Parent {
        let roots = match v1_memory() {
            true => vec!["/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory"],
            false => vec!["/sys/fs/cgroup"],
        };
        let dirs: Vec<_> = roots
            .iter()
            .map(|root| Path::new(root).join(name))
            .collect();
        for dir in &dirs {
            std::fs::create_dir(dir).unwrap();
        }
        Parent(dirs)
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for dir in &self.0 {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

#[test]
fn a_jail_below_a_cgroup_has_its_limits_and_leaves_it_alone() {
    let name = unique("limit-below");
    let option = format!("/{name}");
    refused(
        ["--cgroup-parent", &option, "--", "true"],
        125,
        &["--cgroup-parent", &name, "make it first"],
    );
    let parent = Parent::make(&name);
    let (limit, member) = match v1_memory() {
        true => ("memory.limit_in_bytes", "memory"),
        false => ("memory.max", ""),
    };
    let limited = parent.0.last().unwrap();
    if !v1_memory() {
        std::fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").unwrap();
    }
    std::fs::write(limited.join(limit), (32u64 << 20).to_string()).unwrap();
    let app = format!(
        "grep ':{member}:' /proc/self/cgroup; python3 -c 'b = bytearray(100 << 20)'; echo child $?"
    );
    let (code, stdout, _) = run([
        "--cgroup-parent",
        &option,
        "--name",
        "below",
        "--",
        "sh",
        "-c",
        &app,
    ]);
    assert_eq!(code, 0);
    assert!(stdout.contains("child 137"), "{stdout}");
    for dir in &parent.0 {
        assert!(dir.is_dir(), "{} was removed", dir.display());
        assert!(
            !dir.join("procjail").exists(),
            "something is left in {}",
            dir.display()
        );
    }
}

#[test]
fn a_pure_v1_host_gets_a_private_hierarchy_for_membership() {
    if !v1_memory() {
        // A host whose controllers are on v2 can't be made to look like one without.
        assert!(Path::new("/sys/fs/cgroup/cgroup.controllers").exists());
        return;
    }
    let name = unique("limit-v1");
    let exe = env!("CARGO_BIN_EXE_procjail");
    // A mount namespace in which nothing of cgroup2 is mounted.
    let script = format!(
        "mount --make-rprivate / && umount $(awk '$0 ~ / - cgroup2 / {{print $5}}' /proc/self/mountinfo) && \
         {exe} run --name {name} --memory 64M --pids 9 -- sh -c 'cat /sys/fs/cgroup/pids/procjail/{name}/pids.max; \
         cut -d: -f3 /proc/self/cgroup | sort -u | grep -c procjail; sleep 100 & exit 6'; echo $?; \
         {exe} run --stop-timeout 200ms -- sh -c 'kill -9 -1; exec sleep 100' & sleep 0.3; kill -TERM $!; wait $!; echo $?; \
         {exe} clean --dry-run --name {name}"
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]);
    let output = common::output(command);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(
        (lines.first(), lines.last()),
        (
            Some(&"9"),
            Some(&format!("nothing to remove: no jail named {name}").as_str())
        ),
        "{output:?}"
    );
    assert!(lines.contains(&"6") && lines.contains(&"137"), "{output:?}");
    assert_eq!(cgroups_of(&name), Vec::<PathBuf>::new());
}
