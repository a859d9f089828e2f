//! A live trace: the jail and the probes, joined.
