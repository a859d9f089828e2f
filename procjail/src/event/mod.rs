//! Events: the model, and how records of the kernel become events.

mod model;

pub use model::*;
