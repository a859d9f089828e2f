//! Threads that work beside the traced program.

/// Lets the traced program run on when this thread has something to do: see SCHED_BATCH in sched(7).
pub(crate) fn stand_back() {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the parameter lives through the call. A refusal costs the
    // traced program a little time, and nothing else.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &priority) };
}
