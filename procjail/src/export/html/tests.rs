//! The page of recorded and of made-up traces.
