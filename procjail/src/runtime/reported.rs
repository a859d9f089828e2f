//! What a runtime says afterwards about a container or unit: read where it lies, to be compared with what was seen.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::container::{Container, Kind};
use super::files::{Tree, at, cut, text};

/// Time that systemd has to answer.
const DEADLINE: Duration = Duration::from_secs(1);

/// Time between two looks whether it has.
const GLANCE: Duration = Duration::from_millis(5);

/// The properties that are asked for.
const PROPERTIES: &str = "--property=ActiveState,Result,ExecMainCode,ExecMainStatus,\
                          ExecMainStartTimestamp,ExecMainExitTimestamp,NRestarts";

/// The runtime's own report. `None` is what it doesn't say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reported {
    /// Where it lies: a file, or the command that was asked.
    pub source: String,
    /// It runs.
    pub running: Option<bool>,
    /// The exit code as a shell has it: 128 and the number of the signal for a death by that.
    pub exit_code: Option<i64>,
    /// The runtime saw an OOM kill: of any process of the container.
    pub oom_killed: Option<bool>,
    /// systemd's `Result`: `success`, `exit-code`, `signal`, `timeout`, `oom-kill`.
    pub result: Option<String>,
    /// An error of the runtime, mostly one of starting.
    pub error: Option<String>,
    /// When the runtime started it, as it writes times.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// How often it was started again.
    pub restarts: Option<u64>,
}

/// Reads what the runtime says of a container, now; `None` if it says nothing where that can be read. systemd is
/// asked by systemctl(1), for a second at most.
pub fn reported(container: &Container) -> Option<Reported> {
    let report = match container.kind {
        // The host's systemd alone can be asked.
        Kind::Unit if container.supervisor == Some(1) => {
            return of_unit(&show(Path::new("systemctl"), &container.id, DEADLINE)?);
        }
        Kind::Docker => of_docker(&serde_json::from_str(&read(container)?).ok()?)?,
        Kind::Podman => of_podman(&read(container)?, &container.id)?,
        _ => return None,
    };
    Some(Reported {
        source: container.record.as_ref()?.to_string_lossy().into_owned(),
        ..report
    })
}

fn read(container: &Container) -> Option<String> {
    let record: &PathBuf = container.record.as_ref()?;
    let tree = Tree::open(record.parent()?).ok()?;
    tree.read(Path::new(record.file_name()?)).ok()
}

fn of_docker(config: &Value) -> Option<Reported> {
    let state = at(config, &["State"])?;
    let flag = |key: &str| state.get(key).and_then(Value::as_bool);
    // What hasn't happened is in the year 1.
    let time = |key: &str| text(state, &[key]).filter(|time| !time.starts_with("0001-"));
    Some(Reported {
        running: flag("Running"),
        exit_code: state.get("ExitCode").and_then(Value::as_i64),
        oom_killed: flag("OOMKilled"),
        error: text(state, &["Error"]),
        started_at: time("StartedAt"),
        finished_at: time("FinishedAt"),
        restarts: at(config, &["RestartCount"]).and_then(Value::as_u64),
        ..Reported::default()
    })
}

/// Goes through podman's event log, one JSON object a line. A line that is half-written tells nothing.
fn of_podman(log: &str, id: &str) -> Option<Reported> {
    let mut report: Option<Reported> = None;
    for line in log.lines().filter(|line| line.contains(id)) {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if event.get("ID").and_then(Value::as_str) != Some(id) {
            continue;
        }
        let time = text(&event, &["Time"]);
        match event.get("Status").and_then(Value::as_str) {
            Some("start") => {
                report = Some(Reported {
                    running: Some(true),
                    started_at: time,
                    ..Reported::default()
                });
            }
            Some("died") => {
                let report = report.get_or_insert_default();
                report.running = Some(false);
                report.exit_code = event.get("ContainerExitCode").and_then(Value::as_i64);
                report.finished_at = time;
            }
            _ => {}
        }
    }
    report
}

