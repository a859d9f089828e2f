//! The kernels to boot: taken out of Debian's packages, never installed.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};

/// One line of kernels, and where Debian has it.
#[derive(Debug)]
pub struct Series {
    /// What the machines with it are called.
    pub name: &'static str,
    /// Suites of the main archive.
    suites: &'static [&'static str],
    /// Suites of the security archive.
    security: &'static [&'static str],
    /// How the packages' names begin.
    prefixes: &'static [&'static str],
}

/// The name of the series that has no end.
pub const ROLLING: &str = "rolling";

/// From what Debian 11 runs to what is being developed.
pub const SERIES: [Series; 5] = [
    // As it was published last, and as its users have it after updates: those brought new forms of
    // tracepoints and flags.
    Series {
        name: "5.10",
        suites: &["bullseye"],
        security: &[],
        prefixes: &["linux-image-5.10."],
    },
    Series {
        name: "5.10-updated",
        suites: &[],
        security: &["bullseye-security"],
        prefixes: &["linux-image-5.10."],
    },
    Series {
        name: "6.1",
        suites: &["bookworm"],
        security: &["bookworm-security"],
        prefixes: &["linux-image-6.1."],
    },
    Series {
        name: "6.12",
        suites: &["trixie"],
        security: &["trixie-security"],
        prefixes: &["linux-image-6.12."],
    },
    Series {
        name: ROLLING,
        suites: &["sid"],
        security: &[],
        // The file itself has moved to a package of its own; linux-image then only depends on it.
        prefixes: &["linux-binary-7.", "linux-image-7."],
    },
];

/// How long the archive's answer about the newest version is good for.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The compressed image.
    pub image: PathBuf,
    /// The module of block devices in memory (`brd`), if the package has it. Such a device is a machine's
    /// swap area.
    pub ramdisk: Option<PathBuf>,
}

impl Kernel {
    /// With the module beside the image, if it lies there.
    fn of(image: PathBuf) -> Kernel {
        let ramdisk = ramdisk(&image);
        let there = fs::metadata(&ramdisk).is_ok_and(|found| found.len() > 0);
        Kernel {
            image,
            ramdisk: there.then_some(ramdisk),
        }
    }
}

/// Where the module of an image's package lies; the file is empty if the package has none.
fn ramdisk(image: &Path) -> PathBuf {
    image.with_extension("brd")
}

/// The newest kernel of a series, from the cache if it is there.
///
/// # Errors
///
/// No suite of this machine's mirror has such a kernel, or it cannot be downloaded.
pub fn fetch(series: &Series, cache: &Path) -> anyhow::Result<Kernel> {
    let directory = cache.join(series.name);
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let known = cached(&directory);
    if let Some((image, age)) = &known
        && *age < FRESH
        && ramdisk(image).is_file()
    {
        return Ok(Kernel::of(image.clone()));
    }
    match (download(series, &directory), known) {
        (Ok(image), _) => Ok(Kernel::of(image)),
        (Err(error), Some((image, _))) => {
            println!(
                "kernel {}: {error:#}; going on with {}",
                series.name,
                image.display()
            );
            Ok(Kernel::of(image))
        }
        (Err(error), None) => Err(error),
    }
}

/// The kernel that was fetched last, and how long ago the archive was asked.
fn cached(directory: &Path) -> Option<(PathBuf, Duration)> {
    let current = directory.join("current");
    let name = fs::read_to_string(&current).ok()?;
    let image = directory.join(name.trim());
    let asked = fs::metadata(&current).ok()?.modified().ok()?;
    let age = SystemTime::now().duration_since(asked).unwrap_or_default();
    image.is_file().then_some((image, age))
}

