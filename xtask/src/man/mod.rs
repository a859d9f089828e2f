//! `cargo xtask man`: the manual, one page for each command, from the definitions that the help is made
//! of.
//!
//! The pages are made when they are packaged, not committed: what an option is, is pinned by the
//! transcripts of the help already, and nobody reads roff in a repository.

mod words;

use std::path::{Path, PathBuf};
use std::{fs, process::ExitCode};

use anyhow::Context as _;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use procjail::exit;

use crate::workspace;
use words::{Described, ENVIRONMENT, EXAMPLES, FILES, OTHERS};

/// Write the manual, a page for each command
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory to write to [default: man in Cargo's target directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the task.
///
/// # Errors
///
/// A page can't be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let directory = match &args.out {
        Some(directory) => directory.clone(),
        None => workspace::target()?.join("man"),
    };
    write(&directory)?;
    println!("{}", directory.display());
    Ok(ExitCode::SUCCESS)
}

/// Writes all pages into the directory.
///
/// # Errors
///
/// The file system's.
pub fn write(directory: &Path) -> anyhow::Result<()> {
    let pages = pages()?;
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    for (name, page) in pages {
        let path = directory.join(name);
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// All pages: file name and contents.
fn pages() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut program = procjail::cli::command()
        .disable_help_subcommand(true)
        .subcommand_value_name("COMMAND")
        .subcommand_help_heading("COMMANDS");
    program.build();
    let commands: Vec<Command> = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .cloned()
        .collect();
    std::iter::once(&program)
        .chain(&commands)
        .map(|command| {
            let name = page_name(command);
            let page = page(command, &commands).with_context(|| format!("cannot make {name}"))?;
            Ok((name + ".1", page))
        })
        .collect()
}

/// `procjail-trace`.
fn page_name(command: &Command) -> String {
    let name = command.get_display_name();
    name.unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command, commands: &[Command]) -> anyhow::Result<Vec<u8>> {
    // There is one manual, not a short and a long one.
    let man = Man::new(
        command
            .clone()
            .mut_arg("help", |argument| argument.long_help("Print help")),
    );
    // roff leaves an empty argument out, and what follows would move: there is no date.
    let title = page_name(command).to_uppercase();
    let version = env!("CARGO_PKG_VERSION");
    let mut page =
        format!(".TH {title} 1 \"\" \"procjail {version}\" \"procjail manual\"\n").into_bytes();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut options = Vec::new();
    man.render_options_section(&mut options)?;
    page.extend(under_one_heading(&options, command)?);

    let mut roff = Roff::default();
    exit_status(&mut roff, command);
    let name = command.get_name();
    described(&mut roff, "ENVIRONMENT", &ENVIRONMENT, name);
    described(&mut roff, "FILES", &FILES, name);
    examples(&mut roff, name);
    see_also(&mut roff, command, commands);
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// Groups of options are sections of their own to clap_mangen, where `FILES` means something else.
fn under_one_heading(options: &[u8], command: &Command) -> anyhow::Result<Vec<u8>> {
    let headings: Vec<&str> = command
        .get_arguments()
        .filter_map(|argument| argument.get_help_heading())
        .collect();
    let mut page = String::new();
    for line in std::str::from_utf8(options)?.lines() {
        let section = line.strip_prefix(".SH ").map(|name| name.trim_matches('"'));
        let group = section.and_then(|section| {
            let mut found = headings.iter();
            found.find(|heading| heading.to_uppercase() == section)
        });
        match group {
            Some(group) => page += &format!(".SS \"{group}\"\n"),
            None => page += &format!("{line}\n"),
        }
    }
    // An empty line is no paragraph in roff.
    Ok(page.replace(".br\n\n.br\n", ".sp\n").into_bytes())
}

/// What the end of the help says of it, and what holds for all commands that don't run APP.
fn exit_status(roff: &mut Roff, command: &Command) {
    let help = command.get_after_help().map(ToString::to_string);
    let mut codes = help.as_deref().map(codes).unwrap_or_default();
    if help.as_deref() != Some(exit::HELP) {
        for (code, meaning) in self::codes(exit::HELP_WITHOUT_APP) {
            if codes.iter().all(|(known, _)| *known != code) {
                codes.push((code, meaning));
            }
        }
        codes.sort_by_key(|(code, _)| code.parse::<u8>().ok());
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in codes {
        item(roff, &code, &meaning);
    }
}

/// The lines `  CODE  meaning` of a help text.
fn codes(help: &str) -> Vec<(String, String)> {
    help.lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once("  "))
        .map(|(code, meaning)| (code.trim().to_owned(), meaning.trim().to_owned()))
        .collect()
}

/// A section of what the command has to do with, if there is anything.
fn described(roff: &mut Roff, section: &str, all: &[Described], command: &str) {
    let mut these = all
        .iter()
        .filter(|entry| entry.of.is_empty() || entry.of.contains(&command))
        .peekable();
    if these.peek().is_some() {
        roff.control("SH", [section]);
    }
    for entry in these {
        item(roff, entry.name, entry.text);
    }
}

fn examples(roff: &mut Roff, command: &str) {
    let these = EXAMPLES.iter().filter(|(of, ..)| *of == command);
    for (number, (_, what, line)) in these.enumerate() {
        match number {
            0 => roff.control("SH", ["EXAMPLES"]),
            _ => roff.control("PP", []),
        };
        roff.text([roman(*what)]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        roff.text([bold(*line)]);
        roff.control("fi", []);
        roff.control("RE", []);
    }
}

fn see_also(roff: &mut Roff, command: &Command, commands: &[Command]) {
    let this = page_name(command);
    let mut names: Vec<(String, &str)> = std::iter::once("procjail".to_owned())
        .chain(commands.iter().map(page_name))
        .filter(|name| *name != this)
        .map(|name| (name, "1"))
        .collect();
    names.sort();
    names.extend(OTHERS.map(|(name, section)| (name.to_owned(), section)));
    let mut words: Vec<Inline> = Vec::new();
    for (name, section) in names {
        if !words.is_empty() {
            words.push(roman(", "));
        }
        words.push(bold(name));
        words.push(roman(format!("({section})")));
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text(words);
}

fn item(roff: &mut Roff, name: &str, text: &str) {
    roff.control("TP", []);
    roff.text([match name.starts_with('/') {
        true => italic(name),
        false => bold(name),
    }]);
    roff.text([roman(text)]);
}

#[cfg(test)]
mod tests {
    use std::process::{Command as Process, Stdio};

    use super::*;

    /// A page as a terminal shows it, and what the formatter complains of.
    fn shown(page: &[u8]) -> (String, String) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("page.1");
        fs::write(&path, page).expect("the page");
        let output = Process::new("groff")
            .args(["-man", "-Tutf8", "-Kutf8", "-ww", "-P-cbou", "-rLL=100n"])
            .arg(&path)
            .stdin(Stdio::null())
            .output()
            .expect("groff, which .ci/run installs");
        assert!(output.status.success());
        (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    fn of_command(page: &str) -> Command {
        let mut program = procjail::cli::command();
        program.build();
        let name = page.trim_end_matches(".1").strip_prefix("procjail-");
        name.map_or(program.clone(), |name| {
            program.find_subcommand(name).expect("a command").clone()
        })
    }

    #[test]
    fn each_command_has_a_page_but_the_hidden_one() {
        let pages = pages().expect("pages");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for expected in ["procjail.1", "procjail-run.1", "procjail-trace.1"] {
            assert!(names.contains(&expected), "{names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("misbehave")));
    }

    #[test]
    fn groff_shows_all_of_each_page_without_a_complaint() {
        for (name, page) in pages().expect("pages") {
            let (text, complaints) = shown(&page);
            assert_eq!(complaints, "", "{name}");
            let mut at = 0;
            for section in [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "EXIT STATUS",
                "ENVIRONMENT",
                "EXAMPLES",
                "SEE ALSO",
            ] {
                let found = text.find(&format!("\n{section}\n"));
                let found = found.unwrap_or_else(|| panic!("{name} has no {section}"));
                assert!(found > at, "{name}: {section} is not in its place");
                at = found;
            }
            for option in of_command(&name).get_arguments() {
                let long = option.get_long().map(|long| format!("--{long}"));
                assert!(
                    long.is_none_or(|long| text.contains(&long)),
                    "{name}: {option}"
                );
            }
            let version = format!("procjail {}", env!("CARGO_PKG_VERSION"));
            let last = text.trim_end().lines().last().unwrap_or_default();
            assert!(last.starts_with(&version), "{name}: {last}");
        }
    }

    #[test]
    fn exit_codes_are_those_of_the_help() {
        let page = |name: &str| {
            let pages = pages().expect("pages");
            let found = pages.into_iter().find(|(page, _)| page == name);
            shown(&found.expect("a page").1).0
        };
        let run = page("procjail-run.1");
        for (code, meaning) in codes(exit::HELP) {
            assert!(run.contains(&format!(" {code} ")) && run.contains(&meaning));
        }
        assert!(!run.contains("the command line is wrong"));
        let lab = page("procjail-lab.1");
        let at = |text: &str| lab.find(text).unwrap_or_else(|| panic!("no {text}"));
        assert!(at("a verdict was wrong") < at("the command line is wrong"));
        assert!(at("the command line is wrong") < at("the machine lacks"));
    }

    #[test]
    fn examples_are_command_lines_of_their_commands() {
        for (of, _, line) in EXAMPLES {
            assert!(line.len() <= 80, "too wide for a page: {line}");
            let command = line.split(" > ").next().expect("a command");
            let words = Process::new("sh")
                .args(["-c", &format!(r#"set -- {command}; printf '%s\n' "$@""#)])
                .output()
                .expect("sh");
            let words = String::from_utf8(words.stdout).expect("UTF-8");
            let parsed = procjail::cli::command().try_get_matches_from(words.lines());
            let matches = parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(of == "procjail" || matches.subcommand_name() == Some(of));
        }
    }
}
