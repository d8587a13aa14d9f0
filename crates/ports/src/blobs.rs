//! Deployment packages at rest, known by their digest.

use crate::BoxFuture;
use bytes::Bytes;

/// Why a blob could not be kept or given.
#[derive(Debug, thiserror::Error)]
#[error("the blob store failed: {0}")]
pub struct BlobError(pub String);

/// A kept blob.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob {
    /// Its digest.
    pub sha256: String,
    /// Its length in bytes.
    pub size: u64,
}

/// Immutable bytes by SHA-256 (lower-case hexadecimal). Putting the same bytes twice is one blob.
pub trait Blobs: Send + Sync + 'static {
    /// Keeps the bytes under their digest; durable when the future resolves. `sha256` must be their digest.
    fn put(&self, sha256: &str, bytes: Bytes) -> BoxFuture<'_, Result<(), BlobError>>;

    /// The bytes, if they are kept.
    fn get(&self, sha256: &str) -> BoxFuture<'_, Result<Option<Bytes>, BlobError>>;

    /// Whether the bytes are kept.
    fn contains(&self, sha256: &str) -> BoxFuture<'_, Result<bool, BlobError>>;

    /// Forgets the bytes; nothing happens when they are not kept.
    fn delete(&self, sha256: &str) -> BoxFuture<'_, Result<(), BlobError>>;

    /// All blobs, in any order (for the sweep of unreferenced ones, and for what they take).
    fn list(&self) -> BoxFuture<'_, Result<Vec<Blob>, BlobError>>;
}
