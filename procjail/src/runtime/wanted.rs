//! Which target is meant: `TARGET` on the command line, and what it stands for.

use std::fmt;

use thiserror::Error;

use super::container::{Container, Kind};
use super::files::Tree;
use super::list::List;
use super::table;

/// Most names that an error suggests.
const MOST_NAMES: usize = 3;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The container, unit or cgroup that this process is in.
    Pid(u32),
    /// A cgroup, by its path in a hierarchy or on the host.
    Cgroup(String),
    /// A container or unit, by its name, ID or the beginning of its ID.
    Named {
        /// Who made it.
        kind: Kind,
        /// containerd's namespace.
        namespace: Option<String>,
        /// The name or ID.
        name: String,
    },
    /// A container of a pod; without its name the only one.
    Pod {
        /// The pod's namespace.
        namespace: Option<String>,
        /// The pod.
        pod: String,
        /// The container.
        container: Option<String>,
    },
    /// Whatever has this name or ID.
    Word(String),
}

impl fmt::Display for Wanted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Pid(pid) => write!(out, "{pid}"),
            Wanted::Cgroup(path) => write!(out, "cgroup:{}", path.escape_debug()),
            Wanted::Named {
                kind,
                namespace,
                name,
            } => {
                write!(out, "{}:", kind.word())?;
                if let Some(namespace) = namespace {
                    write!(out, "{}/", namespace.escape_debug())?;
                }
                write!(out, "{}", name.escape_debug())
            }
            Wanted::Pod {
                namespace,
                pod,
                container,
            } => {
                let parts = [namespace.as_deref(), Some(pod), container.as_deref()];
                let parts: Vec<&str> = parts.into_iter().flatten().collect();
                write!(out, "pod:{}", parts.join("/").escape_debug())
            }
            Wanted::Word(word) => write!(out, "{}", word.escape_debug()),
        }
    }
}

/// Takes `TARGET` apart. Any text stands for something.
pub fn parse(text: &str) -> Wanted {
    let whole = || Wanted::Word(text.to_owned());
    if let Ok(pid) = text.parse() {
        return Wanted::Pid(pid);
    }
    if text.starts_with('/') {
        return Wanted::Cgroup(text.to_owned());
    }
    let Some((prefix, rest)) = text.split_once(':') else {
        return whole();
    };
    match prefix {
        "cgroup" => Wanted::Cgroup(rest.to_owned()),
        "pod" => pod(rest),
        _ => {
            let kind = Kind::NAMED.into_iter().find(|kind| kind.word() == prefix);
            let Some(kind) = kind else { return whole() };
            let (namespace, name) = match rest.split_once('/') {
                Some((namespace, name)) if kind == Kind::Containerd => {
                    (Some(namespace.to_owned()), name)
                }
                _ => (None, rest),
            };
            Wanted::Named {
                kind,
                namespace,
                name: name.to_owned(),
            }
        }
    }
}

/// `NAMESPACE/POD/CONTAINER`, `NAMESPACE/POD`, or `POD`.
fn pod(text: &str) -> Wanted {
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    let first = parts.next().unwrap_or_default();
    match parts.next() {
        Some(pod) => Wanted::Pod {
            namespace: Some(first),
            pod,
            container: parts.next(),
        },
        None => Wanted::Pod {
            namespace: None,
            pod: first,
            container: None,
        },
    }
}

/// One of several targets that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What stands for it alone, or at least says more: `docker:web`.
    pub target: String,
    /// Its ID.
    pub id: String,
    /// Its PID 1.
    pub pid: Option<u32>,
    /// Its cgroup.
    pub cgroup: String,
}

impl fmt::Display for Hit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.target.escape_debug())?;
        let short: String = self.id.chars().take(12).collect();
        if self.target.ends_with(&self.id) {
            write!(out, " (")?;
        } else {
            write!(out, " ({}, ", short.escape_debug())?;
        }
        if let Some(pid) = self.pid {
            write!(out, "PID {pid}, ")?;
        }
        write!(out, "cgroup {})", self.cgroup.escape_debug())
    }
}

