//! What functions wrote, and what the platform says of each invocation, by function, stream and request id; and
//! the meter ledger.
//!
//! Lines are collected for some milliseconds and appended to segment files by one thread, so that a function
//! that floods its log costs others nothing. What waits, what is kept on disk and what a follower has yet to read
//! are bounded in bytes; what goes beyond is counted, and the log itself says how much is missing. The platform's
//! own lines (START, END, REPORT) are kept as data and put into words when they are read.
//!
//! What survives `kill -9` of the server: a meter record from before its caller got the answer, a line from some
//! milliseconds after it was written. What survives power loss is up to the kernel, which writes both to the disk
//! within half a minute or so.

mod buffer; //    entries that wait for the writer
mod followers; // readers of entries as they are written
mod ledger; //    the meter
mod platform; //  the platform's own entries in Lambda's words
mod segments; //  a function's log on disk
mod tail; //      the end of one invocation's log
mod writer; //    the thread that writes

pub use followers::{Followed, Follower};
pub use tail::{StartLog, Tail};

use crate::clock::{Clock, date};
use buffer::{Buffer, Source};
use followers::Followers;
use ledger::Ledger;
use model::{ColdStart, MeterRecord, RequestId, Timestamp, Version};
use ports::{LogEvent, LogSink, MAX_MESSAGE};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tail::Tails;
use writer::Writer;

/// What is kept of a function's log on disk unless told otherwise: bytes.
pub const DEFAULT_KEPT: u64 = 32 << 20;
/// The least that may be kept: bytes.
pub const MIN_KEPT: u64 = 8 << 20;

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
    /// An initialisation began.
    #[serde(rename = "init_start")]
    InitStart {
        /// Of which version.
        #[serde(rename = "v")]
        version: Version,
        /// Its runtime.
        #[serde(rename = "rt")]
        runtime: String,
        /// Why: `on-demand` or another of Lambda's words.
        #[serde(rename = "i")]
        initialization: String,
    },
    /// An initialisation that a request waited for has ended well.
    #[serde(rename = "init_done")]
    InitDone {
        /// How long it took: microseconds.
        #[serde(rename = "us")]
        duration_us: u64,
        /// What it consisted of.
        #[serde(rename = "c")]
        cold_start: ColdStart,
    },
    /// An initialisation failed.
    #[serde(rename = "init")]
    InitReport {
        /// How long it took: microseconds.
        #[serde(rename = "us")]
        duration_us: u64,
        /// The error's type; `None` when it took too long.
        #[serde(rename = "e")]
        error_type: Option<String>,
        /// Why it was tried: `on-demand` or another of Lambda's words.
        #[serde(rename = "i", default = "on_demand")]
        initialization: String,
        /// What it consisted of as far as it went; not known of those that earlier versions logged.
        #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
        cold_start: Option<ColdStart>,
    },
    /// An instance was started that no request waited for.
    #[serde(rename = "ahead")]
    StartedAhead {
        /// How long its initialisation took: microseconds.
        #[serde(rename = "us")]
        duration_us: u64,
        /// Why: `ahead-of-demand`, because a request is expected, or one of Lambda's words.
        #[serde(rename = "i", default = "ahead_of_demand")]
        initialization: String,
        /// What it consisted of.
        #[serde(rename = "c", default)]
        cold_start: ColdStart,
    },
    /// An invocation ended.
    #[serde(rename = "report")]
    Report(Box<MeterRecord>),
    /// Entries that should be here are not: they came faster than they could be written.
    #[serde(rename = "dropped")]
    Dropped {
        /// How many.
        #[serde(rename = "n")]
        entries: u64,
        /// Of how many bytes.
        #[serde(rename = "b")]
        bytes: u64,
    },
}

fn on_demand() -> String {
    "on-demand".into()
}

fn ahead_of_demand() -> String {
    AHEAD_OF_DEMAND.into()
}

