//! Limits that only a host with cgroup v2 alone has, and the kernel's verdicts on them.
//!
//! `cargo xtask test --vm` runs these in its machines with cgroup v2; elsewhere they are ignored, and
//! say so.

use std::path::{Path, PathBuf};
use std::process::Command;

use procjail_tests::{cgroup_directories, misbehave, scene};

const LIMIT_BYTES: u64 = 32 << 20;
const TOO_MUCH: &str = "100000000";

/// The directory of a running jail.
fn directory(name: &str) -> PathBuf {
    let mut found = cgroup_directories();
    found.retain(|path| path.ends_with(name));
    assert_eq!(found.len(), 1, "one directory of {name}: {found:?}");
    assert!(
        found[0].starts_with("/sys/fs/cgroup/procjail"),
        "the unified hierarchy alone: {found:?}"
    );
    found.remove(0)
}

/// A file of a cgroup.
fn read(directory: &Path, file: &str) -> String {
    let path = directory.join(file);
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim()
        .to_owned()
}

/// A line `key N` of a file of a cgroup.
fn count(directory: &Path, file: &str, key: &str) -> u64 {
    let text = read(directory, file);
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no {key} in {file}: {text}"));
    value.parse().expect("a number")
}

#[test]
#[ignore = "for hosts with cgroup v2 alone: cargo xtask test --vm"]
fn memory_max_names_the_jail_as_the_limit() {
    scene(|scene| {
        let trace = scene
            .trace(
                &["--memory", "32M", "--name", "limited"],
                &[&misbehave(), "alloc", TOO_MUCH],
            )
            .finish()
            .expect_code(128 + libc::SIGKILL)
            .trace();
        trace.expect_complete();
        assert_eq!(trace.header.host.cgroup_mode, "v2");
        let limits = &trace.header.jail.limits;
        assert_eq!(limits["memory.max"], LIMIT_BYTES.to_string());
        let kills = trace.oom_kills();
        assert_eq!(kills.len(), 1);
        let (_, kill) = kills[0];
        let chain: Vec<(&str, Option<u64>, bool)> = kill
            .chain
            .iter()
            .map(|level| (level.name.as_str(), level.limit_bytes, level.at_limit))
            .collect();
        assert_eq!(
            chain,
            [
                ("limited", Some(LIMIT_BYTES), true),
                ("procjail", None, false),
                ("/", None, false)
            ]
        );
    });
}

/// The limit that kills need not be the jail's own.
#[test]
#[ignore = "for hosts with cgroup v2 alone: cargo xtask test --vm"]
fn memory_max_of_a_parent_is_told_apart() {
    scene(|scene| {
        let other = tempfile::tempdir().expect("a directory");
        let holder = procjail_tests::Invocation::new(procjail_tests::procjail(), other.path())
            .args(&["run", "--name", "holder", "--"])
            .args(&[&misbehave(), "handle-term", "0"])
            .spawn();
        holder.wait_for_line("ready");
        // While a jail runs its parent stays.
        std::fs::write(
            "/sys/fs/cgroup/procjail/memory.max",
            LIMIT_BYTES.to_string(),
        )
        .expect("a limit for all jails");
        let trace = scene
            .trace(
                &["--memory", "64M", "--name", "innocent"],
                &[&misbehave(), "alloc", TOO_MUCH],
            )
            .finish()
            .expect_code(128 + libc::SIGKILL)
            .trace();
        holder.signal(libc::SIGTERM);
        holder.finish().expect_code(0);
        let kills = trace.oom_kills();
        let (_, kill) = kills.first().expect("the kill");
        let chain: Vec<(&str, Option<u64>, bool)> = kill
            .chain
            .iter()
            .map(|level| (level.name.as_str(), level.limit_bytes, level.at_limit))
            .collect();
        assert_eq!(
            chain,
            [
                ("innocent", Some(64 << 20), false),
                ("procjail", Some(LIMIT_BYTES), true),
                ("/", None, false)
            ]
        );
    });
}

#[test]
#[ignore = "for hosts with cgroup v2 alone: cargo xtask test --vm"]
fn memory_high_slows_down_and_kills_nobody() {
    scene(|scene| {
        let running = scene
            .trace(
                &["--memory-high", "16M", "--name", "slowed"],
                &[&misbehave(), "alloc", "17000000", "--hold"],
            )
            .spawn();
        running.wait_for_line("allocated");
        let directory = directory("slowed");
        assert_eq!(read(&directory, "memory.high"), (16 << 20).to_string());
        assert!(count(&directory, "memory.events", "high") > 0);
        assert_eq!(count(&directory, "memory.events", "oom_kill"), 0);
        running.signal(libc::SIGTERM);
        running.signal(libc::SIGINT);
        let trace = running.finish().expect_code(128 + libc::SIGKILL).trace();
        assert!(trace.oom_kills().is_empty());
        assert_eq!(
            trace.header.jail.limits["memory.high"],
            (16 << 20).to_string()
        );
    });
}

