//! The traits between the shell and its adapters, an in-memory fake of each, and a contract suite that every
//! implementation passes. Suggested reading order:

pub mod blobs; //    deployment packages at rest
pub mod contract; // what every implementation of a trait must do, as a test suite each
pub mod executor; // runs functions: create → init → (invoke)* → stop
pub mod logs; //     where an instance's lines go
pub mod memory; //   the in-memory fakes
pub mod store; //    documents at rest, with revisions

/// A future that adapters return from trait objects.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub use blobs::Blobs;
pub use executor::*;
pub use logs::{LogEvent, LogSink, MAX_MESSAGE};
pub use memory::{MemoryBlobs, MemoryStore};
pub use store::Store;
