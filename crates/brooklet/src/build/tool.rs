//! Runs compilers and package managers: quiet when they succeed, their own words when they fail.

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// As much of a failing tool's output as is shown.
const SHOWN_LINES: usize = 60;

/// A program about to be run.
pub struct Tool {
    command: Command,
    /// How it is called in messages: the program and its arguments up to the first option.
    title: String,
    named: bool,
    /// What to install when it is missing.
    install: &'static str,
    shown: bool,
}

impl Tool {
    /// `install` completes "install …" when the program is missing.
    pub fn new(program: impl AsRef<OsStr>, install: &'static str) -> Tool {
        let program = program.as_ref();
        let title = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Tool { command, title, named: false, install, shown: false }
    }

    /// Calls it this in messages, whatever its arguments are.
    pub fn titled(mut self, title: &str) -> Tool {
        self.title = title.to_string();
        self.named = true;
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Tool {
        for arg in args {
            let word = arg.as_ref().to_string_lossy();
            self.named |= word.contains('/') || (word.starts_with('-') && word != "-m");
            if !self.named {
                self.title = format!("{} {word}", self.title);
            }
            self.command.arg(arg);
        }
        self
    }

    /// Adds one argument.
    pub fn arg(self, arg: impl AsRef<OsStr>) -> Tool {
        self.args([arg])
    }

    /// Sets the working directory.
    pub fn dir(mut self, dir: &Path) -> Tool {
        self.command.current_dir(dir);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Tool {
        self.command.env(name, value);
        self
    }

    /// Lets the user see the output as it comes.
    pub fn shown(mut self) -> Tool {
        self.shown = true;
        self
    }

    /// Runs it to its end; its standard output.
    pub fn run(mut self) -> Result<String> {
        if self.shown {
            // A user's own build: its output belongs to them, and standard output is for the answer.
            self.command.stdout(std::io::stderr()).stderr(Stdio::inherit());
        }
        let progress = (!self.shown).then(|| output::progress(self.title.clone()));
        let result = self.command.output();
        drop(progress);
        let done = result.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(Exit::Build, format!("{} is not installed", self.command.get_program().display()))
                    .fix(format!("install {}", self.install))
            }
            _ => Error::new(Exit::Build, format!("cannot run {}", self.title)).because(error),
        })?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        let said = [&done.stdout[..], &done.stderr[..]].concat();
        let said = last_lines(&String::from_utf8_lossy(&said), SHOWN_LINES);
        let error = Error::new(Exit::Build, format!("`{}` failed ({})", self.title, done.status));
        Err(if said.is_empty() { error } else { error.because(said) })
    }
}

/// Without colours: they would spill over what is said around them, and mean nothing in a file.
fn last_lines(text: &str, count: usize) -> String {
    let text = console::strip_ansi_codes(text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_says_what_to_install() {
        let error = Tool::new("no-such-compiler", "the compiler").run().expect_err("is missing");
        assert_eq!(error.exit, Exit::Build);
        assert_eq!(error.to_string(), "no-such-compiler is not installed\n  fix:     install the compiler");
    }

    #[test]
    fn a_failing_tool_is_quoted() {
        let tool = Tool::new("sh", "a shell")
            .args(["-c", "echo out; printf '\\033[31mbad\\033[0m\\n\\033[0m\\n' >&2; exit 3"]);
        let text = tool.run().expect_err("fails").to_string();
        assert!(
            text.contains("exit status: 3") && text.contains("out\n") && text.ends_with("bad"),
            "{text:?}"
        );
    }

    #[test]
    fn a_tool_that_succeeds_is_quiet() {
        assert_eq!(
            Tool::new("sh", "a shell").args(["-c", "echo out; echo noise >&2"]).run().expect("runs"),
            "out\n"
        );
    }
}
