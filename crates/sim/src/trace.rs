//! Where invocations come from: traces that others recorded, our own log, or a generator.
//!
//! Readers hold what they know of each function, never its invocations, and play them into a [`Sink`] one by one. Each
//! function's come in order of time; those of different functions may, or may not, be mixed.

mod azure; //         the Azure Functions trace 2019
mod ledger; //        the meter records of a data directory
pub mod synthetic; // distributions that were published

use crate::replay::{Invocation, Profile};
use model::Time;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use synthetic::{Shape, Synthetic};

/// Where invocations come from.
#[derive(Clone, Debug)]
pub enum Trace {
    /// Files in the layout of the Azure Functions trace 2019.
    Azure(Vec<PathBuf>),
    /// Files of meter records, in order of time.
    Ledger(Vec<PathBuf>),
    /// Made up.
    Synthetic(Synthetic),
}

/// What a trace does not say.
#[derive(Clone, Copy, Debug)]
pub struct Assumed {
    /// How long a start takes.
    pub start: Duration,
    /// Memory of an instance, MiB.
    pub memory_mib: f64,
}

impl Default for Assumed {
    /// 200 ms; 128 MiB.
    fn default() -> Assumed {
        Assumed { start: Duration::from_millis(200), memory_mib: 128.0 }
    }
}

/// Where a trace is played to.
pub trait Sink {
    /// A function that there will be invocations of; what it is called by from now on.
    fn open(&mut self, profile: Profile) -> usize;
    /// An invocation.
    fn invoke(&mut self, function: usize, invocation: Invocation);
    /// The function's trace ends at this time.
    fn close(&mut self, function: usize, end: Time);
}

/// Why a trace cannot be read.
#[derive(Debug)]
pub struct TraceError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, and the column in it, from 1: the character in a log, the field in a table. Zero: the file as a whole.
    pub place: (u64, u64),
    /// What is wrong.
    pub what: String,
}

impl std::error::Error for TraceError {}

impl std::fmt::Display for TraceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = self.file.display();
        match self.place {
            (0, _) => write!(f, "{file}: {}", self.what),
            (line, 0) => write!(f, "{file}:{line}: {}", self.what),
            (line, column) => write!(f, "{file}:{line}:{column}: {}", self.what),
        }
    }
}

impl TraceError {
    fn new(file: &Path, place: (u64, u64), what: impl Into<String>) -> TraceError {
        TraceError { file: file.to_owned(), place, what: what.into() }
    }

    fn io(file: &Path, error: &std::io::Error) -> TraceError {
        TraceError::new(file, (0, 0), format!("cannot be read: {error}"))
    }
}

/// No line of a trace is longer: a day of a function in minutes is some 10 KB.
const MAX_LINE: u64 = 1 << 20;

/// Reads the next line, which is this one; false at the end.
fn read_line(
    reader: &mut impl BufRead,
    text: &mut String,
    file: &Path,
    number: u64,
) -> Result<bool, TraceError> {
    text.clear();
    let error = |what| Err(TraceError::new(file, (number, 0), what));
    match reader.take(MAX_LINE).read_line(text) {
        Ok(0) => Ok(false),
        Ok(len) if len as u64 == MAX_LINE && !text.ends_with('\n') => {
            error("is longer than 1 MiB".to_string())
        }
        Ok(_) => Ok(true),
        Err(failure) => error(format!("cannot be read: {failure}")),
    }
}

impl Trace {
    /// What a file or folder is: `.csv` is Azure's, `.ndjson` ours; a data directory has `meter/`.
    ///
    /// # Errors
    /// There is nothing of the kind.
    pub fn at(path: &Path) -> Result<Trace, TraceError> {
        if !path.is_dir() {
            let file = std::fs::File::open(path).map_err(|error| TraceError::io(path, &error))?;
            drop(file);
            let is_table = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
            let files = vec![path.to_owned()];
            return Ok(if is_table { Trace::Azure(files) } else { Trace::Ledger(files) });
        }
        let meter = path.join("meter");
        for (folder, extension) in [(path, "csv"), (&*meter, "ndjson"), (path, "ndjson")] {
            let mut files: Vec<PathBuf> = match std::fs::read_dir(folder) {
                Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
                Err(_) if folder != path => continue,
                Err(error) => return Err(TraceError::io(folder, &error)),
            };
            files.retain(|file| file.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension)));
            files.sort();
            match (files.is_empty(), extension) {
                (true, _) => {}
                (false, "csv") => return Ok(Trace::Azure(files)),
                (false, _) => return Ok(Trace::Ledger(files)),
            }
        }
        let what = "there is no trace in it: neither .csv files in Azure's layout nor meter records (meter/*.ndjson)";
        Err(TraceError::new(path, (0, 0), what))
    }

    /// Plays it.
    ///
    /// # Errors
    /// It cannot be read, or is not what it seems to be.
    pub fn play(&self, assumed: &Assumed, sink: &mut impl Sink) -> Result<(), TraceError> {
        match self {
            Trace::Azure(files) => azure::play(files, assumed, sink),
            Trace::Ledger(files) => ledger::play(files, assumed, sink),
            Trace::Synthetic(synthetic) => {
                synthetic.play(assumed, sink);
                Ok(())
            }
        }
    }
}
