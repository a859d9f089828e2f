//! What differs between kernels: that procjail finds it, tells what is missing, and that it is as known.
//!
//! `cargo xtask test --vm` collects what these tests find into docs/kernels.md.

use std::collections::BTreeMap;
use std::io::Write;

use procjail_common::{MISSING, scope_flags};
use procjail_tests::kernel::{probes_are_preempted, release, version};
use procjail_tests::{Scene, Trace, cgroup_directories, misbehave, scene};

/// The kernels whose types are known; of another one these tests can say less, and say so.
const KNOWN: [(u32, u32); 5] = [(5, 10), (6, 1), (6, 12), (6, 18), (7, 2)];

/// The place of this kernel in the tables.
fn column() -> Option<usize> {
    let column = KNOWN.iter().position(|&known| known == version());
    if column.is_none() {
        println!("NOT CHECKED: nothing is known about Linux {:?}", version());
    }
    column
}

/// Hands a fact to whoever collects them.
fn fact(name: &str, value: &str) {
    println!("{name}: {value}");
    if let Some(path) = std::env::var_os("PROCJAIL_TEST_FACTS") {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path);
        writeln!(file.expect("the file of facts"), "{name}={value}").expect("a fact");
    }
}

fn yes(there: bool) -> &'static str {
    if there { "yes" } else { "-" }
}

