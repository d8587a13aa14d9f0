//! What every implementation of a trait must do, as a test suite each: call one from a `#[tokio::test]` with a
//! function that makes a fresh, empty implementation. They panic with a sentence when a promise is broken.

mod blobs;
mod executor;
mod store;

pub use blobs::blobs;
pub use executor::{Functions, executor};
pub use store::store;
