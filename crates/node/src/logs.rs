//! What functions wrote, and what the platform says of each invocation, by function, stream and request id.
//!
//! Lines are buffered for some milliseconds and appended to segment files by one thread, so that a function
//! that floods its log costs others nothing; each function keeps a bounded number of segments. The platform's
//! own lines (START, END, REPORT) are kept as data and put into words when they are read.

mod platform; // the platform's own entries in Lambda's words

use crate::clock::{Clock, date};
use model::{MeterRecord, RequestId, Timestamp, Version};
use ports::{LogEvent, LogSink};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::sync::broadcast;

/// Lambda's limit for `LogType=Tail`.
const TAIL_BYTES: usize = 4096;
/// A segment is closed at this size.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Segments kept per function: the log of one is at most `SEGMENT_BYTES` × this, 32 MiB.
const SEGMENTS: usize = 4;
/// Lines that wait for the disk; more are counted as dropped.
const MAX_BUFFERED: usize = 200_000;
/// How long lines are collected before they are written.
const COLLECT: Duration = Duration::from_millis(5);
/// Segment files held open.
const MAX_OPEN: usize = 128;

/// One entry of a function's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    #[serde(rename = "t")]
    pub at: Timestamp,
    /// The log stream.
    #[serde(rename = "s")]
    pub stream: Arc<str>,
    /// The invocation it belongs to.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// Whether the platform's words are JSON here; a line of the function is as the function wrote it.
    #[serde(rename = "j", default, skip_serializing_if = "std::ops::Not::not")]
    pub json: bool,
    /// What it says.
    #[serde(flatten)]
    pub kind: EntryKind,
}

/// What an entry says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum EntryKind {
    /// A line of the function; bytes that are not UTF-8 have been replaced.
    #[serde(rename = "m")]
    Line(String),
    /// An invocation began on this version.
    #[serde(rename = "start")]
    Start(Version),
    /// An initialisation failed.
    #[serde(rename = "init")]
    InitReport {
        /// How long it took: microseconds.
        #[serde(rename = "us")]
        duration_us: u64,
        /// The error's type; `None` when it took too long.
        #[serde(rename = "e")]
        error_type: Option<String>,
    },
    /// An invocation ended.
    #[serde(rename = "report")]
    Report(Box<MeterRecord>),
}

impl Entry {
    /// The entry in Lambda's words: text, or JSON for a function that logs JSON. END and REPORT of the text
    /// format are two lines of one entry.
    pub fn text(&self) -> String {
        match &self.kind {
            EntryKind::Line(text) => text.clone(),
            kind if self.json => platform::json(self.at, self.request_id, kind),
            kind => platform::text(self.request_id, kind),
        }
    }
}

/// `2026/11/22/[$LATEST]` and 32 hexadecimal digits.
pub fn stream_name(version: &Version) -> String {
    let (year, month, day) = date(Clock::timestamp());
    format!("{year:04}/{month:02}/{day:02}/[{version}]{}", uuid::Uuid::new_v4().simple())
}

/// The logs of all functions, and the meter ledger.
pub struct Logs {
    shared: Arc<Shared>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

struct Shared {
    dir: PathBuf,
    ledger: PathBuf,
    buffer: Mutex<Buffer>,
    filled: Condvar,
    written: Condvar,
    dropped: AtomicU64,
    /// Invocations whose lines are also kept for `LogType=Tail`.
    tails: Mutex<HashMap<RequestId, String>>,
    tailing: AtomicUsize,
    live: broadcast::Sender<Arc<(Arc<str>, Entry)>>,
}

#[derive(Default)]
struct Buffer {
    entries: Vec<(Arc<str>, Entry)>,
    /// Counts batches, so that a reader can wait until what it saw happen is on disk.
    taken: u64,
    written: u64,
    closed: bool,
}

/// Which entries a reader wants; all conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this stream.
    pub stream: Option<String>,
    /// Of this invocation.
    pub request_id: Option<RequestId>,
    /// Not before.
    pub since: Option<Timestamp>,
}

impl Filter {
    fn wants(&self, entry: &Entry) -> bool {
        self.stream.as_deref().is_none_or(|stream| *stream == *entry.stream)
            && (self.request_id.is_none() || self.request_id == entry.request_id)
            && self.since.is_none_or(|since| entry.at >= since)
    }
}

impl Logs {
    /// Logs below `dir`/logs, the meter ledger below `dir`/meter.
    pub fn open(dir: &Path) -> std::io::Result<Arc<Logs>> {
        let (logs, ledger) = (dir.join("logs"), dir.join("meter"));
        std::fs::create_dir_all(&logs)?;
        std::fs::create_dir_all(&ledger)?;
        let shared = Arc::new(Shared {
            dir: logs,
            ledger,
            buffer: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
            tails: Mutex::default(),
            tailing: AtomicUsize::new(0),
            live: broadcast::channel(4096).0,
        });
        let writer = Writer { shared: shared.clone(), segments: HashMap::new(), ledger: None };
        let thread = std::thread::Builder::new().name("logs".into()).spawn(move || writer.run())?;
        Ok(Arc::new(Logs { shared, writer: Mutex::new(Some(thread)) }))
    }

