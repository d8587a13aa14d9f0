//! Errors for people: what happened, because of what, how to fix it.

use crate::exit::Exit;
use std::fmt;

/// What a command ends with when it does not succeed.
#[derive(Debug)]
pub struct Error {
    /// The exit code.
    pub exit: Exit,
    /// What happened: one sentence without a full stop, or several lines when there are several mistakes.
    pub what: String,
    /// What caused it.
    pub why: Option<String>,
    /// What to do about it.
    pub fix: Option<String>,
}

/// The result of everything that can end a command.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that says only what happened.
    pub fn new(exit: Exit, what: impl Into<String>) -> Error {
        Error { exit, what: what.into(), why: None, fix: None }
    }

    /// Names the function that it is about.
    pub fn of(mut self, function: &str) -> Error {
        self.what = format!("{function}: {}", self.what);
        self
    }

    /// Adds the cause.
    pub fn because(mut self, why: impl fmt::Display) -> Error {
        self.why = Some(why.to_string());
        self
    }

    /// Adds the remedy.
    pub fn fix(mut self, fix: impl Into<String>) -> Error {
        self.fix = Some(fix.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some(why) = &self.why {
            write!(f, "\n  because: {}", indent(why))?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n  fix:     {}", indent(fix))?;
        }
        Ok(())
    }
}

/// Keeps the following lines of `text` under the first.
fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n           ")
}

/// Says what was being done with which file when the system refused.
pub trait Doing<T> {
    /// `doing` completes "cannot …", for example "read /etc/brooklet.toml".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::new(Exit::Failure, format!("cannot {}", doing())).because(error))
    }
}
