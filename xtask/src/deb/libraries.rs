//! The licences of the libraries that are linked into the program, which want to go with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use super::output;
use crate::workspace::cargo;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    /// Where it was got from; nothing for the members of the workspace.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// Nothing for what is linked, `build` and `dev` for the rest.
    kind: Option<String>,
}

/// A list of the libraries for a target, or for all, then each text once, with those that it belongs to.
///
/// # Errors
///
/// Cargo's, or a file can't be read.
pub fn licences(triple: Option<&OsStr>) -> anyhow::Result<String> {
    let mut command = cargo(&["metadata", "--format-version=1", "--locked"]);
    if let Some(triple) = triple {
        command.arg("--filter-platform").arg(triple);
    }
    let metadata: Metadata = serde_json::from_str(&output(&mut command)?)?;
    let linked = linked(&metadata)?;
    let mut list =
        String::from("Libraries in /usr/bin/procjail, and the licences they are under:\n\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in &metadata.packages {
        if package.source.is_none() || !linked.contains(&package.id) {
            continue;
        }
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("see below");
        list += &format!("  {name}: {licence}\n");
        for text in texts_of(&package.manifest_path)? {
            let names = texts.entry(text).or_default();
            if names.last() != Some(&name) {
                names.push(name.clone());
            }
        }
    }
    for (text, names) in texts {
        list += &format!("\n{}\n{}:\n\n{text}\n", "-".repeat(78), names.join(", "));
    }
    Ok(list)
}

/// The packages that procjail is linked from.
fn linked(metadata: &Metadata) -> anyhow::Result<BTreeSet<String>> {
    let program = metadata
        .packages
        .iter()
        .find(|package| package.name == "procjail" && package.source.is_none());
    let mut waiting = vec![program.context("there is no package procjail")?.id.clone()];
    let mut found = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        let node = metadata.resolve.nodes.iter().find(|node| node.id == id);
        let linked = node
            .into_iter()
            .flat_map(|node| &node.deps)
            .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        for dependency in linked {
            if !found.contains(&dependency.pkg) {
                waiting.push(dependency.pkg.clone());
            }
        }
        found.insert(id);
    }
    Ok(found)
}

/// The licence files beside a manifest and below it, where sources of others are, in order of their paths.
fn texts_of(manifest: &Path) -> anyhow::Result<Vec<String>> {
    let mut paths = Vec::new();
    collect(manifest.parent().unwrap_or(manifest), &mut paths)?;
    paths.sort();
    let texts = paths.iter().map(|path| {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    });
    texts.collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), paths)?;
        } else if is_licence(&entry.path()) {
            paths.push(entry.path());
        }
    }
    Ok(())
}

fn is_licence(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_uppercase();
    [
        "LICENSE",
        "LICENCE",
        "COPYING",
        "COPYRIGHT",
        "NOTICE",
        "UNLICENSE",
    ]
    .iter()
    .any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_with_its_licence_and_nothing_else() {
        let licences = licences(None).expect("the licences");
        assert!(licences.contains("\n  aya 0.14"), "a library of its own");
        assert!(
            licences.contains("\n  zstd-sys 2"),
            "a library of a library"
        );
        assert!(licences.contains("Alexandre Bury"), "the text of zstd-sys");
        assert!(licences.contains("For Zstandard software"), "of zstd in it");
        assert!(!licences.contains("\n  trycmd "), "only the tests use it");
        assert!(!licences.contains("\n  procjail "));
        assert_eq!(licences.matches("\n  libc 0.2").count(), 1);
    }
}