    /// The log of one function.
    ///
    /// `json`: whether the platform's own lines are JSON there.
    pub fn function(&self, name: &str, json: bool) -> Arc<FunctionLog> {
        Arc::new(FunctionLog { name: name.into(), json, shared: self.shared.clone() })
    }

    /// Entries of a function in the order they came. Reads files: call it off the async workers.
    pub fn read(&self, function: &str, filter: &Filter, mut each: impl FnMut(Entry) -> bool) {
        self.shared.settle();
        for path in segments(&self.shared.dir.join(function)) {
            let Ok(file) = File::open(path) else { continue };
            for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
                let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
                if filter.wants(&entry) && !each(entry) {
                    return;
                }
            }
        }
    }

    /// Entries of all functions from now on. A reader that is too slow misses some and is told how many.
    pub fn follow(&self) -> broadcast::Receiver<Arc<(Arc<str>, Entry)>> {
        self.shared.live.subscribe()
    }

    /// Whether `entry` is one that `filter` lets through.
    pub fn matches(filter: &Filter, entry: &Entry) -> bool {
        filter.wants(entry)
    }

    /// Lines that were thrown away because the disk was too slow.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Forgets a function's log.
    pub fn forget(&self, function: &str) {
        self.shared.settle();
        let _ = std::fs::remove_dir_all(self.shared.dir.join(function));
    }

    /// Writes what is buffered and ends the writer.
    pub fn close(&self) {
        self.shared.buffer.lock().expect("no panic while held").closed = true;
        self.shared.filled.notify_one();
        if let Some(thread) = self.writer.lock().expect("no panic while held").take() {
            let _ = thread.join();
        }
    }
}

/// The log of one function.
pub struct FunctionLog {
    name: Arc<str>,
    json: bool,
    shared: Arc<Shared>,
}

impl FunctionLog {
    /// Also keeps what `id` writes from here on, for `LogType=Tail`.
    pub fn begin_tail(&self, id: RequestId) {
        self.shared.tailing.fetch_add(1, Ordering::Relaxed);
        self.shared.tails.lock().expect("no panic while held").insert(id, String::new());
    }

    /// The last 4 KiB of what was kept for `id`.
    pub fn end_tail(&self, id: RequestId) -> Option<bytes::Bytes> {
        let text = self.shared.tails.lock().expect("no panic while held").remove(&id)?;
        self.shared.tailing.fetch_sub(1, Ordering::Relaxed);
        Some(bytes::Bytes::from(text).slice_ref_last(TAIL_BYTES))
    }

    /// Adds an entry of the platform's own.
    pub fn add(&self, at: Timestamp, stream: &Arc<str>, request_id: Option<RequestId>, kind: EntryKind) {
        self.append(Entry { at, stream: stream.clone(), request_id, json: self.json, kind });
    }

    fn append(&self, entry: Entry) {
        self.shared.tail(&entry);
        let mut buffer = self.shared.buffer.lock().expect("no panic while held");
        if buffer.entries.len() >= MAX_BUFFERED && matches!(entry.kind, EntryKind::Line(_)) {
            drop(buffer);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = buffer.entries.is_empty();
        buffer.entries.push((self.name.clone(), entry));
        drop(buffer);
        if first {
            self.shared.filled.notify_one();
        }
    }
}

impl LogSink for FunctionLog {
    fn write(&self, event: LogEvent) {
        let text = String::from_utf8_lossy(&event.message).into_owned();
        self.append(Entry {
            at: event.at,
            stream: event.stream,
            request_id: event.request_id,
            json: false,
            kind: EntryKind::Line(text),
        });
    }
}

impl Shared {
    fn tail(&self, entry: &Entry) {
        if self.tailing.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(id) = entry.request_id else { return };
        if let Some(text) = self.tails.lock().expect("no panic while held").get_mut(&id) {
            text.push_str(&entry.text());
            text.push('\n');
            if text.len() > 4 * TAIL_BYTES {
                let mut cut = text.len() - TAIL_BYTES;
                while !text.is_char_boundary(cut) {
                    cut += 1;
                }
                text.drain(..cut);
            }
        }
    }