/// Takes the output of `systemctl show`.
fn of_unit(output: &str) -> Option<Reported> {
    let value = |key: &str| {
        let mut lines = output.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(found, _)| *found == key)?.1;
        (!found.is_empty()).then(|| cut(found).to_owned())
    };
    let active = value("ActiveState")?;
    let status: Option<i64> = value("ExecMainStatus").and_then(|status| status.parse().ok());
    let finished_at = value("ExecMainExitTimestamp");
    // waitid(2)'s si_code: CLD_EXITED, then CLD_KILLED and CLD_DUMPED.
    let exit_code = match value("ExecMainCode").as_deref() {
        Some("1") => status,
        Some("2" | "3") => status.map(|signal| signal.saturating_add(128)),
        _ => None,
    };
    let result = value("Result");
    Some(Reported {
        source: "systemctl show".to_owned(),
        running: Some(matches!(
            active.as_str(),
            "active" | "reloading" | "deactivating"
        )),
        exit_code,
        oom_killed: result.as_ref().map(|result| result == "oom-kill"),
        result,
        started_at: value("ExecMainStartTimestamp"),
        finished_at,
        restarts: value("NRestarts").and_then(|count| count.parse().ok()),
        ..Reported::default()
    })
}

/// Runs `systemctl show`, and kills it if it takes too long.
fn show(systemctl: &Path, unit: &str, time: Duration) -> Option<String> {
    let mut child = Command::new(systemctl)
        .args(["show", PROPERTIES, "--", unit])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + time;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(GLANCE),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
    // It fits into the pipe, and its writer has ended.
    let mut output = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut()?, &mut output).ok()?;
    Some(output)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OOMER: &str = "5cdbefcfba2d60b9e31ed56e3f3a2bf5ab403e191f2c5578f74a88632bfc7c70";
    const WEB: &str = "1158c7d35b2e5c20dd948ec005083084686ed53dd0290fcdb6a13d1a52240b95";

    #[test]
    fn docker_tells_how_it_ended() {
        let of = |text| of_docker(&serde_json::from_str(text).unwrap()).unwrap();
        let ended = of(include_str!("fixtures/docker-ended.json"));
        assert_eq!(ended.running, Some(false));
        assert_eq!((ended.exit_code, ended.oom_killed), (Some(137), Some(true)));
        let finished = ended.finished_at.unwrap();
        assert!(finished.starts_with("2026-11-29T10:58:46"), "{finished}");
        assert_eq!((ended.error, ended.restarts), (None, Some(0)));
        let running = of(include_str!("fixtures/docker-config.v2.json"));
        assert_eq!((running.running, running.finished_at), (Some(true), None));
        assert_eq!(
            of_docker(&serde_json::json!({"State": 1})),
            Some(Reported::default())
        );
    }

    #[test]
    fn podman_tells_it_in_its_log() {
        let log = include_str!("fixtures/podman-events.log");
        let ended = of_podman(log, OOMER).unwrap();
        assert_eq!((ended.running, ended.exit_code), (Some(false), Some(137)));
        assert!(ended.started_at < ended.finished_at);
        let running = of_podman(log, WEB).unwrap();
        assert_eq!((running.running, running.exit_code), (Some(true), None));
        assert_eq!(of_podman(log, "x"), None);
        // The last line is just being written.
        let half = log.split_at(log.len() - 30).0;
        assert!(of_podman(half, WEB).is_some());
    }

    #[test]
    fn systemd_tells_it_when_asked() {
        let output = "Result=timeout\nExecMainCode=2\nExecMainStatus=9\nActiveState=failed\n\
            ExecMainExitTimestamp=Sun 2026-11-29 11:00:00 UTC\nNRestarts=2\nExecMainStartTimestamp=\n";
        let report = of_unit(output).unwrap();
        assert_eq!((report.running, report.exit_code), (Some(false), Some(137)));
        assert_eq!(report.result.as_deref(), Some("timeout"));
        assert_eq!((report.restarts, report.started_at), (Some(2), None));
        assert_eq!(of_unit("Result=success\n"), None);
    }

    #[test]
    fn systemd_need_not_answer() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            let path = temp.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let show = |path: &Path| show(path, "web.service", Duration::from_millis(300));
        assert_eq!(
            show(&script("a", "#!/bin/sh\necho \"$4\"\n")).as_deref(),
            Some("web.service\n")
        );
        assert_eq!(show(&script("b", "#!/bin/sh\nexit 1\n")), None);
        let start = Instant::now();
        assert_eq!(show(&script("c", "#!/bin/sh\nexec sleep 20\n")), None);
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(show(&temp.path().join("d")), None);
    }

    proptest! {
        #[test]
        fn any_log_is_read(log in "([{}\":,\\n]|ID|x|Status|died|start|ContainerExitCode|1|=|Result|ActiveState){0,60}") {
            of_podman(&log, "x");
            of_unit(&log);
        }
    }
}
