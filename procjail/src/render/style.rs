//! How text looks: colours and width.

use std::fmt::{self, Display};

use anstyle::{AnsiColor, Style};

use crate::words::Tone;

/// Columns that are assumed where there is no terminal.
const DEFAULT_WIDTH: usize = 120;

/// Fewest columns that are believed: some terminals claim none.
const LEAST_WIDTH: usize = 60;

/// How text is to look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// With colours.
    pub color: bool,
    /// Columns that a line should have at most.
    pub width: usize,
    /// With the events that are seldom of interest.
    pub verbose: bool,
}

impl Default for Look {
    /// As in a file: no colours.
    fn default() -> Self {
        Self {
            color: false,
            width: DEFAULT_WIDTH,
            verbose: false,
        }
    }
}

impl Look {
    /// As fits `stream`: colours and the width of a terminal if it is one. `NO_COLOR` and its
    /// relatives are honoured.
    pub fn of(stream: &(impl anstream::stream::RawStream + std::os::fd::AsFd)) -> Self {
        let color = anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never;
        let width = terminal_size::terminal_size_of(stream).map_or(DEFAULT_WIDTH, |(width, _)| {
            usize::from(width.0).max(LEAST_WIDTH)
        });
        Self {
            color,
            width,
            verbose: false,
        }
    }
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Bad => AnsiColor::Red.on_default().bold(),
        Tone::Warning => AnsiColor::Yellow.on_default(),
        Tone::Plain => Style::new(),
        Tone::Launcher => AnsiColor::Cyan.on_default(),
        Tone::Dim => Style::new().dimmed(),
    }
}

/// Text in a tone.
pub(super) struct Painted<'a> {
    pub(super) text: &'a str,
    pub(super) tone: Tone,
    pub(super) color: bool,
}

impl Display for Painted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.color || self.tone == Tone::Plain || self.text.is_empty() {
            return f.write_str(self.text);
        }
        let style = style(self.tone);
        write!(f, "{style}{}{style:#}", self.text)
    }
}
