//! Reads a TOML document so that all of its mistakes are found at once, each with its file, line and remedy.
//!
//! Deserialising into a struct would stop at the first mistake and lose the place of the others. Here the
//! reader asks a [`Table`] for each key it knows; what nobody asked for is an unknown key.

use crate::error::Error;
use crate::exit::Exit;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Something wrong in a document (or in a flag or environment variable).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where: `brooklet.toml:12`, `--listen`, `BROOKLET_LISTEN`.
    pub place: String,
    /// What is wrong and what would be right.
    pub what: String,
}

/// A document's name and text, for turning offsets into lines.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// As the user would name the file.
    pub name: &'a str,
    /// Its whole text.
    pub text: &'a str,
}

impl Source<'_> {
    /// `name:line`, counted from 1.
    pub fn place(&self, at: usize) -> String {
        let line = self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|&&b| b == b'\n').count();
        format!("{}:{}", self.name, line + 1)
    }
}

/// All mistakes as one error: those of flags and environment first, then in the order of the document's lines.
pub fn fail(mut mistakes: Vec<Mistake>) -> Error {
    let line = |place: &str| place.rsplit_once(':').and_then(|(_, line)| line.parse::<usize>().ok());
    mistakes.sort_by_key(|mistake| line(&mistake.place));
    let count = match mistakes.len() {
        1 => "1 mistake:".to_string(),
        n => format!("{n} mistakes:"),
    };
    let lines = mistakes.iter().map(|m| format!("\n  {}: {}", m.place, m.what.replace('\n', "\n    ")));
    Error::new(Exit::Mistakes, count + &lines.collect::<String>())
}

/// The value of a key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// Where: `brooklet.toml:12`.
    pub place: String,
}

/// One table of a document: hands out values by key and collects what is wrong with them.
pub struct Table<'a> {
    source: Source<'a>,
    /// For messages: `function.hello`; empty for the whole document.
    path: String,
    /// Where the table begins.
    start: usize,
    entries: BTreeMap<String, (Range<usize>, Spanned<DeValue<'a>>)>,
    asked: Vec<&'static str>,
    /// What has been found wrong so far.
    pub mistakes: Vec<Mistake>,
}

impl<'a> Table<'a> {
    /// Parses a whole document. Syntax errors become mistakes; what could be parsed is still checked.
    pub fn parse(source: Source<'a>) -> Table<'a> {
        let (table, errors) = DeTable::parse_recoverable(source.text);
        let mistakes = errors
            .iter()
            .map(|error| Mistake {
                place: source.place(error.span().map_or(0, |span| span.start)),
                what: error.message().to_string(),
            })
            .collect();
        Table { mistakes, ..Table::new(source, String::new(), 0, table.into_inner()) }
    }

    fn new(source: Source<'a>, path: String, start: usize, table: DeTable<'a>) -> Table<'a> {
        let entry = |(key, value): (Spanned<std::borrow::Cow<'a, str>>, Spanned<DeValue<'a>>)| {
            (key.get_ref().to_string(), (key.span(), value))
        };
        Table {
            source,
            path,
            start,
            entries: table.into_iter().map(entry).collect(),
            asked: vec![],
            mistakes: vec![],
        }
    }

    /// The keys that are there, known or not.
    pub fn keys(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// Where the table begins: `brooklet.toml:12`.
    pub fn place(&self) -> String {
        self.source.place(self.start)
    }

    /// Records a mistake at `place`.
    pub fn mistake(&mut self, place: &str, what: impl Into<String>) {
        self.mistakes.push(Mistake { place: place.to_string(), what: what.into() });
    }

    /// Text.
    pub fn string(&mut self, key: &'static str) -> Option<Found<String>> {
        self.take(key, "text in quotes", |value| match value {
            DeValue::String(text) => Some(text.into_owned()),
            _ => None,
        })
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Option<Found<bool>> {
        self.take(key, "true or false", |value| value.as_bool())
    }

    /// A list of texts.
    pub fn strings(&mut self, key: &'static str) -> Option<Found<Vec<String>>> {
        self.take(key, "a list of texts", |value| {
            value.as_array()?.iter().map(|v| v.get_ref().as_str().map(str::to_string)).collect()
        })
    }

    /// A table from name to text, such as environment variables. Numbers and booleans are taken as text too.
    pub fn texts(&mut self, key: &'static str) -> Option<Found<BTreeMap<String, String>>> {
        self.take(key, "a table of name = \"value\"", |value| {
            let entries = value.as_table()?.iter();
            entries.map(|(k, v)| Some((k.get_ref().to_string(), scalar(v.get_ref())?))).collect()
        })
    }

    /// A value that `parse` understands as text: durations, sizes, names. Numbers and booleans are given to
    /// it as they are written, so that its message tells what is missing (a unit).
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Found<T>> {
        let Found { value, place } = self.take(key, "text in quotes", |value| scalar(&value))?;
        match parse(&value) {
            Ok(value) => Some(Found { value, place }),
            Err(what) => {
                self.mistake(&place, format!("{}: {what}", self.name(key)));
                None
            }
        }
    }

    /// Whether the key's value is a table; asks for nothing.
    pub fn is_table(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|(_, value)| value.get_ref().is_table())
    }

    /// Whether the key's value is `true` or `false`; asks for nothing.
    pub fn is_boolean(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|(_, value)| value.get_ref().is_bool())
    }

