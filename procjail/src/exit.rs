//! All exit codes of procjail, in one place.
//!
//! | code | meaning |
//! |---|---|
//! | 0-255 | APP's own exit code |
//! | 128+n | signal n ended APP |
//! | 124 | the jail could not be removed within `--teardown-timeout`; the report says what remains |
//! | 125 | procjail itself failed; APP did not run, or the jail could not be supervised |
//! | 126 | APP was found but could not be executed |
//! | 127 | APP was not found |
//!
//! Of the commands that don't run APP, `check` exits 1 when `trace` would not work, and all of them
//! exit 125 for any other failure. A wrong command line is 125 with `run` and `trace`, where 2 could be
//! APP's own, and 2 elsewhere.

use crate::event::ExitStatus;

/// The same, for the help of the commands that run APP.
pub const HELP: &str = "\
Exit status:
  0-255  APP's own exit code
  128+n  signal n ended APP
  124    the jail could not be removed within --teardown-timeout
  125    procjail itself failed; APP did not run
  126    APP was found but could not be executed
  127    APP was not found";

/// The same of the other commands, where their own help doesn't say more.
pub const HELP_WITHOUT_APP: &str = "\
Exit status:
  0    it is done
  2    the command line is wrong
  125  procjail failed";

/// The same of `check`.
pub const HELP_OF_CHECK: &str = "\
Exit status:
  0  trace would work
  1  trace would not work";

/// The jail could not be removed in time.
pub const TEARDOWN_TIMEOUT: u8 = 124;
/// procjail itself failed.
pub const FAILED: u8 = 125;
/// APP was found but could not be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// APP was not found.
pub const NOT_FOUND: u8 = 127;
/// `check` found that `trace` would not work.
pub const CHECK_FAILED: u8 = 1;

/// The exit code that stands for APP's status, as a shell would tell it.
pub fn code_of(status: &ExitStatus) -> u8 {
    match (status.code, &status.signal) {
        (_, Some(signal)) => 128u8.wrapping_add(signal.number as u8),
        (Some(code), None) => code as u8,
        (None, None) => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Signal;

    #[test]
    fn a_signal_counts_from_128_and_a_code_is_itself() {
        let exited = |code| ExitStatus {
            code: Some(code),
            ..ExitStatus::default()
        };
        let killed = |number| ExitStatus {
            signal: Some(Signal {
                number,
                name: String::new(),
            }),
            ..ExitStatus::default()
        };
        assert_eq!(code_of(&exited(0)), 0);
        assert_eq!(code_of(&exited(137)), 137);
        assert_eq!(code_of(&killed(9)), 137);
        assert_eq!(code_of(&killed(15)), 143);
        assert_eq!(code_of(&ExitStatus::default()), FAILED);
    }
}
