//! The listing: processes are put into the containers, units and cgroups that their paths lead through, and what
//! the runtimes have written down is put to those.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use serde::Serialize;

use super::container::{Cgroup, Container, Kind, Parent, Pod};
use super::docker::{self, Docker};
use super::files::Tree;
use super::look::{Look, Unread};
use super::path::{Mark, Marks, is_id, marks};
use super::records::{self, Record};
use super::roots::Roots;
use super::table::{self, Table};
use super::unit::Unit;
use super::{bundle::Facts, files};

/// Version of the listing's form in JSON.
const VERSION: u32 = 1;

/// What could be attached to.
#[derive(Clone, Debug, Serialize)]
pub struct List {
    /// Version of this form.
    pub version: u32,
    /// All targets, in the order of their kinds and names.
    pub targets: Vec<Container>,
    /// What could not be read.
    pub unread: Vec<Unread>,
    /// Processes with the innermost of `targets` that they are in.
    #[serde(skip)]
    pub(super) innermost: BTreeMap<u32, usize>,
    #[serde(skip)]
    pub(super) table: Table,
    #[serde(skip)]
    pub(super) roots: Roots,
}

/// Finds what runs on this host. What can't be read costs only what it would have told.
///
/// # Errors
///
/// There is no procfs.
pub fn list(roots: &Roots) -> std::io::Result<List> {
    let table = Table::read(roots)?;
    let host = Rc::new(Tree::open(&roots.host)?);
    let mut look = Look {
        roots,
        table: &table,
        host,
        unread: Vec::new(),
    };
    let records = records::all(&mut look);
    let drafts = Drafts::make(&table, &records);
    let finder = Finder {
        by_path: drafts.by_path.clone(),
        data: docker::data_of_daemons(&mut look),
        records: &records,
    };
    let mut targets: Vec<(usize, Container)> = Vec::new();
    for (index, draft) in drafts.all.iter().enumerate() {
        if let Some(container) = finder.container(&mut look, draft) {
            targets.push((index, container));
        }
    }
    targets.sort_by_cached_key(|(_, target)| order(target));
    let places: BTreeMap<usize, usize> = targets
        .iter()
        .enumerate()
        .map(|(place, (index, _))| (*index, place))
        .collect();
    let innermost = drafts.innermost.into_iter();
    let innermost = innermost.filter_map(|(pid, index)| Some((pid, *places.get(&index)?)));
    let mut targets: Vec<Container> = targets.into_iter().map(|(_, target)| target).collect();
    correct_parents(&mut targets);
    let unread = look.unread;
    Ok(List {
        version: VERSION,
        targets,
        unread,
        innermost: innermost.collect(),
        table,
        roots: roots.clone(),
    })
}

fn order(target: &Container) -> impl Ord + use<> {
    let pod = target.pod.clone().unwrap_or_default();
    let place = (
        target.kind,
        target.namespace.clone(),
        pod.namespace,
        pod.name,
    );
    (place, target.name.clone(), target.id.clone())
}

/// A parent's kind is what was found out about it, not only what its path tells.
fn correct_parents(targets: &mut [Container]) {
    let kinds: BTreeMap<String, Kind> = targets
        .iter()
        .filter(|target| is_id(&target.id))
        .map(|target| (target.id.clone(), target.kind))
        .collect();
    for parent in targets
        .iter_mut()
        .filter_map(|target| target.parent.as_mut())
    {
        if let Some(&kind) = kinds.get(&parent.id) {
            parent.kind = kind;
        }
    }
}

/// A target with the processes in it.
#[derive(Debug)]
struct Draft {
    mark: Mark,
    parent: Option<Parent>,
    members: BTreeSet<u32>,
    /// The record, if it is of this very cgroup.
    record: Option<usize>,
}

#[derive(Debug, Default)]
struct Drafts {
    all: Vec<Draft>,
    innermost: BTreeMap<u32, usize>,
    /// Kinds and IDs of containers that are recorded, by their cgroups.
    by_path: BTreeMap<String, (Kind, String)>,
}

