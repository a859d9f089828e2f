//! What the records and spans are about: the jail, its host, its container and its pod.

use std::env;
use std::fs;

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_semantic_conventions::attribute as semantic;

use crate::host;
use crate::trace::{Container, Header};

/// Attributes, and the variables of the environment that tell them. The first ones are meant for this, and
/// the others are those that manifests usually fill by the downward API; these are believed only in
/// Kubernetes, which sets KUBERNETES_SERVICE_HOST.
const KUBERNETES: [(&str, &str, &[&str]); 6] = [
    (semantic::K8S_POD_NAME, "K8S_POD_NAME", &["POD_NAME"]),
    (semantic::K8S_POD_UID, "K8S_POD_UID", &["POD_UID"]),
    (
        semantic::K8S_NAMESPACE_NAME,
        "K8S_NAMESPACE_NAME",
        &["K8S_NAMESPACE", "K8S_POD_NAMESPACE", "POD_NAMESPACE"],
    ),
    (
        semantic::K8S_NODE_NAME,
        "K8S_NODE_NAME",
        &["NODE_NAME", "KUBE_NODE_NAME"],
    ),
    (
        semantic::K8S_CONTAINER_NAME,
        "K8S_CONTAINER_NAME",
        &["CONTAINER_NAME"],
    ),
    (
        semantic::K8S_CLUSTER_NAME,
        "K8S_CLUSTER_NAME",
        &["CLUSTER_NAME"],
    ),
];

/// Where a pod finds its own namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// What a trace is about. OTEL_RESOURCE_ATTRIBUTES wins over all that is found, OTEL_SERVICE_NAME over that.
pub(super) fn resource(header: &Header) -> Resource {
    let mut attributes = told_by(header);
    attributes.extend(header.jail.container.iter().flat_map(container));
    // A file may come from elsewhere, and this machine then has nothing to say about it. Nor has what procjail itself
    // runs in about a container that others started.
    let is_here = host::facts("").hostname == header.host.hostname;
    if is_here && header.jail.container.is_none() {
        attributes.extend(kubernetes(
            |name| env::var(name).ok().filter(|value| !value.is_empty()),
            || fs::read_to_string(NAMESPACE_FILE).ok(),
        ));
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let id = container_id(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        attributes.extend(id.map(|id| KeyValue::new(semantic::CONTAINER_ID, id)));
    }
    let mut builder = opentelemetry_sdk::Resource::builder_empty()
        .with_attributes(attributes)
        .with_detector(Box::new(EnvResourceDetector::new()));
    if let Some(name) = env::var("OTEL_SERVICE_NAME")
        .ok()
        .filter(|name| !name.is_empty())
    {
        builder = builder.with_service_name(name);
    }
    let mut attributes = ResourceAttributesWithSchema::from(&builder.build())
        .attributes
        .0;
    attributes.sort_by(|one, other| one.key.cmp(&other.key));
    Resource {
        attributes,
        dropped_attributes_count: 0,
        entity_refs: Vec::new(),
    }
}

/// What the trace itself tells.
fn told_by(header: &Header) -> Vec<KeyValue> {
    let (host, jail) = (&header.host, &header.jail);
    let architecture = match host.architecture.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" | "i386" => "x86",
        other => other,
    };
    let arguments: Vec<opentelemetry::StringValue> = jail
        .command
        .iter()
        .map(|argument| super::attributes::cut(argument).into())
        .collect();
    let mut attributes = vec![
        KeyValue::new(semantic::SERVICE_NAME, jail.name.clone()),
        KeyValue::new(semantic::HOST_NAME, host.hostname.clone()),
        KeyValue::new(semantic::HOST_ARCH, architecture.to_owned()),
        KeyValue::new(semantic::OS_TYPE, "linux"),
        KeyValue::new(semantic::OS_VERSION, host.kernel.clone()),
        KeyValue::new(semantic::PROCESS_PID, i64::from(jail.pid)),
        KeyValue::new(
            semantic::PROCESS_COMMAND_ARGS,
            opentelemetry::Value::Array(opentelemetry::Array::String(arguments)),
        ),
        KeyValue::new("procjail.version", header.procjail.clone()),
    ];
    if let Some(command) = jail.command.first() {
        let command = super::attributes::cut(command);
        attributes.push(KeyValue::new(semantic::PROCESS_COMMAND, command));
    }
    attributes
}

/// What its runtime's records tell of a container that others started.
fn container(container: &Container) -> Vec<KeyValue> {
    let mut found = Vec::new();
    let mut tell = |attribute: &'static str, value: Option<&str>| {
        let value = value.filter(|value| !value.is_empty());
        found.extend(value.map(|value| KeyValue::new(attribute, super::attributes::cut(value))));
    };
    let is_container = !matches!(container.kind.as_str(), "unit" | "cgroup" | "process");
    if is_container {
        tell(semantic::CONTAINER_ID, Some(&container.id));
        tell(semantic::CONTAINER_NAME, Some(&container.name));
        tell(semantic::CONTAINER_IMAGE_NAME, container.image.as_deref());
        tell(semantic::CONTAINER_RUNTIME_NAME, Some(&container.kind));
    }
    tell(
        semantic::K8S_CONTAINER_NAME,
        container.container_name.as_deref(),
    );
    if let Some(pod) = &container.pod {
        tell(semantic::K8S_POD_NAME, Some(&pod.name));
        tell(semantic::K8S_NAMESPACE_NAME, Some(&pod.namespace));
        tell(semantic::K8S_POD_UID, Some(&pod.uid));
    }
    found
}