    /// A table within this one. Its mistakes are its own until it is given to [`Table::finish`].
    pub fn table(&mut self, key: &'static str) -> Option<Table<'a>> {
        self.asked.push(key);
        self.named_table(key)
    }

    /// As [`Table::table`], for a key that the user chose.
    pub fn named_table(&mut self, key: &str) -> Option<Table<'a>> {
        let (span, value) = self.entries.remove(key)?;
        match value.into_inner() {
            DeValue::Table(table) => Some(Table::new(self.source, self.name(key), span.start, table)),
            other => {
                let what = format!("{} must be a table, not {}", self.name(key), other.type_str());
                self.mistake(&self.source.place(span.start), what);
                None
            }
        }
    }

    /// Ends reading: what nobody asked for is unknown. Appends all mistakes to `mistakes`.
    pub fn finish(mut self, mistakes: &mut Vec<Mistake>) {
        for (key, (span, _)) in std::mem::take(&mut self.entries) {
            let near = nearest(&key, self.asked.iter().copied());
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.asked.join(", ")),
            };
            self.mistake(
                &self.source.place(span.start),
                format!("unknown key `{}`: {hint}", self.name(&key)),
            );
        }
        mistakes.append(&mut self.mistakes);
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    fn take<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(DeValue<'a>) -> Option<T>,
    ) -> Option<Found<T>> {
        self.asked.push(key);
        let (_, value) = self.entries.remove(key)?;
        let place = self.source.place(value.span().start);
        let kind = value.get_ref().type_str();
        match read(value.into_inner()) {
            Some(value) => Some(Found { value, place }),
            None => {
                self.mistake(&place, format!("{} must be {expected}, not {kind}", self.name(key)));
                None
            }
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

/// The known word that `word` was probably meant to be.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let fold = |text: &str| text.to_ascii_lowercase().replace(['-', '_', '.'], "");
    let word = fold(word);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads keys `name` (text), `count` (list), `on` (boolean), `wait` (duration) and reports the mistakes as lines.
    fn check(text: &str, expected: &[&str]) {
        let mut table = Table::parse(Source { name: "a.toml", text });
        table.string("name");
        table.strings("count");
        table.boolean("on");
        table.parsed("wait", crate::units::duration);
        let mut mistakes = vec![];
        table.finish(&mut mistakes);
        let lines: Vec<String> = mistakes.iter().map(|m| format!("{}: {}", m.place, m.what)).collect();
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn a_right_document_has_no_mistakes() {
        check("name = 'x'\ncount = ['a']\non = true\nwait = '3s'", &[]);
    }

    #[test]
    fn all_mistakes_come_at_once_with_their_lines() {
        check(
            "name = 7\n\ncount = -1\nwait = '3'\nnmae = ''",
            &[
                "a.toml:1: name must be text in quotes, not integer",
                "a.toml:3: count must be a list of texts, not integer",
                "a.toml:4: wait: `3` is not a duration: write a whole number with ms, s, m, h or d, such as 30s",
                "a.toml:5: unknown key `nmae`: did you mean `name`?",
            ],
        );
    }

    #[test]
    fn an_unlike_key_gets_the_list_of_known_ones() {
        check("zebra = 1", &["a.toml:1: unknown key `zebra`: known here: name, count, on, wait"]);
    }

    #[test]
    fn the_nearest_word_ignores_case_and_separators() {
        assert_eq!(nearest("memorySize", ["memory-size", "timeout"]), Some("memory-size"));
        assert_eq!(nearest("tiemout", ["memory-size", "timeout"]), Some("timeout"));
        assert_eq!(nearest("colour", ["memory-size", "timeout"]), None);
    }
}