impl Drafts {
    fn make(table: &Table, records: &[Record]) -> Drafts {
        let mut recorded = BTreeMap::new();
        let mut without = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let process = record.pid.and_then(|pid| table.processes.get(&pid));
            let Some(process) = process else { continue };
            let paths = process.cgroup.paths().filter(|path| *path != "/");
            let paths: Vec<String> = paths.map(|path| cut(path, record).to_owned()).collect();
            if paths.is_empty() {
                without.push(index);
            }
            for path in paths {
                recorded.entry(path).or_insert(index);
            }
        }
        let by_path: BTreeMap<String, (Kind, String)> = recorded
            .iter()
            .filter_map(|(path, &index)| {
                let record = records.get(index)?;
                Some((path.clone(), (record.kind, record.id.clone())))
            })
            .collect();
        let mut drafts = Drafts {
            by_path,
            ..Drafts::default()
        };
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for (&pid, process) in &table.processes {
            let Some(chain) = drafts.chain(&process.cgroup) else {
                continue;
            };
            let mut parent: Option<Parent> = None;
            for mark in chain {
                let own = Parent {
                    kind: mark.kind,
                    id: mark.id.clone(),
                };
                let place = *places.entry(mark.path.clone()).or_insert_with(|| {
                    let record = recorded.get(&mark.path).copied();
                    drafts.all.push(Draft {
                        mark,
                        parent: parent.take(),
                        members: BTreeSet::new(),
                        record,
                    });
                    drafts.all.len() - 1
                });
                if let Some(draft) = drafts.all.get_mut(place) {
                    draft.members.insert(pid);
                }
                drafts.innermost.insert(pid, place);
                parent = Some(own);
            }
        }
        drafts.add_without_cgroup(records, &without);
        drafts
    }

    /// Containers that run in the root cgroup.
    fn add_without_cgroup(&mut self, records: &[Record], without: &[usize]) {
        for &index in without {
            let Some((record, pid)) = records
                .get(index)
                .and_then(|record| Some((record, record.pid?)))
            else {
                continue;
            };
            self.innermost.insert(pid, self.all.len());
            self.all.push(Draft {
                mark: Mark {
                    kind: record.kind,
                    id: record.id.clone(),
                    path: "/".to_owned(),
                    pod: None,
                },
                parent: None,
                members: BTreeSet::from([pid]),
                record: Some(index),
            });
        }
    }

    /// What a process is in, the outermost first; `None` for what only watches a container, or is in nothing.
    /// The hierarchy that tells most counts: a process may be at the root of another.
    fn chain(&self, cgroup: &Cgroup) -> Option<Vec<Mark>> {
        let known = |path: &str| self.by_path.get(path).cloned();
        let all: Vec<Marks> = cgroup.paths().map(|path| marks(path, &known)).collect();
        if all.iter().any(|marks| marks.aside) {
            return None;
        }
        let most = all.iter().map(|marks| marks.chain.len()).max()?;
        let chain = all
            .into_iter()
            .find(|marks| marks.chain.len() == most)?
            .chain;
        if !chain.is_empty() {
            return Some(chain);
        }
        let path = cgroup.path();
        (path != "/").then(|| {
            vec![Mark {
                kind: Kind::Cgroup,
                id: path.to_owned(),
                path: path.to_owned(),
                pod: None,
            }]
        })
    }
}

/// The container's own cgroup on the path of its init, which may be in one that it made itself.
fn cut<'a>(path: &'a str, record: &Record) -> &'a str {
    let marked = marks(path, &|_| None).chain;
    let marked = marked.iter().rev().find(|mark| mark.id == record.id);
    if let Some(mark) = marked {
        return path.get(..mark.path.len()).unwrap_or(path);
    }
    // A name may be any word.
    if !record.trusted {
        return path;
    }
    let asked = record.facts.cgroup.as_deref();
    let asked = asked.filter(|asked| *asked != "/" && Path::new(path).starts_with(asked));
    if let Some(asked) = asked {
        return path
            .get(..asked.trim_end_matches('/').len())
            .unwrap_or(path);
    }
    let mut end = path.len();
    for component in path.rsplit('/') {
        if component == record.id {
            return path.get(..end).unwrap_or(path);
        }
        end = end.saturating_sub(component.len() + 1);
    }
    path
}

