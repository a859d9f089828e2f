//! `si_code`: where a signal comes from; see sigaction(2) and `include/uapi/asm-generic/siginfo.h`.

/// Symbol of a signal's `si_code`: `SI_USER`, `SEGV_MAPERR`; `si_code_N` if it has none.
pub fn si_code(signal: i32, code: i32) -> String {
    let name = match code {
        0 => Some("SI_USER"),
        128 => Some("SI_KERNEL"),
        -1 => Some("SI_QUEUE"),
        -2 => Some("SI_TIMER"),
        -3 => Some("SI_MESGQ"),
        -4 => Some("SI_ASYNCIO"),
        -5 => Some("SI_SIGIO"),
        -6 => Some("SI_TKILL"),
        -7 => Some("SI_DETHREAD"),
        -60 => Some("SI_ASYNCNL"),
        code if code > 0 => named_by_signal(signal, code),
        _ => None,
    };
    name.map_or_else(|| format!("si_code_{code}"), str::to_owned)
}

fn named_by_signal(signal: i32, code: i32) -> Option<&'static str> {
    let names: &[&str] = match signal {
        libc::SIGILL => &[
            "ILL_ILLOPC",
            "ILL_ILLOPN",
            "ILL_ILLADR",
            "ILL_ILLTRP",
            "ILL_PRVOPC",
            "ILL_PRVREG",
            "ILL_COPROC",
            "ILL_BADSTK",
            "ILL_BADIADDR",
        ],
        libc::SIGFPE => &[
            "FPE_INTDIV",
            "FPE_INTOVF",
            "FPE_FLTDIV",
            "FPE_FLTOVF",
            "FPE_FLTUND",
            "FPE_FLTRES",
            "FPE_FLTINV",
            "FPE_FLTSUB",
        ],
        libc::SIGSEGV => &[
            "SEGV_MAPERR",
            "SEGV_ACCERR",
            "SEGV_BNDERR",
            "SEGV_PKUERR",
            "SEGV_ACCADI",
            "SEGV_ADIDERR",
            "SEGV_ADIPERR",
            "SEGV_MTEAERR",
            "SEGV_MTESERR",
            "SEGV_CPERR",
        ],
        libc::SIGBUS => &[
            "BUS_ADRALN",
            "BUS_ADRERR",
            "BUS_OBJERR",
            "BUS_MCEERR_AR",
            "BUS_MCEERR_AO",
        ],
        libc::SIGTRAP => &[
            "TRAP_BRKPT",
            "TRAP_TRACE",
            "TRAP_BRANCH",
            "TRAP_HWBKPT",
            "TRAP_UNK",
            "TRAP_PERF",
        ],
        libc::SIGCHLD => &[
            "CLD_EXITED",
            "CLD_KILLED",
            "CLD_DUMPED",
            "CLD_TRAPPED",
            "CLD_STOPPED",
            "CLD_CONTINUED",
        ],
        libc::SIGPOLL => &[
            "POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP",
        ],
        libc::SIGSYS => &["SYS_SECCOMP", "SYS_USER_DISPATCH"],
        _ => &[],
    };
    let index = usize::try_from(code.checked_sub(1)?).ok()?;
    names.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_named_by_the_signal_where_they_depend_on_it() {
        assert_eq!(si_code(15, 0), "SI_USER");
        assert_eq!(si_code(9, 128), "SI_KERNEL");
        assert_eq!(si_code(11, 1), "SEGV_MAPERR");
        assert_eq!(si_code(17, 1), "CLD_EXITED");
        assert_eq!(si_code(31, 1), "SYS_SECCOMP");
        assert_eq!(si_code(15, 1), "si_code_1");
        assert_eq!(si_code(11, 77), "si_code_77");
        assert_eq!(si_code(11, i32::MIN), format!("si_code_{}", i32::MIN));
    }
}
