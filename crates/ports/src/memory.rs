//! In-memory fakes: same contract as the real stores, nothing survives the process.

use crate::BoxFuture;
use crate::blobs::{Blob, BlobError, Blobs};
use crate::store::{self, Document, Expect, Revision, Store, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Documents in a map. Clones of an `Arc` of it see the same documents.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<Documents>,
}

#[derive(Debug, Default)]
struct Documents {
    /// The last revision given out, over all keys: so that a key made again never repeats one.
    last: u64,
    by_key: BTreeMap<String, (Bytes, Revision)>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn state(&self) -> MutexGuard<'_, Documents> {
        // No code under the lock can leave the map half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Documents {
    fn check(&self, key: &str, expect: Expect) -> Result<(), StoreError> {
        store::check_key(key)?;
        let found = self.by_key.get(key).map(|(_, revision)| *revision);
        match expect.met_by(found) {
            true => Ok(()),
            false => Err(StoreError::Conflict { key: key.to_owned() }),
        }
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        let found = self.state().by_key.get(key).cloned();
        let document = found.map(|(value, revision)| Document { key: key.to_owned(), value, revision });
        Box::pin(std::future::ready(Ok(document)))
    }

    fn put(&self, key: &str, value: Bytes, expect: Expect) -> BoxFuture<'_, Result<Revision, StoreError>> {
        let mut state = self.state();
        let done = state.check(key, expect).map(|()| {
            state.last += 1;
            let revision = Revision(state.last);
            state.by_key.insert(key.to_owned(), (value, revision));
            revision
        });
        Box::pin(std::future::ready(done))
    }

    fn delete(&self, key: &str, expect: Expect) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut state = self.state();
        let done = state.check(key, expect).map(|()| state.by_key.remove(key).is_some());
        Box::pin(std::future::ready(done))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Document>, StoreError>> {
        let state = self.state();
        let from = after.filter(|after| *after > prefix).unwrap_or(prefix).to_owned();
        let documents = state
            .by_key
            .range(from..)
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, (value, revision))| Document {
                key: key.clone(),
                value: value.clone(),
                revision: *revision,
            })
            .collect();
        Box::pin(std::future::ready(Ok(documents)))
    }
}

/// Blobs in a map.
#[derive(Debug, Default)]
pub struct MemoryBlobs {
    blobs: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryBlobs {
    /// No blobs.
    pub fn new() -> MemoryBlobs {
        MemoryBlobs::default()
    }

    fn blobs(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blobs for MemoryBlobs {
    fn put(&self, sha256: &str, bytes: Bytes) -> BoxFuture<'_, Result<(), BlobError>> {
        self.blobs().insert(sha256.to_owned(), bytes);
        Box::pin(std::future::ready(Ok(())))
    }

    fn get(&self, sha256: &str) -> BoxFuture<'_, Result<Option<Bytes>, BlobError>> {
        Box::pin(std::future::ready(Ok(self.blobs().get(sha256).cloned())))
    }

    fn contains(&self, sha256: &str) -> BoxFuture<'_, Result<bool, BlobError>> {
        Box::pin(std::future::ready(Ok(self.blobs().contains_key(sha256))))
    }

    fn delete(&self, sha256: &str) -> BoxFuture<'_, Result<(), BlobError>> {
        self.blobs().remove(sha256);
        Box::pin(std::future::ready(Ok(())))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Blob>, BlobError>> {
        let list =
            |(sha256, bytes): (&String, &Bytes)| Blob { sha256: sha256.clone(), size: bytes.len() as u64 };
        Box::pin(std::future::ready(Ok(self.blobs().iter().map(list).collect())))
    }
}
