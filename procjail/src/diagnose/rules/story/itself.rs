//! PID 1 exited, and nobody had asked it to.

use crate::diagnose::{Case, Finding};
use crate::render;

/// With which code, and after how long.
pub(super) fn exited(case: &Case) -> Option<Finding> {
    let pid1 = case.pid1()?;
    let (event, exit) = case.exit(pid1)?;
    let code = exit.status.code?;
    let name = case.name(pid1);
    let after = render::duration(event.time_ns.saturating_sub(case.gate_ns()));
    let finding = Finding::new(format!("{name} exited with {code} after {after}."))
        .proven()
        .about([pid1])
        .shown_by(event, format!("{name} {}", case.did_end(&exit.status)))
        .not("a signal", "the kernel's status of it is an exit code");
    Some(match case.stop_request() {
        None => finding.not("a stop", "procjail was not asked to stop the jail"),
        Some(_) => finding,
    })
}
