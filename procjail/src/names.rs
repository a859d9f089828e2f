//! Names of signals, errors and system calls.
