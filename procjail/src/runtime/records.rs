//! What runtimes have written down about the containers that run, each found by one of their own processes or in
//! a directory of theirs.
//!
//! Anyone can give a process a runtime's name. So what such a process says of a container is believed only of its
//! own child, which the kernel tells; and what lies in a directory by a container's ID, only if it is root's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::Value;

use super::bundle::Facts;
use super::container::Kind;
use super::files::{Tree, at, text};
use super::look::Look;
use super::supervisor;
use super::table;

/// A container as its runtime knows it.
#[derive(Debug)]
pub(super) struct Record {
    pub kind: Kind,
    pub id: String,
    /// containerd's.
    pub namespace: Option<String>,
    /// Its init, if that is sure.
    pub pid: Option<u32>,
    /// The parent of its init.
    pub supervisor: Option<u32>,
    pub runtime: Option<String>,
    /// What the engine calls it.
    pub name: Option<String>,
    pub image: Option<String>,
    /// The directory that paths in these files are to be seen from.
    pub root: Rc<Tree>,
    /// The bundle's path.
    pub bundle: Option<PathBuf>,
    /// podman's event log.
    pub events: Option<PathBuf>,
    pub facts: Facts,
    /// Root wrote it.
    pub trusted: bool,
}

/// All of them.
pub(super) fn all(look: &mut Look<'_>) -> Vec<Record> {
    let mut records = tasks(look);
    records.extend(watched(look));
    let known: Vec<u32> = records.iter().filter_map(|record| record.pid).collect();
    let bare = bare(look);
    records.extend(
        bare.into_iter()
            .filter(|bare| bare.pid.is_none_or(|pid| !known.contains(&pid))),
    );
    records
}

/// One namespace's bundles of a containerd.
struct Tasks {
    bundles: Tree,
    namespace: String,
    root: Rc<Tree>,
    runtime: Option<String>,
    shims: Vec<u32>,
}

/// Containers of containerd, and so docker's. A shim's working directory is a bundle, and those beside it are
/// its other containers' and other shims'.
fn tasks(look: &mut Look<'_>) -> Vec<Record> {
    let mut places: BTreeMap<(u64, u64), Tasks> = BTreeMap::new();
    let shims: Vec<u32> = look.table.named("containerd-shim").collect();
    for pid in shims {
        let shim = look
            .arguments(pid)
            .and_then(|arguments| supervisor::shim(&arguments));
        let bundles = look.link(&look.roots.of_process(pid, "cwd/.."));
        let (Some(shim), Some(mut bundles)) = (shim, bundles) else {
            continue;
        };
        let (Some(identity), Some(root)) = (bundles.identity(), look.root_of(pid)) else {
            continue;
        };
        let cwd = std::fs::read_link(look.roots.of_process(pid, "cwd")).ok();
        if let Some(directory) = cwd.as_deref().and_then(Path::parent) {
            bundles.path = match Rc::ptr_eq(&root, &look.host) {
                true => directory.to_owned(),
                false => root.shown(directory),
            };
        }
        let place = places.entry(identity).or_insert(Tasks {
            bundles,
            namespace: shim.namespace,
            root,
            runtime: shim.runtime,
            shims: Vec::new(),
        });
        place.shims.push(pid);
    }
    for place in look.roots.tasks.clone() {
        let Some(namespaces) = look.directory(&place) else {
            continue;
        };
        for namespace in look.names(&namespaces) {
            let bundles = namespaces.below(Path::new(&namespace)).ok();
            let Some(bundles) = bundles else { continue };
            let Some(identity) = bundles.identity() else {
                continue;
            };
            let root = Rc::clone(&look.host);
            places.entry(identity).or_insert(Tasks {
                bundles,
                namespace,
                root,
                runtime: None,
                shims: Vec::new(),
            });
        }
    }
    places
        .into_values()
        .flat_map(|place| tasks_in(look, &place))
        .collect()
}

