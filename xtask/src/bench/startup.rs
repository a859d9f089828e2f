//! How long it takes to build a jail, run `true` in it, and remove it again.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use serde_json::json;

use super::measure::{Clock, Contestant, bar, median_of, mount_namespace, race, table};
use crate::workspace::{Profile, build_optimised};

/// Measures and prints; whether the bars are met.
pub fn run(rounds: usize) -> anyhow::Result<bool> {
    let (procjail, _) = build_optimised(Profile::Dist)?;
    let procjail = procjail.display().to_string();
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let bundle = directory.path().display().to_string();
    make_bundle(directory.path())?;
    let root = format!("{bundle}/rootfs");
    let state = format!("{bundle}/state");
    let namespaces = [
        "--unshare-pid",
        "--unshare-uts",
        "--unshare-ipc",
        "--unshare-cgroup",
        "--as-pid-1",
        "--die-with-parent",
    ];

    let one = |name: &str, words: &[&str]| Contestant::new(name, Clock::Whole, words);
    let bwrap = |name: &str, words: &[&str]| {
        one(
            name,
            &[&["bwrap"], &namespaces[..], words, &["/bin/true"]].concat(),
        )
    };
    let mut host = vec![
        one("no jail", &["/bin/true"]),
        bwrap(
            "bwrap",
            &[
                "--bind",
                "/",
                "/",
                "--dev-bind",
                "/dev",
                "/dev",
                "--proc",
                "/proc",
            ],
        ),
        one("procjail run", &[&procjail, "run", "--", "/bin/true"]),
        one("procjail trace", &[&procjail, "trace", "--", "/bin/true"]),
    ];
    println!("Root of the host, {rounds} rounds:");
    race(&mut host, rounds);
    table(&host, "ms", 1e6);

    let mut own = vec![
        one("no jail", &[&format!("{root}/bin/true")]),
        bwrap(
            "bwrap",
            &["--ro-bind", &root, "/", "--dev", "/dev", "--proc", "/proc"],
        ),
        one(
            "procjail run",
            &[
                &procjail,
                "run",
                "--root",
                &root,
                "--read-only",
                "--",
                "/bin/true",
            ],
        ),
        one(
            "procjail trace",
            &[
                &procjail,
                "trace",
                "--root",
                &root,
                "--read-only",
                "--",
                "/bin/true",
            ],
        ),
        one(
            "runc run",
            &[
                "runc", "--root", &state, "run", "--bundle", &bundle, "bench",
            ],
        ),
        crun(&state, &bundle),
    ];
    println!("\nA root of its own (busybox), {rounds} rounds:");
    race(&mut own, rounds);
    table(&own, "ms", 1e6);
    println!();

    let mut met = true;
    for (where_, contestants) in [("the host's root", &host), ("a root of its own", &own)] {
        met &= bar(
            &format!("procjail run takes at most what bwrap takes, on {where_}"),
            median_of(contestants, "procjail run") <= median_of(contestants, "bwrap"),
        );
    }
    met &= bar(
        "procjail trace takes at most what runc takes without tracing",
        median_of(&own, "procjail trace") <= median_of(&own, "runc run"),
    );
    Ok(met)
}

/// crun refuses a hybrid host; it runs where the unified hierarchy is all it sees.
fn crun(state: &str, bundle: &str) -> Contestant {
    let command = [
        "crun",
        "--root",
        state,
        "run",
        "--bundle",
        bundle,
        "bench-crun",
    ];
    let contestant = Contestant::new("crun run", Clock::Whole, &command);
    if !Path::new("/sys/fs/cgroup/unified").is_dir() {
        return contestant;
    }
    match mount_namespace("mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup") {
        Ok(namespace) => contestant.in_namespace(namespace),
        Err(_) => contestant,
    }
}

/// A directory with a root of one static program, and the configuration that OCI runtimes want.
fn make_bundle(directory: &Path) -> anyhow::Result<()> {
    let root = directory.join("rootfs");
    for name in ["bin", "proc", "dev", "sys"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .context("cannot copy /bin/busybox; install the package busybox-static")?;
    symlink("busybox", root.join("bin/true"))?;
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": { "path": "rootfs", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        ],
        "linux": { "namespaces": [
            { "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": "ipc" },
            { "type": "cgroup" },
        ] },
    });
    std::fs::write(directory.join("config.json"), config.to_string())?;
    Ok(())
}
