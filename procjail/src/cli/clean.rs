//! `procjail clean`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use crate::exit;
use crate::jail::{Fate, Item, clean, spec};
use crate::lab;

/// Remove what dead launchers left behind
///
/// A launcher that is killed takes its jail's processes and mounts with it, but not the empty cgroup
/// directories. They are removed here, or at the start of any jail. So are, here alone, the directories
/// (/tmp/procjail-lab.*) that a killed procjail lab left, with what is mounted in them. What belongs to a
/// living launcher or lab is never touched.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tell what would be removed, remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Only what is left of the jail of this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Look below the cgroup PATH, as jails that were started with this option are there
    #[arg(long, value_name = "PATH", value_parser = spec::cgroup_path)]
    cgroup_parent: Option<PathBuf>,
}

/// Runs the command: exit code 0 when nothing is left to remove, 125 otherwise.
///
/// # Errors
///
/// The host's cgroups can't be made out; standard output can't be written.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let items = clean(
        args.dry_run,
        args.name.as_deref(),
        args.cgroup_parent.as_deref(),
    )?;
    // Who names a jail means that jail.
    let labs = match args.name {
        None => lab::clean(args.dry_run),
        Some(_) => Vec::new(),
    };
    let text = report(&items, &labs, args.name.as_deref());
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")?;
    // Who names a jail wants it gone; that it runs is a failure then.
    let failed = items.iter().any(|item| match item.fate {
        Fate::Failed { .. } => true,
        Fate::Running(_) => args.name.is_some(),
        Fate::Found | Fate::Removed => false,
    });
    let failed = failed
        || labs
            .iter()
            .any(|left| matches!(left.fate, lab::Fate::Failed(_)));
    Ok(if failed { exit::FAILED } else { 0 })
}

/// What was found and done, one thing a line.
fn report(items: &[Item], labs: &[lab::Leftover], name: Option<&str>) -> String {
    let mut lines = Vec::new();
    for item in items {
        match &item.fate {
            Fate::Running(Some(pid)) => {
                lines.push(format!(
                    "kept jail {}: it is running (launcher {pid})",
                    item.name
                ));
            }
            Fate::Running(None) => lines.push(format!("kept jail {}: it is running", item.name)),
            Fate::Found => lines.extend(cgroups("would remove", &item.paths, &[])),
            Fate::Removed => lines.extend(cgroups("removed", &item.paths, &[])),
            Fate::Failed { left, why } => {
                lines.extend(cgroups("removed", &item.paths, left));
                lines.extend(cgroups("could not remove", left, &[]));
                lines.push(format!("could not remove jail {}: {why}", item.name));
            }
        }
    }
    for left in labs {
        let path = left.path.display();
        let mounts = |what: &str| {
            let line = |mount: &PathBuf| format!("{what} {}", mount.display());
            left.mounts.iter().map(line).collect::<Vec<_>>()
        };
        match &left.fate {
            lab::Fate::InUse => lines.push(format!("kept directory {path}: its lab is running")),
            lab::Fate::Found => {
                lines.extend(mounts("would unmount"));
                lines.push(format!("would remove directory {path}"));
            }
            lab::Fate::Removed => {
                lines.extend(mounts("unmounted"));
                lines.push(format!("removed directory {path}"));
            }
            lab::Fate::Failed(why) => {
                lines.push(format!("could not remove directory {path}: {why}"));
            }
        }
    }
    if lines.is_empty() {
        lines.push(match name {
            Some(name) => format!("nothing to remove: no jail named {name}"),
            None => "nothing to remove".to_owned(),
        });
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A line for each of the directories but those of `except`.
fn cgroups(what: &str, paths: &[PathBuf], except: &[PathBuf]) -> Vec<String> {
    paths
        .iter()
        .filter(|path| !except.contains(path))
        .map(|path| format!("{what} cgroup {}", path.display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, fate: Fate) -> Item {
        Item {
            name: name.to_owned(),
            paths: vec![format!("/cg/procjail/{name}").into()],
            fate,
        }
    }

    #[test]
    fn each_jail_is_told_with_what_became_of_it() {
        let items = [
            item("a", Fate::Running(Some(7))),
            item("b", Fate::Removed),
            item("c", Fate::Found),
            Item {
                paths: vec!["/cg/procjail/d".into(), "/v1/procjail/d".into()],
                ..item(
                    "d",
                    Fate::Failed {
                        left: vec!["/cg/procjail/d".into()],
                        why: "busy".to_owned(),
                    },
                )
            },
        ];
        assert_eq!(
            report(&items, &[], None),
            "kept jail a: it is running (launcher 7)\n\
             removed cgroup /cg/procjail/b\n\
             would remove cgroup /cg/procjail/c\n\
             removed cgroup /v1/procjail/d\n\
             could not remove cgroup /cg/procjail/d\n\
             could not remove jail d: busy\n"
        );
    }

    #[test]
    fn each_directory_of_a_lab_is_told_too() {
        let left = |name: &str, fate| lab::Leftover {
            path: format!("/tmp/{name}").into(),
            mounts: vec![format!("/tmp/{name}/mnt").into()],
            fate,
        };
        let labs = [
            left("a", lab::Fate::InUse),
            left("b", lab::Fate::Found),
            left("c", lab::Fate::Removed),
            left("d", lab::Fate::Failed("EBUSY".to_owned())),
        ];
        assert_eq!(
            report(&[], &labs, None),
            "kept directory /tmp/a: its lab is running\n\
             would unmount /tmp/b/mnt\n\
             would remove directory /tmp/b\n\
             unmounted /tmp/c/mnt\n\
             removed directory /tmp/c\n\
             could not remove directory /tmp/d: EBUSY\n"
        );
    }

    #[test]
    fn finding_nothing_is_said() {
        assert_eq!(report(&[], &[], None), "nothing to remove\n");
        assert_eq!(
            report(&[], &[], Some("x")),
            "nothing to remove: no jail named x\n"
        );
    }
}
