//! What the path of a cgroup tells: which containers and units a process is in, one in another.

use super::container::Kind;

/// A container or unit that a path leads through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Who made it, as far as the path tells.
    pub kind: Kind,
    /// Its ID; of a unit its name.
    pub id: String,
    /// The path up to it.
    pub path: String,
    /// UID of the pod that it is in.
    pub pod: Option<String>,
}

/// What a path leads through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Containers and units, the outermost first.
    pub chain: Vec<Mark>,
    /// It ends in a cgroup for a runtime's own process, conmon.
    pub aside: bool,
}

/// Takes a path apart. `known` are paths of containers whose names have no form by which they could be told,
/// with their kinds and IDs.
pub(super) fn marks(path: &str, known: &dyn Fn(&str) -> Option<(Kind, String)>) -> Marks {
    let mut marks = Marks::default();
    let mut pod = None;
    let mut before: Vec<&str> = Vec::new();
    let mut end = 0;
    for (index, component) in path.split('/').enumerate() {
        end += component.len() + usize::from(index > 0);
        let prefix = path.get(..end).unwrap_or(path);
        if component.is_empty() {
            continue;
        }
        if is_aside(component, before.last().copied()) {
            marks.aside = true;
            return marks;
        }
        pod = pod_of(component).or(pod);
        let found = known(prefix).or_else(|| container(component, &before));
        if let Some((kind, id)) = found.or_else(|| unit(component)) {
            let pod = pod.clone().filter(|_| kind != Kind::Unit);
            marks.chain.push(Mark {
                kind,
                id,
                path: prefix.to_owned(),
                pod,
            });
        }
        before.push(component);
    }
    marks
}

/// A cgroup in which only what watches a container is.
fn is_aside(component: &str, before: Option<&str>) -> bool {
    let watches = ["crio-conmon-", "libpod-conmon-", "conmon-", "lxc.monitor."];
    watches.iter().any(|prefix| component.starts_with(prefix))
        || (component == "conmon" && before == Some("libpod_parent"))
}

fn container(component: &str, before: &[&str]) -> Option<(Kind, String)> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    if let Some(name) = name.strip_prefix("lxc.payload.") {
        return Some((Kind::Lxc, name.to_owned()));
    }
    if before.last() == Some(&"lxc") {
        return Some((Kind::Lxc, name.to_owned()));
    }
    // systemd's form of a path given to a runtime that does not use systemd: SLICE:PREFIX:ID.
    let (prefix, id) = match name.rsplit_once(':').or_else(|| name.rsplit_once('-')) {
        Some((prefix, id)) => (Some(prefix.rsplit(':').next().unwrap_or(prefix)), id),
        None => (None, name),
    };
    if !is_id(id) {
        return None;
    }
    let kind = match prefix {
        Some("docker") => Kind::Docker,
        Some("cri-containerd" | "containerd" | "nerdctl") => Kind::Containerd,
        Some("crio") => Kind::Crio,
        Some("libpod") => Kind::Podman,
        Some(_) => Kind::Oci,
        // A pod of podman, in which its containers are.
        None if before.last() == Some(&"libpod_parent") => return None,
        None if before.last() == Some(&"docker") => Kind::Docker,
        None if before.iter().any(|above| pod_of(above).is_some()) => Kind::Containerd,
        None if before.last() == Some(&"k8s.io") => Kind::Containerd,
        None => Kind::Oci,
    };
    Some((kind, id.to_owned()))
}

/// systemd puts an underscore before names that cgroups have for themselves.
fn unit(component: &str) -> Option<(Kind, String)> {
    let is_unit = component.ends_with(".service") || component.ends_with(".scope");
    let name = component.strip_prefix('_').unwrap_or(component);
    is_unit.then(|| (Kind::Unit, name.to_owned()))
}

