//! How far a long export is, on a terminal.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes no longer needs no bar.
const SILENT: Duration = Duration::from_millis(500);

/// A bar on stderr, if that is a terminal, once the export takes longer than half a second. It is gone when
/// the last of its readers and itself are.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
    started: Instant,
    shown: Rc<Cell<bool>>,
}

impl Progress {
    /// Nothing of so many bytes.
    pub fn new(total_bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::hidden());
        // The template is constant; the default one would do as well.
        if let Ok(style) =
            ProgressStyle::with_template("{bar:40} {percent:>3} %  {elapsed}, {eta} left")
        {
            bar.set_style(style);
        }
        Self {
            bar,
            started: Instant::now(),
            shown: Rc::default(),
        }
    }

    /// `file`, whose reading counts as progress.
    pub fn of(&self, file: File) -> impl Read + 'static {
        Counted {
            file,
            progress: self.clone(),
        }
    }

    fn advance(&self, bytes: u64) {
        if !self.shown.get() && self.started.elapsed() >= SILENT {
            self.shown.set(true);
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if Rc::strong_count(&self.shown) == 1 {
            self.bar.finish_and_clear();
        }
    }
}

struct Counted {
    file: File,
    progress: Progress,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.progress.advance(read as u64);
        Ok(read)
    }
}
