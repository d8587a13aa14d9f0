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
        let key = key.to_owned();
        Box::pin(async move {
            let found = self.state().by_key.get(&key).cloned();
            Ok(found.map(|(value, revision)| Document { key, value, revision }))
        })
    }

    fn put(&self, key: &str, value: Bytes, expect: Expect) -> BoxFuture<'_, Result<Revision, StoreError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let mut state = self.state();
            state.check(&key, expect)?;
            state.last += 1;
            let revision = Revision(state.last);
            state.by_key.insert(key, (value, revision));
            Ok(revision)
        })
    }

    fn delete(&self, key: &str, expect: Expect) -> BoxFuture<'_, Result<bool, StoreError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let mut state = self.state();
            state.check(&key, expect)?;
            Ok(state.by_key.remove(&key).is_some())
        })
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Document>, StoreError>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        Box::pin(async move {
            let after = after.as_deref();
            let from = after.filter(|after| *after > prefix.as_str()).unwrap_or(&prefix).to_owned();
            let document = |(key, (value, revision)): (&String, &(Bytes, Revision))| Document {
                key: key.clone(),
                value: value.clone(),
                revision: *revision,
            };
            let documents = self
                .state()
                .by_key
                .range(from..)
                .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
                .take_while(|(key, _)| key.starts_with(&prefix))
                .take(limit)
                .map(document)
                .collect();
            Ok(documents)
        })
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
        let sha256 = sha256.to_owned();
        Box::pin(async move {
            self.blobs().insert(sha256, bytes);
            Ok(())
        })
    }

    fn get(&self, sha256: &str) -> BoxFuture<'_, Result<Option<Bytes>, BlobError>> {
        let sha256 = sha256.to_owned();
        Box::pin(async move { Ok(self.blobs().get(&sha256).cloned()) })
    }

    fn contains(&self, sha256: &str) -> BoxFuture<'_, Result<bool, BlobError>> {
        let sha256 = sha256.to_owned();
        Box::pin(async move { Ok(self.blobs().contains_key(&sha256)) })
    }

    fn delete(&self, sha256: &str) -> BoxFuture<'_, Result<(), BlobError>> {
        let sha256 = sha256.to_owned();
        Box::pin(async move {
            self.blobs().remove(&sha256);
            Ok(())
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Blob>, BlobError>> {
        Box::pin(async move {
            let blob = |(sha256, bytes): (&String, &Bytes)| Blob {
                sha256: sha256.clone(),
                size: bytes.len() as u64,
            };
            Ok(self.blobs().iter().map(blob).collect())
        })
    }
}
