//! `procjail run`: a jail without any probe.

use super::{complain, options::JailOptions};
use crate::{
    event::LeakCheck,
    exit,
    jail::Jail,
    leak::{self, Passing},
};

/// Run APP as PID 1 of a jail, untraced.
#[derive(Debug, clap::Args)]
#[command(override_usage = "procjail run [OPTIONS] -- APP [ARG]...", after_help = exit::HELP)]
pub struct Args {
    #[command(flatten)]
    jail: Box<JailOptions>,
}

/// Runs the command.
///
/// # Errors
///
/// What kept APP from running, in words for the user.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let Some(plan) = args.jail.compile()? else {
        return Ok(0);
    };
    // A jail whose mounts are its own can leave none on the host.
    let seen = (Passing::of(&plan) == Passing::ToHost).then(leak::Seen::before);
    let mut jail = Jail::create(&plan, &())?;
    if let Err(error) = jail.open_gate(&()) {
        jail.abort("setup-failed", &());
        return Err(error.into());
    }
    let outcome = jail.supervise(&());
    if let Some(kills) = outcome.oom_kills.filter(|kills| *kills > 0) {
        complain(format_args!(
            "the OOM killer killed {kills} of the jail's processes; see procjail trace, or raise --memory"
        ));
    }
    for remains in &outcome.remains {
        complain(format_args!("{remains}"));
    }
    let mounts = seen.map_or_else(Vec::new, |seen| leak::new_mounts_here(&seen));
    let leaks = LeakCheck {
        mounts,
        ..LeakCheck::default()
    };
    for leak in leak::sentences(&leaks) {
        complain(format_args!("{leak}"));
    }
    Ok(outcome.exit_code)
}
