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
//! exit 2 for a wrong command line and 125 for any other failure.

use crate::event::ExitStatus;

/// What `--help` of the commands that run APP says.
pub const HELP: &str = "\
Exit status:
  APP's own, or 128+n if signal n ended it.
  124  the jail could not be removed within --teardown-timeout
  125  procjail failed, APP did not run or could not be supervised
  126  APP was found but could not be executed
  127  APP was not found";

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
