//! Programs that run another one, or fail to.

use std::ffi::CString;

use super::{Act, Arguments, fork, shell_code, sleep_ms, wait_for};

pub(super) const ACTS: &[Act] = &[("execute", execute), ("search", search)];

/// execve(2) of a file; returns what a shell would if it failed.
fn try_file(path: &str) -> i32 {
    let Ok(file) = CString::new(path) else {
        return 2;
    };
    let (argv, env) = (
        [file.as_ptr(), std::ptr::null()],
        [std::ptr::null::<libc::c_char>()],
    );
    // SAFETY: the arrays end in null, and the string lives through the call.
    unsafe { libc::execve(file.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ENOENT) => 127,
        _ => 126,
    }
}

/// `FILE`: a child executes it; its status is passed on as shells do.
fn execute(arguments: &Arguments<'_>) -> i32 {
    let child = fork();
    if child == 0 {
        return try_file(arguments.text(0));
    }
    let code = shell_code(wait_for(child).1);
    // A shell would have more to do.
    sleep_ms(50);
    code
}

/// `NAME`: a child looks for it in the usual places, as shells do.
fn search(arguments: &Arguments<'_>) -> i32 {
    let child = fork();
    if child == 0 {
        let mut code = 127;
        for place in ["/usr/local/bin", "/usr/bin", "/bin"] {
            code = try_file(&format!("{place}/{}", arguments.text(0)));
        }
        return code;
    }
    shell_code(wait_for(child).1)
}
