//! `cargo xtask ebpf`: the BPF object from its sources.
//!
//! The object is committed, so that building procjail needs a stable compiler and nothing else; a
//! record beside it tells the tool chain and a digest of the sources that it came from. With the same
//! tool chain the same sources give the same bytes on any machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Build the BPF object, and commit the result
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Build it elsewhere, and fail if the committed one is not what the sources give
    #[arg(long)]
    check: bool,
}

/// The committed object.
const OBJECT: &str = "procjail/bpf/procjail.bpf.o";
/// What it was made of, and with.
const RECORD: &str = "procjail/bpf/procjail.bpf.toml";
/// Everything that goes into it.
const SOURCES: [&str; 5] = [
    "procjail-ebpf/Cargo.toml",
    "procjail-ebpf/Cargo.lock",
    "procjail-ebpf/src",
    "procjail-common/Cargo.toml",
    "procjail-common/src",
];
const TARGET: &str = "bpfel-unknown-none";

/// The file beside the object.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// `rustc --version`, with the LLVM it brings.
    rustc: String,
    /// `bpf-linker --version`.
    linker: String,
    /// SHA-256 of the names and contents of all sources.
    sources_sha256: String,
}

/// A compiler that can build `core` for BPF, and the linker.
struct ToolChain {
    rustc: PathBuf,
    cargo: PathBuf,
    /// A stable compiler that is told to act as an unstable one.
    bootstrap: bool,
    sysroot: PathBuf,
    rustc_version: String,
    linker_version: String,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.check { check() } else { build() }
}

/// Builds the object and its record in place.
pub fn build() -> anyhow::Result<()> {
    let root = root()?;
    let tool_chain = ToolChain::find()?;
    let fresh = compile(&root, &tool_chain)?;
    let record = Record {
        rustc: tool_chain.rustc_version.clone(),
        linker: tool_chain.linker_version.clone(),
        sources_sha256: digest(&root)?,
    };
    fs::copy(&fresh, root.join(OBJECT)).with_context(|| format!("cannot write {OBJECT}"))?;
    let text = format!(
        "# Written by `cargo xtask ebpf`: what procjail.bpf.o was made of, and with.\n{}",
        toml::to_string(&record)?
    );
    fs::write(root.join(RECORD), text).with_context(|| format!("cannot write {RECORD}"))?;
    eprintln!(
        "wrote {OBJECT} and {RECORD} ({}, {})",
        record.rustc, record.linker
    );
    Ok(())
}

/// Builds the object elsewhere and compares; prints where it is, to run the tests on it.
pub fn check() -> anyhow::Result<()> {
    let root = root()?;
    let text = fs::read_to_string(root.join(RECORD)).with_context(|| {
        format!("cannot read {RECORD}; run `cargo xtask ebpf` and commit the result")
    })?;
    let record: Record = toml::from_str(&text).with_context(|| format!("cannot parse {RECORD}"))?;
    let sources = digest(&root)?;
    ensure!(
        sources == record.sources_sha256,
        "{OBJECT} is stale: its sources have changed since it was built; run `cargo xtask ebpf` \
         and commit the result"
    );
    let tool_chain = ToolChain::find()?;
    let fresh = compile(&root, &tool_chain)?;
    if tool_chain.rustc_version == record.rustc && tool_chain.linker_version == record.linker {
        let bytes =
            |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        ensure!(
            bytes(&fresh)? == bytes(&root.join(OBJECT))?,
            "{OBJECT} is not what its sources give with the recorded tool chain (compare it with \
             {}); run `cargo xtask ebpf` and commit the result",
            fresh.display()
        );
        eprintln!("{OBJECT} is what its sources give");
    } else {
        eprintln!(
            "WARNING: the bytes of {OBJECT} were NOT compared, only the digest of its sources.\n\
             WARNING: it was built with  {}, {}\n\
             WARNING: this machine has   {}, {}",
            record.rustc, record.linker, tool_chain.rustc_version, tool_chain.linker_version
        );
    }
    eprintln!("to run the tests on the fresh object:");
    println!("PROCJAIL_BPF_OBJECT={}", fresh.display());
    Ok(())
}

fn root() -> anyhow::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .context("xtask lies in the workspace")
}

