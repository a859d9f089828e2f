//! Causes and their words, on hand-made threads.

use super::*;
use crate::event::Task;
