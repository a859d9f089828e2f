//! The plan of each kind of jail.

use super::*;
use crate::jail::cgroup::Limits;
use crate::jail::spec::{Bind, Name, Tmpfs, User};

fn spec(app: &str) -> Spec {
    Spec {
        name: "test".parse::<Name>().unwrap(),
        command: vec![app.into()],
        limits: Limits::default(),
        cgroup_parent: None,
        net: Net::Host,
        root: None,
        read_only: false,
        binds: Vec::new(),
        tmpfs: Vec::new(),
        hostname: None,
        workdir: None,
        env: Vec::new(),
        user: None,
        rlimits: Vec::new(),
        propagation: Propagation::Private,
        init: false,
        stop: StopOptions::default(),
    }
}

fn lines(spec: &Spec) -> Vec<String> {
    let facts = Facts {
        cgroups: HostCgroups::detect().unwrap(),
        mount_setattr: true,
        mount_groups: true,
        cwd: Some("/here".into()),
    };
    let plan = Plan::compile(spec, &facts).unwrap();
    plan.steps.iter().map(Step::to_string).collect()
}

#[test]
fn the_plainest_jail_takes_few_steps() {
    assert_eq!(
        lines(&spec("/bin/sh")),
        [
            "die with the launcher (PR_SET_PDEATHSIG SIGKILL)",
            "make every mount private",
            "mount a new proc at /proc",
            "empty the inheritable capabilities",
            "wait at the gate until the launcher is ready",
            "make a cgroup namespace",
            "close all descriptors above 2, reset all signals, execute /bin/sh",
        ]
    );
}

#[test]
fn sources_are_cloned_before_anything_is_mounted_over_them() {
    let all = lines(&Spec {
        read_only: true,
        binds: vec![Bind {
            source: "/etc".into(),
            target: "/tmp/etc".into(),
            read_only: true,
        }],
        tmpfs: vec![Tmpfs {
            target: "/tmp".into(),
            size_bytes: Some(4096),
        }],
        propagation: Propagation::Slave,
        user: Some(User { uid: 1, gid: 2 }),
        ..spec("/bin/sh")
    });
    assert_eq!(
        all[1..],
        [
            "make every mount a slave of the host's",
            "clone the mounts at /etc of the host, read-only",
            "clone the mounts at /dev of the host",
            "make the root and every mount below read-only",
            "mount a new proc at /proc",
            "attach the clone at /dev",
            "mount a new tmpfs at /tmp of 4096 bytes",
            "attach the clone at /tmp/etc",
            "empty the inheritable capabilities",
            "wait at the gate until the launcher is ready",
            "make a cgroup namespace",
            "become user 1 and group 2, without further groups",
            "change the working directory to /here",
            "close all descriptors above 2, reset all signals, execute /bin/sh",
        ]
    );
}

#[test]
fn what_an_old_kernel_cannot_do_is_refused() {
    let facts = Facts {
        cgroups: HostCgroups::detect().unwrap(),
        mount_setattr: false,
        mount_groups: false,
        cwd: None,
    };
    let shared = Spec {
        propagation: Propagation::Shared,
        ..spec("/bin/sh")
    };
    let refusal = Plan::compile(&shared, &facts).unwrap_err().to_string();
    assert!(refusal.contains("Linux 5.15"), "{refusal}");
}

#[test]
fn text_with_a_nul_byte_is_refused() {
    let facts = Facts {
        cgroups: HostCgroups::detect().unwrap(),
        mount_setattr: true,
        mount_groups: true,
        cwd: None,
    };
    let mut bad = spec("/bin/sh");
    bad.command.push(OsString::from_vec(b"a\0b".to_vec()));
    assert!(matches!(
        Plan::compile(&bad, &facts),
        Err(Error::Option { .. })
    ));
    let mut bad = spec("/bin/sh");
    bad.env
        .push(("A".into(), OsString::from_vec(b"a\0b".to_vec())));
    assert!(matches!(
        Plan::compile(&bad, &facts),
        Err(Error::Option { .. })
    ));
}