/// Why there is no target. The messages have no control characters.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// Nothing of that name runs.
    #[error("no target {wanted} runs on this host{}", nearest(near))]
    NotFound {
        /// What was asked for.
        wanted: Wanted,
        /// Names like it.
        near: Vec<String>,
    },
    /// The name stands for several.
    #[error(
        "{wanted} may be any of {}: say which one, or give its PID",
        listed(hits)
    )]
    Ambiguous {
        /// What was asked for.
        wanted: Wanted,
        /// All that it may be.
        hits: Vec<Hit>,
    },
}

fn nearest(near: &[String]) -> String {
    match near {
        [] => ": see `procjail attach --list`".to_owned(),
        near => {
            let near: Vec<String> = near
                .iter()
                .map(|name| name.escape_debug().to_string())
                .collect();
            format!("; there is {}", near.join(", "))
        }
    }
}

fn listed(hits: &[Hit]) -> String {
    let hits: Vec<String> = hits.iter().map(Hit::to_string).collect();
    hits.join(", ")
}

/// Finds what is meant.
///
/// # Errors
///
/// Nothing is, or several things are.
pub fn resolve(wanted: &Wanted, list: &List) -> Result<Container, Error> {
    let not_found = || Error::NotFound {
        wanted: wanted.clone(),
        near: near(wanted, list),
    };
    match wanted {
        Wanted::Pid(pid) => of_process(*pid, list).ok_or_else(not_found),
        Wanted::Cgroup(path) => of_cgroup(path, list).ok_or_else(not_found),
        _ => match hits(wanted, list).as_slice() {
            [] => Err(not_found()),
            [one] => Ok((*one).clone()),
            several => Err(Error::Ambiguous {
                wanted: wanted.clone(),
                hits: several.iter().map(|hit| Hit::of(hit)).collect(),
            }),
        },
    }
}

impl Hit {
    fn of(container: &Container) -> Hit {
        Hit {
            target: container.target(),
            id: container.id.clone(),
            pid: container.pid,
            cgroup: container.cgroup.path().to_owned(),
        }
    }
}

/// All that a name stands for. A whole name or ID counts before the beginning of an ID, as in docker.
fn hits<'a>(wanted: &Wanted, list: &'a List) -> Vec<&'a Container> {
    let all = |fits: &dyn Fn(&Container) -> bool| -> Vec<&'a Container> {
        list.targets.iter().filter(|target| fits(target)).collect()
    };
    match wanted {
        Wanted::Pid(_) | Wanted::Cgroup(_) => Vec::new(),
        Wanted::Named {
            kind,
            namespace,
            name,
        } => {
            let of_kind = |target: &Container| {
                target.kind == *kind && (namespace.is_none() || target.namespace == *namespace)
            };
            let exact = all(&|target| of_kind(target) && is_called(target, name));
            match exact.is_empty() {
                true => all(&|target| of_kind(target) && begins(target, name)),
                false => exact,
            }
        }
        Wanted::Pod {
            namespace,
            pod,
            container,
        } => all(&|target| {
            is_in_pod(target, namespace.as_deref(), pod)
                && (container.is_none() || target.container_name == *container)
        }),
        Wanted::Word(word) => {
            let pod = word.split_once('/');
            let exact = all(&|target| {
                let in_pod = match pod {
                    Some((namespace, pod)) => is_in_pod(target, Some(namespace), pod),
                    None => is_in_pod(target, None, word),
                };
                is_called(target, word) || in_pod
            });
            match exact.is_empty() {
                true => all(&|target| begins(target, word)),
                false => exact,
            }
        }
    }
}

/// It has this name or ID. A unit may be called without `.service`; a sandbox has the pod's name, but who gives
/// that means what runs in the pod.
fn is_called(target: &Container, name: &str) -> bool {
    let by_name = target.name == name && !target.sandbox;
    let as_unit = target.kind == Kind::Unit && target.name.strip_suffix(".service") == Some(name);
    let as_path = target.kind == Kind::Cgroup && target.id.strip_prefix('/') == Some(name);
    !name.is_empty() && (by_name || as_unit || as_path || target.id == name)
}

