//! What the command lines of runtimes' processes tell.

use std::path::PathBuf;

use serde_json::Value;

use super::files::text;

/// `containerd-shim-runc-v2 -namespace k8s.io -id ID -address SOCKET`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shim {
    /// containerd's namespace.
    pub namespace: String,
    /// The runtime behind it: `runc`.
    pub runtime: Option<String>,
}

/// Takes a shim's arguments.
pub(super) fn shim(arguments: &[String]) -> Option<Shim> {
    let program = arguments.first()?.rsplit('/').next()?;
    let kind = program.strip_prefix("containerd-shim")?;
    let runtime = kind
        .strip_prefix('-')
        .and_then(|kind| kind.split('-').next());
    Some(Shim {
        namespace: value_of(arguments, &["-namespace", "--namespace"])?.to_owned(),
        runtime: runtime.map(str::to_owned),
    })
}

/// `conmon -c ID -u ID -r RUNTIME -b BUNDLE -n NAME …`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conmon {
    /// ID of the container.
    pub id: String,
    /// Its name, as the engine calls it.
    pub name: Option<String>,
    /// Directory of its `config.json`.
    pub bundle: PathBuf,
    /// Name of the runtime's program.
    pub runtime: Option<String>,
    /// podman's own directory for what is gone after a boot (`--tmpdir`).
    pub tmpdir: Option<PathBuf>,
}

/// Takes conmon's arguments; `None` for one that watches a process executed in a container.
pub(super) fn conmon(arguments: &[String]) -> Option<Conmon> {
    let mut own = Vec::new();
    let mut for_exit = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            // What follows is meant for other programs.
            "--exit-command-arg" => for_exit.extend(rest.next().cloned()),
            "--runtime-arg" | "--runtime-opt" => drop(rest.next()),
            _ => own.push(argument.clone()),
        }
    }
    let executes = ["-e", "--exec", "--exec-attach", "--exec-process-spec"];
    if own
        .iter()
        .any(|argument| executes.contains(&argument.as_str()))
    {
        return None;
    }
    let runtime = value_of(&own, &["-r", "--runtime"]);
    let runtime = runtime.and_then(|path| path.rsplit('/').next());
    Some(Conmon {
        id: value_of(&own, &["-c", "--cid"])?.to_owned(),
        name: value_of(&own, &["-n", "--name"]).map(str::to_owned),
        bundle: PathBuf::from(value_of(&own, &["-b", "--bundle"])?),
        runtime: runtime.map(str::to_owned),
        tmpdir: value_of(&for_exit, &["--tmpdir"]).map(PathBuf::from),
    })
}

/// Where a dockerd keeps its data and its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dockerd {
    /// Its data, if the command line says that.
    pub data: Option<PathBuf>,
    /// The file that may say it.
    pub config: PathBuf,
}

/// Takes dockerd's arguments.
pub(super) fn dockerd(arguments: &[String]) -> Dockerd {
    let data = value_of(arguments, &["--data-root", "-g", "--graph"]);
    let config = value_of(arguments, &["--config-file"]);
    Dockerd {
        data: data.map(PathBuf::from),
        config: PathBuf::from(config.unwrap_or("/etc/docker/daemon.json")),
    }
}

/// dockerd's data by its `daemon.json`.
pub(super) fn docker_data(config: &Value) -> Option<PathBuf> {
    let data = text(config, &["data-root"]).or_else(|| text(config, &["graph"]));
    data.map(PathBuf::from)
}

/// `NAME VALUE` or `NAME=VALUE`.
fn value_of<'a>(arguments: &'a [String], names: &[&str]) -> Option<&'a str> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if names.contains(&argument.as_str()) {
            return rest
                .next()
                .map(String::as_str)
                .filter(|value| !value.is_empty());
        }
        let value = argument
            .split_once('=')
            .filter(|(name, _)| names.contains(name));
        if let Some((_, value)) = value {
            return Some(value).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "1158c7d35b2e5c20dd948ec005083084686ed53dd0290fcdb6a13d1a52240b95";

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_shim_says_its_namespace() {
        let line = "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id x -address /run/c.sock";
        let expected = Shim {
            namespace: "k8s.io".to_owned(),
            runtime: Some("runc".to_owned()),
        };
        assert_eq!(shim(&words(line)), Some(expected));
        assert_eq!(shim(&words("containerd-shim-runc-v2 -namespace")), None);
        assert_eq!(shim(&words("sleep -namespace x")), None);
        assert_eq!(shim(&[]), None);
    }

    #[test]
    fn conmon_says_nearly_all() {
        let arguments: Vec<String> = include_str!("fixtures/podman-conmon.cmdline")
            .lines()
            .map(str::to_owned)
            .collect();
        let conmon = conmon(&arguments).unwrap();
        assert_eq!(
            (conmon.id.as_str(), conmon.name.as_deref()),
            (ID, Some("web"))
        );
        assert_eq!(conmon.runtime.as_deref(), Some("runc"));
        let bundle = format!("/var/lib/containers/storage/overlay-containers/{ID}/userdata");
        assert_eq!(conmon.bundle, PathBuf::from(bundle));
        assert_eq!(conmon.tmpdir, Some(PathBuf::from("/run/libpod")));
    }

    #[test]
    fn conmon_of_an_executed_process_is_none_of_a_container() {
        let line = format!("conmon -c {ID} -u abc -b /x --exec-attach -e --exec-process-spec /p");
        assert_eq!(conmon(&words(&line)), None);
        // Such words in what is to be executed at the end mean nothing here.
        let line = format!("conmon --cid {ID} --bundle=/x --exit-command-arg -e --runtime-arg -e");
        assert_eq!(conmon(&words(&line)).unwrap().id, ID);
        assert_eq!(conmon(&words("conmon -b /x")), None);
    }

    #[test]
    fn dockerd_has_its_data_elsewhere_if_it_says_so() {
        let elsewhere = dockerd(&words(
            "dockerd --data-root=/srv/d --config-file /srv/d.json",
        ));
        assert_eq!(elsewhere.data, Some(PathBuf::from("/srv/d")));
        assert_eq!(elsewhere.config, PathBuf::from("/srv/d.json"));
        let usual = dockerd(&words("dockerd -H fd://"));
        assert_eq!(usual.data, None);
        assert_eq!(usual.config, PathBuf::from("/etc/docker/daemon.json"));
        let config = serde_json::json!({"data-root": "/srv/e"});
        assert_eq!(docker_data(&config), Some(PathBuf::from("/srv/e")));
        assert_eq!(docker_data(&serde_json::json!({"data-root": 1})), None);
    }

    proptest! {
        #[test]
        fn any_arguments_are_taken(arguments in proptest::collection::vec("\\PC{0,6}|-[cubnre]|--(cid|bundle|exec|exit-command-arg|data-root)=?x?|conmon|containerd-shim(-runc-v2)?|-namespace", 0..12)) {
            shim(&arguments);
            conmon(&arguments);
            dockerd(&arguments);
        }
    }
}