/// What the environment tells of the pod.
fn kubernetes(
    variable: impl Fn(&str) -> Option<String>,
    namespace: impl Fn() -> Option<String>,
) -> Vec<KeyValue> {
    let inside = variable("KUBERNETES_SERVICE_HOST").is_some();
    let mut found = Vec::new();
    for (attribute, own, usual) in KUBERNETES {
        let usual = || {
            usual
                .iter()
                .filter(|_| inside)
                .find_map(|name| variable(name))
        };
        let fallback = || match attribute {
            // The host name of a pod is its name.
            semantic::K8S_POD_NAME if inside => variable("HOSTNAME"),
            semantic::K8S_NAMESPACE_NAME if inside => {
                namespace().map(|name| name.trim().to_owned())
            }
            _ => None,
        };
        let value = variable(own).or_else(usual).or_else(fallback);
        found.extend(value.map(|value| KeyValue::new(attribute, value)));
    }
    found
}

/// The ID of the container that this process is in: in the name of its cgroup; where a cgroup namespace hides
/// that, in the place of the files that a runtime mounts in each container, such as `/etc/hostname`.
fn container_id(cgroup: &str, mountinfo: &str) -> Option<String> {
    cgroup
        .lines()
        .filter_map(|line| line.rsplit('/').next())
        .find_map(id_in)
        .or_else(|| {
            mountinfo
                .lines()
                .filter_map(|line| line.split("/containers/").nth(1))
                .find_map(|rest| id_in(rest.split('/').next()?))
        })
}

/// The 64 digits in a name such as `docker-….scope`.
fn id_in(name: &str) -> Option<String> {
    name.split(|char: char| !char.is_ascii_hexdigit())
        .find(|part| part.len() == 64)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_its_cgroup_or_its_mounts() {
        let id = "0123456789abcdef".repeat(4);
        let docker = format!("0::/system.slice/docker-{id}.scope\n");
        let pod = format!("12:memory:/kubepods/burstable/pod1234/{id}\n0::/\n");
        let cri = format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope");
        for cgroup in [docker, pod, cri] {
            assert_eq!(container_id(&cgroup, "").as_deref(), Some(&*id), "{cgroup}");
        }
        let mounts = format!(
            "1 2 0:1 / / rw - overlay overlay rw\n\
             3 1 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"
        );
        assert_eq!(container_id("0::/\n", &mounts).as_deref(), Some(&*id));
        // That of a pod's sandbox is another container's.
        let sandbox = format!("3 1 8:1 /run/sandboxes/{id}/hostname /etc/hostname rw - x x rw");
        assert_eq!(
            container_id("0::/user.slice/session-1.scope\n", &sandbox),
            None
        );
    }

    #[test]
    fn a_container_that_others_started_has_the_names_of_its_runtime() {
        let mut header = crate::event::story::header_line();
        header.jail.launcher = None;
        header.jail.container = Some(Container {
            kind: "containerd".into(),
            id: "4f".into(),
            name: "app".into(),
            image: Some("shop/web:1".into()),
            runtime: Some("runc".into()),
            container_name: Some("app".into()),
            pod: Some(crate::trace::Pod {
                name: "web-0".into(),
                namespace: "shop".into(),
                uid: String::new(),
            }),
            stop_timeout_ns: None,
        });
        let found = resource(&header).attributes;
        let value = |name: &str| {
            let one = found.iter().find(|one| one.key == name)?;
            Some(format!("{:?}", one.value.as_ref()?.value.as_ref()?))
        };
        for (name, text) in [
            ("container.id", "4f"),
            ("container.name", "app"),
            ("container.image.name", "shop/web:1"),
            ("container.runtime.name", "containerd"),
            ("k8s.container.name", "app"),
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "web-0"),
        ] {
            assert!(
                value(name).is_some_and(|value| value.contains(text)),
                "{name}"
            );
        }
        assert_eq!(value("k8s.pod.uid"), None, "what is unknown is left out");
    }

    #[test]
    fn common_names_are_believed_in_kubernetes_only() {
        let found = |variables: &[(&str, &str)]| {
            let mut found: Vec<String> = kubernetes(
                |name| {
                    let variable = variables.iter().find(|(known, _)| *known == name)?;
                    Some(variable.1.to_owned())
                },
                || Some("prod\n".to_owned()),
            )
            .iter()
            .map(|one| format!("{}={}", one.key, one.value))
            .collect();
            found.sort();
            found
        };
        let common = [("POD_NAME", "a"), ("NODE_NAME", "n"), ("HOSTNAME", "h")];
        assert!(found(&common).is_empty());
        let inside = [&common[..], &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]].concat();
        let expected = [
            "k8s.namespace.name=prod",
            "k8s.node.name=n",
            "k8s.pod.name=a",
        ];
        assert_eq!(found(&inside), expected);
        let nameless = [inside[1], inside[2], inside[3]];
        assert!(found(&nameless).contains(&"k8s.pod.name=h".to_owned()));
        assert_eq!(found(&[("K8S_POD_UID", "u")]), ["k8s.pod.uid=u"]);
    }
}