fn begins(target: &Container, name: &str) -> bool {
    !name.is_empty() && super::path::is_id(&target.id) && target.id.starts_with(name)
}

fn is_in_pod(target: &Container, namespace: Option<&str>, pod: &str) -> bool {
    let Some(of) = &target.pod else { return false };
    let here = namespace.is_none() || of.namespace.as_deref() == namespace;
    !target.sandbox && here && of.name.as_deref() == Some(pod)
}

/// The innermost container or unit of a process; the process itself if it is in none.
fn of_process(pid: u32, list: &List) -> Option<Container> {
    if let Some(target) = list
        .innermost
        .get(&pid)
        .and_then(|&place| list.targets.get(place))
    {
        return Some(target.clone());
    }
    let process = list.table.processes.get(&pid)?;
    let mut container = Container::plain(Kind::Process, pid.to_string());
    container.name = process.comm.clone();
    container.cgroup = process.cgroup.clone();
    container.started(pid, process.start_ns);
    Some(container)
}

/// What has this cgroup; else the cgroup itself, if there is one.
fn of_cgroup(path: &str, list: &List) -> Option<Container> {
    let path = format!("/{}", path.trim_matches('/'));
    let host = Tree::open(&list.roots.host).ok()?;
    let cgroup = list.table.mounts.find(&host, &path);
    let real = cgroup.paths().next()?;
    let known = list
        .targets
        .iter()
        .find(|target| target.cgroup.paths().any(|at| at == real));
    if let Some(known) = known.filter(|_| real != "/") {
        return Some(known.clone());
    }
    let mut container = Container::plain(Kind::Cgroup, real.to_owned());
    let inside = |at: &str| std::path::Path::new(at).starts_with(real);
    let members = list.table.processes.iter();
    let members = members.filter(|(_, process)| process.cgroup.paths().any(inside));
    if let Some((&pid, process)) = members.min_by_key(|(pid, process)| (process.start_ns, **pid)) {
        container.started(pid, process.start_ns);
    }
    (container.memory_bytes, container.memory_limit_bytes) =
        list.table.mounts.memory(&host, &cgroup);
    container.cgroup = cgroup;
    Some(container)
}

/// Names like what was asked for.
fn near(wanted: &Wanted, list: &List) -> Vec<String> {
    let word = match wanted {
        Wanted::Pid(_) => return Vec::new(),
        Wanted::Cgroup(path) => path,
        Wanted::Named { name, .. } => name,
        Wanted::Pod { container, pod, .. } => container.as_ref().unwrap_or(pod),
        Wanted::Word(word) => word,
    };
    let of_kind = |target: &Container| match wanted {
        Wanted::Named { kind, .. } => target.kind == *kind,
        _ => true,
    };
    let mut near: Vec<(bool, usize, String)> = Vec::new();
    for target in list.targets.iter().filter(|target| !target.sandbox) {
        let pod = target.pod.as_ref().and_then(|pod| pod.name.as_deref());
        let names = [
            Some(target.name.as_str()),
            target.name.strip_suffix(".service"),
            pod,
        ];
        let distance = names
            .into_iter()
            .flatten()
            .map(|name| distance(name, word))
            .min();
        // A third of the word may be wrong.
        let far = word.chars().count() / 3 + 1;
        if let Some(distance) = distance.filter(|&distance| distance <= far) {
            near.push((!of_kind(target), distance, target.target()));
        }
    }
    near.sort();
    near.dedup();
    near.into_iter()
        .take(MOST_NAMES)
        .map(|(.., name)| name)
        .collect()
}

