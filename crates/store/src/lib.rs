//! The embedded store: documents and blobs on one machine's disk.
//!
//! What is acknowledged is on the disk: it survives `kill -9` and power loss. Suggested reading order:

mod blobs;
mod data_dir; //  the folder, its lock and its format
mod documents; // documents with revisions, in SQLite //     packages, a file each

pub use blobs::FileBlobs;
pub use data_dir::{DataDir, OpenError};
pub use documents::EmbeddedStore;