/// SHA-256 over all sources: path, length and contents of each, in order of the paths.
fn digest(root: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let contents =
            fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy();
        hash.update(format!("{name}\0{}\0", contents.len()));
        hash.update(&contents);
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    for entry in entries {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

/// Compiles the object and returns where it lies.
fn compile(root: &Path, tool_chain: &ToolChain) -> anyhow::Result<PathBuf> {
    let target_dir = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), PathBuf::from)
        .join("bpf");
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    // Paths of this machine must not show in the object.
    let mut flags: Vec<String> = [
        (root, "/procjail"),
        (cargo_home.as_path(), "/cargo"),
        (tool_chain.sysroot.as_path(), "/rust"),
    ]
    .iter()
    .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
    .collect();
    flags.push("-Cdebuginfo=0".to_owned());

    let mut cargo = Command::new(&tool_chain.cargo);
    cargo
        .current_dir(root.join("procjail-ebpf"))
        .args([
            "build",
            "--release",
            "--locked",
            "-Zbuild-std=core",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTC", &tool_chain.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // What the stable cargo around this program has set is not meant for the other compiler.
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CARGO_TARGET_DIR");
    if tool_chain.bootstrap {
        cargo.env("RUSTC_BOOTSTRAP", "1");
    }
    let status = cargo
        .status()
        .with_context(|| format!("cannot run {}", tool_chain.cargo.display()))?;
    ensure!(
        status.success(),
        "the BPF programs do not compile: see above"
    );
    let object = target_dir.join(TARGET).join("release/procjail");
    let bytes = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    if let Some(name) = mangled(&bytes) {
        bail!(
            "the BPF object has the symbol {name}, whose name depends on the directory that it is built in: give \
             the item `#[unsafe(no_mangle)]`"
        );
    }
    Ok(object)
}

/// The first name that the compiler made up for an item of the programs.
fn mangled(object: &[u8]) -> Option<String> {
    let start = object.windows(4).position(|bytes| bytes == b"\0_RN")? + 1;
    let name = object[start..].split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

const HOW_TO_INSTALL: &str = "either, on Debian and its like,
    apt-get install rustc-web rust-web-src llvm-22-dev
    LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22 --locked
or, with rustup,
    rustup toolchain install nightly --component rust-src
    cargo install bpf-linker";

impl ToolChain {
    /// The distribution's compiler with the sources of its library, or else rustup's nightly.
    fn find() -> anyhow::Result<Self> {
        let linker_version = output(Command::new("bpf-linker").arg("--version"))
            .with_context(|| format!("bpf-linker is missing; install it:\n{HOW_TO_INSTALL}"))?;
        let cargo = env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let distributions = Self::examine(
            PathBuf::from("/usr/bin/rustc"),
            cargo,
            true,
            &linker_version,
        );
        let no_distributions = match distributions {
            Ok(found) => return Ok(found),
            Err(reason) => reason,
        };
        let nightly = |tool: &str| {
            let mut rustup = Command::new("rustup");
            rustup.args(["which", tool, "--toolchain", "nightly"]);
            // Or else the question installs what is missing.
            output(rustup.env("RUSTUP_AUTO_INSTALL", "0")).map(PathBuf::from)
        };
        let rustups = nightly("rustc").and_then(|rustc| {
            let cargo = nightly("cargo").context("no cargo beside it")?;
            Self::examine(rustc, cargo, false, &linker_version)
        });
        rustups.map_err(|no_rustups| {
            anyhow!(
                "no compiler that can build for BPF ({no_distributions:#}; {no_rustups:#}); install \
                 one:\n{HOW_TO_INSTALL}"
            )
        })
    }

    fn examine(
        rustc: PathBuf,
        cargo: PathBuf,
        bootstrap: bool,
        linker_version: &str,
    ) -> anyhow::Result<Self> {
        let rustc_version = output(Command::new(&rustc).arg("-vV"))?;
        let sysroot = PathBuf::from(output(Command::new(&rustc).args(["--print", "sysroot"]))?);
        ensure!(
            sysroot.join("lib/rustlib/src/rust/library/core").is_dir(),
            "{} has no library sources (rust-src)",
            rustc.display()
        );
        let line = |start: &str| {
            rustc_version
                .lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_default()
        };
        Ok(Self {
            rustc_version: format!("{}, {}", line("rustc"), line("LLVM")),
            rustc,
            cargo,
            bootstrap,
            sysroot,
            linker_version: linker_version.to_owned(),
        })
    }
}

/// What a command prints, without the line's end.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    ensure!(output.status.success(), "{name} failed: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_depends_on_the_directory_is_found() {
        assert_eq!(mangled(b"\x7fELF\0CONFIG\0_license\0"), None);
        let name = "_RNvNtCsc1b2kyZldF7_8procjail4read8LOW_BITS";
        let object = format!("\0CONFIG\0{name}\0EVENTS\0");
        assert_eq!(mangled(object.as_bytes()).as_deref(), Some(name));
    }
}
