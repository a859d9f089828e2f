//! `cargo xtask deb`: the Debian package, by cargo-deb and the metadata in procjail/Cargo.toml.
//!
//! What is in it and not in the repository is made here first: the program, its manual, its completion
//! scripts, the licences of the libraries in it.

mod libraries;
mod trial;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context as _, ensure};

use crate::man;
use crate::workspace::{Profile, cargo, root, target};

/// Build the Debian package, with the committed BPF object
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Then install it here, use it and remove it; fail if anything is left (as root)
    #[arg(long)]
    check: bool,
}

/// Runs the task.
///
/// # Errors
///
/// The package can't be built, or is not right.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // What is only tried out need not be built for long.
    let profile = match args.check {
        true => Profile::Release,
        false => Profile::Dist,
    };
    let package = build(profile)?;
    if args.check {
        trial::run(&package, &program(profile)?)?;
    }
    println!("{}", package.display());
    Ok(ExitCode::SUCCESS)
}

fn program(profile: Profile) -> anyhow::Result<PathBuf> {
    Ok(target()?.join(profile.name()).join("procjail"))
}

/// Builds all that goes into the package, and the package.
fn build(profile: Profile) -> anyhow::Result<PathBuf> {
    run_to_end(&mut cargo(&[
        "build",
        "--profile",
        profile.name(),
        "--package",
        "procjail",
    ]))?;
    let made = target()?.join(profile.name()).join("package");
    if made.exists() {
        // A page of a command that is no more.
        fs::remove_dir_all(&made).with_context(|| format!("cannot remove {}", made.display()))?;
    }
    let manual = made.join("man");
    man::write(&manual)?;
    completions(&program(profile)?, &made.join("completions"))?;
    let documents = made.join("doc");
    fs::create_dir_all(&documents)?;
    fs::write(
        documents.join("libraries"),
        libraries::licences(target()?.file_name())?,
    )?;
    fs::write(documents.join("changelog.Debian"), changelog()?)?;
    compress(&manual)?;
    compress(&documents)?;
    package(profile)
}

/// The scripts, named as each shell wants them.
fn completions(program: &Path, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)?;
    for (shell, name) in [
        ("bash", "procjail"),
        ("fish", "procjail.fish"),
        ("zsh", "_procjail"),
    ] {
        let script = output(Command::new(program).args(["completions", shell]))?;
        fs::write(directory.join(name), script)?;
    }
    Ok(())
}

/// What Debian's own changelog of a package has to say here.
fn changelog() -> anyhow::Result<String> {
    // The same sources are to give the same package: no clock but theirs, if they have one.
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email"]);
    if let Some(seconds) = env::var("SOURCE_DATE_EPOCH").ok().or_else(commit_time) {
        date.arg(format!("--date=@{seconds}"));
    }
    Ok(format!(
        "procjail ({}-1) unstable; urgency=medium\n\n  * What is new is in changelog.gz.\n\n -- {MAINTAINER}  {}\n",
        env!("CARGO_PKG_VERSION"),
        output(&mut date)?.trim(),
    ))
}

/// As in procjail/Cargo.toml.
const MAINTAINER: &str = "The procjail contributors <procjail@example.org>";

/// Seconds since 1970 of the last commit, in a checkout.
fn commit_time() -> Option<String> {
    let mut git = Command::new("git");
    // In a container the checkout may be somebody else's.
    git.args(["-c", "safe.directory=*", "log", "-1", "--format=%ct"]);
    let seconds = output(git.current_dir(root())).ok()?;
    Some(seconds.trim().to_owned())
}

/// As Debian wants all files of a directory: cargo-deb does it only for those that nothing has built.
fn compress(directory: &Path) -> anyhow::Result<()> {
    let mut gzip = Command::new("gzip");
    gzip.args(["--best", "--no-name"]);
    for entry in fs::read_dir(directory)? {
        gzip.arg(entry?.path());
    }
    run_to_end(&mut gzip)
}

const HOW_TO_INSTALL: &str =
    "cargo install cargo-deb --version 3.8.0 --no-default-features --locked";

/// Calls cargo-deb, which tells where the package is.
fn package(profile: Profile) -> anyhow::Result<PathBuf> {
    output(&mut cargo(&["deb", "--version"]))
        .with_context(|| format!("cargo-deb is missing; install it: {HOW_TO_INSTALL}"))?;
    let target = target()?;
    let triple = target.file_name().context("the target has no name")?;
    let mut cargo_deb = cargo(&["deb", "--package", "procjail", "--no-build"]);
    cargo_deb
        // The symbols name the frames of what `procjail lab` makes crash.
        .args(["--no-strip", "--compress-system", "--locked"])
        .args(["--profile", profile.name(), "--target"])
        .arg(triple)
        .arg("--output")
        .arg(target.join("debian/"));
    let path = output(&mut cargo_deb)?;
    Ok(PathBuf::from(path.trim()))
}

/// Runs a command whose output is for the user.
fn run_to_end(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// What a command prints. What it says on stderr is for the user.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("what {command:?} prints"))
}
