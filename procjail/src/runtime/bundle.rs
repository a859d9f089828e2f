//! What a bundle's `config.json` tells (OCI runtime specification): the configuration of a container, and in its
//! annotations what the engine knows about it.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::container::{Kind, Pod};
use super::files::{at, text};

/// What is taken from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The engine, if it says so.
    pub kind: Option<Kind>,
    pub name: Option<String>,
    pub pod: Option<Pod>,
    pub container_name: Option<String>,
    pub sandbox: bool,
    pub image: Option<String>,
    pub stop_signal: Option<i32>,
    /// CRI-O alone writes down what the kubelet told it of these.
    pub stop_timeout_ns: Option<u64>,
    pub restarts: Option<u64>,
    /// The cgroup that was asked for, if it is a path.
    pub cgroup: Option<String>,
    /// dockerd's directory, from which the container's `/etc/hosts` comes.
    pub docker_data: Option<PathBuf>,
}

impl Facts {
    /// Takes them from the file's content.
    pub fn of(config: &Value, id: &str) -> Facts {
        let note = |key: &str| text(config, &["annotations", key]);
        let first = |keys: &[&str]| keys.iter().find_map(|key| note(key));
        let kind = match note("io.container.manager").as_deref() {
            Some("libpod") => Some(Kind::Podman),
            Some("cri-o") => Some(Kind::Crio),
            _ => None,
        };
        let pod = Pod {
            name: first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
            namespace: first(&[
                "io.kubernetes.cri.sandbox-namespace",
                "io.kubernetes.pod.namespace",
            ]),
            uid: first(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
        };
        let kind_in_pod = first(&[
            "io.kubernetes.cri.container-type",
            "io.kubernetes.cri-o.ContainerType",
            "io.kubernetes.docker.type",
        ]);
        let sandbox = matches!(kind_in_pod.as_deref(), Some("sandbox" | "podsandbox"));
        let container_name = first(&[
            "io.kubernetes.cri.container-name",
            "io.kubernetes.container.name",
        ]);
        Facts {
            kind,
            name: first(&["nerdctl/name"]),
            pod: (pod != Pod::default()).then_some(pod),
            // That of a sandbox is POD for some.
            container_name: container_name.filter(|_| !sandbox),
            sandbox,
            image: first(&[
                "io.kubernetes.cri.image-name",
                "io.kubernetes.cri-o.ImageName",
            ]),
            stop_signal: note("org.opencontainers.image.stopSignal")
                .and_then(|signal| signal_of(&signal)),
            stop_timeout_ns: note("io.kubernetes.pod.terminationGracePeriod")
                .and_then(|seconds| seconds.parse::<u64>().ok())
                .map(|seconds| seconds.saturating_mul(1_000_000_000)),
            restarts: note("io.kubernetes.container.restartCount")
                .and_then(|count| count.parse().ok()),
            cgroup: text(config, &["linux", "cgroupsPath"]).filter(|path| path.starts_with('/')),
            docker_data: docker_data(config, id),
        }
    }
}

/// DATA of a mount's source DATA/containers/ID/hosts.
fn docker_data(config: &Value, id: &str) -> Option<PathBuf> {
    let mounts = at(config, &["mounts"])?.as_array()?;
    mounts.iter().find_map(|mount| {
        let source = text(mount, &["source"])?;
        let directory = Path::new(&source).parent()?;
        let all = directory.parent()?;
        let is_docker = directory.file_name()? == id && all.file_name()? == "containers";
        is_docker
            .then(|| all.parent().map(Path::to_owned))
            .flatten()
    })
}

/// A signal as images name it: `SIGTERM`, `TERM`, `15`, `RTMIN+3`.
pub(super) fn signal_of(text: &str) -> Option<i32> {
    let name = text.trim().to_ascii_uppercase();
    if let Ok(number) = name.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    // Those that a C library has for itself are not counted: for programs the first one is 34.
    let real_time = |from: i32, digits: &str| match digits {
        "" => Some(from),
        digits => from.checked_add(digits.parse().ok()?),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(digits), _) => real_time(34, digits)?,
        (_, Some(digits)) => real_time(64, digits)?,
        _ => Signal::from_str(&format!("SIG{name}")).ok()? as i32,
    };
    (1..=64).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const CRIO: &str = include_str!("fixtures/crio-container.json");

