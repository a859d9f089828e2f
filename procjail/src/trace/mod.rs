//! The trace file: one JSON object a line. A header, events, a footer.
//!
//! See `docs/trace-format.md`.

#[cfg(test)]
mod bench;
mod model;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

pub use model::*;
pub use read::{ReadError, Reader, open};
pub use schema::schema;
pub use write::{WriteError, Writer};

/// An error of the kernel by symbol and meaning: `ENOENT (No such file or directory)`.
fn reason(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!(
            "{} ({})",
            crate::names::errno(number),
            crate::names::errno_meaning(number)
        ),
        None => error.to_string(),
    }
}
