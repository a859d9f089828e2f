//! The page as a Markdown parser reads it.
