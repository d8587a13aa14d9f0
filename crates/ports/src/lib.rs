//! The traits between the shell and its adapters, an in-memory fake of each, and a contract suite that every
//! implementation passes. Suggested reading order:

pub mod blobs;
pub mod executor; // runs functions: create → init → (invoke)* → stop
pub mod logs; //     where an instance's lines go
pub mod store; //    documents at rest, with revisions //    deployment packages at rest

/// A future that adapters return from trait objects.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub use blobs::Blobs;
pub use executor::*;
pub use logs::{LogEvent, LogSink};
pub use store::Store;
