//! The `procjail` program: maps the outcome of the command line to an exit code.

fn main() {}