    fn facts(text: &str, id: &str) -> Facts {
        Facts::of(&serde_json::from_str(text).unwrap(), id)
    }

    #[test]
    fn a_pod_and_its_container_are_named() {
        let pod = Some(Pod {
            name: Some("web-0".to_owned()),
            namespace: Some("shop".to_owned()),
            uid: Some("0f2b6f0c-1111-4222-8333-444455556666".to_owned()),
        });
        let app = facts(include_str!("fixtures/cri-container.json"), "");
        assert_eq!(app.pod, pod);
        assert_eq!(app.container_name.as_deref(), Some("app"));
        assert_eq!(app.image.as_deref(), Some("docker.io/local/busybox:1"));
        assert!(!app.sandbox);
        let sandbox = facts(include_str!("fixtures/cri-sandbox.json"), "");
        assert_eq!((sandbox.pod, sandbox.sandbox), (pod.clone(), true));
        let crio = facts(CRIO, "");
        assert_eq!((crio.pod, crio.kind), (pod, Some(Kind::Crio)));
        assert_eq!(crio.container_name.as_deref(), Some("app"));
        assert_eq!(crio.stop_signal, Some(3));
        assert_eq!(crio.stop_timeout_ns, Some(30_000_000_000));
        assert_eq!(crio.restarts, Some(2));
    }

    #[test]
    fn other_engines_tell_what_they_know() {
        let podman = facts(include_str!("fixtures/podman-bundle.json"), "");
        assert_eq!((podman.kind, podman.pod), (Some(Kind::Podman), None));
        assert_eq!(podman.stop_signal, Some(15));
        let id = "c97ba80d46e2aec40360d8b2e58eb41efbe0c50d62a1e0a5d3f631f1c624b52c";
        let docker = facts(include_str!("fixtures/docker-bundle.json"), id);
        assert_eq!(docker.docker_data, Some(PathBuf::from("/var/lib/docker")));
        let ctr = facts(include_str!("fixtures/ctr.json"), "web");
        assert_eq!(ctr.cgroup.as_deref(), Some("/default/web"));
        assert_eq!(ctr.name, None);
    }

    #[test]
    fn signals_have_names_and_numbers() {
        let signals = [
            ("SIGTERM", Some(15)),
            ("int", Some(2)),
            ("37", Some(37)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMAX+1", None),
            ("0", None),
            ("65", None),
            ("SIGNOTHING", None),
            ("", None),
        ];
        for (text, number) in signals {
            assert_eq!(signal_of(text), number, "{text}");
        }
    }

    #[test]
    fn a_value_of_another_type_costs_only_itself() {
        let odd = json!({
            "annotations": {
                "io.kubernetes.pod.name": 1, "io.kubernetes.pod.uid": "u",
                "io.kubernetes.cri.container-name": ["x"],
            },
            "linux": "x", "mounts": {"source": 1},
        });
        let pod = Pod {
            uid: Some("u".to_owned()),
            ..Pod::default()
        };
        let expected = Facts {
            pod: Some(pod),
            ..Facts::default()
        };
        assert_eq!(Facts::of(&odd, "x"), expected);
        for odd in [
            json!(null),
            json!([]),
            json!("x"),
            json!({"mounts": [1, {"source": "/"}]}),
        ] {
            assert_eq!(Facts::of(&odd, "x"), Facts::default());
        }
    }

    proptest! {
        #[test]
        fn any_word_is_no_signal_or_one(text in "\\PC{0,10}|(SIG)?RT(MIN|MAX)[+-][0-9]{0,12}") {
            prop_assert!(signal_of(&text).is_none_or(|number| (1..=64).contains(&number)));
        }
    }
}