/// Letters to put in, take out or change to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    /// Names are no longer; what lies behind is not compared.
    const LONGEST: usize = 128;
    let other: Vec<char> = other.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, from) in one.chars().take(LONGEST).enumerate() {
        let mut next = vec![line + 1];
        for ((&diagonal, &above), &to) in row.iter().zip(row.iter().skip(1)).zip(&other) {
            let left = next.last().copied().unwrap_or_default();
            let changed = diagonal + usize::from(from != to);
            next.push(changed.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

impl Container {
    /// Something of which only this is known.
    pub(crate) fn plain(kind: Kind, id: String) -> Container {
        Container {
            kind,
            name: id.clone(),
            id,
            namespace: None,
            pod: None,
            container_name: None,
            sandbox: false,
            image: None,
            runtime: None,
            pid: None,
            supervisor: None,
            start_ns: None,
            age_ns: None,
            cgroup: super::Cgroup::default(),
            memory_bytes: None,
            memory_limit_bytes: None,
            parent: None,
            stop_signal: None,
            stop_timeout_ns: None,
            restarts: None,
            bundle: None,
            record: None,
        }
    }

    fn started(&mut self, pid: u32, start_ns: u64) {
        self.pid = Some(pid);
        self.start_ns = Some(start_ns);
        self.age_ns = Some(table::age(start_ns));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(kind: Kind, namespace: Option<&str>, name: &str) -> Wanted {
        Wanted::Named {
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    #[test]
    fn each_form_is_understood() {
        let pod = |namespace: Option<&str>, pod: &str, container: Option<&str>| Wanted::Pod {
            namespace: namespace.map(str::to_owned),
            pod: pod.to_owned(),
            container: container.map(str::to_owned),
        };
        let forms = [
            ("4121", Wanted::Pid(4121)),
            ("cgroup:/a/b", Wanted::Cgroup("/a/b".to_owned())),
            (
                "/sys/fs/cgroup/a",
                Wanted::Cgroup("/sys/fs/cgroup/a".to_owned()),
            ),
            ("docker:web", named(Kind::Docker, None, "web")),
            (
                "containerd:k8s.io/8656",
                named(Kind::Containerd, Some("k8s.io"), "8656"),
            ),
            ("containerd:web", named(Kind::Containerd, None, "web")),
            ("unit:web.service", named(Kind::Unit, None, "web.service")),
            ("pod:shop/web-0", pod(Some("shop"), "web-0", None)),
            (
                "pod:shop/web-0/app",
                pod(Some("shop"), "web-0", Some("app")),
            ),
            ("pod:web-0", pod(None, "web-0", None)),
            ("web", Wanted::Word("web".to_owned())),
            ("other:web", Wanted::Word("other:web".to_owned())),
            // No PID has so many digits: the beginning of an ID.
            ("865638000000", Wanted::Word("865638000000".to_owned())),
            ("", Wanted::Word(String::new())),
        ];
        for (text, wanted) in forms {
            assert_eq!(parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn errors_have_no_control_characters() {
        let error = Error::Ambiguous {
            wanted: parse("docker:\u{1b}[31m"),
            hits: vec![Hit {
                target: "docker:\u{202e}a\n".to_owned(),
                id: "x\u{7}".to_owned(),
                pid: Some(3),
                cgroup: "/\t".to_owned(),
            }],
        };
        let text = error.to_string();
        assert!(
            !text.contains(|char: char| char.is_control() || char == '\u{202e}'),
            "{text}"
        );
    }

    #[test]
    fn the_distance_counts_letters() {
        let distances = [
            ("web", "web", 0),
            ("wed", "web", 1),
            ("", "web", 3),
            ("weeb", "wb", 2),
        ];
        for (one, other, expected) in distances {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    proptest! {
        #[test]
        fn any_text_stands_for_something(text in "\\PC*|(pod|docker|containerd|cgroup|unit|[0-9]{0,20})?:?[a-z/]{0,9}") {
            let wanted = parse(&text);
            // What it is printed as stands for the same.
            if !matches!(wanted, Wanted::Word(_)) && !text.contains(|char: char| !char.is_ascii() || "\\'\"".contains(char)) {
                prop_assert_eq!(parse(&wanted.to_string()), wanted);
            }
        }
    }
}
