//! The layout of the Azure Functions trace 2019 (github.com/Azure/AzurePublicDataset): tables of invocations per minute,
//! of durations and of memory, for one day or several. Which is which says the first line.
//!
//! A trace in minutes leaves open when in a minute a request comes. Timers fire at the same second of every minute;
//! everything else comes at random in its minute. How long it takes is drawn from the percentiles of its function.

use super::{Assumed, Sink, TraceError, read_line};
use crate::Random;
use crate::replay::{Invocation, Profile};
use model::Time;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The column of the first minute in a table of invocations.
const FIRST_MINUTE: usize = 4;

/// Invocations of a function in one minute, at most: they are put in order in memory.
const MOST_A_MINUTE: u64 = 10_000_000;

/// One row of a table of invocations.
#[derive(Clone, Copy)]
struct Row {
    file: usize,
    line: u64,
    offset: u64,
    len: usize,
}

/// A table of invocations: one day, or whatever it covers.
struct Day<'a> {
    path: &'a Path,
    file: File,
    /// Its first minute, counted from the beginning of the first table.
    first: u64,
    minutes: usize,
}

/// Points of a distribution: share (0 to 1), ms.
type Quantiles = Vec<(f64, f64)>;

#[derive(Default)]
struct Tables<'a> {
    days: Vec<Day<'a>>,
    /// By function, in order of appearance.
    rows: Vec<(String, Vec<Row>)>,
    durations: HashMap<String, Quantiles>,
    /// By function, or by application where that is what there is: MiB.
    memory: HashMap<String, f64>,
}

/// A line of a table, from 1, with its fields.
struct Line<'a> {
    path: &'a Path,
    number: u64,
    fields: Vec<&'a str>,
}

impl Line<'_> {
    fn error(&self, column: usize, what: impl Into<String>) -> TraceError {
        TraceError::new(self.path, (self.number, column as u64 + 1), what)
    }

    fn number(&self, column: usize) -> Result<f64, TraceError> {
        let text = self.fields.get(column).copied().unwrap_or_default();
        let value = text.trim().parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
        value.ok_or_else(|| self.error(column, format!("`{text}` is not a number of at least 0")))
    }
}

pub(super) fn play(files: &[PathBuf], assumed: &Assumed, sink: &mut impl Sink) -> Result<(), TraceError> {
    let mut tables = Tables::default();
    let mut index = HashMap::new();
    files.iter().try_for_each(|path| tables.read(path, &mut index))?;
    drop(index);
    if tables.days.is_empty() {
        let what = "is not a table of invocations: its first line must be HashOwner,HashApp,HashFunction,Trigger,1,2,3…";
        return Err(TraceError::new(&files[0], (0, 0), what));
    }
    tables.play(assumed, sink)
}

impl<'a> Tables<'a> {
    fn read(&mut self, path: &'a Path, index: &mut HashMap<String, usize>) -> Result<(), TraceError> {
        let file = File::open(path).map_err(|error| TraceError::io(path, &error))?;
        let mut reader = BufReader::with_capacity(1 << 16, &file);
        let mut text = String::new();
        if !read_line(&mut reader, &mut text, path, 1)? {
            return Ok(());
        }
        let mut offset = text.len() as u64;
        let header =
            text.trim_end().split(',').map(|field| field.trim().trim_start_matches('\u{feff}').to_string());
        let header: Vec<String> = header.collect();
        let (kind, columns) = Kind::of(&header);
        if kind == Kind::Other {
            return Ok(());
        }
        let mut number = 2;
        while read_line(&mut reader, &mut text, path, number)? {
            let line = Line { path, number, fields: text.trim_end().split(',').collect() };
            if !text.trim().is_empty() {
                if line.fields.len() != header.len() {
                    let what =
                        format!("{} fields, and the first line has {}", line.fields.len(), header.len());
                    return Err(line.error(line.fields.len().min(header.len()), what));
                }
                let row = Row { file: self.days.len(), line: number, offset, len: text.len() };
                self.take(kind, &columns, &line, row, index)?;
            }
            (number, offset) = (number + 1, offset + text.len() as u64);
        }
        if kind == Kind::Invocations {
            let first = self.days.last().map_or(0, |day| day.first + day.minutes as u64);
            self.days.push(Day { path, file, first, minutes: header.len() - FIRST_MINUTE });
        }
        Ok(())
    }

    /// Takes one row in. Of invocations only where they are: they are read when they are played.
    fn take(
        &mut self,
        kind: Kind,
        columns: &Columns,
        line: &Line<'_>,
        row: Row,
        index: &mut HashMap<String, usize>,
    ) -> Result<(), TraceError> {
        let key = line.fields[columns.function].to_string();
        match kind {
            Kind::Invocations => {
                let place = *index.entry(key.clone()).or_insert_with(|| {
                    self.rows.push((key, Vec::new()));
                    self.rows.len() - 1
                });
                self.rows[place].1.push(row);
            }
            Kind::Durations => {
                let points = columns.points.iter().map(|&(share, column)| Ok((share, line.number(column)?)));
                self.durations.insert(key, points.collect::<Result<_, _>>()?);
            }
            Kind::Memory => {
                self.memory.insert(key, line.number(columns.value)?);
            }
            Kind::Other => {}
        }
        Ok(())
    }

