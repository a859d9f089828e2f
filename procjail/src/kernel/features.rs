//! What this host supports.

/// Placeholder.
pub struct Check {}
/// Placeholder.
pub struct State {}
/// Placeholder.
pub fn check() -> Vec<Check> {
    Vec::new()
}