/// UID of a pod: `pod0f2b6f0c-1111-…`, `kubepods-burstable-pod0f2b6f0c_1111_….slice`.
fn pod_of(component: &str) -> Option<String> {
    let name = component.split(':').next().unwrap_or(component);
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1,
        None => name.strip_prefix("pod")?,
    };
    let digits = uid.chars().filter(char::is_ascii_hexdigit).count();
    let separators = uid.chars().filter(|char| matches!(char, '-' | '_')).count();
    let is_uid = digits == 32 && digits + separators == uid.len();
    is_uid.then(|| uid.replace('_', "-"))
}

/// The ID that most runtimes give.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "865638fddaca4ef0e8a1ba386b9d6c2ad32377582a2daaebe1d6eb53396fc29b";
    const OUTER: &str = "c97ba80d46e2aec40360d8b2e58eb41efbe0c50d62a1e0a5d3f631f1c624b52c";
    const UID: &str = "0f2b6f0c-1111-4222-8333-444455556666";
    const UID_IN_SLICE: &str = "0f2b6f0c_1111_4222_8333_444455556666";

    fn of(path: &str) -> Marks {
        marks(path, &|_| None)
    }

    /// Kind and ID of all marks; the path of the last, and its pod.
    fn told(path: &str) -> (Vec<(Kind, String)>, String, Option<String>) {
        let chain = of(path).chain;
        let last = chain.last().expect(path).clone();
        let all = chain.into_iter().map(|mark| (mark.kind, mark.id));
        (all.collect(), last.path, last.pod)
    }

    #[test]
    fn each_runtime_has_its_form() {
        let container = [
            ("/docker/{ID}", Kind::Docker),
            ("/system.slice/docker-{ID}.scope", Kind::Docker),
            ("/mygrp.slice/docker-{ID}.scope", Kind::Docker),
            ("/mygrp/{ID}", Kind::Oci),
            ("/k8s.io/{ID}", Kind::Containerd),
            ("/system.slice/nerdctl-{ID}.scope", Kind::Containerd),
            ("/libpod_parent/libpod-{ID}", Kind::Podman),
            ("/libpod_parent/{OUTER}/libpod-{ID}", Kind::Podman),
            ("/machine.slice/libpod-{ID}.scope", Kind::Podman),
            ("/crio-{ID}", Kind::Crio),
        ];
        for (path, kind) in container {
            let path = path.replace("{ID}", ID).replace("{OUTER}", OUTER);
            let expected = (vec![(kind, ID.to_owned())], path.clone(), None);
            assert_eq!(told(&path), expected, "{path}");
            // What the container makes itself belongs to it.
            let below = format!("{path}/container/a b");
            assert_eq!(told(&below), expected, "{below}");
        }
    }

    #[test]
    fn pods_are_told_whatever_drives_their_cgroups() {
        let paths = [
            ("/kubepods/burstable/pod{UID}/{ID}", Kind::Containerd),
            ("/kubepods/pod{UID}/crio-{ID}", Kind::Crio),
            ("/../../pod{UID}/{ID}", Kind::Containerd),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/cri-containerd-{ID}.scope",
                Kind::Containerd,
            ),
            (
                "/kubepods.slice/kubepods-pod{UID_}.slice/crio-{ID}.scope",
                Kind::Crio,
            ),
            (
                "/kubepods.slice/kubepods-pod{UID_}.slice/docker-{ID}.scope",
                Kind::Docker,
            ),
        ];
        for (path, kind) in paths {
            let path = path.replace("{UID}", UID).replace("{ID}", ID);
            let path = path.replace("{UID_}", UID_IN_SLICE);
            let expected = (
                vec![(kind, ID.to_owned())],
                path.clone(),
                Some(UID.to_owned()),
            );
            assert_eq!(told(&path), expected, "{path}");
        }
        // A static pod has a hash instead.
        let hash = "0f2b6f0c111142228333444455556666";
        let (_, _, pod) = told(&format!("/kubepods/burstable/pod{hash}/{ID}"));
        assert_eq!(pod.as_deref(), Some(hash));
        // systemd's unit around a runtime that does not use systemd.
        let path = format!(
            "/system.slice/containerd.service/kubepods-burstable-pod{UID_IN_SLICE}.slice:cri-containerd:{ID}"
        );
        let (all, whole, pod) = told(&path);
        let unit = (Kind::Unit, "containerd.service".to_owned());
        assert_eq!(all, [unit, (Kind::Containerd, ID.to_owned())]);
        assert_eq!((whole, pod.as_deref()), (path, Some(UID)));
    }

    #[test]
    fn the_innermost_counts_and_the_outer_ones_are_around_it() {
        let kind = format!(
            "/docker/{OUTER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_IN_SLICE}.slice/cri-containerd-{ID}.scope"
        );
        let (all, path, pod) = told(&kind);
        let docker = (Kind::Docker, OUTER.to_owned());
        assert_eq!(all, [docker.clone(), (Kind::Containerd, ID.to_owned())]);
        assert_eq!((path, pod.as_deref()), (kind, Some(UID)));
        let (all, ..) = told(&format!("/docker/{OUTER}/docker/{ID}"));
        assert_eq!(all, [docker.clone(), (Kind::Docker, ID.to_owned())]);
        let (all, ..) = told(&format!("/docker/{OUTER}/system.slice/web.service"));
        assert_eq!(all, [docker, (Kind::Unit, "web.service".to_owned())]);
        let rootless = "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope";
        let (all, ..) = told(&rootless.replace("{ID}", ID));
        let user = (Kind::Unit, "user@1000.service".to_owned());
        assert_eq!(all, [user, (Kind::Podman, ID.to_owned())]);
    }

    #[test]
    fn units_and_lxc_have_names() {
        let names = [
            ("/system.slice/web.service", Kind::Unit, "web.service"),
            (
                "/payload/system.slice/web.service/x",
                Kind::Unit,
                "web.service",
            ),
            ("/init.scope", Kind::Unit, "init.scope"),
            ("/system.slice/_cpu.service", Kind::Unit, "cpu.service"),
            ("/lxc/web", Kind::Lxc, "web"),
            ("/lxc.payload.web/init.slice", Kind::Lxc, "web"),
        ];
        for (path, kind, name) in names {
            assert_eq!(told(path).0, [(kind, name.to_owned())], "{path}");
        }
        for path in [
            "/",
            "",
            "/default/web",
            "/user.slice",
            "//",
            "/podruntime/kubelet",
        ] {
            assert_eq!(of(path), Marks::default(), "{path}");
        }
    }

    #[test]
    fn what_watches_is_not_in_the_container() {
        for path in [
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/kubepods.slice/kubepods-pod{UID_IN_SLICE}.slice/crio-conmon-{ID}.scope"),
            "/libpod_parent/conmon".to_owned(),
            "/lxc.monitor.web".to_owned(),
        ] {
            let marks = of(&path);
            assert!(marks.aside && marks.chain.is_empty(), "{path}");
        }
    }

    #[test]
    fn a_known_path_needs_no_form() {
        let known =
            |path: &str| (path == "/default/web").then(|| (Kind::Containerd, "web".to_owned()));
        let chain = marks("/default/web/x.service", &known).chain;
        let told: Vec<_> = chain.iter().map(|mark| mark.path.as_str()).collect();
        assert_eq!(told, ["/default/web", "/default/web/x.service"]);
    }

    proptest! {
        #[test]
        fn any_path_is_taken_apart(path in "(/|[a-z0-9:._-]{0,12}|\\PC{0,4}|pod|docker|kubepods|865638fddaca4ef0e8a1ba386b9d6c2ad32377582a2daaebe1d6eb53396fc29b|\\.scope|\\.slice){0,12}") {
            for mark in of(&path).chain {
                prop_assert!(path.starts_with(&mark.path));
                prop_assert!(mark.path.ends_with(|last| last != '/'));
            }
        }
    }
}
