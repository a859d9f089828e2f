//! `procjail completions`: scripts for shells, from the same definitions as the help.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

/// Print the script that completes commands and options in a shell
///
/// The shell finds it where it looks for such scripts: bash in
/// ~/.local/share/bash-completion/completions/procjail, fish in
/// ~/.config/fish/completions/procjail.fish, zsh in a file _procjail in a directory of its fpath; elvish
/// and PowerShell evaluate it in their start-up file. The Debian package brings those of bash, fish
/// and zsh.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell that reads it
    shell: Shell,
}

/// Runs the command.
///
/// # Errors
///
/// The script can't be written.
pub fn run(args: Args) -> anyhow::Result<u8> {
    // What is made into a script can't fail; standard output can.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(), "procjail", &mut script);
    match io::stdout().write_all(&script) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        written => written
            .map(|()| 0)
            .context("cannot write to standard output"),
    }
}

/// The command line without what the help hides, which the generators would offer.
fn shown() -> Command {
    let all = super::command();
    Command::new("procjail")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments())
        .subcommands(
            all.get_subcommands()
                .filter(|command| !command.is_hide_set()),
        )
}
