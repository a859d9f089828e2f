//! `cargo xtask field`: real programs and incidents that no rule was written for, and what procjail says of them.

mod case;
mod packages;
mod play;
mod processes;
mod score;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};
use procjail_tests::become_subreaper;

use crate::workspace::{cargo, root, target};
use case::Case;
use packages::Installed;
use play::Stage;
use score::{Mark, Score};

/// Play the field test: real programs with known failures, and score the verdicts; as root
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this family or case
    #[arg(long, value_name = "FAMILY|NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Only the cases marked `quick`
    #[arg(long)]
    quick: bool,
    /// Play the cases of tests/field/held-back too
    #[arg(long)]
    held_back: bool,
    /// Install the missing packages: apt's on this machine, others below the directory of tools
    #[arg(long)]
    install: bool,
    /// Don't fail if packages are missing
    #[arg(long)]
    installed_only: bool,
    /// Write docs/field.md
    #[arg(long)]
    table: bool,
    /// The procjail to try [default: a debug build of this workspace]
    #[arg(long, value_name = "FILE")]
    procjail: Option<PathBuf>,
    /// Where the packages of PyPI and npm are [default: target/field]
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    /// Keep traces, explanations and logs here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Play nothing; explain the traces that --keep kept
    #[arg(long, requires = "keep")]
    again: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let cases = selected(args)?;
    ensure!(!cases.is_empty(), "there is no such case");
    let tools = match &args.tools {
        Some(tools) => tools.clone(),
        None => target()?.join("../field"),
    };
    fs::create_dir_all(&tools)?;
    let tools = tools.canonicalize()?;
    let mut installed = Installed::look(&tools);
    if args.install {
        packages::install(&cases, &installed, &tools)?;
        installed = Installed::look(&tools);
    }
    // Other users must be able to look into it.
    let room = tempfile::Builder::new()
        .prefix("procjail-field-")
        .tempdir()?;
    let stage = Stage {
        procjail: procjail(args)?,
        tools,
        room: match &args.keep {
            Some(keep) => {
                fs::create_dir_all(keep)?;
                keep.canonicalize()?
            }
            None => room.path().to_owned(),
        },
    };
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&stage.room, open)?;
    become_subreaper();
    let start = Instant::now();
    let mut results = Vec::new();
    for case in &cases {
        let score = judge(&stage, case, &installed, args.again);
        println!("{}", table::line(case, &score));
        results.push((case, score));
    }
    let (_, total) = table::tallies(&results);
    print!("\n{}", table::summary(&results));
    println!(
        "\n{} cases in {:.0} s",
        results.len(),
        start.elapsed().as_secs_f64()
    );
    if args.table {
        fs::write(root().join("docs/field.md"), table::page(&results))?;
    }
    Ok(match total.passes(args.installed_only) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The cases that are asked for.
fn selected(args: &Args) -> anyhow::Result<Vec<Case>> {
    let field = root().join("tests/field");
    let mut cases = case::load(&field.join("cases"))?;
    if args.held_back {
        cases.extend(case::load(&field.join("held-back"))?);
    }
    cases.retain(|case| {
        let named = |only: &String| *only == case.name || *only == case.family;
        (args.only.is_empty() || args.only.iter().any(named)) && (case.quick || !args.quick)
    });
    Ok(cases)
}

fn procjail(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(path) = &args.procjail {
        return path
            .canonicalize()
            .with_context(|| path.display().to_string());
    }
    let status = cargo(&["build", "-p", "procjail"]).status()?;
    ensure!(status.success(), "cannot build procjail");
    Ok(target()?.join("debug/procjail"))
}

/// Plays a case and scores what is said of it.
fn judge(stage: &Stage, case: &Case, installed: &Installed, again: bool) -> Score {
    if !case.needs.iter().all(|need| need.met()) {
        return Score::unplayed(Mark::NotHere, format!("needs {:?}", case.needs));
    }
    let missing = installed.missing(&case.packages);
    if !missing.is_empty() {
        return Score::unplayed(Mark::Packages, missing.join(" "));
    }
    if !again {
        match stage.play(case) {
            Ok(left) if left.is_empty() => {}
            Ok(left) => println!("{}: removed after it: {}", case.name, left.join(", ")),
            Err(error) => return Score::unplayed(Mark::Broken, format!("{error:#}")),
        }
    }
    match stage.explain(case) {
        Ok(explanation) => score::score(case, &explanation),
        Err(error) => Score::unplayed(Mark::Missing, format!("{error:#}")),
    }
}
