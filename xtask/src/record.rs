//! `cargo xtask record`: traces of the lab's scenarios, for tests of the rules without a kernel.
//!
//! They are recorded on a real kernel and committed, so that every rule is tried on every scenario's
//! trace on any machine. What names the recording machine is taken out.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use procjail::event::What;
use procjail::lab;
use procjail::trace;
use procjail::trace::Output;
use serde_json::Value;

use crate::vm;
use crate::workspace::{cargo, root, target};

/// Where the traces lie.
const TRACES: &str = "procjail/tests/traces";

/// The scenario cannot run on this machine: the exit code of `procjail lab`.
const NEEDS: i32 = 3;

/// Record the traces of the lab's scenarios again, as root
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these scenarios
    scenario: Vec<String>,
    /// In this virtual machine, such as 6.12-v2: for what needs cgroup v2, say; needs no root
    #[arg(long, value_name = "NAME", requires = "scenario")]
    machine: Option<String>,
}

/// Runs the task.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(machine) = &args.machine {
        return in_machine(machine, &args.scenario);
    }
    let status = cargo(&["build", "-p", "procjail"]).status()?;
    ensure!(status.success(), "cannot build procjail");
    // Not the build's own folder: its path is in every trace.
    let stage = std::env::temp_dir().join("procjail-record");
    std::fs::create_dir_all(&stage)?;
    let procjail = stage.join("procjail");
    std::fs::copy(target()?.join("debug/procjail"), &procjail)?;
    std::fs::create_dir_all(root().join(TRACES))?;
    let mut failed = false;
    for scenario in lab::all() {
        if !args.scenario.is_empty() && !args.scenario.iter().any(|id| id == scenario.id) {
            continue;
        }
        let raw = stage.join("trace.jsonl");
        let output = Command::new(&procjail)
            .args(["lab", scenario.id, "-o"])
            .arg(&raw)
            .current_dir(&stage)
            .output()?;
        match output.status.code() {
            Some(0) => keep(&raw, scenario.id)?,
            Some(NEEDS) => println!(
                "{:32} not here: the machine lacks what it needs",
                scenario.id
            ),
            _ => {
                failed = true;
                let said = String::from_utf8_lossy(&output.stderr);
                println!("{:32} FAILED: {}", scenario.id, said.trim());
            }
        }
    }
    std::fs::remove_dir_all(&stage)?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Records in a virtual machine.
fn in_machine(machine: &str, scenarios: &[String]) -> anyhow::Result<ExitCode> {
    let ids: Vec<&str> = scenarios.iter().map(String::as_str).collect();
    for id in &ids {
        ensure!(lab::find(id).is_some(), "there is no scenario {id}");
    }
    let stage = tempfile::tempdir()?;
    let raw = stage.path().join("trace.jsonl");
    let mut failed = false;
    vm::record(machine, &ids, &raw, |id, wrong| match wrong {
        None => keep(&raw, id),
        Some(said) => {
            failed = true;
            println!("{id:32} FAILED: {}", said.trim());
            Ok(())
        }
    })?;
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// A trace that shows what it should.
fn keep(raw: &Path, id: &str) -> anyhow::Result<()> {
    let to = root().join(TRACES).join(format!("{id}.jsonl.zst"));
    copy(raw, &to).with_context(|| id.to_owned())?;
    println!("{id:32} recorded");
    Ok(())
}

/// Copies a trace without what names the machine: its host name, and what procjail was started from.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut reader = trace::open(from)?;
    let mut header = reader.header().clone();
    header.host.hostname = "lab".to_owned();
    let mut writer = trace::Writer::create(to)?;
    writer.header(&header)?;
    for event in reader.by_ref() {
        let mut event = event?;
        if let What::Sender(sender) = &mut event.what {
            let own = sender
                .parents
                .iter()
                .take_while(|parent| parent.comm == "procjail");
            let own = own.count();
            sender.parents.truncate(own);
        }
        if let What::Counters(counters) = &mut event.what {
            for level in &mut counters.levels {
                // Where the jail shares a cgroup of the one who recorded.
                if level.path != "/" && !level.path.starts_with("/procjail") {
                    level.path = "/user".to_owned();
                }
            }
        }
        let mut value = serde_json::to_value(&event)?;
        // Whom a scenario left behind is none of the machine's.
        if !matches!(event.what, What::Leftover(_)) {
            rename(&mut value);
        }
        writer.event(&serde_json::from_value(value)?)?;
    }
    writer.footer(reader.footer())?;
    Ok(())
}

/// Takes the names out of processes of the machine that have nothing to do with the scenario: the kernel's
/// tell of timers and releases in the name of whoever runs.
fn rename(value: &mut Value) {
    const KEPT: [&str; 7] = [
        "procjail",
        "earlyoom",
        "kworker",
        "ksoftirqd",
        "swapper",
        "rcu",
        "oom_reaper",
    ];
    match value {
        Value::Object(fields) => {
            let stranger = fields.get("in_jail") == Some(&Value::Bool(false))
                && fields.get("jail_pid").is_some_and(Value::is_null);
            if let (true, Some(Value::String(comm))) = (stranger, fields.get_mut("comm"))
                && !KEPT.iter().any(|kept| comm.starts_with(kept))
                && !comm.is_empty()
            {
                *comm = "other".to_owned();
            }
            fields.values_mut().for_each(rename);
        }
        Value::Array(values) => values.iter_mut().for_each(rename),
        _ => {}
    }
}
