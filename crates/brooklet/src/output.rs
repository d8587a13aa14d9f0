//! What people see: tables, colours only on a terminal, progress only on slow steps.

use crate::error::{Error, Result};
use crate::exit::Exit;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

/// Whether standard error may carry colours (<https://no-color.org>).
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints an error to standard error.
pub fn error(error: &Error) {
    let label = if colours() { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    note(format!("{label} {error}"));
}

/// Prints a line to standard error: what was done, for people. A closed pipe is no reason to stop.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// Prints to standard output. A reader that has gone away (`| head`) ends the program quietly.
pub fn print(text: impl AsRef<[u8]>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|error| Error::new(Exit::Failure, "cannot write the answer").because(error)),
    }
}

/// Prints a line to standard output.
pub fn line(text: impl AsRef<str>) -> Result<()> {
    print(format!("{}\n", text.as_ref()))
}

/// Prints a value as indented JSON.
pub fn json(value: &Value) -> Result<()> {
    line(format!("{value:#}"))
}

/// Columns as wide as their widest cell, two spaces between, nothing after the last.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header = header.iter().map(|cell| cell.to_string()).collect::<Vec<_>>();
    let all: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..header.len()).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Shows that a slow step is under way until it is dropped; nothing unless standard error is a terminal.
pub fn progress(message: impl Into<String>) -> Progress {
    if !std::io::stderr().is_terminal() {
        return Progress(None);
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}").expect("a valid template");
    let bar = ProgressBar::new_spinner().with_style(style).with_message(message.into());
    bar.enable_steady_tick(Duration::from_millis(100));
    Progress(Some(bar))
}

/// A slow step under way.
pub struct Progress(Option<ProgressBar>);

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Asks a yes-or-no question on the terminal. Without a terminal nobody can answer: that is an error that
/// names the flag.
pub fn confirm(question: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(Exit::Declined, format!("{question} Nobody is here to answer"))
            .fix("say --yes to go ahead without asking"));
    }
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::new(Exit::Declined, "nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_string(), "python3.12".into()], vec!["resize".into(), "".into()]];
        let text = super::table(&["NAME", "RUNTIME"], &rows);
        assert_eq!(text, "NAME    RUNTIME\na       python3.12\nresize");
    }
}