/// Asks the archive for the newest version and unpacks its image, unless that is here already.
fn download(series: &Series, directory: &Path) -> anyhow::Result<PathBuf> {
    let mirrors = Mirrors::of_this_machine()?;
    let main = series.suites.iter().map(|suite| (&mirrors.main, suite));
    let security = series
        .security
        .iter()
        .filter_map(|suite| Some((mirrors.security.as_ref()?, suite)));
    let mut newest: Option<(String, Apt)> = None;
    let mut reasons = Vec::new();
    for (uri, suite) in main.chain(security) {
        let apt = Apt::new(uri, suite, directory)?;
        match apt.update().and_then(|()| apt.packages(series.prefixes)) {
            Ok(packages) => {
                for package in packages {
                    if newest
                        .as_ref()
                        .is_none_or(|(best, _)| compare(&package, best) == Ordering::Greater)
                    {
                        newest = Some((package, apt.clone()));
                    }
                }
            }
            // An old suite moves away from the mirrors one day: the other one may still be there.
            Err(error) => reasons.push(format!("{suite}: {error:#}")),
        }
    }
    let Some((package, apt)) = newest else {
        bail!(
            "no kernel {} on this machine's mirror; name one with --kernel PATH; {}",
            series.name,
            reasons.join("; ")
        );
    };
    let image = format!("{package}.vmlinuz");
    let path = directory.join(&image);
    if !path.is_file() || !ramdisk(&path).is_file() {
        println!("kernel {}: fetching {package}", series.name);
        unpack(&apt.download(&package)?, &path)?;
    }
    fs::write(directory.join("current"), &image).context("cannot note the fetched kernel")?;
    Ok(path)
}

/// Debian's archives, as the machine's own package sources name them.
struct Mirrors {
    main: String,
    security: Option<String>,
}

impl Mirrors {
    fn of_this_machine() -> anyhow::Result<Mirrors> {
        let text = output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
        ]))
        .context("kernels come from Debian's packages: on another system use --kernel PATH")?;
        let find = |directory: &str| {
            text.lines()
                .map(|uri| uri.trim_end_matches('/'))
                .find(|uri| uri.ends_with(directory))
                .map(str::to_owned)
        };
        Ok(Mirrors {
            main: find("/debian")
                .context("the package sources of this machine name no Debian archive")?,
            security: find("/debian-security"),
        })
    }
}

/// apt with its own sources and lists, apart from the machine's.
#[derive(Clone)]
struct Apt {
    directory: PathBuf,
    options: Vec<String>,
}

impl Apt {
    fn new(uri: &str, suite: &str, directory: &Path) -> anyhow::Result<Apt> {
        const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let state = directory.join(suite);
        for name in ["lists/partial", "cache/archives/partial", "download"] {
            fs::create_dir_all(state.join(name))
                .with_context(|| format!("cannot create {}", state.join(name).display()))?;
        }
        let signed = if Path::new(KEYRING).is_file() {
            format!("Signed-By: {KEYRING}\n")
        } else {
            String::new()
        };
        let sources = state.join("debian.sources");
        let text = format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n{signed}");
        fs::write(&sources, text).with_context(|| format!("cannot write {}", sources.display()))?;
        let mut options = Vec::new();
        let mut set = |name: &str, value: &str| {
            options.push("-o".to_owned());
            options.push(format!("{name}={value}"));
        };
        let path = |name: &str| state.join(name).display().to_string();
        set("Dir::Etc::sourcelist", &sources.display().to_string());
        set("Dir::Etc::sourceparts", "-");
        set("Dir::State::Lists", &path("lists"));
        set("Dir::State::status", "/dev/null");
        set("Dir::Cache", &path("cache"));
        set("APT::Architecture", "amd64");
        set("APT::Architectures", "amd64");
        // The download's user of its own may not enter this directory.
        set("APT::Sandbox::User", "");
        set("Acquire::Languages", "none");
        set(
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled",
            "false",
        );
        Ok(Apt {
            directory: state.join("download"),
            options,
        })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(&self.options)
            .args(arguments)
            .current_dir(&self.directory);
        command
    }

    fn update(&self) -> anyhow::Result<()> {
        // Without this option a suite that is gone is only a warning.
        output(&mut self.command("apt-get", &["update", "--error-on=any"])).map(drop)
    }

    /// The kernels for ordinary machines with such names.
    fn packages(&self, prefixes: &[&str]) -> anyhow::Result<Vec<String>> {
        let names = output(&mut self.command("apt-cache", &["pkgnames", "linux-"]))?;
        Ok(names
            .lines()
            .filter(|name| ordinary(name, prefixes))
            .map(str::to_owned)
            .collect())
    }