/// The build ID of the kernel, in hexadecimal digits.
fn build_id() -> String {
    let notes = std::fs::read("/sys/kernel/notes").expect("ELF notes");
    // Length of the name, length of the ID, its type, its name: elf(5).
    let head = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let at = notes
        .windows(head.len())
        .position(|window| window == head)
        .expect("a build ID");
    let id = &notes[at + head.len()..][..20];
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the walker over the kernel's types found, as it is kept for the next start.
fn layout(scene: &Scene) -> BTreeMap<String, u32> {
    let path = format!("/var/cache/procjail/offsets-{}", build_id());
    // One from before would tell nothing about this program.
    let _ = std::fs::remove_file(&path);
    scene
        .trace(&[], &["/bin/true"])
        .finish()
        .expect_code(0)
        .trace();
    let text = std::fs::read_to_string(&path).expect("the offsets are kept");
    text.lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

/// Read from these kernels' types with another tool. `-` is a field that this kernel doesn't have.
const OFFSETS: &str = "
task_exit_code          2136 2312 2332 1164 2708
task_pid                2232 2416 2432 1264 2808
task_tgid               2236 2420 2436 1268 2812
task_real_parent        2248 2432 2448 1280 2824
task_group_leader       2296 2480 2496 1328 2872
task_comm               2736 2976 2976 1752 3344
task_signal             2832 3072 3072 1848 3448
task_sighand            2840 3080 3080 1856 3456
task_cgroups            3328 3600 3584 2376 4000
task_mm                 2056 2272 2304 1136 2680
task_thread_pid         2336 2520 2536 1368 2912
task_start_boottime     2544 2784 2784 1560 3160
task_flags              36 44 44 44 44
signal_oom_score_adj    1010 1026 1018 1058 1074
signal_maxrss           592 608 600 600 624
signal_group_exit_code  96 96 96 96 96
signal_flags            116 116 116 116 116
signal_live             4 4 4 4 4
signal_nr_threads       8 8 8 8 8
sighand_action          32 32 32 32 32
css_set_dfl_cgrp        120 128 128 112 128
cgroup_kn               248 248 256 256 296
cgroup_level            208 208 216 216 256
kernfs_node_id          104 104 96 96 96
pid_level               4 4 4 4 4
pid_numbers             96 96 112 144 128
pid_namespace_inum      - - - - -
upid_nr                 0 0 0 0 0
upid_ns                 8 8 8 8 8
mem_cgroup_memory       208 256 256 256 256
page_counter_usage      0 0 0 0 0
page_counter_max        32 152 224 160 160
";

#[test]
fn its_fields_lie_where_they_are_known_to() {
    scene(|scene| {
        let layout = layout(scene);
        let Some(column) = column() else {
            return;
        };
        let mut wrong = Vec::new();
        for line in OFFSETS.lines().filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            let name = words.next().expect("a name");
            let Some(expected) = words.nth(column).and_then(|word| word.parse().ok()) else {
                continue;
            };
            let found: Option<u32> = layout.get(name).copied();
            if found != Some(expected) {
                wrong.push(format!("{name}: found {found:?}, known {expected}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

#[test]
fn its_tracepoints_have_the_known_forms() {
    scene(|scene| {
        let layout = layout(scene);
        let has = |bit| layout["flags"] & bit != 0;
        let pid = has(scope_flags::MARK_VICTIM_PID);
        let group_dead = has(scope_flags::EXIT_GROUP_DEAD);
        let ids = layout["cgroup_ancestor_ids"] != MISSING;
        let ancestors = layout["cgroup_ancestors"] != MISSING;
        fact("mark_victim", if pid { "(pid)" } else { "(task, uid)" });
        fact(
            "sched_process_exit",
            if group_dead {
                "(task, group_dead)"
            } else {
                "(task)"
            },
        );
        fact(
            "field of a cgroup's ancestry",
            if ids { "ancestor_ids" } else { "ancestors" },
        );
        assert_ne!(ids, ancestors);
        // Where they can, each program switches preemption off; elsewhere the kernel has done so.
        let guarded = layout["bpf_preempt_disable"] != 0;
        fact("tracepoints can be preempted", yes(guarded));
        assert_eq!(guarded, probes_are_preempted());
        // Debian 11's kernel got the newer form in an update: its number does not tell.
        let release = release();
        if release.starts_with("5.10.0-32-") {
            assert!(pid, "the older form");
        } else if version() > (5, 10) {
            assert!(!pid, "the newer form");
        }
        if let Some(column) = column() {
            assert_eq!(group_dead, column >= 3, "sched_process_exit");
            assert_eq!(ids, column == 0, "ancestry");
        }
    });
}

/// What a jail does without on this kernel: name and first version.
fn lacking(trace: &Trace) -> Vec<&'static str> {
    let mut features = vec![("cgroup.kill", (5, 14)), ("mount_setattr", (5, 12))];
    if trace.header.host.cgroup_mode == "v2" {
        features.push(("memory.peak", (5, 19)));
    }
    features.retain(|&(_, since)| version() < since);
    features.into_iter().map(|(name, _)| name).collect()
}

/// A flag that came with 5.15, and to older kernels in updates: their number does not tell.
const MOUNT_GROUPS: &str = "MOVE_MOUNT_SET_GROUP";

/// A shared tmpfs of the test's own.
struct SharedMount(std::path::PathBuf);

impl SharedMount {
    fn new(scene: &Scene) -> SharedMount {
        let path = scene.path("shared");
        std::fs::create_dir_all(path.join("leak")).expect("directories");
        let target = std::ffi::CString::new(path.display().to_string()).expect("a path");
        for (source, flags) in [(c"tmpfs", 0), (c"", libc::MS_SHARED)] {
            // SAFETY: all strings are NUL-terminated and live across the call.
            let result = unsafe {
                libc::mount(
                    source.as_ptr(),
                    target.as_ptr(),
                    source.as_ptr(),
                    flags,
                    std::ptr::null(),
                )
            };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        }
        std::fs::create_dir(path.join("leak")).expect("a directory");
        SharedMount(path)
    }
}

impl Drop for SharedMount {
    fn drop(&mut self) {
        for path in [self.0.join("leak"), self.0.clone()] {
            let path = std::ffi::CString::new(path.display().to_string()).expect("a path");
            // SAFETY: the string is NUL-terminated and lives across the call.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

#[test]
fn shared_propagation_is_there_or_refused() {
    scene(|scene| {
        let trace = scene.trace(&[], &["/bin/true"]).finish().trace();
        let lacks = &trace.header.host.lacks;
        let there = !lacks.iter().any(|lack| lack.feature == MOUNT_GROUPS);
        let shared = SharedMount::new(scene);
        let leak = shared.0.join("leak").display().to_string();
        let finished = scene
            .run(
                &["--propagation", "shared"],
                &[&misbehave(), "mount-leak", &leak],
            )
            .finish();
        fact(MOUNT_GROUPS, yes(there));
        assert!(there || version() < (5, 15), "5.15 and newer have it");
        if !there {
            finished.expect_refusal(125, &["--propagation", "5.15"]);
            return;
        }
        finished.expect_code(0);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(mounts.contains(&leak), "the mount came out: {mounts}");
    });
}

#[test]
fn the_trace_tells_what_it_lacks() {
    scene(|scene| {
        let trace = scene
            .trace(&["--memory", "64M"], &["/bin/true"])
            .finish()
            .expect_code(0)
            .trace();
        let host = &trace.header.host;
        if let Ok(cgroups) = std::env::var("PROCJAIL_TEST_CGROUPS") {
            assert_eq!(host.cgroup_mode, cgroups, "the machine is as it should be");
        }
        let mut told: Vec<&str> = host
            .lacks
            .iter()
            .map(|lack| lack.feature.as_str())
            .collect();
        // Updates brought it to older kernels: see `shared_propagation_is_there_or_refused`.
        told.retain(|name| *name != MOUNT_GROUPS);
        assert_eq!(told, lacking(&trace));
        for lack in &host.lacks {
            assert!(!lack.since.is_empty() && !lack.lost.is_empty(), "{lack:?}");
        }
        // All probes exist on all these kernels; one that didn't would be told by name.
        trace.expect_complete();
        fact("probes attached", &trace.header.probes.len().to_string());
        // The peak is told wherever the kernel counts it, and only there.
        let told = trace.footer().peak_memory_bytes.is_some();
        assert_eq!(told, !lacking(&trace).contains(&"memory.peak"));
        fact("peak memory of a jail", yes(told));
    });
}

#[test]
fn check_tells_what_it_lacks() {
    scene(|scene| {
        let trace = scene.trace(&[], &["/bin/true"]).finish().trace();
        let finished = scene
            .procjail(&["check", "--format", "json"])
            .finish()
            .expect_code(0);
        let report: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
        assert_eq!(report["ok"], true);
        let checks = report["checks"].as_array().expect("checks");
        let check = |name: &str| {
            let found = checks.iter().find(|check| check["name"] == name);
            found.unwrap_or_else(|| panic!("no check {name}: {}", finished.stdout))
        };
        let lacking = lacking(&trace);
        for name in ["cgroup.kill", "mount_setattr"] {
            let lacks = lacking.contains(&name);
            let state = if lacks { "limited" } else { "ok" };
            assert_eq!(check(name)["state"], state, "{}", check(name));
            assert_eq!(check(name)["lost"].is_string(), lacks);
            assert_eq!(check(name)["remedy"].is_string(), lacks);
            fact(name, yes(!lacks));
        }
        let probes = checks
            .iter()
            .filter(|check| {
                check["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with("probe "))
            })
            .inspect(|check| assert_eq!(check["state"], "ok", "{check}"));
        assert_eq!(probes.count(), trace.header.probes.len());

        let undisturbed = check("probes undisturbed");
        let preempted = probes_are_preempted();
        let state = if preempted { "limited" } else { "ok" };
        assert_eq!(undisturbed["state"], state, "{undisturbed}");
        assert_eq!(undisturbed["lost"].is_string(), preempted);

        let memory = check("controller memory")["found"].as_str().expect("text");
        let place = memory.split(',').next().unwrap_or_default();
        fact("memory controller", place);
        let mode = trace.header.host.cgroup_mode.as_str();
        assert_eq!(place, if mode == "v2" { "v2" } else { "v1" }, "{memory}");

        let fentry = check("fentry")["found"].as_str().expect("text");
        let usable = fentry.starts_with("programs load");
        fact("fentry usable", yes(usable));
        if let Some(column) = column() {
            // The one in the table that is not Debian's refuses it.
            assert_eq!(usable, column != 3, "{fentry}");
        }
    });
}

#[test]
fn the_jails_cgroup_has_the_known_files() {
    scene(|scene| {
        let running = scene
            .trace(&["--name", "files"], &[&misbehave(), "handle-term", "0"])
            .spawn();
        running.wait_for_line("ready");
        // A host with v1 alone doesn't show it: the launcher has a mount of its own.
        let directory = cgroup_directories()
            .into_iter()
            .find(|path| path.ends_with("files") && path.join("cgroup.events").exists());
        let read = |file: &str| {
            let path = directory.as_ref()?.join(file);
            std::fs::read_to_string(path).ok()
        };
        let peak = read("memory.peak").is_some();
        let group_kill = read("memory.events").is_some_and(|text| text.contains("oom_group_kill"));
        let pressure = read("memory.pressure").is_some_and(|text| text.starts_with("some avg10="));
        let kill = directory
            .as_ref()
            .is_some_and(|path| path.join("cgroup.kill").exists());
        running.signal(libc::SIGTERM);
        let trace = running.finish().expect_code(0).trace();
        let mode = trace.header.host.cgroup_mode.as_str();
        assert_eq!(directory.is_some(), mode != "v1");
        if mode == "v2" {
            assert_eq!(peak, version() >= (5, 19), "memory.peak");
            assert_eq!(group_kill, version() >= (5, 17), "oom_group_kill");
            fact("memory.peak", yes(peak));
            fact("oom_group_kill in memory.events", yes(group_kill));
        } else {
            assert!(!peak && !group_kill, "the memory controller is on v1");
        }
        if mode != "v1" {
            assert_eq!(kill, version() >= (5, 14), "cgroup.kill");
        }
        // Nothing in procjail reads it, but who looks at a jail may want to.
        let whole = std::fs::read_to_string("/proc/pressure/memory").is_ok();
        fact(
            "PSI of the host, of a jail",
            &format!("{}, {}", yes(whole), yes(pressure)),
        );
        if column().is_some() {
            assert!(whole, "/proc/pressure/memory");
            assert_eq!(pressure, mode != "v1", "memory.pressure");
        }
    });
}

#[test]
fn a_jail_is_killed_as_well_as_it_can() {
    scene(|scene| {
        let running = scene
            .trace(
                &["--stop-timeout", "100ms"],
                &[
                    "/bin/sh",
                    "-c",
                    "trap '' TERM; sleep 1000 & sleep 1000 & echo ready; wait; wait",
                ],
            )
            .spawn();
        running.wait_for_line("ready");
        running.signal(libc::SIGTERM);
        let trace = running.finish().expect_code(128 + libc::SIGKILL).trace();
        trace.expect_complete();
        let kills = trace.kills();
        let method = &kills.first().expect("a kill").1.method;
        let expected = if version() >= (5, 14) {
            "cgroup.kill"
        } else {
            "freeze-kill-thaw"
        };
        assert_eq!(method, expected);
        fact("a jail is killed by", method);
        for pid in 1..=3 {
            let (_, exit) = trace.exit_of(pid);
            let signal = exit.status.signal.as_ref().expect("a signal");
            assert_eq!(signal.name, "SIGKILL");
        }
    });
}
