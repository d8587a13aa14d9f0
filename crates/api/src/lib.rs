//! HTTP: Lambda API shapes and error table, function URLs, Brooklet's own API, authentication.
//!
//! The only crate that knows AWS's JSON and HTTP status codes. Suggested reading order:

pub mod auth; //        who may call: Signature Version 4
pub mod body; //        bodies of answers; bodies of requests within their limits
pub mod error; //       the one error table
pub mod eventstream; // binary framing of streamed answers
pub mod json; //        JSON without copies
pub mod lambda; //      Lambda's API: one table row per operation
pub mod time; //        dates as AWS writes them
pub mod url; //         function URLs

#[cfg(test)]
pub(crate) mod testing;
