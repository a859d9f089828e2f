//! Reports as kernels from 5.10 to 7.2 wrote them.

use proptest::prelude::*;

use super::*;

const PAGE: u64 = 4096;

/// A kernel's report, which it logged line by line unless `joined`.
struct Sample {
    text: &'static str,
    cgroup: &'static str,
    limit: &'static str,
    victim: u32,
    /// anon, kernel.
    kinds: (u64, u64),
    /// Of the largest task: anon, file, shmem.
    pages: (u64, u64, u64),
    tasks: usize,
}

const SAMPLES: [Sample; 6] = [
    Sample {
        text: include_str!("fixtures/oom-5.10-v1.txt"),
        cgroup: "/procjail/misbehave-822",
        limit: "/procjail/misbehave-822",
        victim: 830,
        kinds: (33_251_328, 196 << 10),
        pages: (8175, 0, 0),
        tasks: 2,
    },
    Sample {
        text: include_str!("fixtures/oom-5.10-v2.txt"),
        cgroup: "/procjail/innocent",
        limit: "/procjail",
        victim: 550,
        kinds: (33_251_328, 0),
        pages: (8343, 0, 0),
        tasks: 2,
    },
    Sample {
        text: include_str!("fixtures/oom-6.1-v2.txt"),
        cgroup: "/procjail/innocent",
        limit: "/procjail",
        victim: 558,
        kinds: (33_341_440, 208_896),
        pages: (8357, 0, 0),
        tasks: 2,
    },
    Sample {
        text: include_str!("fixtures/oom-6.12-v2.txt"),
        cgroup: "/procjail/misbehave-613",
        limit: "/procjail/misbehave-613",
        victim: 620,
        kinds: (33_345_536, 208_896),
        pages: (8128, 0, 64),
        tasks: 2,
    },
    Sample {
        text: include_str!("fixtures/oom-6.18-v1.txt"),
        cgroup: "/procjail/misbehave-2491",
        limit: "/procjail/misbehave-2491",
        victim: 2499,
        kinds: (33_353_728, 196 << 10),
        pages: (8096, 77, 0),
        tasks: 2,
    },
    Sample {
        text: include_str!("fixtures/oom-7-v2.txt"),
        cgroup: "/procjail/innocent",
        limit: "/procjail",
        victim: 583,
        kinds: (33_329_152, 221_184),
        pages: (8117, 1, 242),
        tasks: 2,
    },
];

/// What is found in a text, line by line.
fn read(log: &mut KernelLog, text: &str) -> Vec<Finding> {
    let records = text.lines().map(|line| format!("6,1,2,-;{line}\n"));
    records
        .flat_map(|record| log.take(record.as_bytes()))
        .collect()
}

fn oom(finding: &Finding) -> &KernelOom {
    match &finding.what {
        What::KernelOom(oom) => oom,
        other => panic!("{other:?}"),
    }
}

fn message(finding: &Finding) -> &str {
    match &finding.what {
        What::KernelMessage(message) => &message.text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kernels_report_is_understood() {
    for sample in SAMPLES {
        let found = read(&mut KernelLog::new(sample.cgroup, PAGE), sample.text);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].certain);
        assert_eq!(found[0].pids, [sample.victim]);
        let oom = oom(&found[0]);
        assert_eq!(oom.constraint, "memcg");
        assert_eq!(oom.limit_cgroup.as_deref(), Some(sample.limit));
        assert_eq!(oom.victim_cgroup, sample.cgroup);
        assert_eq!(oom.victim_pid, sample.victim);
        assert_eq!(oom.mems_allowed, "0");
        let kinds = oom.kinds.as_ref().expect("memory by kind");
        assert_eq!((kinds.anon, kinds.kernel), sample.kinds, "{}", sample.text);
        assert_eq!(oom.processes.len(), sample.tasks);
        let largest = &oom.processes[0];
        assert_eq!(largest.process.pid, sample.victim);
        assert_eq!(largest.process.comm, "misbehave");
        let (anon, file, shmem) = sample.pages;
        assert_eq!(largest.memory.anon_bytes, anon * PAGE);
        assert_eq!(largest.memory.file_bytes, file * PAGE);
        assert_eq!(largest.memory.shmem_bytes, shmem * PAGE);
        assert!(largest.memory.page_table_bytes > 0);
    }
}

#[test]
fn statistics_in_one_record_are_the_same() {
    let text = SAMPLES[1].text;
    let mut log = KernelLog::new(SAMPLES[1].cgroup, PAGE);
    let (mut before, mut joined, mut after) = (String::new(), Vec::new(), String::new());
    for line in text.lines() {
        let is_stat = counters::lines(line).next().is_some() && !line.starts_with(['[', ' ']);
        if is_stat {
            joined.push(line);
        } else if joined.is_empty() {
            before.push_str(line);
            before.push('\n');
        } else {
            after.push_str(line);
            after.push('\n');
        }
    }
    assert!(read(&mut log, &before).is_empty());
    let record = format!("6,1,2,-;{}\n SUBSYSTEM=x\n", joined.join("\\x0a"));
    assert!(log.take(record.as_bytes()).is_empty());
    let found = read(&mut log, &after);
    let kinds = oom(&found[0]).kinds.as_ref().expect("memory by kind");
    assert_eq!(kinds.anon, SAMPLES[1].kinds.0);
}

