//! `procjail run`: a jail without any probe.

use super::live::{self, Live};
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
    let live = Live::default();
    // A jail whose mounts are its own can leave none on the host.
    let seen = (Passing::of(&plan) == Passing::ToHost).then(leak::Seen::before);
    let mut jail = Jail::create(&plan, &live)?;
    if let Err(error) = jail.open_gate(&live) {
        jail.abort("setup-failed", &live);
        return Err(error.into());
    }
    let outcome = jail.supervise(&live);
    if let Some(kills) = outcome.oom_kills.filter(|kills| *kills > 0) {
        complain(format_args!(
            "the OOM killer killed {kills} of the jail's processes; see procjail trace, or raise --memory"
        ));
    }
    live::report(&outcome.remains);
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
