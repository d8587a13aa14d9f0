//! Our own invocation log: the meter records of a data directory, one JSON object a line.
//!
//! Records are written when invocations end, so a long one comes after short ones that began later. They are put in order
//! in a heap that holds what may still be overtaken: the records of some 16 minutes, the longest that one can take.

use super::{Assumed, Sink, TraceError, read_line};
use crate::replay::{Invocation, Profile};
use model::{MeterRecord, MiB, Time};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No invocation takes longer from its arrival to its record, ms.
const LONGEST_MS: u64 = 16 * 60_000;

/// What the records say about one function.
#[derive(Default)]
struct Known {
    memory: MiB,
    starts: u32,
    start_us: u64,
}

pub(super) fn play(files: &[PathBuf], assumed: &Assumed, sink: &mut impl Sink) -> Result<(), TraceError> {
    let mut known: HashMap<String, Known> = HashMap::new();
    let (mut first, mut last) = (u64::MAX, 0);
    read(files, |record| {
        let (at, end) = span(record);
        (first, last) = (first.min(at), last.max(end));
        let known = known.entry(name(record)).or_default();
        // Where nothing was sampled, what it may use is all that is known.
        known.memory =
            known.memory.max(if record.max_memory.0 > 0 { record.max_memory } else { record.memory });
        if let Some(us) = record.init_us {
            (known.starts, known.start_us) = (known.starts + 1, known.start_us + us);
        }
    })?;
    if first > last {
        return Err(TraceError::new(&files[0], (0, 0), "has no record: nothing was invoked"));
    }
    let mut open: HashMap<String, usize> = HashMap::new();
    for (function, known) in &known {
        let start = match known.starts {
            0 => assumed.start,
            count => Duration::from_micros(known.start_us / u64::from(count)),
        };
        let memory_mib = f64::from(known.memory.0.max(1));
        open.insert(function.clone(), sink.open(Profile { memory_mib, start, concurrency: 1 }));
    }
    let mut heap: BinaryHeap<Reverse<(u64, usize, u64)>> = BinaryHeap::new();
    let mut seen = 0;
    let mut play_one = |(at, function, us): (u64, usize, u64)| {
        let (at, takes) = (Time::from_millis(at - first), Duration::from_micros(us));
        sink.invoke(function, Invocation { at, takes });
    };
    read(files, |record| {
        let (at, end) = span(record);
        seen = end.max(seen);
        heap.push(Reverse((at, open[&name(record)], record.duration_us)));
        while let Some(&Reverse(next)) = heap.peek()
            && next.0 + LONGEST_MS < seen
        {
            heap.pop();
            play_one(next);
        }
    })?;
    while let Some(Reverse(next)) = heap.pop() {
        play_one(next);
    }
    for function in open.into_values() {
        sink.close(function, Time::from_millis(last - first));
    }
    Ok(())
}

/// A pool's worth: one version of one function.
fn name(record: &MeterRecord) -> String {
    format!("{}:{}", record.function, record.version)
}

/// When it arrived and ended, ms: a start that was waited for comes before what the record calls its beginning.
fn span(record: &MeterRecord) -> (u64, u64) {
    let started = record.started.as_millis();
    (started.saturating_sub(record.init_us.unwrap_or(0) / 1_000), started + record.duration_us / 1_000)
}

fn read(files: &[PathBuf], mut each: impl FnMut(&MeterRecord)) -> Result<(), TraceError> {
    for path in files {
        let file = File::open(path).map_err(|error| TraceError::io(path, &error))?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let (mut text, mut number) = (String::new(), 1);
        while read_line(&mut reader, &mut text, path, number)? {
            // A server that was killed, or a full disk, leaves the beginning of a record at most at the end.
            let is_torn = !text.ends_with('\n');
            match serde_json::from_str::<MeterRecord>(&text) {
                Ok(record) => each(&record),
                Err(_) if is_torn || text.trim().is_empty() => {}
                Err(error) => return Err(not_a_record(path, number, &error)),
            }
            number += 1;
        }
    }
    Ok(())
}

fn not_a_record(path: &Path, line: u64, error: &serde_json::Error) -> TraceError {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    TraceError::new(path, (line, error.column() as u64), format!("is not a meter record: {what}"))
}