    fn play(&self, assumed: &Assumed, sink: &mut impl Sink) -> Result<(), TraceError> {
        let minutes = self.days.last().map_or(0, |day| day.first + day.minutes as u64);
        let mut bytes = Vec::new();
        for (number, (function, rows)) in self.rows.iter().enumerate() {
            let mut random = Random::new(number as u64);
            let second = random.below(55_000);
            let mut opened = None;
            for row in rows {
                let day = &self.days[row.file];
                bytes.resize(row.len, 0);
                day.file
                    .read_exact_at(&mut bytes, row.offset)
                    .map_err(|error| TraceError::io(day.path, &error))?;
                let text = std::str::from_utf8(&bytes)
                    .map_err(|_| TraceError::new(day.path, (row.line, 0), "is not UTF-8"))?;
                let line =
                    Line { path: day.path, number: row.line, fields: text.trim_end().split(',').collect() };
                let key =
                    *opened.get_or_insert_with(|| sink.open(self.profile(function, line.fields[1], assumed)));
                let timer = line.fields[3].eq_ignore_ascii_case("timer").then_some(second);
                self.play_day(day.first, &line, timer, function, &mut random, |invocation| {
                    sink.invoke(key, invocation)
                })?;
            }
            if let Some(key) = opened {
                sink.close(key, Time::from_millis(minutes * 60_000));
            }
        }
        Ok(())
    }

    /// Plays a row. `timer`: when in a minute it fires, ms; none: at any time.
    fn play_day(
        &self,
        first: u64,
        line: &Line<'_>,
        timer: Option<u64>,
        function: &str,
        random: &mut Random,
        mut invoke: impl FnMut(Invocation),
    ) -> Result<(), TraceError> {
        let mut times = Vec::new();
        for (minute, field) in
            line.fields[FIRST_MINUTE..].iter().enumerate().filter(|(_, field)| **field != "0")
        {
            let column = minute + FIRST_MINUTE;
            let count: u64 = field
                .trim()
                .parse()
                .map_err(|_| line.error(column, format!("`{field}` is not a number of invocations")))?;
            if count > MOST_A_MINUTE {
                return Err(line.error(
                    column,
                    format!("`{field}` are more than the {MOST_A_MINUTE} of one minute that can be played"),
                ));
            }
            let minute = (first + minute as u64) * 60_000;
            times.clear();
            times.extend((0..count).map(|place| match timer {
                Some(second) => minute + second + place * 5_000 / count,
                None => minute + random.below(60_000),
            }));
            times.sort_unstable();
            for &at in &times {
                invoke(Invocation { at: Time::from_millis(at), takes: self.duration(function, random) });
            }
        }
        Ok(())
    }

    fn profile(&self, function: &str, app: &str, assumed: &Assumed) -> Profile {
        let memory = self.memory.get(function).or_else(|| self.memory.get(app));
        let memory_mib = memory.copied().unwrap_or(assumed.memory_mib);
        Profile { memory_mib, start: assumed.start, concurrency: 1 }
    }

    /// Drawn from the function's percentiles, with straight lines between them.
    fn duration(&self, function: &str, random: &mut Random) -> Duration {
        let share = random.unit();
        let Some(points) = self.durations.get(function) else { return Duration::from_millis(100) };
        let above = points.iter().position(|point| point.0 >= share).unwrap_or(points.len() - 1);
        let (high, low) = (points[above], points[above.saturating_sub(1)]);
        let part = if high.0 > low.0 { (share - low.0) / (high.0 - low.0) } else { 1.0 };
        Duration::from_micros(((low.1 + (high.1 - low.1).max(0.0) * part.clamp(0.0, 1.0)) * 1e3) as u64)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Invocations,
    Durations,
    Memory,
    Other,
}

/// Where in a row what is.
#[derive(Default)]
struct Columns {
    /// The function's name; in tables of memory by application, the application's.
    function: usize,
    value: usize,
    points: Vec<(f64, usize)>,
}

impl Kind {
    fn of(header: &[String]) -> (Kind, Columns) {
        let find = |name: &str| header.iter().position(|field| field == name);
        let function = find("HashFunction").or_else(|| find("HashApp"));
        let Some(function) = function else { return (Kind::Other, Columns::default()) };
        let columns = Columns { function, ..Columns::default() };
        let starts = ["HashOwner", "HashApp", "HashFunction", "Trigger"];
        if header.len() > FIRST_MINUTE && header.iter().zip(starts).all(|(field, name)| field == name) {
            return (Kind::Invocations, columns);
        }
        if let Some(value) = find("AverageAllocatedMb") {
            return (Kind::Memory, Columns { value, ..columns });
        }
        let percent = |field: &str| field.strip_prefix("percentile_Average_")?.parse::<f64>().ok();
        let points =
            header.iter().enumerate().filter_map(|(column, field)| Some((percent(field)? / 100.0, column)));
        let mut points: Vec<_> = points.collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        match points.is_empty() {
            true => (Kind::Other, columns),
            false => (Kind::Durations, Columns { points, ..columns }),
        }
    }
}
