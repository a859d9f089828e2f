//! What dockerd keeps about a container: `containers/ID/config.v2.json` and `hostconfig.json`.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Value, json};

use super::bundle::{Facts, signal_of};
use super::files::{Tree, at, text};
use super::look::Look;
use super::supervisor;

/// What is taken from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Docker {
    /// What the labels say, which cri-dockerd gives the containers of pods.
    pub labels: Facts,
    pub name: Option<String>,
    pub image: Option<String>,
    pub runtime: Option<String>,
    pub stop_signal: Option<i32>,
    pub stop_timeout_ns: Option<u64>,
    pub restarts: Option<u64>,
    /// The first file.
    pub record: PathBuf,
}

impl Docker {
    fn of(config: &Value, host_config: &Value, record: PathBuf) -> Docker {
        let number = |keys: &[&str]| at(config, keys)?.as_u64();
        let labels = at(config, &["Config", "Labels"]).cloned();
        Docker {
            labels: Facts::of(&json!({ "annotations": labels }), ""),
            name: text(config, &["Name"]).map(|name| name.trim_start_matches('/').to_owned()),
            image: text(config, &["Config", "Image"]),
            runtime: text(host_config, &["Runtime"]),
            stop_signal: text(config, &["Config", "StopSignal"])
                .and_then(|signal| signal_of(&signal)),
            stop_timeout_ns: number(&["Config", "StopTimeout"])
                .map(|seconds| seconds.saturating_mul(1_000_000_000)),
            restarts: number(&["RestartCount"]),
            record,
        }
    }

    /// Reads what is known of a container, from dockerd's data in a root directory.
    pub fn read(look: &mut Look<'_>, root: &Tree, data: &Path, id: &str) -> Option<Docker> {
        let directory = data.join("containers").join(id);
        let config = look.json(root, &directory.join("config.v2.json"))?;
        let host_config = look.json(root, &directory.join("hostconfig.json"));
        let record = root.shown(&directory.join("config.v2.json"));
        Some(Docker::of(
            &config,
            &host_config.unwrap_or_default(),
            record,
        ))
    }
}

/// Where the host's dockerds keep their data, by their command lines and configurations.
pub(super) fn data_of_daemons(look: &mut Look<'_>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for pid in look.table.named("dockerd") {
        // Who is in a container tells of containers in it: their bundles say where that is.
        let is_of_host = look
            .root_of(pid)
            .is_some_and(|root| Rc::ptr_eq(&root, &look.host));
        if !is_of_host || !look.is_trusted(pid) {
            continue;
        }
        let Some(arguments) = look.arguments(pid) else {
            continue;
        };
        let daemon = supervisor::dockerd(&arguments);
        let host = Rc::clone(&look.host);
        let data = daemon.data.or_else(|| {
            let config = look.json(&host, &daemon.config)?;
            supervisor::docker_data(&config)
        });
        found.extend(data);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_image_and_the_way_to_stop_are_taken() {
        let json = |text| serde_json::from_str::<Value>(text).unwrap();
        let config = json(include_str!("fixtures/docker-config.v2.json"));
        let host_config = json(include_str!("fixtures/docker-hostconfig.json"));
        let docker = Docker::of(&config, &host_config, PathBuf::new());
        let expected = Docker {
            name: Some("web".to_owned()),
            image: Some("local/busybox:1".to_owned()),
            runtime: Some("runc".to_owned()),
            stop_signal: Some(2),
            stop_timeout_ns: Some(7_000_000_000),
            restarts: Some(0),
            ..Docker::default()
        };
        assert_eq!(docker, expected);
        let empty = Docker::of(&json("[]"), &json("1"), PathBuf::new());
        assert_eq!(empty, Docker::default());
    }

    #[test]
    fn labels_name_the_pod() {
        let config = json!({"Config": {"Labels": {
            "io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "shop",
            "io.kubernetes.docker.type": "podsandbox",
        }}});
        let labels = Docker::of(&config, &Value::Null, PathBuf::new()).labels;
        assert_eq!(labels.pod.unwrap().name.as_deref(), Some("web-0"));
        assert!(labels.sandbox);
    }
}
