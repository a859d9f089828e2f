//! The package on this machine: installed, used, removed, and gone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, thread, time::Duration};

use anyhow::{Context as _, bail, ensure};

use super::{output, run_to_end};

/// By its path: another one may come first in PATH.
const PROGRAM: &str = "/usr/bin/procjail";
/// Where procjail keeps what it finds out about a kernel.
const CACHE: &str = "/var/cache/procjail";
const DPKG_INFO: &str = "/var/lib/dpkg/info";

/// Tries the package. A procjail that is installed here already is the user's, and stays.
///
/// # Errors
///
/// What is wrong with it, or why it can't be tried here. What was installed is removed in any case.
pub fn run(package: &Path, program: &Path) -> anyhow::Result<()> {
    // SAFETY: the call has no preconditions.
    let user = unsafe { libc::geteuid() };
    ensure!(
        user == 0,
        "a package is installed by root: run this as root"
    );
    ensure!(
        known().is_empty(),
        "a package procjail is installed here ({}); it is not touched. If it is left of an interrupted \
         trial: dpkg --purge procjail",
        known()
    );
    // cargo-deb finds none for a static program; one that links again would have them.
    let depends = output(
        Command::new("dpkg-deb")
            .arg("--field")
            .args([package.as_os_str(), "Depends".as_ref()]),
    )?;
    ensure!(
        depends.trim().is_empty(),
        "the package depends on {depends}"
    );
    complaints(package)?;

    let contents = contents(package)?;
    let new: Vec<&PathBuf> = contents.iter().filter(|path| !exists(path)).collect();
    if let Some(path) = contents.iter().find(|path| exists(path) && !path.is_dir()) {
        bail!(
            "{} is there already, and no package's: it is not touched",
            path.display()
        );
    }
    let installed = Installed;
    dpkg("--install", package.as_os_str())?;
    for path in &contents {
        ensure!(exists(path), "{} was not installed", path.display());
    }
    use_it(program)?;
    manual(&contents)?;

    dpkg("--remove", "procjail".as_ref())?;
    ensure!(!exists(PROGRAM), "{PROGRAM} was not removed");
    drop(installed);
    nothing_left(&new)
}

/// A package that is to be gone, whatever happens.
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        if let Err(error) = dpkg("--purge", "procjail".as_ref()) {
            eprintln!("{error:#}; try it by hand: dpkg --purge procjail");
        }
    }
}

/// Exit codes, a trace, what it says.
fn use_it(program: &Path) -> anyhow::Result<()> {
    ensure!(
        fs::read(PROGRAM)? == fs::read(program)?,
        "{PROGRAM} is not {}",
        program.display()
    );
    let version = output(Command::new(PROGRAM).arg("--version"))?;
    ensure!(
        version == concat!("procjail ", env!("CARGO_PKG_VERSION"), "\n"),
        "--version tells {version}"
    );
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("trace.jsonl.zst");
    let run = |command: &mut Command, code: i32| {
        let output = command
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {command:?}"))?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(
            output.status.code() == Some(code),
            "{command:?}: {}: {said}",
            output.status
        );
        Ok(said)
    };
    let script = "kill -TERM $$; exit 7";
    run(Command::new(PROGRAM).args(["run", "--", "true"]), 0)?;
    run(
        Command::new(PROGRAM).args(["run", "--", "sh", "-c", script]),
        7,
    )?;
    let mut traced = Command::new(PROGRAM);
    traced.args(["trace", "-o"]).arg(&trace);
    let timeline = run(traced.args(["--", "sh", "-c", script]), 7)?;
    for words in ["SIGTERM", "exit 7", "trace       complete"] {
        ensure!(
            timeline.contains(words),
            "the timeline lacks {words}: {timeline}"
        );
    }
    let shown = run(Command::new(PROGRAM).arg("show").arg(&trace), 0)?;
    ensure!(
        shown.contains("SIGTERM"),
        "what was traced is not shown: {shown}"
    );
    run(Command::new(PROGRAM).arg("explain").arg(&trace), 0)?;
    Ok(())
}

/// `man` finds each page, and shows it.
fn manual(contents: &[PathBuf]) -> anyhow::Result<()> {
    let pages = contents.iter().filter(|path| {
        path.starts_with("/usr/share/man/man1") && path.extension().is_some_and(|end| end == "gz")
    });
    let mut count = 0;
    for path in pages {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let name = file.trim_end_matches(".1.gz");
        let found = output(Command::new("man").args(["--where", name]))?;
        ensure!(
            Path::new(found.trim()) == path,
            "man takes {name} from {found}"
        );
        let text = output(
            Command::new("man")
                .args(["--warnings", name])
                .env("MANPAGER", "cat"),
        )?;
        ensure!(
            text.contains("SYNOPSIS") && text.contains(name),
            "{name} is empty"
        );
        count += 1;
    }
    ensure!(count > 5, "the package has {count} manual pages only");
    Ok(())
}

/// What Debian's own tool finds wrong with the package.
fn complaints(package: &Path) -> anyhow::Result<()> {
    // It leaves files in its temporary directory.
    let temporary = tempfile::tempdir()?;
    let mut lintian = Command::new("lintian");
    lintian
        .args(["--allow-root", "--fail-on", "error,warning"])
        .env("TMPDIR", temporary.path());
    run_to_end(lintian.arg(package))
}

/// After the purge: nothing of what was not there before.
fn nothing_left(new: &[&PathBuf]) -> anyhow::Result<()> {
    let mut left: Vec<String> = new
        .iter()
        .filter(|path| exists(path))
        .map(|path| path.display().to_string())
        .collect();
    for entry in fs::read_dir(DPKG_INFO)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("procjail.") {
            left.push(path.display().to_string());
        }
    }
    if exists(CACHE) {
        left.push(CACHE.to_owned());
    }
    if !known().is_empty() {
        left.push(format!("dpkg knows the package: {}", known()));
    }
    ensure!(left.is_empty(), "left by the package: {}", left.join(", "));
    Ok(())
}

/// What dpkg says of a package procjail; nothing if it knows of none.
fn known() -> String {
    let query = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat=${db:Status-Status} ${Version}",
            "procjail",
        ])
        .output();
    let shown = query.map(|output| output.stdout).unwrap_or_default();
    let status = String::from_utf8_lossy(&shown).trim().to_owned();
    match status.starts_with("not-installed") {
        true => String::new(),
        false => status,
    }
}

/// All paths in the package, absolute.
fn contents(package: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listing = output(
        Command::new("sh")
            .args(["-c", r#"dpkg-deb --fsys-tarfile "$0" | tar --list"#])
            .arg(package),
    )?;
    let paths = listing
        .lines()
        .map(|line| Path::new("/").join(line.trim_start_matches("./")));
    Ok(paths.collect())
}

/// Links that lead nowhere are there as well.
fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().symlink_metadata().is_ok()
}

/// Somebody else may be at it just now.
fn dpkg(action: &str, what: &std::ffi::OsStr) -> anyhow::Result<()> {
    let mut said = String::new();
    for _ in 0..30 {
        let output = Command::new("dpkg")
            // Debian's slim images leave out manuals: what is tried is the package, not the machine.
            .arg("--path-include=*")
            .arg(action)
            .arg(what)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .context("cannot run dpkg")?;
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Ok(());
        }
        if !said.contains("lock") {
            break;
        }
        thread::sleep(Duration::from_secs(2));
    }
    bail!("dpkg {action} {}: {said}", what.to_string_lossy())
}
