//! What a remedy calls the settings of what others started: those of its runtime, where the rules name procjail's
//! options.

use crate::diagnose::{Case, Diagnosis};

/// Who started it.
#[derive(Clone, Copy)]
enum Owner {
    /// docker(1) or podman(1).
    Engine,
    Kubernetes,
    Systemd,
    /// Its cgroup is all that is known.
    Other,
}

/// An option of procjail, and what does the same for an engine, in a pod, in a unit, and for any cgroup.
const OPTIONS: [(&str, [&str; 4]); 15] = [
    (
        "--memory",
        ["--memory", "limits.memory", "MemoryMax=", "memory.max"],
    ),
    (
        "--memory-high",
        ["memory.high", "memory.high", "MemoryHigh=", "memory.high"],
    ),
    (
        "--swap",
        [
            "--memory-swap",
            "memory.swap.max",
            "MemorySwapMax=",
            "memory.swap.max",
        ],
    ),
    (
        "--oom-group",
        [
            "in its cgroup",
            "in its cgroup",
            "OOMPolicy=kill",
            "in its cgroup",
        ],
    ),
    (
        "--pids",
        ["--pids-limit", "podPidsLimit", "TasksMax=", "pids.max"],
    ),
    ("--cpus", ["--cpus", "limits.cpu", "CPUQuota=", "cpu.max"]),
    (
        "--init",
        ["--init", "shareProcessNamespace", "an init", "an init"],
    ),
    (
        "--stop-signal",
        [
            "--stop-signal",
            "STOPSIGNAL of the image",
            "KillSignal=",
            "the signal that its starter sends",
        ],
    ),
    (
        "--stop-timeout",
        [
            "--stop-timeout",
            "terminationGracePeriodSeconds",
            "TimeoutStopSec=",
            "the time that its starter gives",
        ],
    ),
    (
        "--user",
        [
            "--user",
            "securityContext.runAsUser",
            "User=",
            "whoever starts it",
        ],
    ),
    (
        "--tmpfs",
        ["--tmpfs", "emptyDir", "TemporaryFileSystem=", "a tmpfs"],
    ),
    (
        "--bind",
        ["--volume", "volumeMounts", "BindPaths=", "a bind mount"],
    ),
    (
        "--root",
        ["the image", "the image", "RootDirectory=", "its root"],
    ),
    (
        "--workdir",
        [
            "--workdir",
            "workingDir",
            "WorkingDirectory=",
            "its working directory",
        ],
    ),
    (
        "--net",
        ["--network", "hostNetwork", "PrivateNetwork=", "its network"],
    ),
];

fn owner(case: &Case) -> Option<Owner> {
    let container = case.header.jail.container.as_ref()?;
    Some(match (&container.pod, container.kind.as_str()) {
        (Some(_), _) => Owner::Kubernetes,
        (None, "docker" | "podman") => Owner::Engine,
        (None, "unit") => Owner::Systemd,
        (None, _) => Owner::Other,
    })
}

/// Puts the words of its owner into all remedies.
pub(super) fn rename(case: &Case, diagnoses: &mut [Diagnosis]) {
    if let Some(owner) = owner(case).filter(|_| !case.is_launched()) {
        diagnoses.iter_mut().for_each(|one| rename_one(owner, one));
    }
}

fn rename_one(owner: Owner, one: &mut Diagnosis) {
    one.remedy = say(owner, &one.remedy);
    one.consequences
        .iter_mut()
        .for_each(|one| rename_one(owner, one));
}

/// The text with the owner's words. What is code, and options of named programs, stay.
fn say(owner: Owner, text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_code = false;
    while let Some(at) = rest.find("--") {
        let (before, option) = rest.split_at(at);
        said.push_str(before);
        is_code ^= before.matches('`').count() % 2 == 1;
        let is_part = |char: char| char.is_ascii_alphanumeric() || char == '-';
        let end = option.find(|char| !is_part(char)).unwrap_or(option.len());
        let (option, after) = option.split_at(end);
        rest = after;
        let own = said.ends_with("procjail ");
        // `docker run --init` is docker's.
        let is_others = is_code || said.ends_with("run ");
        let words = OPTIONS.iter().find(|(name, _)| *name == option);
        match words {
            _ if option == "--rlimit" && !is_others => rest = limit(owner, rest, &mut said),
            Some((_, words)) if !is_others => {
                if own {
                    said.truncate(said.len() - "procjail ".len());
                }
                said.push_str(words[owner as usize]);
            }
            _ => said.push_str(option),
        }
    }
    said.push_str(rest);
    // Where the same was named for docker too.
    said.replace("--init, docker run --init", "docker run --init")
}

/// Says a resource limit, ` core=unlimited`, and returns what follows its name.
fn limit<'a>(owner: Owner, text: &'a str, said: &mut String) -> &'a str {
    let text = text.trim_start();
    let end = text.find(|char: char| !char.is_ascii_alphanumeric());
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    match owner {
        Owner::Engine => said.push_str(&format!("--ulimit {name}")),
        Owner::Systemd => said.push_str(&format!("Limit{}", name.to_ascii_uppercase())),
        Owner::Kubernetes | Owner::Other => said.push_str(&format!("prlimit --{name}")),
    }
    match (owner, rest.strip_prefix("=unlimited")) {
        (Owner::Engine, Some(rest)) => {
            said.push_str("=-1");
            rest
        }
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_name_what_the_owner_can_set() {
        let init = "Run an init (procjail --init, docker run --init, tini), or `x --memory`.";
        assert_eq!(
            say(Owner::Engine, init),
            "Run an init (docker run --init, tini), or `x --memory`."
        );
        assert_eq!(
            say(
                Owner::Kubernetes,
                "Give it more than 32 MiB (--memory), or less --maxmemory."
            ),
            "Give it more than 32 MiB (limits.memory), or less --maxmemory."
        );
        assert_eq!(
            say(Owner::Systemd, "Give it time: procjail --stop-timeout."),
            "Give it time: TimeoutStopSec=."
        );
        let core = "Record a core (--rlimit core=unlimited).";
        assert_eq!(
            say(Owner::Engine, core),
            "Record a core (--ulimit core=-1)."
        );
        assert_eq!(
            say(Owner::Systemd, core),
            "Record a core (LimitCORE=unlimited)."
        );
        assert_eq!(
            say(Owner::Other, core),
            "Record a core (prlimit --core=unlimited)."
        );
        assert_eq!(say(Owner::Other, "a -- b, --pids"), "a -- b, pids.max");
    }
}
