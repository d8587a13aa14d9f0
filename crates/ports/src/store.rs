//! Documents at rest: keys with revisions, changed one at a time with compare-and-set.
//!
//! The shape is what both an embedded table and a NATS key-value bucket can do. Everything that must change
//! together is therefore one document.

use crate::BoxFuture;
use bytes::Bytes;

/// Grows with every change of a key; never reused, not even when the key is deleted and made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// What a change expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// No such key.
    Absent,
    /// The key at this revision.
    Revision(Revision),
}

impl Expect {
    /// Whether a key in this state (its revision, or none) is as expected.
    pub fn met_by(self, found: Option<Revision>) -> bool {
        match self {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Revision(revision) => found == Some(revision),
        }
    }
}

/// Keys that a store takes: 1 to this many bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// Refuses keys that no implementation may take.
pub fn check_key(key: &str) -> Result<(), StoreError> {
    match key.len() {
        1..=MAX_KEY_BYTES => Ok(()),
        length => Err(StoreError::Failed(format!("a key has 1 to {MAX_KEY_BYTES} bytes, this one {length}"))),
    }
}

/// A stored document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its key: path-like, `/`-separated, UTF-8, 1 to 512 bytes.
    pub key: String,
    /// Its bytes.
    pub value: Bytes,
    /// Its revision.
    pub revision: Revision,
}

/// Why a change or a read was not done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The key was not as expected; nothing was changed. Read it again and decide again.
    #[error("the document {key} has been changed by someone else")]
    Conflict {
        /// The key.
        key: String,
    },
    /// The disk or the engine failed; whether the change was made is unknown.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// Documents with revisions. A change is durable (survives `kill -9` and power loss) when its future resolves;
/// dropped before that, it may or may not be made, and it is not if the future was never polled.
pub trait Store: Send + Sync + 'static {
    /// The document, if there is one.
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Document>, StoreError>>;

    /// Writes the document if the key is as expected; the new revision.
    fn put(&self, key: &str, value: Bytes, expect: Expect) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// Deletes the document if the key is as expected; whether there was one. The expectation comes first:
    /// deleting a missing key `Expect::Revision(…)` is a conflict, `Expect::Any` is `false`.
    fn delete(&self, key: &str, expect: Expect) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Documents whose key starts with `prefix`, in byte order of their keys, after the key `after` if given;
    /// at most `limit`.
    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Document>, StoreError>>;
}