fn tasks_in(look: &mut Look<'_>, place: &Tasks) -> Vec<Record> {
    let inits = children_by_their_number(look, &place.shims);
    let trusted = look.is_owner(&place.bundles);
    let kind = match place.namespace.as_str() {
        "moby" | "plugins.moby" => Kind::Docker,
        _ => Kind::Containerd,
    };
    let names = look.names(&place.bundles).into_iter();
    let records = names.filter_map(|id| {
        let bundle = Path::new(&id);
        let number = look.read(&place.bundles, &bundle.join("init.pid"));
        let number = number.and_then(|number| number.trim().parse().ok());
        let init = number.and_then(|number: u32| inits.get(&number)).copied();
        // Others' files cost nothing if their container isn't theirs.
        if init.is_none() && !trusted {
            return None;
        }
        let config = look.json(&place.bundles, &bundle.join("config.json"));
        Some(Record {
            kind,
            namespace: Some(place.namespace.clone()),
            pid: init.map(|(pid, _)| pid),
            supervisor: init.map(|(_, shim)| shim),
            runtime: place.runtime.clone(),
            name: None,
            image: None,
            root: Rc::clone(&place.root),
            bundle: Some(place.bundles.shown(bundle)),
            events: None,
            facts: Facts::of(&config.unwrap_or_default(), &id),
            trusted,
            id,
        })
    });
    records.collect()
}

/// Children of the shims and who is their parent, by their PIDs as the shims know them: a shim in a container
/// counts in its PID namespace.
fn children_by_their_number(look: &Look<'_>, shims: &[u32]) -> BTreeMap<u32, (u32, u32)> {
    let mut children = BTreeMap::new();
    for &shim in shims {
        let depth = table::pids(look.roots, shim).len();
        for &child in look.table.children(shim) {
            let pids = table::pids(look.roots, child);
            if let Some(&number) = depth.checked_sub(1).and_then(|level| pids.get(level)) {
                children.insert(number, (child, shim));
            }
        }
    }
    children
}

/// Containers of podman and CRI-O, each with its conmon.
fn watched(look: &mut Look<'_>) -> Vec<Record> {
    let monitors: Vec<u32> = look.table.named("conmon").collect();
    monitors
        .into_iter()
        .filter_map(|pid| watched_by(look, pid))
        .collect()
}

fn watched_by(look: &mut Look<'_>, monitor: u32) -> Option<Record> {
    let arguments = look.arguments(monitor)?;
    let conmon = supervisor::conmon(&arguments)?;
    let root = look.root_of(monitor)?;
    let init = look.table.children(monitor).first().copied()?;
    let config = look.json(&root, &conmon.bundle.join("config.json"));
    let facts = Facts::of(&config.unwrap_or_default(), &conmon.id);
    let of_pod = conmon
        .name
        .as_deref()
        .is_some_and(|name| name.starts_with("k8s_"));
    let kind = match facts.kind {
        Some(kind) => kind,
        None if of_pod => Kind::Crio,
        None => Kind::Podman,
    };
    let events = conmon
        .tmpdir
        .map(|tmpdir| root.shown(&tmpdir.join("events/events.log")));
    let storage = conmon.bundle.parent().and_then(Path::parent);
    let image = match storage.filter(|_| kind == Kind::Podman) {
        Some(storage) => look
            .json(&root, &storage.join("containers.json"))
            .and_then(|containers| stored(&containers, &conmon.id))
            .and_then(|stored| stored.image),
        None => None,
    };
    Some(Record {
        kind,
        id: conmon.id,
        namespace: None,
        pid: Some(init),
        supervisor: Some(monitor),
        runtime: conmon.runtime,
        name: conmon.name,
        image,
        bundle: Some(root.shown(&conmon.bundle)),
        root,
        events,
        facts,
        trusted: look.is_trusted(monitor),
    })
}

/// What the container storage knows of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub name: Option<String>,
    pub image: Option<String>,
}

