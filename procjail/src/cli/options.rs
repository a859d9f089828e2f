//! Options that describe a jail, shared by `run` and `trace`.
