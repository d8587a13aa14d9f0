//! The embedded store keeps the same promises as the fakes.

use store::{DataDir, EmbeddedStore, FileBlobs};
use tempfile::TempDir;

#[tokio::test]
async fn the_embedded_store_keeps_the_contract_of_stores() {
    let dirs = Dirs::default();
    ports::contract::store(|| EmbeddedStore::open(&dirs.make()).unwrap()).await;
}

#[tokio::test]
async fn the_file_blobs_keep_the_contract_of_blobs() {
    let dirs = Dirs::default();
    ports::contract::blobs(|| FileBlobs::new(&dirs.make())).await;
}

/// A fresh data directory for every store that a suite makes.
#[derive(Default)]
struct Dirs(std::cell::RefCell<Vec<TempDir>>);

impl Dirs {
    fn make(&self) -> DataDir {
        let dir = tempfile::tempdir().unwrap();
        let opened = DataDir::open(dir.path()).unwrap();
        self.0.borrow_mut().push(dir);
        opened
    }
}
