//! The end of one invocation's log, for `LogType=Tail`.

use super::{Entry, Shared};
use bytes::Bytes;
use model::RequestId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Lambda's limit. Source: Invoke, `X-Amz-Log-Result`: "the last 4 KB of the execution log".
const TAIL_BYTES: usize = 4096;

/// The tails that are kept at this moment: one per invocation that asked for it.
#[derive(Default)]
pub struct Tails {
    by_id: Mutex<HashMap<RequestId, Vec<u8>>>,
    /// So that a line of an invocation without one costs nothing when there is none at all.
    count: AtomicUsize,
}

/// The end of what one invocation writes, kept for as long as this lives.
pub struct Tail {
    id: RequestId,
    shared: Arc<Shared>,
}

impl Tails {
    /// Keeps the tail of `id` from here on.
    pub fn begin(&self, id: RequestId, shared: Arc<Shared>) -> Tail {
        if self.lock().insert(id, Vec::new()).is_none() {
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
            let text = entry.text();
            tail.extend_from_slice(last(text.as_bytes()));
            tail.push(b'\n');
            if tail.len() > 4 * TAIL_BYTES {
                tail.drain(..tail.len() - TAIL_BYTES);
            }
        }
    }

    fn remove(&self, id: RequestId) -> Option<Vec<u8>> {
        let tail = self.lock().remove(&id)?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(tail)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, Vec<u8>>> {
        self.by_id.lock().expect("no panic while held")
    }
}

impl Tail {
    /// At most 4 KiB.
    pub fn finish(self) -> Bytes {
        let tail = self.shared.tails.remove(self.id).unwrap_or_default();
        Bytes::copy_from_slice(last(&tail))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.shared.tails.remove(self.id);
    }
}

fn last(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(TAIL_BYTES)..]
}
