//! Entries that wait for the writer: bounded in bytes, for each function and for all together.
//!
//! Whoever writes a line never waits: a log must not slow down what it is about. When there is no room the oldest
//! entries go, as on disk, because what came last says most about what went wrong; an entry of its own stands for
//! those that are missing.

use super::{Entry, EntryKind};
use model::Timestamp;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// What may wait of one function (strictly, of one of its versions): bytes. As much as is kept on disk by default, so
/// that what a single flood loses here it would have lost there.
const FUNCTION_BYTES: usize = 32 << 20;
/// What may wait of all: bytes. While the writer is at one batch of this size, the next may grow to it.
const ALL_BYTES: usize = 64 << 20;

/// Where entries come from: a function's log, as one of its versions writes it.
pub struct Source {
    /// The function.
    pub name: Arc<str>,
    /// Whether the platform's words are JSON.
    pub json: bool,
    /// Locked after the buffer, if both are.
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// What went before those.
    lost: Lost,
}

/// What was dropped and not yet said so.
#[derive(Default)]
struct Lost {
    entries: u64,
    bytes: u64,
    last: Option<(Timestamp, Arc<str>)>,
}

impl Source {
    /// A source of which nothing waits.
    pub fn new(name: &str, json: bool) -> Arc<Source> {
        Arc::new(Source { name: name.into(), json, queue: Mutex::default() })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic while held")
    }

    fn bytes(&self) -> usize {
        self.queue().bytes
    }
}

impl Queue {
    /// Drops the oldest entry: how much room that makes.
    fn drop_oldest(&mut self) -> usize {
        let Some(oldest) = self.entries.pop_front() else { return 0 };
        self.bytes -= oldest.weight();
        self.lost.note(&oldest);
        oldest.weight()
    }
}

impl Lost {
    fn note(&mut self, entry: &Entry) {
        self.entries += 1;
        if let EntryKind::Line(text) = &entry.kind {
            self.bytes += text.len() as u64;
        }
        self.last = Some((entry.at, entry.stream.clone()));
    }

    /// The entry that stands for what was lost.
    fn told(self, json: bool) -> Option<Entry> {
        let (at, stream) = self.last?;
        let kind = EntryKind::Dropped { entries: self.entries, bytes: self.bytes };
        Some(Entry { at, stream, request_id: None, json, kind })
    }
}

/// Entries in the order they came, by source.
pub type Batch = Vec<(Arc<Source>, Vec<Entry>)>;

/// The entries that wait, and which batches have been written.
#[derive(Default)]
pub struct Buffer {
    /// Sources of which something waits.
    waiting: Vec<Arc<Source>>,
    /// One of those that have most waiting: the last that grew beyond the one before.
    largest: Option<Arc<Source>>,
    bytes: usize,
    /// Functions whose log is to be removed.
    forgotten: Vec<Arc<str>>,
    dropped: u64,
    taken: u64,
    written: u64,
    /// The writer waits to be woken.
    awaited: bool,
    closed: bool,
}

impl Buffer {
    /// Takes an entry; if there is no room, at the cost of the oldest ones.
    pub fn push(&mut self, source: &Arc<Source>, entry: Entry) {
        let mut queue = source.queue();
        if queue.entries.is_empty() {
            self.waiting.push(source.clone());
        }
        queue.bytes += entry.weight();
        self.bytes += entry.weight();
        queue.entries.push_back(entry);
        while queue.bytes > FUNCTION_BYTES {
            self.bytes -= queue.drop_oldest();
            self.dropped += 1;
        }
        let own = queue.bytes;
        drop(queue);
        if self.largest.as_ref().is_none_or(|largest| largest.bytes() < own) {
            self.largest = Some(source.clone());
        }
        while self.bytes > ALL_BYTES
            && let Some(largest) = &self.largest
        {
            self.bytes -= largest.queue().drop_oldest();
            self.dropped += 1;
        }
    }

    /// Notes entries that could not be written.
    pub fn lose(&mut self, source: &Source, entries: &[Entry]) {
        let lost = &mut source.queue().lost;
        entries.iter().for_each(|entry| lost.note(entry));
        self.dropped += entries.len() as u64;
    }

    /// Drops what waits of a function; the writer is to remove what was written.
    pub fn forget(&mut self, function: &str) {
        for source in self.waiting.extract_if(.., |source| *source.name == *function) {
            self.bytes -= std::mem::take(&mut *source.queue()).bytes;
        }
        self.largest = None;
        self.forgotten.push(function.into());
    }

    /// Takes what waits, to be followed by [`Buffer::done`]: functions to be forgotten first, then entries.
    pub fn take(&mut self) -> (Vec<Arc<str>>, Batch) {
        let one = |source: Arc<Source>| {
            let Queue { entries, lost, .. } = std::mem::take(&mut *source.queue());
            let entries = lost.told(source.json).into_iter().chain(entries).collect();
            (source, entries)
        };
        self.taken += 1;
        (self.largest, self.bytes) = (None, 0);
        let batch = std::mem::take(&mut self.waiting).into_iter().map(one).collect();
        (std::mem::take(&mut self.forgotten), batch)
    }

    /// The last batch has been written.
    pub fn done(&mut self) {
        self.written = self.taken;
    }

    /// The writer waits to be woken by whoever is told so by [`Buffer::came`].
    pub fn await_entries(&mut self) {
        self.awaited = true;
    }

    /// Whether it still does.
    pub fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// Something has come; whether the writer is to be woken for it.
    pub fn came(&mut self) -> bool {
        std::mem::take(&mut self.awaited)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.forgotten.is_empty()
    }

    /// Entries that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// No more is to come.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether no more is to come.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The batch that the last entry is in, or will be in.
    pub fn batch_of_last(&self) -> u64 {
        self.taken + u64::from(!self.is_empty())
    }

    /// Whether this batch has been written, or never will be.
    pub fn is_written(&self, batch: u64) -> bool {
        self.written >= batch || self.closed
    }
}