#[test]
fn other_jails_reports_are_for_their_victims_only() {
    for cgroup in ["/procjail/inno", "/procjail/innocent-2"] {
        let found = read(&mut KernelLog::new(cgroup, PAGE), SAMPLES[2].text);
        assert_eq!(found.len(), 1);
        assert!(!found[0].certain, "{cgroup}");
    }
}

#[test]
fn a_report_without_a_cgroup_is_the_machines() {
    let text = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0-1,global_oom,task_memcg=/procjail/a,b,task=x,pid=1,y,pid=77,uid=0";
    let found = read(&mut KernelLog::new("/procjail/a,b", PAGE), text);
    let oom = oom(&found[0]);
    assert_eq!(
        (oom.constraint.as_str(), oom.limit_cgroup.as_ref()),
        ("none", None)
    );
    assert_eq!(oom.victim_cgroup, "/procjail/a,b");
    assert_eq!((oom.victim_pid, oom.mems_allowed.as_str()), (77, "0-1"));
    assert_eq!((oom.kinds.as_ref(), oom.processes.len()), (None, 0));
    assert!(found[0].certain);
}

#[test]
fn statistics_of_the_oldest_form_are_read() {
    let text = "x invoked oom-killer: y\nMemory cgroup stats for /procjail/a: cache:4KB rss:32640KB shmem:0KB dirty:8KB\noom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/procjail/a,task_memcg=/procjail/a,task=x,pid=7,uid=0";
    let found = read(&mut KernelLog::new("/procjail/a", PAGE), text);
    let kinds = oom(&found[0]).kinds.clone().expect("memory by kind");
    assert_eq!(
        (kinds.anon, kinds.file, kinds.file_dirty),
        (32640 << 10, 4096, 8192)
    );
}

#[test]
fn a_kill_is_told_when_its_report_was_left_out() {
    let line =
        "Memory cgroup out of memory: Killed process 7 (x) total-vm:34480kB, anon-rss:32512kB";
    let found = read(&mut KernelLog::new("/procjail/a", PAGE), line);
    assert_eq!(message(&found[0]), line);
    assert_eq!(
        (found[0].certain, found[0].pids.as_slice()),
        (false, [7].as_slice())
    );
}

#[test]
fn lines_are_known_by_the_cgroup_or_the_process_they_name() {
    let mut log = KernelLog::new("/procjail/a", PAGE);
    for (line, certain, pids) in [
        (
            "cgroup: fork rejected by pids controller in /procjail/a",
            true,
            vec![],
        ),
        (
            "Tasks in /procjail/a are going to be killed due to memory.oom.group set",
            true,
            vec![],
        ),
        (
            "traps: misbehave[2696] trap divide error ip:7ff7c45a784a sp:7fffb2a177b0 error:0 in misbehave[5f84a,7ff7c45a0000+10d000]",
            false,
            vec![2696],
        ),
        (
            "misbehave[2714]: segfault at 8 ip 00007f023f886f77 sp 00007ffec70861b0 error 6 in misbehave[7fb89b25e000+100000] likely on CPU 0",
            false,
            vec![2714],
        ),
        (
            "oom_reaper: reaped process 37 (x), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
            false,
            vec![37],
        ),
        (
            "INFO: task fuse:1234 blocked for more than 120 seconds.",
            false,
            vec![1234],
        ),
        (
            "audit: type=1326 audit(1.2:3): auid=0 uid=0 gid=0 ses=1 pid=99 comm=\"x\" sig=31",
            false,
            vec![99],
        ),
    ] {
        let found = read(&mut log, line);
        assert_eq!(found.len(), 1, "{line}");
        assert_eq!(message(&found[0]), line);
        assert_eq!(
            (found[0].certain, &found[0].pids),
            (certain, &pids),
            "{line}"
        );
    }
    for line in [
        "cgroup: fork rejected by pids controller in /procjail/ab",
        "eth0: link up",
        "",
        "[12] is not a number of ours]",
    ] {
        let found = read(&mut log, line);
        assert!(found.iter().all(|finding| !finding.certain), "{line}");
    }
}

#[test]
fn a_lines_severity_is_without_its_facility() {
    let mut log = KernelLog::new("/procjail/a", PAGE);
    let found = log.take(b"11,5,6,-;about /procjail/a\n");
    let What::KernelMessage(message) = &found[0].what else {
        panic!("{found:?}");
    };
    assert_eq!(message.level, 3);
}

proptest! {
    #[test]
    fn no_record_is_too_odd(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let mut log = KernelLog::new("/procjail/a", PAGE);
        for record in records {
            log.take(&record);
        }
    }

    #[test]
    fn no_damage_to_a_report_is_too_odd(
        sample in 0..SAMPLES.len(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        dropped in any::<prop::sample::Index>(),
    ) {
        let mut bytes = SAMPLES[sample].text.as_bytes().to_vec();
        for (at, byte) in cuts {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let dropped = dropped.index(text.lines().count().max(1));
        let mut log = KernelLog::new(SAMPLES[sample].cgroup, PAGE);
        for (index, line) in text.lines().enumerate() {
            if index != dropped {
                log.take(format!("4,1,2,-;{line}").as_bytes());
            }
        }
    }
}