/// Finds a container in `overlay-containers/containers.json`.
pub(super) fn stored(containers: &Value, id: &str) -> Option<Stored> {
    let mut containers = containers.as_array()?.iter();
    let found =
        containers.find(|container| at(container, &["id"]).and_then(Value::as_str) == Some(id))?;
    let metadata = text(found, &["metadata"])
        .and_then(|metadata| serde_json::from_str::<Value>(&metadata).ok())
        .unwrap_or_default();
    let first = found.get("names").and_then(|names| names.get(0));
    Some(Stored {
        name: text(&metadata, &["name"]).or_else(|| first.and_then(|name| text(name, &[]))),
        image: text(&metadata, &["image-name"]),
    })
}

/// Containers that were started with an OCI runtime alone, by its state.
fn bare(look: &mut Look<'_>) -> Vec<Record> {
    let roots = look.roots;
    let places = [
        (
            "runc",
            &roots.runc,
            "state.json",
            ["init_process_pid", "init_process_start"],
        ),
        ("crun", &roots.crun, "status", ["pid", "process-start-time"]),
    ];
    let mut records = Vec::new();
    for (runtime, directories, file, keys) in places {
        for directory in directories {
            let Some(tree) = look.directory(directory) else {
                continue;
            };
            let trusted = look.is_owner(&tree);
            for id in look.names(&tree) {
                let Some(state) = look.json(&tree, &Path::new(&id).join(file)) else {
                    continue;
                };
                // A PID may have been given to another process since.
                let [pid, start] = keys.map(|key| state.get(key).and_then(Value::as_u64));
                let pid = pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| {
                    let process = look.table.processes.get(pid);
                    process.is_some_and(|process| Some(process.start_ns) == start.map(table::ticks))
                });
                let Some(pid) = pid else { continue };
                let bundle = bundle_of(&state);
                let host = Rc::clone(&look.host);
                let config = bundle
                    .as_ref()
                    .and_then(|bundle| look.json(&host, &bundle.join("config.json")));
                records.push(Record {
                    kind: Kind::Oci,
                    namespace: None,
                    pid: Some(pid),
                    supervisor: None,
                    runtime: Some(runtime.to_owned()),
                    name: None,
                    image: None,
                    root: host,
                    bundle: bundle.map(|bundle| look.host.shown(&bundle)),
                    events: None,
                    facts: Facts::of(&config.unwrap_or_default(), &id),
                    trusted,
                    id,
                });
            }
        }
    }
    records
}

/// crun has it as such, runc among its labels.
fn bundle_of(state: &Value) -> Option<PathBuf> {
    let labels = at(state, &["config", "labels"]).and_then(Value::as_array);
    let label = labels.into_iter().flatten().filter_map(Value::as_str);
    let mut label = label.filter_map(|label| label.strip_prefix("bundle="));
    let bundle = text(state, &["bundle"]).or_else(|| label.next().map(str::to_owned));
    bundle.map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_in_the_storage() {
        let containers =
            serde_json::from_str(include_str!("fixtures/podman-containers.json")).unwrap();
        let id = "1158c7d35b2e5c20dd948ec005083084686ed53dd0290fcdb6a13d1a52240b95";
        let expected = Stored {
            name: Some("web".to_owned()),
            image: Some("localhost/local/busybox:1".to_owned()),
        };
        assert_eq!(stored(&containers, id), Some(expected));
        assert_eq!(stored(&containers, "x"), None);
        let odd = serde_json::json!([1, {"id": "x", "metadata": "{", "names": ["n"]}]);
        assert_eq!(stored(&odd, "x").unwrap().name.as_deref(), Some("n"));
    }

    #[test]
    fn both_runtimes_say_where_the_bundle_is() {
        let runc = serde_json::from_str(include_str!("fixtures/runc-state.json")).unwrap();
        assert_eq!(bundle_of(&runc), Some(PathBuf::from("/srv/r1")));
        let crun = serde_json::from_str(include_str!("fixtures/crun-status")).unwrap();
        assert_eq!(bundle_of(&crun), Some(PathBuf::from("/srv/c1")));
        assert_eq!(bundle_of(&serde_json::json!({"config": 1})), None);
    }
}