    /// Waits until everything that was appended before is on disk (in the page cache).
    fn settle(&self) {
        let mut buffer = self.buffer.lock().expect("no panic while held");
        let wanted = buffer.taken + u64::from(!buffer.entries.is_empty());
        while buffer.written < wanted && !buffer.closed {
            buffer =
                self.written.wait_timeout(buffer, Duration::from_secs(5)).expect("no panic while held").0;
        }
    }
}

/// Appends batches to segment files and the ledger.
struct Writer {
    shared: Arc<Shared>,
    segments: HashMap<Arc<str>, Segment>,
    ledger: Option<((i64, u32, u32), File)>,
}

struct Segment {
    file: File,
    length: u64,
    touched: u64,
}

impl Writer {
    fn run(mut self) {
        loop {
            let (batch, closed) = self.next_batch();
            let count = batch.len();
            if let Err(error) = self.append(&batch) {
                self.shared.dropped.fetch_add(count as u64, Ordering::Relaxed);
                tracing::error!(%error, count, "log lines could not be written");
            }
            for entry in batch {
                if self.shared.live.receiver_count() > 0 {
                    let _ = self.shared.live.send(Arc::new(entry));
                }
            }
            let mut buffer = self.shared.buffer.lock().expect("no panic while held");
            buffer.written = buffer.taken;
            self.shared.written.notify_all();
            if closed && buffer.entries.is_empty() {
                return;
            }
        }
    }

    fn next_batch(&self) -> (Vec<(Arc<str>, Entry)>, bool) {
        let mut buffer = self.shared.buffer.lock().expect("no panic while held");
        while buffer.entries.is_empty() && !buffer.closed {
            buffer = self.shared.filled.wait(buffer).expect("no panic while held");
        }
        if !buffer.closed {
            drop(buffer);
            std::thread::sleep(COLLECT);
            buffer = self.shared.buffer.lock().expect("no panic while held");
        }
        buffer.taken += 1;
        (std::mem::take(&mut buffer.entries), buffer.closed)
    }

    fn append(&mut self, batch: &[(Arc<str>, Entry)]) -> std::io::Result<()> {
        let mut by_function: HashMap<&Arc<str>, Vec<u8>> = HashMap::new();
        let mut records = Vec::new();
        for (function, entry) in batch {
            let lines = by_function.entry(function).or_default();
            serde_json::to_writer(&mut *lines, entry)?;
            lines.push(b'\n');
            if let EntryKind::Report(record) = &entry.kind {
                serde_json::to_writer(&mut records, record)?;
                records.push(b'\n');
            }
        }
        if !records.is_empty() {
            self.ledger()?.write_all(&records)?;
        }
        let turn = self.shared.buffer.lock().expect("no panic while held").taken;
        for (function, lines) in by_function {
            let segment = self.segment(function, turn)?;
            segment.file.write_all(&lines)?;
            segment.length += lines.len() as u64;
        }
        Ok(())
    }

    /// One file a day.
    fn ledger(&mut self) -> std::io::Result<&mut File> {
        let today = date(Clock::timestamp());
        if self.ledger.as_ref().is_none_or(|(day, _)| *day != today) {
            let (year, month, day) = today;
            let path = self.shared.ledger.join(format!("{year:04}-{month:02}-{day:02}.ndjson"));
            self.ledger = Some((today, OpenOptions::new().create(true).append(true).open(path)?));
        }
        Ok(&mut self.ledger.as_mut().expect("just opened").1)
    }

    fn segment(&mut self, function: &Arc<str>, turn: u64) -> std::io::Result<&mut Segment> {
        let full = self.segments.get(function).is_some_and(|segment| segment.length >= SEGMENT_BYTES);
        if full {
            self.segments.remove(function);
        }
        if !self.segments.contains_key(function) {
            if self.segments.len() >= MAX_OPEN {
                let oldest =
                    self.segments.iter().min_by_key(|(_, s)| s.touched).map(|(name, _)| name.clone());
                oldest.map(|name| self.segments.remove(&name));
            }
            let segment = open_segment(&self.shared.dir.join(&**function))?;
            self.segments.insert(function.clone(), segment);
        }
        let segment = self.segments.get_mut(function).expect("just put there");
        segment.touched = turn;
        Ok(segment)
    }
}

/// The newest segment with room, or a new one; old ones beyond the limit are removed.
fn open_segment(dir: &Path) -> std::io::Result<Segment> {
    std::fs::create_dir_all(dir)?;
    let mut paths = segments(dir);
    let last = paths.last().and_then(|path| Some((path.clone(), path.metadata().ok()?.len())));
    let (path, length) = match last {
        Some((path, length)) if length < SEGMENT_BYTES => (path, length),
        _ => {
            let next = paths.last().and_then(|path| number(path)).map_or(1, |n| n + 1);
            let path = dir.join(format!("{next:08}.ndjson"));
            paths.push(path.clone());
            (path, 0)
        }
    };
    for old in paths.iter().take(paths.len().saturating_sub(SEGMENTS)) {
        let _ = std::fs::remove_file(old);
    }
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(Segment { file, length, touched: 0 })
}

/// A function's segments, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).filter(|path| number(path).is_some()).collect();
    paths.sort();
    paths
}

fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// Cutting from the end.
trait SliceLast {
    fn slice_ref_last(&self, length: usize) -> bytes::Bytes;
}

impl SliceLast for bytes::Bytes {
    fn slice_ref_last(&self, length: usize) -> bytes::Bytes {
        self.slice(self.len().saturating_sub(length)..)
    }
}
