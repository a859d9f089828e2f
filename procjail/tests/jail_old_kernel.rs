//! Kernels before 5.12 have no mount_setattr(2): read-only is made mount by mount.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{HostTmpfs, root};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use procjail::jail::spec::{Bind, Name, Net, Propagation, Tmpfs};
use procjail::jail::{Facts, Jail, Limits, Plan, Spec, StopOptions};

#[test]
fn read_only_does_not_need_mount_setattr() {
    let (root, host) = (root(), HostTmpfs::mount(false));
    let below = host.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let none = None::<&str>;
    mount(
        Some("tmpfs"),
        &below,
        Some("tmpfs"),
        MsFlags::MS_NOEXEC,
        none,
    )
    .unwrap();
    let script = "touch /etc/x && exit 1; touch /mnt/x && exit 2; touch /mnt/below/x && exit 3; \
        touch /tmp/x || exit 4; grep /mnt/below /proc/self/mountinfo | grep -q noexec || exit 5; exit 42";
    let spec = Spec {
        name: format!("old-kernel-{}", std::process::id())
            .parse::<Name>()
            .unwrap(),
        command: ["/bin/sh", "-c", script].map(Into::into).to_vec(),
        limits: Limits::default(),
        cgroup_parent: None,
        net: Net::Host,
        root: Some(root.path().to_owned()),
        read_only: true,
        binds: vec![Bind {
            source: host.path(),
            target: "/mnt".into(),
            read_only: true,
        }],
        tmpfs: vec![Tmpfs {
            target: "/tmp".into(),
            size_bytes: None,
        }],
        hostname: None,
        workdir: None,
        env: vec![("PATH".into(), "/bin".into())],
        user: None,
        rlimits: Vec::new(),
        propagation: Propagation::Private,
        init: false,
        stop: StopOptions::default(),
    };
    for mount_setattr in [true, false] {
        let facts = Facts {
            mount_setattr,
            ..Facts::detect().unwrap()
        };
        let plan = Plan::compile(&spec, &facts).unwrap();
        let mut jail = Jail::create(&plan, &()).unwrap();
        jail.open_gate(&()).unwrap();
        let outcome = jail.supervise(&());
        assert_eq!(
            (outcome.exit_code, outcome.remains),
            (42, vec![]),
            "{mount_setattr}"
        );
    }
    umount2(&below, MntFlags::MNT_DETACH).unwrap();
}
