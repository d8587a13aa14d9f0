//! The end of one invocation's log, for `LogType=Tail`; with what its instance wrote while it started.

use super::{Entry, FunctionLog, Shared};
use bytes::Bytes;
use model::RequestId;
use ports::{LogEvent, LogSink};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Lambda's limit. Source: Invoke, `X-Amz-Log-Result`: "the last 4 KB of the execution log".
const TAIL_BYTES: usize = 4096;

/// The end of some lines.
#[derive(Default)]
struct End(Vec<u8>);

impl End {
    fn push(&mut self, line: &[u8]) {
        self.0.extend_from_slice(last(line));
        self.0.push(b'\n');
        if self.0.len() > 4 * TAIL_BYTES {
            self.0.drain(..self.0.len() - TAIL_BYTES);
        }
    }

    /// At most 4 KiB.
    fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(last(&self.0))
    }
}

/// The tails that are kept at this moment: one per invocation that asked for it.
#[derive(Default)]
pub struct Tails {
    by_id: Mutex<HashMap<RequestId, End>>,
    /// So that a line of an invocation without one costs nothing when there is none at all.
    count: AtomicUsize,
}

/// The end of what one invocation writes, kept for as long as this lives.
pub struct Tail {
    id: RequestId,
    shared: Arc<Shared>,
}

impl Tails {
    /// Keeps the tail of `id` from here on, after what was written `before`.
    pub fn begin(&self, id: RequestId, before: &[u8], shared: Arc<Shared>) -> Tail {
        if self.lock().insert(id, End(last(before).to_vec())).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        Tail { id, shared }
    }

    /// Adds an entry to the tail of its invocation, if one is kept.
    pub fn add(&self, entry: &Entry) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(id) = entry.request_id else { return };
        if let Some(tail) = self.lock().get_mut(&id) {
            tail.push(entry.text().as_bytes());
        }
    }

    fn remove(&self, id: RequestId) -> Option<End> {
        let tail = self.lock().remove(&id)?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(tail)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, End>> {
        self.by_id.lock().expect("no panic while held")
    }
}

impl Tail {
    /// At most 4 KiB.
    pub fn finish(self) -> Bytes {
        self.shared.tails.remove(self.id).unwrap_or_default().bytes()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.shared.tails.remove(self.id);
    }
}

/// A function's log as an instance writes to it that starts. Its lines belong to no invocation, yet one made it
/// start, and gets their end.
pub struct StartLog {
    log: Arc<FunctionLog>,
    end: Mutex<End>,
    started: AtomicBool,
}

impl StartLog {
    /// Before the start.
    pub fn new(log: Arc<FunctionLog>) -> StartLog {
        StartLog { log, end: Mutex::default(), started: AtomicBool::new(false) }
    }

    /// The start is over: the end of what was written until now, at most 4 KiB.
    pub fn finish(&self) -> Bytes {
        self.started.store(true, Ordering::Relaxed);
        std::mem::take(&mut *self.end.lock().expect("no panic while held")).bytes()
    }
}

impl LogSink for StartLog {
    fn write(&self, event: LogEvent) {
        if !self.started.load(Ordering::Relaxed) {
            let line = String::from_utf8_lossy(&event.message);
            self.end.lock().expect("no panic while held").push(line.as_bytes());
        }
        self.log.write(event);
    }
}

fn last(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(TAIL_BYTES)..]
}
