//! What was there before procjail came, in words.

use super::{Tone, Words};
use crate::event::{Attached, DetachReason, Detached, Found};
use crate::text::{command, duration, escape, plural};

pub(super) fn attached(attached: &Attached) -> Words {
    let processes = plural(attached.processes, "process", "processes");
    let text = format!(
        "attached to {}, which has {processes}",
        escape(&attached.target)
    );
    Words::new(Tone::Launcher, text).detail(format!("after {}", duration(attached.took_ns)))
}

pub(super) fn found(found: &Found, width: usize) -> Words {
    let program = &found.program;
    let what = match (found.state.as_str(), program.argv.is_empty()) {
        ("Z", _) => "dead and not reaped".to_owned(),
        (_, true) => escape(&program.filename),
        (_, false) => command(&program.argv, program.argv_truncated, width),
    };
    let tone = match found.state.as_str() {
        "Z" => Tone::Warning,
        _ => Tone::Plain,
    };
    let parent = format!("{} ({})", escape(&found.parent.comm), found.parent.pid);
    let how = match found.entered {
        true => format!("runs already; entered from outside, below {parent}"),
        false => "runs already".to_owned(),
    };
    Words::new(tone, what).detail(how)
}

pub(super) fn detached(detached: &Detached) -> Words {
    let left = plural(detached.processes, "process is", "processes are");
    let text = match detached.reason {
        DetachReason::TargetEnded => "detached: nothing runs in the target any more".to_owned(),
        DetachReason::Asked => format!("detached on request; {left} still there"),
        DetachReason::TimeOver => format!("detached: the time is over; {left} still there"),
    };
    Words::new(Tone::Launcher, text)
}