/// Lambda has no word for it: what it starts ahead is provisioned.
pub(crate) const AHEAD_OF_DEMAND: &str = "ahead-of-demand";

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

    /// What it counts for where entries are held: bytes.
    fn weight(&self) -> usize {
        /// The entry itself, and its share of the collections that hold it.
        const FIXED: usize = 256;
        match &self.kind {
            EntryKind::Line(text) => FIXED + text.len(),
            _ => 2 * FIXED,
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

/// What the logs of functions, the writer and readers share.
struct Shared {
    dir: PathBuf,
    /// Bytes of one function's log on disk.
    kept: u64,
    buffer: Mutex<Buffer>,
    /// Something waits, or the end has come.
    filled: Condvar,
    /// A batch is on disk.
    written: Condvar,
    tails: Tails,
    followers: Followers,
    ledger: Ledger,
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
    /// Logs below `dir`/logs, the meter ledger below `dir`/meter. Of each function's log the newest `kept` bytes
    /// stay on disk, at least [`MIN_KEPT`].
    pub fn open(dir: &Path, kept: u64) -> std::io::Result<Arc<Logs>> {
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs)?;
        let shared = Arc::new(Shared {
            dir: logs,
            kept: kept.max(MIN_KEPT),
            buffer: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
            tails: Tails::default(),
            followers: Followers::default(),
            ledger: Ledger::open(dir.join("meter"))?,
        });
        let writer = Writer::new(shared.clone());
        let thread = std::thread::Builder::new().name("logs".into()).spawn(move || writer.run())?;
        Ok(Arc::new(Logs { shared, writer: Mutex::new(Some(thread)) }))
    }

    /// The log of one function.
    ///
    /// `json`: whether the platform's own lines are JSON there.
    pub fn function(&self, name: &str, json: bool) -> Arc<FunctionLog> {
        Arc::new(FunctionLog { source: Source::new(name, json), shared: self.shared.clone() })
    }

    /// Entries of a function in the order they came, until `each` wants no more. A segment that is removed
    /// meanwhile is left out, or read to its end. Reads files: call it off the async workers.
    pub fn read(&self, function: &str, filter: &Filter, mut each: impl FnMut(Entry) -> bool) {
        self.shared.settle();
        for path in segments::list(&self.shared.dir.join(function)) {
            let Ok(file) = File::open(path) else { continue };
            for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
                let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
                if filter.wants(&entry) && !each(entry) {
                    return;
                }
            }
        }
    }

    /// Entries of a function from now on.
    pub fn follow(&self, function: &str, filter: Filter) -> Follower {
        self.shared.followers.add(function, filter)
    }

    /// Removes a function's log. What is written from here on is kept.
    pub fn forget(&self, function: &str) {
        self.shared.fill(|buffer| buffer.forget(function));
    }

    /// Functions of which there is a log. Reads a folder: call it off the async workers.
    pub fn functions(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.shared.dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Entries of all functions that were thrown away: they came faster than they could be written.
    pub fn dropped(&self) -> u64 {
        self.shared.buffer.lock().expect("no panic while held").dropped()
    }

    /// Writes what waits, tells followers that it is over, and ends the writer.
    pub fn close(&self) {
        self.shared.buffer.lock().expect("no panic while held").close();
        self.shared.filled.notify_one();
        if let Some(thread) = self.writer.lock().expect("no panic while held").take() {
            let _ = thread.join();
        }
    }
}

/// The log of one function.
pub struct FunctionLog {
    source: Arc<Source>,
    shared: Arc<Shared>,
}

impl FunctionLog {
    /// Also keeps the end of what `id` writes from here on, for `LogType=Tail`; `before` comes before that.
    pub fn tail(&self, id: RequestId, before: &[u8]) -> Tail {
        self.shared.tails.begin(id, before, self.shared.clone())
    }

    /// Adds an entry of the platform's own.
    pub fn add(&self, at: Timestamp, stream: &Arc<str>, request_id: Option<RequestId>, kind: EntryKind) {
        self.append(Entry { at, stream: stream.clone(), request_id, json: self.source.json, kind });
    }

    /// An invocation has ended. When this returns, the kernel has its record: what the caller is told afterwards
    /// has been metered, even if the server is killed in between.
    pub fn report(&self, at: Timestamp, stream: &Arc<str>, record: MeterRecord) {
        self.shared.ledger.append(&record);
        self.add(at, stream, Some(record.request_id), EntryKind::Report(Box::new(record)));
    }

    fn append(&self, entry: Entry) {
        self.shared.tails.add(&entry);
        self.shared.fill(|buffer| buffer.push(&self.source, entry));
    }
}

impl LogSink for FunctionLog {
    fn write(&self, event: LogEvent) {
        let message = &event.message[..event.message.len().min(MAX_MESSAGE)];
        let text = String::from_utf8_lossy(message).into_owned();
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
    /// Gives the writer something to do, and wakes it if it waits for that.
    fn fill(&self, with: impl FnOnce(&mut Buffer)) {
        let mut buffer = self.buffer.lock().expect("no panic while held");
        with(&mut buffer);
        let wake = buffer.came();
        drop(buffer);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Waits until everything that was appended before has been given to the kernel.
    fn settle(&self) {
        let mut buffer = self.buffer.lock().expect("no panic while held");
        let wanted = buffer.batch_of_last();
        while !buffer.is_written(wanted) {
            let waited = self.written.wait_timeout(buffer, Duration::from_secs(5));
            buffer = waited.expect("no panic while held").0;
        }
    }
}

#[cfg(test)]
mod tests;