    /// Downloads a package; its path.
    fn download(&self, package: &str) -> anyhow::Result<PathBuf> {
        output(&mut self.command("apt-get", &["download", package]))?;
        let found = fs::read_dir(&self.directory)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&format!("{package}_"))
            });
        found.with_context(|| format!("apt-get download {package} left no file"))
    }
}

/// Not those with debug information, unsigned, or for real time or clouds.
fn ordinary(name: &str, prefixes: &[&str]) -> bool {
    let Some(version) = prefixes
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .and_then(|rest| rest.strip_suffix("-amd64"))
    else {
        return false;
    };
    !["cloud", "rt", "dbg", "unsigned"]
        .iter()
        .any(|word| version.contains(word))
}

/// Orders names of packages by the numbers in them; `linux-binary` before `linux-image`, which may hold
/// no image.
fn compare(left: &str, right: &str) -> Ordering {
    let key = |name: &str| {
        let numbers: Vec<u64> = name
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect();
        (numbers, name.starts_with("linux-binary"))
    };
    key(left).cmp(&key(right))
}

/// Takes the image and the module out of a package, and removes the package.
fn unpack(package: &Path, image: &Path) -> anyhow::Result<()> {
    let mut contents = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let stdout = contents.stdout.take().context("no output of dpkg-deb")?;
    let unpacked = image.with_extension("unpacked");
    fs::create_dir_all(&unpacked)
        .with_context(|| format!("cannot create {}", unpacked.display()))?;
    let status = Command::new("tar")
        .args(["--extract", "--wildcards", "--transform", "s,.*/,,"])
        .arg("--directory")
        .arg(&unpacked)
        .args(["./boot/vmlinuz-*", "./usr/lib/modules/*/vmlinuz"])
        .arg("./*/kernel/drivers/block/brd.ko*")
        .stdin(stdout)
        // It complains of those that are not there.
        .stderr(Stdio::null())
        .status()
        .context("cannot run tar")?;
    let finished = contents.wait()?;
    let names = fs::read_dir(&unpacked)?.flatten().map(|entry| entry.path());
    let (modules, images): (Vec<_>, Vec<_>) =
        names.partition(|path| path.to_string_lossy().contains(".ko"));
    let found = images
        .first()
        .filter(|_| finished.success())
        .with_context(|| {
            format!(
                "no kernel in {}: dpkg-deb {finished}, tar {status}",
                package.display()
            )
        })?;
    match modules.first() {
        Some(module) => fs::rename(module, ramdisk(image))?,
        None => fs::write(ramdisk(image), "")?,
    }
    fs::rename(found, image)?;
    fs::remove_dir_all(&unpacked)?;
    fs::remove_file(package)?;
    Ok(())
}

/// Standard output of a command that must succeed.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        errors.lines().next().unwrap_or("it does not say why")
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let newer = |left, right| compare(left, right) == Ordering::Greater;
        assert!(newer(
            "linux-image-5.10.0-46-amd64",
            "linux-image-5.10.0-9-amd64"
        ));
        assert!(newer(
            "linux-image-6.12.107+deb13-amd64",
            "linux-image-6.12.94+deb13-amd64"
        ));
        assert!(newer(
            "linux-binary-7.2.13+deb14-amd64",
            "linux-image-7.2.13+deb14-amd64"
        ));
        assert!(newer(
            "linux-image-7.3.1+deb14-amd64",
            "linux-binary-7.2.13+deb14-amd64"
        ));
    }

    #[test]
    fn only_ordinary_kernels_are_taken() {
        let prefixes = ["linux-image-6.12."];
        assert!(ordinary("linux-image-6.12.107+deb13-amd64", &prefixes));
        for name in [
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-rt-amd64",
            "linux-image-6.12.107+deb13-amd64-dbg",
            "linux-image-6.12.107+deb13-amd64-unsigned",
            "linux-image-6.1.0-50-amd64",
            "linux-image-amd64",
        ] {
            assert!(!ordinary(name, &prefixes), "{name}");
        }
    }
}
