//! What is taken, and what is refused with which words.

use super::*;

#[test]
fn names_stay_below_their_directory() {
    for good in ["a", "web-1", "0", "A.b_c", &"x".repeat(63)] {
        assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
    }
    for bad in [
        "",
        "../x",
        ".hidden",
        "-x",
        "a/b",
        "a\nb",
        "a b",
        "ä",
        &"x".repeat(64),
    ] {
        assert!(bad.parse::<Name>().is_err(), "{bad:?}");
    }
}

#[test]
fn the_default_name_is_always_a_valid_one() {
    for (app, name) in [
        ("/usr/bin/sleep", "sleep-42"),
        ("./my app", "my_app-42"),
        ("/", "app-42"),
        ("..", "app-42"),
        ("[", "app-42"),
    ] {
        let made = Name::default_for(OsStr::new(app), 42);
        assert_eq!(made.as_str(), name);
        assert!(made.as_str().parse::<Name>().is_ok());
    }
    let long = Name::default_for(OsStr::new(&"y".repeat(200)), 4_000_000_000);
    assert_eq!(long.as_str().len(), 63);
}

#[test]
fn sizes_are_binary() {
    assert_eq!(parse_size("64M"), Ok(64 << 20));
    assert_eq!(parse_size("1GiB"), Ok(1 << 30));
    assert_eq!(parse_size("512k"), Ok(512 << 10));
    assert_eq!(parse_size("4096"), Ok(4096));
    for bad in [
        "",
        "M",
        "12X",
        "-1",
        "1.5G",
        "1 M",
        "iB",
        "99999999999999999999",
        "17179869184G",
    ] {
        assert!(parse_size(bad).is_err(), "{bad:?}");
    }
    assert!(parse_limit("0").is_err() && parse_limit("0K").is_err());
}

#[test]
fn binds_and_tmpfs_name_absolute_targets() {
    assert_eq!(
        "src:/dst:ro".parse(),
        Ok(Bind {
            source: "src".into(),
            target: "/dst".into(),
            read_only: true
        })
    );
    for bad in [
        "",
        "/a",
        ":/b",
        "/a:",
        "/a:b",
        "/a:/b:xx",
        "/a:/b:ro:",
        "/a:/../b",
        "/a:/b\n",
    ] {
        assert!(bad.parse::<Bind>().is_err(), "{bad:?}");
    }
    assert_eq!(
        "/t:1M".parse(),
        Ok(Tmpfs {
            target: "/t".into(),
            size_bytes: Some(1 << 20)
        })
    );
    for bad in ["t", "/t:", "/t:1X", "/t/../u"] {
        assert!(bad.parse::<Tmpfs>().is_err(), "{bad:?}");
    }
}

#[test]
fn the_cgroup_above_is_a_path_of_its_hierarchy() {
    assert_eq!(cgroup_path("/a/b"), Ok("/a/b".into()));
    for bad in ["", "a", "/", "/..", "/a/../b", "/sys/fs/cgroup/a", "/a\n"] {
        assert!(cgroup_path(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn users_are_numbers() {
    assert_eq!("5".parse(), Ok(User { uid: 5, gid: 5 }));
    assert_eq!("5:7".parse(), Ok(User { uid: 5, gid: 7 }));
    for bad in [
        "",
        "root",
        "5:",
        ":5",
        "-1",
        "+1",
        "4294967295",
        "5:users",
        "1:2:3",
    ] {
        assert!(bad.parse::<User>().is_err(), "{bad:?}");
    }
}

#[test]
fn rlimits_have_names_and_an_order() {
    let limit: Rlimit = "nofile=64:unlimited".parse().unwrap();
    assert_eq!((limit.soft, limit.hard), (64, u64::MAX));
    assert_eq!("stack=8M".parse::<Rlimit>().unwrap().soft, 8 << 20);
    for bad in [
        "nofile",
        "nofile=",
        "files=3",
        "nofile=5:4",
        "nofile=x",
        "NOFILE=3",
    ] {
        assert!(bad.parse::<Rlimit>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_working_directory_is_no_descriptor() {
    assert!(workdir_path("/srv").is_ok() && workdir_path("/proc").is_ok());
    for bad in [
        "srv",
        "/proc/self/fd/7",
        "/proc//self/./fd/7",
        "/proc/1/task/1/fd/3",
        "/a/../b",
    ] {
        assert!(workdir_path(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn environment_variables_are_split_at_the_first_equals_sign() {
    assert_eq!(
        EnvVar::parse(OsStr::new("A=b=c")),
        Ok(EnvVar("A".into(), "b=c".into()))
    );
    assert!(EnvVar::parse(OsStr::new("=x")).is_err() && EnvVar::parse(OsStr::new("A")).is_err());
}