#[test]
#[ignore = "for hosts with cgroup v2 alone: cargo xtask test --vm"]
fn memory_oom_group_takes_the_whole_jail() {
    scene(|scene| {
        let trace = scene
            .trace(
                &["--memory", "32M", "--oom-group"],
                &[&misbehave(), "oom-child", TOO_MUCH],
            )
            .finish()
            .expect_code(128 + libc::SIGKILL)
            .trace();
        assert_eq!(trace.header.jail.limits["memory.oom.group"], "1");
        let mut victims: Vec<_> = trace
            .oom_kills()
            .iter()
            .map(|(_, kill)| kill.victim.jail_pid)
            .collect();
        victims.sort();
        assert_eq!(victims, [Some(1), Some(2)], "{}", trace.summary());
        for pid in [1, 2] {
            let (_, exit) = trace.exit_of(pid);
            let signal = exit.status.signal.as_ref().expect("a signal");
            assert_eq!(signal.name, "SIGKILL");
        }
    });
}

#[test]
#[ignore = "for hosts with cgroup v2 alone: cargo xtask test --vm"]
fn memory_swap_max_is_apart_from_memory() {
    scene(|scene| {
        let running = scene
            .trace(
                &["--memory", "64M", "--swap", "8M", "--name", "swap"],
                &[&misbehave(), "default-term"],
            )
            .spawn();
        running.wait_for_line("ready");
        let directory = directory("swap");
        assert_eq!(read(&directory, "memory.max"), (64 << 20).to_string());
        assert_eq!(read(&directory, "memory.swap.max"), (8 << 20).to_string());
        running.signal(libc::SIGTERM);
        running.signal(libc::SIGINT);
        let trace = running.finish().expect_code(128 + libc::SIGKILL).trace();
        let limits = &trace.header.jail.limits;
        assert_eq!(limits["memory.swap.max"], (8 << 20).to_string());
        // The chain of a kill tells it too.
        let trace = scene
            .trace(
                &["--memory", "32M", "--swap", "8M"],
                &[&misbehave(), "alloc", TOO_MUCH],
            )
            .finish()
            .expect_code(128 + libc::SIGKILL)
            .trace();
        let kills = trace.oom_kills();
        let (_, kill) = kills.first().expect("the kill");
        assert_eq!(kill.chain[0].swap_limit_bytes, Some(8 << 20));
        assert_eq!(kill.chain[0].swap_usage_bytes, 0, "the machine has no swap");
    });
}

#[test]
#[ignore = "for hosts with cgroup v2 alone: cargo xtask test --vm"]
fn pids_max_counts_the_refused_forks() {
    scene(|scene| {
        let app = misbehave();
        let script = format!("{app} fork-fail; exec {app} default-term");
        let running = scene
            .trace(
                &["--pids", "10", "--name", "full"],
                &["/bin/sh", "-c", &script],
            )
            .spawn();
        running.wait_for_line("ready");
        let directory = directory("full");
        assert_eq!(read(&directory, "pids.max"), "10");
        assert_eq!(count(&directory, "pids.events", "max"), 1);
        running.signal(libc::SIGTERM);
        running.signal(libc::SIGINT);
        let finished = running.finish().expect_code(128 + libc::SIGKILL);
        assert!(
            finished.stdout.contains("made 8, then errno 11"),
            "{}",
            finished.stdout
        );
        let trace = finished.trace();
        assert_eq!(trace.header.jail.limits["pids.max"], "10");
        assert_eq!(trace.forks().len(), 9);
    });
}

/// cgroup-v2.rst, "No Internal Process Constraint".
#[test]
#[ignore = "for hosts with cgroup v2 alone: cargo xtask test --vm"]
fn a_parent_with_processes_is_refused_in_words() {
    scene(|scene| {
        let parent = Path::new("/sys/fs/cgroup").join(format!("occupied-{}", std::process::id()));
        std::fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").expect("the controller");
        std::fs::create_dir(&parent).expect("a cgroup");
        let mut member = Command::new("sleep").arg("60").spawn().expect("sleep");
        std::fs::write(parent.join("cgroup.procs"), member.id().to_string()).expect("joined");
        let name = format!("/{}", parent.file_name().expect("a name").display());
        let arguments = ["run", "--cgroup-parent", &name, "--", "true"];
        // Without a limit there is no controller to be passed on.
        scene.procjail(&arguments).finish().expect_code(0);
        let limited = [&["run", "--memory", "64M"], &arguments[1..]].concat();
        let refused = scene.procjail(&limited).finish();
        member.kill().expect("it runs");
        member.wait().expect("it ends");
        std::fs::remove_dir(&parent).expect("it is empty");
        let says = format!("and it has some (sleep {})", member.id());
        assert!(refused.stderr.contains(&says), "{}", refused.stderr);
        refused.expect_code(125);
    });
}
