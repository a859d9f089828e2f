//! What is left behind, and mounts that don't go away.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::cgroup::HostCgroups;
use crate::lab::{Failure, Need, Scenario, Stage};
use crate::procfs::mountinfo;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "mount-propagated-to-host",
        about: "a tmpfs mounted in the jail below a shared mount stays on the host",
        takes_ms: 600,
        // MOVE_MOUNT_SET_GROUP.
        needs: &[Need::Linux(5, 15)],
        options: &["--propagation", "shared"],
        app: &["mount-leave", "{dir}/shared/mnt"],
        outside: shared,
        never: &["mount-held-by-other-ns", "ns-pinned"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "mount-held-by-other-ns",
        about: "a process outside copied the jail's mount namespace and keeps a mount of it",
        takes_ms: 1_300,
        app: &["mount-until", "{dir}/mnt", "{dir}/go"],
        outside: copied,
        never: &["mount-propagated-to-host", "ns-pinned", "umount-busy"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "mount-held-by-own-helper",
        about: "a helper unmounts, again and again, the file system that it is in itself",
        takes_ms: 700,
        app: &["umount-own", "{dir}/mnt"],
        outside: directory,
        never: &["umount-busy", "umount-locked", "mount-held-by-other-ns"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "mount-fuse-daemon-dead",
        about: "a FUSE daemon is killed, and its mount is used after that",
        takes_ms: 300,
        needs: &[Need::Fuse],
        app: &["fuse-daemon-dies", "{dir}/mnt"],
        outside: directory,
        never: &["umount-busy", "hang-d-state-fuse", "exit-own-code"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "umount-busy",
        about: "an unmount fails because a child's working directory is on the mount",
        takes_ms: 600,
        app: &["umount-busy", "{dir}/mnt"],
        outside: directory,
        never: &[
            "mount-held-by-own-helper",
            "mount-lazy-alive",
            "umount-locked",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "mount-lazy-alive",
        about: "a lazy unmount leaves a file system that a child still uses",
        takes_ms: 600,
        app: &["umount-lazy", "{dir}/mnt"],
        outside: directory,
        never: &[
            "umount-busy",
            "mount-held-by-own-helper",
            "mount-held-by-other-ns",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "umount-locked",
        about: "a new user namespace can't unmount what it inherited",
        takes_ms: 600,
        app: &["umount-locked", "{dir}/mnt"],
        outside: directory,
        never: &[
            "umount-busy",
            "mount-lazy-alive",
            "mount-held-by-own-helper",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "ns-pinned",
        about: "a bind mount on the host keeps the jail's network namespace",
        takes_ms: 600,
        options: &["--net", "none"],
        app: &["mount-until", "{dir}/mnt", "{dir}/go"],
        outside: pinned,
        never: &["mount-held-by-other-ns", "mount-propagated-to-host"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "cgroup-dying-pinned",
        about: "a file left in a tmpfs of the host keeps the jail's memory cgroup in the kernel",
        takes_ms: 600,
        needs: &[Need::Memory],
        options: &["--memory", "64M"],
        app: &["write-bytes", "{dir}/tmpfs/file", "8388608"],
        outside: charged,
        never: &[
            "mount-held-by-other-ns",
            "mount-propagated-to-host",
            "ns-pinned",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "cgroup-join-ebusy",
        about: "the program's helper joins the cgroup whose controllers the program passed on to others",
        needs: &[Need::MemoryV2],
        options: &["--memory", "64M"],
        app: &["join-inner-cgroup", "{dir}/cgroup"],
        outside: own_cgroup,
        also: &[],
        never: &[
            "exit-own-code",
            "cgroup-rmdir-ebusy",
            "hang-cgroup-straggler",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "leftover-from-previous-run",
        about: "the launcher was killed, and a process that had joined its jail is still there at the next start",
        takes_ms: 600,
        app: &["exit", "0"],
        outside: started_twice,
        never: &[
            "hang-cgroup-straggler",
            "cgroup-rmdir-ebusy",
            "orphan-exec-session",
        ],
        ..Scenario::PLAIN
    },
];

/// Makes a directory in the stage's own.
fn make(stage: &Stage, name: &str) -> Result<PathBuf, Failure> {
    let path = stage.directory().join(name);
    fs::create_dir_all(&path).map_err(Failure::of(format!("create {}", path.display())))?;
    Ok(path)
}

/// Makes a file in the stage's own directory.
fn touch(stage: &Stage, name: &str) -> Result<PathBuf, Failure> {
    let path = stage.directory().join(name);
    File::create(&path).map_err(Failure::of(format!("create {}", path.display())))?;
    Ok(path)
}

/// Mounts on the host, and undoes it with all that came up below.
fn mount_here(
    stage: &mut Stage,
    source: &Path,
    target: &Path,
    fs_type: Option<&str>,
    flags: MsFlags,
) -> Result<(), Failure> {
    let undo = target.to_owned();
    stage.undo(move || {
        // The innermost first; as often as something is mounted there.
        for path in mountinfo::mounts_below(&undo) {
            let _ = umount2(&path, MntFlags::MNT_DETACH);
        }
    });
    let none: Option<&str> = None;
    mount(Some(source), target, fs_type, flags, none)
        .map_err(|errno| Failure::of(format!("mount {}", target.display()))(errno.into()))
}

/// The program's directory is there before the jail.
fn directory(stage: &mut Stage) -> Result<(), Failure> {
    make(stage, "mnt")?;
    stage.start()?;
    stage.wait().map(drop)
}

/// A shared mount of the host around the program's directory.
fn shared(stage: &mut Stage) -> Result<(), Failure> {
    let path = make(stage, "shared")?;
    mount_here(stage, &path, &path, None, MsFlags::MS_BIND)?;
    // A peer group of its own, whatever the one above is in.
    for flags in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        let none: Option<&str> = None;
        mount(none, &path, none, flags, none)
            .map_err(|errno| Failure::of(format!("share {}", path.display()))(errno.into()))?;
    }
    make(stage, "shared/mnt")?;
    stage.start()?;
    stage.wait().map(drop)
}

/// Another process has a copy of the jail's mount namespace.
fn copied(stage: &mut Stage) -> Result<(), Failure> {
    make(stage, "mnt")?;
    stage.start()?;
    stage.wait_for_line("ready")?;
    let mut holder = Command::new(stage.program()?)
        .args(["misbehave", "mount-copy", &stage.pid1()?.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Failure::of("start the holder"))?;
    let stdout = holder.stdout.take();
    stage.undo(move || {
        let _ = holder.kill();
        let _ = holder.wait();
    });
    let mut line = String::new();
    if let Some(stdout) = stdout {
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(Failure::of("hear from the holder"))?;
    }
    if line != "ready\n" {
        return Err(Failure::Launcher(
            "the holder could not copy the jail's namespace".to_owned(),
        ));
    }
    // Kernels without IDs of mounts: only a copy that was seen beside the jail is claimed, and a look takes its time.
    stage.sleep_ms(700);
    touch(stage, "go")?;
    stage.wait().map(drop)
}

/// The network namespace is bound to a file.
fn pinned(stage: &mut Stage) -> Result<(), Failure> {
    make(stage, "mnt")?;
    stage.start()?;
    stage.wait_for_line("ready")?;
    let target = touch(stage, "net")?;
    let source = PathBuf::from(format!("/proc/{}/ns/net", stage.pid1()?));
    mount_here(stage, &source, &target, None, MsFlags::MS_BIND)?;
    touch(stage, "go")?;
    stage.wait().map(drop)
}

/// A jail of the same name whose launcher is killed while a process from outside is in its cgroup. Both are below a
/// cgroup of their own, as any other jail that starts meanwhile would remove what the first one left.
fn started_twice(stage: &mut Stage) -> Result<(), Failure> {
    let name = format!("procjail-lab-{}", std::process::id());
    let host = HostCgroups::detect().map_err(|error| Failure::Launcher(error.to_string()))?;
    let Some(root) = host.v2 else {
        return Err(Failure::Needs("a mounted cgroup v2 hierarchy".to_owned()));
    };
    let parent = root.join(&name);
    fs::create_dir(&parent).map_err(Failure::of(format!("create {}", parent.display())))?;
    let made = parent.clone();
    stage.undo(move || {
        let _ = fs::remove_dir(made);
    });
    let place = format!("/{name}");
    let program = stage.program()?;
    let options = ["run", "--cgroup-parent", &place, "--name", &name, "--"];
    let (mut launcher, _) = first_line(
        Command::new(std::env::current_exe().map_err(Failure::of("find procjail's own file"))?)
            .args(options)
            .arg(&program)
            .args(["misbehave", "sleep"]),
    )?;
    let joined = first_line(Command::new(&program).args(["misbehave", "sleep"]));
    let joined = joined.and_then(|(mut process, _)| {
        let member = process.id();
        // Its end by the new launcher is collected with the scenario.
        stage.undo(move || {
            let _ = process.kill();
            let _ = process.wait();
        });
        let file = parent.join("procjail").join(&name).join("cgroup.procs");
        fs::write(&file, member.to_string())
            .map_err(Failure::of(format!("write {}", file.display())))
    });
    let _ = launcher.kill();
    let _ = launcher.wait();
    joined?;
    for option in ["--cgroup-parent", &place, "--name", &name] {
        stage.option(option);
    }
    stage.start()?;
    stage.wait().map(drop)
}

/// The program is told where its cgroup is on the host, which it can't see from its own cgroup namespace.
fn own_cgroup(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    let cgroup = stage.header()?.jail.cgroup;
    // In one piece, since the program reads it as soon as it is there.
    let written = stage.make_file("cgroup.new", cgroup.as_bytes(), 0o644)?;
    fs::rename(&written, stage.directory().join("cgroup"))
        .map_err(Failure::of(format!("rename {}", written.display())))?;
    stage.wait().map(drop)
}

/// Starts a program and waits for its first line.
fn first_line(command: &mut Command) -> Result<(Child, String), Failure> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Failure::of("start a program"))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(Failure::of("hear from a program"))?;
    }
    Ok((child, line))
}

/// A tmpfs of the host that the jail writes to.
fn charged(stage: &mut Stage) -> Result<(), Failure> {
    let path = make(stage, "tmpfs")?;
    mount_here(
        stage,
        Path::new("lab"),
        &path,
        Some("tmpfs"),
        MsFlags::empty(),
    )?;
    stage.start()?;
    stage.wait().map(drop)
}
