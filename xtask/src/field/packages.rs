//! The packages that cases need: which are missing, and installing them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::case::{Case, Packages};

/// The Python of PyPI's packages, below the directory of tools.
pub const VENV: &str = "venv";
/// The programs of npm's packages, likewise.
pub const NPM: &str = "node_modules";

/// What is installed.
#[derive(Debug, Default)]
pub struct Installed(Packages);

impl Installed {
    /// Looks: in dpkg's list, and in the directory of tools.
    pub fn look(tools: &Path) -> Installed {
        let python = tools.join(VENV).join("bin/python");
        let pip = output(Command::new(python).args(["-m", "pip", "list", "--format=freeze"]));
        let pip = pip.lines().filter_map(|line| line.split("==").next());
        let format = "--showformat=${db:Status-Status} ${Package}\n";
        let apt = output(Command::new("dpkg-query").args(["--show", format]));
        let apt = apt
            .lines()
            .filter_map(|line| line.strip_prefix("installed "));
        let npm = fs::read_dir(tools.join(NPM)).into_iter().flatten();
        Installed(Packages {
            apt: apt.map(str::to_owned).collect(),
            pip: pip.map(normal).collect(),
            npm: npm
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect(),
        })
    }

    /// What is missing, as `apt:NAME`, `pip:NAME` and `npm:NAME`.
    pub fn missing(&self, wanted: &Packages) -> Vec<String> {
        let mut missing = Vec::new();
        let lists = [
            ("apt", &wanted.apt, &self.0.apt),
            ("pip", &wanted.pip, &self.0.pip),
            ("npm", &wanted.npm, &self.0.npm),
        ];
        for (from, wanted, here) in lists {
            let gone = wanted
                .iter()
                .filter(|name| !here.contains(&normal(name)) && !here.contains(*name));
            missing.extend(gone.map(|name| format!("{from}:{name}")));
        }
        missing
    }
}

/// PyPI's names are compared without case, and with one kind of dash.
fn normal(name: &str) -> String {
    name.to_lowercase().replace(['_', '.'], "-")
}

fn output(command: &mut Command) -> String {
    let output = command.output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// Installs what the cases need and is missing.
pub fn install(cases: &[Case], installed: &Installed, tools: &Path) -> anyhow::Result<()> {
    let missing: BTreeSet<String> = cases
        .iter()
        .flat_map(|case| installed.missing(&case.packages))
        .collect();
    let from = |prefix: &str| -> Vec<&str> {
        let names = missing.iter().filter_map(|name| name.strip_prefix(prefix));
        names.collect()
    };
    fs::create_dir_all(tools)?;
    let apt = from("apt:");
    if !apt.is_empty() {
        // Installing a server must not start it.
        let policy = Path::new("/usr/sbin/policy-rc.d");
        ensure!(
            policy.exists(),
            "{} is missing: .ci/run makes it, so that no server starts",
            policy.display()
        );
        let mut command = Command::new("apt-get");
        command.args(["install", "--yes", "--quiet", "--no-install-recommends"]);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        done(command.args(apt))?;
    }
    let pip = from("pip:");
    if !pip.is_empty() {
        let venv = tools.join(VENV);
        if !venv.exists() {
            done(
                Command::new("/usr/bin/python3")
                    .args(["-m", "venv"])
                    .arg(&venv),
            )?;
        }
        done(
            Command::new(venv.join("bin/pip"))
                .args(["install", "--quiet"])
                .args(pip),
        )?;
    }
    let npm = from("npm:");
    if !npm.is_empty() {
        let mut command = Command::new("npm");
        command.args(["install", "--no-audit", "--no-fund", "--silent"]);
        done(command.args(npm).current_dir(tools))?;
    }
    Ok(())
}

fn done(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_packages_are_named_with_their_source() {
        let some = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let here = Installed(Packages {
            apt: some(&["nginx-light"]),
            pip: some(&["pytest-xdist"]),
            npm: some(&["nodemon"]),
        });
        let wanted = Packages {
            apt: some(&["nginx-light", "tini"]),
            pip: some(&["pytest_xdist", "celery"]),
            npm: some(&["nodemon", "pm2"]),
        };
        assert_eq!(here.missing(&wanted), ["apt:tini", "pip:celery", "npm:pm2"]);
    }
}
