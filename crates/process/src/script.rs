//! Rows of operations for a sandbox's first process (`init/`), written down as bytes.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

#[allow(dead_code)]
pub mod ops {
    //! The language, as the other side has it.
    include!("../init/ops.rs");
}

/// A row of operations in the order they were added.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Script {
    bytes: Vec<u8>,
    operations: Vec<u8>,
    /// What each operation is about, for the message when it fails.
    about: Vec<String>,
    unfit: Option<String>,
}

impl Script {
    /// Adds an operation with these texts; numbers are added by [`Script::number`].
    pub fn add(&mut self, operation: u8, texts: &[&OsStr]) -> &mut Script {
        self.bytes.push(operation);
        self.operations.push(operation);
        let about: Vec<_> = texts.iter().map(|text| text.to_string_lossy()).collect();
        self.about.push(format!("{} {}", name(operation), about.join(" ")));
        texts.iter().for_each(|text| self.text(text));
        self
    }

    /// The next operand, a number.
    pub fn number(&mut self, number: u32) -> &mut Script {
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// The next operand, a text that comes after a number.
    pub fn operand(&mut self, text: &OsStr) -> &mut Script {
        self.text(text);
        self
    }

    /// The next operand, as it is.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Script {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The next operand, a counted row of texts.
    pub fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a OsStr>) -> &mut Script {
        self.number(texts.len() as u32);
        texts.for_each(|text| self.text(text));
        self
    }

    /// The next operands: a command line and variables.
    pub fn program(&mut self, argv: &[OsString], environment: &[(String, String)]) -> &mut Script {
        let variables = environment.iter().map(|(key, value)| format!("{key}={value}").into());
        let variables: Vec<OsString> = variables.collect();
        self.texts(argv.iter().map(OsString::as_os_str)).texts(variables.iter().map(OsString::as_os_str))
    }

    /// Puts another row after this one.
    pub fn then(&mut self, mut other: Script) -> &mut Script {
        self.bytes.append(&mut other.bytes);
        self.operations.append(&mut other.operations);
        self.about.append(&mut other.about);
        self.unfit = self.unfit.take().or(other.unfit);
        self
    }

    /// The message.
    ///
    /// # Errors
    /// A text has a NUL byte in it, or all of it is longer than a message may be.
    pub fn bytes(&self) -> io::Result<&[u8]> {
        match &self.unfit {
            Some(text) => Err(invalid(format!("{text:?} contains a NUL byte"))),
            None if self.bytes.len() > ops::MAX_MESSAGE => Err(invalid(format!(
                "command line and variables take {} bytes, more than the {} that fit",
                self.bytes.len(),
                ops::MAX_MESSAGE
            ))),
            None => Ok(&self.bytes),
        }
    }

    /// Whether the operation at this place starts the program.
    pub fn is_run(&self, place: usize) -> bool {
        self.operations.get(place) == Some(&ops::RUN)
    }

    /// The operation at this place, in words.
    pub fn describe(&self, place: usize) -> &str {
        self.about.get(place).map_or("an operation", |about| about.trim_end())
    }

    fn text(&mut self, text: &OsStr) {
        if text.as_bytes().contains(&0) {
            self.unfit.get_or_insert_with(|| text.to_string_lossy().into_owned());
        }
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn name(operation: u8) -> &'static str {
    match operation {
        ops::MKDIR => "mkdir",
        ops::TOUCH => "touch",
        ops::SYMLINK => "symlink",
        ops::BIND => "bind",
        ops::MOUNT => "mount",
        ops::SEAL => "seal",
        ops::PRIVATE => "private mounts",
        ops::PIVOT => "pivot_root",
        ops::WRITE => "write",
        ops::UNSHARE => "unshare",
        ops::HOSTNAME => "host name",
        ops::IDENTITY => "user",
        ops::LIMIT => "limit",
        ops::FILTER => "system call filter",
        ops::RUN => "start in",
        ops::SIGNAL => "signal",
        ops::UNMOUNT => "unmount",
        ops::CLOSE => "give up privileges",
        ops::SOCKET => "open a socket",
        ops::USER => "own user",
        ops::CONFINE => "Landlock",
        ops::EXEC => "start",
        ops::ADOPT => "find the program",
        ops::FORK => "fork",
        _ => "unknown operation",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_in_nul_and_numbers_are_little_endian() {
        let mut script = Script::default();
        script.add(ops::MKDIR, &["/a".as_ref()]).add(ops::LIMIT, &[]).number(7).number(258);
        assert_eq!(script.bytes().expect("fits"), b"\x01/a\0\x0d\x07\0\0\0\x02\x01\0\0");
        assert_eq!(script.describe(0), "mkdir /a");
    }

    #[test]
    fn a_text_with_a_nul_byte_or_too_long_a_row_is_refused() {
        let mut script = Script::default();
        script.add(ops::MKDIR, &["a\0b".as_ref()]);
        assert!(script.bytes().expect_err("refused").to_string().contains("NUL"));
        let mut script = Script::default();
        script.add(ops::MKDIR, &["x".repeat(ops::MAX_MESSAGE).as_ref()]);
        assert!(script.bytes().expect_err("refused").to_string().contains("more than"));
    }
}
