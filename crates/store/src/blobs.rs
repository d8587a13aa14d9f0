//! Packages, a file each: `blobs/<sha256>.zip`.

use crate::data_dir::{DataDir, sync_parent, write_durably};
use bytes::Bytes;
use ports::BoxFuture;
use ports::blobs::{Blob, BlobError, Blobs};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blobs as files of a data directory.
#[derive(Clone, Debug)]
pub struct FileBlobs {
    dir: DataDir,
    made: Arc<AtomicU64>,
}

impl FileBlobs {
    /// The blobs of an open data directory.
    pub fn new(dir: &DataDir) -> FileBlobs {
        FileBlobs { dir: dir.clone(), made: Arc::default() }
    }

    /// Where a blob lies; none for what is not a digest and so never was put.
    fn path(&self, sha256: &str) -> Option<PathBuf> {
        is_digest(sha256).then(|| self.dir.blobs().join(format!("{sha256}.zip")))
    }

    fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, BlobError>> {
        let task = async move {
            let done =
                tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|done| done);
            done.map_err(|error| {
                BlobError(format!("{what} a package in {}: {error}", self.dir.blobs().display()))
            })
        };
        Box::pin(task)
    }
}

impl Blobs for FileBlobs {
    fn put(&self, sha256: &str, bytes: Bytes) -> BoxFuture<'_, Result<(), BlobError>> {
        let Some(path) = self.path(sha256) else {
            let error = BlobError(format!("{sha256:?} is not a SHA-256 in lower-case hexadecimal"));
            return Box::pin(std::future::ready(Err(error)));
        };
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.temporary().join(format!("blob-{number}"));
        self.blocking("cannot keep", move || match path.try_exists()? {
            // Its bytes were synced before it got this name; that the name is synced may have yet to happen.
            true => sync_parent(&path),
            false => write_durably(&path, &bytes, &temporary),
        })
    }

    fn get(&self, sha256: &str) -> BoxFuture<'_, Result<Option<Bytes>, BlobError>> {
        let path = self.path(sha256);
        self.blocking("cannot read", move || match path.map(std::fs::read).transpose() {
            Ok(bytes) => Ok(bytes.map(Bytes::from)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
    }

    fn contains(&self, sha256: &str) -> BoxFuture<'_, Result<bool, BlobError>> {
        let path = self.path(sha256);
        self.blocking("cannot look for", move || path.map_or(Ok(false), |path| path.try_exists()))
    }

    fn delete(&self, sha256: &str) -> BoxFuture<'_, Result<(), BlobError>> {
        let path = self.path(sha256);
        self.blocking("cannot delete", move || {
            let Some(path) = path else { return Ok(()) };
            match std::fs::remove_file(&path) {
                Ok(()) => sync_parent(&path),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Blob>, BlobError>> {
        let dir = self.dir.blobs();
        self.blocking("cannot list", move || {
            let mut blobs = Vec::new();
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                let name = entry.file_name();
                // Other files are somebody else's.
                let Some(sha256) = name.to_str().and_then(|name| name.strip_suffix(".zip")) else { continue };
                if is_digest(sha256) {
                    blobs.push(Blob { sha256: sha256.to_owned(), size: entry.metadata()?.len() });
                }
            }
            Ok(blobs)
        })
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
