//! A trace file that is read twice.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use super::{Progress, Subject};
use crate::diagnose::{self, Case, Reported};
use crate::names::io_error;
use crate::trace::Output;
use crate::trace::{ReadError, Reader};

/// Why a trace could not be passed on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Standard input, which can be read only once, could not be kept for the second reading.
    #[error("cannot keep standard input in a temporary file: {}", io_error(.0))]
    Spool(io::Error),
    /// The output took no more.
    #[error("{}", io_error(.0))]
    Output(io::Error),
}

/// A trace file, or standard input.
pub struct Source {
    file: File,
    name: String,
    progress: Progress,
}

impl Source {
    /// Opens the trace in a file, or takes in all of standard input for `-`.
    ///
    /// # Errors
    ///
    /// There is no such file, or no room for what standard input has.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let name = if path.as_os_str() == "-" {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        let file = file(path).map_err(|error| ReadError::Open {
            name: name.clone(),
            error,
        })?;
        let size_bytes = |file: &File| file.metadata().map_or(0, |metadata| metadata.len());
        // A pipe, such as a shell's <(…), can be read only once as well.
        let file = match file {
            Some(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => file,
            Some(pipe) => spool(pipe).map_err(SourceError::Spool)?,
            None => spool(io::stdin().lock()).map_err(SourceError::Spool)?,
        };
        Ok(Self {
            progress: Progress::new(size_bytes(&file).saturating_mul(2)),
            file,
            name,
        })
    }

    /// Reads the trace to its end, or to where it is damaged, and explains it.
    ///
    /// # Errors
    ///
    /// It has no header that can be read.
    pub fn explain(&self, reported: Option<Reported>) -> Result<Subject, SourceError> {
        let mut reader = self.reader()?;
        let (mut case, damage) = Case::read(&mut reader).map_err(SourceError::Output)?;
        case.reported = reported;
        let missing = match damage {
            Some(damage) => Some(format!("{damage}; exported up to there")),
            None => reader.missing().map(str::to_owned),
        };
        let explanation = diagnose::explain(&case);
        Ok(Subject {
            case,
            explanation,
            missing,
        })
    }

    /// Passes the whole trace to `output`, up to where it is damaged, if it is.
    ///
    /// # Errors
    ///
    /// The output takes no more.
    pub fn pass_on(&self, output: &mut dyn Output) -> Result<(), SourceError> {
        let mut reader = self.reader()?;
        output
            .header(reader.header())
            .map_err(SourceError::Output)?;
        // The first reading has told of the damage.
        for event in reader.by_ref().map_while(Result::ok) {
            output.event(&event).map_err(SourceError::Output)?;
        }
        output.footer(reader.footer()).map_err(SourceError::Output)
    }

    /// The trace from its beginning.
    fn reader(&self) -> Result<Reader, SourceError> {
        let failed = |error| ReadError::Read {
            name: self.name.clone(),
            line: 0,
            error,
        };
        let mut file = self.file.try_clone().map_err(failed)?;
        file.rewind().map_err(failed)?;
        Ok(Reader::new(self.progress.of(file), &self.name)?)
    }
}

/// The file at a path; `None` for standard input.
fn file(path: &Path) -> io::Result<Option<File>> {
    if path.as_os_str() == "-" {
        return Ok(None);
    }
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    Ok(Some(file))
}

/// All of `input` in a file that has no name, and is gone with its descriptor.
fn spool(mut input: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut input, &mut file)?;
    Ok(file)
}
