//! Where things are, and building what is measured or tested.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The workspace's root.
pub fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir).to_owned()
}

/// Cargo's target directory: this program lies in `target/PROFILE/xtask`.
pub fn target() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's own path")?;
    let target = program.ancestors().nth(2);
    Ok(target
        .context("this program does not lie in a target directory")?
        .to_owned())
}

/// `cargo ARGS` in the workspace.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// How a program is optimised; see `Cargo.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// For tests: quick to build.
    Release,
    /// For packages and measurements.
    Dist,
}

impl Profile {
    /// Its name, which is that of its directory below the target's as well.
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }
}

/// Builds an optimised `procjail` and the failing programs; returns their paths.
pub fn build_optimised(profile: Profile) -> anyhow::Result<(PathBuf, PathBuf)> {
    let packages = [
        "build",
        "--profile",
        profile.name(),
        "--package",
        "procjail",
        "--package",
        "procjail-tests",
    ];
    let status = cargo(&packages).status().context("cannot run cargo")?;
    ensure!(status.success(), "the build failed: {status}");
    let directory = target()?.join(profile.name());
    Ok((directory.join("procjail"), directory.join("misbehave")))
}