/// Puts together what is known of a target.
struct Finder<'a> {
    records: &'a [Record],
    by_path: BTreeMap<String, (Kind, String)>,
    /// Data directories of the host's dockerds.
    data: Vec<std::path::PathBuf>,
}

impl Finder<'_> {
    fn container(&self, look: &mut Look<'_>, draft: &Draft) -> Option<Container> {
        let record = self.record(draft);
        let pid = record
            .and_then(|record| record.pid)
            .or_else(|| init(look.table, draft))?;
        let process = look.table.processes.get(&pid)?;
        let cgroup = self.cgroup(&process.cgroup, &draft.mark);
        let (memory_bytes, memory_limit_bytes) = look.table.mounts.memory(&look.host, &cgroup);
        let kind = match record {
            // The path tells the engine, the state of a runtime doesn't.
            Some(record) if record.kind != Kind::Oci => record.kind,
            _ => draft.mark.kind,
        };
        let mut container = Container {
            kind,
            name: String::new(),
            id: draft.mark.id.clone(),
            namespace: record.and_then(|record| record.namespace.clone()),
            pod: None,
            container_name: None,
            sandbox: false,
            image: record.and_then(|record| record.image.clone()),
            runtime: record.and_then(|record| record.runtime.clone()),
            pid: Some(pid),
            supervisor: record.and_then(|record| record.supervisor),
            start_ns: Some(process.start_ns),
            age_ns: Some(table::age(process.start_ns)),
            cgroup,
            memory_bytes,
            memory_limit_bytes,
            parent: draft.parent.clone(),
            stop_signal: None,
            stop_timeout_ns: None,
            restarts: None,
            bundle: record.and_then(|record| record.bundle.clone()),
            record: record.and_then(|record| record.events.clone()),
        };
        let mut name = record.and_then(|record| record.name.clone());
        if let Some(record) = record {
            take(&mut container, &record.facts);
        }
        match kind {
            Kind::Docker | Kind::Oci => {
                if let Some(docker) = self.docker(look, draft, record) {
                    container.kind = Kind::Docker;
                    name = docker.name.clone().or(name);
                    take_docker(&mut container, docker);
                }
            }
            Kind::Crio | Kind::Podman if record.is_none() => {
                name = stored(look, &mut container).or(name);
            }
            Kind::Unit => {
                let unit = Unit::read(look, pid, &draft.mark.id);
                container.stop_signal = unit.stop_signal;
                container.stop_timeout_ns = unit.stop_timeout_ns;
                container.supervisor = unit.manager;
            }
            _ => {}
        }
        if let Some(uid) = &draft.mark.pod {
            let pod = container.pod.get_or_insert_default();
            pod.uid.get_or_insert_with(|| uid.clone());
        }
        container.name = name_of(&container, record, name);
        Some(container)
    }

    /// The record of this cgroup; else one of this ID, if root wrote it.
    fn record(&self, draft: &Draft) -> Option<&Record> {
        let by_path = draft.record.and_then(|index| self.records.get(index));
        by_path.or_else(|| {
            let mut records = self.records.iter();
            records
                .find(|record| record.trusted && record.pid.is_none() && record.id == draft.mark.id)
        })
    }

    /// Its own cgroups in all hierarchies, by those of a process in it: of what systemd started without the
    /// controllers of v1, those of the caller are not.
    fn cgroup(&self, of_process: &Cgroup, mark: &Mark) -> Cgroup {
        let known = |path: &str| self.by_path.get(path).cloned();
        let cut = |path: &Option<String>| {
            let path = path.as_deref()?;
            let chain = marks(path, &known).chain;
            let found = chain.iter().find(|found| found.id == mark.id);
            let found = found.map(|found| found.path.as_str());
            found
                .or((path == mark.path && path != "/").then_some(path))
                .map(str::to_owned)
        };
        Cgroup {
            unified: cut(&of_process.unified),
            memory: cut(&of_process.memory),
            pids: cut(&of_process.pids),
        }
    }

    /// dockerd's data lies where the bundle says, in the usual place, or where a daemon was told.
    fn docker(
        &self,
        look: &mut Look<'_>,
        draft: &Draft,
        record: Option<&Record>,
    ) -> Option<Docker> {
        let id = &draft.mark.id;
        if !is_id(id) {
            return None;
        }
        if let Some(record) = record
            && let Some(data) = &record.facts.docker_data
        {
            return Docker::read(look, &Rc::clone(&record.root), data, id);
        }
        if draft
            .parent
            .as_ref()
            .is_some_and(|parent| parent.kind != Kind::Unit)
        {
            return None;
        }
        let host = Rc::clone(&look.host);
        let places: Vec<_> = look
            .roots
            .docker
            .iter()
            .chain(&self.data)
            .cloned()
            .collect();
        places
            .iter()
            .find_map(|data| Docker::read(look, &host, data, id))
    }
}

