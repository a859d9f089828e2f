//! `procjail run`.

use std::io::Write;

use super::options::JailOptions;
use crate::exit;
use crate::jail::{self, Jail};

/// Run APP in a jail, untraced
#[derive(Debug, clap::Args)]
#[command(override_usage = "procjail run [OPTIONS] -- APP [ARG]...", after_help = exit::HELP)]
pub struct Args {
    #[command(flatten)]
    jail: Box<JailOptions>,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<u8> {
    Ok(run_jail(&args.jail).unwrap_or_else(|error| {
        // stderr may be closed; the exit code still tells.
        let _ = writeln!(std::io::stderr(), "procjail: {error}");
        error.exit_code()
    }))
}

fn run_jail(options: &JailOptions) -> Result<u8, jail::Error> {
    let Some(plan) = options.compile()? else {
        return Ok(0);
    };
    let mut jail = Jail::create(&plan, &())?;
    jail.open_gate(&())?;
    let outcome = jail.supervise(&());
    if let Some(kills) = outcome.oom_kills.filter(|kills| *kills > 0) {
        let _ = writeln!(
            std::io::stderr(),
            "procjail: the OOM killer killed {kills} of the jail's processes; see procjail trace, or raise --memory"
        );
    }
    for remains in &outcome.remains {
        let _ = writeln!(std::io::stderr(), "procjail: {remains}");
    }
    Ok(outcome.exit_code)
}