/// The oldest of those whose parent is outside: what is executed later in a container is younger.
fn init(table: &Table, draft: &Draft) -> Option<u32> {
    let members = draft.members.iter().filter_map(|pid| {
        let process = table.processes.get(pid)?;
        let from_outside = !draft.members.contains(&process.parent);
        Some((!from_outside, process.start_ns, *pid))
    });
    members.min().map(|(.., pid)| pid)
}

fn take(container: &mut Container, facts: &Facts) {
    container.pod = facts.pod.clone();
    container.container_name = facts.container_name.clone();
    container.sandbox = facts.sandbox;
    container.image = container.image.take().or_else(|| facts.image.clone());
    container.stop_signal = facts.stop_signal;
    container.stop_timeout_ns = facts.stop_timeout_ns;
    container.restarts = facts.restarts;
}

fn take_docker(container: &mut Container, docker: Docker) {
    if docker.labels.pod.is_some() {
        take(container, &docker.labels);
    }
    container.image = docker.image.or(container.image.take());
    container.runtime = docker.runtime.or(container.runtime.take());
    container.stop_signal = docker.stop_signal.or(container.stop_signal);
    container.stop_timeout_ns = docker.stop_timeout_ns.or(container.stop_timeout_ns);
    container.restarts = docker.restarts.or(container.restarts);
    container.record = Some(docker.record);
}

/// Finds a container in the storage by its ID alone, and returns its name.
fn stored(look: &mut Look<'_>, container: &mut Container) -> Option<String> {
    if container
        .parent
        .as_ref()
        .is_some_and(|parent| parent.kind != Kind::Unit)
    {
        return None;
    }
    let host = Rc::clone(&look.host);
    for storage in look.roots.storage.clone() {
        let containers = storage.join("overlay-containers");
        let bundle = containers.join(&container.id).join("userdata");
        let Some(config) = look.json(&host, &bundle.join("config.json")) else {
            continue;
        };
        take(container, &Facts::of(&config, &container.id));
        container.bundle = Some(host.shown(&bundle));
        let list = look.json(&host, &containers.join("containers.json"));
        let stored = list.and_then(|list| records::stored(&list, &container.id));
        let stored = stored.unwrap_or_default();
        container.image = container.image.take().or(stored.image);
        return stored.name;
    }
    None
}

/// In a pod the name that the pod's specification gives, else the engine's, else the ID.
fn name_of(container: &Container, record: Option<&Record>, engine: Option<String>) -> String {
    let pod = container.pod.as_ref();
    let in_pod = match container.sandbox {
        true => pod.and_then(|pod: &Pod| pod.name.clone()),
        false => container.container_name.clone(),
    };
    let noted = || record.and_then(|record| record.facts.name.clone());
    let name = in_pod.or(engine).or_else(noted);
    name.map_or_else(|| container.id.clone(), |name| files::cut(&name).to_owned())
}
